//! The levers that make a node fail, on one cluster that the tests share.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use pg_cluster::{Cluster, Error, Node};
use tokio::{
    sync::{Mutex, MutexGuard, OnceCell},
    time::timeout,
};
use tokio_postgres::{Client, NoTls};

async fn cluster() -> MutexGuard<'static, Cluster> {
    static CLUSTER: OnceCell<Mutex<Cluster>> = OnceCell::const_new();
    let start = || async { Mutex::new(Cluster::builder().replicas(1).start().await.unwrap()) };
    CLUSTER.get_or_init(start).await.lock().await
}

async fn connect(node: &Node) -> Client {
    let (client, connection) = tokio_postgres::connect(&node.url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// After whatever happened, the replica follows the primary.
async fn assert_works(cluster: &Cluster) {
    let primary = cluster.primary();
    primary.sql("CREATE TABLE IF NOT EXISTS t (); INSERT INTO t DEFAULT VALUES").await.unwrap();
    let lsn = primary.position().await.unwrap().lsn;
    cluster.wait_replayed(cluster.replica(0), lsn).await.unwrap();
}

/// The connection ends by itself; the code with which it does.
async fn end_of(client: &Client) -> Option<String> {
    let error = client.simple_query("SELECT pg_sleep(60)").await.unwrap_err();
    assert!(error.is_closed() || error.code().is_some(), "{error}");
    error.code().map(|code| code.code().to_owned())
}

async fn assert_refused(node: &Node) {
    let error = node.sql("SELECT 1").await.unwrap_err();
    assert!(matches!(error, Error::Sql { .. }), "{error}");
    assert_eq!(error.sql_state(), None, "{error}");
}

#[tokio::test]
async fn a_killed_node_closes_its_connections_and_starts_again_with_its_data() {
    let cluster = cluster().await;
    for node in cluster.nodes() {
        let client = connect(node).await;
        let (end, killed) = tokio::join!(end_of(&client), node.kill());
        killed.unwrap();
        assert_eq!(end, None);
        assert_refused(node).await;
        // Both do nothing the second time.
        node.kill().await.unwrap();
        node.start().await.unwrap();
        node.start().await.unwrap();
        assert_works(&cluster).await;
    }
}

#[tokio::test]
async fn an_immediate_stop_is_no_clean_end() {
    let cluster = cluster().await;
    let primary = cluster.primary();
    let client = connect(primary).await;
    primary.stop_immediate().await.unwrap();
    assert!(client.simple_query("SELECT 1").await.is_err());
    assert_refused(primary).await;
    primary.start().await.unwrap();
    assert_works(&cluster).await;
}

#[tokio::test]
async fn a_fast_stop_tells_the_sessions() {
    let cluster = cluster().await;
    let primary = cluster.primary();
    let client = connect(primary).await;
    let (end, stopped) = tokio::join!(end_of(&client), primary.stop_fast());
    stopped.unwrap();
    assert_eq!(end.as_deref(), Some("57P01"));
    primary.start().await.unwrap();
    assert_works(&cluster).await;
}

#[tokio::test]
async fn a_frozen_node_hangs_until_it_is_thawed() {
    let cluster = cluster().await;
    for node in cluster.nodes() {
        let client = connect(node).await;
        node.freeze().await.unwrap();
        let question = client.simple_query("SELECT 1");
        tokio::pin!(question);
        // Long enough for an answer, and no answer is what is to be shown.
        assert!(timeout(Duration::from_millis(100), &mut question).await.is_err());
        node.thaw().await.unwrap();
        question.await.unwrap();
        assert_works(&cluster).await;
    }
}

#[tokio::test]
async fn a_frozen_node_can_be_killed() {
    let cluster = cluster().await;
    let replica = cluster.replica(0);
    replica.freeze().await.unwrap();
    replica.kill().await.unwrap();
    assert_refused(replica).await;
    assert!(replica.freeze().await.is_err());
    replica.start().await.unwrap();
    assert_works(&cluster).await;
}

#[tokio::test]
async fn a_node_that_starts_again_waits_until_its_port_is_free() {
    let cluster = cluster().await;
    let replica = cluster.replica(0);
    let port = replica.url().rsplit_once(':').unwrap().1.split('/').next().unwrap().parse().unwrap();
    replica.stop_immediate().await.unwrap();
    let occupied = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let release = async {
        // Several attempts of a local server; a container has another port and is not hindered.
        tokio::time::sleep(Duration::from_millis(300)).await;
        drop(occupied);
    };
    let (started, ()) = tokio::join!(replica.start(), release);
    started.unwrap();
    assert_works(&cluster).await;
}
