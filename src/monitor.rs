//! The task that watches the nodes: probes, judges, publishes.
//!
//! One task a router, one connection a node. It alone publishes topologies; requests load the latest one.

mod backoff;
mod probe;

use crate::health::{HealthPolicy, HealthState, Lag, LsnClock, NodeHealth, ProbeOutcome, Reason, Transition};
use crate::observation::{Observation, ProbeFailure};
use crate::pool::Endpoint;
use crate::topology::{Latest, Node, Role, Seen, Topology};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use probe::Prober;
use rand::RngExt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{error, info, warn};

/// How long replicas are kept waiting for the primary's answer, which makes their lag's bound tight.
const PRIMARY_FIRST: Duration = Duration::from_millis(50);

/// When to probe.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProbePolicy {
    /// From one probe of a node to the next; jittered by a tenth.
    pub(crate) interval: Duration,
    /// How long one probe may take, with connecting.
    pub(crate) timeout: Duration,
}

/// All that the monitor needs; cloned anew when it has to start again.
#[derive(Debug, Clone)]
pub(crate) struct Monitor {
    /// The primary first.
    pub(crate) nodes: Vec<(Arc<Node>, Endpoint)>,
    pub(crate) health: HealthPolicy,
    pub(crate) probes: ProbePolicy,
    pub(crate) topology: Arc<Latest>,
}

impl Monitor {
    /// What is known before the first probe: nothing is proven, so reads start on the primary.
    pub(crate) fn unproven(nodes: impl Iterator<Item = Arc<Node>>) -> Topology {
        let seen = |node| Seen { node, health: HealthState::Unproven, reason: Reason::NotProbed, lag: None };
        Topology::new(nodes.map(seen).collect())
    }

    /// Runs until `stop` says so, or its sender is gone.
    pub(crate) async fn run(self, stop: watch::Receiver<bool>) {
        self.supervise(stop, |monitor| Rounds::new(monitor).run()).await;
    }

    /// A panic of the watch is logged, takes every replica out of service and starts it anew: what nobody watches must not
    /// serve.
    async fn supervise<W: Future<Output = ()>>(
        self,
        mut stop: watch::Receiver<bool>,
        watch: impl Fn(Self) -> W,
    ) {
        let watching = async {
            loop {
                let watching = AssertUnwindSafe(async { watch(self.clone()).await });
                let Err(panic) = watching.catch_unwind().await else { return };
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
                error!(panic = text, "the monitor panicked: no replica serves until it has started again");
                self.topology.publish(Self::unproven(self.nodes.iter().map(|(node, _)| Arc::clone(node))));
                sleep(self.probes.interval).await;
            }
        };
        tokio::select! {
            () = watching => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }
}

struct Rounds {
    monitor: Monitor,
    watched: Vec<Watched>,
    clock: LsnClock,
    running: FuturesUnordered<BoxFuture<'static, Probed>>,
    /// When the next round starts.
    next: Instant,
    /// When this round's probes of replicas start at the latest.
    replicas: Option<Instant>,
}

struct Watched {
    node: Arc<Node>,
    /// Away while a probe is under way.
    prober: Option<Prober>,
    health: NodeHealth,
    lag: Option<Lag>,
}

struct Probed {
    index: usize,
    prober: Prober,
    result: Result<Observation, ProbeFailure>,
}

const PRIMARY: usize = 0;

impl Rounds {
    fn new(monitor: Monitor) -> Self {
        let watched = monitor.nodes.iter().map(|(node, endpoint)| Watched {
            node: Arc::clone(node),
            prober: Some(Prober::new(endpoint.clone())),
            health: NodeHealth::new(monitor.health.clone()),
            lag: None,
        });
        let watched = watched.collect();
        let next = Instant::now();
        Self {
            monitor,
            watched,
            clock: LsnClock::default(),
            running: FuturesUnordered::new(),
            next,
            replicas: None,
        }
    }

    async fn run(mut self) {
        loop {
            let replicas = self.replicas;
            tokio::select! {
                () = sleep_until(self.next) => self.start_round(),
                () = sleep_until(replicas.unwrap_or(self.next)), if replicas.is_some() => self.probe_replicas(),
                Some(probed) = self.running.next() => self.judge(probed),
            }
        }
    }

    fn start_round(&mut self) {
        let now = Instant::now();
        let interval = self.monitor.probes.interval;
        // Services that start together would otherwise probe together for ever.
        self.next = now + interval.mul_f64(rand::rng().random_range(0.9..=1.1));
        self.replicas = Some(now + PRIMARY_FIRST);
        self.probe(PRIMARY);
    }

    fn probe_replicas(&mut self) {
        self.replicas = None;
        for index in PRIMARY + 1..self.watched.len() {
            self.probe(index);
        }
    }

    /// Starts a probe, unless the node still owes the answer to one.
    fn probe(&mut self, index: usize) {
        let Some(mut prober) = self.watched[index].prober.take() else { return };
        let limit = self.monitor.probes.timeout;
        self.running.push(
            async move {
                let result = prober.probe(limit).await;
                Probed { index, prober, result }
            }
            .boxed(),
        );
    }

    fn judge(&mut self, Probed { index, prober, result }: Probed) {
        let watched = &mut self.watched[index];
        watched.prober = Some(prober);
        watched.lag = None;
        let outcome = match (result, watched.node.role) {
            (Ok(Observation { in_recovery, lsn, asked_at, .. }), Role::Primary) => {
                match lsn {
                    Some(lsn) if !in_recovery => self.clock.sample(asked_at, lsn),
                    _ => self.clock.missed(),
                }
                ProbeOutcome::Primary { in_recovery }
            }
            (Ok(Observation { in_recovery, lsn, answered_at, .. }), Role::Replica) => {
                let lag = lsn.map_or(Lag::unknown(answered_at), |lsn| self.clock.lag(lsn, answered_at));
                watched.lag = Some(lag);
                ProbeOutcome::Replica { in_recovery, lag }
            }
            (Err(failure), role) => {
                if role == Role::Primary {
                    self.clock.missed();
                }
                match failure {
                    ProbeFailure::Failed(how) | ProbeFailure::Full(how) => ProbeOutcome::Failed(how),
                    ProbeFailure::TimedOut { after, .. } => ProbeOutcome::TimedOut(after),
                }
            }
        };
        if let Some(transition) = watched.health.observe(outcome) {
            report(&watched.node, &transition);
        }
        if index == PRIMARY && self.replicas.is_some() {
            self.probe_replicas();
        }
        self.publish();
    }

    fn publish(&self) {
        let seen = self.watched.iter().map(|watched| Seen {
            node: Arc::clone(&watched.node),
            health: watched.health.state(),
            reason: watched.health.reason().clone(),
            lag: watched.lag,
        });
        let topology = Topology::new(seen.collect());
        let serving = topology.serving().len();
        let before = self.monitor.topology.publish(topology).serving().len();
        match (before, serving) {
            (0, 1..) => info!(replicas = serving, "replicas serve reads"),
            (1.., 0) => warn!("no replica is left to serve reads: the fallback policy decides"),
            _ => {}
        }
    }
}

/// One event a change.
fn report(node: &Node, Transition { from, to, reason }: &Transition) {
    let (node, role) = (&*node.name, node.role);
    match to {
        HealthState::Healthy => info!(node, %role, %from, %to, %reason, "node health changed"),
        _ => warn!(node, %role, %from, %to, %reason, "node health changed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::{Access, Pool, PoolPolicy};
    use crate::traffic::Traffic;
    use std::io;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    const INTERVAL: Duration = Duration::from_millis(250);

    /// What has been logged, as text.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no writer panics").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A node that nobody ever connects to.
    fn node(name: &str, role: Role) -> (Arc<Node>, Endpoint) {
        let endpoint = Endpoint::parse("postgres://app@127.0.0.1:1/chat").expect("valid");
        let policy = PoolPolicy { size: 1, connect_timeout: INTERVAL };
        let traffic = Arc::<Traffic>::default();
        let reads = Pool::new(name.into(), endpoint.clone(), Access::ReadOnly, policy, Arc::clone(&traffic));
        (Arc::new(Node { name: name.into(), role, weight: 1, traffic, reads, writes: None }), endpoint)
    }

    fn healthy(nodes: &[(Arc<Node>, Endpoint)]) -> Topology {
        let seen = |(node, _): &(Arc<Node>, Endpoint)| Seen {
            node: Arc::clone(node),
            health: HealthState::Healthy,
            reason: Reason::Writable,
            lag: None,
        };
        Topology::new(nodes.iter().map(seen).collect())
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_is_logged_takes_replicas_out_of_service_and_starts_the_watch_anew() {
        let log = Log::default();
        let written = log.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || written.clone()).with_ansi(false);
        let _guard = tracing::subscriber::set_default(subscriber.finish());

        let nodes = vec![node("primary", Role::Primary), node("replica", Role::Replica)];
        let topology = Arc::new(Latest::new(healthy(&nodes)));
        let replica = Arc::clone(&nodes[1].0);
        let monitor = Monitor {
            nodes,
            health: HealthPolicy::default(),
            probes: ProbePolicy { interval: INTERVAL, timeout: INTERVAL },
            topology: Arc::clone(&topology),
        };
        let (stop, stopped) = watch::channel(false);
        let starts = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&starts);
        let running = tokio::spawn(monitor.supervise(stopped, move |monitor| {
            let start = counted.fetch_add(1, Ordering::Relaxed);
            assert_ne!(start, 0, "before the first await");
            async move {
                monitor.topology.publish(healthy(&monitor.nodes));
                assert_ne!(start, 1, "in the midst");
                std::future::pending().await
            }
        }));

        topology.left_service(&replica).await;
        assert!(topology.load().nodes().iter().all(|seen| seen.health == HealthState::Unproven));
        assert_eq!(starts.load(Ordering::Relaxed), 1, "not at once: it might panic for ever");
        sleep(INTERVAL * 10).await;
        assert_eq!(starts.load(Ordering::Relaxed), 3);
        assert_eq!(topology.load().serving().len(), 1);
        assert!(!running.is_finished());
        let log = String::from_utf8(log.0.lock().expect("no writer panics").clone()).expect("text");
        for panic in ["before the first await", "in the midst"] {
            let line = log.lines().find(|line| line.contains(panic)).unwrap_or_else(|| panic!("{log}"));
            assert!(line.contains("ERROR") && line.contains("the monitor panicked"), "{line}");
        }

        stop.send_replace(true);
        stop.closed().await;
        running.await.expect("no panic gets out");
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_when_nobody_can_stop_it_any_more() {
        let nodes = vec![node("primary", Role::Primary)];
        let topology = Arc::new(Latest::new(healthy(&nodes)));
        let probes = ProbePolicy { interval: INTERVAL, timeout: INTERVAL };
        let monitor = Monitor { nodes, health: HealthPolicy::default(), probes, topology };
        let (stop, stopped) = watch::channel(false);
        let running = tokio::spawn(monitor.supervise(stopped, |_| std::future::pending()));
        drop(stop);
        running.await.expect("no panic");
    }
}
