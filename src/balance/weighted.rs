//! In proportion to the weights, without bunching.
//!
//! The classic smooth weighted round robin keeps a running score a node, which would need a lock. Here the n-th pick is a
//! pure function of n: it takes the fractional part of n times the golden ratio, a point between 0 and 1, and the node in
//! whose share of that line it falls. These points never crowd. By the three-distance theorem (Sós, Surányi, Świerczkowski,
//! 1957–58) the first n of them cut the line into pieces of at most three lengths, and a node's turns come back after at
//! most three different numbers of picks. Of all ratios the golden one spreads them most evenly: after any number of picks,
//! counted from anywhere, a node is off its exact share by a few picks only (it grows with the logarithm).
//!
//! The golden ratio as an additive step is Knuth's multiplicative ("Fibonacci") hashing, *The Art of Computer Programming*,
//! volume 3, section 6.4.

use super::{Candidates, GOLDEN, Strategy};
use rand::Rng;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The sequence in 64-bit fixed point, where the fractional part is what overflow leaves.
#[derive(Debug)]
pub(super) struct Weighted {
    next: AtomicU64,
}

impl Weighted {
    pub(super) fn starting_at(point: u64) -> Self {
        Self { next: AtomicU64::new(point) }
    }
}

impl Strategy for Weighted {
    fn pick(&self, candidates: &Candidates, _: &mut dyn Rng) -> usize {
        candidates.at(self.next.fetch_add(GOLDEN, Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{candidates, tally};
    use super::{Strategy, *};
    use proptest::{collection::vec, prelude::*};
    use rand::{SeedableRng, rngs::StdRng};
    use std::{collections::BTreeSet, thread};

    /// How far a node may be off its share after so many picks: see the discrepancy of the golden ratio sequence.
    fn tolerance(picks: usize) -> f64 {
        2.0 + 0.65 * (picks.max(1) as f64).ln()
    }

    fn picks(weights: &[u32], start: u64, count: usize) -> Vec<usize> {
        let (candidates, _) = candidates(weights);
        let strategy = Weighted::starting_at(start);
        let mut rng = StdRng::seed_from_u64(1);
        (0..count).map(|_| strategy.pick(&candidates, &mut rng)).collect()
    }

    proptest! {
        /// Over any run of picks, short or long, each node gets its share to within a few.
        #[test]
        fn every_run_of_picks_follows_the_weights(
            weights in vec(1..=100u32, 1..10),
            start: u64,
            (from, until) in (0..3000usize, 0..3000usize),
        ) {
            let (from, until) = (from.min(until), from.max(until));
            let run = &picks(&weights, start, until)[from..];
            let total: u32 = weights.iter().sum();
            for (node, weight) in weights.iter().enumerate() {
                let count = run.iter().filter(|pick| **pick == node).count() as f64;
                let share = run.len() as f64 * f64::from(*weight) / f64::from(total);
                prop_assert!((count - share).abs() <= tolerance(run.len()), "node {} {} {}", node, count, share);
            }
        }

        /// A node's turns are never bunched: they come back after at most three different numbers of picks, of which none
        /// is over three times what its share asks for.
        #[test]
        fn turns_are_spread_out(weights in vec(1..=30u32, 2..8), start: u64) {
            let picks = picks(&weights, start, 5000);
            let total: u32 = weights.iter().sum();
            for (node, weight) in weights.iter().enumerate() {
                let turns: Vec<_> = picks.iter().enumerate().filter(|(_, pick)| **pick == node).map(|(i, _)| i).collect();
                let gaps: BTreeSet<_> = turns.windows(2).map(|pair| pair[1] - pair[0]).collect();
                prop_assert!(gaps.len() <= 3, "{:?}", gaps);
                let even = f64::from(total) / f64::from(*weight);
                prop_assert!(gaps.iter().all(|gap| *gap as f64 <= 3.0 * even), "{:?} for {}", gaps, even);
            }
        }
    }

    #[test]
    fn shares_follow_the_weights_across_threads() {
        let weights = [1, 2, 5];
        let (candidates, _) = candidates(&weights);
        let strategy = Weighted::starting_at(99);
        let tallies: Vec<_> = thread::scope(|scope| {
            let run = |seed| tally(&strategy, &candidates, 8000, seed);
            let threads: Vec<_> = (0..4).map(|seed| scope.spawn(move || run(seed))).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        for (node, weight) in weights.into_iter().enumerate() {
            let count: usize = tallies.iter().map(|counts| counts[node]).sum();
            let share = f64::from(weight) * 4000.0;
            assert!((count as f64 - share).abs() <= tolerance(32_000), "node {node}: {count} of {share}");
        }
    }

    #[test]
    fn a_node_of_weight_one_among_huge_ones_is_not_forgotten() {
        let counts = tally(&Weighted::starting_at(5), &candidates(&[1_000, 1, 1_000]).0, 200_100, 1);
        assert!((97..=103).contains(&counts[1]), "{counts:?}");
    }
}
