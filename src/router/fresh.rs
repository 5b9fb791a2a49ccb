//! Reads that ask for more than a healthy replica.

use super::Shared;
use super::checkout::{AtOnce, Deadline, Tried, describe, each_node};
use super::waiting::Waited;
use super::wanted::{Sample, Wanted};
use crate::error::{Error, InvalidToken};
use crate::fleet::NodeId;
use crate::freshness::{CausalToken, History, Mismatch, Target};
use crate::lsn::Lsn;
use crate::pool::{CheckoutError, Lease};
use crate::replay::Position;
use crate::topology::{Fallback, Node, Topology};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::debug;

impl Shared {
    /// A connection to a replica that is known to be fresh enough, without waiting for anything.
    pub(super) fn try_fresh<'t>(&self, topology: &'t Topology, wanted: &Wanted) -> AtOnce<'t> {
        let target = match (wanted.after, &topology.history) {
            (after, _) if wanted.latest || wanted.off_replicas && after.is_none() => {
                let node = &topology.primary().map_err(|_| None)?.node;
                let lease = node.reads.try_checkout().filter(|lease| !lease.opened().on_standby);
                return Ok((node, lease.ok_or(None)?));
            }
            _ if wanted.off_replicas => return Err(None),
            (None, _) => None,
            (Some(token), Some(history)) => match history.target(&token).map_err(|_| None)? {
                Target::At(lsn) => Some(lsn),
                Target::Primary => return Err(None),
            },
            (Some(_), None) => return Err(None),
        };
        let now = Instant::now();
        let position = |node: &Node| wanted.shown_by(topology.seen(node)?, target, now);
        let fit = topology.near().only(|node| position(node).is_some());
        let node = fit.pick(&*topology.settings.strategy).and_then(|node| topology.near().find(node));
        let node = node.ok_or(None)?;
        let lease = position(node)
            .and_then(|known| node.reads.try_checkout().filter(|lease| lease.opened().at <= known.asked_at));
        Ok((node, lease.ok_or(Some(node))?))
    }

    /// Tries replicas that are known to be fresh enough, waits for one that gets there, and goes to the primary in the end.
    /// Begins with the one that was picked; `avoid` is not tried.
    pub(super) async fn read_fresh(
        &self,
        wanted: Wanted,
        first: Option<Arc<Node>>,
        avoid: Option<&Node>,
        deadline: Deadline,
    ) -> Result<(Arc<Node>, Lease), Error> {
        if wanted.latest {
            return self.on_primary(deadline, |primary| &primary.node.reads).await;
        }
        if wanted.off_replicas {
            return self.read_off_replicas(&wanted, deadline).await;
        }
        let (mut wanted, mut first) = (wanted, first);
        let mut tried: Vec<NodeId> = avoid.into_iter().map(|node| node.id).collect();
        loop {
            let topology = self.topology.load_full();
            let until = deadline.at.min(deadline.started + topology.settings.causal_wait);
            let target = match self.target(&topology, &wanted) {
                Ok(Some(Target::Primary)) => match self.token_of_now(&topology, until).await {
                    Some(token) => {
                        wanted.after = Some(token);
                        continue;
                    }
                    None => break,
                },
                Ok(Some(Target::At(lsn))) => Some(lsn),
                Ok(None) => None,
                Err(error) => {
                    // A promotion may be on its way here.
                    let patience = deadline.at.min(deadline.started + topology.settings.probe_interval * 2);
                    if error.is_unavailable() && self.until_history_changed(&topology, patience).await? {
                        continue;
                    }
                    return Err(error);
                }
            };
            match self.take_fresh(&topology, &wanted, target, first.take(), &mut tried, deadline).await? {
                Tried::Got(node, lease) => return Ok((node, lease)),
                // The newer topology is there already; should it not be, nobody is kept waiting.
                Tried::Outdated => tokio::task::yield_now().await,
                Tried::Nobody(_) => {
                    if wanted.sampled.is_none() && wanted.within.is_some_and(|longest| !longest.is_zero()) {
                        wanted.sampled = self.sample(&topology, until).await;
                    }
                    let sampled = wanted.sampled.map(|sample| sample.lsn);
                    let waited = match target.max(sampled) {
                        // However far a replica has come, nothing shows how recent that is.
                        _ if wanted.within.is_some() && sampled.is_none() => Waited::Expired,
                        Some(lsn) => {
                            let until = wanted.until(until);
                            self.wait_for_replay(&topology, lsn, &tried, until, deadline).await
                        }
                        None => Waited::Expired,
                    };
                    match waited {
                        Waited::Reached(node) => first = Some(node),
                        Waited::Changed => {}
                        Waited::Expired => break,
                        Waited::Ahead => return Err(InvalidToken::Ahead.into()),
                    }
                }
            }
            if deadline.has_passed() {
                break;
            }
        }
        self.fall_back(&wanted, deadline).await
    }

    pub(super) fn target(&self, topology: &Topology, wanted: &Wanted) -> Result<Option<Target>, Error> {
        let Some(token) = wanted.after else { return Ok(None) };
        // Whatever it is, the one that turns out to be the primary has it.
        let Some(history) = topology.history else { return Ok(Some(Target::Primary)) };
        match history.target(&token) {
            Ok(target) => Ok(Some(target)),
            Err(Mismatch::OtherCluster) => Err(InvalidToken::OtherCluster.into()),
            Err(Mismatch::NewerTimeline(timeline)) => Err(InvalidToken::NewerTimeline { timeline }.into()),
        }
    }

    /// A token of all that has been committed, whose position the primary is asked for: for one without a position, which all may
    /// have who come with one. Not from a server that never told.
    pub(super) async fn token_of_now(&self, topology: &Topology, until: Instant) -> Option<CausalToken> {
        let History { system, timeline, .. } = topology.history.filter(|_| topology.serving() > 0)?;
        let replay = &topology.primary().ok()?.node.replay;
        replay.latest()?;
        let position = timeout_at(until, replay.asked_after(Instant::now())).await.ok()?;
        (!position.in_recovery).then(|| CausalToken::new(system, timeline, Some(position.inserted)))
    }

    /// Asks the primary where it is: a position that a replica can be waited for, since to have got there shows that it is recent.
    async fn sample(&self, topology: &Topology, until: Instant) -> Option<Sample> {
        let replay = &topology.primary().ok()?.node.replay;
        let position = timeout_at(until, replay.asked_after(Instant::now())).await.ok()?;
        let Position { in_recovery, lsn, asked_at, .. } = position;
        (!in_recovery).then_some(Sample { lsn, asked_at })
    }

    async fn until_history_changed(&self, topology: &Topology, until: Instant) -> Result<bool, Error> {
        let changed = |latest: &Topology| *self.stop.borrow() || latest.history != topology.history;
        let changed = self.topology.wait_for(|latest| changed(latest).then_some(()));
        let changed = timeout_at(until, changed).await.is_ok();
        self.outdated()?;
        Ok(changed)
    }

    /// A connection to one of the replicas that are known to be fresh enough.
    async fn take_fresh(
        &self,
        topology: &Topology,
        wanted: &Wanted,
        target: Option<Lsn>,
        mut first: Option<Arc<Node>>,
        tried: &mut Vec<NodeId>,
        deadline: Deadline,
    ) -> Result<Tried, Error> {
        let position = |node: &Node| wanted.shown_by(topology.seen(node)?, target, Instant::now());
        let mut failed = None;
        for tier in [topology.near(), topology.far()] {
            loop {
                let fit = tier.only(|node| !tried.contains(&node.id) && position(node).is_some());
                // To pick once more would give some twice the share of others.
                let picked = first.take().filter(|node| fit.find(node).is_some());
                let node = picked.or_else(|| fit.pick(&*topology.settings.strategy).cloned());
                let Some(node) = node else { break };
                let Some(known) = position(&node) else { break };
                let left = topology.serving().saturating_sub(tried.len()) + 1;
                let dial = deadline.left() / left as u32;
                let taken = tokio::select! {
                    biased;
                    () = self.topology.left_service(&node) => return self.outdated(),
                    taken = self.checkout(&node.reads, topology, deadline, dial) => taken,
                };
                match taken {
                    Ok(lease) => {
                        let limit = topology.settings.probe_timeout.min(dial);
                        if self.is_fresh(wanted, target, &node, &lease, known, limit).await {
                            return Ok(Tried::Got(node, lease));
                        }
                    }
                    Err(CheckoutError::Closed) => return self.outdated(),
                    Err(error @ CheckoutError::Exhausted) => return Err(describe(error, &node, deadline)),
                    Err(error) => {
                        let error = describe(error, &node, deadline);
                        debug!(node = &*node.name, %error, "trying another node");
                        failed = Some(error);
                    }
                }
                tried.push(node.id);
            }
        }
        Ok(Tried::Nobody(failed))
    }

    /// Whether what is known of the node still holds for this connection: not if the wait for it has taken too long, and not if it
    /// leads to a process that began after the node had been asked.
    async fn is_fresh(
        &self,
        wanted: &Wanted,
        target: Option<Lsn>,
        node: &Node,
        lease: &Lease,
        known: Position,
        limit: Duration,
    ) -> bool {
        if lease.opened().at > known.asked_at {
            let Ok(answer) = timeout(limit, node.replay.asked_after(lease.opened().at)).await else {
                return false;
            };
            let same = answer.in_recovery && answer.started == known.started;
            if !same || answer.lsn < target.unwrap_or(known.lsn) {
                return false;
            }
        }
        let latest = self.topology.load();
        let seen = latest.seen(node);
        wanted.within.is_none()
            || seen.is_some_and(|seen| wanted.shown_by(seen, None, Instant::now()).is_some())
    }

    /// Serves a read that may not use replicas: as if there were none, whatever the policy says.
    async fn read_off_replicas(
        &self,
        wanted: &Wanted,
        deadline: Deadline,
    ) -> Result<(Arc<Node>, Lease), Error> {
        let (node, lease) = self.on_primary(deadline, |primary| &primary.node.reads).await?;
        self.target(&self.topology.load(), wanted)?;
        self.until_shown(wanted, &node, deadline).await;
        Ok((node, lease))
    }

    /// Serves a read that no replica is fresh enough for, as the policy has it.
    async fn fall_back(&self, wanted: &Wanted, deadline: Deadline) -> Result<(Arc<Node>, Lease), Error> {
        let topology = self.topology.load_full();
        if !topology.has_replicas() {
            return self.on_primary(deadline, |primary| &primary.node.reads).await;
        }
        if topology.settings.fallback == Fallback::Primary {
            let (node, lease) = self.on_primary(deadline, |primary| &primary.node.reads).await?;
            node.traffic.fallbacks.add();
            self.until_shown(wanted, &node, deadline).await;
            return Ok((node, lease));
        }
        let target = self.target(&topology, wanted)?;
        // Where only the primary will do, no replica does.
        if let Some(node) = topology.fallback().filter(|_| target != Some(Target::Primary)) {
            let target = match target {
                Some(Target::At(lsn)) => Some(lsn),
                _ => None,
            };
            let known = topology.seen(node).and_then(|seen| wanted.shown_by(seen, target, Instant::now()));
            if let Some(known) = known {
                let taken = self.checkout(&node.reads, &topology, deadline, deadline.left()).await;
                let lease = taken.map_err(|error| describe(error, node, deadline))?;
                let limit = topology.settings.probe_timeout.min(deadline.left());
                if self.is_fresh(wanted, target, node, &lease, known, limit).await {
                    node.traffic.fallbacks.add();
                    return Ok((Arc::clone(node), lease));
                }
            }
        }
        let waited = deadline.started.elapsed();
        Err(Error::NotFreshEnough { waited, nodes: each_node(&topology) })
    }
}
