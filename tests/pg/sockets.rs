//! Connections through a Unix socket, where the protocol cannot be watched.

use crate::proxy::port;
use crate::support::{self, until_async};
use diesel::prelude::*;
use diesel_async::{AsyncConnection, SimpleAsyncConnection};
use diesel_replicas::{ReadConn, Router, RunQueryDsl};
use futures_util::FutureExt;
use pg_cluster::{Backend, Cluster, Node};
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

/// A primary that listens on a Unix socket as well, and a router that has it from there, with one connection a pool.
async fn stage(directory: &std::path::Path) -> (Cluster, Router) {
    let socket = directory.to_str().unwrap();
    let builder = Cluster::builder().replicas(0).setting("unix_socket_directories", socket);
    // A container's socket is out of reach.
    let cluster = match builder.clone().backend(Backend::Local).start().await {
        Ok(cluster) => cluster,
        Err(_) => builder.backend(Backend::Wheel).start().await.unwrap(),
    };
    let url =
        format!("postgres:///postgres?host={socket}&port={}&user=postgres", port(&cluster.primary().url()));
    let router = support::ready(Router::builder().primary(url).pool_size(1)).await;
    (cluster, router)
}

async fn pid(router: &Router) -> i32 {
    let mut conn = timeout(Duration::from_secs(5), router.write()).await.unwrap().unwrap();
    let pid = diesel::select(pg_backend_pid()).get_result(&mut conn);
    timeout(Duration::from_secs(5), pid).await.expect("nothing runs ahead of it").unwrap()
}

async fn until_quiet(node: &Node) {
    let sql = "SELECT count(*)::text FROM pg_stat_activity \
               WHERE application_name = 'diesel-replicas' AND state <> 'idle'";
    until_async("the server is quiet", async || node.sql(sql).await.unwrap().as_deref() == Some("0")).await;
}

#[tokio::test]
async fn a_unix_socket_works_and_leftovers_are_cleaned_up() {
    let directory = Directory::new();
    let (cluster, router) = stage(&directory.0).await;
    let primary = cluster.primary();
    let name = format!("{}/.s.PGSQL.{}", directory.0.display(), port(&primary.url()));
    assert_eq!(router.status().nodes[0].name, name);

    // A connection in order is used again, and a read session is read-only.
    let first = pid(&router).await;
    assert_eq!(pid(&router).await, first);
    let mut conn = router.read().await.unwrap();
    assert_eq!(conn.node(), name);
    let lock = diesel::sql_query("CREATE TABLE t ()");
    let refused = diesel_replicas::AssertReadOnlyDsl::assert_read_only(lock).execute(&mut conn).await;
    assert!(refused.unwrap_err().to_string().contains("read-only transaction"));
    drop(conn);

    // A query in flight, queued or running.
    for running in [false, true] {
        let mut conn: ReadConn = router.read().await.unwrap();
        let mut query = diesel::select(pg_sleep(120.0)).execute(&mut conn).boxed();
        assert!((&mut query).now_or_never().is_none());
        if running {
            let sql = "SELECT count(*)::text FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%pg_sleep%' \
                       AND application_name = 'diesel-replicas'";
            until_async("it runs", async || {
                assert!((&mut query).now_or_never().is_none());
                primary.sql(sql).await.unwrap().as_deref() == Some("1")
            })
            .await;
        }
        drop(query);
        drop(conn);
        let mut conn = timeout(Duration::from_secs(5), router.read()).await.unwrap().unwrap();
        let next = diesel::select(pg_backend_pid()).get_result::<i32>(&mut conn);
        timeout(Duration::from_secs(5), next).await.expect("nothing runs ahead of it").unwrap();
        drop(conn);
        until_quiet(primary).await;
    }

    // Transactions: one of Diesel's whose future was dropped, and a raw one.
    let mut conn = router.write().await.unwrap();
    let open = conn.transaction(async |_| std::future::pending::<QueryResult<()>>().await);
    assert!(timeout(Duration::from_millis(100), open).await.is_err());
    drop(conn);
    pid(&router).await;
    until_quiet(primary).await;

    let mut conn = router.write().await.unwrap();
    conn.batch_execute("BEGIN; CREATE TABLE leftover ()").await.unwrap();
    drop(conn);
    pid(&router).await;
    until_quiet(primary).await;
    let leftover =
        primary.sql("SELECT count(*)::text FROM pg_class WHERE relname = 'leftover'").await.unwrap();
    assert_eq!(leftover.as_deref(), Some("0"));
    assert_eq!(router.status().nodes[0].in_flight, 0);
}

/// A directory that anybody may put a socket into; its path is short, as a socket's must be.
struct Directory(std::path::PathBuf);

impl Directory {
    fn new() -> Self {
        use std::os::unix::fs::PermissionsExt;
        let path = std::env::temp_dir().join(format!("dr-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
