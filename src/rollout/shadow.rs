//! What came of reads that ran on a replica beside the one that counted.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// So many run at a time; more are skipped.
const SLOTS: usize = 4;

/// A difference is told in the log this often at most.
const TOLD_EVERY: Duration = Duration::from_secs(1);

/// What has come of reads that were [run on a replica as well](crate::Router::with_shadowed_read), since the router was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShadowStatus {
    /// The replica's result was the same.
    pub equal: u64,
    /// It was another one, although the primary's was still the same afterwards: this read must not move to a replica as it is.
    pub different: u64,
    /// It was another one, and so was the primary's by then: nothing can be said.
    pub changed: u64,
    /// The read failed on the replica, or panicked.
    pub failed: u64,
    /// It took longer than a second.
    pub timed_out: u64,
    /// Enough others ran already, or no replica was there that had what the primary had shown.
    pub skipped: u64,
}

/// What came of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Equal,
    Different,
    Changed,
    Failed,
    TimedOut,
    Skipped,
}

/// Counts outcomes, and keeps how many run at a time.
#[derive(Debug)]
pub(crate) struct Shadows {
    slots: Arc<Semaphore>,
    outcomes: [AtomicU64; 6],
    told: Mutex<Option<Instant>>,
}

/// The right to run one. If it is dropped without an outcome, the read has panicked.
#[derive(Debug)]
pub(crate) struct Slot {
    shadows: Arc<Shadows>,
    outcome: Outcome,
    _permit: OwnedSemaphorePermit,
}

impl Shadows {
    pub(crate) fn new() -> Self {
        Self { slots: Arc::new(Semaphore::new(SLOTS)), outcomes: Default::default(), told: Mutex::new(None) }
    }

    /// A right to run one, or another one that is skipped.
    pub(crate) fn enter(self: &Arc<Self>) -> Option<Slot> {
        let permit = Arc::clone(&self.slots).try_acquire_owned();
        if permit.is_err() {
            self.count(Outcome::Skipped);
        }
        Some(Slot { shadows: Arc::clone(self), outcome: Outcome::Failed, _permit: permit.ok()? })
    }

    pub(crate) fn status(&self) -> ShadowStatus {
        let count = |outcome: Outcome| self.outcomes[outcome as usize].load(Ordering::Relaxed);
        ShadowStatus {
            equal: count(Outcome::Equal),
            different: count(Outcome::Different),
            changed: count(Outcome::Changed),
            failed: count(Outcome::Failed),
            timed_out: count(Outcome::TimedOut),
            skipped: count(Outcome::Skipped),
        }
    }

    /// Whether it is time to tell of another difference.
    pub(crate) fn may_tell(&self, now: Instant) -> bool {
        // Nothing panics while it is locked.
        let mut told = self.told.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let may = told.is_none_or(|told| now.duration_since(told) >= TOLD_EVERY);
        if may {
            *told = Some(now);
        }
        may
    }

    fn count(&self, outcome: Outcome) {
        self.outcomes[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }
}

impl Slot {
    pub(crate) fn end(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.shadows.count(self.outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_outcome_is_counted_once_and_a_panic_is_a_failure() {
        let shadows = Arc::new(Shadows::new());
        let outcomes = [
            Outcome::Equal,
            Outcome::Different,
            Outcome::Changed,
            Outcome::Failed,
            Outcome::TimedOut,
            Outcome::Skipped,
        ];
        for (i, outcome) in outcomes.into_iter().enumerate() {
            (0..=i).for_each(|_| shadows.enter().expect("a slot").end(outcome));
        }
        drop(shadows.enter());
        let expected =
            ShadowStatus { equal: 1, different: 2, changed: 3, failed: 5, timed_out: 5, skipped: 6 };
        assert_eq!(shadows.status(), expected);
    }

    #[test]
    fn more_than_the_slots_are_skipped() {
        let shadows = Arc::new(Shadows::new());
        let held: Vec<_> = (0..SLOTS).map(|_| shadows.enter().expect("a slot")).collect();
        assert!(shadows.enter().is_none());
        assert_eq!(shadows.status(), ShadowStatus { skipped: 1, ..ShadowStatus::default() });
        drop(held);
        assert!(shadows.enter().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn differences_are_told_once_a_second() {
        let shadows = Shadows::new();
        let start = Instant::now();
        let told =
            [0, 1, 999, 1000, 1001, 2000].map(|ms| shadows.may_tell(start + Duration::from_millis(ms)));
        assert_eq!(told, [true, false, false, true, false, true]);
    }
}
