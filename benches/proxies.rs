//! What a user would pick instead of the router: a point select on a primary and two replicas, by way of the router, of one bb8
//! pool on the primary, and of bb8 pools behind HAProxy, PgBouncer and Pgpool-II.
//!
//! `cargo bench --bench proxies`. All run in one process against one cluster, in rounds, in an order that rotates from round to
//! round; what counts are the ratios within a round, given as median and range over all rounds. A proxy that is not installed
//! is named and left out.
//!
//! Every pool has as many connections as there are tasks at most, and bb8 does not ping, which would cost each of its users
//! nearly half of the throughput. Statements are prepared once a connection and then kept, as diesel-async does it. The proxies spread
//! reads over the same two replicas as the router; `proxy_kinds.rs` has how each is set, and why.

#![allow(missing_docs, reason = "a program has no outside")]

mod followed;
mod healthy;
mod load;
mod proxy;
mod proxy_kinds;
mod spread;
mod table;
mod target;

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types;
use diesel_async::pooled_connection::{AsyncDieselConnectionManager, bb8};
use diesel_async::{AsyncConnection, AsyncPgConnection};
use diesel_replicas::{Router, RunQueryDsl};
use healthy::healthy;
use load::Latencies;
use pg_cluster::{Backend, Cluster};
use proxy::Proxy;
use proxy_kinds::{KINDS, Stage, port};
use spread::Spread;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use table::notes;

const ROUNDS: usize = 9;
const SLICE: Duration = Duration::from_millis(400);
const TASKS: [usize; 3] = [1, 8, 32];
/// In each pool, and through each proxy.
pub(crate) const CONNECTIONS: u32 = 32;
/// At which the targets are.
const TARGET_TASKS: usize = 8;

type Bb8 = bb8::Pool<AsyncPgConnection>;

fn main() {
    // `cargo test --benches` runs this as well; there is nothing to test.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(contest());
}

async fn contest() {
    // Each server's Unix socket in its data directory, for the proxy that takes no other.
    let builder =
        Cluster::builder().backend(Backend::Local).replicas(2).setting("unix_socket_directories", ".");
    let cluster = builder.start().await.expect("a cluster of local processes");
    table::fill(&cluster).await;
    let stage = Stage::of(cluster).await;

    let mut contenders = vec![
        Contender { name: "the router", way: Way::Router(router(&stage.cluster).await), least: None },
        Contender {
            name: "one bb8 pool on the primary",
            way: Way::Pool(pool(&stage.cluster.primary().url()).await),
            least: None,
        },
    ];
    let mut proxies = Vec::new();
    for kind in KINDS {
        let name = kind.name;
        let Some(program) = kind.program() else {
            println!("{name} is left out: it is not installed (Debian: apt install {})", kind.package);
            continue;
        };
        let (proxy, port) = kind.start(&program, &stage).expect("it can be started");
        let url = format!("postgres://postgres@127.0.0.1:{port}/postgres");
        until_it_answers(name, &proxy, &url).await;
        let pool = pool(&url).await;
        assert_balances(name, &pool, &stage.cluster).await;
        contenders.push(Contender { name, way: Way::Pool(pool), least: Some(kind.least) });
        proxies.push(proxy);
    }
    for tasks in TASKS {
        measure(&contenders, tasks).await;
    }
}

struct Contender {
    name: &'static str,
    way: Way,
    /// How many times its throughput the router should have.
    least: Option<f64>,
}

#[derive(Clone)]
enum Way {
    Router(Router),
    Pool(Bb8),
}

impl Way {
    async fn once(self, number: u64) {
        let query = notes::table.find((number * 31 % 1000) as i32 + 1);
        match self {
            Self::Router(router) => {
                let mut conn = router.read().await.expect("replicas serve");
                query.first::<(i32, String)>(&mut conn).await.expect("the row is there");
            }
            Self::Pool(pool) => {
                let mut conn = pool.get().await.expect("the server is up");
                query.first::<(i32, String)>(&mut conn).await.expect("the row is there");
            }
        }
    }
}

/// With all replicas healthy.
async fn router(cluster: &Cluster) -> Router {
    let router =
        Router::builder().primary(cluster.primary().url()).pool_size(CONNECTIONS).slow_start(Duration::ZERO);
    let router = cluster.replicas().iter().fold(router, |router, replica| router.replica(replica.url()));
    let router = router.build().await.expect("a router");
    healthy(&router).await;
    router
}

async fn pool(url: &str) -> Bb8 {
    let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new(url);
    Bb8::builder().max_size(CONNECTIONS).test_on_check_out(false).build(manager).await.expect("a pool")
}

async fn until_it_answers(name: &str, proxy: &Proxy, url: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while let Err(error) = AsyncPgConnection::establish(url).await {
        assert!(Instant::now() < deadline, "{name} does not answer: {error}\n{}", proxy.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What is compared has to do the same work: reads go to the replicas, to all of them, and to nobody else.
async fn assert_balances(name: &str, pool: &Bb8, cluster: &Cluster) {
    let deadline = Instant::now() + Duration::from_secs(20);
    let replicas: BTreeSet<u16> = cluster.replicas().iter().map(port).collect();
    loop {
        let connections = (0..CONNECTIONS).map(|_| pool.get());
        let connections = futures_util::future::try_join_all(connections).await.expect("it takes so many");
        let mut served_by = BTreeSet::new();
        for mut conn in connections {
            let asked = diesel::select(sql::<sql_types::Text>("current_setting('port')"));
            let port = asked.get_result::<String>(&mut *conn).await.expect("it answers");
            served_by.insert(port.parse::<u16>().expect("it is a number"));
        }
        if served_by == replicas {
            return;
        }
        // A health check may not have been there yet.
        assert!(
            Instant::now() < deadline,
            "{name} has reads served by {served_by:?} instead of {replicas:?}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// What one contender showed in one round.
#[derive(Clone, Copy, Default)]
struct Figures {
    per_ms: f64,
    p50_ms: f64,
    p99_ms: f64,
}

/// The index of the router.
const ROUTER: usize = 0;

async fn measure(contenders: &[Contender], tasks: usize) {
    let mut rounds = Vec::new();
    for round in 0..=ROUNDS {
        let mut figures = vec![Figures::default(); contenders.len()];
        for turn in 0..contenders.len() {
            let which = (round + turn) % contenders.len();
            let way = contenders[which].way.clone();
            let (done, per_second) = load::closed(tasks, SLICE, move |number| way.clone().once(number)).await;
            let latencies = Latencies::of(done.into_iter().map(|((), ms)| ms).collect());
            let [p50_ms, p99_ms] = [50, 99].map(|percent| latencies.percentile_ms(percent));
            figures[which] = Figures { per_ms: per_second / 1000.0, p50_ms, p99_ms };
        }
        // The first round opens connections and prepares statements.
        if round > 0 {
            rounds.push(figures);
        }
    }
    let spread =
        |figure: &dyn Fn(&[Figures]) -> f64| Spread::of(rounds.iter().map(|all| figure(all)).collect());
    let throughput = |i: usize| spread(&|all| all[ROUTER].per_ms / all[i].per_ms);
    let p99 = |i: usize| spread(&|all| all[ROUTER].p99_ms / all[i].p99_ms);
    println!("point select, {tasks} tasks: median [min..max] of {ROUNDS} rounds");
    for (i, contender) in contenders.iter().enumerate() {
        let of = |figure: fn(&Figures) -> f64| spread(&|all| figure(&all[i]));
        println!(
            "  {}: {} k/s, p50 {} ms, p99 {} ms",
            contender.name,
            of(|it| it.per_ms),
            of(|it| it.p50_ms),
            of(|it| it.p99_ms)
        );
        if i != ROUTER {
            println!(
                "    the router has {} times its throughput, and {} times its p99",
                throughput(i),
                p99(i)
            );
        }
    }
    if tasks != TARGET_TASKS {
        return;
    }
    println!("targets at {tasks} tasks, by the median");
    for (i, contender) in contenders.iter().enumerate() {
        if let Some(least) = contender.least {
            target::at_least(least, &format!("throughput over that of {}", contender.name), &throughput(i));
            target::at_most(1.0, &format!("p99 over that of {}", contender.name), &p99(i));
        }
    }
}
