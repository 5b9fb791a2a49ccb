//! What the monitor costs by itself, and what memory a router takes: `cargo bench --bench monitor`.
//!
//! A router that nobody asks for a connection watches a primary and its replicas. Sizes rotate from round to round, one of them being no
//! router at all, which is what the servers do anyway. Probes are counted by the servers, with pg_stat_statements; processor time is
//! what the kernel has counted for the thread that the router runs on and for all processes of the servers. Bytes are what an
//! allocator that counts has given out and not got back.
//!
//! A turn is over before the monitor renews a connection, which it does every 60 probes: that comes on top.

#![allow(missing_docs, reason = "a program has no outside")]

mod followed;
mod healthy;
mod spread;

use allocation_counter::AllocationInfo;
use diesel_replicas::{NodeConfig, Router};
use followed::followed;
use healthy::healthy;
use pg_cluster::{Cluster, Node};
use spread::Spread;
use std::fs;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::time::sleep;

const ROUNDS: usize = 5;
const SLICE: Duration = Duration::from_secs(3);
const NODES: [usize; 4] = [0, 1, 10, 100];
const POOLED: u32 = 20;

/// What a turn has shown.
#[derive(Default)]
struct Turn {
    router_us: f64,
    allocations: f64,
    /// By server.
    servers: Vec<Count>,
}

/// What a server has done.
#[derive(Clone, Copy, Default)]
struct Count {
    probes: f64,
    us: f64,
}

fn main() {
    // `cargo test --benches` runs this as well; there is nothing to test.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    // What allocates and what uses the processor for the router are this thread.
    let runtime = single_threaded();
    let most = NODES[NODES.len() - 1];
    let senders = (most + 10).to_string();
    let cluster = Cluster::builder()
        .replicas(most - 1)
        .setting("max_wal_senders", senders)
        .setting("shared_preload_libraries", "pg_stat_statements");
    let started = Instant::now();
    let cluster = runtime.block_on(cluster.start()).expect("a cluster");
    println!("{most} servers started in {:.1} s", started.elapsed().as_secs_f64());
    runtime.block_on(extend(&cluster));
    let postmasters = cluster.nodes().iter().map(|node| runtime.block_on(postmaster(node)));
    let postmasters: Vec<_> = postmasters.collect();

    memory(&runtime, &cluster);
    cost(&runtime, &cluster, &postmasters);
    runtime.block_on(cluster.shutdown());
}

fn cost(runtime: &Runtime, cluster: &Cluster, postmasters: &[u32]) {
    let mut rounds = Vec::new();
    for round in 0..ROUNDS {
        let mut turns = [(); NODES.len()].map(|()| Turn::default());
        for turn in 0..NODES.len() {
            let size = (round + turn) % NODES.len();
            turns[size] = measure(runtime, cluster, postmasters, NODES[size]);
        }
        rounds.push(turns);
    }
    let seconds = SLICE.as_secs_f64();
    println!("a router that only watches: median [min..max] of {ROUNDS} rounds of {seconds} s");
    for (size, nodes) in NODES.into_iter().enumerate().skip(1) {
        // What the servers that it watches have done beyond what they do anyway.
        let caused = |round: &[Turn; NODES.len()], count: fn(&Count) -> f64| {
            let sum = |turn: &Turn| turn.servers[..nodes].iter().map(count).sum::<f64>();
            sum(&round[size]) - sum(&round[0])
        };
        let probes = |round: &[Turn; NODES.len()]| caused(round, |count| count.probes);
        let us = |round: &[Turn; NODES.len()]| caused(round, |count| count.us);
        let of =
            |figure: &dyn Fn(&[Turn; NODES.len()]) -> f64| Spread::of(rounds.iter().map(figure).collect());
        let node_seconds = seconds * nodes as f64;
        println!("  {nodes} nodes");
        println!("    {} probes a second and node", of(&|round| probes(round) / node_seconds));
        println!("    {} allocations a probe", of(&|round| round[size].allocations / probes(round)));
        println!(
            "    router: {} us of processor time a probe, {} % of a processor",
            of(&|round| round[size].router_us / probes(round)),
            of(&|round| round[size].router_us / seconds / 1e4)
        );
        println!(
            "    servers: {} us of processor time a probe, {} % of a processor a node",
            of(&|round| us(round) / probes(round)),
            of(&|round| us(round) / node_seconds / 1e4)
        );
    }
}

/// Has every server count statements.
async fn extend(cluster: &Cluster) {
    let primary = cluster.primary();
    primary.sql("CREATE EXTENSION pg_stat_statements").await.expect("it comes with PostgreSQL");
    followed(cluster).await;
}

/// Watches so many nodes for a while.
fn measure(runtime: &Runtime, cluster: &Cluster, postmasters: &[u32], nodes: usize) -> Turn {
    let router = (nodes > 0).then(|| runtime.block_on(watching(cluster, nodes)));
    // The first probes are of a connection each.
    pass(runtime, Duration::from_secs(1));
    // The router stands still while the servers are asked.
    let asking = single_threaded();
    let before = asking.block_on(counts(cluster, postmasters));
    let thread = thread_us();
    let counted = allocation_counter::measure(|| pass(runtime, SLICE));
    let router_us = thread_us() - thread;
    let mut servers = asking.block_on(counts(cluster, postmasters));
    for (after, before) in servers.iter_mut().zip(before) {
        after.probes -= before.probes;
        after.us -= before.us;
    }
    router.into_iter().for_each(|router| end(runtime, router));
    Turn { router_us, allocations: counted.count_total as f64, servers }
}

fn memory(runtime: &Runtime, cluster: &Cluster) {
    let mut rounds = Vec::new();
    for round in 0..=ROUNDS {
        let mut bytes = [0.0; NODES.len()];
        for turn in 0..NODES.len() {
            let size = (round + turn) % NODES.len();
            let (router, counted) = allocated(|| runtime.block_on(watching(cluster, NODES[size].max(1))));
            // Of the smallest router also what a connection takes.
            let connected =
                (size == 0).then(|| allocated(|| runtime.block_on(connect(&router))).1 / f64::from(POOLED));
            bytes[size] = connected.unwrap_or(counted / NODES[size] as f64);
            end(runtime, router);
        }
        // What is made once a process is made in the first round.
        if round > 0 {
            rounds.push(bytes);
        }
    }
    println!(
        "what is allocated for a router whose nodes are all healthy: median [min..max] of {ROUNDS} rounds"
    );
    for (size, nodes) in NODES.into_iter().enumerate() {
        let bytes = Spread::of(rounds.iter().map(|all| all[size] / 1024.0).collect());
        match nodes {
            0 => println!("  {bytes} kB a pooled connection"),
            nodes => println!("  {bytes} kB a node of {nodes}"),
        }
    }
}

/// Gives back all that it had, which its tasks hold for a moment longer.
fn end(runtime: &Runtime, router: Router) {
    runtime.block_on(router.shutdown());
    drop(router);
    pass(runtime, Duration::from_millis(500));
}

fn single_threaded() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn pass(runtime: &Runtime, time: Duration) {
    runtime.block_on(async { sleep(time).await });
}

/// What it gives, and how many bytes are held since.
fn allocated<T>(make: impl FnOnce() -> T) -> (T, f64) {
    let mut made = None;
    let AllocationInfo { bytes_current, .. } = allocation_counter::measure(|| made = Some(make()));
    (made.expect("it was called"), bytes_current as f64)
}

/// Fills the pool.
async fn connect(router: &Router) {
    let mut conns = vec![];
    for _ in 0..POOLED {
        conns.push(router.write().await.expect("a connection"));
    }
    drop(conns);
    sleep(Duration::from_millis(100)).await;
}

/// A router over the first nodes, all of them healthy.
async fn watching(cluster: &Cluster, nodes: usize) -> Router {
    // What TLS allocates, other threads do as well, which are not counted.
    let node = |node: &Node| NodeConfig::new(format!("{}?sslmode=disable", node.url())).name(node.name());
    let [primary, replicas @ ..] = &cluster.nodes()[..nodes] else { unreachable!("there is a primary") };
    // No probe is given up because the router stood still.
    let patience = Duration::from_secs(30);
    let builder = Router::builder().primary(node(primary)).pool_size(POOLED).probe_timeout(patience);
    let builder = replicas.iter().fold(builder, |builder, replica| builder.replica(node(replica)));
    let router = builder.build().await.expect("a router");
    healthy(&router).await;
    router
}

async fn counts(cluster: &Cluster, postmasters: &[u32]) -> Vec<Count> {
    let mut counts = Vec::new();
    for (node, us) in cluster.nodes().iter().zip(servers_us(postmasters)) {
        let sql =
            "SELECT coalesce(sum(calls), 0)::text FROM pg_stat_statements WHERE query LIKE '%AS in_recovery'";
        let count = node.sql(sql).await.expect("it answers").expect("a count");
        counts.push(Count { probes: count.parse().expect("a number"), us });
    }
    counts
}

async fn postmaster(node: &Node) -> u32 {
    let sql = "SELECT split_part(pg_read_file('postmaster.pid'), E'\n', 1)";
    let pid = node.sql(sql).await.expect("it answers").expect("a process");
    let pid = pid.parse().expect("a number");
    assert!(stat(pid).is_some(), "the servers have to run on this machine, not in containers");
    pid
}

/// What the processes of each of these servers have used, those that have ended included.
fn servers_us(postmasters: &[u32]) -> Vec<f64> {
    const TICK_US: f64 = 1e6 / 100.0;
    let used = |pid: u32| scheduled_us(&format!("/proc/{pid}/schedstat"));
    let with_ended = |pid: &u32| used(*pid) + stat(*pid).expect("it runs").ticks_of_ended as f64 * TICK_US;
    let mut all: Vec<_> = postmasters.iter().map(with_ended).collect();
    for entry in fs::read_dir("/proc").expect("there is /proc").flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let child = pid.and_then(|pid| Some((pid, stat(pid)?.parent)));
        let server =
            child.and_then(|(pid, parent)| Some((pid, postmasters.iter().position(|pid| *pid == parent)?)));
        if let Some((pid, server)) = server {
            all[server] += used(pid);
        }
    }
    all
}

struct Stat {
    parent: u32,
    ticks_of_ended: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything.
    let fields: Vec<_> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |i: usize| fields.get(i)?.parse::<u64>().ok();
    Some(Stat { parent: fields.get(1)?.parse().ok()?, ticks_of_ended: ticks(13)? + ticks(14)? })
}

fn thread_us() -> f64 {
    scheduled_us("/proc/thread-self/schedstat")
}

/// Nothing for a process that has ended meanwhile.
fn scheduled_us(path: &str) -> f64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or_default() / 1000.0
}
