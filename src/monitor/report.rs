//! Tells of what has changed: one event a change, in the log and to those who listen.

use crate::alerts::{Alert, Level};
use crate::event::{Event, EventKind, Severity};
use crate::fleet::{Change, NodeId, Role};
use crate::health::{HealthState, Reason};
use std::sync::Arc;
use tracing::{debug, error, info, warn};

/// What a change is to others.
pub(super) fn event(change: Change, of: impl Fn(NodeId) -> (Arc<str>, Role)) -> Event {
    let name = |node| of(node).0;
    let (severity, kind) = match change {
        Change::Health(node, transition) => {
            let (node, role) = of(node);
            let (from, to, reason) = (transition.from, transition.to, transition.reason);
            let severity = match (to, &reason) {
                (HealthState::Unproven | HealthState::Healthy | HealthState::Draining, _) => Severity::Info,
                (_, Reason::ForeignCluster { .. }) => Severity::Critical,
                _ => Severity::Warning,
            };
            (severity, EventKind::Health { node, role, from, to, reason })
        }
        Change::Role { node, from, to } => {
            (Severity::Warning, EventKind::Role { node: name(node), from, to })
        }
        Change::Limitation { node, limitation, began: true } => {
            let severity = if limitation.is_usual() { Severity::Info } else { Severity::Warning };
            (severity, EventKind::Limitation { node: name(node), limitation })
        }
        Change::Limitation { node, limitation, began: false } => {
            (Severity::Info, EventKind::LimitationEnded { node: name(node), limitation })
        }
        Change::Writer { node, from } => {
            let severity = if from.is_some() { Severity::Warning } else { Severity::Info };
            (severity, EventKind::Primary { node: name(node), from: from.map(name) })
        }
        Change::NoWriter(why) => (Severity::Critical, EventKind::NoPrimary { why: why.to_string() }),
        Change::SplitBrain(nodes) => {
            (Severity::Critical, EventKind::SplitBrain { nodes: nodes.into_iter().map(name).collect() })
        }
        Change::SplitBrainEnded => (Severity::Info, EventKind::SplitBrainEnded),
    };
    Event::new(severity, kind)
}

/// What an alert is to others.
pub(super) fn event_of_alert(alert: Alert, name: impl Fn(NodeId) -> Arc<str>) -> Event {
    let (severity, kind) = match alert {
        Alert::Lag { node, level, lag, threshold } => {
            let severity = if level == Level::Critical { Severity::Critical } else { Severity::Warning };
            (severity, EventKind::Lag { node: name(node), lag, threshold })
        }
        Alert::LagEnded { node, threshold } => {
            (Severity::Info, EventKind::LagEnded { node: name(node), threshold })
        }
        Alert::Unhealthy { node, time, health, reason } => {
            (Severity::Warning, EventKind::Unhealthy { node: name(node), time, health, reason })
        }
        Alert::UnhealthyEnded { node } => (Severity::Info, EventKind::UnhealthyEnded { node: name(node) }),
    };
    Event::new(severity, kind)
}

/// When the first replica serves, and when the last one does not any more.
pub(super) fn event_of_serving(before: usize, now: usize) -> Option<Event> {
    match (before, now) {
        (0, 1..) => Some(Event::new(Severity::Info, EventKind::Replicas(now))),
        (1.., 0) => Some(Event::new(Severity::Info, EventKind::NoReplica)),
        _ => None,
    }
}

/// Logs an event, with its fields.
pub(super) fn log(event: &Event) {
    match &event.kind {
        EventKind::Health { node, role, from, to, reason } => {
            let node = &**node;
            match (event.severity, to) {
                (_, HealthState::Unproven) => debug!(node, %role, %from, %to, %reason, "node health changed"),
                (Severity::Info, _) => info!(node, %role, %from, %to, %reason, "node health changed"),
                (Severity::Warning, _) => warn!(node, %role, %from, %to, %reason, "node health changed"),
                (Severity::Critical, _) => {
                    error!(node, %role, %from, %to, %reason, "node health changed: check its URL");
                }
            }
        }
        // The health tells of a lag that keeps a replica out.
        EventKind::Lag { node, lag, threshold } if event.severity == Severity::Critical => {
            error!(node = &**node, ?lag, ?threshold, "replica lags far behind");
        }
        EventKind::Lag { node, lag, threshold } => {
            debug!(node = &**node, ?lag, ?threshold, "replica lags");
        }
        EventKind::LagEnded { node, threshold } => {
            debug!(node = &**node, ?threshold, "replica lags no longer");
        }
        EventKind::Unhealthy { node, time, health, reason } => {
            warn!(node = &**node, ?time, %health, %reason, "replica stays unhealthy");
        }
        EventKind::UnhealthyEnded { node } => info!(node = &**node, "replica is unhealthy no longer"),
        EventKind::NoReplica => {
            warn!("no replica is left to serve reads: the fallback policy decides");
        }
        EventKind::Replicas(replicas) => info!(replicas, "replicas serve reads"),
        EventKind::Role { node, from, to } => {
            warn!(node = &**node, %from, %to, "node is not what it was taken for");
        }
        EventKind::Limitation { node, limitation } => match event.severity {
            Severity::Info => info!(node = &**node, %limitation, "node has a limitation"),
            _ => warn!(node = &**node, %limitation, "node has a limitation"),
        },
        EventKind::LimitationEnded { node, limitation } => {
            info!(node = &**node, %limitation, "node has a limitation no longer");
        }
        EventKind::Primary { node, from: Some(from) } => {
            warn!(node = &**node, from = &**from, "writes go to another primary");
        }
        EventKind::Primary { node, from: None } => info!(node = &**node, "writes go to the primary"),
        EventKind::NoPrimary { why } => error!(%why, "writes go nowhere"),
        EventKind::SplitBrain { nodes } => {
            error!(nodes = nodes.join(", "), "split brain: several nodes are writable");
        }
        EventKind::SplitBrainEnded => info!("split brain ended: one node at most is writable"),
    }
}
