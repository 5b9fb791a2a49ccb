//! What becomes of the calls on one connection, and what that says of its node.

use crate::failure::Cause;
use crate::traffic::{Failure, Traffic};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering::Relaxed};
use std::time::Duration;
use tokio::time::Instant;

/// Follows one connection's calls, and passes on to its node's [`Traffic`] what they show.
///
/// [`Calls`](super::calls::Calls) reports how calls end, the [tap](super::tap) what the server says and that it is gone.
#[derive(Debug)]
pub(super) struct Record {
    traffic: Arc<Traffic>,
    /// Whether its users may write.
    writes: bool,
    /// Whether somebody has a handle to the connection.
    lent: AtomicBool,
    /// Diesel's calls that have begun and not ended, since the connection was lent.
    calls: AtomicU32,
    /// Where in [`CAUSES`] that of the last error is, since calls are under way; beyond its end if there was none.
    heard: AtomicU8,
    unfit: AtomicBool,
}

const CAUSES: [Cause; 5] =
    [Cause::Node, Cause::RecoveryConflict, Cause::StalePlan, Cause::ReadOnly, Cause::Caller];
const NONE: u8 = u8::MAX;

impl Record {
    pub(super) fn new(traffic: Arc<Traffic>, writes: bool) -> Self {
        Self {
            traffic,
            writes,
            lent: AtomicBool::new(false),
            calls: AtomicU32::new(0),
            heard: AtomicU8::new(NONE),
            unfit: AtomicBool::new(false),
        }
    }

    /// Somebody gets a handle to the connection.
    pub(super) fn lend(&self) {
        self.calls.store(0, Relaxed);
        self.heard.store(NONE, Relaxed);
        self.lent.store(true, Relaxed);
    }

    /// The handle is dropped: what happens from here on is nobody's.
    pub(super) fn give_back(&self) {
        self.lent.store(false, Relaxed);
    }

    pub(super) fn is_lent(&self) -> bool {
        self.lent.load(Relaxed)
    }

    /// Calls that have begun and not ended: some may have been dropped on their way.
    pub(super) fn calls(&self) -> u32 {
        self.calls.load(Relaxed)
    }

    /// Whether the call has the connection for itself: there is no other, or all others were dropped, since the connection is
    /// known to be `quiet`.
    pub(super) fn call_began(&self, quiet: bool) -> bool {
        let alone = self.calls.fetch_add(1, Relaxed) == 0 || quiet;
        if alone {
            self.heard.store(NONE, Relaxed);
        }
        alone
    }

    pub(super) fn call_ended(&self) {
        self.calls.fetch_sub(1, Relaxed);
    }

    /// The server answered a call, if it did not say otherwise.
    pub(super) fn answered(&self, took: Duration, now: Instant) {
        if self.is_lent() && self.heard() != Some(Cause::Node) {
            self.traffic.answered(took, now);
            self.traffic.usage(self.writes).times.answered(took);
        }
    }

    /// An error from the server, or that it is gone. `under_way`: a call of the handle's may be the victim.
    ///
    /// What fails the connection fails all calls on it: that is one failure.
    pub(super) fn hear(&self, cause: Cause, under_way: bool) {
        let before = self.heard();
        self.heard.store(index(cause), Relaxed);
        match cause {
            Cause::Node if !(under_way && self.is_lent()) => self.traffic.suspect(),
            Cause::Node if before != Some(Cause::Node) => self.traffic.failed(Failure::Lost),
            // Who may write was refused: this is not the primary any more, or the caller asked for a read-only transaction.
            Cause::ReadOnly if self.writes => {
                self.condemn();
                self.traffic.suspect();
            }
            // Where nothing is replayed, it is a transaction that could not be serialized.
            Cause::RecoveryConflict if !self.writes => self.traffic.conflicts.add(),
            Cause::StalePlan => self.condemn(),
            _ => {}
        }
    }

    /// The cause of the last error that came while calls have been under way.
    pub(super) fn heard(&self) -> Option<Cause> {
        CAUSES.get(usize::from(self.heard.load(Relaxed))).copied()
    }

    /// The connection gets no other user.
    pub(super) fn condemn(&self) {
        self.unfit.store(true, Relaxed);
    }

    pub(super) fn is_unfit(&self) -> bool {
        self.unfit.load(Relaxed)
    }
}

fn index(cause: Cause) -> u8 {
    CAUSES.iter().zip(0..).find(|(known, _)| **known == cause).map_or(NONE, |(_, index)| index)
}
