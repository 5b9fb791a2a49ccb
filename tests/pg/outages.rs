//! Requests that are under way when a node goes wrong, or the router ends.

use crate::proxy::{Proxy, port};
use crate::support::{self, notes, until_async, until_health};
use diesel::prelude::*;
use diesel_replicas::{Error, Fallback, HealthState, NodeConfig, ReadConn, Router, RunQueryDsl};
use pg_cluster::Cluster;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

const SECOND: Duration = Duration::from_secs(1);

/// Asks for a connection in the background, and lets the request come to where it waits.
async fn waiting(router: &Router) -> tokio::task::JoinHandle<Result<ReadConn, Error>> {
    let router = router.clone();
    let request = tokio::spawn(async move { router.read().await });
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert!(!request.is_finished());
    request
}

/// A router whose only replica has one connection, and the handle on that.
async fn occupied(cluster: &Cluster) -> (Router, ReadConn) {
    let builder = support::builder(cluster).lag_threshold(Duration::from_millis(400));
    let router = support::ready(builder.pool_size(1).probe_timeout(Duration::from_millis(200))).await;
    let held = router.read().await.unwrap();
    assert_eq!(held.node(), cluster.replica(0).name());
    (router, held)
}

#[tokio::test]
async fn a_request_in_the_queue_of_a_frozen_replica_moves_on() {
    let cluster = support::cluster(1).await;
    let (router, _held) = occupied(&cluster).await;
    let request = waiting(&router).await;
    cluster.replica(0).freeze().await.unwrap();
    let conn = timeout(4 * SECOND, request).await.expect("it does not wait out its deadline");
    assert_eq!(conn.unwrap().unwrap().node(), cluster.primary().name());
    assert_eq!(support::status(&router, cluster.replica(0).name()).health, HealthState::Unreachable);
    cluster.replica(0).thaw().await.unwrap();
}

#[tokio::test]
async fn a_request_in_the_queue_of_a_replica_that_falls_behind_is_not_served_by_it() {
    let cluster = support::cluster(1).await;
    let (router, held) = occupied(&cluster).await;
    let request = waiting(&router).await;
    cluster.replica(0).pause_replay().await.unwrap();
    let _writing = support::keep_writing(&router);
    until_health(&router, cluster.replica(0).name(), HealthState::Lagging).await;
    let conn = timeout(SECOND, request).await.expect("it has moved on already").unwrap().unwrap();
    assert_eq!(conn.node(), cluster.primary().name());
    drop(held);
}

/// There is room in the pool, but the node opens no connection, and those that are out hang.
#[tokio::test]
async fn a_replica_that_falls_silent_while_handles_are_out_costs_a_read_one_attempt() {
    let cluster = support::cluster(1).await;
    let url = cluster.replica(0).url();
    let proxy = Proxy::start(port(&url)).await;
    let builder = Router::builder().primary(NodeConfig::new(cluster.primary().url()).name("primary"));
    let builder = builder.replica(NodeConfig::new(proxy.url(&url)).name("proxied"));
    let builder = support::blind(builder).connect_timeout(Duration::from_millis(200));
    let router = support::ready(builder).await;
    let held = router.read().await.unwrap();
    assert_eq!(held.node(), "proxied");
    proxy.fall_silent();
    let started = Instant::now();
    assert_eq!(router.read().await.unwrap().node(), "primary");
    assert!(started.elapsed() < SECOND, "{:?}", started.elapsed());
}

#[tokio::test]
async fn when_nothing_falls_back_the_error_is_that_of_the_last_attempt() {
    let cluster = support::cluster(1).await;
    let builder = support::blind(support::builder(&cluster));
    let router = support::ready(builder.fallback(Fallback::Fail)).await;
    let replica = cluster.replica(0);
    replica.kill().await.unwrap();
    let error = router.read().await.unwrap_err();
    assert!(matches!(&error, Error::Connect { node, .. } if node == replica.name()), "{error:?}");
}

#[tokio::test]
async fn a_shutdown_ends_a_request_that_is_dialling() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("postgres://app@{}/chat?sslmode=disable", listener.local_addr().unwrap());
    let builder = Router::builder().primary(url).connect_timeout(60 * SECOND).checkout_timeout(60 * SECOND);
    let router = builder.build().await.unwrap();
    let request = waiting(&router).await;
    // Nobody answers; what matters is that the request's own connection has come this far.
    let mut held = vec![];
    loop {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut startup = vec![0; 1024];
        let length = client.read(&mut startup).await.unwrap();
        let startup = String::from_utf8_lossy(&startup[..length]).into_owned();
        held.push(client);
        if !startup.contains("monitor") {
            break;
        }
    }
    timeout(SECOND, router.shutdown()).await.expect("the monitor's probe does not hold it up");
    let answer = timeout(SECOND, request).await.expect("it is told at once").unwrap();
    assert!(matches!(answer, Err(Error::ShutDown)), "{answer:?}");
    assert!(matches!(router.read().await, Err(Error::ShutDown)));
}

#[tokio::test]
async fn no_timeout_is_too_long() {
    let cluster = support::cluster(0).await;
    let router = support::ready(support::builder(&cluster).pool_size(1)).await;
    let held = router.read().timeout(Duration::MAX).await.unwrap();
    let request = tokio::spawn({
        let router = router.clone();
        async move { router.read().timeout(Duration::MAX).await.map(drop) }
    });
    drop(router.write().timeout(Duration::MAX).await.unwrap());
    drop(held);
    request.await.unwrap().unwrap();
}

/// Forwards to the server, but turns the parameter that makes read sessions read-only into its opposite.
async fn meddle(listener: TcpListener, upstream: u16) {
    let mut forwarding = JoinSet::new();
    loop {
        let (mut client, _) = listener.accept().await.unwrap();
        forwarding.spawn(async move {
            let mut startup = vec![0; 4096];
            let length = client.read(&mut startup).await.unwrap();
            let (on, off) = (b"read_only=on", b"read_only=no");
            if let Some(at) = startup.windows(on.len()).position(|found| found == on) {
                startup[at..at + on.len()].copy_from_slice(off);
            }
            let mut server = TcpStream::connect(("127.0.0.1", upstream)).await.unwrap();
            server.write_all(&startup[..length]).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        });
    }
}

#[tokio::test]
async fn a_read_session_that_something_before_the_server_made_writable_is_refused() {
    let cluster = support::cluster(0).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = cluster.primary().url();
    let meddled =
        url.replace(&format!(":{}/", port(&url)), &format!(":{}/", listener.local_addr().unwrap().port()));
    let meddled = format!("{meddled}?sslmode=disable");
    let mut meddling = JoinSet::new();
    meddling.spawn(meddle(listener, port(&url)));
    let router = Router::builder().primary(meddled).build().await.unwrap();
    let error = router.read().await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error:?}");
    assert!(error.to_string().contains("not read-only"), "{error}");
    router.write().await.unwrap();
}

/// Such a URL is for the primary alone with libpq, and every read session says that it takes no writes.
#[tokio::test]
async fn what_a_url_says_of_the_role_refuses_no_session() {
    let cluster = support::cluster(1).await;
    let node = |url: String, attribute: &str| format!("{url}?target_session_attrs={attribute}");
    let builder = Router::builder().primary(node(cluster.primary().url(), "read-write"));
    let router = support::ready(builder.replica(node(cluster.replica(0).url(), "read-only"))).await;
    let mut conn = router.read().await.unwrap();
    until_async("it reads", async || notes::table.count().get_result::<i64>(&mut conn).await.is_ok()).await;
    router.write().await.unwrap();
    let alone = Router::builder().primary(node(cluster.primary().url(), "read-write")).build().await.unwrap();
    alone.read().await.unwrap();
}
