//! The task that watches the nodes: probes, judges, publishes.
//!
//! One task a router, one connection a node. It alone publishes topologies; requests load the latest one.

mod command;
mod probe;
mod report;
mod rounds;

pub(crate) use command::{Command, Reply};

use crate::fleet::NoPrimary;
use crate::topology::{Latest, Seen, Topology};
use futures_util::FutureExt;
use rounds::Rounds;
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
    pub(crate) commands: Arc<Mutex<mpsc::Receiver<Command>>>,
}

impl Monitor {
    /// Runs until `stop` says so, or its sender is gone.
    pub(crate) async fn run(self, stop: watch::Receiver<bool>) {
        self.supervise(stop, |monitor| Rounds::new(&monitor).run(monitor.commands)).await;
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
    }

    /// Nothing is known of any node any more; returns what was.
    fn forget(&self) -> Arc<Topology> {
        let latest = self.topology.load();
        let seen =
            latest.nodes().iter().map(|seen| Seen::unproven(Arc::clone(&seen.node), seen.listing.clone()));
        let settings = Arc::clone(&latest.settings);
        let unproven = Topology::new(seen.collect(), Err(NoPrimary::NotYetKnown), settings, Instant::now());
        let before = self.topology.publish(unproven);
        if let Ok(primary) = before.primary() {
            primary.writes.close();
        }
        before
    }
}
