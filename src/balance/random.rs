//! Any of them, with equal chance.

use super::{Candidates, GOLDEN, Strategy, scale};
use rand::Rng;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// SplitMix64 (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014): a count in steps of the golden
/// ratio, of which the bits are mixed. To count can be shared by threads, and to mix needs no state; the thread's own generator
/// takes twice as long.
#[derive(Debug)]
pub(super) struct Random {
    next: AtomicU64,
}

impl Random {
    pub(super) fn starting_at(point: u64) -> Self {
        Self { next: AtomicU64::new(point) }
    }
}

impl Strategy for Random {
    fn pick(&self, candidates: &Candidates, _: &mut dyn Rng) -> usize {
        scale(mixed(self.next.fetch_add(GOLDEN, Relaxed)), candidates.len() as u64) as usize
    }
}

fn mixed(count: u64) -> u64 {
    let bits = (count ^ (count >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{candidates, tally};
    use super::*;

    /// As chance has it: neither further apart nor closer together, over many points to start at.
    #[test]
    fn shares_are_equal_within_chance() {
        for count in [2, 3, 5, 16] {
            let (candidates, _) = candidates(&vec![1; count]);
            let (runs, expected) = (100, 400.0);
            let chi_squares = (0..runs).map(|point| {
                let counts = tally(&Random::starting_at(point), &candidates, count * 400, 0);
                counts.iter().map(|n| (*n as f64 - expected).powi(2) / expected).sum::<f64>()
            });
            // Within four standard deviations of the distribution with so many degrees of freedom.
            let freedom = runs as f64 * (count as f64 - 1.0);
            let chi_square: f64 = chi_squares.sum();
            assert!((chi_square - freedom).abs() < 4.0 * (2.0 * freedom).sqrt(), "{count}: {chi_square}");
        }
    }

    #[test]
    fn picks_are_not_a_sequence() {
        let (candidates, _) = candidates(&[1, 1]);
        let mut rng = <rand::rngs::StdRng as rand::SeedableRng>::seed_from_u64(7);
        let random = Random::starting_at(7);
        let picks: Vec<_> = (0..1000).map(|_| random.pick(&candidates, &mut rng)).collect();
        let repeats = picks.windows(2).filter(|pair| pair[0] == pair[1]).count();
        assert!((400..600).contains(&repeats), "{repeats}");
    }
}
