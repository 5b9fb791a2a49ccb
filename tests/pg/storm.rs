//! Many users that give up at any point, on few connections: none of them meets what another left.

use crate::support::{self, notes};
use diesel::prelude::*;
use diesel_async::SimpleAsyncConnection;
use diesel_replicas::{Router, RunQueryDsl};
use futures_util::FutureExt;
use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::time::{Duration, Instant};
use tokio::time::timeout;

diesel::define_sql_function! {
    /// Sleeps on the server.
    fn pg_sleep(seconds: diesel::sql_types::Double) -> diesel::sql_types::Bool;
}

const TASKS: u64 = 8;
const LASTS: Duration = Duration::from_millis(1500);
const LONG: f64 = 120.0;

/// Reads its own answer, undisturbed and without waiting for anybody's two minutes.
async fn read(router: &Router, number: i32) {
    let mut conn = router.read().await.unwrap();
    let answer = diesel::select(diesel::dsl::sql::<diesel::sql_types::Integer>(&number.to_string()));
    let answer = timeout(Duration::from_secs(10), answer.get_result::<i32>(&mut conn)).await;
    assert_eq!(answer.expect("nothing runs ahead of it").unwrap(), number);
}

/// Writes outside of any transaction of somebody else.
async fn write(router: &Router, body: &str) {
    let mut conn = router.write().await.unwrap();
    let row = diesel::insert_into(notes::table).values(notes::body.eq(body)).execute(&mut conn);
    assert_eq!(timeout(Duration::from_secs(10), row).await.expect("nothing runs ahead of it").unwrap(), 1);
}

/// Begins something and drops it, never polled, polled once, or after some microseconds.
async fn give_up(router: &Router, rng: &mut StdRng) {
    let after = Duration::from_micros(rng.random_range(0..400));
    let once = rng.random_bool(0.5);
    if rng.random_bool(0.5) {
        let mut conn = router.read().await.unwrap();
        let query = diesel::select(pg_sleep(LONG)).execute(&mut conn);
        if once { drop(query.now_or_never()) } else { drop(timeout(after, query).await) }
    } else {
        let mut conn = router.write().await.unwrap();
        let text = ["BEGIN", "BEGIN; SELECT pg_sleep(120)", "SELECT pg_sleep(120)"][rng.random_range(0..3)];
        let query = conn.batch_execute(text);
        if once { drop(query.now_or_never()) } else { drop(timeout(after, query).await) }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nobody_meets_what_another_left() {
    let cluster = support::cluster(1).await;
    let router = support::ready(support::builder(&cluster).pool_size(3)).await;
    // Prepared on a connection, a query is queued at its first poll.
    let until = Instant::now() + LASTS;
    let tasks = (0..TASKS).map(|task| {
        let router = router.clone();
        tokio::spawn(async move {
            let mut rng = StdRng::seed_from_u64(task);
            let (mut reads, mut writes) = (0, 0);
            while Instant::now() < until {
                match rng.random_range(0..5) {
                    0..2 => {
                        reads += 1;
                        read(&router, rng.random()).await;
                    }
                    2..4 => {
                        writes += 1;
                        write(&router, &format!("task {task}")).await;
                    }
                    _ => give_up(&router, &mut rng).await,
                }
            }
            (reads, writes)
        })
    });
    let done: Vec<(u32, u32)> =
        join_all(tasks.collect::<Vec<_>>()).await.into_iter().map(Result::unwrap).collect();
    let reads: u32 = done.iter().map(|(reads, _)| reads).sum();
    let writes: u32 = done.iter().map(|(_, writes)| writes).sum();
    println!("{reads} reads, {writes} writes");
    assert!(reads > 0 && writes > 0);
    let sql = "SELECT count(*)::text FROM notes WHERE body LIKE 'task %'";
    assert_eq!(
        cluster.primary().sql(sql).await.unwrap(),
        Some(writes.to_string()),
        "every row is there for others"
    );
    support::until("no handle is out", || router.status().nodes.iter().all(|node| node.in_flight == 0)).await;
    for node in cluster.nodes() {
        support::until_quiet(node).await;
    }
}
