//! Which nodes there are and what is known of them: one immutable snapshot, replaced as a whole.

use crate::balance::{Candidate, Roster, Strategy};
use crate::health::{HealthState, Lag, Reason};
use crate::pool::Pool;
use crate::traffic::Traffic;
use arc_swap::{ArcSwap, Guard};
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// What a node is to the router.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Role {
    /// Takes the writes.
    Primary,
    /// Serves reads while it is healthy.
    Replica,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Primary => "primary",
            Self::Replica => "replica",
        })
    }
}

/// One node and its pools, for the life of the router.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) name: Arc<str>,
    pub(crate) role: Role,
    pub(crate) weight: u32,
    pub(crate) traffic: Arc<Traffic>,
    pub(crate) reads: Pool,
    /// The primary's alone; reads that fall back to the primary never take from it.
    pub(crate) writes: Option<Pool>,
}

impl Node {
    /// The pool for writes of a node that is the primary.
    pub(crate) fn writes(&self) -> &Pool {
        self.writes
            .as_ref()
            .expect("the primary is made with a pool for writes, and asked by nobody who has another node")
    }
}

/// A node with what its last probe showed.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) node: Arc<Node>,
    pub(crate) health: HealthState,
    pub(crate) reason: Reason,
    pub(crate) lag: Option<Lag>,
}

/// The latest topology.
#[derive(Debug)]
pub(crate) struct Latest {
    topology: ArcSwap<Topology>,
    /// Signalled when other nodes serve than before, not at every probe.
    changed: watch::Sender<()>,
}

/// What the router knows at one moment. Only the monitor makes one.
#[derive(Debug)]
pub(crate) struct Topology {
    /// The primary first, then the replicas in the order of the configuration.
    nodes: Vec<Seen>,
    serving: Serving,
}

/// The replicas that may serve a read.
#[derive(Debug, Clone)]
pub(crate) struct Serving {
    nodes: Vec<Arc<Node>>,
    /// Parallel to `nodes`.
    roster: Roster,
}

impl Latest {
    pub(crate) fn new(topology: Topology) -> Self {
        Self { topology: ArcSwap::from_pointee(topology), changed: watch::Sender::new(()) }
    }

    pub(crate) fn load(&self) -> Guard<Arc<Topology>> {
        self.topology.load()
    }

    /// Replaces the topology, and returns the one before.
    pub(crate) fn publish(&self, topology: Topology) -> Arc<Topology> {
        let topology = Arc::new(topology);
        let before = self.topology.swap(Arc::clone(&topology));
        if !before.serving.same_nodes(&topology.serving) {
            self.changed.send_replace(());
        }
        before
    }

    /// Waits until the node does not serve.
    pub(crate) async fn left_service(&self, node: &Arc<Node>) {
        let mut changed = self.changed.subscribe();
        while self.load().serving().contains(node) {
            // The sender is here, so it is not gone.
            let _ = changed.changed().await;
        }
    }
}

impl Topology {
    pub(crate) fn new(nodes: Vec<Seen>) -> Self {
        let serves = |seen: &&Seen| seen.node.role == Role::Replica && seen.health == HealthState::Healthy;
        let serving = Serving::new(nodes.iter().filter(serves).map(|seen| Arc::clone(&seen.node)));
        Self { nodes, serving }
    }

    pub(crate) fn nodes(&self) -> &[Seen] {
        &self.nodes
    }

    pub(crate) fn primary(&self) -> &Arc<Node> {
        &self.nodes[0].node
    }

    pub(crate) fn replicas(&self) -> &[Seen] {
        &self.nodes[1..]
    }

    pub(crate) fn serving(&self) -> &Serving {
        &self.serving
    }
}

impl Serving {
    /// A node of weight 0 serves never, not even as the last one.
    fn new(nodes: impl Iterator<Item = Arc<Node>>) -> Self {
        let now = Instant::now();
        let weighted = |node: Arc<Node>| {
            let weight = NonZeroU32::new(node.weight)?;
            let candidate = Candidate::counting(Arc::clone(&node.name), weight, Arc::clone(&node.traffic));
            Some((node, (candidate, now)))
        };
        let (nodes, items): (_, Vec<_>) = nodes.filter_map(weighted).unzip();
        Self { nodes, roster: Roster::new(items, Duration::ZERO, now) }
    }

    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    fn same_nodes(&self, other: &Self) -> bool {
        self.len() == other.len() && self.nodes.iter().all(|node| other.contains(node))
    }

    fn contains(&self, node: &Arc<Node>) -> bool {
        self.nodes.iter().any(|other| Arc::ptr_eq(other, node))
    }

    /// The node that the strategy chooses; `None` when there is none to choose from.
    pub(crate) fn pick(&self, strategy: &dyn Strategy) -> Option<&Arc<Node>> {
        let index = self.roster.pick(strategy, &mut rand::rng())?;
        self.nodes.get(index)
    }

    /// The others, for a request that found this one out of reach.
    pub(crate) fn without(&self, node: &Arc<Node>) -> Self {
        Self::new(self.nodes.iter().filter(|other| !Arc::ptr_eq(other, node)).cloned())
    }
}
