//! What real traffic shows of a node.

mod fading;

pub(crate) use fading::Fading;

use crate::gauge::{Count, Gauge};
use crate::metrics::Times;
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
    weighed: Weighed,
    /// Handles given out, for reading and for writing.
    handles: [Count; 2],
    /// Of the pools for reading, and of those for writing.
    usage: [Usage; 2],
    answered: AtomicU64,
    failed: [Count; Failure::ALL.len()],
    failed_in_a_row: AtomicU32,
    /// Queries that the node cancelled for what it replayed. That is no failure of the node's.
    pub(crate) conflicts: Count,
    /// Reads that it served for want of a replica.
    pub(crate) fallbacks: Count,
    /// Reads that were run once more elsewhere, since it was lost under them.
    pub(crate) retries: Count,
    suspected: AtomicBool,
    alarm: Arc<Notify>,
}

/// What a pick may look at, of which there is a lot where there are many nodes: one line of a processor's cache.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Weighed {
    in_flight: Gauge,
    /// Requests that wait for one of the node's connections, for reading and for writing.
    waiting: [Gauge; 2],
    latency: Fading,
    failures: Fading,
}

/// What has become of a node's pools of one kind.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    /// Requests that ended since all connections stayed in use.
    pub(crate) exhausted: Count,
    pub(crate) times: Times,
}

/// What the node itself failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// An attempt to connect.
    Connect,
    /// A call, whose connection was lost.
    Lost,
}

impl Failure {
    pub(crate) const ALL: [Self; 2] = [Self::Connect, Self::Lost];
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

    /// The handles given out so far to write, or to read.
    pub(crate) fn handles(&self, to_write: bool) -> &Count {
        &self.handles[usize::from(to_write)]
    }

    /// What has become of the pools whose connections may write, or of those whose may not.
    pub(crate) fn usage(&self, may_write: bool) -> &Usage {
        &self.usage[usize::from(may_write)]
    }

    /// Handles that are out.
    pub(crate) fn in_flight(&self) -> &Gauge {
        &self.weighed.in_flight
    }

    /// Requests that wait for a connection that may write, or for one that may not.
    pub(crate) fn waiting(&self, may_write: bool) -> &Gauge {
        &self.weighed.waiting[usize::from(may_write)]
    }

    /// What is in flight or waits to be, and what failed lately as if it still were: a node with a queue must not look as good as
    /// one without, nor a node that fails fast as if it were idle.
    pub(crate) fn work(&self) -> usize {
        let Weighed { in_flight, waiting: [reads, writes], failures, .. } = &self.weighed;
        let work = in_flight.value() + reads.value() + writes.value();
        if failures.is_nothing() {
            return work;
        }
        work + failures.value(Instant::now()).round() as usize
    }

    /// The peak of what calls took, in nanoseconds; nothing before the first one has ended.
    ///
    /// This is the peak EWMA of Finagle and tower, as it is when picks are more frequent than answers: there each pick counts as
    /// an answer that took no time, so that of the average nothing is left but the peak, decayed.
    pub(crate) fn latency(&self) -> &Fading {
        &self.weighed.latency
    }

    /// The node answered a call after that time: with rows, or with an error that is the caller's own.
    pub(crate) fn answered(&self, took: Duration, now: Instant) {
        self.answered.fetch_add(1, Relaxed);
        if self.failed_in_a_row.load(Relaxed) != 0 {
            self.failed_in_a_row.store(0, Relaxed);
        }
        self.weighed.latency.observe(took.as_nanos() as f64, now);
        // As much as is still seen of them: picks need no clock from here on.
        self.weighed.failures.drop_below(0.5, now);
    }

    /// The node itself failed a call, or could not be connected to. Never for a full pool or a call that was cancelled.
    pub(crate) fn failed(&self, failure: Failure) {
        let now = Instant::now();
        self.weighed.failures.add(1.0, now);
        self.weighed.latency.observe(FAILURE.as_nanos() as f64, now);
        self.failures_of(failure).add();
        self.failed_in_a_row.fetch_add(1, Relaxed);
        self.suspect();
    }

    /// What it has failed in this way.
    pub(crate) fn failures_of(&self, failure: Failure) -> &Count {
        &self.failed[failure as usize]
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
        self.weighed.latency.clear();
        self.weighed.failures.clear();
    }

    pub(crate) fn tally(&self) -> Tally {
        Tally {
            answered: self.answered.load(Relaxed),
            failed: self.failed.iter().map(Count::value).sum(),
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
        (0..3).for_each(|_| traffic.failed(Failure::Lost));
        assert_eq!(traffic.work(), 4);
        advance(7 * SECOND).await;
        assert_eq!(traffic.work(), 2);
        traffic.answered(SECOND, Instant::now());
        assert_eq!(traffic.work(), 2, "an answer takes nothing back");
        advance(12 * SECOND).await;
        assert_eq!(traffic.work(), 1);
        assert!(!traffic.weighed.failures.is_nothing());
        traffic.answered(SECOND, Instant::now());
        assert!(traffic.weighed.failures.is_nothing(), "the clock is not needed any more");
    }

    #[tokio::test(start_paused = true)]
    async fn failing_never_looks_fast() {
        let traffic = Traffic::default();
        traffic.failed(Failure::Lost);
        let ms = || traffic.latency().value(Instant::now()) / 1e6;
        assert!((ms() - 1000.0).abs() < 1.0, "{}", ms());
        traffic.answered(2 * SECOND, Instant::now());
        traffic.failed(Failure::Lost);
        assert!(ms() > 1900.0, "{}", ms());
        traffic.returned();
        assert!(traffic.latency().is_nothing());
        assert_eq!(traffic.work(), 0);
    }
}
