//! What is traced of requests and handles. All tests listen: whether somebody does is kept for the whole process.

#![allow(clippy::unwrap_used, unreachable_pub, reason = "a test that cannot go on says where by panicking")]

mod listener;

use diesel::prelude::*;
use diesel_replicas::{HealthState, NodeConfig, Router, RouterBuilder, RunQueryDsl};
use listener::{Listener, Traced};
use pg_cluster::Cluster;
use std::time::{Duration, Instant};
use tracing::{Instrument, info_span};
use tracing_subscriber::layer::SubscriberExt;

const PATIENCE: Duration = Duration::from_secs(20);

async fn router(cluster: &Cluster, change: impl Fn(RouterBuilder) -> RouterBuilder) -> Router {
    let [primary, replica] = [cluster.primary(), cluster.replica(0)];
    let node = |node: &pg_cluster::Node, name| NodeConfig::new(node.url()).name(name);
    let builder = Router::builder().primary(node(primary, "db-0")).replica(node(replica, "db-1"));
    let router = change(builder).build().await.unwrap();
    let started = Instant::now();
    while router.status().nodes.iter().any(|node| node.health != HealthState::Healthy) {
        assert!(started.elapsed() < PATIENCE, "{:?}", router.status());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    router
}

async fn one(conn: &mut diesel_replicas::Reader) -> QueryResult<i32> {
    diesel::select(1.into_sql::<diesel::sql_types::Integer>()).get_result(conn).await
}

/// The two spans of a request that has got a handle, which is back.
fn pair(access: &str, freshness: &str, [node, role]: [&str; 2]) -> [Traced; 2] {
    ["checkout", "handle"].map(|name| {
        let fields = [("access", access), ("freshness", freshness), ("node", node), ("role", role)];
        Traced::of(name, Some("caller"), &fields, true)
    })
}

#[tokio::test]
async fn a_request_and_its_handle_are_spans_of_whoever_asks() {
    let cluster = Cluster::builder().replicas(1).start().await.unwrap();
    let router = router(&cluster, |builder| builder).await;
    let listener = Listener::default();
    let _listening = tracing::subscriber::set_default(tracing_subscriber::registry().with(listener.clone()));
    let caller = info_span!("caller");
    let (db_0, db_1) = (["db-0", "primary"], ["db-1", "replica"]);

    async {
        drop(router.read().await.unwrap());
        assert_eq!(listener.take(), pair("read", "eventual", db_1));
        drop(router.read().latest().await.unwrap());
        assert_eq!(listener.take(), pair("read", "latest", db_0));
        drop(router.write().await.unwrap());
        assert_eq!(listener.take(), pair("write", "latest", db_0));
        router.with_read(async |conn| one(conn).await).await.unwrap();
        assert_eq!(listener.take(), pair("read", "eventual", db_1));
        let write = router.with_write(async |_| QueryResult::Ok(())).await;
        assert_eq!(listener.take(), pair("write", "latest", db_0));

        let (_, token) = write.unwrap();
        let handle = router.read().after(&token).await.unwrap();
        let its = listener.take();
        assert_eq!(its[0].fields["freshness"], "causal");
        assert!(its[0].closed && !its[1].closed, "the handle is out");
        drop(handle);
    }
    .instrument(caller)
    .await;
}

#[tokio::test]
async fn the_wait_is_told_and_a_request_that_gives_up_has_no_node() {
    let cluster = Cluster::builder().replicas(1).start().await.unwrap();
    let router = router(&cluster, |builder| builder.pool_size(1)).await;
    let listener = Listener::default();
    let _listening = tracing::subscriber::set_default(tracing_subscriber::registry().with(listener.clone()));
    let held = router.read().await.unwrap();
    let wait = Duration::from_millis(50);
    assert!(router.read().timeout(wait).await.is_err());
    let (waits, ()) = tokio::join!(router.read().into_future(), async {
        tokio::time::sleep(wait).await;
        drop(held);
    });
    drop(waits.unwrap());
    let all = listener.take();
    let names: Vec<_> = all.iter().map(|traced| traced.name).collect();
    assert_eq!(names, ["checkout", "handle", "checkout", "checkout", "handle"]);
    assert!(all.iter().all(|traced| traced.parent.is_none() && traced.closed), "{all:?}");
    assert!(!all[2].fields.contains_key("node"), "it has got none");
    for traced in &all[3..] {
        assert!(traced.wait.unwrap() >= wait, "{traced:?}");
    }
}
