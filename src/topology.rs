//! Which nodes there are, what is known of them, and how to use them: one immutable snapshot, replaced as a whole.

use crate::endpoint::Endpoint;
use crate::fleet::{NoPrimary, NodeId, NodeView, Role, Service};
use crate::freshness::History;
use crate::health::HealthState;
use crate::pool::{Access, Pool, PoolPolicy};
use crate::replay::Replay;
use crate::traffic::Traffic;
use arc_swap::{ArcSwap, Guard};
use std::sync::Arc;
use tokio::sync::watch;
use tokio::time::Instant;

mod serving;
mod settings;
mod subset;

pub(crate) use serving::Serving;
pub use settings::Fallback;
pub(crate) use settings::Settings;
pub(crate) use subset::Subset;

/// One node and its connections for reading.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) name: Arc<str>,
    pub(crate) endpoint: Endpoint,
    pub(crate) pools: PoolPolicy,
    pub(crate) traffic: Arc<Traffic>,
    pub(crate) reads: Pool,
    /// How far its server has come.
    pub(crate) replay: Arc<Replay>,
}

/// The node that takes the writes, for one term: when writes go elsewhere, be it for a moment, its pool is closed for good. Reads
/// that fall back to the primary never take from it, unless all have one pool.
#[derive(Debug)]
pub(crate) struct Primary {
    pub(crate) node: Arc<Node>,
    pub(crate) writes: Pool,
}

/// How a node is listed.
#[derive(Debug, Clone)]
pub(crate) struct Listing {
    pub(crate) by: Origin,
    pub(crate) role: Role,
    pub(crate) weight: u32,
    pub(crate) zone: Option<Arc<str>>,
    /// Other than the configured one.
    pub(crate) pool_size: Option<u32>,
}

/// Who has listed a node, and may take it off again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    Configuration,
    /// A source of discovery, by number.
    Discovery(usize),
}

/// A node with what is known of it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) node: Arc<Node>,
    pub(crate) listing: Listing,
    pub(crate) view: NodeView,
}

impl Seen {
    /// A node of which nothing is known yet.
    pub(crate) fn unproven(node: Arc<Node>, listing: Listing) -> Self {
        let view = NodeView::unproven(node.id, listing.role);
        Self { node, listing, view }
    }
}

impl Node {
    /// The same node with new pools.
    pub(crate) fn reopened(&self, pools: PoolPolicy) -> Self {
        let Self { id, name, endpoint, traffic, replay, .. } = self;
        let (name, traffic, replay) = (Arc::clone(name), Arc::clone(traffic), Arc::clone(replay));
        Self::new(*id, name, endpoint.clone(), pools, traffic, replay)
    }

    /// Opens no connection yet. Must be called within a tokio runtime.
    pub(crate) fn new(
        id: NodeId,
        name: Arc<str>,
        endpoint: Endpoint,
        pools: PoolPolicy,
        traffic: Arc<Traffic>,
        replay: Arc<Replay>,
    ) -> Self {
        let access = Access::ReadOnly;
        let reads = Pool::new(Arc::clone(&name), endpoint.clone(), access, pools, Arc::clone(&traffic));
        Self { id, name, endpoint, pools, traffic, reads, replay }
    }
}

impl Primary {
    /// Opens no connection yet. Must be called within a tokio runtime.
    pub(crate) fn new(node: Arc<Node>) -> Self {
        let writes = if node.pools.common {
            node.reads.for_writes()
        } else {
            let (name, traffic) = (Arc::clone(&node.name), Arc::clone(&node.traffic));
            Pool::new(name, node.endpoint.clone(), Access::ReadWrite, node.pools, traffic)
        };
        Self { node, writes }
    }
}

/// The latest topology.
#[derive(Debug)]
pub(crate) struct Latest {
    topology: ArcSwap<Topology>,
    /// Signalled when requests are to go elsewhere than before, not at every probe.
    changed: watch::Sender<()>,
}

/// What the router knows at one moment. Only the monitor makes one.
#[derive(Debug)]
pub(crate) struct Topology {
    /// In the order of the configuration, the node that it takes for the primary first.
    nodes: Vec<Seen>,
    pub(crate) settings: Arc<Settings>,
    primary: Result<Arc<Primary>, NoPrimary>,
    /// What the primary writes, or wrote when it answered last.
    pub(crate) history: Option<History>,
    near: Serving,
    far: Serving,
    spare: Serving,
    has_replicas: bool,
    fallback: Option<Arc<Node>>,
}

impl Latest {
    pub(crate) fn new(topology: Topology) -> Self {
        Self { topology: ArcSwap::from_pointee(topology), changed: watch::Sender::new(()) }
    }

    pub(crate) fn load_full(&self) -> Arc<Topology> {
        self.topology.load_full()
    }

    pub(crate) fn load(&self) -> Guard<Arc<Topology>> {
        self.topology.load()
    }

    /// Replaces the topology, and returns the one before.
    pub(crate) fn publish(&self, topology: Topology) -> Arc<Topology> {
        let topology = Arc::new(topology);
        let before = self.topology.swap(Arc::clone(&topology));
        if !before.routes_like(&topology) {
            self.changed.send_replace(());
        }
        before
    }

    /// Lets those that wait for another topology look again.
    pub(crate) fn wake(&self) {
        self.changed.send_replace(());
    }

    /// Waits for a topology of which something is so, and returns what.
    pub(crate) async fn wait_for<T>(&self, found: impl Fn(&Topology) -> Option<T>) -> T {
        let mut changed = self.changed.subscribe();
        loop {
            if let Some(found) = found(&self.load()) {
                return found;
            }
            // The sender is here, so it is not gone.
            let _ = changed.changed().await;
        }
    }

    /// Waits until the node may not serve.
    pub(crate) async fn left_service(&self, node: &Node) {
        self.wait_for(|topology| topology.serving_node(node).is_none().then_some(())).await;
    }

    /// Waits until the node may not even serve for want of any other.
    pub(crate) async fn left_for_good(&self, node: &Node) {
        let serves = |topology: &Topology| {
            let last = topology.fallback().is_some_and(|last| last.id == node.id);
            last || topology.serving_node(node).is_some()
        };
        self.wait_for(|topology| (!serves(topology)).then_some(())).await;
    }

    /// Waits until the node must not take writes: it does not answer, or another one was promoted.
    pub(crate) async fn deposed(&self, node: &Node) {
        let takes = |topology: &Topology| topology.is_reachable(node) && !topology.is_refused(node);
        self.wait_for(|topology| (!takes(topology)).then_some(())).await;
    }

    /// Waits until the node is known not to answer, or is one of ours no more.
    pub(crate) async fn lost(&self, node: &Node) {
        self.wait_for(|topology| (!topology.is_reachable(node)).then_some(())).await;
    }
}

impl Topology {
    pub(crate) fn new(
        nodes: Vec<Seen>,
        primary: Result<Arc<Primary>, NoPrimary>,
        settings: Arc<Settings>,
        history: Option<History>,
        now: Instant,
    ) -> Self {
        let is_near = |seen: &&Seen| settings.zone.is_none() || seen.listing.zone == settings.zone;
        let serves = |seen: &&Seen| seen.view.serves == Service::Yes && seen.listing.weight > 0;
        let serving: Vec<_> = nodes.iter().filter(serves).collect();
        let (mut near, mut far): (Vec<_>, Vec<_>) = serving.iter().copied().partition(is_near);
        if near.len() < settings.min_zone_replicas {
            (near, far) = (serving, vec![]);
        }
        let mut spare = vec![];
        if let Some(subset) = settings.subset {
            let (first, others) = subset.split(near, |seen| &seen.node.name);
            (far, spare) = subset.less(first.len()).split(far, |seen| &seen.node.name);
            (near, spare) = (first, [others, spare].concat());
        }
        let serving = |tier: Vec<_>| Serving::new(tier.into_iter(), settings.slow_start, now);
        let [near, far, spare] = [near, far, spare].map(serving);
        let has_replicas = nodes.iter().any(|seen| seen.view.role == Role::Replica);
        let topology =
            Self { nodes, settings, primary, history, near, far, spare, has_replicas, fallback: None };
        Self { fallback: topology.last_resort().cloned(), ..topology }
    }

    pub(crate) fn nodes(&self) -> &[Seen] {
        &self.nodes
    }

    /// Closes all of its pools, for good.
    pub(crate) fn close(&self) {
        self.nodes.iter().for_each(|seen| seen.node.reads.close());
        if let Ok(primary) = &self.primary {
            primary.writes.close();
        }
    }

    /// Where writes go.
    pub(crate) fn primary(&self) -> Result<&Arc<Primary>, NoPrimary> {
        self.primary.as_ref().map_err(|why| *why)
    }

    /// The replicas to read from.
    pub(crate) fn near(&self) -> &Serving {
        &self.near
    }

    /// The replicas to read from when all of those have failed.
    pub(crate) fn far(&self) -> &Serving {
        &self.far
    }

    /// The replicas outside the subset that this router reads from: they stand in where all of it has failed.
    pub(crate) fn spare(&self) -> &Serving {
        &self.spare
    }

    /// The node for reads that no replica can serve, as the policy has it.
    pub(crate) fn fallback(&self) -> Option<&Arc<Node>> {
        self.fallback.as_ref()
    }

    fn last_resort(&self) -> Option<&Arc<Node>> {
        // Without replicas there is nothing to fall back from.
        let alone = !self.has_replicas;
        match self.settings.fallback {
            Fallback::LeastLagged if !alone => self
                .nodes
                .iter()
                .find(|seen| seen.view.serves == Service::AsLastResort)
                .map(|seen| &seen.node),
            Fallback::Fail if !alone => None,
            _ => match &self.primary {
                Ok(primary) => Some(&primary.node),
                // Nothing speaks against the one that the configuration names, unless it is being removed.
                Err(NoPrimary::NotYetKnown) => {
                    let mut stays =
                        self.nodes.iter().filter(|seen| seen.view.health != HealthState::Draining);
                    stays.next().map(|seen| &seen.node)
                }
                Err(_) => None,
            },
        }
    }

    /// How many replicas may serve a read.
    pub(crate) fn serving(&self) -> usize {
        self.near.len() + self.far.len() + self.spare.len()
    }

    /// The node, if it may serve a read.
    pub(crate) fn serving_node(&self, node: &Node) -> Option<&Arc<Node>> {
        [&self.near, &self.far, &self.spare].into_iter().find_map(|tier| tier.find(node))
    }

    /// The node and what is known of it.
    pub(crate) fn seen(&self, node: &Node) -> Option<&Seen> {
        self.nodes.iter().find(|seen| seen.node.id == node.id)
    }

    /// Whether there is any replica to read from, healthy or not.
    pub(crate) fn has_replicas(&self) -> bool {
        self.has_replicas
    }

    fn is_reachable(&self, node: &Node) -> bool {
        self.seen(node).is_some_and(|seen| seen.view.answers)
    }

    fn is_refused(&self, node: &Node) -> bool {
        self.seen(node).is_some_and(|seen| seen.view.refused)
    }

    /// Whether writes go to the same node, for the same term, or nowhere for the same reason.
    pub(crate) fn writes_like(&self, other: &Self) -> bool {
        match (&self.primary, &other.primary) {
            (Ok(one), Ok(two)) => Arc::ptr_eq(one, two),
            (Err(one), Err(two)) => one == two,
            _ => false,
        }
    }

    /// Whether reads go to the same replicas of the same history.
    pub(crate) fn serves_like(&self, other: &Self) -> bool {
        let ids = |topology: &Self| {
            [&topology.near, &topology.far]
                .map(|tier| tier.nodes().iter().map(|node| node.id).collect::<Vec<_>>())
        };
        self.history == other.history && ids(self) == ids(other)
    }

    /// Whether a request that waits would not do better with the other one.
    fn routes_like(&self, other: &Self) -> bool {
        let same = |(one, two): (&Seen, &Seen)| {
            Arc::ptr_eq(&one.node, &two.node)
                && one.view.serves == two.view.serves
                && one.view.answers == two.view.answers
                && one.view.refused == two.view.refused
                && (one.listing.weight == 0) == (two.listing.weight == 0)
        };
        let fallback = |topology: &Self| topology.fallback().map(|node| node.id);
        self.writes_like(other)
            && self.history == other.history
            && fallback(self) == fallback(other)
            && self.nodes.len() == other.nodes.len()
            && self.nodes.iter().zip(&other.nodes).all(same)
    }
}
