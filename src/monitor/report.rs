//! Tells of what has changed: one event a change.

use crate::fleet::{Change, NodeId, Role};
use crate::health::{HealthState, Reason};
use std::sync::Arc;
use tracing::{debug, error, info, warn};

pub(super) fn report(change: &Change, of: impl Fn(NodeId) -> (Arc<str>, Role)) {
    let name = |node| of(node).0;
    match change {
        Change::Health(node, transition) => {
            let (name, role) = of(*node);
            let node = &*name;
            let (from, to, reason) = (transition.from, transition.to, &transition.reason);
            match (to, reason) {
                (HealthState::Unproven, _) => debug!(node, %role, %from, %to, %reason, "node health changed"),
                (HealthState::Healthy | HealthState::Draining, _) => {
                    info!(node, %role, %from, %to, %reason, "node health changed");
                }
                (_, Reason::ForeignCluster { .. }) => {
                    error!(node, %role, %from, %to, %reason, "node health changed: check its URL");
                }
                _ => warn!(node, %role, %from, %to, %reason, "node health changed"),
            }
        }
        Change::Role { node, from, to } => {
            warn!(node = &*name(*node), %from, %to, "node is not what it was taken for");
        }
        Change::Limitation { node, limitation, began } => {
            let node = &*name(*node);
            match (began, limitation.is_usual()) {
                (true, true) => info!(node, %limitation, "node has a limitation"),
                (true, false) => warn!(node, %limitation, "node has a limitation"),
                (false, _) => info!(node, %limitation, "node has a limitation no longer"),
            }
        }
        Change::Writer { node, from: Some(from) } => {
            warn!(node = &*name(*node), from = &*name(*from), "writes go to another primary");
        }
        Change::Writer { node, from: None } => info!(node = &*name(*node), "writes go to the primary"),
        Change::NoWriter(why) => error!(%why, "writes go nowhere"),
        Change::SplitBrain(nodes) => {
            let nodes: Vec<_> = nodes.iter().map(|node| name(*node)).collect();
            error!(nodes = nodes.join(", "), "split brain: several nodes are writable");
        }
        Change::SplitBrainEnded => info!("split brain ended: one node at most is writable"),
    }
}

/// Tells when the first replica serves, and when the last one does not any more.
pub(super) fn report_serving(before: usize, now: usize) {
    match (before, now) {
        (0, 1..) => info!(replicas = now, "replicas serve reads"),
        (1.., 0) => warn!("no replica is left to serve reads: the fallback policy decides"),
        _ => {}
    }
}
