//! The one that is likely to answer first.
//!
//! Two are drawn, and the one of lower cost is taken: the peak of its latency, times what it would have to do. Only of two, so that
//! simultaneous picks do not all fall on the one that looks best (Mitzenmacher, "The Power of Two Choices in Randomized Load
//! Balancing", 2001). The peak, so that a node which is slow at times is found out by its first slow answer, and forgiven only as
//! that fades. While nothing comes back, each read in flight makes the node dearer.
//!
//! Finagle and tower multiply without bounds. Here latencies count in whole doublings, up to four. Peaks of less than twice as much
//! are the same: or the node that was faster by chance would get all the reads of a service that has few at a time. And no node is
//! taken for more than 16 times as slow as another: or one slow report would send everything to the other replicas, which are few,
//! whatever the queues there.
//!
//! Before its first answer a node has no latency, and what is in flight decides alone: it gets what the others get, and no more than
//! they have for as long as it does not answer.

use super::pairs::Pairs;
use super::{Candidate, Candidates, Strategy};
use rand::Rng;

const MOST_DOUBLINGS: f64 = 4.0;

/// What it compares is measured with the traffic.
#[derive(Debug)]
pub(super) struct PeakEwma {
    pairs: Pairs,
}

impl PeakEwma {
    pub(super) fn starting_at(point: u64) -> Self {
        Self { pairs: Pairs::starting_at(point) }
    }
}

impl Strategy for PeakEwma {
    fn pick(&self, candidates: &Candidates, _: &mut dyn Rng) -> usize {
        let (first, second) = self.pairs.draw(candidates);
        if is_cheaper(&candidates[second], &candidates[first]) { second } else { first }
    }
}

/// Compares latency × (1 + work / weight), where the mean weight is 1: with equal weights the usual latency × (work + 1). Idle nodes
/// of different weights cost the same; what they get is as their chances to be the first of two.
fn is_cheaper(one: &Candidate, other: &Candidate) -> bool {
    let queue = |candidate: &Candidate| 1.0 + candidate.work() as f64 * candidate.per_read;
    queue(one) * times_as_slow(one, other) < queue(other)
}

fn times_as_slow(one: &Candidate, other: &Candidate) -> f64 {
    let doublings = one.traffic.latency().doublings_over(other.traffic.latency()).unwrap_or(0.0);
    // What is less than a whole one is cut off, in both directions.
    let whole = doublings.clamp(-MOST_DOUBLINGS, MOST_DOUBLINGS) as i64;
    // A float's exponent begins at bit 52, and is 1023 for 1.
    f64::from_bits(((1023 + whole) as u64) << 52)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{candidates, tally};
    use super::{Strategy, *};
    use crate::gauge::Counted;
    use crate::traffic::Traffic;
    use proptest::{collection::vec, prelude::*};
    use std::time::Duration;
    use tokio::time::Instant;

    const MS: Duration = Duration::from_millis(1);

    fn busy(node: &Traffic, reads: usize) -> Vec<Counted<'_>> {
        (0..reads).map(|_| node.in_flight().count()).collect()
    }

    /// How much a second candidate is given of two with that latency and work.
    fn share(latencies: [Option<Duration>; 2], reads: [usize; 2]) -> f64 {
        let (candidates, nodes) = candidates(&[1, 1]);
        let now = Instant::now();
        let _busy: Vec<_> = nodes.iter().zip(reads).map(|(node, reads)| busy(node, reads)).collect();
        for (node, latency) in nodes.iter().zip(latencies) {
            latency.into_iter().for_each(|took| node.answered(took, now));
        }
        tally(&PeakEwma::starting_at(1), &candidates, 4000, 1)[1] as f64 / 4000.0
    }

    proptest! {
        /// Idle, and as fast as each other to within the noise: the shares are the weights.
        #[test]
        fn idle_nodes_that_are_alike_share_by_weight(
            nodes in vec((1..=20u32, 100..199u64), 1..8),
            seed: u64,
        ) {
            let weights: Vec<_> = nodes.iter().map(|(weight, _)| *weight).collect();
            let (candidates, traffic) = candidates(&weights);
            let now = Instant::now();
            for (node, (_, micros)) in traffic.iter().zip(&nodes) {
                node.answered(Duration::from_micros(*micros), now);
            }
            let picks = 20_000;
            let counts = tally(&PeakEwma::starting_at(1), &candidates, picks, seed);
            let total: u32 = weights.iter().sum();
            for (count, weight) in counts.into_iter().zip(weights) {
                let share = f64::from(weight) / f64::from(total);
                let deviation = (picks as f64 * share * (1.0 - share)).sqrt();
                prop_assert!((count as f64 - picks as f64 * share).abs() <= 5.0 * deviation);
            }
        }

        /// Reads that never end fill the nodes in proportion to their weights, to within the two that are compared.
        #[test]
        fn lasting_work_ends_up_in_proportion_to_the_weights(weights in vec(1..8u32, 1..6), seed: u64) {
            use rand::{SeedableRng, rngs::StdRng};
            let (candidates, nodes) = candidates(&weights);
            let mut rng = StdRng::seed_from_u64(seed);
            let strategy = PeakEwma::starting_at(seed);
            let rounds = 100;
            let total = weights.iter().sum::<u32>() * rounds;
            let _busy: Vec<_> =
                (0..total).map(|_| nodes[strategy.pick(&candidates, &mut rng)].in_flight().count()).collect();
            for (node, weight) in nodes.iter().zip(&weights) {
                let expected = f64::from(weight * rounds);
                prop_assert!((node.in_flight().value() as f64 - expected).abs() <= 0.1 * expected + 5.0);
            }
        }
    }

    #[test]
    fn the_cost_is_latency_times_work() {
        for (latencies, reads, expected) in [
            ([2, 20], [0, 0], 0.0),
            ([20, 2], [0, 0], 1.0),
            // Less than twice as slow is as fast.
            ([10, 19], [1, 0], 1.0),
            ([10, 20], [1, 0], 0.5),
            ([10, 20], [2, 0], 1.0),
            ([10, 40], [7, 2], 0.0),
            ([10, 40], [8, 1], 1.0),
            // Never more than 16 times.
            ([1, 10_000], [15, 0], 0.5),
            ([1, 10_000], [16, 0], 1.0),
            ([1, 10_000], [31, 1], 0.5),
        ] {
            let share = share(latencies.map(|ms| Some(ms * MS)), reads);
            assert!((share - expected).abs() < 0.05, "{latencies:?} {reads:?}: {share}");
        }
    }

    /// With nothing measured it gets what the others get, and no more than they have for as long as it does not answer.
    #[test]
    fn a_node_without_an_answer_gets_neither_all_nor_nothing() {
        for (latency, reads, expected) in
            [(1, [0, 0], 0.5), (10_000, [0, 0], 0.5), (1, [3, 2], 1.0), (10_000, [3, 4], 0.0)]
        {
            let share = share([Some(latency * MS), None], reads);
            assert!((share - expected).abs() < 0.05, "{latency} ms {reads:?}: {share}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_peak_is_forgiven_as_it_fades() {
        let (candidates, nodes) = candidates(&[1, 1]);
        nodes[1].answered(160 * MS, Instant::now());
        let mut back_after = None;
        for second in 0..120 {
            nodes[0].answered(10 * MS, Instant::now());
            let share = tally(&PeakEwma::starting_at(1), &candidates, 100, second)[1];
            if back_after.is_none() && share > 0 {
                back_after = Some(second);
            }
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        // 10 s × ln 8: it is as fast as the other one when it is less than twice as slow.
        assert_eq!(back_after, Some(21));
    }
}
