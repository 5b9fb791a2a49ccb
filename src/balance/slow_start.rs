//! Slow start: a replica just back gets a growing share of the reads, whatever the strategy.
//!
//! Its caches are cold and its connections yet to be opened. Each read first draws who of those that are warming up may serve it,
//! and then asks the strategy once, for one of a set that was made beforehand. A pick that was thrown away and made again would
//! cost strategies that take turns a turn, always that of the same neighbour.

use super::{Candidate, Candidates, Strategy};
use rand::{Rng, RngExt};
use std::time::Duration;
use tokio::time::Instant;

/// Where the ramp begins: a replica just back is among the candidates of every tenth read.
const FLOOR: f64 = 0.1;

/// The replicas that serve, and since when.
///
/// Made anew with every topology, so that warming up costs a pick nothing once it is over.
#[derive(Debug, Clone)]
pub(crate) struct Roster {
    /// First those that need no warming up, then always one more, in the order of [`WarmUp::since`]: the last one has all.
    /// Empty if nobody serves.
    sets: Box<[Set]>,
    warm_up: Option<WarmUp>,
}

#[derive(Debug, Clone)]
struct Set {
    candidates: Candidates,
    /// Where they stand among all.
    indices: Box<[usize]>,
}

#[derive(Debug, Clone)]
struct WarmUp {
    ramp: Duration,
    /// Since when the one serves that has served for longest.
    first: Instant,
    /// Since when each of those serves that are warming up, the one that has for longest first.
    since: Box<[Instant]>,
}

impl Roster {
    /// Replicas, since when each of them serves, and how long one takes to warm up. Where none is warm, those that have served
    /// for longest are what the others are brought up to.
    pub(crate) fn new(items: Vec<(Candidate, Instant)>, ramp: Duration, now: Instant) -> Self {
        let since = |i: &usize| items[*i].1;
        let mut by_age: Vec<_> = (0..items.len()).collect();
        by_age.sort_by_key(since);
        let Some(first) = by_age.first().map(since) else {
            return Self { sets: Box::default(), warm_up: None };
        };
        let warm = by_age.partition_point(|i| since(i) == first || warmth(since(i), ramp, now) >= 1.0);
        let set = |size| {
            let mut indices: Box<[_]> = by_age[..size].into();
            indices.sort_unstable();
            let candidates = Candidates::new(indices.iter().map(|i| items[*i].0.clone()))?;
            Some(Set { candidates, indices })
        };
        let sets = (warm..=items.len()).filter_map(set).collect();
        let since: Box<[_]> = by_age[warm..].iter().map(since).collect();
        Self { sets, warm_up: (!since.is_empty()).then_some(WarmUp { ramp, first, since }) }
    }

    /// What `strategy` chooses, as an index into what the roster was made of; `None` if that was nothing.
    pub(crate) fn pick(&self, strategy: &dyn Strategy, rng: &mut dyn Rng) -> Option<usize> {
        self.pick_at(Instant::now, strategy, rng)
    }

    /// Asks for the time only if somebody is warming up.
    fn pick_at(
        &self,
        now: impl FnOnce() -> Instant,
        strategy: &dyn Strategy,
        rng: &mut dyn Rng,
    ) -> Option<usize> {
        let admitted = self.warm_up.as_ref().map_or(0, |warm_up| warm_up.admitted(now(), rng));
        let Set { candidates, indices } = self.sets.get(admitted)?;
        Some(indices[candidates.pick(strategy, rng)])
    }
}

impl WarmUp {
    /// How many of those that are warming up may serve a read: each with the chance that it is as warm as the first.
    fn admitted(&self, now: Instant, rng: &mut dyn Rng) -> usize {
        let warmth = |since| warmth(since, self.ramp, now);
        let drawn = rng.random::<f64>() * warmth(self.first);
        self.since.partition_point(|since| warmth(*since) > drawn)
    }
}

/// From the floor up to 1.
fn warmth(since: Instant, ramp: Duration, now: Instant) -> f64 {
    let served = now.saturating_duration_since(since);
    if served >= ramp { 1.0 } else { FLOOR + (1.0 - FLOOR) * served.div_duration_f64(ramp) }
}

#[cfg(test)]
mod tests {
    use super::super::tests::candidates;
    use super::{Strategy, *};
    use crate::balance::{LoadBalancing, Traffic};
    use proptest::{collection::vec, prelude::*};
    use rand::{SeedableRng, rngs::StdRng};
    use std::collections::VecDeque;
    use std::sync::Arc;

    const RAMP: Duration = Duration::from_secs(10);

    /// Replicas of these weights that have served for so many milliseconds, and the traffic behind them.
    fn roster(nodes: &[(u32, u64)], now: Instant) -> (Roster, Vec<Arc<Traffic>>) {
        let weights: Vec<_> = nodes.iter().map(|(weight, _)| *weight).collect();
        let (candidates, traffic) = candidates(&weights);
        let since = |ms| now.checked_sub(Duration::from_millis(ms)).expect("the clock has run for longer");
        let items = candidates.iter().cloned().zip(nodes.iter().map(|(_, ms)| since(*ms)));
        (Roster::new(items.collect(), RAMP, now), traffic)
    }

    /// The share of each node in ten thousand picks, while the last so many reads are in flight.
    fn shares(
        how: &LoadBalancing,
        (roster, traffic): &(Roster, Vec<Arc<Traffic>>),
        now: Instant,
        in_flight: usize,
    ) -> Vec<f64> {
        const PICKS: usize = 10_000;
        let mut rng = StdRng::seed_from_u64(11);
        let strategy = how.clone().into_strategy(&mut rng);
        let (mut counts, mut reads) = (vec![0_usize; traffic.len()], VecDeque::new());
        for _ in 0..PICKS {
            let node = roster.pick_at(|| now, &*strategy, &mut rng).expect("somebody serves");
            counts[node] += 1;
            reads.push_back(traffic[node].in_flight().count());
            if reads.len() > in_flight {
                reads.pop_front();
            }
        }
        counts.into_iter().map(|count| count as f64 / PICKS as f64).collect()
    }

    /// Hands on to another strategy, as one of one's own may.
    #[derive(Debug)]
    struct Custom(Arc<dyn Strategy>);

    impl Strategy for Custom {
        fn pick(&self, candidates: &Candidates, rng: &mut dyn Rng) -> usize {
            self.0.pick(candidates, rng)
        }
    }

    fn every_strategy() -> impl Iterator<Item = (&'static str, LoadBalancing)> {
        let turns = LoadBalancing::RoundRobin.into_strategy(&mut StdRng::seed_from_u64(3));
        let custom = ("custom", LoadBalancing::Custom(Arc::new(Custom(turns))));
        LoadBalancing::BUILT_IN.into_iter().chain([custom])
    }

    #[test]
    fn the_share_grows_up_to_what_it_would_be_without() {
        let now = Instant::now();
        for (name, how) in every_strategy() {
            for (weights, in_flight) in [([1, 1, 1], 0), ([1, 1, 1], 12), ([1, 2, 3], 0), ([1, 2, 3], 24)] {
                let share = |ms: u64| {
                    let nodes = [(weights[0], 60_000), (weights[1], ms), (weights[2], 60_000)];
                    shares(&how, &roster(&nodes, now), now, in_flight)
                };
                let over_time: Vec<_> = (0..=10).step_by(2).map(|second| share(second * 1000)[1]).collect();
                let case = format!("{name} {weights:?} with {in_flight} in flight: {over_time:?}");
                let full = share(60_000)[1];
                assert!(over_time[0] < 0.4 * full, "{case}");
                assert!(over_time.windows(2).all(|pair| pair[1] > pair[0] - 0.02), "{case}");
                assert!((over_time[5] - full).abs() < 0.02, "{case}");
            }
        }
    }

    /// What a replica that is warming up does not get is shared by the others as ever.
    #[test]
    fn the_others_share_evenly() {
        let now = Instant::now();
        for (name, how) in every_strategy() {
            let shares = shares(&how, &roster(&[(1, 60_000), (1, 3_000), (1, 60_000)], now), now, 0);
            assert!((shares[0] - shares[2]).abs() < 0.03, "{name}: {shares:?}");
        }
    }

    #[test]
    fn the_chance_is_linear_in_time() {
        let now = Instant::now();
        for (first_ms, served_ms, chance) in [
            (10_000, 0, 0.1),
            (10_000, 1_000, 0.19),
            (10_000, 5_000, 0.55),
            (10_000, 9_000, 0.91),
            (10_000, 10_000, 1.0),
            // In relation to the one that serves for longest, even if that is warming up itself.
            (5_000, 0, 0.1 / 0.55),
        ] {
            let (roster, _) = roster(&[(1, first_ms), (1, served_ms)], now);
            let mut rng = StdRng::seed_from_u64(5);
            let admitted = |_: &u32| roster.warm_up.as_ref().is_none_or(|it| it.admitted(now, &mut rng) == 1);
            let share = (0..20_000).filter(admitted).count() as f64 / 20_000.0;
            assert!((share - chance).abs() < 0.02, "{served_ms} ms: {share}");
        }
    }

    /// All back at once: there is nobody to bring them up to.
    #[test]
    fn replicas_that_come_back_together_share_evenly() {
        let now = Instant::now();
        for served_ms in [0, 4_000] {
            let (all, traffic) = roster(&[(1, served_ms); 3], now);
            assert!(all.warm_up.is_none());
            let shares = shares(&LoadBalancing::Random, &(all, traffic), now, 0);
            assert!(shares.iter().all(|share| (share - 1.0 / 3.0).abs() < 0.02), "{shares:?}");
        }
    }

    #[test]
    fn the_clock_is_left_alone_when_all_are_warm() {
        let now = Instant::now();
        let (roster, _) = roster(&[(1, 10_000), (1, 20_000)], now);
        let strategy = LoadBalancing::default().into_strategy(&mut StdRng::seed_from_u64(1));
        let untimed = || unreachable!("nobody is warming up");
        assert!(roster.pick_at(untimed, &*strategy, &mut StdRng::seed_from_u64(1)).is_some());
    }

    #[test]
    fn nobody_is_picked_from_nothing() {
        let roster = Roster::new(Vec::new(), RAMP, Instant::now());
        let strategy = LoadBalancing::default().into_strategy(&mut StdRng::seed_from_u64(1));
        assert_eq!(roster.pick(&*strategy, &mut StdRng::seed_from_u64(1)), None);
    }

    proptest! {
        /// Whoever serves, and whenever the roster was made: each is picked sooner or later, and the one that has served for longer
        /// no less often.
        #[test]
        fn seniority_is_never_held_against_a_replica(
            served in vec(0..15_000u64, 1..8),
            later in 0..20_000u64,
            seed: u64,
        ) {
            let made = Instant::now();
            let nodes: Vec<_> = served.iter().map(|ms| (1, *ms)).collect();
            let (roster, _) = roster(&nodes, made);
            let now = made + Duration::from_millis(later);
            let mut rng = StdRng::seed_from_u64(seed);
            let strategy = LoadBalancing::Random.into_strategy(&mut rng);
            let mut counts = vec![0_i32; served.len()];
            for _ in 0..4000 {
                counts[roster.pick_at(|| now, &*strategy, &mut rng).expect("somebody serves")] += 1;
            }
            prop_assert!(counts.iter().all(|count| *count > 0), "{:?}", counts);
            for (a, b) in (0..served.len()).flat_map(|a| (0..served.len()).map(move |b| (a, b))) {
                // Five standard deviations of the difference.
                let tolerance = 5.0 * f64::from(counts[a] + counts[b]).sqrt();
                prop_assert!(served[a] < served[b] || f64::from(counts[a]) >= f64::from(counts[b]) - tolerance);
            }
        }
    }
}
