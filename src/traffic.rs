//! What real traffic shows of a node.

use crate::gauge::Gauge;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// What happened to the work sent to one node. Its pools write it; the balance and the monitor read it.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    in_flight: Gauge,
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

    /// Handles that are out.
    pub(crate) fn in_flight(&self) -> &Gauge {
        &self.in_flight
    }

    /// The node answered a call: with rows, or with an error that is the caller's own.
    pub(crate) fn answered(&self, _took: Duration, _now: Instant) {
        self.answered.fetch_add(1, Relaxed);
        if self.failed_in_a_row.load(Relaxed) != 0 {
            self.failed_in_a_row.store(0, Relaxed);
        }
    }

    /// The node itself failed a call, or could not be connected to. Never for a full pool or a call that was cancelled.
    pub(crate) fn failed(&self) {
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

    pub(crate) fn tally(&self) -> Tally {
        Tally {
            answered: self.answered.load(Relaxed),
            failed: self.failed.load(Relaxed),
            failed_in_a_row: self.failed_in_a_row.load(Relaxed),
        }
    }
}
