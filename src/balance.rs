//! Which of several eligible replicas serves a read.
//!
//! Measuring is apart from choosing: the set of candidates is made once, when the topology changes, and holds live gauges
//! of the work on each node; a [`Strategy`] only chooses from it, on every read, without allocating or locking. What holds
//! for all strategies alike, that a replica just back is brought in slowly, is done around them by the [`Roster`].

mod chance;
mod least_connections;
mod pairs;
mod peak_ewma;
mod random;
mod round_robin;
#[cfg(test)]
mod simulation;
mod slow_start;
mod weighted;

pub(crate) use chance::Chance;
pub(crate) use slow_start::Roster;

use crate::traffic::Traffic;
use least_connections::LeastConnections;
use peak_ewma::PeakEwma;
use rand::Rng;
use random::Random;
use round_robin::RoundRobin;
use std::{fmt, num::NonZeroU32, ops::Deref, str::FromStr, sync::Arc, time::Duration};
use tokio::time::Instant;
use weighted::Weighted;

/// Chooses the replica for each read.
///
/// One value serves one router for as long as it lives; the candidates change under it as replicas come and go. A replica that
/// is just back is left out of some of the sets, of ever fewer as its slow start goes on.
///
/// # Example: prefer nodes of the own zone
///
/// ```
/// use diesel_replicas::{Candidates, Strategy};
/// use rand::{Rng, RngExt};
///
/// #[derive(Debug)]
/// struct OwnZone {
///     prefix: String,
/// }
///
/// impl Strategy for OwnZone {
///     fn pick(&self, candidates: &Candidates, rng: &mut dyn Rng) -> usize {
///         let own = |i: &usize| candidates[*i].name().starts_with(&self.prefix);
///         let count = (0..candidates.len()).filter(own).count();
///         if count == 0 {
///             return rng.random_range(0..candidates.len());
///         }
///         (0..candidates.len()).filter(own).nth(rng.random_range(0..count)).unwrap_or(0)
///     }
/// }
/// ```
pub trait Strategy: fmt::Debug + Send + Sync {
    /// The index of the candidate to use. There is always at least one; an index past the end wraps around.
    ///
    /// Called on every read from many threads at once: it should neither block nor allocate. Take randomness from `rng`,
    /// so that tests can seed it.
    fn pick(&self, candidates: &Candidates, rng: &mut dyn Rng) -> usize;
}

/// The replicas that may serve a read, never none: a slice of [`Candidate`]s.
#[derive(Debug, Clone)]
pub struct Candidates {
    all: Box<[Candidate]>,
    /// For each candidate the sum of the weights up to and including its own; empty if all weigh the same.
    cumulative: Box<[u64]>,
}

impl Candidates {
    /// The set of these candidates, or `None` if there are none: for tests of a strategy of one's own.
    pub fn new(candidates: impl IntoIterator<Item = Candidate>) -> Option<Self> {
        let mut all: Box<[_]> = candidates.into_iter().collect();
        let first = all.first()?.weight;
        let mut total = 0;
        let sums = all.iter().map(|candidate| {
            total += u64::from(candidate.weight());
            total
        });
        let cumulative: Box<[_]> = sums.collect();
        let mean = total as f64 / all.len() as f64;
        for candidate in &mut all {
            candidate.per_read = mean / f64::from(candidate.weight());
        }
        let even = all.iter().all(|candidate| candidate.weight == first);
        Some(Self { all, cumulative: if even { Box::default() } else { cumulative } })
    }

    /// What `strategy` chooses, as an index that is in range.
    pub(crate) fn pick(&self, strategy: &dyn Strategy, rng: &mut dyn Rng) -> usize {
        let index = strategy.pick(self, rng);
        if index < self.all.len() { index } else { index % self.all.len() }
    }

    /// The candidate that owns a point on the line from 0 to 2^64, of which each owns a share as large as its weight.
    fn at(&self, point: u64) -> usize {
        let Some(total) = self.cumulative.last() else { return scale(point, self.all.len() as u64) as usize };
        let offset = scale(point, *total);
        self.cumulative.partition_point(|sum| *sum <= offset)
    }

    /// One candidate as at that point, and any of the others, if there are, as its lower half says.
    fn two(&self, point: u64) -> (usize, usize) {
        let (first, count) = (self.at(point), self.all.len());
        let second = first + 1 + scale(point << 32, count as u64 - 1) as usize;
        (first, if second < count { second } else { second - count })
    }
}

/// 2^64 divided by the golden ratio, made odd: a count in such steps visits every 64-bit value once before it repeats, and any part of
/// it is spread evenly.
pub(crate) const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// From the line from 0 to 2^64 to one of that length.
fn scale(point: u64, length: u64) -> u64 {
    ((u128::from(point) * u128::from(length)) >> 64) as u64
}

impl Deref for Candidates {
    type Target = [Candidate];

    fn deref(&self) -> &[Candidate] {
        &self.all
    }
}

/// A replica that may serve a read.
#[derive(Debug, Clone)]
pub struct Candidate {
    name: Arc<str>,
    weight: NonZeroU32,
    /// What a read in flight counts for among the candidates of its set: the lower the weight, the more.
    per_read: f64,
    traffic: Arc<Traffic>,
}

impl Candidate {
    /// A replica with nothing in flight: for tests of a strategy of one's own.
    pub fn new(name: impl Into<Arc<str>>, weight: NonZeroU32) -> Self {
        Self::counting(name.into(), weight, Arc::default())
    }

    /// The replica after a call that took so long and has just ended: for tests of a strategy of one's own.
    #[must_use]
    pub fn with_latency(self, took: Duration) -> Self {
        self.traffic.answered(took, Instant::now());
        self
    }

    /// The traffic is that of the node, seen live.
    pub(crate) fn counting(name: Arc<str>, weight: NonZeroU32, traffic: Arc<Traffic>) -> Self {
        Self { name, weight, per_read: 1.0, traffic }
    }

    /// The node's configured name, or its `host:port`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The node's weight, at least 1: nodes of weight 0 are never candidates.
    pub fn weight(&self) -> u32 {
        self.weight.get()
    }

    /// How many reads the node is serving at this moment.
    pub fn in_flight(&self) -> usize {
        self.traffic.in_flight().value()
    }

    /// How much the node has to do: the reads in flight, those that wait for one of its connections, and one more for each that
    /// the node failed lately, which fades within half a minute or so. Without the last a node that fails at once would look as
    /// if it had nothing to do.
    pub fn work(&self) -> usize {
        self.traffic.work()
    }

    /// The peak of how long calls on the node took, which fades: to about a third after 10 s, or after 20 calls that took less.
    /// A call that the node failed counts as one of a second. `None` before the first call has ended.
    ///
    /// Reads the clock, which takes longer than all the rest of a pick.
    pub fn latency(&self) -> Option<Duration> {
        let latency = self.traffic.latency();
        (!latency.is_nothing()).then(|| Duration::from_nanos(latency.value(Instant::now()) as u64))
    }
}

/// How reads are spread over the replicas.
///
/// Its text form, as in the environment, is `round_robin`, `random`, `least_connections`, `weighted` or `peak_ewma`.
///
/// All of them see the work of this router alone. A replica that is just back gets its share little by little with each of them.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum LoadBalancing {
    /// One after the other, whatever their weights, beginning anywhere. The default: even and cheap when replicas are alike.
    #[default]
    RoundRobin,
    /// Any of them with equal chance, whatever their weights. Spreads evenly only over many reads, but many routers never
    /// fall into step.
    Random,
    /// The one with the fewest reads in flight for its weight, in turn where several are equal; of more than four replicas the better
    /// one of any two. Adapts to slow nodes and uneven queries. What waits for a connection counts as in flight, and so, for some
    /// seconds, does what the node failed.
    LeastConnections,
    /// In proportion to the weights, interleaved smoothly: a node's turns are spread out and never bunched.
    Weighted,
    /// Of any two the one that is likely to answer first: by the peak of what calls took lately, times the reads in flight for
    /// the weight. Keeps off a node that is slow or fails, be it only now and then, once its calls take twice as long as elsewhere;
    /// as long as the nodes are alike, it spreads by weight. For reads of about the same cost: one that takes very much longer
    /// makes its node look slow for some seconds.
    PeakEwma,
    /// A strategy of one's own.
    Custom(Arc<dyn Strategy>),
}

impl LoadBalancing {
    const BUILT_IN: [(&str, Self); 5] = [
        ("round_robin", Self::RoundRobin),
        ("random", Self::Random),
        ("least_connections", Self::LeastConnections),
        ("weighted", Self::Weighted),
        ("peak_ewma", Self::PeakEwma),
    ];

    /// The names of the built-in strategies, for people.
    pub(crate) fn names() -> String {
        Self::BUILT_IN.map(|(name, _)| name).join(", ")
    }

    /// The strategy for one router; one of one's own may hand on to it. It begins at random, so that routers started together
    /// do not all hit the same node.
    pub fn into_strategy(self, rng: &mut dyn Rng) -> Arc<dyn Strategy> {
        match self {
            Self::RoundRobin => Arc::new(RoundRobin::starting_at(rng.next_u64())),
            Self::Random => Arc::new(Random::starting_at(rng.next_u64())),
            Self::LeastConnections => Arc::new(LeastConnections::starting_at(rng.next_u64())),
            Self::Weighted => Arc::new(Weighted::starting_at(rng.next_u64())),
            Self::PeakEwma => Arc::new(PeakEwma::starting_at(rng.next_u64())),
            Self::Custom(strategy) => strategy,
        }
    }
}

impl FromStr for LoadBalancing {
    type Err = ParseLoadBalancingError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let known = Self::BUILT_IN.into_iter().find(|(known, _)| *known == name);
        known.map(|(_, strategy)| strategy).ok_or(ParseLoadBalancingError)
    }
}

/// The text names none of the built-in strategies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ParseLoadBalancingError;

impl fmt::Display for ParseLoadBalancingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown load balancing: use one of {}", LoadBalancing::names())
    }
}

impl std::error::Error for ParseLoadBalancingError {}

#[cfg(test)]
mod tests {
    use super::{Strategy, *};
    use proptest::{collection::vec, prelude::*};
    use rand::{SeedableRng, rngs::StdRng};

    /// Candidates with these weights, and the traffic behind them.
    pub(super) fn candidates(weights: &[u32]) -> (Candidates, Vec<Arc<Traffic>>) {
        let nodes: Vec<_> = weights.iter().map(|_| Arc::<Traffic>::default()).collect();
        let all = weights.iter().zip(&nodes).enumerate().map(|(i, (weight, traffic))| {
            let weight = NonZeroU32::new(*weight).expect("tests give weights over zero");
            Candidate::counting(format!("replica-{i}").into(), weight, Arc::clone(traffic))
        });
        (Candidates::new(all).expect("tests give at least one"), nodes)
    }

    /// How often each candidate is picked.
    pub(super) fn tally(
        strategy: &dyn Strategy,
        candidates: &Candidates,
        picks: usize,
        seed: u64,
    ) -> Vec<usize> {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut counts = vec![0; candidates.len()];
        for _ in 0..picks {
            counts[candidates.pick(strategy, &mut rng)] += 1;
        }
        counts
    }

    #[derive(Debug)]
    struct Always(usize);

    impl Strategy for Always {
        fn pick(&self, _: &Candidates, _: &mut dyn Rng) -> usize {
            self.0
        }
    }

    proptest! {
        #[test]
        fn every_strategy_stays_in_range(weights in vec(1..=u32::MAX, 1..40), seed: u64, custom: usize) {
            let (candidates, _) = candidates(&weights);
            let mut rng = StdRng::seed_from_u64(seed);
            let custom = LoadBalancing::Custom(Arc::new(Always(custom)));
            for how in LoadBalancing::BUILT_IN.map(|(_, how)| how).into_iter().chain([custom]) {
                let strategy = how.into_strategy(&mut rng);
                for _ in 0..100 {
                    prop_assert!(candidates.pick(&*strategy, &mut rng) < candidates.len());
                }
            }
        }

        #[test]
        fn points_map_to_shares_as_large_as_the_weights(weights in vec(1..=u32::MAX, 1..40), point: u64) {
            let (candidates, _) = candidates(&weights);
            let sum = |upto: usize| weights[..upto].iter().map(|w| u128::from(*w)).sum::<u128>();
            let i = candidates.at(point);
            let offset = (u128::from(point) * sum(weights.len())) >> 64;
            prop_assert!(sum(i) <= offset && offset < sum(i + 1));
        }

        #[test]
        fn two_are_never_the_same(weights in vec(1..=u32::MAX, 2..40), point: u64) {
            let (all, _) = candidates(&weights);
            let (first, second) = all.two(point);
            prop_assert_eq!(first, all.at(point));
            prop_assert!(second != first && second < weights.len());
        }
    }

    #[test]
    fn the_second_of_two_is_any_of_the_others() {
        let (one, _) = candidates(&[7]);
        assert_eq!(one.two(u64::MAX), (0, 0));
        let (four, _) = candidates(&[1, 1, 1, 1]);
        let mut seconds = [0; 4];
        for i in 0..3000 {
            seconds[four.two((2 << 62) | (i * u64::from(u32::MAX) / 3000)).1] += 1;
        }
        assert!(seconds[2] == 0 && seconds.iter().all(|n| *n == 0 || (990..1010).contains(n)), "{seconds:?}");
    }

    #[test]
    fn an_index_past_the_end_wraps_around() {
        let (three, _) = candidates(&[1, 1, 1]);
        assert_eq!(three.pick(&Always(2), &mut StdRng::seed_from_u64(1)), 2);
        assert_eq!(three.pick(&Always(4), &mut StdRng::seed_from_u64(1)), 1);
    }

    #[test]
    fn routers_start_anywhere() {
        let (four, _) = candidates(&[1, 1, 1, 1]);
        for name in ["round_robin", "weighted", "least_connections"] {
            let mut first_picks = [0; 4];
            for seed in 0..400 {
                let mut rng = StdRng::seed_from_u64(seed);
                let how: LoadBalancing = name.parse().expect("built in");
                first_picks[four.pick(&*how.into_strategy(&mut rng), &mut rng)] += 1;
            }
            assert!(first_picks.iter().all(|n| (60..140).contains(n)), "{name}: {first_picks:?}");
        }
    }

    #[test]
    fn names_are_parsed_and_unknown_ones_answered_with_the_choices() {
        for (name, how) in LoadBalancing::BUILT_IN {
            let parsed: LoadBalancing = name.parse().expect("built in");
            assert_eq!(format!("{parsed:?}"), format!("{how:?}"));
        }
        let error = "least_conn".parse::<LoadBalancing>().expect_err("not a name");
        assert_eq!(
            error.to_string(),
            "unknown load balancing: use one of round_robin, random, least_connections, weighted, peak_ewma"
        );
    }
}
