//! Sessions that have seen something on a node that is then no longer what it was.

use crate::support::{self, notes, status, until, until_async};
use diesel::prelude::*;
use diesel_replicas::{ReadConn, Router, RouterBuilder, RunQueryDsl};
use pg_cluster::Cluster;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// A router that does not mind how far its replicas are behind.
fn patient(cluster: &Cluster) -> RouterBuilder {
    support::builder(cluster).lag_threshold(600 * SECOND).probe_interval(SECOND / 4)
}

async fn add(router: &Router, body: &str) {
    let row = diesel::insert_into(notes::table).values(notes::body.eq(body));
    row.execute(&mut router.write().await.unwrap()).await.unwrap();
}

async fn has<F>(conn: &mut ReadConn<F>, body: &str) -> bool
where
    F: diesel_replicas::Freshness,
{
    diesel::select(diesel::dsl::exists(notes::table.filter(notes::body.eq(body))))
        .get_result(conn)
        .await
        .unwrap()
}

#[tokio::test]
async fn what_a_session_saw_on_a_replica_that_began_anew_stays() {
    let cluster = support::cluster(2).await;
    let [primary, restarted, other] = cluster.nodes() else { panic!("as many as asked for") };
    let router = support::ready(patient(&cluster)).await;
    other.pause_replay().await.unwrap();
    add(&router, "new").await;
    cluster.wait_replayed(restarted, primary.position().await.unwrap().lsn).await.unwrap();
    let session = loop {
        let session = router.session();
        let mut conn = session.read().await.unwrap();
        if conn.node() == restarted.name() {
            assert!(has(&mut conn, "new").await);
            break session;
        }
    };
    // After a restart it waits with all that it had not flushed, and serves meanwhile.
    restarted.apply_delay(3600 * SECOND).await.unwrap();
    restarted.kill().await.unwrap();
    restarted.start().await.unwrap();
    println!("{:?} {:?}", session.token().await, cluster.positions().await);
    for _ in 0..4 {
        let mut conn = session.read().await.unwrap();
        assert!(has(&mut conn, "new").await, "{}", conn.node());
    }
}

#[tokio::test]
async fn what_a_session_saw_after_a_promotion_that_its_router_does_not_know_of_stays() {
    let cluster = support::cluster(2).await;
    let [old, promoted, other] = cluster.nodes() else { panic!("as many as asked for") };
    let router = support::ready(patient(&cluster)).await;
    let unaware = support::ready(support::blind(support::builder(&cluster))).await;
    let session = unaware.session();
    until_async("it has a connection to the other replica", async || {
        session.read().await.unwrap().node() == other.name()
    })
    .await;

    old.stop_fast().await.unwrap();
    promoted.promote().await.unwrap();
    other.follow(promoted).await.unwrap();
    old.follow(promoted).await.unwrap();
    until("writes go to the new primary", || status(&router, promoted.name()).serves_writes).await;
    until("the old one serves", || status(&router, old.name()).serves_reads).await;
    add(&router, "between").await;
    cluster.wait_replayed(old, promoted.position().await.unwrap().lsn).await.unwrap();
    old.pause_replay().await.unwrap();
    add(&router, "new").await;
    cluster.wait_replayed(other, promoted.position().await.unwrap().lsn).await.unwrap();

    until_async("the session has seen it", async || {
        let mut conn = session.read().await.unwrap();
        conn.node() == other.name() && has(&mut conn, "new").await
    })
    .await;
    let token = session.token().await.unwrap();
    println!("{token} {:?}", cluster.positions().await);
    for _ in 0..100 {
        let mut conn = router.read().after(&token).await.unwrap();
        assert!(has(&mut conn, "new").await, "{}", conn.node());
    }
}
