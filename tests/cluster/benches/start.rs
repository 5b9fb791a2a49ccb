//! How long a primary and two replicas take until both stream, from the template: in memory and on disk.
//!
//! `cargo bench -p pg-cluster`; `PG_CLUSTER_BENCH_RUNS` is the number of runs (15).

#![allow(clippy::unwrap_used)]

use std::{
    env,
    path::Path,
    time::{Duration, Instant},
};

use pg_cluster::{Backend, Cluster};

/// What a start may take at the median.
const LIMITS: [(&str, &str, Duration); 2] =
    [("memory", "/dev/shm", Duration::from_millis(500)), ("disk", "/var/tmp", Duration::from_secs(3))];

#[tokio::main]
async fn main() {
    let runs = env::var("PG_CLUSTER_BENCH_RUNS").map_or(15, |runs| runs.parse().unwrap());
    // The template is made once and is not what is measured.
    start(Path::new("/var/tmp")).await;
    for (storage, directory, limit) in LIMITS {
        let directory = Path::new(directory);
        if !directory.exists() {
            println!("start on {storage}: {} is not there", directory.display());
            continue;
        }
        let mut times = Vec::new();
        for _ in 0..runs {
            // What is left to write of the removal of the last one is not what is measured.
            rustix::fs::sync();
            times.push(start(directory).await);
        }
        times.sort_unstable();
        let (median, min, max) = (times[runs / 2], times[0], times[runs - 1]);
        let [median_ms, min_ms, max_ms] = [median, min, max].map(|time| time.as_millis());
        let verdict = if median <= limit { "within" } else { "OVER" };
        println!(
            "start on {storage}: median {median_ms} ms, {min_ms} to {max_ms} ms in {runs} runs, {verdict} {limit:?}"
        );
    }
}

async fn start(directory: &Path) -> Duration {
    let begin = Instant::now();
    let builder = Cluster::builder().backend(Backend::Local).replicas(2).directory(directory);
    let cluster = builder.start().await.unwrap();
    let time = begin.elapsed();
    cluster.shutdown().await;
    time
}
