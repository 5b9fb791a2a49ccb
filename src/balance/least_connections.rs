//! The one with the least to do.

use super::pairs::Pairs;
use super::{Candidate, Candidates, Strategy};
use rand::Rng;
use std::{
    cmp::Ordering,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// So many are all looked at. To look at each of more costs a pick more than it gains: of two that are drawn the better one is
/// nearly as good (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001).
const FEW: usize = 4;

/// Compares the work for each weight; those that are equal take turns, so that idle nodes share evenly and simultaneous picks do
/// not all fall on the same node.
#[derive(Debug)]
pub(super) struct LeastConnections {
    /// Whose turn it is, of few.
    next: AtomicU64,
    /// Of many.
    pairs: Pairs,
}

impl LeastConnections {
    pub(super) fn starting_at(turn: u64) -> Self {
        Self { next: AtomicU64::new(turn), pairs: Pairs::starting_at(turn) }
    }
}

impl Strategy for LeastConnections {
    fn pick(&self, candidates: &Candidates, _: &mut dyn Rng) -> usize {
        if candidates.len() > FEW {
            let (first, second) = self.pairs.draw(candidates);
            let [one, other] = [first, second].map(|i| Load::of(&candidates[i]));
            return if other.compare(one).is_lt() { second } else { first };
        }
        let turn = self.next.fetch_add(1, Relaxed);
        let mut least = Load::of(&candidates[0]);
        let (mut first, mut equal) = (0, 1);
        for (i, candidate) in candidates.iter().enumerate().skip(1) {
            let load = Load::of(candidate);
            match load.compare(least) {
                Ordering::Less => (least, first, equal) = (load, i, 1),
                Ordering::Equal => equal += 1,
                Ordering::Greater => {}
            }
        }
        if equal == 1 {
            return first;
        }
        if equal == candidates.len() as u64 {
            return (turn % equal) as usize;
        }
        // The gauges move on meanwhile. Whoever is no longer equal is passed over, and the first was least a moment ago.
        let mut equals =
            (first..candidates.len()).filter(|i| Load::of(&candidates[*i]).compare(least).is_le());
        equals.nth((turn % equal) as usize).unwrap_or(first)
    }
}

/// The work, divided by the weight. Both fit into 32 bits, so that products fit into 64.
#[derive(Clone, Copy)]
struct Load {
    work: u64,
    weight: u64,
}

impl Load {
    fn of(candidate: &Candidate) -> Self {
        let work = u32::try_from(candidate.work()).unwrap_or(u32::MAX);
        Self { work: work.into(), weight: candidate.weight().into() }
    }

    fn compare(self, other: Self) -> Ordering {
        (self.work * other.weight).cmp(&(other.work * self.weight))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{candidates, tally};
    use super::{Strategy, *};
    use proptest::{collection::vec, prelude::*};
    use rand::{SeedableRng, rngs::StdRng};

    proptest! {
        #[test]
        fn the_pick_of_few_is_among_the_least_loaded(loads in vec((0..6usize, 1..5u32), 1..=FEW), start: u64) {
            let weights: Vec<_> = loads.iter().map(|(_, weight)| *weight).collect();
            let (candidates, nodes) = candidates(&weights);
            let _busy: Vec<_> =
                loads.iter().zip(&nodes).flat_map(|((n, _), node)| (0..*n).map(|_| node.in_flight().count())).collect();
            let pick = LeastConnections::starting_at(start).pick(&candidates, &mut StdRng::seed_from_u64(1));
            let load = |(in_flight, weight): (usize, u32)| in_flight as f64 / f64::from(weight);
            prop_assert!(loads.iter().all(|other| load(loads[pick]) <= load(*other)));
        }

        /// The better one of two is never worse than all others.
        #[test]
        fn the_pick_of_many_is_never_the_most_loaded(count in FEW + 1..40, worst: prop::sample::Index, start: u64) {
            let (candidates, nodes) = candidates(&vec![1; count]);
            let worst = worst.index(count);
            let _busy = nodes[worst].in_flight().count();
            let counts = tally(&LeastConnections::starting_at(start), &candidates, 500, 1);
            prop_assert_eq!(counts[worst], 0);
        }

        /// However many nodes there are, reads that never end fill them about evenly.
        #[test]
        fn lasting_work_is_about_even_among_many(count in FEW + 1..40, start: u64) {
            let (candidates, nodes) = candidates(&vec![1; count]);
            let strategy = LeastConnections::starting_at(start);
            let mut rng = StdRng::seed_from_u64(1);
            let _busy: Vec<_> =
                (0..count * 50).map(|_| nodes[strategy.pick(&candidates, &mut rng)].in_flight().count()).collect();
            for node in &nodes {
                let in_flight = node.in_flight().value();
                prop_assert!((45..=55).contains(&in_flight), "{} of about 50", in_flight);
            }
        }

        /// Reads that never end fill the nodes in proportion to their weights.
        #[test]
        fn lasting_work_ends_up_in_proportion_to_the_weights(weights in vec(1..8u32, 1..=FEW), start: u64) {
            let (candidates, nodes) = candidates(&weights);
            let strategy = LeastConnections::starting_at(start);
            let mut rng = StdRng::seed_from_u64(1);
            let rounds = 20;
            let total = weights.iter().sum::<u32>() * rounds;
            let _busy: Vec<_> = (0..total).map(|_| nodes[strategy.pick(&candidates, &mut rng)].in_flight().count()).collect();
            for (node, weight) in nodes.iter().zip(&weights) {
                prop_assert_eq!(node.in_flight().value(), (weight * rounds) as usize);
            }
        }

        /// Whichever nodes are busy, the idle ones take turns.
        #[test]
        fn idle_nodes_share_evenly(busy in vec(any::<bool>(), 1..=FEW), start in 0..u64::MAX / 2) {
            prop_assume!(busy.contains(&false));
            let (candidates, nodes) = candidates(&vec![3; busy.len()]);
            let busy_nodes = nodes.iter().zip(&busy).filter(|(_, busy)| **busy);
            let _busy: Vec<_> = busy_nodes.map(|(node, _)| node.in_flight().count()).collect();
            let idle = busy.iter().filter(|busy| !**busy).count();
            let counts = tally(&LeastConnections::starting_at(start), &candidates, idle * 50, 1);
            for (count, busy) in counts.into_iter().zip(busy) {
                prop_assert_eq!(count, if busy { 0 } else { 50 });
            }
        }
    }

    #[test]
    fn the_largest_loads_do_not_overflow() {
        let most = Load { work: u32::MAX.into(), weight: u32::MAX.into() };
        assert_eq!(most.compare(most), Ordering::Equal);
        assert_eq!(most.compare(Load { work: 0, weight: 1 }), Ordering::Greater);
    }
}
