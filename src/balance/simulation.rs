//! Every strategy against replicas that misbehave, on virtual time.

use super::LoadBalancing;
use super::tests::candidates;
use crate::gauge::Counted;
use crate::traffic::Failure;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::{Instant, advance};

const MS: Duration = Duration::from_millis(1);

/// What a replica does with a read. Each of them takes long for one in two thousand, as servers do.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Replica {
    Sound,
    /// Takes 20 ms more for a quarter of its reads.
    SlowAtTimes,
    /// Fails that share of its reads, at once.
    Failing(f64),
}

impl Replica {
    /// How long it takes for a read, or `None` if it fails it.
    fn serve(self, rng: &mut StdRng) -> Option<Duration> {
        let hiccup = rng.random_bool(0.0005);
        let took = rng.random_range(if hiccup { 20..=100 } else { 1..=3 }) * MS;
        match self {
            Self::Sound => Some(took),
            Self::SlowAtTimes => Some(if rng.random_bool(0.25) { took + 20 * MS } else { took }),
            Self::Failing(share) => (!rng.random_bool(share)).then_some(took),
        }
    }
}

/// What came of the reads.
#[derive(Default)]
struct Outcome {
    /// How many each replica got.
    reads: [usize; 3],
    latencies: Vec<Duration>,
}

impl Outcome {
    /// What the first replica got, in relation to the mean of the others.
    fn share_of_the_first(&self) -> f64 {
        let [first, second, third] = self.reads;
        2.0 * first as f64 / (second + third) as f64
    }

    fn p99(mut self) -> Duration {
        self.latencies.sort_unstable();
        self.latencies[self.latencies.len() * 99 / 100]
    }
}

/// Reads that arrive evenly, whatever becomes of those before, at three replicas of which the last two are sound. The first one
/// behaves in turn as given, each for so many seconds.
async fn simulate(how: LoadBalancing, per_second: u64, first: &[(Replica, u64)]) -> Vec<Outcome> {
    let mut rng = StdRng::seed_from_u64(17);
    let strategy = how.into_strategy(&mut rng);
    let (candidates, nodes) = candidates(&[1, 1, 1]);
    let mut under_way = BTreeMap::<Instant, Vec<Read<'_>>>::new();
    let (mut ms, mut asked) = (0, 0);
    let mut outcomes = Vec::new();
    for (first, seconds) in first {
        let replicas = [*first, Replica::Sound, Replica::Sound];
        let mut outcome = Outcome::default();
        for _ in 0..seconds * 1000 {
            advance(MS).await;
            let now = Instant::now();
            while let Some(ended) = under_way.first_entry().filter(|next| *next.key() <= now) {
                for Read { node, took, _in_flight } in ended.remove() {
                    nodes[node].answered(took, now);
                    outcome.latencies.push(took);
                }
            }
            ms += 1;
            while asked < ms * per_second / 1000 {
                asked += 1;
                let node = candidates.pick(&*strategy, &mut rng);
                outcome.reads[node] += 1;
                match replicas[node].serve(&mut rng) {
                    Some(took) => {
                        let read = Read { node, took, _in_flight: nodes[node].in_flight().count() };
                        under_way.entry(now + took).or_default().push(read);
                    }
                    None => nodes[node].failed(Failure::Lost),
                }
            }
        }
        outcomes.push(outcome);
    }
    outcomes
}

struct Read<'a> {
    node: usize,
    took: Duration,
    _in_flight: Counted<'a>,
}

/// Reads a second, from so few that they find the replicas idle to so many that they never do, and for how many seconds.
const RATES: [(u64, u64); 4] = [(20, 120), (200, 60), (2_000, 20), (20_000, 4)];

#[tokio::test(start_paused = true)]
async fn peak_ewma_keeps_off_a_replica_that_is_slow_at_times() {
    for (per_second, seconds) in RATES {
        let p99 = async |how| {
            let mut outcomes = simulate(how, per_second, &[(Replica::SlowAtTimes, seconds)]).await;
            outcomes.remove(0).p99()
        };
        let (turns, peak) = (p99(LoadBalancing::RoundRobin).await, p99(LoadBalancing::PeakEwma).await);
        assert!(peak * 3 <= turns, "{per_second} reads a second: {peak:?} against {turns:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_fails_fast_gets_a_smaller_share() {
    for how in [LoadBalancing::PeakEwma, LoadBalancing::LeastConnections] {
        for (per_second, seconds) in RATES {
            for failing in [0.5, 1.0] {
                let outcomes =
                    simulate(how.clone(), per_second, &[(Replica::Failing(failing), seconds)]).await;
                let share = outcomes[0].share_of_the_first();
                assert!(share < 0.05, "{how:?}, {failing} of {per_second} reads a second failing: {share}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_fails_no_more_is_taken_back() {
    for how in [LoadBalancing::PeakEwma, LoadBalancing::LeastConnections] {
        for per_second in [20, 200, 1_000] {
            let phases = [(Replica::Failing(1.0), 20), (Replica::Sound, 120), (Replica::Sound, 60)];
            let share = simulate(how.clone(), per_second, &phases).await[2].share_of_the_first();
            assert!(share > 0.6, "{how:?}, {per_second} reads a second: {share}");
        }
    }
}
