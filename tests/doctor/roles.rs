//! Nodes that are not what they are taken for, or not there.

use crate::support::{self, doctor, environment, listing, says, url};
use pg_cluster::Cluster;
use std::time::{Duration, Instant};

#[tokio::test]
async fn a_replica_that_is_stopped_is_a_problem_and_the_others_are_reported() {
    let cluster = support::cluster(2).await;
    cluster.replica(1).kill().await.unwrap();
    let told = doctor(environment(&cluster)).await;
    assert_eq!((told.status, told.bad()), (2, vec!["problem reachable replica2".into()]));
    let finding = told.only("reachable");
    assert!(
        says(finding, "found", "refused") && says(finding, "action", "DB_READ_REPLICA_URLS"),
        "{finding}"
    );
    assert!(told.node("replica2")["role"].is_null());
    assert!(told.node("replica1")["lag_ms"].is_u64());
}

#[tokio::test]
async fn a_node_that_is_frozen_keeps_nobody_from_being_reported() {
    let cluster = support::cluster(2).await;
    cluster.replica(0).freeze().await.unwrap();
    let started = Instant::now();
    let told = doctor(environment(&cluster)).await;
    assert!(started.elapsed() < Duration::from_secs(12), "{:?}", started.elapsed());
    assert_eq!((told.status, told.bad()), (2, vec!["problem reachable replica1".into()]));
    assert!(says(told.only("reachable"), "found", "no answer within 3000 ms"));
    assert!(told.node("replica2")["lag_ms"].is_u64());
    cluster.replica(0).thaw().await.unwrap();
}

#[tokio::test]
async fn a_replica_of_another_cluster_is_told() {
    let cluster = support::cluster(0).await;
    let other = support::with_roles(Cluster::builder().replicas(1).own_identity()).await;
    let told = doctor(listing(url(cluster.primary(), "app"), [url(other.replica(0), "reader")])).await;
    assert_eq!((told.status, told.bad()), (2, vec!["problem cluster replica1".into()]));
}

#[tokio::test]
async fn two_writable_nodes_are_told_with_the_one_that_leads() {
    let cluster = support::cluster(2).await;
    cluster.replica(1).promote().await.unwrap();
    let told = doctor(environment(&cluster)).await;
    assert_eq!(told.status, 2);
    let finding = told.only("writable");
    assert_eq!(finding["severity"], "problem");
    assert_eq!(finding["nodes"], serde_json::json!(["primary", "replica2"]));
    assert!(says(finding, "why", "writes go to replica2 on timeline 2"), "{finding}");
    // The other replica still follows the old primary.
    assert_eq!(told.only("timeline")["nodes"][0], "replica1");
}

#[tokio::test]
async fn after_a_failover_the_listing_is_to_be_corrected() {
    let cluster = support::cluster(1).await;
    cluster.primary().kill().await.unwrap();
    let told = doctor(environment(&cluster)).await;
    assert_eq!(told.bad(), ["problem reachable primary", "problem writable primary"]);
    cluster.replica(0).promote().await.unwrap();
    let told = doctor(environment(&cluster)).await;
    assert_eq!(told.bad(), ["problem reachable primary", "warning writable replica1"]);
    assert!(says(told.only("writable"), "action", "put replica1 into DATABASE_URL"));
}

#[tokio::test]
async fn a_server_that_is_listed_twice_is_told() {
    let cluster = support::cluster(1).await;
    let replica = url(cluster.replica(0), "reader");
    let again = replica.replace("node_name=replica1", "node_name=again");
    let told = doctor(listing(url(cluster.primary(), "app"), [replica, again])).await;
    assert_eq!((told.status, told.bad()), (2, vec!["problem duplicate again".into()]));
    assert!(says(told.only("duplicate"), "found", "same server as replica1"));
}
