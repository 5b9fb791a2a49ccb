//! What choosing a replica costs: `cargo bench --bench pick`.

mod spread;

use arc_swap::ArcSwap;
use diesel_replicas::rand::{SeedableRng, rngs::SmallRng};
use diesel_replicas::{Candidate, Candidates, LoadBalancing};
use spread::Spread;
use std::hint::black_box;
use std::num::NonZeroU32;
use std::time::Instant;

const ROUNDS: usize = 11;
const PICKS: u32 = 400_000;

fn main() {
    // `cargo test --benches` runs this as well; there is nothing to test.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    println!(
        "pick from a topology of n candidates, with loading it, ns: median [min..max] of {ROUNDS} rounds"
    );
    for (name, how) in [
        ("round robin", LoadBalancing::RoundRobin),
        ("random", LoadBalancing::Random),
        ("least connections", LoadBalancing::LeastConnections),
        ("weighted", LoadBalancing::Weighted),
    ] {
        for nodes in [2, 8] {
            let weight = NonZeroU32::MIN;
            let all = (0..nodes).map(|node| Candidate::new(format!("replica-{node}"), weight));
            let candidates = ArcSwap::from_pointee(Candidates::new(all).expect("there are some"));
            let strategy = how.clone().into_strategy(&mut SmallRng::seed_from_u64(7));
            let rounds = (0..ROUNDS).map(|_| {
                let started = Instant::now();
                for _ in 0..PICKS {
                    let candidates = candidates.load();
                    black_box(strategy.pick(&candidates, &mut diesel_replicas::rand::rng()));
                }
                started.elapsed().as_nanos() as f64 / f64::from(PICKS)
            });
            println!("  {name:<18} {nodes} nodes  {}", Spread::of(rounds.collect()));
        }
    }
}
