//! PgBouncer between the router and a node.

mod process;

use crate::proxy::port;
use crate::support::{self, notes, until};
use diesel::prelude::*;
use diesel_replicas::{AssertReadOnlyDsl, HealthState, NodeConfig, Router, RunQueryDsl};
use pg_cluster::Node;
use process::{PgBouncer, is_ci, programs};
use std::path::Path;

async fn start(program: &Path, before: &Node, settings: &str) -> PgBouncer {
    PgBouncer::start(program, port(&before.url()), settings).await
}

fn has_named() -> bool {
    std::env::var_os("PGBOUNCER").is_some_and(|named| !named.is_empty())
}

#[tokio::test]
async fn one_that_refuses_options_is_named_with_its_remedy_and_reads_go_elsewhere() {
    for program in programs(is_ci(), |_| true) {
        is_named_with_its_remedy(&program).await;
    }
}

async fn is_named_with_its_remedy(program: &Path) {
    let cluster = support::cluster(1).await;
    let before = start(program, cluster.replica(0), "").await;
    let builder = Router::builder().primary(NodeConfig::new(cluster.primary().url()).name("primary"));
    let router = builder.replica(NodeConfig::new(before.url()).name("pooled")).build().await.unwrap();
    let remedy = "track_extra_parameters = default_transaction_read_only";
    until("the node says why", || support::status(&router, "pooled").reason.to_string().contains(remedy))
        .await;
    assert_ne!(support::status(&router, "pooled").health, HealthState::Healthy);
    let mut conn = router.read().await.unwrap();
    assert_eq!(conn.node(), "primary");
    assert_eq!(notes::table.count().get_result::<i64>(&mut conn).await.unwrap(), 1);

    let alone = Router::builder().primary(before.url()).build().await.unwrap();
    let error = alone.read().await.unwrap_err().to_string();
    assert!(error.contains(remedy), "{error}");
}

#[tokio::test]
async fn one_that_drops_options_serves_no_reads() {
    let cluster = support::cluster(0).await;
    for program in programs(is_ci(), |_| true) {
        let before = start(&program, cluster.primary(), "ignore_startup_parameters = options").await;
        let router = Router::builder().primary(before.url()).build().await.unwrap();
        let error = router.read().await.unwrap_err().to_string();
        assert!(error.contains("ignore_startup_parameters"), "{error}");
    }
}

/// Before a service is rolled out, what stands between it and its database need not change.
#[tokio::test]
async fn any_will_do_while_replicas_are_off() {
    for program in programs(is_ci(), |_| true) {
        does_while_replicas_are_off(&program).await;
    }
}

async fn does_while_replicas_are_off(program: &Path) {
    let cluster = support::cluster(1).await;
    let before = start(program, cluster.primary(), "").await;
    let builder = Router::builder().primary(before.url()).replica(cluster.replica(0).url());
    let router = support::ready(builder.clone().read_replicas_enabled(false)).await;
    let mut conn = router.read().await.unwrap();
    assert_eq!(notes::table.count().get_result::<i64>(&mut conn).await.unwrap(), 1);
    drop(conn);
    let mut conn = router.write().await.unwrap();
    let row = diesel::insert_into(notes::table).values(notes::body.eq("second"));
    assert_eq!(row.execute(&mut conn).await.unwrap(), 1);
    drop(conn);
    // Switched on, it keeps read-only sessions from the primary alone.
    router.reload(builder.config().unwrap()).await.unwrap();
    until("the replica serves", || router.status().nodes[1].health == HealthState::Healthy).await;
    assert_ne!(router.read().await.unwrap().node(), router.status().nodes[0].name);
    router.write().await.unwrap();
    let refused = router.read().latest().await.unwrap_err().to_string();
    assert!(refused.contains("track_extra_parameters"), "{refused}");
}

/// Version 1.21 and later, with the settings that `docs/managed.md` asks for.
#[tokio::test]
async fn one_that_passes_options_on_serves_reads_and_writes() {
    const SETTINGS: &str =
        "track_extra_parameters = default_transaction_read_only\nmax_prepared_statements = 100";
    for program in programs(has_named(), |version| version >= (1, 21)) {
        serves(&program, SETTINGS).await;
    }
}

async fn serves(program: &Path, settings: &str) {
    let cluster = support::cluster(1).await;
    let primary = start(program, cluster.primary(), settings).await;
    let replica = start(program, cluster.replica(0), settings).await;
    let builder = Router::builder().primary(NodeConfig::new(primary.url()).name("primary"));
    let router = support::ready(builder.replica(NodeConfig::new(replica.url()).name("replica"))).await;
    let mut read = router.read().await.unwrap();
    assert_eq!(read.node(), "replica");
    for _ in 0..3 {
        assert_eq!(notes::table.count().get_result::<i64>(&mut read).await.unwrap(), 1);
    }
    let writing = diesel::sql_query("INSERT INTO notes (body) VALUES ('no')").assert_read_only();
    let mut latest = router.read().latest().await.unwrap();
    let refused = writing.execute(&mut latest).await.unwrap_err().to_string();
    assert!(refused.contains("read-only transaction"), "{refused}");
    drop((read, latest));
    // Sessions for writes take turns with those on the same server connections.
    for round in 2..7 {
        let write = router.with_write(async |conn| {
            diesel::insert_into(notes::table).values(notes::body.eq("more")).execute(conn).await
        });
        let (written, token): (usize, _) = write.await.unwrap();
        assert_eq!(written, 1);
        let mut conn = router.read().after(&token).await.unwrap();
        assert_eq!(conn.node(), "replica");
        assert_eq!(notes::table.count().get_result::<i64>(&mut conn).await.unwrap(), round);
        let mut conn = router.read().latest().await.unwrap();
        assert_eq!(notes::table.count().get_result::<i64>(&mut conn).await.unwrap(), round);
    }
    assert!(router.status().nodes.iter().all(|node| node.failed == 0), "{:?}", router.status().nodes);
}
