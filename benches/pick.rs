//! What choosing a replica costs: `cargo bench --bench pick`.
//!
//! Against the least that choosing can be: loading the topology, and counting. Both are measured in every round, on as many threads;
//! what counts are the ratios within a round.

mod spread;

use arc_swap::ArcSwap;
use diesel_replicas::rand::{SeedableRng, rngs::SmallRng};
use diesel_replicas::{Candidate, Candidates, LoadBalancing};
use spread::Spread;
use std::hint::black_box;
use std::num::NonZeroU32;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const ROUNDS: usize = 101;
const PICKS: u32 = 10_000;

fn main() {
    // `cargo test --benches` runs this as well; there is nothing to test.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    println!(
        "pick from a topology of n candidates, with loading it, and in relation to loading it and counting: \
         median [min..max] of {ROUNDS} rounds"
    );
    for (name, how) in [
        ("round robin", LoadBalancing::RoundRobin),
        ("random", LoadBalancing::Random),
        ("least connections", LoadBalancing::LeastConnections),
        ("weighted", LoadBalancing::Weighted),
        ("peak EWMA", LoadBalancing::PeakEwma),
    ] {
        for threads in [1, 2] {
            for nodes in [1, 2, 10, 100, 1000] {
                let candidates = ArcSwap::from_pointee(candidates(nodes));
                let strategy = how.clone().into_strategy(&mut SmallRng::seed_from_u64(7));
                let count = AtomicU64::new(0);
                let mut rounds = [Vec::new(), Vec::new()];
                // The router looks its own up when something is drawn: a pick of these strategies never does.
                let rng = SmallRng::seed_from_u64(8);
                for _ in 0..ROUNDS {
                    let pick = ns(threads, || {
                        let candidates = candidates.load();
                        black_box(strategy.pick(&candidates, &mut rng.clone()));
                    });
                    let least = ns(threads, || {
                        black_box(candidates.load().len());
                        black_box(count.fetch_add(1, Ordering::Relaxed));
                    });
                    rounds[0].push(pick);
                    rounds[1].push(pick / least);
                }
                let [pick, ratio] = rounds.map(Spread::of);
                println!("  {name:<18} {threads} threads  {nodes:>4} nodes  {pick} ns, {ratio} times");
            }
        }
    }
}

/// Replicas of which each takes longer than the one before.
fn candidates(nodes: u32) -> Candidates {
    let candidate = |node| {
        let candidate = Candidate::new(format!("replica-{node}"), NonZeroU32::MIN);
        candidate.with_latency(Duration::from_millis(1) * (1 + 3 * node))
    };
    Candidates::new((0..nodes).map(candidate)).expect("there are some")
}

/// What it takes each of that many threads at the same time.
fn ns(threads: usize, once: impl Fn() + Sync) -> f64 {
    let start = Barrier::new(threads);
    let run = || {
        start.wait();
        let started = Instant::now();
        for _ in 0..PICKS {
            once();
        }
        started.elapsed().as_nanos() as f64 / f64::from(PICKS)
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(run)).collect();
        let of_others = others.into_iter().map(|thread| thread.join().expect("no panic"));
        let of_all = std::iter::once(run()).chain(of_others.collect::<Vec<_>>());
        of_all.sum::<f64>() / threads as f64
    })
}
