//! Checkouts: no dead connection, no unfair wait, no hang, no leak.

use crate::proxy::{Proxy, port};
use crate::support::{self, notes, until, until_async};
use diesel::prelude::*;
use diesel_replicas::{Candidates, Error, HealthState, NodeConfig, Router, RunQueryDsl, Strategy};
use futures_util::future::join_all;
use futures_util::poll;
use pg_cluster::{Cluster, Node};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

const SECOND: Duration = Duration::from_secs(1);

/// A router whose monitor does not notice what happens, so that requests have to cope by themselves.
async fn blind(cluster: &Cluster) -> Router {
    let builder = support::blind(support::builder(cluster));
    support::ready(builder.connect_timeout(Duration::from_millis(300))).await
}

async fn connections(node: &Node) -> i64 {
    let sql = "SELECT count(*)::text FROM pg_stat_activity WHERE application_name = 'diesel-replicas'";
    node.sql(sql).await.unwrap().unwrap().parse().unwrap()
}

async fn count(router: &Router) -> (String, i64) {
    let mut conn = router.read().await.unwrap();
    let count = notes::table.count().get_result(&mut conn).await.unwrap();
    (conn.node().to_owned(), count)
}

/// Kills the node, and gives the runtime turns enough to look at its sockets: it does so every 61 by default.
async fn kill(node: &Node) {
    node.kill().await.unwrap();
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

/// Opens that many connections of the read pool and leaves them idle.
async fn warm(router: &Router, connections: usize) {
    join_all((0..connections).map(async |_| router.read().await.unwrap())).await;
}

#[tokio::test]
async fn an_idle_connection_that_the_server_killed_is_not_handed_out() {
    let cluster = support::cluster(0).await;
    let router = support::router(&cluster).await;
    let primary = cluster.primary();
    for _ in 0..5 {
        warm(&router, 10).await;
        assert_eq!(connections(primary).await, 10);
        let kill = "SELECT count(pg_terminate_backend(pid))::text FROM pg_stat_activity \
                    WHERE application_name = 'diesel-replicas'";
        assert_eq!(primary.sql(kill).await.unwrap().as_deref(), Some("10"));
        until_async("the backends are gone", async || connections(primary).await == 0).await;
        for (node, count) in join_all((0..40).map(|_| count(&router))).await {
            assert_eq!((&*node, count), (primary.name(), 1));
        }
    }
}

#[tokio::test]
async fn requests_that_wait_for_a_connection_are_work() {
    /// Keeps the work that it last saw.
    #[derive(Debug, Clone, Default)]
    struct Watching(Arc<AtomicUsize>);

    impl Strategy for Watching {
        fn pick(&self, candidates: &Candidates, _: &mut dyn diesel_replicas::rand::Rng) -> usize {
            self.0.store(candidates[0].work(), Relaxed);
            0
        }
    }

    let cluster = support::cluster(1).await;
    let watching = Watching::default();
    let builder = support::builder(&cluster).pool_size(1).strategy(watching.clone());
    let router = support::ready(builder).await;
    let work = || AtomicUsize::load(&watching.0, Relaxed);

    let conn = router.read().await.unwrap();
    let mut waiting = Vec::new();
    for others in 1..=3 {
        let mut request = router.read().into_future();
        assert!(poll!(&mut request).is_pending());
        assert_eq!(work(), others, "one has the connection, the rest wait for it");
        waiting.push(request);
    }
    drop((conn, waiting));
    let _conn = router.read().await.unwrap();
    assert_eq!(work(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_tasks_get_equal_shares() {
    const TASKS: usize = 32;
    let cluster = support::cluster(0).await;
    let router = support::ready(support::builder(&cluster).pool_size(8)).await;
    warm(&router, 8).await;
    let end = Instant::now() + Duration::from_millis(1500);
    let tasks = (0..TASKS).map(|_| {
        let router = router.clone();
        tokio::spawn(async move {
            let (mut operations, mut waited, mut longest) = (0_u32, Duration::ZERO, Duration::ZERO);
            while Instant::now() < end {
                let asked = Instant::now();
                let mut conn = router.read().await.unwrap();
                let wait = asked.elapsed();
                waited += wait;
                longest = longest.max(wait);
                notes::table.find(1).first::<(i32, String)>(&mut conn).await.unwrap();
                operations += 1;
            }
            (operations, waited, longest)
        })
    });
    let tasks: Vec<_> = tasks.collect();
    let results: Vec<_> = join_all(tasks).await.into_iter().map(Result::unwrap).collect();

    let operations = results.iter().map(|(operations, _, _)| *operations);
    let (least, most) = (operations.clone().min().unwrap(), operations.clone().max().unwrap());
    let total: u32 = operations.sum();
    let mean = results.iter().map(|(_, waited, _)| *waited).sum::<Duration>() / total;
    let longest = results.iter().map(|(_, _, longest)| *longest).max().unwrap();
    println!(
        "{TASKS} tasks on 8 connections: {least} to {most} operations a task, wait {mean:?}, at most {longest:?}"
    );
    assert!(f64::from(most - least) < 0.2 * f64::from(most), "shares from {least} to {most} operations");
    assert!(longest <= 10 * mean, "waited {longest:?} when the mean is {mean:?}");
}

#[tokio::test]
async fn a_dead_replica_costs_a_read_one_attempt() {
    let cluster = support::cluster(2).await;
    let router = blind(&cluster).await;
    warm(&router, 4).await;
    kill(cluster.replica(0)).await;
    let started = Instant::now();
    for _ in 0..20 {
        assert_eq!(count(&router).await.0, cluster.replica(1).name());
    }
    assert!(started.elapsed() < SECOND, "20 reads took {:?}", started.elapsed());

    kill(cluster.replica(1)).await;
    for _ in 0..20 {
        assert_eq!(count(&router).await.0, cluster.primary().name());
    }
}

#[tokio::test]
async fn a_frozen_replica_costs_a_read_one_attempt() {
    let cluster = support::cluster(2).await;
    let router = blind(&cluster).await;
    cluster.replica(0).freeze().await.unwrap();
    for _ in 0..4 {
        let started = Instant::now();
        assert_eq!(count(&router).await.0, cluster.replica(1).name());
        assert!(started.elapsed() < SECOND, "a read took {:?}", started.elapsed());
    }
    cluster.replica(0).thaw().await.unwrap();
}

#[tokio::test]
async fn nobody_there_is_said_at_once_and_with_the_cause() {
    let cluster = support::cluster(1).await;
    let router = blind(&cluster).await;
    for node in cluster.nodes() {
        node.kill().await.unwrap();
    }
    let started = Instant::now();
    let errors = join_all((0..64).map(|_| async { router.read().await.unwrap_err() })).await;
    for error in errors.into_iter().chain([router.write().timeout(SECOND / 4).await.unwrap_err()]) {
        let at_once = matches!(&error, Error::Connect { node, .. } if node == "primary");
        assert!(at_once || matches!(error, Error::NoEligibleNode { .. }), "{error:?}");
        assert!(error.to_string().contains("onnection refused"), "{error}");
        assert!(error.is_unavailable());
    }
    assert!(started.elapsed() < SECOND, "{:?}", started.elapsed());

    for node in cluster.nodes() {
        node.start().await.unwrap();
    }
    assert_eq!(count(&router).await.1, 1);
    router.write().await.unwrap();
}

#[tokio::test]
async fn a_server_that_accepts_and_says_nothing_does_not_wedge_a_pool() {
    let cluster = support::cluster(0).await;
    let url = cluster.primary().url();
    let proxy = Proxy::start(port(&url)).await;
    proxy.fall_silent();
    let primary = NodeConfig::new(proxy.url(&url)).name("proxied");
    let timeout = Duration::from_millis(300);
    let router =
        Router::builder().primary(primary).pool_size(2).connect_timeout(timeout).build().await.unwrap();
    let started = Instant::now();
    let errors = join_all((0..64).map(|_| async { router.read().await.unwrap_err() })).await;
    assert!(started.elapsed() < SECOND, "64 reads ended after {:?}", started.elapsed());
    for error in errors {
        let timed_out =
            matches!(&error, Error::TimedOut { node, .. } | Error::Connect { node, .. } if node == "proxied");
        assert!(timed_out, "{error:?}");
    }
    proxy.heal();
    until_async("a read succeeds", async || router.read().await.is_ok()).await;
    // A probe that was swallowed before may still time out.
    support::until_health(&router, "proxied", HealthState::Healthy).await;
    assert_eq!(count(&router).await.1, 1);
}

#[tokio::test]
async fn a_server_that_speaks_something_else_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url =
        format!("postgres://postgres:geheim@{}/postgres?sslmode=disable", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let _ = client.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
        }
    });
    let router = Router::builder().primary(url).connect_timeout(SECOND).build().await.unwrap();
    let error = router.read().await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error:?}");
    assert!(!format!("{error} {error:?} {router:?}").contains("geheim"));
    server.abort();
}

#[tokio::test]
async fn a_full_pool_is_an_error_at_the_deadline_and_no_sickness() {
    let cluster = support::cluster(1).await;
    let router = support::ready(support::builder(&cluster).pool_size(2)).await;
    let replica = cluster.replica(0).name();
    let held = [router.read().await.unwrap(), router.read().await.unwrap()];
    let deadline = Duration::from_millis(150);
    let started = Instant::now();
    let error = router.read().timeout(deadline).await.unwrap_err();
    let took = started.elapsed();
    let exhausted =
        matches!(&error, Error::PoolExhausted { node, waited, .. } if node == replica && *waited >= deadline);
    assert!(exhausted, "{error:?}");
    assert!(took >= deadline && took < deadline + SECOND, "{took:?}");
    assert_eq!(support::status(&router, replica).health, HealthState::Healthy);
    drop(held);
    assert_eq!(count(&router).await.0, replica);
}

#[tokio::test]
async fn a_node_may_have_pools_of_its_own_size_and_get_others_by_a_reload() {
    let cluster = support::cluster(1).await;
    let (primary, replica) = (cluster.primary(), cluster.replica(0));
    let with = |of_replica: u32| {
        let url = replica.url();
        let mark = if url.contains('?') { '&' } else { '?' };
        let node = NodeConfig::new(format!("{url}{mark}node_pool_size={of_replica}")).name(replica.name());
        Router::builder().primary(NodeConfig::new(primary.url()).pool_size(1)).replica(node).pool_size(5)
    };
    let router = support::ready(with(2)).await;
    let short = SECOND / 10;
    for size in [2, 3, 1] {
        router.reload(with(size).config().unwrap()).await.unwrap();
        let held = join_all((0..size).map(async |_| router.read().await.unwrap())).await;
        assert!(held.iter().all(|conn| conn.node() == replica.name()));
        let full = router.read().timeout(short).await.unwrap_err();
        assert!(matches!(&full, Error::PoolExhausted { node, .. } if node == replica.name()), "{full:?}");
    }
    let _held = router.write().await.unwrap();
    let full = router.write().timeout(short).await.unwrap_err();
    assert!(matches!(full, Error::PoolExhausted { .. }), "{full:?}");
}

#[tokio::test]
async fn reads_on_the_primary_take_nothing_from_writes() {
    let cluster = support::cluster(0).await;
    let router = support::ready(support::builder(&cluster).pool_size(1)).await;
    let _reading = router.read().await.unwrap();
    router.write().timeout(SECOND).await.unwrap();
    let _writing = router.write().await.unwrap();
    router.read().timeout(Duration::from_millis(100)).await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelled_requests_leave_every_gauge_where_it_was() {
    let cluster = support::cluster(1).await;
    let router = support::ready(support::builder(&cluster).pool_size(3)).await;
    let work = (0..40_u64).map(|task| {
        let router = router.clone();
        tokio::spawn(async move {
            for turn in 0..25 {
                let work = async {
                    let mut conn = router.read().await.unwrap();
                    notes::table.count().get_result::<i64>(&mut conn).await.unwrap();
                };
                // From "never polled" to "done": wherever it happens to be.
                let limit = Duration::from_micros((task * 25 + turn) % 700);
                let _ = tokio::time::timeout(limit, work).await;
            }
        })
    });
    for task in join_all(work).await {
        task.unwrap();
    }
    assert!(router.status().nodes.iter().all(|node| node.in_flight == 0));
    let all = join_all((0..3).map(|_| router.read().timeout(5 * SECOND).into_future())).await;
    let all: Vec<_> = all.into_iter().map(Result::unwrap).collect();
    assert_eq!(support::status(&router, cluster.replica(0).name()).in_flight, 3);
    until_async("the server has as many connections as the pool", async || {
        connections(cluster.replica(0)).await == 3
    })
    .await;
    drop(all);
    until("all handles are counted as returned", || {
        router.status().nodes.iter().all(|node| node.in_flight == 0)
    })
    .await;
}

#[tokio::test]
async fn read_sessions_are_read_only_from_the_first_byte_on_every_node() {
    let cluster = support::cluster(1).await;
    let setting =
        || diesel::sql_query("SELECT setting FROM pg_settings WHERE name = 'default_transaction_read_only'");
    #[derive(QueryableByName)]
    struct Setting {
        #[diesel(sql_type = diesel::sql_types::Text)]
        setting: String,
    }
    let router = support::router(&cluster).await;
    for latest in [false, true] {
        let setting = diesel_replicas::AssertReadOnlyDsl::assert_read_only(setting());
        let (node, setting) = if latest {
            let mut conn = router.read().latest().await.unwrap();
            (conn.node().to_owned(), setting.get_result::<Setting>(&mut conn).await.unwrap().setting)
        } else {
            let mut conn = router.read().await.unwrap();
            (conn.node().to_owned(), setting.get_result::<Setting>(&mut conn).await.unwrap().setting)
        };
        let expected = if latest { cluster.primary() } else { cluster.replica(0) };
        assert_eq!((node.as_str(), setting.as_str()), (expected.name(), "on"));
    }
    let mut conn = router.write().await.unwrap();
    assert_eq!(conn.node(), cluster.primary().name());
    assert_eq!(setting().get_result::<Setting>(&mut conn).await.unwrap().setting, "off");
}
