//! What the tests of this module hear from servers that do not exist.

use crate::lsn::Lsn;
use crate::observation::{Identity, Observation, Standby};
use tokio::time::Instant;

/// A writable node's answer: of cluster 7, on timeline 1, at 100.
pub(super) fn primary() -> Answer {
    Answer { in_recovery: false, lsn: Some(100), system: Some(7), started: None, timeline: Some(1) }
}

/// A standby's answer: of the same cluster and timeline, at the same position.
pub(super) fn standby() -> Answer {
    Answer { in_recovery: true, ..primary() }
}

/// An answer to be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answer {
    in_recovery: bool,
    lsn: Option<u64>,
    system: Option<u64>,
    started: Option<i64>,
    timeline: Option<u32>,
}

impl Answer {
    pub(super) fn at(self, lsn: u64) -> Self {
        Self { lsn: Some(lsn), ..self }
    }

    pub(super) fn nowhere(self) -> Self {
        Self { lsn: None, ..self }
    }

    pub(super) fn system(self, system: u64) -> Self {
        Self { system: Some(system), ..self }
    }

    pub(super) fn untold_system(self) -> Self {
        Self { system: None, ..self }
    }

    pub(super) fn timeline(self, timeline: u32) -> Self {
        Self { timeline: Some(timeline), ..self }
    }

    pub(super) fn untold_timeline(self) -> Self {
        Self { timeline: None, ..self }
    }

    /// Of the server process that started then; otherwise each node has its own.
    pub(super) fn started(self, started: i64) -> Self {
        Self { started: Some(started), ..self }
    }

    /// As given within no time at this moment, by the process that started then unless it is another one.
    pub(super) fn observed(self, now: Instant, started: i64) -> Observation {
        let Self { in_recovery, lsn, system, timeline, .. } = self;
        Observation {
            in_recovery,
            lsn: lsn.map(Lsn::new),
            identity: Identity { system, started: self.started.unwrap_or(started) },
            timeline,
            version: 150_018,
            standby: Standby::default(),
            asked_at: now,
            answered_at: now,
        }
    }
}
