//! How many reads may be tried again.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use tokio::time::Instant;

/// For how many seconds of reads unused retries are kept.
const KEPT: f64 = 10.0;

/// How many of the reads may be run a second time: a share of them, and some a second whatever their number.
///
/// A node that is lost costs the reads that ran on it one retry each. When everything fails, retries would double the load on
/// what is left just then: the budget keeps them a small share. (Finagle's and tower's retry budgets work the same way.)
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryBudget {
    pub(crate) share: f64,
    pub(crate) per_second: u32,
}

impl Default for RetryBudget {
    /// A fifth of the reads, and 10 a second.
    fn default() -> Self {
        Self { share: 0.2, per_second: 10 }
    }
}

impl RetryBudget {
    /// At most this share of the reads, from 0 to 1, and so many a second on top. What is not used is kept for some ten seconds.
    #[must_use]
    pub fn new(share: f64, per_second: u32) -> Self {
        Self { share, per_second }
    }

    /// No read is run twice.
    #[must_use]
    pub fn none() -> Self {
        Self { share: 0.0, per_second: 0 }
    }
}

/// Counts reads, and lets some be run again.
#[derive(Debug)]
pub(crate) struct Retries {
    reads: AtomicU64,
    left: Mutex<Left>,
}

#[derive(Debug)]
struct Left {
    /// Of the share of reads.
    shared: f64,
    /// Of those that every second gives.
    timed: f64,
    counted: u64,
    at: Instant,
}

impl Retries {
    pub(crate) fn new(budget: RetryBudget, now: Instant) -> Self {
        let timed = f64::from(budget.per_second) * KEPT;
        Self { reads: AtomicU64::new(0), left: Mutex::new(Left { shared: 0.0, timed, counted: 0, at: now }) }
    }

    pub(crate) fn count_read(&self) {
        self.reads.fetch_add(1, Relaxed);
    }

    /// Whether one more read may be run again.
    pub(crate) fn withdraw(&self, budget: RetryBudget, now: Instant) -> bool {
        // Nothing panics while it is locked.
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = self.reads.load(Relaxed);
        let reads = counted.saturating_sub(left.counted) as f64;
        let seconds = now.saturating_duration_since(left.at).as_secs_f64();
        left.counted = counted;
        left.at = now;

        let fresh = budget.share * reads;
        left.shared = match seconds > KEPT {
            true => fresh * KEPT / seconds,
            // What is left fades, or an hour of reads with a retry now and then would save up for all that fail at once.
            false => left.shared * (1.0 - seconds / KEPT) + fresh,
        };
        let per_second = f64::from(budget.per_second);
        left.timed = (left.timed + per_second * seconds).min(per_second * KEPT);

        let Left { shared, timed, .. } = &mut *left;
        for tokens in [shared, timed] {
            if *tokens >= 1.0 {
                *tokens -= 1.0;
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn granted(retries: &Retries, budget: RetryBudget, now: Instant, asked: usize) -> usize {
        (0..asked).filter(|_| retries.withdraw(budget, now)).count()
    }

    #[test]
    fn a_share_of_the_reads_may_be_run_again() {
        let (budget, start) = (RetryBudget::new(0.2, 0), Instant::now());
        let retries = Retries::new(budget, start);
        assert_eq!(granted(&retries, budget, start, 10), 0);
        (0..100).for_each(|_| retries.count_read());
        assert_eq!(granted(&retries, budget, start + Duration::from_secs(1), 50), 20);
    }

    #[test]
    fn some_may_be_whatever_the_number_of_reads() {
        let (budget, start) = (RetryBudget::new(0.0, 3), Instant::now());
        let retries = Retries::new(budget, start);
        assert_eq!(granted(&retries, budget, start, 100), 30, "kept since before the start");
        assert_eq!(granted(&retries, budget, start + Duration::from_secs(2), 100), 6);
        assert_eq!(granted(&retries, budget, start + Duration::from_secs(3600), 100), 30);
    }

    #[test]
    fn what_was_not_used_is_kept_for_ten_seconds_of_reads() {
        let (budget, start) = (RetryBudget::new(0.1, 0), Instant::now());
        let retries = Retries::new(budget, start);
        (0..100_000).for_each(|_| retries.count_read());
        assert_eq!(granted(&retries, budget, start + Duration::from_secs(1000), 1000), 100);
    }

    #[test]
    fn what_was_not_used_is_not_saved_up_by_a_retry_now_and_then() {
        let (budget, start) = (RetryBudget::new(0.1, 0), Instant::now());
        let retries = Retries::new(budget, start);
        for second in 1..=1000 {
            (0..100).for_each(|_| retries.count_read());
            assert!(retries.withdraw(budget, start + Duration::from_secs(second)));
        }
        let all_at_once = granted(&retries, budget, start + Duration::from_secs(1000), 10_000);
        assert!((80..=100).contains(&all_at_once), "a tenth of the reads of ten seconds: {all_at_once}");
    }

    #[test]
    fn none_is_none() {
        let (budget, start) = (RetryBudget::none(), Instant::now());
        let retries = Retries::new(budget, start);
        (0..1000).for_each(|_| retries.count_read());
        assert_eq!(granted(&retries, budget, start + Duration::from_secs(9), 10), 0);
    }
}
