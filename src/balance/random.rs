//! Any of them, with equal chance.

use super::{Candidates, Strategy};
use rand::{Rng, RngExt};

/// Draws anew for each pick.
#[derive(Debug)]
pub(super) struct Random;

impl Strategy for Random {
    fn pick(&self, candidates: &Candidates, rng: &mut dyn Rng) -> usize {
        rng.random_range(0..candidates.len())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{candidates, tally};
    use super::*;

    #[test]
    fn shares_are_equal_within_chance() {
        for (count, seed) in [(2, 1), (3, 2), (5, 3), (16, 4)] {
            let (candidates, _) = candidates(&vec![1; count]);
            let expected = 4000.0;
            let counts = tally(&Random, &candidates, count * 4000, seed);
            let chi_square: f64 = counts.iter().map(|n| (*n as f64 - expected).powi(2) / expected).sum();
            // Mean plus four standard deviations of the distribution with `count - 1` degrees of freedom.
            let freedom = count as f64 - 1.0;
            assert!(chi_square < freedom + 4.0 * (2.0 * freedom).sqrt(), "{counts:?}");
        }
    }

    #[test]
    fn picks_are_not_a_sequence() {
        let (candidates, _) = candidates(&[1, 1]);
        let mut rng = <rand::rngs::StdRng as rand::SeedableRng>::seed_from_u64(7);
        let picks: Vec<_> = (0..1000).map(|_| Random.pick(&candidates, &mut rng)).collect();
        let repeats = picks.windows(2).filter(|pair| pair[0] == pair[1]).count();
        assert!((400..600).contains(&repeats), "{repeats}");
    }
}
