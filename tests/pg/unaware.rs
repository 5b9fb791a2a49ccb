//! Two routers of which one does not know yet what has become of the cluster.

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
async fn what_is_read_through_a_router_that_does_not_know_of_a_promotion_stays_read_elsewhere() {
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
    assert_eq!(token.timeline(), Some(1), "all that its router knows of");
    // One that is back is seldom picked at first.
    for _ in 0..100 {
        let mut conn = router.read().after(&token).await.unwrap();
        assert!(has(&mut conn, "new").await, "{}", conn.node());
    }
}
