//! Nodes come and go, and the router ends, under load.

use crate::Stage;
use crate::steady::Kind;
use crate::support::{self, status, until, until_health};
use diesel_replicas::{HealthState, NodeConfig};
use pg_cluster::Node;
use tokio::time::Instant;

fn config(node: &Node) -> NodeConfig {
    NodeConfig::new(node.url()).name(node.name())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_is_removed_and_added_again() {
    let stage = Stage::set().await;
    let removed = stage.cluster.replica(0);
    let asked = Instant::now();
    let cut = stage.router.remove_replica(removed.name()).await.unwrap();
    let took = asked.elapsed();
    let last = stage.load.last_sent_to(removed.name()).saturating_duration_since(asked);
    println!("removed within {took:.1?}; the last work was sent to it after {last:.1?}");
    assert_eq!(cut, 0);
    assert!(stage.router.status().nodes.iter().all(|node| node.name != removed.name()));
    support::until_quiet(removed).await;
    stage.load.until_ended(250).await;
    stage.router.add_replica(config(removed)).await.unwrap();
    until_health(&stage.router, removed.name(), HealthState::Healthy).await;
    stage.load.until_read_from(removed.name(), 20).await;
    let report = stage.end("a replica is removed and added again").await;
    assert_eq!((report.failed(Kind::Read).len(), report.failed(Kind::Write).len()), (0, 0));
}

/// Weights, other pools, one node less and one more: each takes effect, and nobody notices.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_changed() {
    let stage = Stage::set().await;
    let Stage { cluster, router, load, .. } = &stage;
    let (first, others) = (cluster.replica(0), &cluster.replicas()[1..]);
    for _ in 0..3 {
        router.set_weight(first.name(), 0).await.unwrap();
        until("it serves no more", || !status(router, first.name()).serves_reads).await;
        load.until_ended(50).await;
        router.set_weight(first.name(), 1).await.unwrap();

        let fewer = support::builder(cluster).read_replicas_enabled(false).pool_size(5);
        router.reload(fewer.config().unwrap()).await.unwrap();
        load.until_read_from(cluster.primary().name(), 20).await;

        let more = support::builder(cluster).pool_size(8);
        router.reload(more.config().unwrap()).await.unwrap();
        for replica in others {
            until_health(router, replica.name(), HealthState::Healthy).await;
            load.until_read_from(replica.name(), 20).await;
        }
        router.remove_replica(first.name()).await.unwrap();
        router.add_replica(config(first)).await.unwrap();
        load.until_read_from(first.name(), 20).await;
    }
    let report = stage.end("everything is changed").await;
    assert_eq!((report.failed(Kind::Read).len(), report.failed(Kind::Write).len()), (0, 0));
}

/// What has its connection ends as usual; what has none is told that the router was shut down, and at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_router_is_shut_down() {
    let stage = Stage::set().await;
    stage.router.shutdown().await;
    let down = Instant::now();
    stage.load.until_ended(250).await;
    let report = stage.end("the router is shut down").await;
    for call in [Kind::Read, Kind::Write].into_iter().flat_map(|kind| report.calls(kind)) {
        match &call.result {
            Ok(_) => assert!(call.due < down, "{call:?}"),
            Err(text) => assert!(text.contains("the router has been shut down"), "{call:?}"),
        }
    }
}
