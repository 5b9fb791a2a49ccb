//! Which reads use replicas while they are rolled out.

use crate::support::{self, notes};
use diesel::prelude::*;
use diesel_replicas::{Fallback, Rollout, Router, RunQueryDsl, Session};

/// How many of so many reads a replica served.
async fn on_replicas(router: &Router, primary: &str, site: &str, reads: usize) -> usize {
    let mut served = 0;
    for _ in 0..reads {
        let mut conn = router.read().site(site).await.unwrap();
        notes::table.count().get_result::<i64>(&mut conn).await.unwrap();
        served += usize::from(conn.node() != primary);
    }
    served
}

async fn is_on_replica(session: &Session, primary: &str) -> bool {
    session.read().await.unwrap().node() != primary
}

#[tokio::test]
async fn a_share_of_reads_uses_replicas_and_it_changes_without_a_restart() {
    let cluster = support::cluster(1).await;
    let router = support::ready(support::builder(&cluster).fallback(Fallback::Fail)).await;
    let primary = cluster.primary().name();
    for (percent, wanted) in
        [(0.0, 0..=0), (10.0, 19..=21), (50.0, 99..=101), (100.0, 200..=200), (0.0, 0..=0)]
    {
        router.set_rollout(Rollout::default().percent(percent)).unwrap();
        assert_eq!(router.status().rollout.percent, percent);
        let got = on_replicas(&router, primary, "notes.count", 200).await;
        assert!(wanted.contains(&got), "{percent} %: {got} of 200");
    }
    router.set_rollout(Rollout::default().percent(101.0)).unwrap_err();
    assert_eq!(router.rollout().percent, 0.0);
}

#[tokio::test]
async fn only_call_sites_that_are_allowed_use_replicas() {
    let cluster = support::cluster(1).await;
    let router = support::router(&cluster).await;
    let primary = cluster.primary().name();
    router.set_rollout(Rollout::default().allow(["notes.count", "rooms.*"])).unwrap();
    for (site, wanted) in [("notes.count", 10), ("rooms.list", 10), ("notes.list", 0)] {
        assert_eq!(on_replicas(&router, primary, site, 10).await, wanted, "{site}");
    }
    assert_eq!(router.read().await.unwrap().node(), primary);
}

#[tokio::test]
async fn a_read_after_a_token_or_in_a_closure_keeps_off_replicas_as_well() {
    let cluster = support::cluster(1).await;
    let router = support::ready(support::builder(&cluster).fallback(Fallback::Fail)).await;
    let primary = cluster.primary().name();
    router.set_rollout(Rollout::default().percent(0.0)).unwrap();
    let (_, token) = router
        .with_write(async |conn| {
            diesel::insert_into(notes::table).values(notes::body.eq("second")).execute(conn).await
        })
        .await
        .unwrap();
    let mut conn = router.read().after(&token).await.unwrap();
    assert_eq!(conn.node(), primary);
    assert_eq!(notes::table.count().get_result::<i64>(&mut conn).await.unwrap(), 2);
    let stale = router.read().max_staleness(support::PATIENCE).await.unwrap();
    assert_eq!(stale.node(), primary);
    let node = router.with_read(async |conn| Ok::<_, diesel_replicas::Error>(conn.node().to_owned()));
    assert_eq!(node.await.unwrap(), primary);
}

#[tokio::test]
async fn a_session_uses_replicas_for_all_of_its_reads_or_for_none() {
    let cluster = support::cluster(1).await;
    let router = support::router(&cluster).await;
    let primary = cluster.primary().name();
    router.set_rollout(Rollout::default().percent(50.0)).unwrap();
    let mut on = 0;
    for _ in 0..20 {
        let session = router.session();
        let first = is_on_replica(&session, primary).await;
        for _ in 0..5 {
            assert_eq!(is_on_replica(&session, primary).await, first);
        }
        on += usize::from(first);
    }
    assert!((9..=11).contains(&on), "{on} of 20 sessions");
}
