//! What the router tells of its nodes.

use crate::health::{HealthState, Lag, Reason};
use crate::topology::{Role, Seen, Topology};

/// Every node as the router sees it, the primary first: see [`Router::status`](crate::Router::status).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Status {
    /// The nodes: the primary, then the replicas in the order of the configuration.
    pub nodes: Vec<NodeStatus>,
}

/// One node as the router sees it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct NodeStatus {
    /// The configured name, or `host:port`.
    pub name: String,
    /// What the node is to the router.
    pub role: Role,
    /// Whether it may serve.
    pub health: HealthState,
    /// Why its health is what it is.
    pub reason: Reason,
    /// How far it was behind at the last probe; `None` for the primary and for a node that did not answer.
    pub lag: Option<Lag>,
    /// Handles that are out.
    pub in_flight: usize,
    /// Handles for reading given out so far.
    pub reads: u64,
    /// Handles for writing given out so far.
    pub writes: u64,
}

impl Status {
    pub(crate) fn of(topology: &Topology) -> Self {
        Self { nodes: topology.nodes().iter().map(NodeStatus::of).collect() }
    }
}

impl NodeStatus {
    fn of(Seen { node, health, reason, lag }: &Seen) -> Self {
        Self {
            name: node.name.to_string(),
            role: node.role,
            health: *health,
            reason: reason.clone(),
            lag: *lag,
            in_flight: node.traffic.in_flight().value(),
            reads: node.reads.served(),
            writes: node.writes.as_ref().map_or(0, crate::pool::Pool::served),
        }
    }
}
