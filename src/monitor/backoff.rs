//! When a node is probed apart from the others.

use rand::{Rng, RngExt};
use std::time::Duration;
use tokio::time::Instant;

/// Whether one node is probed in the rounds of all, or by itself.
///
/// While it answers it is probed in the rounds. While it fails, the time from the end of one probe to the next doubles from the
/// interval up to a maximum, with [equal jitter]: half of it is certain, which spares a node that is down, and half is random,
/// which spreads those who all saw it go over the moment when it comes back.
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
        /// By itself; `None` with the next round.
        due: Option<Instant>,
        /// As early as a suspicion may have it.
        earliest: Instant,
    },
    Probing {
        began: Instant,
        suspected: bool,
    },
}

impl Backoff {
    /// The first probe is that of the next round. `most` counts as the interval if it is less.
    pub(super) fn new(interval: Duration, most: Duration, now: Instant) -> Self {
        let phase = Phase::Waiting { due: None, earliest: now };
        Self { interval, most: most.max(interval), failures: 0, phase }
    }

    /// The same settings as those of [`new`](Self::new), from now on: a probe that is due by itself is not later than they have it.
    pub(super) fn set(&mut self, interval: Duration, most: Duration, now: Instant) {
        (self.interval, self.most) = (interval, most.max(interval));
        let latest = now + self.delay();
        if let Phase::Waiting { due: Some(due), .. } = &mut self.phase {
            *due = latest.min(*due);
        }
    }

    /// When to begin the next probe, if that is not with the next round and none is under way.
    pub(super) fn due(&self) -> Option<Instant> {
        match self.phase {
            Phase::Waiting { due, .. } => due,
            Phase::Probing { .. } => None,
        }
    }

    /// Whether the node is to be probed in a round that begins now.
    pub(super) fn joins_rounds(&self) -> bool {
        matches!(self.phase, Phase::Waiting { due: None, .. })
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
            None
        } else {
            self.failures = self.failures.saturating_add(1);
            Some(now + self.delay().mul_f64(rng.random_range(0.5..=1.0)))
        };
        self.phase = Phase::Waiting { due, earliest };
        if suspected {
            self.suspect(now);
        }
    }

    /// Traffic gives cause to look at the node without delay, but for a small spacing between probes. Of a node that is failing
    /// that is known already. A probe under way may have been answered before the cause, so that another one follows it.
    pub(super) fn suspect(&mut self, now: Instant) {
        match &mut self.phase {
            _ if self.failures > 0 => {}
            Phase::Waiting { due, earliest } => {
                let soon = now.max(*earliest);
                *due = Some(due.map_or(soon, |due| due.min(soon)));
            }
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

    /// Probes when that is due, or else in a round that begins at `round`; says from when to when.
    fn probe(
        backoff: &mut Backoff,
        round: Instant,
        took: Duration,
        ok: bool,
        rng: &mut StdRng,
    ) -> (Instant, Instant) {
        assert_eq!(backoff.joins_rounds(), backoff.due().is_none());
        let began = backoff.due().unwrap_or(round);
        backoff.began(began);
        assert_eq!((backoff.due(), backoff.joins_rounds()), (None, false));
        let ended = began + took;
        backoff.ended(ended, ok, rng);
        (began, ended)
    }

    fn due(backoff: &Backoff) -> Instant {
        backoff.due().expect("it is probed by itself")
    }

    /// How long a probe takes, and whether it is answered.
    fn probes() -> impl Strategy<Value = Vec<(Duration, bool)>> {
        prop::collection::vec(((0..700u64).prop_map(ms), any::<bool>()), 1..50)
    }

    proptest! {
        #[test]
        fn a_failing_node_is_probed_within_its_jitter(seed: u64, interval in 1..5000u64, most in 1..20_000u64, probes in probes()) {
            let (interval, most) = (ms(interval), ms(most));
            let mut rng = StdRng::seed_from_u64(seed);
            let start = Instant::now();
            let mut backoff = Backoff::new(interval, most, start);
            let mut failures = 0;
            for (took, ok) in probes {
                let (_, ended) = probe(&mut backoff, start, took, ok, &mut rng);
                if ok {
                    failures = 0;
                    prop_assert!(backoff.joins_rounds());
                } else {
                    let due = due(&backoff);
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
            let mut at = Instant::now();
            let mut round = at;
            // Time goes on even if all of them are simultaneous.
            let suspicions = suspicions.into_iter().chain([ms(1)]);
            let mut suspicions = suspicions.cycle().map(|later| { at += later; at }).peekable();
            let mut before: Option<(Instant, Instant, bool)> = None;
            for (took, ok) in probes {
                while let Some(at) = suspicions.next_if(|at| *at < backoff.due().unwrap_or(round)) {
                    let failing = before.is_some_and(|(.., ok)| !ok);
                    let was = backoff.due();
                    backoff.suspect(at);
                    prop_assert!(was.is_none_or(|was| due(&backoff) <= was));
                    prop_assert!(!failing || backoff.due() == was);
                    prop_assert!(due(&backoff) >= at || backoff.due() == was);
                }
                let began = backoff.due().unwrap_or(round);
                round = began + INTERVAL;
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
        let start = Instant::now();
        let mut backoff = Backoff::new(INTERVAL, MOST, start);
        let (began, _) = probe(&mut backoff, start, ms(1), true, &mut rng);
        backoff.suspect(began + ms(2));
        assert_eq!(due(&backoff), began + ms(25), "but for a tenth of the interval");
        let (began, _) = probe(&mut backoff, start, ms(1), true, &mut rng);
        backoff.suspect(began + ms(100));
        assert_eq!(due(&backoff), began + ms(100));

        let began = due(&backoff);
        backoff.began(began);
        backoff.suspect(began + ms(1));
        backoff.ended(began + ms(40), true, &mut rng);
        assert_eq!(due(&backoff), began + ms(40), "its answer may be older than the cause");

        let mut eager = Backoff::new(ms(20), MOST, began);
        let (began, ended) = probe(&mut eager, began, ms(1), true, &mut rng);
        eager.suspect(ended);
        assert_eq!(due(&eager), began + ms(10), "never less");
    }

    #[test]
    fn a_suspicion_of_a_failing_node_is_no_news() {
        let mut rng = StdRng::seed_from_u64(1);
        let began = Instant::now();
        let mut backoff = Backoff::new(INTERVAL, MOST, began);
        backoff.began(began);
        backoff.suspect(began);
        backoff.ended(began + ms(1), false, &mut rng);
        let was = due(&backoff);
        assert!(was >= began + INTERVAL / 2, "not even one from before the failure was known");
        backoff.suspect(began + ms(2));
        assert_eq!(due(&backoff), was);

        let (_, ended) = probe(&mut backoff, began, ms(1), true, &mut rng);
        backoff.suspect(ended + ms(50));
        assert_eq!(due(&backoff), ended + ms(50), "it has recovered");
    }

    #[test]
    fn other_settings_hold_from_now_on() {
        let mut rng = StdRng::seed_from_u64(1);
        let start = Instant::now();
        let mut backoff = Backoff::new(Duration::from_secs(60), Duration::from_secs(3600), start);
        let (_, ended) = probe(&mut backoff, start, ms(1), false, &mut rng);
        backoff.set(INTERVAL, MOST, ended);
        assert_eq!(due(&backoff), ended + INTERVAL, "not in an hour");
        for _ in 0..9 {
            let (_, ended) = probe(&mut backoff, start, ms(1), false, &mut rng);
            assert!(due(&backoff) <= ended + MOST);
        }
        let was = due(&backoff);
        backoff.set(Duration::from_secs(60), Duration::from_secs(3600), start);
        assert_eq!(due(&backoff), was, "never put off");
    }

    #[test]
    fn routers_do_not_meet_again_when_a_node_comes_back() {
        let start = Instant::now();
        let nexts: Vec<_> = (0..1000)
            .map(|seed| {
                let mut rng = StdRng::seed_from_u64(seed);
                let mut backoff = Backoff::new(INTERVAL, MOST, start);
                for _ in 0..6 {
                    probe(&mut backoff, start, ms(1), false, &mut rng);
                }
                due(&backoff)
            })
            .collect();
        let busiest =
            nexts.iter().map(|from| nexts.iter().filter(|at| **at >= *from && **at < *from + ms(10)).count());
        assert!(busiest.max().is_some_and(|most| most < 30), "of 1000 in any 10 ms");
    }
}
