//! When a node is probed next.

use rand::{Rng, RngExt};
use std::time::Duration;
use tokio::time::Instant;

/// The times of one node's probes, one after the other.
///
/// While the node answers they begin one interval apart, jittered by a tenth, so that services that start together do not
/// probe together for ever. While it fails, the time from the end of one to the next doubles from the interval up to a
/// maximum, with [equal jitter]: half of it is certain, which spares a node that is down, and half is random, which spreads
/// those who all saw it go over the moment when it comes back.
///
/// [equal jitter]: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
#[derive(Debug, Clone)]
pub(super) struct Backoff {
    interval: Duration,
    most: Duration,
    /// Failures in a row.
    failures: u32,
    phase: Phase,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Waiting {
        due: Instant,
        /// As early as a suspicion may have it.
        earliest: Instant,
    },
    Probing {
        began: Instant,
        suspected: bool,
    },
}

impl Backoff {
    /// The first probe is due at once. `most` counts as the interval if it is less.
    pub(super) fn new(interval: Duration, most: Duration, now: Instant) -> Self {
        let phase = Phase::Waiting { due: now, earliest: now };
        Self { interval, most: most.max(interval), failures: 0, phase }
    }

    /// When to begin the next probe; `None` while one is under way.
    pub(super) fn due(&self) -> Option<Instant> {
        match self.phase {
            Phase::Waiting { due, .. } => Some(due),
            Phase::Probing { .. } => None,
        }
    }

    pub(super) fn began(&mut self, now: Instant) {
        self.phase = Phase::Probing { began: now, suspected: false };
    }

    /// The probe that began last has an answer, or none is to come.
    pub(super) fn ended(&mut self, now: Instant, ok: bool, rng: &mut impl Rng) {
        let Phase::Probing { began, suspected } = self.phase else { return };
        let earliest = began + self.spacing();
        let due = if ok {
            self.failures = 0;
            began + self.interval.mul_f64(rng.random_range(0.9..=1.1))
        } else {
            self.failures = self.failures.saturating_add(1);
            now + self.delay().mul_f64(rng.random_range(0.5..=1.0))
        };
        self.phase = Phase::Waiting { due: due.max(now), earliest };
        if suspected {
            self.suspect(now);
        }
    }

    /// Traffic gives cause to look at the node without delay, but for a small spacing between probes. Of a node that is failing
    /// that is known already. A probe under way may have been answered before the cause, so that another one follows it.
    pub(super) fn suspect(&mut self, now: Instant) {
        match &mut self.phase {
            _ if self.failures > 0 => {}
            Phase::Waiting { due, earliest } => *due = (*due).min(now.max(*earliest)),
            Phase::Probing { suspected, .. } => *suspected = true,
        }
    }

    /// From the begin of one probe to that of one on suspicion, at least.
    fn spacing(&self) -> Duration {
        (self.interval / 10).max(Duration::from_millis(10))
    }

    /// After so many failures, before jitter.
    fn delay(&self) -> Duration {
        let doublings = self.failures.saturating_sub(1).min(31);
        self.interval.saturating_mul(1 << doublings).min(self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::StdRng};

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    const INTERVAL: Duration = Duration::from_millis(250);
    const MOST: Duration = Duration::from_secs(2);

    /// Probes as soon as one is due, and says when.
    fn probe(backoff: &mut Backoff, took: Duration, ok: bool, rng: &mut StdRng) -> (Instant, Instant) {
        let began = backoff.due().expect("no probe is under way");
        backoff.began(began);
        assert_eq!(backoff.due(), None);
        let ended = began + took;
        backoff.ended(ended, ok, rng);
        (began, ended)
    }

    fn due(backoff: &Backoff) -> Instant {
        backoff.due().expect("no probe is under way")
    }

    /// How long a probe takes, and whether it is answered.
    fn probes() -> impl Strategy<Value = Vec<(Duration, bool)>> {
        prop::collection::vec(((0..700u64).prop_map(ms), any::<bool>()), 1..50)
    }

    proptest! {
        #[test]
        fn each_probe_is_due_within_its_jitter(seed: u64, interval in 1..5000u64, most in 1..20_000u64, probes in probes()) {
            let (interval, most) = (ms(interval), ms(most));
            let mut rng = StdRng::seed_from_u64(seed);
            let start = Instant::now();
            let mut backoff = Backoff::new(interval, most, start);
            prop_assert_eq!(due(&backoff), start);
            let mut failures = 0;
            for (took, ok) in probes {
                let (began, ended) = probe(&mut backoff, took, ok, &mut rng);
                let due = due(&backoff);
                if ok {
                    failures = 0;
                    prop_assert!(due >= (began + interval * 9 / 10).max(ended));
                    prop_assert!(due <= (began + interval * 11 / 10).max(ended));
                } else {
                    let delay = (interval * 2u32.pow(failures.min(20))).min(most.max(interval));
                    failures += 1;
                    prop_assert!(due >= ended + delay / 2 && due <= ended + delay);
                }
            }
        }

        /// However much traffic complains, and whenever.
        #[test]
        fn suspicion_storms_nobody(
            seed: u64,
            probes in probes(),
            suspicions in prop::collection::vec((0..50u64).prop_map(ms), 1..500),
        ) {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut backoff = Backoff::new(INTERVAL, MOST, Instant::now());
            let mut at = due(&backoff);
            let mut suspicions = suspicions.into_iter().cycle().map(|later| { at += later; at }).peekable();
            let mut before: Option<(Instant, Instant, bool)> = None;
            for (took, ok) in probes {
                while let Some(at) = suspicions.next_if(|at| *at < due(&backoff)) {
                    let failing = before.is_some_and(|(.., ok)| !ok);
                    let was = due(&backoff);
                    backoff.suspect(at);
                    prop_assert!(due(&backoff) <= was);
                    prop_assert!(!failing || due(&backoff) == was);
                    prop_assert!(due(&backoff) >= at || due(&backoff) == was);
                }
                let began = due(&backoff);
                backoff.began(began);
                let ended = began + took;
                while let Some(at) = suspicions.next_if(|at| *at < ended) {
                    backoff.suspect(at);
                }
                backoff.ended(ended, ok, &mut rng);
                if let Some((last_began, last_ended, ok)) = before {
                    prop_assert!(began >= last_began + INTERVAL / 10);
                    prop_assert!(ok || began >= last_ended + INTERVAL / 2);
                }
                before = Some((began, ended, ok));
            }
        }
    }

    #[test]
    fn a_suspicion_has_the_node_probed_without_delay() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut backoff = Backoff::new(INTERVAL, MOST, Instant::now());
        let (began, _) = probe(&mut backoff, ms(1), true, &mut rng);
        backoff.suspect(began + ms(2));
        assert_eq!(due(&backoff), began + ms(25), "but for a tenth of the interval");
        let (began, _) = probe(&mut backoff, ms(1), true, &mut rng);
        backoff.suspect(began + ms(100));
        assert_eq!(due(&backoff), began + ms(100));

        let began = due(&backoff);
        backoff.began(began);
        backoff.suspect(began + ms(1));
        backoff.ended(began + ms(40), true, &mut rng);
        assert_eq!(due(&backoff), began + ms(40), "its answer may be older than the cause");

        let mut eager = Backoff::new(ms(20), MOST, began);
        let (began, ended) = probe(&mut eager, ms(1), true, &mut rng);
        eager.suspect(ended);
        assert_eq!(due(&eager), began + ms(10), "never less");
    }

    #[test]
    fn a_suspicion_of_a_failing_node_is_no_news() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut backoff = Backoff::new(INTERVAL, MOST, Instant::now());
        let began = due(&backoff);
        backoff.began(began);
        backoff.suspect(began);
        backoff.ended(began + ms(1), false, &mut rng);
        let was = due(&backoff);
        assert!(was >= began + INTERVAL / 2, "not even one from before the failure was known");
        backoff.suspect(began + ms(2));
        assert_eq!(due(&backoff), was);

        let (_, ended) = probe(&mut backoff, ms(1), true, &mut rng);
        backoff.suspect(ended + ms(50));
        assert_eq!(due(&backoff), ended + ms(50), "it has recovered");
    }

    #[test]
    fn routers_do_not_meet_again_when_a_node_comes_back() {
        let start = Instant::now();
        let nexts: Vec<_> = (0..1000)
            .map(|seed| {
                let mut rng = StdRng::seed_from_u64(seed);
                let mut backoff = Backoff::new(INTERVAL, MOST, start);
                for _ in 0..6 {
                    probe(&mut backoff, ms(1), false, &mut rng);
                }
                due(&backoff)
            })
            .collect();
        let busiest =
            nexts.iter().map(|from| nexts.iter().filter(|at| **at >= *from && **at < *from + ms(10)).count());
        assert!(busiest.max().is_some_and(|most| most < 30), "of 1000 in any 10 ms");
    }
}
