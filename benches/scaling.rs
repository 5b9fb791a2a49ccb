//! How reads scale with replicas: a primary and none, one, two and four replicas, each limited to the same share of a
//! processor, so that they are as far apart on one machine as on machines of their own.
//!
//! `cargo bench --bench scaling -- docs/scaling.svg`; without a file there is no picture. Four of five operations read, for
//! about a millisecond of CPU, and the fifth writes a row. Closed loop: tasks that each do one after the other, no more of them
//! than a pool has connections. Open loop: at a fixed rate, with latencies from when each operation was due. Who takes part:
//!
//! - the primary alone, through one bb8 pool;
//! - the router, with replicas that serve all reads;
//! - the router, with the primary serving reads as well. It has no part in the load balancing; the rollout's percentage leaves
//!   it the share for which its writes leave it room;
//! - round robin over bare bb8 pools, with the same nodes and shares.
//!
//! All take turns in rounds, in an order that rotates from round to round; what counts are the ratios within a round, given as
//! median and range over all rounds.

#![allow(missing_docs, reason = "a program has no outside")]

mod arrivals;
mod chart;
mod followed;
mod healthy;
mod load;
mod spread;
mod target;

use chart::{Chart, Line, Point};
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types;
use diesel_async::pooled_connection::{AsyncDieselConnectionManager, bb8};
use diesel_async::{AsyncConnection, AsyncPgConnection};
use diesel_replicas::{NodeConfig, Reader, Rollout, Router, RunQueryDsl};
use followed::followed;
use healthy::healthy;
use load::Latencies;
use pg_cluster::{Cluster, Error, Node};
use spread::Spread;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

diesel::table! {
    items (id) {
        id -> Integer,
        body -> Text,
    }
}

diesel::table! {
    events (id) {
        id -> Integer,
        body -> Text,
    }
}

const REPLICAS: [usize; 4] = [0, 1, 2, 4];
/// Of a processor, for each node. The five of the largest cluster have one in all, and the client the other.
const CPU: f64 = 0.2;
const ROUNDS: usize = 9;
const CLOSED: Duration = Duration::from_millis(2000);
const OPEN: Duration = Duration::from_millis(1500);
const POOL: u32 = 16;
const TASKS: usize = 16;
const READS: f64 = 0.8;
const READ_CPU_MS: f64 = 1.0;
/// The rate of the open loop, as a share of what the primary alone can do.
const LOAD: f64 = 0.6;
/// Nobody gives up on a node before.
const PATIENCE: Duration = Duration::from_secs(30);

/// Two to the 64th, divided by the golden ratio: multiples of it fall evenly over all numbers.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

type Bb8 = bb8::Pool<AsyncPgConnection>;

fn main() {
    // `cargo test --benches` runs this as well; there is nothing to test.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(scaling());
}

async fn scaling() {
    let mut clusters = Vec::new();
    for replicas in REPLICAS {
        match Cluster::builder().replicas(replicas).cpu_limit(CPU).start().await {
            Err(error @ Error::CpuLimit { .. }) => {
                println!(
                    "nothing is measured, since nodes that share processors do not show how they scale: {error}"
                );
                return;
            }
            started => clusters.push(started.expect("a cluster")),
        }
    }
    println!("nodes of {CPU} of a processor each; {:.0} % of the operations are reads", READS * 100.0);
    let rows = rows_of_a_read(clusters[0].primary()).await;
    let mut variants = Vec::new();
    for cluster in &clusters {
        fill(cluster, rows).await;
        let (replicas, costs) = (cluster.replicas().len(), Costs::of(cluster).await);
        let Costs { read, write, replay } = costs;
        println!(
            "  {replicas} replicas: a read takes {read:.2} ms of CPU, a write {write:.2} ms on the primary and {replay:.2} ms on a replica"
        );
        variants.extend(Variant::of(cluster, costs).await.into_iter().map(Arc::new));
    }

    let rate = capacity(&variants[ALONE]).await * LOAD;
    let (mut closed, mut open) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let closed_figures = closed_round(&variants, round).await;
        let open_figures = open_round(&variants, round, rate).await;
        // The first round opens connections and prepares statements.
        if round > 0 {
            closed.push(closed_figures);
            open.push(open_figures);
        }
    }
    let results = Results { variants, closed, open, rate };
    results.print();
    if let Some(file) = std::env::args().find(|argument| argument.ends_with(".svg")) {
        std::fs::write(&file, results.picture()).expect("the picture can be written");
        println!("the picture is in {file}");
    }
}

/// So many rows that a read goes through all of them in [`READ_CPU_MS`].
async fn rows_of_a_read(primary: &Node) -> i32 {
    const SAMPLE: i32 = 10_000;
    make_tables(primary, SAMPLE).await;
    let mut conn = connect(primary).await;
    let [sample_ms] = cpu_ms(&mut conn, [&mut connect(primary).await], async |conn| read(conn).await).await;
    (f64::from(SAMPLE) * READ_CPU_MS / sample_ms) as i32
}

/// What an operation takes of the CPU of a node, in milliseconds.
#[derive(Clone, Copy)]
struct Costs {
    read: f64,
    /// On the primary, with sending it to all replicas.
    write: f64,
    /// On each replica.
    replay: f64,
}

impl Costs {
    async fn of(cluster: &Cluster) -> Self {
        let primary = cluster.primary();
        let replica = cluster.replicas().first().unwrap_or(primary);
        let (mut conn, mut on_primary, mut on_replica) =
            (connect(primary).await, connect(primary).await, connect(replica).await);
        let [read] = cpu_ms(&mut conn, [&mut on_primary], async |conn| read(conn).await).await;
        let accounts = [&mut on_primary, &mut on_replica];
        let [write, replay] = cpu_ms(&mut conn, accounts, async |conn| write(conn).await).await;
        Self { read, write, replay: if cluster.replicas().is_empty() { 0.0 } else { replay } }
    }

    /// The share of the reads with which the primary has as much to do as each of so many replicas.
    fn share_of_primary(&self, replicas: usize) -> f64 {
        let surplus = (1.0 - READS) * (self.write - self.replay) / (READS * self.read);
        let replicas = replicas as f64;
        ((1.0 - surplus * replicas) / (replicas + 1.0)).max(0.0)
    }
}

async fn connect(node: &Node) -> AsyncPgConnection {
    AsyncPgConnection::establish(&node.url()).await.expect("the node is up")
}

/// What one call takes of the CPU of each of these nodes, all server processes together, as the kernel accounts it.
async fn cpu_ms<const N: usize>(
    conn: &mut AsyncPgConnection,
    mut accounts: [&mut AsyncPgConnection; N],
    call: impl AsyncFn(&mut AsyncPgConnection),
) -> [f64; N] {
    const CALLS: u32 = 200;
    // Plans are made, and rows found to be visible to all, before it counts.
    for _ in 0..10 {
        call(conn).await;
    }
    let mut used_ms = [0.0; N];
    for (used_ms, account) in used_ms.iter_mut().zip(&mut accounts) {
        *used_ms -= cpu_of_server_ms(account).await;
    }
    for _ in 0..CALLS {
        call(conn).await;
    }
    for (used_ms, account) in used_ms.iter_mut().zip(&mut accounts) {
        *used_ms += cpu_of_server_ms(account).await;
    }
    used_ms.map(|ms| ms / f64::from(CALLS))
}

/// But for the process that is asked, and for sessions that may be gone in a moment.
async fn cpu_of_server_ms(conn: &mut AsyncPgConnection) -> f64 {
    let used = "(SELECT sum(split_part(pg_read_file('/proc/' || pid || '/schedstat'), ' ', 1)::float8) / 1e6 \
                FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND application_name <> 'pg-cluster')";
    diesel::select(sql::<sql_types::Double>(used)).get_result(conn).await.expect("Linux tells it")
}

async fn make_tables(primary: &Node, rows: i32) {
    let tables = format!(
        "DROP TABLE IF EXISTS items, events; \
         CREATE TABLE items AS SELECT id, md5(id::text) AS body FROM generate_series(1, {rows}) AS id; \
         CREATE TABLE events (id int PRIMARY KEY GENERATED BY DEFAULT AS IDENTITY, body text NOT NULL)"
    );
    primary.sql(&tables).await.expect("tables");
    primary.sql("VACUUM (FREEZE, ANALYZE) items").await.expect("they are settled");
}

async fn fill(cluster: &Cluster, rows: i32) {
    make_tables(cluster.primary(), rows).await;
    followed(cluster).await;
}

async fn read(conn: &mut Reader) {
    let found = items::table.filter(items::body.like("%nothing%")).count();
    assert_eq!(found.get_result::<i64>(conn).await.expect("the node answers"), 0);
}

async fn write(conn: &mut AsyncPgConnection) {
    let row = diesel::insert_into(events::table).values(events::body.eq("something"));
    row.execute(conn).await.expect("it is written");
}

/// Who is measured, on which cluster.
struct Variant {
    kind: Kind,
    replicas: usize,
    /// Of the reads.
    share_of_primary: f64,
    way: Way,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Alone,
    Replicas,
    Both,
    BareReplicas,
    BareBoth,
}

/// The index of the first variant.
const ALONE: usize = 0;

#[derive(Clone)]
enum Way {
    Router(Router),
    Bare(Arc<Bare>),
}

/// Pools without a router.
struct Bare {
    writes: Bb8,
    primary: Bb8,
    replicas: Vec<Bb8>,
    draws: AtomicU64,
    turns: AtomicU64,
}

/// What an operation was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Done {
    Write,
    ReadOnPrimary,
    ReadOnReplica,
}

impl Variant {
    /// Those of one cluster.
    async fn of(cluster: &Cluster, costs: Costs) -> Vec<Self> {
        let replicas = cluster.replicas().len();
        let bare = Bare::of(cluster).await;
        if replicas == 0 {
            // One pool for everything.
            let bare = Bare { primary: bare.writes.clone(), ..bare };
            return vec![Self {
                kind: Kind::Alone,
                replicas,
                share_of_primary: 1.0,
                way: Way::Bare(Arc::new(bare)),
            }];
        }
        let node = |node: &Node| NodeConfig::new(node.url()).name(node.name());
        let router = Router::builder().primary(node(cluster.primary()));
        let router = cluster.replicas().iter().fold(router, |router, replica| router.replica(node(replica)));
        let router = router.slow_start(Duration::ZERO).pool_size(POOL).checkout_timeout(PATIENCE);
        // A node that is paused for most of the time answers late, which is what is measured and no reason to go elsewhere.
        let router = router.probe_timeout(PATIENCE).lag_threshold(PATIENCE);
        let router = router.build().await.expect("a router");
        healthy(&router).await;
        let (router, bare) = (Way::Router(router), Way::Bare(Arc::new(bare)));
        let share = costs.share_of_primary(replicas);
        let kinds = [
            (Kind::Replicas, 0.0, &router),
            (Kind::Both, share, &router),
            (Kind::BareReplicas, 0.0, &bare),
            (Kind::BareBoth, share, &bare),
        ];
        let variant = |(kind, share_of_primary, way): (_, _, &Way)| Self {
            kind,
            replicas,
            share_of_primary,
            way: way.clone(),
        };
        kinds.into_iter().map(variant).collect()
    }

    fn name(&self) -> String {
        let replicas =
            if self.replicas == 1 { "1 replica".to_owned() } else { format!("{} replicas", self.replicas) };
        match self.kind {
            Kind::Alone => "the primary alone".to_owned(),
            Kind::Replicas => format!("router, {replicas}"),
            Kind::Both => format!("router, primary and {replicas}"),
            Kind::BareReplicas => format!("bare round robin, {replicas}"),
            Kind::BareBoth => format!("bare round robin, primary and {replicas}"),
        }
    }

    /// The two kinds of a router are the same router.
    fn prepare(&self) {
        if let Way::Router(router) = &self.way {
            let percent = 100.0 * (1.0 - self.share_of_primary);
            router.set_rollout(Rollout::default().percent(percent)).expect("a percentage");
        }
    }

    async fn once(self: Arc<Self>, number: u64) -> Done {
        let writes = number.wrapping_mul(GOLDEN) as f64 >= READS * u64::MAX as f64;
        match &self.way {
            Way::Router(router) if writes => {
                write(&mut router.write().await.expect("the primary takes writes")).await;
                Done::Write
            }
            Way::Router(router) => {
                let mut conn = router.read().await.expect("somebody serves reads");
                read(&mut conn).await;
                if conn.node() == "primary" { Done::ReadOnPrimary } else { Done::ReadOnReplica }
            }
            Way::Bare(pools) if writes => {
                write(&mut pools.writes.get().await.expect("the primary is up")).await;
                Done::Write
            }
            Way::Bare(pools) => {
                let (pool, done) = pools.pick(self.share_of_primary);
                read(&mut *pool.get().await.expect("the node is up")).await;
                done
            }
        }
    }
}

impl Bare {
    async fn of(cluster: &Cluster) -> Self {
        let pool = async |node: &Node| {
            let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new(node.url());
            Bb8::builder().max_size(POOL).test_on_check_out(false).build(manager).await.expect("a pool")
        };
        let mut replicas = Vec::new();
        for replica in cluster.replicas() {
            replicas.push(pool(replica).await);
        }
        let (writes, primary) = (pool(cluster.primary()).await, pool(cluster.primary()).await);
        Self { writes, primary, replicas, draws: AtomicU64::new(0), turns: AtomicU64::new(0) }
    }

    fn pick(&self, share_of_primary: f64) -> (&Bb8, Done) {
        let draw = self.draws.fetch_add(1, Ordering::Relaxed).wrapping_mul(GOLDEN);
        if (draw as f64) < share_of_primary * u64::MAX as f64 || self.replicas.is_empty() {
            return (&self.primary, Done::ReadOnPrimary);
        }
        let turn = self.turns.fetch_add(1, Ordering::Relaxed) as usize;
        (&self.replicas[turn % self.replicas.len()], Done::ReadOnReplica)
    }
}

/// What one variant showed in one round.
#[derive(Clone, Copy, Default)]
struct Figures {
    /// Operations; nothing in the open loop, where it is given.
    per_second: f64,
    mean_ms: f64,
    p50_ms: f64,
    p95_ms: f64,
    p99_ms: f64,
    /// Of the reads, on the primary.
    on_primary: f64,
}

impl Figures {
    fn of(done: &[(Done, f64)], per_second: f64) -> Self {
        let reads: Vec<f64> =
            done.iter().filter(|(done, _)| *done != Done::Write).map(|(_, ms)| *ms).collect();
        let on_primary = done.iter().filter(|(done, _)| *done == Done::ReadOnPrimary).count();
        let count = reads.len() as f64;
        let mean_ms = reads.iter().sum::<f64>() / count;
        let reads = Latencies::of(reads);
        let [p50_ms, p95_ms, p99_ms] = [50, 95, 99].map(|percent| reads.percentile_ms(percent));
        Self { per_second, mean_ms, p50_ms, p95_ms, p99_ms, on_primary: on_primary as f64 / count }
    }
}

/// What it can do, in operations a second: the best of several, since at first connections are opened.
async fn capacity(variant: &Arc<Variant>) -> f64 {
    let mut best: f64 = 0.0;
    for _ in 0..4 {
        let variant = Arc::clone(variant);
        let (_, rate) = load::closed(TASKS, CLOSED, move |number| Arc::clone(&variant).once(number)).await;
        best = best.max(rate);
    }
    best
}

async fn closed_round(variants: &[Arc<Variant>], round: usize) -> Vec<Figures> {
    let mut figures = vec![Figures::default(); variants.len()];
    for turn in 0..variants.len() {
        let which = (round + turn) % variants.len();
        variants[which].prepare();
        let variant = Arc::clone(&variants[which]);
        let (done, per_second) =
            load::closed(TASKS, CLOSED, move |number| Arc::clone(&variant).once(number)).await;
        figures[which] = Figures::of(&done, per_second);
    }
    figures
}

async fn open_round(variants: &[Arc<Variant>], round: usize, rate: f64) -> Vec<Figures> {
    let mut figures = vec![Figures::default(); variants.len()];
    for turn in 0..variants.len() {
        let which = (round + turn) % variants.len();
        // The bare pools are there for what can be done at most.
        if matches!(variants[which].kind, Kind::BareReplicas | Kind::BareBoth) {
            continue;
        }
        variants[which].prepare();
        let variant = Arc::clone(&variants[which]);
        let done = arrivals::open(rate, OPEN, move |number| Arc::clone(&variant).once(number)).await;
        figures[which] = Figures::of(&done, 0.0);
    }
    figures
}

struct Results {
    variants: Vec<Arc<Variant>>,
    /// For each round those of all variants.
    closed: Vec<Vec<Figures>>,
    open: Vec<Vec<Figures>>,
    /// Of the open loop, in operations a second.
    rate: f64,
}

impl Results {
    fn print(&self) {
        println!("closed loop, {TASKS} tasks, pools of {POOL}: median [min..max] of {ROUNDS} rounds");
        for (i, variant) in self.variants.iter().enumerate() {
            let rate = self.spread(&self.closed, |all| all[i].per_second);
            println!(
                "  {}: {rate} operations/s, {} times the primary alone",
                variant.name(),
                self.speed_up(i)
            );
            self.print_latencies(&self.closed, i);
        }
        println!("open loop, {:.0} operations/s: median [min..max] of {ROUNDS} rounds", self.rate);
        for (i, variant) in self.variants.iter().enumerate() {
            if !matches!(variant.kind, Kind::BareReplicas | Kind::BareBoth) {
                println!("  {}", variant.name());
                self.print_latencies(&self.open, i);
            }
        }
        println!("targets, by the median");
        let speed_up = |kind, replicas| self.speed_up(self.index(kind, replicas));
        target::at_least(
            3.5,
            "throughput of 4 replicas over the primary alone",
            &speed_up(Kind::Replicas, 4),
        );
        target::at_least(4.5, "throughput of primary and 4 over the primary alone", &speed_up(Kind::Both, 4));
        let both = self.index(Kind::Both, 2);
        let latency = self.spread(&self.closed, |all| all[both].mean_ms / all[ALONE].mean_ms);
        target::at_most(0.5, "mean read latency of primary and 2 over the primary alone", &latency);
        for (kind, bare, who) in
            [(Kind::Replicas, Kind::BareReplicas, ""), (Kind::Both, Kind::BareBoth, "primary and ")]
        {
            for replicas in REPLICAS.into_iter().skip(1) {
                let (router, bare) = (self.index(kind, replicas), self.index(bare, replicas));
                let ratio = self.spread(&self.closed, |all| all[router].per_second / all[bare].per_second);
                target::at_least(
                    0.95,
                    &format!("throughput of {who}{replicas} over bare round robin"),
                    &ratio,
                );
            }
        }
    }

    fn print_latencies(&self, rounds: &[Vec<Figures>], i: usize) {
        let of = |figure: fn(&Figures) -> f64| self.spread(rounds, |all| figure(&all[i]));
        let (mean, on_primary) = (of(|it| it.mean_ms), of(|it| it.on_primary * 100.0));
        println!("    reads: mean {mean} ms, {on_primary} % on the primary");
        println!(
            "    p50 {} ms, p95 {} ms, p99 {} ms",
            of(|it| it.p50_ms),
            of(|it| it.p95_ms),
            of(|it| it.p99_ms)
        );
    }

    fn picture(&self) -> String {
        let line = |name: &str, kind, point: &dyn Fn(usize) -> Spread| {
            let point = |replicas: usize| {
                let which = if replicas == 0 { ALONE } else { self.index(kind, replicas) };
                Point { x: replicas as f64, y: point(which).range() }
            };
            Line { name: name.to_owned(), dashed: false, points: REPLICAS.map(point).into() }
        };
        let rate = |i: usize| self.spread(&self.closed, |all| all[i].per_second);
        let [_, alone, _] = rate(ALONE).range();
        let ideal = |replicas: usize| Point { x: replicas as f64, y: [alone * (replicas + 1) as f64; 3] };
        let ideal = Line {
            name: "ideal: as many times the primary as there are nodes".to_owned(),
            dashed: true,
            points: REPLICAS.map(ideal).into(),
        };
        let across = format!("replicas (0: the primary alone); bars: all of {ROUNDS} rounds");
        let latency =
            |figure: fn(&Figures) -> f64| move |i: usize| self.spread(&self.open, |all| figure(&all[i]));
        let throughput = Chart {
            title: format!("Throughput, {TASKS} tasks in a closed loop"),
            across: across.clone(),
            up: "reads and writes a second".to_owned(),
            lines: vec![
                ideal,
                line("primary and replicas serve reads", Kind::Both, &rate),
                line("replicas serve reads", Kind::Replicas, &rate),
            ],
        };
        let latencies = Chart {
            title: format!("Reads on replicas, {:.0} operations a second", self.rate),
            across,
            up: "milliseconds from when each was due".to_owned(),
            lines: vec![
                line("p99", Kind::Replicas, &latency(|it| it.p99_ms)),
                line("p95", Kind::Replicas, &latency(|it| it.p95_ms)),
                line("p50", Kind::Replicas, &latency(|it| it.p50_ms)),
            ],
        };
        chart::svg(&[throughput, latencies])
    }

    fn index(&self, kind: Kind, replicas: usize) -> usize {
        let is_it = |variant: &Arc<Variant>| variant.kind == kind && variant.replicas == replicas;
        self.variants.iter().position(is_it).expect("it was measured")
    }

    /// Over the primary alone.
    fn speed_up(&self, i: usize) -> Spread {
        self.spread(&self.closed, |all| all[i].per_second / all[ALONE].per_second)
    }

    fn spread(&self, rounds: &[Vec<Figures>], figure: impl Fn(&[Figures]) -> f64) -> Spread {
        Spread::of(rounds.iter().map(|all| figure(all)).collect())
    }
}
