//! Two of many, drawn.

use super::Candidates;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A step in each of two directions, in the upper and the lower half: the inverses of the plastic number and of its square, of which
/// the multiples cover a square as evenly as those of the golden ratio do a line (Roberts, "The Unreasonable Effectiveness of
/// Quasirandom Sequences", 2018).
const STEP: u64 = 0xC13F_A9A9_91E1_0DA5;

/// The sequence that pairs are drawn from.
#[derive(Debug)]
pub(super) struct Pairs {
    next: AtomicU64,
}

impl Pairs {
    pub(super) fn starting_at(point: u64) -> Self {
        Self { next: AtomicU64::new(point) }
    }

    /// The first one as often as its weight says, and any of the others, if there are.
    pub(super) fn draw(&self, candidates: &Candidates) -> (usize, usize) {
        candidates.two(self.next.fetch_add(STEP, Relaxed))
    }
}
