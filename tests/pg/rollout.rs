//! Which reads use replicas while they are rolled out.

use crate::support::{self, notes, until};
use diesel::prelude::*;
use diesel_replicas::{AssertReadOnlyDsl, Fallback, Rollout, Router, RunQueryDsl, Session, ShadowStatus};

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
async fn a_configuration_has_a_rollout_and_puts_it_in_force_when_it_is_reloaded() {
    let cluster = support::cluster(1).await;
    let of_service =
        |name: &str| support::builder(&cluster).service(name).read_replicas_allow(["service:chat"]);
    let router = support::ready(of_service("chat").read_replicas_percent(50.0).shadow_percent(3.0)).await;
    let primary = cluster.primary().name();
    let half = on_replicas(&router, primary, "notes.count", 100).await;
    assert!((49..=51).contains(&half), "{half} of 100");
    assert_eq!(router.rollout().shadow_percent, 3.0);
    router.reload(of_service("mail").config().unwrap()).await.unwrap();
    assert_eq!(on_replicas(&router, primary, "notes.count", 10).await, 0);
    router.set_rollout(router.rollout().allow(["notes.*"])).unwrap();
    assert_eq!(on_replicas(&router, primary, "notes.count", 10).await, 10);
    router.set_rollout(router.rollout().allow(["service:mail"])).unwrap();
    assert_eq!(on_replicas(&router, primary, "notes.count", 10).await, 10, "it is still called so");
    let wrong =
        support::builder(&cluster).read_replicas_percent(101.0).service(" ").shadow_percent(-1.0).config();
    let keys: Vec<_> = wrong.unwrap_err().faults().iter().map(|fault| fault.key().to_owned()).collect();
    assert_eq!(keys, ["read_replicas_percent", "shadow_percent", "service"]);
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

#[derive(QueryableByName, Clone, PartialEq, Debug)]
struct Told {
    #[diesel(sql_type = diesel::sql_types::Bool)]
    told: bool,
}

#[derive(QueryableByName, Clone, PartialEq, Debug)]
struct Text {
    #[diesel(sql_type = diesel::sql_types::Text)]
    told: String,
}

async fn tell(router: &Router, sql: &'static str) -> Result<Vec<Told>, diesel::result::Error> {
    router
        .with_shadowed_read(move |conn| {
            Box::pin(async move { diesel::sql_query(sql).assert_read_only().load(conn).await })
        })
        .await
}

#[tokio::test]
async fn a_read_that_runs_on_a_replica_as_well_is_compared_and_never_felt() {
    let cluster = support::cluster(1).await;
    let router = support::ready(support::builder(&cluster)).await;
    let shadow = || router.status().shadow;
    let same = "SELECT count(*) = 1 AS told FROM notes";

    // Neither those that are not asked for, nor those that a replica served.
    router.set_rollout(Rollout::default().percent(0.0)).unwrap();
    tell(&router, same).await.unwrap();
    router.set_rollout(Rollout::default().shadow_percent(100.0)).unwrap();
    tell(&router, same).await.unwrap();
    let shadowed = Rollout::default().percent(0.0).shadow_percent(100.0);
    router.set_rollout(shadowed).unwrap();
    tell(&router, same).await.unwrap();
    until("it is compared", || shadow() != ShadowStatus::default()).await;
    assert_eq!((shadow().equal, shadow().different, shadow().skipped), (1, 0, 0));

    let told = tell(&router, "SELECT pg_is_in_recovery() AS told").await.unwrap();
    assert_eq!(told, [Told { told: false }], "the primary's");
    until("the difference is counted", || shadow().different == 1).await;

    tell(
        &router,
        "SELECT nextval(seq) > 0 AS told FROM (SELECT 'nothing' AS seq WHERE pg_is_in_recovery()) AS s",
    )
    .await
    .unwrap();
    until("the failure is counted", || shadow().failed == 1).await;

    let started = std::time::Instant::now();
    tell(&router, "SELECT pg_sleep(CASE WHEN pg_is_in_recovery() THEN 60 ELSE 0 END) IS NULL AS told")
        .await
        .unwrap();
    assert!(started.elapsed() < std::time::Duration::from_millis(900), "{:?}", started.elapsed());
    until("it is given up", || shadow().timed_out == 1).await;
    support::until_quiet(cluster.replica(0)).await;

    // What changes between the reads is no difference: each of them tells another time.
    router
        .with_shadowed_read(move |conn| {
            Box::pin(async move {
                let sql = "SELECT clock_timestamp()::text AS told";
                diesel::sql_query(sql).assert_read_only().load::<Text>(conn).await
            })
        })
        .await
        .unwrap();
    until("the change is counted", || shadow().changed == 1).await;

    // A replica that lags is not compared with.
    cluster.replica(0).sql("SELECT pg_wal_replay_pause()").await.unwrap();
    router
        .with_write(async |conn| {
            diesel::insert_into(notes::table).values(notes::body.eq("second")).execute(conn).await
        })
        .await
        .unwrap();
    tell(&router, same).await.unwrap();
    until("it is skipped", || shadow().skipped == 1).await;
    let ShadowStatus { equal, different, failed, timed_out, changed, .. } = shadow();
    assert_eq!((equal, different, failed, timed_out, changed), (1, 1, 1, 1, 1));
}

#[tokio::test]
async fn a_shadowed_read_that_panics_on_the_replica_or_is_dropped_harms_nobody() {
    let cluster = support::cluster(1).await;
    let router = support::ready(support::builder(&cluster)).await;
    let replica = cluster.replica(0).name().to_owned();
    router.set_rollout(Rollout::default().percent(0.0).shadow_percent(100.0)).unwrap();
    let read = router.with_shadowed_read(move |conn| {
        let on_replica = conn.node() == replica;
        Box::pin(async move {
            assert!(!on_replica, "this read panics where it is not asked to run");
            Ok::<_, diesel_replicas::Error>(7)
        })
    });
    assert_eq!(read.await.unwrap(), 7);
    until("the panic is counted", || router.status().shadow.failed == 1).await;

    let sleeps = tell(&router, "SELECT pg_sleep(60) IS NULL AS told");
    tokio::time::timeout(std::time::Duration::from_millis(50), sleeps).await.unwrap_err();
    support::until_quiet(cluster.primary()).await;
    let ShadowStatus { equal, different, changed, failed, timed_out, skipped, .. } = router.status().shadow;
    assert_eq!(
        equal + different + changed + failed + timed_out + skipped,
        1,
        "a dropped call runs on no replica"
    );
}
