//! What a shutdown leaves of the pools: nothing.

use crate::support::{self, notes, until_async};
use diesel::prelude::*;
use diesel_replicas::{Error, RunQueryDsl};
use futures_util::future::join_all;
use pg_cluster::Node;

async fn connections(node: &Node) -> String {
    let sql = "SELECT count(*)::text FROM pg_stat_activity WHERE application_name LIKE 'diesel-replicas%'";
    node.sql(sql).await.unwrap().unwrap()
}

async fn until_connections(node: &Node, count: &str) {
    until_async(&format!("{} has {count} connections", node.name()), async || {
        connections(node).await == count
    })
    .await;
}

#[tokio::test]
async fn a_shutdown_closes_what_is_idle_at_once_and_what_is_out_on_return() {
    let cluster = support::cluster(1).await;
    let (primary, replica) = (cluster.primary(), cluster.replica(0));
    let router = support::router(&cluster).await;
    let mut reading = router.read().await.unwrap();
    let mut writing = router.write().await.unwrap();
    drop(join_all((0..3).map(async |_| router.read().await.unwrap())).await);
    drop(join_all((0..3).map(async |_| router.write().await.unwrap())).await);
    for node in [primary, replica] {
        assert_eq!(connections(node).await, "5", "{} and the monitor", node.name());
    }

    router.shutdown().await;
    until_connections(primary, "1").await;
    until_connections(replica, "1").await;
    assert!(matches!(router.read().await, Err(Error::ShutDown)));
    assert!(matches!(router.write().await, Err(Error::ShutDown)));

    assert_eq!(notes::table.count().get_result::<i64>(&mut reading).await.unwrap(), 1);
    let row = diesel::insert_into(notes::table).values(notes::body.eq("late"));
    assert_eq!(row.execute(&mut writing).await.unwrap(), 1);
    drop((reading, writing));
    until_connections(primary, "0").await;
    until_connections(replica, "0").await;
}
