//! The router under a steady load, as its nodes go wrong and come and go.
//!
//! Bounds in time are tested here, apart from the other tests: Cargo runs one test binary after the other, and these tests one
//! after the other, so that nothing else wants the machine. For the figures:
//!
//! ```text
//! cargo test --release --test load -- --nocapture --test-threads=1
//! ```

#![allow(clippy::unwrap_used, unreachable_pub, reason = "a test that cannot go on says where by panicking")]

mod changes;
mod losses;
mod steady;
#[allow(dead_code, reason = "shared with the other tests, which use more of it")]
#[path = "../pg/support.rs"]
mod support;

use diesel_replicas::{Router, RouterBuilder};
use pg_cluster::Cluster;
use steady::Load;
use tokio::sync::{Mutex, MutexGuard};

/// A primary and three replicas under load, alone on the machine.
struct Stage {
    cluster: Cluster,
    router: Router,
    load: Load,
    _alone: MutexGuard<'static, ()>,
}

impl Stage {
    async fn set() -> Self {
        Self::with(|builder| builder).await
    }

    /// The same, with other settings.
    async fn with(settings: impl FnOnce(RouterBuilder) -> RouterBuilder) -> Self {
        static ALONE: Mutex<()> = Mutex::const_new(());
        let _alone = ALONE.lock().await;
        let cluster = support::cluster(3).await;
        let router = support::ready(settings(support::builder(&cluster))).await;
        let load = Load::start(&router);
        for replica in cluster.replicas() {
            load.until_read_from(replica.name(), 100).await;
        }
        Self { cluster, router, load, _alone }
    }

    /// Ends the load, prints its figures, and waits until nothing of it is left on any node.
    async fn end(self, title: &str) -> steady::Report {
        let Self { cluster, router, load, _alone } = self;
        let report = load.end().await;
        println!("{title}: {report}");
        support::until("no handle is out", || router.status().nodes.iter().all(|node| node.in_flight == 0))
            .await;
        for node in cluster.nodes() {
            support::until_quiet(node).await;
        }
        report
    }
}
