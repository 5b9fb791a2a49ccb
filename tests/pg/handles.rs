//! What a dropped handle leaves behind: nothing.

use crate::support::{self, notes, until_async, until_quiet};
use diesel::prelude::*;
use diesel_async::{AsyncConnection, SimpleAsyncConnection};
use diesel_replicas::{ReadConn, Router, RunQueryDsl, WriteConn};
use futures_util::{FutureExt, StreamExt};
use pg_cluster::{Cluster, Node};
use std::time::Duration;
use tokio::time::timeout;

diesel::define_sql_function! {
    /// Sleeps on the server.
    fn pg_sleep(seconds: diesel::sql_types::Double) -> diesel::sql_types::Bool;
}

diesel::define_sql_function! {
    /// The server process behind the connection.
    fn pg_backend_pid() -> diesel::sql_types::Integer;
}

#[diesel::declare_sql_function]
extern "SQL" {
    #[sql_name = "generate_series"]
    fn numbers(
        from: diesel::sql_types::Integer,
        to: diesel::sql_types::Integer,
    ) -> diesel::sql_types::Integer;
}

const LONG: f64 = 120.0;

/// A router with one connection a pool, so that every handle of a kind meets what the one before left.
async fn one_connection(cluster: &Cluster) -> Router {
    support::ready(support::builder(cluster).pool_size(1)).await
}

/// How many statements with this text the server is running for the router.
async fn running(node: &Node, text: &str) -> String {
    let sql = format!(
        "SELECT count(*)::text FROM pg_stat_activity \
         WHERE application_name = 'diesel-replicas' AND state = 'active' AND query LIKE '%{text}%'"
    );
    node.sql(&sql).await.unwrap().unwrap()
}

async fn until_running(node: &Node, text: &str) {
    until_async("the statement runs", async || running(node, text).await == "1").await;
}

/// The next reader is served at once, and outside of any transaction of somebody else.
async fn assert_clean_for_readers(router: &Router) {
    let mut conn = timeout(Duration::from_secs(5), router.read()).await.unwrap().unwrap();
    let count = timeout(Duration::from_secs(5), notes::table.count().get_result::<i64>(&mut conn)).await;
    assert!(count.expect("nothing runs ahead of the query").unwrap() >= 1);
}

/// The next writer's row is there for others as soon as it says so.
async fn assert_clean_for_writers(router: &Router, cluster: &Cluster, body: &str) {
    let mut conn = timeout(Duration::from_secs(5), router.write()).await.unwrap().unwrap();
    let insert = diesel::insert_into(notes::table).values(notes::body.eq(body)).execute(&mut conn);
    assert_eq!(timeout(Duration::from_secs(5), insert).await.expect("nothing runs ahead of it").unwrap(), 1);
    let sql = format!("SELECT count(*)::text FROM notes WHERE body = '{body}'");
    let count = cluster.primary().sql(&sql).await;
    assert_eq!(count.unwrap().as_deref(), Some("1"), "the row was written inside a leftover transaction");
}

#[tokio::test]
async fn a_read_dropped_in_mid_query_is_cancelled_on_the_server() {
    let cluster = support::cluster(1).await;
    let router = one_connection(&cluster).await;
    let replica = cluster.replica(0);
    let mut conn = router.read().await.unwrap();
    {
        let query = diesel::select(pg_sleep(LONG)).execute(&mut conn);
        tokio::select! {
            _ = query => panic!("it sleeps for two minutes"),
            () = until_running(replica, "pg_sleep") => {}
        }
    }
    drop(conn);
    assert_clean_for_readers(&router).await;
    until_quiet(replica).await;
}

#[tokio::test]
async fn a_write_dropped_in_mid_query_is_cancelled_on_the_server() {
    let cluster = support::cluster(0).await;
    let router = one_connection(&cluster).await;
    let mut conn = router.write().await.unwrap();
    {
        let connection: &mut diesel_async::AsyncPgConnection = &mut conn;
        let query = connection.batch_execute("INSERT INTO notes (body) SELECT 'late' FROM pg_sleep(120)");
        tokio::select! {
            _ = query => panic!("it sleeps for two minutes"),
            () = until_running(cluster.primary(), "late") => {}
        }
    }
    drop(conn);
    assert_clean_for_writers(&router, &cluster, "next").await;
    until_quiet(cluster.primary()).await;
    let late = cluster.primary().sql("SELECT count(*)::text FROM notes WHERE body = 'late'").await.unwrap();
    assert_eq!(late.as_deref(), Some("0"));
}

/// Such a query has not reached the socket when the handle is dropped.
#[tokio::test]
async fn a_query_that_was_polled_once_and_dropped_is_cancelled_as_well() {
    let cluster = support::cluster(1).await;
    let router = one_connection(&cluster).await;
    for _ in 0..20 {
        let mut conn = router.read().await.unwrap();
        // Prepared, so that the first poll queues the query itself.
        diesel::select(pg_sleep(0.0)).execute(&mut conn).await.unwrap();
        let answer = diesel::select(pg_sleep(LONG)).execute(&mut conn).now_or_never();
        assert!(answer.is_none());
        drop(conn);
        assert_clean_for_readers(&router).await;
    }
    until_quiet(cluster.replica(0)).await;

    let mut conn = router.write().await.unwrap();
    let answer = conn.batch_execute("BEGIN").now_or_never();
    assert!(answer.is_none());
    drop(conn);
    assert_clean_for_writers(&router, &cluster, "next").await;
    until_quiet(cluster.primary()).await;
}

#[tokio::test]
async fn a_half_read_stream_is_cancelled_on_the_server() {
    let cluster = support::cluster(1).await;
    let router = one_connection(&cluster).await;
    let endless = || diesel::select(numbers(1, i32::MAX));
    {
        let mut conn = router.read().await.unwrap();
        let mut rows = endless().load_stream::<i32>(&mut conn).await.unwrap();
        assert_eq!(rows.next().await.unwrap().unwrap(), 1);
    }
    assert_clean_for_readers(&router).await;
    {
        let mut conn = router.write().await.unwrap();
        let mut rows = endless().load_stream::<i32>(&mut conn).await.unwrap();
        assert_eq!(rows.next().await.unwrap().unwrap(), 1);
    }
    assert_clean_for_writers(&router, &cluster, "next").await;
    until_quiet(cluster.replica(0)).await;
    until_quiet(cluster.primary()).await;
}

#[tokio::test]
async fn a_transaction_that_was_dropped_is_rolled_back() {
    let cluster = support::cluster(1).await;
    let router = one_connection(&cluster).await;

    async fn write_and_wait(conn: &mut WriteConn) -> QueryResult<()> {
        conn.transaction(async |conn| {
            diesel::insert_into(notes::table).values(notes::body.eq("lost")).execute(conn).await?;
            std::future::pending().await
        })
        .await
    }
    let mut conn = router.write().await.unwrap();
    assert!(timeout(Duration::from_millis(200), write_and_wait(&mut conn)).await.is_err());
    drop(conn);
    assert_clean_for_writers(&router, &cluster, "next").await;
    let lost = cluster.primary().sql("SELECT count(*)::text FROM notes WHERE body = 'lost'").await.unwrap();
    assert_eq!(lost.as_deref(), Some("0"));

    async fn read_and_wait(conn: &mut ReadConn) -> QueryResult<()> {
        let wait = async |conn: &mut ReadConn| {
            notes::table.count().get_result::<i64>(conn).await?;
            std::future::pending().await
        };
        conn.snapshot().run(wait).await
    }
    let mut conn = router.read().await.unwrap();
    assert!(timeout(Duration::from_millis(200), read_and_wait(&mut conn)).await.is_err());
    drop(conn);
    assert_clean_for_readers(&router).await;
    until_quiet(cluster.replica(0)).await;
    until_quiet(cluster.primary()).await;
}

#[tokio::test]
async fn a_transaction_opened_by_raw_sql_is_rolled_back() {
    let cluster = support::cluster(0).await;
    let router = one_connection(&cluster).await;
    for failed in [false, true] {
        let mut conn = router.write().await.unwrap();
        conn.batch_execute("BEGIN; INSERT INTO notes (body) VALUES ('lost')").await.unwrap();
        if failed {
            conn.batch_execute("SELECT 1/0").await.unwrap_err();
        }
        drop(conn);
        let body = format!("after a failed one: {failed}");
        assert_clean_for_writers(&router, &cluster, &body).await;
    }
    let lost = cluster.primary().sql("SELECT count(*)::text FROM notes WHERE body = 'lost'").await.unwrap();
    assert_eq!(lost.as_deref(), Some("0"));
    until_quiet(cluster.primary()).await;
}

#[tokio::test]
async fn a_connection_in_order_is_used_again() {
    let cluster = support::cluster(1).await;
    let router = support::router(&cluster).await;
    let mut pids = std::collections::BTreeSet::new();
    for _ in 0..50 {
        let mut conn = router.read().await.unwrap();
        pids.insert(diesel::select(pg_backend_pid()).get_result::<i32>(&mut conn).await.unwrap());
        let all: Vec<String> = notes::table.select(notes::body).load(&mut conn).await.unwrap();
        assert_eq!(all, ["first"]);
        notes::table.find(-1).first::<(i32, String)>(&mut conn).await.unwrap_err();
    }
    assert_eq!(pids.len(), 1, "one at a time needs one connection: {pids:?}");
    for _ in 0..50 {
        let mut conn = router.write().await.unwrap();
        pids.insert(diesel::select(pg_backend_pid()).get_result::<i32>(&mut conn).await.unwrap());
        diesel::update(notes::table).set(notes::body.eq("first")).execute(&mut conn).await.unwrap();
    }
    assert!(pids.len() <= 4, "writes settle into few connections: {pids:?}");
}

#[tokio::test]
async fn a_panic_while_a_handle_is_out_gives_its_connection_to_nobody() {
    let cluster = support::cluster(0).await;
    let router = one_connection(&cluster).await;
    let before = {
        let mut conn = router.write().await.unwrap();
        diesel::select(pg_backend_pid()).get_result::<i32>(&mut conn).await.unwrap()
    };
    let panicking = {
        let router = router.clone();
        tokio::spawn(async move {
            let _conn = router.write().await.unwrap();
            panic!("a handler went wrong");
        })
    };
    assert!(panicking.await.unwrap_err().is_panic());
    let mut conn = router.write().await.unwrap();
    let after = diesel::select(pg_backend_pid()).get_result::<i32>(&mut conn).await.unwrap();
    assert_ne!(before, after);
}

#[test]
fn a_handle_may_be_dropped_outside_of_the_runtime() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (cluster, router, conn) = runtime.block_on(async {
        let cluster = support::cluster(1).await;
        let router = one_connection(&cluster).await;
        let mut conn = router.read().await.unwrap();
        let answer = diesel::select(pg_sleep(LONG)).execute(&mut conn).now_or_never();
        assert!(answer.is_none());
        (cluster, router, conn)
    });
    drop(conn);
    let idle = runtime.block_on(async {
        assert_clean_for_readers(&router).await;
        until_quiet(cluster.replica(0)).await;
        router.read().await.unwrap()
    });
    drop(idle);
    runtime.block_on(assert_clean_for_readers(&router));
}

/// Nobody asks for the connection again: whatever it holds must be let go all the same.
#[tokio::test]
async fn a_transaction_that_came_to_light_late_does_not_stay_open_in_an_idle_pool() {
    let cluster = support::cluster(0).await;
    let router = one_connection(&cluster).await;
    let mut conn = router.write().await.unwrap();
    let answer = conn.batch_execute("BEGIN; UPDATE notes SET body = 'lost'").now_or_never();
    assert!(answer.is_none());
    drop(conn);
    let primary = cluster.primary();
    let sql = "SELECT count(*)::text FROM pg_stat_activity WHERE query LIKE '%lost%' \
               AND application_name = 'diesel-replicas' AND state <> 'idle'";
    let begun = async {
        until_async("it has begun", async || primary.sql(sql).await.unwrap().as_deref() == Some("1")).await;
    };
    // It may have come and gone between two looks.
    let _ = timeout(Duration::from_millis(500), begun).await;
    until_quiet(primary).await;
    primary.sql("SET lock_timeout = '1s'; UPDATE notes SET body = 'kept'").await.unwrap();
    assert_clean_for_writers(&router, &cluster, "next").await;
}

/// diesel-async's streams do not borrow the connection, so one can be kept when the handle is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_kept_blocks_nobody() {
    let cluster = support::cluster(0).await;
    let router = one_connection(&cluster).await;
    for rows in [1, 300, 1000, 1500, 2000, 3000] {
        for _ in 0..3 {
            let mut conn = router.read().await.unwrap();
            let kept = diesel::select(numbers(1, rows)).load_stream::<i32>(&mut conn).await.unwrap();
            drop(conn);
            let mut conn = timeout(Duration::from_secs(5), router.read()).await.unwrap().unwrap();
            let next =
                timeout(Duration::from_secs(5), notes::table.count().get_result::<i64>(&mut conn)).await;
            assert_eq!(next.unwrap_or_else(|_| panic!("blocked by {rows} rows")).unwrap(), 1);
            drop(kept);
        }
    }
}
