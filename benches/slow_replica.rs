//! What a replica that is slow at times costs, by strategy: a point select on a primary and three replicas, one of them behind a
//! proxy that holds back a quarter of its responses for 20 ms.
//!
//! `cargo bench --bench slow_replica`. All strategies run in one process against one cluster, in rounds, in an order that rotates
//! from round to round; what counts are the ratios within a round, given as median and range over all rounds.

#![allow(missing_docs, reason = "a program has no outside")]

mod followed;
mod healthy;
mod spread;
mod table;

use diesel::prelude::*;
use diesel_replicas::rand::{RngExt, rng};
use diesel_replicas::{LoadBalancing, NodeConfig, Router, RunQueryDsl};
use healthy::healthy;
use pg_cluster::Cluster;
use spread::Spread;
use std::time::{Duration, Instant};
use table::notes;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};

const ROUNDS: usize = 11;
const SLICE: Duration = Duration::from_millis(500);
const TASKS: i32 = 8;
const DELAY: Duration = Duration::from_millis(20);

const STRATEGIES: [(&str, LoadBalancing); 5] = [
    ("round robin", LoadBalancing::RoundRobin),
    ("random", LoadBalancing::Random),
    ("weighted", LoadBalancing::Weighted),
    ("least connections", LoadBalancing::LeastConnections),
    ("peak EWMA", LoadBalancing::PeakEwma),
];
/// What the others are compared with.
const ROUND_ROBIN: usize = 0;

/// What one strategy showed in one round.
#[derive(Clone, Copy, Default)]
struct Figures {
    p50_ms: f64,
    p95_ms: f64,
    p99_ms: f64,
    reads_per_ms: f64,
    /// Of the slow replica.
    share: f64,
}

fn main() {
    // `cargo test --benches` runs this as well; there is nothing to test.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(strategies());
}

async fn strategies() {
    let cluster = Cluster::builder().replicas(3).start().await.expect("a cluster");
    table::fill(&cluster).await;
    let slow = proxy(&cluster.replica(0).url()).await;

    let mut routers = Vec::new();
    for (_, how) in STRATEGIES {
        let router = Router::builder()
            .primary(cluster.primary().url())
            .replica(NodeConfig::new(&*slow).name("slow"))
            .replica(cluster.replica(1).url())
            .replica(cluster.replica(2).url())
            .load_balancing(how)
            .build()
            .await
            .expect("a router");
        healthy(&router).await;
        routers.push(router);
    }

    let mut rounds = Vec::new();
    for round in 0..=ROUNDS {
        let mut figures = [Figures::default(); STRATEGIES.len()];
        for turn in 0..STRATEGIES.len() {
            let strategy = (round + turn) % STRATEGIES.len();
            figures[strategy] = measure(&routers[strategy]).await;
        }
        // The first round opens connections and prepares statements.
        if round > 0 {
            rounds.push(figures);
        }
    }

    println!(
        "a point select with {TASKS} tasks, one of three replicas 20 ms late for a quarter of its responses: \
         median [min..max] of {ROUNDS} rounds"
    );
    for (i, (name, _)) in STRATEGIES.into_iter().enumerate() {
        let of = |figure: fn(&Figures) -> f64| Spread::of(rounds.iter().map(|all| figure(&all[i])).collect());
        let ratio = Spread::of(rounds.iter().map(|all| all[i].p99_ms / all[ROUND_ROBIN].p99_ms).collect());
        println!("  {name}");
        println!(
            "    p50 {} ms, p95 {} ms, p99 {} ms",
            of(|it| it.p50_ms),
            of(|it| it.p95_ms),
            of(|it| it.p99_ms)
        );
        println!("    p99 {ratio} of round robin's");
        println!(
            "    {} k reads/s, {} of them on the slow replica",
            of(|it| it.reads_per_ms),
            of(|it| it.share)
        );
    }
}

/// Tasks that each read one after the other.
async fn measure(router: &Router) -> Figures {
    let started = Instant::now();
    let end = started + SLICE;
    let tasks = (0..TASKS).map(|task| {
        let router = router.clone();
        tokio::spawn(async move {
            let (mut latencies_ms, mut on_slow) = (Vec::new(), 0_usize);
            while Instant::now() < end {
                let asked = Instant::now();
                let id = (latencies_ms.len() as i32 * 31 + task) % 1000 + 1;
                let mut conn = router.read().await.expect("replicas serve");
                notes::table.find(id).first::<(i32, String)>(&mut conn).await.expect("the row is there");
                on_slow += usize::from(conn.node() == "slow");
                drop(conn);
                latencies_ms.push(asked.elapsed().as_secs_f64() * 1000.0);
            }
            (latencies_ms, on_slow)
        })
    });
    let tasks = futures_util::future::join_all(tasks.collect::<Vec<_>>()).await;
    let took = started.elapsed();
    let (latencies_ms, on_slow): (Vec<_>, Vec<_>) =
        tasks.into_iter().map(|task| task.expect("no task panics")).unzip();
    let mut latencies_ms = latencies_ms.concat();
    latencies_ms.sort_by(f64::total_cmp);
    let count = latencies_ms.len();
    let percentile = |percent: usize| latencies_ms[count * percent / 100];
    Figures {
        p50_ms: percentile(50),
        p95_ms: percentile(95),
        p99_ms: percentile(99),
        reads_per_ms: count as f64 / took.as_secs_f64() / 1000.0,
        share: on_slow.iter().sum::<usize>() as f64 / count as f64,
    }
}

/// The URL of a proxy to the node at that URL.
async fn proxy(node: &str) -> String {
    let (before, after) = node.rsplit_once(':').expect("the URL names a port");
    let (port, database) = after.split_once('/').expect("the URL names a database");
    let upstream: u16 = port.parse().expect("a port is a number");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(async move {
                // Whoever hangs up first ends both.
                let _ = forward(client, upstream).await;
            });
        }
    });
    format!("{before}:{port}/{database}")
}

async fn forward(client: TcpStream, upstream: u16) -> std::io::Result<()> {
    let server = TcpStream::connect(("127.0.0.1", upstream)).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut requests, mut answers_out) = client.into_split();
    let (mut answers, mut requests_out) = server.into_split();
    let responses = async {
        let mut bytes = vec![0; 64 * 1024];
        loop {
            let read = answers.read(&mut bytes).await?;
            if read == 0 {
                return Ok(());
            }
            if rng().random_bool(0.25) {
                tokio::time::sleep(DELAY).await;
            }
            answers_out.write_all(&bytes[..read]).await?;
        }
    };
    tokio::select! {
        ended = responses => ended,
        ended = copy(&mut requests, &mut requests_out) => ended.map(|_| ()),
    }
}
