//! How many instructions a read costs the router: the same number each time, whatever else the machine does.
//!
//! ```sh
//! cargo bench --bench instructions --no-run    # tells where the program is
//! valgrind --tool=callgrind --collect-atstart=no --toggle-collect='instructions::counted*' PROGRAM read
//! ```
//!
//! counts a thousand reads, of the kinds `read`, `read_peak_ewma` and `with_read`. Without callgrind there is nothing to see.

#![allow(missing_docs, reason = "a program has no outside")]

mod healthy;

use diesel_replicas::{LoadBalancing, Router};
use futures_util::FutureExt;
use healthy::healthy;
use pg_cluster::Cluster;
use std::hint::black_box;

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

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let (read, how) = match arguments.next().as_deref() {
        Some("read") => (READ, LoadBalancing::RoundRobin),
        Some("read_peak_ewma") => (READ, LoadBalancing::PeakEwma),
        Some("with_read") => (WITH_READ, LoadBalancing::RoundRobin),
        // `cargo bench` and `cargo test --benches` run this as well; there is nothing to count.
        _ => return Ok(()),
    };
    let cluster = Cluster::builder().replicas(2).start().await?;
    let [primary, one, other] =
        [cluster.primary(), cluster.replica(0), cluster.replica(1)].map(|node| node.url());
    let router =
        Router::builder().primary(primary).replica(one).replica(other).load_balancing(how).build().await?;
    healthy(&router).await;
    // Each replica has a connection to give.
    let connections = [router.read().await?, router.read().await?, router.read().await?];
    drop(connections);
    counted(&router, read);
    println!("{READS} reads");
    Ok(())
}

#[inline(never)]
fn counted(router: &Router, read: Read) {
    for _ in 0..READS {
        read(router);
    }
}
