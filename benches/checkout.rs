//! What the router costs: a checkout and a point select on a replica, against bare bb8 pools of diesel-async's: as they come, and
//! without their ping.
//!
//! `cargo bench --bench checkout`. All variants run in one process against one server, in rounds, in an order that
//! rotates from round to round; what counts are the ratios within a round, given as median and range over all rounds.

#![allow(missing_docs, reason = "a program has no outside")]

mod followed;
mod healthy;
mod spread;
mod table;

use diesel::prelude::*;
use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::{AsyncDieselConnectionManager, bb8};
use diesel_replicas::{Router, RunQueryDsl};
use healthy::healthy;
use pg_cluster::Cluster;
use spread::Spread;
use std::time::{Duration, Instant};
use table::notes;

const ROUNDS: usize = 11;
const SLICE: Duration = Duration::from_millis(300);
const POOL: u32 = 16;

type Bb8 = bb8::Pool<AsyncPgConnection>;

#[derive(Clone)]
enum Variant {
    Router(Router),
    Bb8(Bb8),
}

#[derive(Clone, Copy, PartialEq)]
enum Work {
    Checkout,
    PointSelect,
}

impl Variant {
    async fn once(&self, work: Work, id: i32) {
        let query = notes::table.find(id);
        match self {
            Self::Router(router) => {
                let mut conn = router.read().await.expect("the server is up");
                if work == Work::PointSelect {
                    query.first::<(i32, String)>(&mut conn).await.expect("the row is there");
                }
            }
            Self::Bb8(pool) => {
                let mut conn = pool.get().await.expect("the server is up");
                if work == Work::PointSelect {
                    query.first::<(i32, String)>(&mut conn).await.expect("the row is there");
                }
            }
        }
    }

    /// Operations a second of that many tasks, each doing one after the other, and what the task that was served least had of an even
    /// share.
    async fn throughput(&self, work: Work, tasks: usize) -> [f64; 2] {
        let started = Instant::now();
        let end = started + SLICE;
        let tasks = (0..tasks).map(|task| {
            let variant = self.clone();
            tokio::spawn(async move {
                let mut done = 0_u32;
                while Instant::now() < end {
                    variant.once(work, (done as i32 * 31 + task as i32) % 1000 + 1).await;
                    done += 1;
                    // A checkout alone never waits, and would keep its worker thread to itself.
                    if work == Work::Checkout && done.is_multiple_of(64) {
                        tokio::task::yield_now().await;
                    }
                }
                done
            })
        });
        let done = futures_util::future::join_all(tasks.collect::<Vec<_>>()).await;
        let took = started.elapsed().as_secs_f64();
        let done: Vec<_> = done.into_iter().map(|done| f64::from(done.expect("no task panics"))).collect();
        let total: f64 = done.iter().sum();
        let least = done.iter().copied().fold(f64::INFINITY, f64::min);
        [total / took, least * done.len() as f64 / total]
    }
}

fn main() {
    // `cargo test --benches` runs this as well; there is nothing to test.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(connections());
}

async fn connections() {
    let cluster = Cluster::builder().replicas(1).start().await.expect("a cluster");
    table::fill(&cluster).await;
    let url = cluster.replica(0).url();

    let router = Router::builder().primary(cluster.primary().url()).replica(&*url).pool_size(POOL);
    let router = router.build().await.expect("a router");
    healthy(&router).await;
    let manager = || AsyncDieselConnectionManager::<AsyncPgConnection>::new(&*url);
    let pinging = Bb8::builder().max_size(POOL).build(manager()).await.expect("a pool");
    let pingless =
        Bb8::builder().max_size(POOL).test_on_check_out(false).build(manager()).await.expect("a pool");
    let variants = [Variant::Router(router), Variant::Bb8(pinging), Variant::Bb8(pingless)];

    println!("router against bb8 on one server, pools of {POOL}: median [min..max] of {ROUNDS} rounds");
    for (name, work) in [("checkout", Work::Checkout), ("point select", Work::PointSelect)] {
        for tasks in [1, 2, 8, 32, 64] {
            let mut rounds = Vec::new();
            for round in 0..=ROUNDS {
                let mut figures = [[0.0; 2]; 3];
                for turn in 0..variants.len() {
                    let variant = (round + turn) % variants.len();
                    figures[variant] = variants[variant].throughput(work, tasks).await;
                }
                // The first round opens connections and prepares statements.
                if round > 0 {
                    rounds.push(figures);
                }
            }
            let over =
                |figure: &dyn Fn(&[[f64; 2]; 3]) -> f64| Spread::of(rounds.iter().map(figure).collect());
            let ratio = |to: usize| over(&|figures| figures[0][0] / figures[to][0]);
            let least = |of: usize| over(&|figures| figures[of][1]);
            println!(
                "  {name:<13} {tasks:>2} tasks  {} k/s, {} of bb8's with ping, {} of bb8's without; \
                 least served task {}, with bb8 {}, {} of an even share",
                over(&|figures| figures[0][0] / 1000.0),
                ratio(1),
                ratio(2),
                least(0),
                least(1),
                least(2)
            );
        }
    }
}
