//! What a node says of itself when it is probed.

use crate::limitation::Limitation;
use crate::lsn::Lsn;
use crate::replay::Position;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// One answer of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Observation {
    pub(crate) in_recovery: bool,
    /// Replayed up to here on a standby, written up to here on a primary. A standby may not know yet, and some managed
    /// services never tell.
    pub(crate) lsn: Option<Lsn>,
    /// On a primary log has been reserved up to here, which may not be written yet.
    pub(crate) inserted: Option<Lsn>,
    pub(crate) identity: Identity,
    /// The history that a primary writes, or the newest one that a standby is known to have followed.
    pub(crate) timeline: Option<u32>,
    /// `server_version_num`, as in 150018.
    pub(crate) version: u32,
    pub(crate) standby: Standby,
    pub(crate) limitations: Vec<Limitation>,
    /// Before the question was sent.
    pub(crate) asked_at: Instant,
    pub(crate) answered_at: Instant,
}

impl Observation {
    /// How far the node has come, if it told.
    pub(crate) fn position(&self) -> Option<Position> {
        let lsn = self.lsn?;
        let inserted = if self.in_recovery { lsn } else { self.inserted?.before_page_header() };
        let (started, asked_at) = (self.identity.started, self.asked_at);
        Some(Position { in_recovery: self.in_recovery, lsn, inserted, visible: None, started, asked_at })
    }
}

/// Which server answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The system identifier, the same for a primary and all of its standbys; `None` where the server does not tell.
    pub(crate) system: Option<u64>,
    /// When the server process started, in microseconds: no two servers of a cluster have it in common.
    pub(crate) started: i64,
}

/// What a standby says of its replication; a primary says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Standby {
    pub(crate) replay_paused: Option<bool>,
    pub(crate) receiver: Option<Receiver>,
    /// It lags by this at least. Servers do not tell; what stands for one in a test does.
    pub(crate) behind: Option<Duration>,
    /// What a managed service says of its lag, where it does not say how far it has replayed.
    pub(crate) reported: Option<Duration>,
}

/// Whether a standby receives log from its upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Receiver {
    /// Connected and receiving.
    Streaming,
    /// Not connected: it replays what it has, or what an archive gives it.
    Stopped,
}

impl fmt::Display for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Streaming => "streaming",
            Self::Stopped => "stopped",
        })
    }
}

/// Why a node said nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ProbeFailure {
    /// It refused, or broke off; the text says how.
    Failed(Arc<str>),
    /// It is up, but gives out no connection for now (53300).
    Full(Arc<str>),
    /// It was asked this often, and each time not heard of within this time.
    TimedOut { probes: u32, after: Duration },
}
