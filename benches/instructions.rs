//! How many instructions a read costs the router: nearly the same number each time, whatever else the machine does.
//!
//! ```sh
//! cargo bench --bench instructions --no-run    # tells where the program is
//! valgrind --tool=callgrind --collect-atstart=no --toggle-collect='instructions::counted*' PROGRAM read
//! ```
//!
//! counts a thousand reads, of the kinds `read`, `read_peak_ewma`, `with_read` and `read_in_turn`, which waits for the connection of
//! a `read` before it and counts that as well. Without callgrind there is nothing to see.

#![allow(missing_docs, reason = "a program has no outside")]

mod healthy;

use diesel_replicas::{LoadBalancing, Router};
use futures_util::FutureExt;
use futures_util::future::try_join_all;
use healthy::healthy;
use pg_cluster::Cluster;
use std::hint::black_box;
use std::pin::pin;
use std::time::Duration;

const READS: u32 = 1000;

type Error = Box<dyn std::error::Error>;

/// One way to read, once, from a router whose connections are there.
type Read = fn(&Router);

const READ: Read = |router| {
    let read = router.read().into_future().now_or_never();
    drop(black_box(read.expect("nothing to wait for").expect("a connection")));
};

const WITH_READ: Read = |router| {
    let read = router.with_read(async |conn| {
        black_box(conn.node());
        Ok::<_, diesel_replicas::Error>(())
    });
    read.now_or_never().expect("nothing to wait for").expect("a connection");
};

const READ_IN_TURN: Read = |router| {
    let before = router.read().into_future().now_or_never();
    let mut read = pin!(router.read().into_future());
    assert!(read.as_mut().now_or_never().is_none(), "there is one connection");
    drop(black_box(before.expect("nothing to wait for").expect("a connection")));
    drop(black_box(read.now_or_never().expect("its turn").expect("a connection")));
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let (read, how, replicas, connections) = match arguments.next().as_deref() {
        Some("read") => (READ, LoadBalancing::RoundRobin, 2, 2),
        Some("read_peak_ewma") => (READ, LoadBalancing::PeakEwma, 2, 2),
        Some("with_read") => (WITH_READ, LoadBalancing::RoundRobin, 2, 2),
        Some("read_in_turn") => (READ_IN_TURN, LoadBalancing::RoundRobin, 1, 1),
        // `cargo bench` and `cargo test --benches` run this as well; there is nothing to count.
        _ => return Ok(()),
    };
    let cluster = Cluster::builder().replicas(replicas).start().await?;
    let mut router = Router::builder()
        .primary(cluster.primary().url())
        .pool_size(connections)
        .load_balancing(how)
        // Of two replicas one may be healthy before the other, which then has less than its share at first, by the clock and by chance.
        .slow_start(Duration::ZERO);
    for replica in cluster.replicas() {
        router = router.replica(replica.url());
    }
    let router = router.build().await?;
    healthy(&router).await;
    // Each replica has a connection to give.
    try_join_all((0..replicas).map(|_| router.read().into_future())).await?;
    // A task gives way after a while, and waits although its turn has come; not here.
    tokio::task::unconstrained(async { counted(&router, read) }).await;
    println!("{READS} reads");
    Ok(())
}

#[inline(never)]
fn counted(router: &Router, read: Read) {
    for _ in 0..READS {
        read(router);
    }
}
