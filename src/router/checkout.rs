//! How a request that is not answered at once gets its connection, or its error.

use super::Shared;
use super::wanted::Wanted;
use crate::error::{ConnectFailure, Error};
use crate::fleet::NoPrimary;
use crate::pool::{CheckoutError, Lease, Limits, Pool};
use crate::topology::{Node, Primary, Serving, Topology};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use tracing::debug;

/// A request waits for a day at most: far enough to be never, and an instant that exists.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a write waits before it dials again a primary that could not be reached.
const REDIAL: Duration = Duration::from_millis(50);

/// When a request began, and when it has to end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline {
    pub(super) started: Instant,
    pub(super) at: Instant,
}

impl Deadline {
    pub(super) fn after(timeout: Duration) -> Self {
        let started = Instant::now();
        Self { started, at: started + timeout.min(LONGEST) }
    }

    pub(super) fn has_passed(&self) -> bool {
        self.left().is_zero()
    }

    pub(super) fn left(&self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }
}

/// What came of trying the nodes of one topology.
pub(super) enum Tried {
    Got(Arc<Node>, Lease),
    /// There is a newer topology, in which a pool is gone or a node does not serve any more.
    Outdated,
    /// None of them could be reached; the error is that of the last one, if one was tried.
    Nobody(Option<Error>),
}

/// A connection of one of a topology's nodes; or the replica whose turn it was, if there was one, which has to be waited for.
pub(super) type AtOnce<'t> = Result<(&'t Arc<Node>, Lease), Option<&'t Arc<Node>>>;

impl Shared {
    /// A connection for a read, without waiting for anything.
    pub(super) fn try_take<'t>(&self, topology: &'t Topology, wanted: &Wanted) -> AtOnce<'t> {
        if wanted.is_nothing() { self.try_read(topology) } else { self.try_fresh(topology, wanted) }
    }

    /// The same, with all waiting that it takes, beginning with the node that was picked. `avoid` is tried last, if at all;
    /// where the primary alone will do, it makes no difference.
    pub(super) async fn take(
        &self,
        wanted: Wanted,
        first: Option<Arc<Node>>,
        avoid: Option<&Node>,
        deadline: Deadline,
    ) -> Result<(Arc<Node>, Lease), Error> {
        if wanted.is_nothing() {
            return self.read(self.topology.load_full(), first, avoid, deadline).await;
        }
        match self.read_fresh(wanted, first, avoid, deadline).await {
            // There may be no other.
            Err(_) if avoid.is_some() => self.read_fresh(wanted, None, None, deadline).await,
            taken => taken,
        }
    }

    /// A connection to write with, without waiting for anything.
    pub(super) fn try_write<'t>(&self, topology: &'t Topology) -> Option<(&'t Arc<Node>, Lease)> {
        let primary = topology.primary().ok()?;
        let lease = primary.writes.try_checkout().filter(|lease| !lease.opened().on_standby)?;
        Some((&primary.node, lease))
    }

    /// A connection to the node whose turn it is, without waiting for anything.
    fn try_read<'t>(&self, topology: &'t Topology) -> AtOnce<'t> {
        let first = topology.near().pick(&*topology.settings.strategy);
        let last = || topology.fallback().filter(|_| topology.serving() == 0);
        let node = first.or_else(last).ok_or(None)?;
        let lease = node.reads.try_checkout().ok_or(first)?;
        if first.is_none() && topology.has_replicas() {
            node.traffic.fallbacks.add();
        }
        Ok((node, lease))
    }

    /// Tries one node after the other.
    async fn read(
        &self,
        topology: Arc<Topology>,
        first: Option<Arc<Node>>,
        avoid: Option<&Node>,
        deadline: Deadline,
    ) -> Result<(Arc<Node>, Lease), Error> {
        let (mut topology, mut first) = (topology, first);
        loop {
            match self.read_from(&topology, first, avoid, deadline).await? {
                Tried::Got(node, lease) => return Ok((node, lease)),
                Tried::Nobody(failed) => {
                    self.outdated()?;
                    return Err(failed.unwrap_or_else(|| no_eligible_node(&self.topology.load())));
                }
                Tried::Outdated => {
                    // The newer topology is there already; should it not be, nothing waits for it for ever, nor keeps others waiting.
                    if deadline.has_passed() {
                        return Err(no_eligible_node(&self.topology.load()));
                    }
                    tokio::task::yield_now().await;
                    topology = self.topology.load_full();
                    first = None;
                }
            }
        }
    }

    async fn read_from(
        &self,
        topology: &Topology,
        mut first: Option<Arc<Node>>,
        avoid: Option<&Node>,
        deadline: Deadline,
    ) -> Result<Tried, Error> {
        let fallback = topology.fallback();
        // What is left is shared with the nodes that may still have to be tried.
        let mut attempts = topology.serving() + usize::from(fallback.is_some());
        let mut failed = None;
        for tier in [topology.near(), topology.far(), topology.spare()] {
            let mut serving = match avoid {
                Some(avoid) => Cow::Owned(tier.without(avoid)),
                None => Cow::Borrowed(tier),
            };
            while let Some(node) = first.take().or_else(|| pick(&serving, topology)) {
                let dial = deadline.left() / attempts.max(1) as u32;
                attempts = attempts.saturating_sub(1);
                let taken = tokio::select! {
                    biased;
                    // It may have left while the nodes before it were tried, or while one of its connections was waited for.
                    () = self.topology.left_service(&node) => {
                        debug!(node = &*node.name, "left service while a request waited: trying another node");
                        return self.outdated();
                    }
                    taken = self.checkout(&node.reads, topology, deadline, dial) => taken,
                };
                match taken {
                    Ok(lease) => return Ok(Tried::Got(node, lease)),
                    Err(CheckoutError::Closed) => return self.outdated(),
                    Err(error @ CheckoutError::Exhausted) => return Err(describe(error, &node, deadline)),
                    Err(error) => {
                        let error = describe(error, &node, deadline);
                        debug!(node = &*node.name, %error, "trying another node");
                        failed = Some(error);
                    }
                }
                serving = Cow::Owned(serving.without(&node));
            }
        }
        let last = fallback.filter(|node| avoid.is_none_or(|avoid| avoid.id != node.id));
        let again = || avoid.and_then(|avoid| topology.serving_node(avoid));
        let Some(node) = last.or_else(again).or(fallback) else { return Ok(Tried::Nobody(failed)) };
        let taken = tokio::select! {
            biased;
            () = self.topology.left_for_good(node) => return self.outdated(),
            taken = self.checkout(&node.reads, topology, deadline, deadline.left()) => taken,
        };
        match taken {
            Ok(lease) => {
                if topology.has_replicas() && topology.serving_node(node).is_none() {
                    node.traffic.fallbacks.add();
                }
                Ok(Tried::Got(Arc::clone(node), lease))
            }
            Err(CheckoutError::Closed) => self.outdated(),
            Err(error) => Err(describe(error, node, deadline)),
        }
    }

    /// A connection of one of the primary's pools: of one for writes, or of one for reads that must not be stale.
    pub(super) async fn on_primary(
        &self,
        deadline: Deadline,
        pool: impl Fn(&Primary) -> &Pool,
    ) -> Result<(Arc<Node>, Lease), Error> {
        let mut failed = None;
        // Until when to wait for somebody who takes writes, once nobody does.
        let mut patience = None;
        loop {
            let topology = self.topology.load_full();
            let mut patience = || {
                let wait = topology.settings.probe_interval * 2;
                *patience.get_or_insert_with(|| deadline.at.min(Instant::now() + wait))
            };
            let primary = match topology.primary() {
                Ok(primary) => primary,
                Err(why) => {
                    // Right after the start the answer is not far.
                    let until = if why == NoPrimary::NotYetKnown { deadline.at } else { patience() };
                    if self.until_changed(&topology, until).await? {
                        continue;
                    }
                    return Err(failed.unwrap_or_else(|| no_primary(&self.topology.load(), why)));
                }
            };
            let taken = tokio::select! {
                biased;
                taken = self.checkout(pool(primary), &topology, deadline, deadline.left()) => taken,
                () = self.ended(primary) => Err(CheckoutError::Closed),
            };
            let error = match taken {
                Ok(lease) if !lease.opened().on_standby => return Ok((Arc::clone(&primary.node), lease)),
                // It was one when the connection was opened, and if that was just now it has become one.
                Ok(lease) => {
                    lease.condemn();
                    if lease.opened().at < deadline.started {
                        continue;
                    }
                    primary.node.traffic.suspect();
                    no_primary(&topology, NoPrimary::NobodyWritable)
                }
                Err(CheckoutError::Closed) => {
                    self.outdated()?;
                    // The newer topology is there already; should it not be, nothing waits for it for ever, nor keeps others waiting.
                    if deadline.has_passed() {
                        return Err(no_primary(&self.topology.load(), NoPrimary::NotYetKnown));
                    }
                    tokio::task::yield_now().await;
                    continue;
                }
                Err(error @ CheckoutError::Exhausted) => {
                    return Err(describe(error, &primary.node, deadline));
                }
                Err(error) => describe(error, &primary.node, deadline),
            };
            let (now, patience) = (Instant::now(), patience());
            if now >= patience {
                return Err(failed.unwrap_or(error));
            }
            self.until_changed(&topology, patience.min(now + REDIAL)).await?;
            failed = failed.or(Some(error));
        }
    }

    pub(super) async fn checkout(
        &self,
        pool: &Pool,
        topology: &Topology,
        deadline: Deadline,
        dial: Duration,
    ) -> Result<Lease, CheckoutError> {
        let dial = dial.min(topology.settings.pools.connect_timeout);
        pool.checkout(Limits { deadline: deadline.at, dial }).await
    }

    /// Whether writes may go elsewhere than in this topology, which is waited for until then.
    pub(super) async fn until_changed(&self, topology: &Topology, until: Instant) -> Result<bool, Error> {
        let changed = |latest: &Topology| *self.stop.borrow() || !latest.writes_like(topology);
        let changed = self.topology.wait_for(|latest| changed(latest).then_some(()));
        let changed = timeout_at(until, changed).await.is_ok();
        if *self.stop.borrow() { Err(Error::ShutDown) } else { Ok(changed) }
    }

    /// Waits until the primary's term is over.
    async fn ended(&self, term: &Arc<Primary>) {
        let over = |latest: &Topology| latest.primary().is_ok_and(|primary| Arc::ptr_eq(primary, term));
        self.topology.wait_for(|latest| (!over(latest)).then_some(())).await;
    }

    /// A pool is closed when a topology without it has been published, or for good.
    pub(super) fn outdated(&self) -> Result<Tried, Error> {
        if *self.stop.borrow() { Err(Error::ShutDown) } else { Ok(Tried::Outdated) }
    }
}

fn pick(serving: &Serving, topology: &Topology) -> Option<Arc<Node>> {
    serving.pick(&*topology.settings.strategy).cloned()
}

pub(super) fn describe(error: CheckoutError, node: &Node, deadline: Deadline) -> Error {
    let node = node.name.to_string();
    let waited = deadline.started.elapsed();
    match error {
        CheckoutError::Unreachable(cause) => Error::Connect { node, cause: ConnectFailure(cause) },
        CheckoutError::Silent => Error::TimedOut { node, waited },
        CheckoutError::Exhausted => Error::PoolExhausted { node, waited },
        CheckoutError::Closed => Error::ShutDown,
    }
}

fn no_eligible_node(topology: &Topology) -> Error {
    Error::NoEligibleNode { nodes: each_node(topology) }
}

fn no_primary(topology: &Topology, why: NoPrimary) -> Error {
    Error::NoPrimary { why: why.to_string(), nodes: each_node(topology) }
}

/// What is known of each node, for people.
pub(super) fn each_node(topology: &Topology) -> String {
    let nodes = topology.nodes().iter();
    let nodes = nodes.map(|seen| format!("{}: {}, {}", seen.node.name, seen.view.health, seen.view.reason));
    nodes.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::super::Router;
    use super::super::rollout::{Choice, InForce};
    use super::*;
    use crate::config::NodeConfig;
    use crate::event::Announcer;
    use crate::fleet::Service;
    use crate::retry::{Retries, RetryBudget};
    use crate::topology::{Fallback, Latest};
    use futures_util::FutureExt;
    use tokio::net::TcpListener;
    use tokio::sync::{mpsc, watch};
    use tokio::time::sleep;

    const SECOND: Duration = Duration::from_secs(1);

    /// The primary `a` and the replicas `b` and `c`: hosts that accept connections and say nothing.
    struct Scene {
        shared: Arc<Shared>,
        hosts: Vec<TcpListener>,
    }

    impl Scene {
        async fn set(fallback: Fallback) -> Self {
            let mut hosts = vec![];
            let mut nodes = vec![];
            for name in ["a", "b", "c"] {
                let host = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
                let port = host.local_addr().expect("bound").port();
                nodes.push(NodeConfig::new(format!("postgres://app@127.0.0.1:{port}/chat")).name(name));
                hosts.push(host);
            }
            let [a, b, c] = nodes.try_into().expect("three");
            let builder = Router::builder().primary(a).replica(b).replica(c).fallback(fallback);
            let config = builder.config().expect("valid");
            let rollout = Choice::new(InForce::of(&config));
            let topology = Router::unproven(config, &Arc::default());
            let shared = Shared {
                topology: Arc::new(Latest::new(topology)),
                retries: Retries::new(RetryBudget::default(), Instant::now()),
                rollout,
                commands: mpsc::unbounded_channel().0,
                stop: watch::Sender::new(false),
                listening: Announcer::new().downgrade(),
            };
            Self { shared: Arc::new(shared), hosts }
        }

        /// These replicas serve reads, and the primary takes writes if that is `Ok`.
        fn publish(&self, serve: &[&str], writes: Result<(), NoPrimary>) {
            let before = self.shared.topology.load_full();
            let seen = before.nodes().iter().cloned().map(|mut seen| {
                let serves = serve.contains(&&*seen.node.name);
                seen.view.serves = if serves { Service::Yes } else { Service::No };
                seen
            });
            let settings = Arc::clone(&before.settings);
            let writer = Arc::clone(&before.nodes()[0].node);
            let writes = writes.map(|()| Arc::new(Primary::new(writer)));
            self.shared.topology.publish(Topology::new(
                seen.collect(),
                writes,
                settings,
                None,
                Instant::now(),
            ));
        }

        /// The error of a read that begins with `first`, and what it takes.
        async fn read(&self, first: &str) -> (String, Duration) {
            let topology = self.shared.topology.load_full();
            let first = topology.nodes().iter().find(|seen| &*seen.node.name == first);
            let first = first.map(|seen| Arc::clone(&seen.node));
            let started = Instant::now();
            let result = self.shared.read(topology, first, None, Deadline::after(5 * SECOND)).await;
            (result.expect_err("nobody answers").to_string(), started.elapsed())
        }

        /// Whether somebody has connected to the host.
        fn is_asked(&self, index: usize) -> bool {
            self.hosts[index].accept().now_or_never().is_some()
        }
    }

    fn about(expected: Duration, took: Duration) -> bool {
        took >= expected && took < expected + Duration::from_millis(100)
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_left_while_others_were_tried_is_not_read_from() {
        let scene = Scene::set(Fallback::Fail).await;
        scene.publish(&["b", "c"], Ok(()));
        let leaves = async {
            sleep(SECOND).await;
            scene.publish(&["b"], Ok(()));
        };
        let ((error, _), ()) = tokio::join!(scene.read("b"), leaves);
        assert!(error.contains("`b`"), "{error}");
        // Whoever dials does so in a task of its own.
        sleep(SECOND).await;
        assert!(scene.is_asked(1) && !scene.is_asked(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_came_while_others_were_tried_is_read_from() {
        let scene = Scene::set(Fallback::Fail).await;
        scene.publish(&["b"], Ok(()));
        let comes = async {
            sleep(SECOND).await;
            scene.publish(&["c"], Ok(()));
        };
        let ((error, _), ()) = tokio::join!(scene.read("b"), comes);
        assert!(error.starts_with("`c` did not answer"), "{error}");
        assert!(scene.is_asked(2));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_a_primary_that_was_deposed() {
        let scene = Scene::set(Fallback::Primary).await;
        scene.publish(&[], Ok(()));
        let deposed = async {
            sleep(SECOND).await;
            scene.publish(&[], Err(NoPrimary::Deposed));
        };
        let ((error, took), ()) = tokio::join!(scene.read("nobody"), deposed);
        assert!(error.starts_with("no replica can serve reads") && about(SECOND, took), "{error} {took:?}");
        assert!(scene.is_asked(0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_waits_two_probe_intervals_from_when_the_primary_is_gone() {
        let scene = Scene::set(Fallback::Primary).await;
        scene.publish(&[], Ok(()));
        let gone = async {
            sleep(2 * SECOND).await;
            scene.publish(&[], Err(NoPrimary::NobodyWritable));
        };
        let started = Instant::now();
        let (result, ()) = tokio::join!(
            scene.shared.on_primary(Deadline::after(5 * SECOND), |primary| &primary.writes),
            gone
        );
        let (error, took) = (result.expect_err("nobody answers"), started.elapsed());
        assert!(matches!(error, Error::NoPrimary { .. }) && about(SECOND * 5 / 2, took), "{error} {took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_that_nobody_can_serve_is_told_of_the_shutdown() {
        let scene = Scene::set(Fallback::Fail).await;
        assert!(scene.read("nobody").await.0.starts_with("no replica can serve reads"));
        scene.shared.stop.send_replace(true);
        assert_eq!(scene.read("nobody").await.0, Error::ShutDown.to_string());
    }
}
