//! Pools whose connections cannot be watched: through a Unix socket.

use super::*;
use crate::failure::Cause;
use diesel_async::SimpleAsyncConnection;
use pg_cluster::Backend;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// A primary that listens on a Unix socket as well, and its URL there.
struct Stage {
    cluster: Cluster,
    url: String,
    _directory: Directory,
}

impl Stage {
    async fn set(name: &str) -> Self {
        let directory = Directory::new(name);
        let socket = directory.0.to_str().unwrap();
        let builder = Cluster::builder().setting("unix_socket_directories", socket);
        // A container's socket is out of reach.
        let cluster = match builder.clone().backend(Backend::Local).start().await {
            Ok(cluster) => cluster,
            Err(_) => builder.backend(Backend::Wheel).start().await.unwrap(),
        };
        let url = cluster.primary().url();
        let port = url.rsplit_once(':').unwrap().1.split_once('/').unwrap().0;
        let url = format!("postgres:///postgres?host={socket}&port={port}&user=postgres");
        Self { cluster, url, _directory: directory }
    }
}

/// A directory that anybody may put a socket into; its path is short, as a socket's must be.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("dr-{name}-{}", std::process::id()));
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

#[tokio::test]
async fn a_retired_pool_closes_what_is_idle_and_cannot_cut_what_is_out() {
    let stage = Stage::set("close").await;
    let primary = stage.cluster.primary();
    let (pool, _) = pool(&stage.url, Access::ReadWrite, 2);
    let mut held = checkout(&pool).await;
    drop(checkout(&pool).await);
    until_sessions(primary, "true", "2").await;

    pool.close();
    until_sessions(primary, "true", "1").await;
    assert_eq!(pool.cut(), 0);
    pid(&mut held).await;
    drop(held);
    timeout(SECOND, pool.drained()).await.unwrap();
    until_sessions(primary, "true", "0").await;
}

#[tokio::test]
async fn calls_are_counted_by_how_they_end() {
    let stage = Stage::set("calls").await;
    let primary = stage.cluster.primary();
    let (pool, traffic) = pool(&stage.url, Access::ReadWrite, 1);
    let mut lease = checkout(&pool).await;
    let first = pid(&mut lease).await;
    lease.batch_execute("SELECT 1/0").await.unwrap_err();
    drop(lease);
    let mut lease = checkout(&pool).await;
    assert_eq!(pid(&mut lease).await, first);
    assert_eq!(traffic.tally().answered, 3, "the pool's own calls are nobody's");

    assert!(!traffic.take_suspicion());
    let refused = lease.batch_execute("SET TRANSACTION READ ONLY; CREATE TABLE t ()").await.unwrap_err();
    assert_eq!(cause(&lease, &refused), Cause::ReadOnly);
    assert!(traffic.take_suspicion());
    drop(lease);
    let mut lease = checkout(&pool).await;
    assert_ne!(pid(&mut lease).await, first);

    let sleep = diesel::select(pg_sleep(120.0)).execute(&mut lease);
    let killing = async {
        until_sessions(primary, SLEEPS, "1").await;
        primary.kill().await.unwrap();
    };
    let (slept, ()) = tokio::join!(sleep, killing);
    assert_eq!(cause(&lease, &slept.unwrap_err()), Cause::Node);
    assert_eq!((traffic.tally().answered, traffic.tally().failed), (5, 1));
    assert!(traffic.take_suspicion());
}
