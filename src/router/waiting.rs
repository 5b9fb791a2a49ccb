//! Waiting for a node to get where a read needs it.

use super::Shared;
use super::checkout::Deadline;
use super::wanted::Wanted;
use crate::fleet::NodeId;
use crate::freshness::Target;
use crate::lsn::Lsn;
use crate::replay::Position;
use crate::topology::{Node, Seen, Topology};
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tracing::debug;

/// For so long the replica that was picked is waited for alone: most get there in less, and each one that is asked costs it work.
const HEAD_START: Duration = Duration::from_millis(2);

/// What came of waiting for a replica.
pub(super) enum Waited {
    /// This one has got there.
    Reached(Arc<Node>),
    /// There is another topology.
    Changed,
    /// Nobody is there in time.
    Expired,
    /// Not even the primary is.
    Ahead,
}

impl Shared {
    /// Waits for a replica that has replayed so far: first for one, then for whichever gets there first.
    pub(super) async fn wait_for_replay(
        &self,
        topology: &Topology,
        lsn: Lsn,
        tried: &[NodeId],
        until: Instant,
        deadline: Deadline,
    ) -> Waited {
        let waits = |seen: &Seen| {
            let started = seen.view.seen.as_ref()?.identity.started;
            Some((Arc::clone(&seen.node), started))
        };
        let serving = [topology.near(), topology.far()];
        let nodes = serving.iter().flat_map(|tier| tier.nodes()).filter(|node| !tried.contains(&node.id));
        let nodes: Vec<_> = nodes.filter_map(|node| waits(topology.seen(node)?)).collect();
        if nodes.is_empty() {
            return Waited::Expired;
        }
        if Instant::now() >= until {
            return self.expired(topology, lsn, deadline).await;
        }
        let changed = self.topology.wait_for(|latest| (!latest.serves_like(topology)).then_some(()));
        tokio::pin!(changed);
        let first = serving.iter().find_map(|tier| {
            let fit = tier.only(|node| !tried.contains(&node.id));
            fit.pick(&*topology.settings.strategy).and_then(|node| waits(topology.seen(node)?))
        });
        if let Some((node, started)) = first {
            let head_start = until.min(Instant::now() + HEAD_START);
            tokio::select! {
                biased;
                got = timeout_at(head_start, node.replay.reached(lsn, started)) => {
                    if got.is_ok() {
                        return Waited::Reached(node);
                    }
                }
                () = &mut changed => return Waited::Changed,
            }
        }
        let reached = async |node: Arc<Node>, started: i64| {
            node.replay.reached(lsn, started).await;
            node
        };
        let all = nodes.into_iter().map(|(node, started)| reached(node, started));
        let mut all: FuturesUnordered<_> = all.collect();
        let mut checked = false;
        let ahead = self.is_ahead(topology, lsn);
        tokio::pin!(ahead);
        loop {
            tokio::select! {
                biased;
                Some(node) = all.next() => return Waited::Reached(node),
                () = &mut changed => return Waited::Changed,
                is_ahead = &mut ahead, if !checked => {
                    if is_ahead {
                        return Waited::Ahead;
                    }
                    checked = true;
                }
                () = sleep_until(until) => break,
            }
        }
        if checked { Waited::Expired } else { self.expired(topology, lsn, deadline).await }
    }

    /// Before the primary has to serve the read.
    async fn expired(&self, topology: &Topology, lsn: Lsn, deadline: Deadline) -> Waited {
        let limit = topology.settings.probe_timeout.min(deadline.left());
        let is_ahead = timeout(limit, self.is_ahead(topology, lsn)).await.unwrap_or(false);
        if is_ahead { Waited::Ahead } else { Waited::Expired }
    }

    /// Whether the primary itself, asked now, has not come so far. Such a token is no commit's: nobody waits for it, and the primary
    /// is not burdened with it.
    async fn is_ahead(&self, topology: &Topology, lsn: Lsn) -> bool {
        let Ok(primary) = topology.primary() else { return false };
        let is_behind = |position: Position| position.inserted < lsn;
        let replay = &primary.node.replay;
        if !replay.latest().is_none_or(is_behind) {
            return false;
        }
        let position = replay.asked_after(Instant::now()).await;
        !position.in_recovery && is_behind(position)
    }

    /// A replica may have shown what its primary does not show yet: waits until it does, up to the causal wait.
    pub(super) async fn until_shown(&self, wanted: &Wanted, primary: &Node, deadline: Deadline) {
        let topology = self.topology.load();
        if let Ok(Some(Target::At(lsn))) = self.target(&topology, wanted) {
            let longest = topology.settings.causal_wait.min(deadline.left());
            if timeout(longest, primary.replay.shows(lsn)).await.is_err() {
                debug!(node = &*primary.name, "does not show in time what replicas may have shown");
            }
        }
    }
}
