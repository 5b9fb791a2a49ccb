//! The task that watches the nodes: probes, judges, publishes.
//!
//! One task a router, one connection a node. It alone publishes topologies; requests load the latest one.

mod backoff;
mod command;
mod probe;
mod report;
mod rounds;

pub(crate) use command::{Command, Reply};
#[cfg(feature = "cli")]
pub(crate) use probe::Session;

use crate::config::NodeSpec;
use crate::event::Announcer;
use crate::fleet::NoPrimary;
use crate::health::HealthState;
use crate::topology::{Latest, Seen, Topology};
use futures_util::FutureExt;
use rounds::Rounds;
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use tokio::sync::{Mutex, Notify, mpsc, watch};
use tokio::time::{Instant, sleep};
use tracing::error;

/// All that the monitor needs; cloned anew when it has to start again. The nodes and the settings are those of the latest topology.
#[derive(Debug, Clone)]
pub(crate) struct Monitor {
    pub(crate) topology: Arc<Latest>,
    /// Notified when the traffic makes a node suspect.
    pub(crate) alarm: Arc<Notify>,
    /// Locked by the watch for as long as it runs.
    pub(crate) inbox: Arc<Mutex<Inbox>>,
    pub(crate) announcer: Announcer,
}

/// What the monitor is told, from outside.
#[derive(Debug)]
pub(crate) struct Inbox {
    commands: mpsc::UnboundedReceiver<Command>,
    /// What each source of discovery said last; a source does not repeat itself.
    found: BTreeMap<usize, Vec<NodeSpec>>,
}

impl Inbox {
    pub(crate) fn new(commands: mpsc::UnboundedReceiver<Command>) -> Self {
        Self { commands, found: BTreeMap::new() }
    }
}

impl Monitor {
    /// Runs until `stop` says so, or its sender is gone. Closes all pools in the end, since what nobody watches must not serve.
    pub(crate) async fn run(self, stop: watch::Receiver<bool>) {
        let watch = async |monitor: Self| {
            let inbox = Arc::clone(&monitor.inbox).lock_owned().await;
            Rounds::new(&monitor, inbox).run().await;
        };
        self.supervise(stop, watch).await;
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
                let before = self.forget();
                sleep(before.settings.probe_interval).await;
            }
        };
        tokio::select! {
            () = watching => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
        let last = self.topology.load();
        last.close();
        #[cfg(feature = "metrics")]
        crate::metrics::end(&last);
    }

    /// Nothing is known of any node any more, but for those that are being removed; returns what was.
    fn forget(&self) -> Arc<Topology> {
        let latest = self.topology.load();
        let forgotten = |seen: &Seen| match seen.view.health {
            HealthState::Draining => seen.clone(),
            _ => {
                let mut node = Arc::clone(&seen.node);
                if node.pools.common {
                    // It ends with the term of its primary.
                    node = Arc::new(node.reopened(node.pools));
                }
                Seen::unproven(node, seen.listing.clone())
            }
        };
        let seen = latest.nodes().iter().map(forgotten);
        let settings = Arc::clone(&latest.settings);
        let unproven =
            Topology::new(seen.collect(), Err(NoPrimary::NotYetKnown), settings, None, Instant::now());
        let before = self.topology.publish(unproven);
        if let Ok(primary) = before.primary() {
            primary.writes.close();
        }
        for seen in before
            .nodes()
            .iter()
            .filter(|seen| seen.node.pools.common && seen.view.health != HealthState::Draining)
        {
            seen.node.reads.close();
        }
        before
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RouterBuilder;
    use crate::fleet::{Role, Service};
    use crate::health::Reason;
    use crate::router::Router;
    use std::io;
    use std::sync::Mutex as Lock;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    const INTERVAL: Duration = Duration::from_millis(250);

    /// What has been logged, as text.
    #[derive(Clone, Default)]
    struct Log(Arc<Lock<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no writer panics").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The monitor of a primary and a replica that nobody ever connects to.
    fn monitor() -> Monitor {
        let builder = RouterBuilder::default().primary("postgres://app@127.0.0.1:1/chat");
        let config = builder.replica("postgres://app@127.0.0.1:2/chat").config().expect("valid");
        let topology = Router::unproven(config, &Arc::default());
        let (_, told) = mpsc::unbounded_channel();
        Monitor {
            topology: Arc::new(Latest::new(topology)),
            alarm: Arc::default(),
            inbox: Arc::new(Mutex::new(Inbox::new(told))),
            announcer: Announcer::new(),
        }
    }

    /// As if every probe had been good.
    fn heal(latest: &Latest) {
        let before = latest.load_full();
        let seen = before.nodes().iter().cloned().map(|mut seen| {
            seen.view.health = HealthState::Healthy;
            seen.view.reason = Reason::Writable;
            if seen.view.role == Role::Replica {
                seen.view.serves = Service::Yes;
            }
            seen
        });
        let settings = Arc::clone(&before.settings);
        let primary = Err(NoPrimary::NotYetKnown);
        latest.publish(Topology::new(seen.collect(), primary, settings, None, Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_is_logged_takes_replicas_out_of_service_and_starts_the_watch_anew() {
        let log = Log::default();
        let written = log.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || written.clone()).with_ansi(false);
        let _guard = tracing::subscriber::set_default(subscriber.finish());

        let monitor = monitor();
        let topology = Arc::clone(&monitor.topology);
        heal(&topology);
        let replica = Arc::clone(&topology.load().nodes()[1].node);
        let (stop, stopped) = watch::channel(false);
        let starts = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&starts);
        let running = tokio::spawn(monitor.supervise(stopped, move |monitor| {
            let start = counted.fetch_add(1, Ordering::Relaxed);
            assert_ne!(start, 0, "before the first await");
            async move {
                heal(&monitor.topology);
                assert_ne!(start, 1, "in the midst");
                std::future::pending().await
            }
        }));

        topology.left_service(&replica).await;
        assert!(topology.load().nodes().iter().all(|seen| seen.view.health == HealthState::Unproven));
        assert_eq!(starts.load(Ordering::Relaxed), 1, "not at once: it might panic for ever");
        sleep(INTERVAL * 10).await;
        assert_eq!(starts.load(Ordering::Relaxed), 3);
        assert_eq!(topology.load().serving(), 1);
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
        let (stop, stopped) = watch::channel(false);
        let running = tokio::spawn(monitor().supervise(stopped, |_| std::future::pending()));
        drop(stop);
        running.await.expect("no panic");
    }
}
