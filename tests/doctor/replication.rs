//! Replicas that do not keep up, and slots that hold log back.

use crate::support::{self, doctor, environment, says};
use pg_cluster::Cluster;
use std::time::Duration;

#[tokio::test]
async fn a_paused_replay_is_told_with_the_lag_that_it_makes() {
    let cluster = support::cluster(2).await;
    cluster.replica(0).pause_replay().await.unwrap();
    let told = doctor(environment(&cluster)).await;
    assert_eq!(
        (told.status, told.bad()),
        (2, vec!["problem replay replica1".into()]),
        "nothing was written yet"
    );
    cluster.primary().sql("INSERT INTO notes VALUES ('new')").await.unwrap();
    let told = doctor(environment(&cluster)).await;
    assert_eq!(told.bad(), ["problem replay replica1", "problem lag replica1"]);
    assert!(says(told.only("lag"), "found", "5000 ms before"));
    assert!(told.node("replica1")["lag_ms"].is_null());
    assert!(told.node("replica2")["lag_ms"].is_u64());
}

#[tokio::test]
async fn lag_is_measured() {
    let cluster = support::cluster(1).await;
    let delay = Duration::from_millis(4500);
    cluster.replica(0).apply_delay(delay).await.unwrap();
    cluster.primary().sql("INSERT INTO notes VALUES ('new')").await.unwrap();
    let told = doctor(environment(&cluster)).await;
    assert_eq!((told.status, told.bad()), (1, vec!["warning lag replica1".into(); 2]));
    // What was written before the sample is held back for what is left of its delay.
    let lag = told.node("replica1")["lag_ms"].as_u64().unwrap();
    assert!((1001..=5000).contains(&lag), "{lag}");
}

#[tokio::test]
async fn a_receiver_that_has_stopped_is_told() {
    let cluster = support::cluster(1).await;
    cluster.replica(0).cut_receiver().await.unwrap();
    let told = doctor(environment(&cluster)).await;
    assert_eq!((told.status, told.bad()), (2, vec!["problem receiver replica1".into()]));
}

#[tokio::test]
async fn a_slot_that_nobody_uses_is_told_with_the_command_to_drop_it() {
    let cluster = support::cluster(1).await;
    cluster.primary().sql("SELECT pg_create_physical_replication_slot('old', true)").await.unwrap();
    let told = doctor(environment(&cluster)).await;
    assert_eq!((told.status, told.bad()), (1, vec!["warning slots primary".into()]));
    assert!(says(told.only("slots"), "action", "pg_drop_replication_slot('old')"));
}

#[tokio::test]
async fn settings_of_a_replica_are_told_with_what_they_do_to_queries() {
    let builder = Cluster::builder().replicas(1).setting("wal_receiver_status_interval", "0");
    let cluster = support::with_roles(builder).await;
    let replica = cluster.replica(0);
    replica.sql("ALTER SYSTEM SET max_standby_streaming_delay = -1").await.unwrap();
    replica.sql("SELECT pg_reload_conf()").await.unwrap();
    support::until_async("the setting is in force", async || {
        replica.sql("SHOW max_standby_streaming_delay").await.unwrap().as_deref() == Some("-1")
    })
    .await;
    let told = doctor(environment(&cluster)).await;
    assert_eq!(
        (told.status, told.bad()),
        (1, vec!["warning conflicts replica1".into(), "warning receiver replica1".into()])
    );
}
