//! Queries that are under way when something happens to them.

use super::{Failure, in_time, is_well, read};
use crate::proxy::{Proxy, port};
use crate::support::{self, notes, until_async};
use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error as QueryError};
use diesel_replicas::{Error, Retry, Router, RunQueryDsl};
use pg_cluster::{Cluster, Node};
use std::sync::atomic::{AtomicUsize, Ordering};

diesel::define_sql_function! {
    /// Sleeps on the server.
    fn pg_sleep(seconds: diesel::sql_types::Double) -> diesel::sql_types::Bool;
}

/// Reads for a minute, unless this is the node where it is to end; says where that was.
async fn read_long_but_on(router: &Router, last: &str, runs: &AtomicUsize) -> Result<String, Failure> {
    let reading = router.with_read(async |conn| {
        runs.fetch_add(1, Ordering::Relaxed);
        if conn.node() == last {
            notes::table.count().get_result::<i64>(conn).await?;
        } else {
            notes::table.select((pg_sleep(60.0), notes::body)).execute(conn).await?;
        }
        Ok(conn.node().to_owned())
    });
    in_time(reading).await
}

/// Waits until such a read runs on the node.
async fn until_reading(node: &Node) {
    let running = "SELECT count(*)::text FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' \
                   AND state = 'active' AND application_name = 'diesel-replicas'";
    until_async("it runs", async || node.sql(running).await.unwrap().as_deref() == Some("1")).await;
}

/// A read that is under way on the only replica, and is to end on the primary after something has happened to it there; then one
/// on a plain handle, that fails.
async fn survives(cluster: &Cluster, router: &Router, happen: impl AsyncFn(&Node)) -> QueryError {
    let (replica, primary) = (cluster.replica(0), cluster.primary());
    let runs = AtomicUsize::new(0);
    let happening = async {
        until_reading(replica).await;
        happen(replica).await;
    };
    let (read, ()) = tokio::join!(read_long_but_on(router, primary.name(), &runs), happening);
    assert_eq!(read.unwrap(), primary.name());
    assert_eq!(runs.into_inner(), 2);

    replica.start().await.unwrap();
    is_well(router, cluster, primary.name()).await;
    let mut conn = router.read().await.unwrap();
    let reading = async { notes::table.select((pg_sleep(60.0), notes::body)).execute(&mut conn).await };
    let happening = async {
        until_reading(replica).await;
        happen(replica).await;
    };
    let (read, ()) = tokio::join!(in_time(reading), happening);
    let error = read.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    error
}

/// Expected: `with_read` runs the closure again elsewhere; a plain handle's query fails with an error that says so.
#[tokio::test]
async fn a_replica_is_killed_in_mid_query() {
    let cluster = support::cluster(1).await;
    let router = support::router(&cluster).await;
    let error = survives(&cluster, &router, async |node| node.kill().await.unwrap()).await;
    assert!(error.to_string().contains("closed"), "{error:?}");
    cluster.replica(0).start().await.unwrap();
    is_well(&router, &cluster, cluster.primary().name()).await;
}

/// Expected: the same; the server says that it shuts down.
#[tokio::test]
async fn a_replica_is_stopped_in_mid_query() {
    let cluster = support::cluster(1).await;
    let router = support::router(&cluster).await;
    let error = survives(&cluster, &router, async |node| node.stop_fast().await.unwrap()).await;
    assert!(error.to_string().contains("administrator command"), "{error:?}");
    cluster.replica(0).start().await.unwrap();
    is_well(&router, &cluster, cluster.primary().name()).await;
}

/// Expected: a write is not run again. What it did is not known; the error is the query's own.
#[tokio::test]
async fn the_primary_is_killed_in_mid_write() {
    let cluster = support::cluster(1).await;
    let router = support::router(&cluster).await;
    let runs = AtomicUsize::new(0);
    let writing = router.with_write(async |conn| {
        runs.fetch_add(1, Ordering::Relaxed);
        diesel::insert_into(notes::table).values(notes::body.eq("lost")).execute(conn).await?;
        diesel::select(pg_sleep(60.0)).execute(conn).await?;
        Ok::<_, Failure>(())
    });
    let killing = async {
        until_reading(cluster.primary()).await;
        cluster.primary().kill().await.unwrap();
    };
    let (written, ()) = tokio::join!(in_time(writing), killing);
    assert!(matches!(written, Err(Failure::Query(_) | Failure::Router(Error::Lost { .. }))), "{written:?}");
    assert_eq!(runs.into_inner(), 1);
    cluster.primary().start().await.unwrap();
    is_well(&router, &cluster, cluster.primary().name()).await;
    let lost = "SELECT count(*)::text FROM notes WHERE body = 'lost'";
    assert_eq!(cluster.primary().sql(lost).await.unwrap().as_deref(), Some("0"), "it was never committed");
}

/// Expected: the server cancels the query so that replay goes on. `with_read` runs the closure again elsewhere; a plain handle's
/// query fails, and its connection stays good. The replica stays in service: this is no fault of its own.
#[tokio::test]
async fn a_query_is_cancelled_by_a_recovery_conflict() {
    let cluster =
        support::with_notes(Cluster::builder().replicas(1).setting("max_standby_streaming_delay", "0")).await;
    let router = support::router(&cluster).await;
    let (primary, replica) = (cluster.primary(), cluster.replica(0));
    let number = AtomicUsize::new(0);
    let conflict = async |_: &Node| {
        let column = number.fetch_add(1, Ordering::Relaxed);
        primary.sql(&format!("ALTER TABLE notes ADD COLUMN extra{column} int")).await.unwrap();
    };
    let error = survives(&cluster, &router, conflict).await;
    let kind = |error: &QueryError| {
        matches!(error, QueryError::DatabaseError(DatabaseErrorKind::SerializationFailure, _))
    };
    assert!(kind(&error), "{error:?}");
    assert!(error.to_string().contains("conflict with recovery"), "{error}");
    assert_eq!(read(&router).await.unwrap(), replica.name());
    is_well(&router, &cluster, primary.name()).await;
}

/// Expected: never a short result. `with_read` runs the closure again elsewhere and returns all rows; a plain handle's query fails.
#[tokio::test]
async fn a_result_is_cut_off_in_the_middle() {
    const ROWS: i64 = 5000;
    let cluster = support::cluster(1).await;
    let (primary, replica) = (cluster.primary(), cluster.replica(0));
    let rows = format!("INSERT INTO notes (body) SELECT repeat('x', 100) FROM generate_series(2, {ROWS})");
    primary.sql(&rows).await.unwrap();
    cluster.wait_replayed(replica, primary.position().await.unwrap().lsn).await.unwrap();
    let proxy = Proxy::start(port(&replica.url())).await;
    let url = |node: &Node| if node.name() == replica.name() { proxy.url(&node.url()) } else { node.url() };
    let router = support::ready(super::builder(&cluster, url)).await;

    let runs = AtomicUsize::new(0);
    proxy.cut_after(200_000);
    let reading = router.with_read(async |conn| {
        runs.fetch_add(1, Ordering::Relaxed);
        let rows = notes::table.load::<(i32, String)>(conn).await?;
        Ok::<_, Failure>((conn.node().to_owned(), rows.len() as i64))
    });
    assert_eq!(in_time(reading).await.unwrap(), (primary.name().to_owned(), ROWS));
    assert_eq!(runs.into_inner(), 2);
    assert!(proxy.has_cut());

    is_well(&router, &cluster, primary.name()).await;
    let mut conn = router.read().await.unwrap();
    assert_eq!(conn.node(), replica.name());
    proxy.cut_after(200_000);
    let error = in_time(async { notes::table.load::<(i32, String)>(&mut conn).await }).await.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    drop(conn);
    is_well(&router, &cluster, primary.name()).await;
}
