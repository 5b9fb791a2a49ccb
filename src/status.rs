//! What the router tells of its nodes.

use crate::fleet::Role;
use crate::health::{HealthState, Lag, Reason};
use crate::limitation::Limitation;
use crate::observation::Receiver;
use crate::rollout::{Rollout, ShadowStatus};
use crate::topology::{Seen, Topology};

/// Every node as the router sees it: see [`Router::status`](crate::Router::status).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Status {
    /// The nodes in the order of the configuration, then those that were added.
    pub nodes: Vec<NodeStatus>,
    /// Why no node takes writes, if none does.
    pub no_primary: Option<String>,
    /// Which reads may use replicas.
    pub rollout: Rollout,
    /// What has come of reads that ran on a replica beside the primary.
    pub shadow: ShadowStatus,
}

/// One node as the router sees it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct NodeStatus {
    /// The configured name, or `host:port`.
    pub name: String,
    /// What the node is: as observed, and until it has answered as configured.
    pub role: Role,
    /// Its health, as far as routing is concerned.
    pub health: HealthState,
    /// Why its health is what it is.
    pub reason: Reason,
    /// Whether reads go to it, other than for want of anybody else: its health allows it, its weight is not 0, no nearer zone
    /// has enough replicas, and it is not [spare](Self::spare).
    pub serves_reads: bool,
    /// Whether it would serve reads, but is not of the [subset](crate::RouterBuilder::read_subset) that this router reads from.
    pub spare: bool,
    /// Whether writes go to it.
    pub serves_writes: bool,
    /// Its share of reads relative to the others.
    pub weight: u32,
    /// Where it is, if that was said.
    pub zone: Option<String>,
    /// How far it was behind at the last probe; `None` for the primary and for a node that did not answer.
    pub lag: Option<Lag>,
    /// The timeline that it was on when it answered last, as far as it tells.
    pub timeline: Option<u32>,
    /// The server's version when it answered last, as in 150018 for 15.18.
    pub version: Option<u32>,
    /// Whether its replay was paused when it answered last; `None` where it does not tell, and for a primary.
    pub replay_paused: Option<bool>,
    /// Whether it received log when it answered last; `None` where it does not tell, and for a primary.
    pub receiver: Option<Receiver>,
    /// What it did not do or tell when it answered last, so that routing does without.
    pub limitations: Vec<Limitation>,
    /// Handles that are out.
    pub in_flight: usize,
    /// Handles for reading given out so far.
    pub reads: u64,
    /// Handles for writing given out so far.
    pub writes: u64,
    /// Calls that the node answered, be it with an error of the caller's own making.
    pub answered: u64,
    /// Calls and attempts to connect that the node itself failed.
    pub failed: u64,
}

impl Status {
    pub(crate) fn of(topology: &Topology, rollout: Rollout, shadow: ShadowStatus) -> Self {
        Self {
            nodes: topology.nodes().iter().map(|seen| NodeStatus::of(seen, topology)).collect(),
            no_primary: topology.primary().err().map(|why| why.to_string()),
            rollout,
            shadow,
        }
    }
}

impl NodeStatus {
    pub(crate) fn of(seen: &Seen, topology: &Topology) -> Self {
        let Seen { node, listing, view } = seen;
        let primary = topology.primary().ok().filter(|primary| primary.node.id == node.id);
        let tally = node.traffic.tally();
        let last = view.seen.as_ref();
        let (near, far) = (topology.near(), topology.far());
        Self {
            name: node.name.to_string(),
            role: view.role,
            health: view.health,
            reason: view.reason.clone(),
            serves_reads: near.find(node).is_some() || near.len() == 0 && far.find(node).is_some(),
            spare: topology.spare().find(node).is_some(),
            serves_writes: primary.is_some(),
            weight: listing.weight,
            zone: listing.zone.as_deref().map(str::to_owned),
            lag: view.lag,
            timeline: last.and_then(|seen| seen.timeline),
            version: last.map(|seen| seen.version),
            replay_paused: last.and_then(|seen| seen.standby.replay_paused),
            receiver: last.and_then(|seen| seen.standby.receiver),
            limitations: last.map(|seen| seen.limitations.clone()).unwrap_or_default(),
            in_flight: node.traffic.in_flight().value(),
            reads: node.traffic.handles(false).value(),
            writes: node.traffic.handles(true).value(),
            answered: tally.answered,
            failed: tally.failed,
        }
    }
}
