//! What real traffic shows of a node.

mod fading;

pub(crate) use fading::Fading;

use crate::gauge::Gauge;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// A failure counts as an answer that took so long: longer than reads take, so that failing never looks fast.
const FAILURE: Duration = Duration::from_secs(1);

/// What happened to the work sent to one node. Its pools write it; the balance and the monitor read it.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    in_flight: Gauge,
    waiting: Gauge,
    reads: AtomicU64,
    writes: AtomicU64,
    latency: Fading,
    failures: Fading,
    answered: AtomicU64,
    failed: AtomicU64,
    failed_in_a_row: AtomicU32,
    suspected: AtomicBool,
    alarm: Arc<Notify>,
}

/// The counts of a node's traffic at one moment, since the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Tally {
    /// Calls that the node answered, be it with an error of the caller's own making.
    pub(crate) answered: u64,
    /// Calls and dials that the node itself failed.
    pub(crate) failed: u64,
    /// The failures since the last answer.
    pub(crate) failed_in_a_row: u32,
}

impl Traffic {
    /// `alarm` is notified when the node should be looked at without delay.
    pub(crate) fn new(alarm: Arc<Notify>) -> Self {
        Self { alarm, ..Self::default() }
    }

    /// A handle is given out.
    pub(crate) fn lent(&self, to_write: bool) {
        let handles = if to_write { &self.writes } else { &self.reads };
        handles.fetch_add(1, Relaxed);
    }

    /// Handles for reading given out so far.
    pub(crate) fn reads(&self) -> u64 {
        self.reads.load(Relaxed)
    }

    /// Handles for writing given out so far.
    pub(crate) fn writes(&self) -> u64 {
        self.writes.load(Relaxed)
    }

    /// Handles that are out.
    pub(crate) fn in_flight(&self) -> &Gauge {
        &self.in_flight
    }

    /// Requests that wait for one of the node's connections.
    pub(crate) fn waiting(&self) -> &Gauge {
        &self.waiting
    }

    /// What is in flight or waits to be, and what failed lately as if it still were: a node with a queue must not look as good as
    /// one without, nor a node that fails fast as if it were idle.
    pub(crate) fn work(&self) -> usize {
        let work = self.in_flight.value() + self.waiting.value();
        if self.failures.is_nothing() {
            return work;
        }
        work + self.failures.value(Instant::now()).round() as usize
    }

    /// The peak of what calls took, in nanoseconds; nothing before the first one has ended.
    ///
    /// This is the peak EWMA of Finagle and tower, as it is when picks are more frequent than answers: there each pick counts as
    /// an answer that took no time, so that of the average nothing is left but the peak, decayed.
    pub(crate) fn latency(&self) -> &Fading {
        &self.latency
    }

    /// The node answered a call after that time: with rows, or with an error that is the caller's own.
    pub(crate) fn answered(&self, took: Duration, now: Instant) {
        self.answered.fetch_add(1, Relaxed);
        if self.failed_in_a_row.load(Relaxed) != 0 {
            self.failed_in_a_row.store(0, Relaxed);
        }
        self.latency.observe(took.as_nanos() as f64, now);
        // As much as is still seen of them: picks need no clock from here on.
        self.failures.drop_below(0.5, now);
    }

    /// The node itself failed a call, or could not be connected to. Never for a full pool or a call that was cancelled.
    pub(crate) fn failed(&self) {
        let now = Instant::now();
        self.failures.add(1.0, now);
        self.latency.observe(FAILURE.as_nanos() as f64, now);
        self.failed.fetch_add(1, Relaxed);
        self.failed_in_a_row.fetch_add(1, Relaxed);
        self.suspect();
    }

    /// Something about the node is not as it was thought to be: it should be probed at once.
    pub(crate) fn suspect(&self) {
        self.suspected.store(true, Relaxed);
        self.alarm.notify_one();
    }

    /// Whether the node was suspected since this was asked last.
    pub(crate) fn take_suspicion(&self) -> bool {
        self.suspected.swap(false, Relaxed)
    }

    /// The node is back in service: how fast it was, and what it failed before it left, says nothing of it now.
    pub(crate) fn returned(&self) {
        self.latency.clear();
        self.failures.clear();
    }

    pub(crate) fn tally(&self) -> Tally {
        Tally {
            answered: self.answered.load(Relaxed),
            failed: self.failed.load(Relaxed),
            failed_in_a_row: self.failed_in_a_row.load(Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn failures_count_as_work_until_they_have_faded() {
        let traffic = Traffic::default();
        let _read = traffic.in_flight().count();
        assert_eq!(traffic.work(), 1);
        (0..3).for_each(|_| traffic.failed());
        assert_eq!(traffic.work(), 4);
        advance(7 * SECOND).await;
        assert_eq!(traffic.work(), 2);
        traffic.answered(SECOND, Instant::now());
        assert_eq!(traffic.work(), 2, "an answer takes nothing back");
        advance(12 * SECOND).await;
        assert_eq!(traffic.work(), 1);
        assert!(!traffic.failures.is_nothing());
        traffic.answered(SECOND, Instant::now());
        assert!(traffic.failures.is_nothing(), "the clock is not needed any more");
    }

    #[tokio::test(start_paused = true)]
    async fn failing_never_looks_fast() {
        let traffic = Traffic::default();
        traffic.failed();
        let ms = || traffic.latency().value(Instant::now()) / 1e6;
        assert!((ms() - 1000.0).abs() < 1.0, "{}", ms());
        traffic.answered(2 * SECOND, Instant::now());
        traffic.failed();
        assert!(ms() > 1900.0, "{}", ms());
        traffic.returned();
        assert!(traffic.latency().is_nothing());
        assert_eq!(traffic.work(), 0);
    }
}
