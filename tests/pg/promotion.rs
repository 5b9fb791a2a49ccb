//! Roles are observed: writes follow a promotion, and nothing else.

use crate::support::{self, notes, status, until, until_health};
use diesel::prelude::*;
use diesel_replicas::{Error, HealthState, Reason, Role, Router, RunQueryDsl};
use pg_cluster::Node;
use std::time::{Duration, Instant};

async fn write(router: &Router) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
    let mut conn = router.write().await?;
    diesel::insert_into(notes::table).values(notes::body.eq("more")).execute(&mut conn).await?;
    Ok(conn.node().to_owned())
}

/// Writes until the node takes them, and says how long that took.
async fn until_written_to(router: &Router, node: &Node) -> Duration {
    let started = Instant::now();
    loop {
        if write(router).await.is_ok_and(|written| written == node.name()) {
            return started.elapsed();
        }
        assert!(started.elapsed() < support::PATIENCE, "writes never go to {}", node.name());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn writes_follow_a_promotion_while_the_old_primary_lives() {
    let cluster = support::cluster(2).await;
    let router = support::router(&cluster).await;
    let (old, promoted, follower) = (cluster.primary(), cluster.replica(0), cluster.replica(1));
    assert_eq!(write(&router).await.unwrap(), old.name());
    promoted.promote().await.unwrap();
    let took = until_written_to(&router, promoted).await;
    assert!(took < Duration::from_secs(1), "{took:?}");

    assert_eq!(status(&router, promoted.name()).role, Role::Primary);
    assert!(status(&router, promoted.name()).serves_writes);
    let deposed = status(&router, old.name());
    assert_eq!((deposed.health, deposed.serves_writes), (HealthState::Refused, false));
    assert_eq!(deposed.reason, Reason::Deposed { timeline: 1, primary: 2 });
    // It replays what the deposed primary writes: another history.
    until_health(&router, follower.name(), HealthState::Lagging).await;
    let astray = Reason::OtherTimeline { follows: 1, primary: 2 };
    assert_eq!(status(&router, follower.name()).reason, astray);
    assert_eq!(router.read().await.unwrap().node(), promoted.name());

    // What it is told to follow, it serves again.
    follower.follow(promoted).await.unwrap();
    until_health(&router, follower.name(), HealthState::Healthy).await;
    old.follow(promoted).await.unwrap();
    until_health(&router, old.name(), HealthState::Healthy).await;
    assert_eq!(status(&router, old.name()).role, Role::Replica);
    until("the old primary serves reads", || status(&router, old.name()).serves_reads).await;
}

#[tokio::test]
async fn writes_follow_a_promotion_after_the_primary_died_and_wait_for_it() {
    let cluster = support::cluster(2).await;
    let router = support::router(&cluster).await;
    write(&router).await.unwrap();
    cluster.primary().kill().await.unwrap();
    until_health(&router, cluster.primary().name(), HealthState::Unreachable).await;
    let started = Instant::now();
    let error = router.write().await.unwrap_err();
    assert!(matches!(error, Error::NoPrimary { .. }), "{error:?}");
    assert!(started.elapsed() < Duration::from_secs(1), "two probe intervals: {:?}", started.elapsed());
    assert!(error.to_string().contains("no node that answers is writable"), "{error}");
    assert!(error.is_unavailable());

    cluster.replica(0).promote().await.unwrap();
    let took = until_written_to(&router, cluster.replica(0)).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
}
