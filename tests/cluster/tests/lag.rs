//! The levers that make a replica lag, on one cluster that the tests share.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use pg_cluster::{Cluster, Lsn, Node};
use tokio::sync::{Mutex, MutexGuard, OnceCell};

/// In a static on purpose: nothing of it may be left behind though it is never dropped.
async fn cluster() -> MutexGuard<'static, Cluster> {
    static CLUSTER: OnceCell<Mutex<Cluster>> = OnceCell::const_new();
    let start = || async {
        let cluster = Cluster::builder().replicas(2).start().await.unwrap();
        cluster.primary().sql("CREATE TABLE marks (mark int)").await.unwrap();
        // A replica that a test pauses at once must know the table.
        let created = cluster.primary().position().await.unwrap().lsn;
        for replica in cluster.replicas() {
            cluster.wait_replayed(replica, created).await.unwrap();
        }
        Mutex::new(cluster)
    };
    CLUSTER.get_or_init(start).await.lock().await
}

/// Commits a row and tells the primary's position after it.
async fn write(cluster: &Cluster, mark: i32) -> Lsn {
    cluster.primary().sql(&format!("INSERT INTO marks VALUES ({mark})")).await.unwrap();
    cluster.primary().position().await.unwrap().lsn
}

async fn has(node: &Node, mark: i32) -> bool {
    let found = format!("SELECT EXISTS (SELECT FROM marks WHERE mark = {mark})");
    node.sql(&found).await.unwrap().as_deref() == Some("t")
}

/// Until the other replica, which is left alone, has it: the one under test had its chance then.
async fn reaches_the_other(cluster: &Cluster, lsn: Lsn) {
    cluster.wait_replayed(cluster.replica(1), lsn).await.unwrap();
}

#[tokio::test]
async fn every_replica_streams_once_the_cluster_is_started() {
    let cluster = cluster().await;
    let streaming = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'";
    assert_eq!(cluster.primary().sql(streaming).await.unwrap().as_deref(), Some("2"));

    let lsn = write(&cluster, 1).await;
    for replica in cluster.replicas() {
        cluster.wait_replayed(replica, lsn).await.unwrap();
        assert!(has(replica, 1).await, "{}", replica.name());
    }
    let refused = cluster.replica(0).sql("INSERT INTO marks VALUES (0)").await.unwrap_err();
    assert_eq!(refused.sql_state().map(|state| state.code()), Some("25006"));
}

#[tokio::test]
async fn positions_tell_role_timeline_and_lsn_of_each_node() {
    let cluster = cluster().await;
    let lsn = write(&cluster, 2).await;
    for replica in cluster.replicas() {
        cluster.wait_replayed(replica, lsn).await.unwrap();
    }
    let positions = cluster.positions().await.unwrap();
    let names: Vec<&str> = positions.iter().map(|position| position.node.as_str()).collect();
    assert_eq!(names, ["primary", "replica1", "replica2"]);
    assert!(positions.iter().all(|position| position.timeline == 1 && position.lsn >= lsn), "{positions:?}");
    assert_eq!(
        positions.iter().map(|position| position.in_recovery).collect::<Vec<_>>(),
        [false, true, true]
    );
}

#[tokio::test]
async fn a_paused_replay_stands_still_until_it_is_resumed() {
    let cluster = cluster().await;
    let replica = cluster.replica(0);
    replica.pause_replay().await.unwrap();
    let stopped_at = replica.position().await.unwrap().lsn;
    let lsn = write(&cluster, 3).await;
    reaches_the_other(&cluster, lsn).await;
    assert_eq!(replica.position().await.unwrap().lsn, stopped_at);
    assert!(!has(replica, 3).await);

    replica.resume_replay().await.unwrap();
    cluster.wait_replayed(replica, lsn).await.unwrap();
    assert!(has(replica, 3).await);
}

#[tokio::test]
async fn a_replica_without_receiver_serves_old_data_until_it_is_reconnected() {
    let cluster = cluster().await;
    let replica = cluster.replica(0);
    replica.cut_receiver().await.unwrap();
    let lsn = write(&cluster, 4).await;
    reaches_the_other(&cluster, lsn).await;
    assert!(!has(replica, 4).await);
    assert_eq!(replica.sql("SELECT 1 FROM pg_stat_wal_receiver").await.unwrap(), None);

    replica.reconnect_receiver().await.unwrap();
    cluster.wait_replayed(replica, lsn).await.unwrap();
    assert!(has(replica, 4).await);
}

#[tokio::test]
async fn an_apply_delay_holds_every_commit_back() {
    const DELAY: Duration = Duration::from_millis(400);
    let cluster = cluster().await;
    let replica = cluster.replica(0);
    replica.apply_delay(DELAY).await.unwrap();
    let written = Instant::now();
    let lsn = write(&cluster, 5).await;
    cluster.wait_replayed(replica, lsn).await.unwrap();
    // The delay counts from the commit, which is a little after `written`.
    assert!(written.elapsed() >= DELAY, "{:?}", written.elapsed());
    replica.apply_delay(Duration::ZERO).await.unwrap();

    let lsn = write(&cluster, 6).await;
    let written = Instant::now();
    cluster.wait_replayed(replica, lsn).await.unwrap();
    assert!(written.elapsed() < DELAY, "{:?}", written.elapsed());
}

#[tokio::test]
async fn levers_of_a_standby_are_refused_by_a_primary() {
    let cluster = cluster().await;
    let primary = cluster.primary();
    let code = |error: pg_cluster::Error| error.sql_state().map(|state| state.code().to_owned());
    assert_eq!(code(primary.pause_replay().await.unwrap_err()).as_deref(), Some("55000"));
    assert_eq!(code(primary.promote().await.unwrap_err()).as_deref(), Some("55000"));
    assert!(primary.reconnect_receiver().await.unwrap_err().to_string().contains("follows no other node"));
}
