//! One after the other.

use super::{Candidates, Strategy};
use rand::Rng;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counts picks; the count decides whose turn it is.
#[derive(Debug)]
pub(super) struct RoundRobin {
    next: AtomicU64,
}

impl RoundRobin {
    pub(super) fn starting_at(turn: u64) -> Self {
        Self { next: AtomicU64::new(turn) }
    }
}

impl Strategy for RoundRobin {
    fn pick(&self, candidates: &Candidates, _: &mut dyn Rng) -> usize {
        let turn = self.next.fetch_add(1, Relaxed);
        (turn % candidates.len() as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{candidates, tally};
    use super::*;
    use proptest::prelude::*;
    use std::thread;

    proptest! {
        /// Among any run of picks, no two candidates are more than one pick apart.
        #[test]
        fn shares_are_even_at_any_time(count in 1..20usize, start in 0..u64::MAX / 2, picks in 0..500usize) {
            let (candidates, _) = candidates(&vec![1; count]);
            let counts = tally(&RoundRobin::starting_at(start), &candidates, picks, 1);
            let (least, most) = (counts.iter().min(), counts.iter().max());
            prop_assert!(most.zip(least).is_some_and(|(most, least)| most - least <= 1), "{:?}", counts);
        }
    }

    #[test]
    fn shares_are_even_across_threads() {
        let (candidates, _) = candidates(&[1, 5, 9]);
        let strategy = RoundRobin::starting_at(u64::MAX / 3);
        let tallies: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..6)
                .map(|seed| {
                    scope.spawn({
                        let (strategy, candidates) = (&strategy, &candidates);
                        move || tally(strategy, candidates, 5000, seed)
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        let total = |i: usize| tallies.iter().map(|counts| counts[i]).sum::<usize>();
        assert_eq!([total(0), total(1), total(2)], [10_000; 3]);
    }
}
