//! Which of several eligible replicas serves a read.
//!
//! Measuring is apart from choosing: the set of candidates is made once, when the topology changes, and holds a live gauge
//! of the work on each node; a [`Strategy`] only chooses from it, on every read, without allocating or locking.

mod least_connections;
mod random;
mod round_robin;
mod weighted;

use crate::traffic::Traffic;
use least_connections::LeastConnections;
use rand::Rng;
use random::Random;
use round_robin::RoundRobin;
use std::{fmt, num::NonZeroU32, ops::Deref, str::FromStr, sync::Arc};
use weighted::Weighted;

/// Chooses the replica for each read.
///
/// One value serves one router for as long as it lives; the candidates change under it as replicas come and go.
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
    /// For each candidate the sum of the weights up to and including its own.
    cumulative: Box<[u64]>,
}

impl Candidates {
    /// The set of these candidates, or `None` if there are none: for tests of a strategy of one's own.
    pub fn new(candidates: impl IntoIterator<Item = Candidate>) -> Option<Self> {
        let all: Box<[_]> = candidates.into_iter().collect();
        let cumulative: Box<[_]> = all
            .iter()
            .scan(0, |sum, candidate: &Candidate| {
                *sum += u64::from(candidate.weight());
                Some(*sum)
            })
            .collect();
        (!all.is_empty()).then_some(Self { all, cumulative })
    }

    /// What `strategy` chooses, as an index that is in range.
    pub(crate) fn pick(&self, strategy: &dyn Strategy, rng: &mut dyn Rng) -> usize {
        let index = strategy.pick(self, rng);
        if index < self.all.len() { index } else { index % self.all.len() }
    }

    /// The candidate that owns a point on the line from 0 to 2^64, of which each owns a share as large as its weight.
    fn at(&self, point: u64) -> usize {
        let total = self.cumulative.last().copied().map_or(0, u128::from);
        let offset = (u128::from(point) * total) >> 64;
        self.cumulative.partition_point(|sum| u128::from(*sum) <= offset)
    }
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
    traffic: Arc<Traffic>,
}

impl Candidate {
    /// A replica with nothing in flight: for tests of a strategy of one's own.
    pub fn new(name: impl Into<Arc<str>>, weight: NonZeroU32) -> Self {
        Self::counting(name.into(), weight, Arc::default())
    }

    /// The traffic is that of the node, seen live.
    pub(crate) fn counting(name: Arc<str>, weight: NonZeroU32, traffic: Arc<Traffic>) -> Self {
        Self { name, weight, traffic }
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
}

/// How reads are spread over the replicas.
///
/// Its text form, as in the environment, is `round_robin`, `random`, `least_connections` or `weighted`.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum LoadBalancing {
    /// One after the other, whatever their weights, beginning anywhere. The default: even and cheap when replicas are alike.
    #[default]
    RoundRobin,
    /// Any of them with equal chance, whatever their weights. Spreads evenly only over many reads, but many routers never
    /// fall into step.
    Random,
    /// The one with the fewest reads in flight for its weight, in turn where several are equal. Adapts to slow nodes and
    /// uneven queries; sees only the work of this router.
    LeastConnections,
    /// In proportion to the weights, interleaved smoothly: a node's turns are spread out and never bunched.
    Weighted,
    /// A strategy of one's own.
    Custom(Arc<dyn Strategy>),
}

impl LoadBalancing {
    const BUILT_IN: [(&str, Self); 4] = [
        ("round_robin", Self::RoundRobin),
        ("random", Self::Random),
        ("least_connections", Self::LeastConnections),
        ("weighted", Self::Weighted),
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
            Self::Random => Arc::new(Random),
            Self::LeastConnections => Arc::new(LeastConnections::starting_at(rng.next_u64())),
            Self::Weighted => Arc::new(Weighted::starting_at(rng.next_u64())),
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
    use crate::gauge::Gauge;
    use proptest::{collection::vec, prelude::*};
    use rand::{SeedableRng, rngs::StdRng};

    /// Candidates with these weights, and the gauges behind them.
    pub(super) fn candidates(weights: &[u32]) -> (Candidates, Vec<Gauge>) {
        let nodes: Vec<_> = weights.iter().map(|_| Arc::<Traffic>::default()).collect();
        let gauges = nodes.iter().map(|node| node.in_flight().clone()).collect();
        let all = weights.iter().zip(nodes).enumerate().map(|(i, (weight, traffic))| {
            let weight = NonZeroU32::new(*weight).expect("tests give weights over zero");
            Candidate::counting(format!("replica-{i}").into(), weight, traffic)
        });
        (Candidates::new(all).expect("tests give at least one"), gauges)
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
            "unknown load balancing: use one of round_robin, random, least_connections, weighted"
        );
    }
}
