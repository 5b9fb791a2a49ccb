//! What has happened to the nodes, for programs to act on.

use crate::error::Millis;
use crate::fleet::Role;
use crate::health::{HealthState, Reason};
use crate::limitation::Limitation;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::broadcast;

/// Something that has happened: see [`Router::events`](crate::Router::events). Each has one cause, and what lasts has one event when
/// it begins and one when it ends.
///
/// `Display` is one line without a final stop.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Event {
    /// When it was noticed.
    pub at: SystemTime,
    /// How bad it is.
    pub severity: Severity,
    /// What it is.
    pub kind: EventKind,
}

/// How bad an [`Event`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Severity {
    /// To be known when something is looked for.
    Info,
    /// To be looked at in working hours.
    Warning,
    /// To be looked at now.
    Critical,
}

/// What has happened.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum EventKind {
    /// The health of a node, or the kind of reason for it, has changed.
    Health {
        /// The node's name.
        node: Arc<str>,
        /// What it is.
        role: Role,
        /// Its health before.
        from: HealthState,
        /// Its health now.
        to: HealthState,
        /// Why.
        reason: Reason,
    },
    /// A replica lags by more than [`alert_lag_warning`](crate::RouterBuilder::alert_lag_warning), or by more than
    /// [`alert_lag_critical`](crate::RouterBuilder::alert_lag_critical), which the severity tells.
    Lag {
        /// The node's name.
        node: Arc<str>,
        /// The upper bound of its lag.
        lag: Duration,
        /// What it is over.
        threshold: Duration,
    },
    /// It is down to half of that, or is no replica any more.
    LagEnded {
        /// The node's name.
        node: Arc<str>,
        /// What it was over.
        threshold: Duration,
    },
    /// A replica has not been healthy for [this long](crate::RouterBuilder::alert_unhealthy_after).
    Unhealthy {
        /// The node's name.
        node: Arc<str>,
        /// For how long.
        time: Duration,
        /// Its health.
        health: HealthState,
        /// Why.
        reason: Reason,
    },
    /// It is again, or is no replica any more.
    UnhealthyEnded {
        /// The node's name.
        node: Arc<str>,
    },
    /// No replica is left to serve reads: the [fallback policy](crate::Fallback) decides, by default for the primary.
    NoReplica,
    /// So many replicas serve reads, where none did.
    Replicas(usize),
    /// A node is something else than it was taken for.
    Role {
        /// The node's name.
        node: Arc<str>,
        /// What it was taken for.
        from: Role,
        /// What it is.
        to: Role,
    },
    /// Something that a node does not do or tell.
    Limitation {
        /// The node's name.
        node: Arc<str>,
        /// What it is.
        limitation: Limitation,
    },
    /// The node does or tells it again.
    LimitationEnded {
        /// The node's name.
        node: Arc<str>,
        /// What it was.
        limitation: Limitation,
    },
    /// Writes go to this node from now on.
    Primary {
        /// The node's name.
        node: Arc<str>,
        /// Where they went before, if it was to another one.
        from: Option<Arc<str>>,
    },
    /// Writes go nowhere.
    NoPrimary {
        /// Why.
        why: String,
    },
    /// Several nodes are writable.
    SplitBrain {
        /// Their names.
        nodes: Vec<Arc<str>>,
    },
    /// One node at most is writable again.
    SplitBrainEnded,
}

impl Event {
    pub(crate) fn new(severity: Severity, kind: EventKind) -> Self {
        Self { at: SystemTime::now(), severity, kind }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        })
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.severity, self.kind)
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Health { node, role, from, to, reason } => {
                write!(f, "{role} `{node}` is {to}, and was {from}: {reason}")
            }
            Self::Lag { node, lag, threshold } => {
                write!(f, "`{node}` lags by up to {}, more than {}", Millis(*lag), Millis(*threshold))
            }
            Self::LagEnded { node, threshold } => {
                write!(f, "`{node}` lags by more than {} no longer", Millis(*threshold))
            }
            Self::Unhealthy { node, time, health, reason } => {
                write!(f, "`{node}` has not been healthy for {}: {health}, {reason}", Millis(*time))
            }
            Self::UnhealthyEnded { node } => write!(f, "`{node}` is unhealthy no longer"),
            Self::NoReplica => f.write_str("no replica is left to serve reads: the fallback policy decides"),
            Self::Replicas(replicas) => write!(f, "replicas serve reads: {replicas}"),
            Self::Role { node, from, to } => write!(f, "`{node}` is a {to}, and was taken for a {from}"),
            Self::Limitation { node, limitation } => write!(f, "`{node}` has a limitation: {limitation}"),
            Self::LimitationEnded { node, limitation } => {
                write!(f, "`{node}` has a limitation no longer: {limitation}")
            }
            Self::Primary { node, from: None } => write!(f, "writes go to `{node}`"),
            Self::Primary { node, from: Some(from) } => {
                write!(f, "writes go to `{node}`, and went to `{from}`")
            }
            Self::NoPrimary { why } => write!(f, "writes go nowhere: {why}"),
            Self::SplitBrain { nodes } => {
                write!(f, "split brain: several nodes are writable: {}", nodes.join(", "))
            }
            Self::SplitBrainEnded => f.write_str("split brain ended: one node at most is writable"),
        }
    }
}

/// So many events are kept for whoever is slow to take them.
const KEPT: usize = 256;

/// Events from when it was made on: see [`Router::events`](crate::Router::events).
#[derive(Debug)]
pub struct Events(broadcast::Receiver<Event>);

/// Why there is no event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoEvent {
    /// They were not taken in time, and so many of the oldest were dropped. The next one is there.
    #[error("{0} events were not taken in time")]
    Missed(u64),
    /// The router has been shut down, or is gone: there will be none any more.
    #[error("the router is shut down")]
    ShutDown,
}

impl Events {
    /// The next event.
    ///
    /// # Errors
    ///
    /// [`NoEvent::Missed`] once after events were dropped, since nobody waits for a slow listener; [`NoEvent::ShutDown`].
    ///
    /// # Cancel safety
    ///
    /// A dropped call takes no event.
    pub async fn next(&mut self) -> Result<Event, NoEvent> {
        self.0.recv().await.map_err(|error| match error {
            broadcast::error::RecvError::Lagged(missed) => NoEvent::Missed(missed),
            broadcast::error::RecvError::Closed => NoEvent::ShutDown,
        })
    }
}

/// Where events are told. Whoever has it keeps listeners waiting for more.
#[derive(Debug, Clone)]
pub(crate) struct Announcer(broadcast::Sender<Event>);

impl Announcer {
    pub(crate) fn new() -> Self {
        Self(broadcast::Sender::new(KEPT))
    }

    /// Waits for nobody.
    pub(crate) fn tell(&self, event: Event) {
        // Nobody may listen.
        let _ = self.0.send(event);
    }

    pub(crate) fn downgrade(&self) -> Listening {
        Listening(self.0.downgrade())
    }
}

/// Where one can begin to listen, as long as there is somebody to tell.
#[derive(Debug, Clone)]
pub(crate) struct Listening(broadcast::WeakSender<Event>);

impl Listening {
    pub(crate) fn listen(&self) -> Events {
        // Of a router that was shut down there are none.
        Events(self.0.upgrade().map_or_else(|| broadcast::channel(1).1, |sender| sender.subscribe()))
    }
}
