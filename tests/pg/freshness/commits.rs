//! What a commit's token covers, and what becomes of commits that go wrong.

use super::{SECOND, add, has, patient};
use crate::support::{self, notes};
use diesel::connection::CacheSize;
use diesel::prelude::*;
use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};
use diesel_replicas::{NodeConfig, Router, RunQueryDsl};
use pg_cluster::Cluster;
use std::time::Instant;
use tokio::time::timeout;

async fn insert(conn: &mut AsyncPgConnection, body: &str) -> QueryResult<usize> {
    diesel::insert_into(notes::table).values(notes::body.eq(body)).execute(conn).await
}

/// A cluster that takes its time to write what nobody waits for.
async fn lazy() -> Cluster {
    support::with_notes(Cluster::builder().replicas(0).setting("wal_writer_delay", "10s")).await
}

async fn inserted(cluster: &Cluster) -> u64 {
    let sql = "SELECT (pg_current_wal_insert_lsn() - '0/0')::text";
    cluster.primary().sql(sql).await.unwrap().unwrap().parse().unwrap()
}

/// Commits without waiting, and checks that the token covers it.
async fn is_covered(cluster: &Cluster, router: &Router, before: impl AsyncFn(&mut AsyncPgConnection) + Sync) {
    let mut conn = router.write().await.unwrap();
    before(&mut conn).await;
    drop(conn);
    let (at, token) = router
        .with_write(async |conn| {
            conn.batch_execute("SET LOCAL synchronous_commit = off").await?;
            insert(conn, "new").await?;
            QueryResult::Ok(inserted(cluster).await)
        })
        .await
        .unwrap();
    assert!(token.lsn().unwrap().get() > at, "{token} is before {at:x}");
}

#[tokio::test]
async fn a_commit_that_nobody_waits_for_is_covered_whatever_the_connection_did_before() {
    let cluster = lazy().await;
    let router = support::ready(support::builder(&cluster).pool_size(1)).await;
    let swallowed = router.with_write(async |conn| {
        let _ = conn.batch_execute("SELECT 1/0").await;
        QueryResult::Ok(())
    });
    swallowed.await.unwrap_err();
    is_covered(&cluster, &router, async |_| {}).await;
    is_covered(&cluster, &router, async |_| {}).await;
    is_covered(&cluster, &router, async |conn| {
        AsyncConnection::set_prepared_statement_cache_size(conn, CacheSize::Disabled);
    })
    .await;
    is_covered(&cluster, &router, async |conn| {
        let shadow = "CREATE SCHEMA shadow; SET search_path = shadow, public, pg_catalog; \
                      CREATE FUNCTION shadow.current_setting(text) RETURNS text LANGUAGE sql AS $$ SELECT 'on' $$; \
                      CREATE FUNCTION shadow.pg_current_wal_lsn() RETURNS pg_lsn LANGUAGE sql AS $$ SELECT '0/1'::pg_lsn $$; \
                      CREATE FUNCTION shadow.pg_current_wal_insert_lsn() RETURNS pg_lsn LANGUAGE sql AS $$ SELECT '0/1'::pg_lsn $$";
        conn.batch_execute(shadow).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_role_that_may_not_ask_for_the_position_commits_as_fast() {
    let cluster = support::cluster(0).await;
    let sql = "CREATE ROLE app LOGIN; GRANT ALL ON notes TO app; REVOKE EXECUTE ON FUNCTION pg_current_wal_lsn() FROM PUBLIC";
    cluster.primary().sql(sql).await.unwrap();
    let url = cluster.primary().url().replace("postgres@", "app@");
    let router = support::ready(Router::builder().primary(NodeConfig::new(url).name("primary"))).await;
    add(&router, "first").await;
    let started = Instant::now();
    let token = add(&router, "second").await;
    assert_eq!(token.lsn(), None);
    assert!(started.elapsed() < SECOND / 4, "{:?}", started.elapsed());
    assert!(has(&mut router.read().after(&token).await.unwrap(), "second").await);
}

#[tokio::test]
async fn what_an_abandoned_transaction_inside_leaves_open_is_not_taken_for_committed() {
    let cluster = support::cluster(0).await;
    let router = support::ready(patient(&cluster)).await;
    let written = router
        .with_write(async |conn| {
            let slow = conn.transaction(async |conn| {
                insert(conn, "inner").await?;
                std::future::pending::<()>().await;
                QueryResult::Ok(())
            });
            timeout(SECOND / 10, slow).await.expect_err("it never ends");
            insert(conn, "outer").await
        })
        .await;
    let there = has(&mut router.read().latest().await.unwrap(), "outer").await;
    assert_eq!(written.is_ok(), there, "{written:?}");
}
