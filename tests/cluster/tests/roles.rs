//! Failover and new replicas. Roles do not change back, so each test has a cluster of its own.

#![allow(clippy::unwrap_used)]

use pg_cluster::{Cluster, Node};

async fn cluster(replicas: usize) -> Cluster {
    let cluster = Cluster::builder().replicas(replicas).start().await.unwrap();
    cluster.primary().sql("CREATE TABLE marks (mark text)").await.unwrap();
    let created = cluster.primary().position().await.unwrap().lsn;
    for replica in cluster.replicas() {
        cluster.wait_replayed(replica, created).await.unwrap();
    }
    cluster
}

async fn write(node: &Node, mark: &str) {
    node.sql(&format!("INSERT INTO marks VALUES ('{mark}')")).await.unwrap();
}

async fn marks(node: &Node) -> String {
    let all = "SELECT string_agg(mark, ' ' ORDER BY mark) FROM marks";
    node.sql(all).await.unwrap().unwrap_or_default()
}

/// A write to the one is seen on the other.
async fn assert_follows(cluster: &Cluster, node: &Node, upstream: &Node, mark: &str) {
    write(upstream, mark).await;
    cluster.wait_replayed(node, upstream.position().await.unwrap().lsn).await.unwrap();
    assert_eq!(marks(node).await, marks(upstream).await);
}

#[tokio::test]
async fn a_failover_leaves_one_history_once_everybody_follows_the_new_primary() {
    let cluster = cluster(2).await;
    let (old, new, other) = (cluster.primary(), cluster.replica(0), cluster.replica(1));
    assert_follows(&cluster, new, old, "1 before").await;

    new.promote().await.unwrap();
    let position = new.position().await.unwrap();
    assert_eq!((position.timeline, position.in_recovery), (2, false));
    // Two writable nodes, and the other standby still follows the old one.
    write(new, "2 new").await;
    assert_follows(&cluster, other, old, "2 lost").await;
    assert_eq!(marks(old).await, "1 before 2 lost");

    // Both have WAL that the new primary never had.
    for node in [old, other] {
        node.follow(new).await.unwrap();
        let position = node.position().await.unwrap();
        assert_eq!((position.timeline, position.in_recovery), (2, true), "{}", node.name());
        assert_follows(&cluster, node, new, node.name()).await;
    }
    assert_eq!(marks(old).await, "1 before 2 new primary replica2");
}

#[tokio::test]
async fn a_standby_that_is_not_ahead_keeps_its_data_across_the_switch() {
    let cluster = cluster(2).await;
    let (old, new, other) = (cluster.primary(), cluster.replica(0), cluster.replica(1));
    let lsn = old.position().await.unwrap().lsn;
    cluster.wait_replayed(new, lsn).await.unwrap();
    cluster.wait_replayed(other, lsn).await.unwrap();
    let started = "SELECT pg_postmaster_start_time()";
    let before = other.sql(started).await.unwrap();

    old.kill().await.unwrap();
    new.promote().await.unwrap();
    other.follow(new).await.unwrap();
    assert_eq!(other.sql(started).await.unwrap(), before, "it was started anew");
    assert_follows(&cluster, other, new, "after").await;

    // An old primary that is not running.
    old.follow(new).await.unwrap();
    assert_follows(&cluster, old, new, "later").await;
    // The receiver comes back to whom the node follows now.
    old.cut_receiver().await.unwrap();
    old.reconnect_receiver().await.unwrap();
    assert_follows(&cluster, old, new, "reconnected").await;
}

#[tokio::test]
async fn replicas_can_be_added_to_the_primary_and_to_a_replica() {
    let mut cluster = cluster(0).await;
    write(cluster.primary(), "early").await;
    let first = cluster.add_replica().await.unwrap().clone();
    let second = cluster.add_replica_of(&first).await.unwrap().clone();
    assert_eq!((first.name(), second.name()), ("replica1", "replica2"));
    assert_eq!(cluster.nodes().len(), 3);

    assert_follows(&cluster, &second, cluster.primary(), "late").await;
    assert_eq!(marks(&second).await, "early late");
    let upstream = second.sql("SELECT sender_port || sender_host FROM pg_stat_wal_receiver").await.unwrap();
    let expected =
        first.sql("SELECT 1 FROM pg_stat_replication WHERE application_name = 'replica2'").await.unwrap();
    assert_eq!(expected.as_deref(), Some("1"), "it streams from {upstream:?}");
}
