//! The state machine of one node's health: one probe's outcome in, at most one transition out.

use super::{HealthPolicy, HealthState, Lag, Reason};
use std::{mem, sync::Arc, time::Duration};

/// What one probe of a node has found.
#[derive(Debug, Clone)]
pub(crate) enum ProbeOutcome {
    /// The node configured as the primary answered.
    Primary { in_recovery: bool },
    /// A node configured as a replica answered.
    Replica { in_recovery: bool, lag: Lag },
    /// The probe failed; the text says how.
    Failed(Arc<str>),
    /// The probe ended without an answer after this long.
    TimedOut(Duration),
}

/// A change of a node's health, or of the kind of reason for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Transition {
    pub(crate) from: HealthState,
    /// The same as `from` if only the kind of reason has changed.
    pub(crate) to: HealthState,
    pub(crate) reason: Reason,
}

/// The health of one node.
///
/// A node serves from its first good probe on, and leaves as soon as a probe speaks against it; only a single probe without
/// an answer is forgiven. Coming back takes several good probes in a row, and of a replica a lag well below the threshold,
/// so that a node at the edge does not flap.
///
/// While the primary is unobserved nothing can speak against a replica's lag, nor for it: those that serve go on.
#[derive(Debug, Clone)]
pub(crate) struct NodeHealth {
    policy: HealthPolicy,
    state: HealthState,
    reason: Reason,
    /// Good probes in a row, counted while the node is out.
    good: u32,
    /// Probes in a row without an answer.
    timeouts: u32,
}

impl NodeHealth {
    pub(crate) fn new(policy: HealthPolicy) -> Self {
        Self { policy, state: HealthState::Unproven, reason: Reason::NotProbed, good: 0, timeouts: 0 }
    }

    pub(crate) fn state(&self) -> HealthState {
        self.state
    }

    /// Why the node is in its state, with the figures of the latest probe.
    pub(crate) fn reason(&self) -> &Reason {
        &self.reason
    }

    /// Takes in one probe. Tells of a change once: a reason of the same kind with other figures is none.
    pub(crate) fn observe(&mut self, outcome: ProbeOutcome) -> Option<Transition> {
        let timeouts = mem::take(&mut self.timeouts);
        match outcome {
            ProbeOutcome::Primary { in_recovery: true } => self.set(HealthState::Refused, Reason::InRecovery),
            ProbeOutcome::Primary { in_recovery: false } => self.good(Reason::Writable),
            ProbeOutcome::Replica { in_recovery: false, .. } => {
                self.set(HealthState::Refused, Reason::NotInRecovery)
            }
            ProbeOutcome::Replica { in_recovery: true, lag } => self.replica(lag),
            ProbeOutcome::Failed(how) => self.set(HealthState::Unreachable, Reason::Failed(how)),
            ProbeOutcome::TimedOut(after) => {
                self.timeouts = timeouts.saturating_add(1);
                self.timed_out(after)
            }
        }
    }

    fn replica(&mut self, lag: Lag) -> Option<Transition> {
        use HealthState::{Healthy, Lagging, Unproven};
        let HealthPolicy { lag_threshold: threshold, lag_recovery: recovery, .. } = self.policy;
        match lag.time() {
            Some(lag) if lag <= recovery => self.good(Reason::Fresh { lag }),
            Some(lag) if lag <= threshold => match self.state {
                Unproven | Healthy => self.set(Healthy, Reason::Fresh { lag }),
                _ => self.set(Lagging, Reason::Behind { lag, threshold, recovery }),
            },
            Some(time) if lag.lacks_newer() => {
                self.set(Lagging, Reason::Behind { lag: time, threshold, recovery })
            }
            None if lag.lacks_newer() => match self.state {
                Unproven => self.set(Unproven, Reason::LagUnknown),
                _ => self.set(Lagging, Reason::LagUnknown),
            },
            _ => match self.state {
                Unproven | Healthy => self.set(self.state, Reason::LagUnverified),
                _ => self.set(Lagging, Reason::LagUnverified),
            },
        }
    }

    fn good(&mut self, reason: Reason) -> Option<Transition> {
        let good = self.good.saturating_add(1);
        let serves = match self.state {
            HealthState::Unproven | HealthState::Healthy => true,
            _ => good >= self.policy.probes_to_recover,
        };
        if serves {
            return self.set(HealthState::Healthy, reason);
        }
        let transition = match (self.state, reason) {
            (HealthState::Lagging, Reason::Fresh { lag }) => {
                let HealthPolicy { lag_threshold: threshold, lag_recovery: recovery, .. } = self.policy;
                self.set(HealthState::Lagging, Reason::Behind { lag, threshold, recovery })
            }
            _ => None,
        };
        self.good = good;
        transition
    }

    fn timed_out(&mut self, after: Duration) -> Option<Transition> {
        if self.timeouts < self.policy.timeouts_to_unreachable {
            self.good = 0;
            return None;
        }
        self.set(HealthState::Unreachable, Reason::TimedOut { probes: self.timeouts, after })
    }

    fn set(&mut self, to: HealthState, reason: Reason) -> Option<Transition> {
        self.good = 0;
        let from = mem::replace(&mut self.state, to);
        let before = mem::replace(&mut self.reason, reason);
        let same = from == to && mem::discriminant(&before) == mem::discriminant(&self.reason);
        (!same).then(|| Transition { from, to, reason: self.reason.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{health::LsnClock, lsn::Lsn};
    use HealthState::{Healthy, Lagging, Refused, Unproven, Unreachable};
    use proptest::prelude::*;
    use tokio::time::Instant;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// A replica's answer whose bound is this many milliseconds, or unknown; `observed` is whether the primary answers.
    fn lag(bound: Option<u64>, observed: bool) -> ProbeOutcome {
        let start = Instant::now();
        let mut clock = LsnClock::default();
        let replayed = if bound.is_some() { Lsn::new(100) } else { Lsn::new(99) };
        clock.sample(start, Lsn::new(100));
        clock.sample(start, Lsn::new(101));
        if !observed {
            clock.missed();
        }
        let lag = clock.lag(replayed, start + ms(bound.unwrap_or(0)));
        ProbeOutcome::Replica { in_recovery: true, lag }
    }

    fn at_most(bound: u64) -> ProbeOutcome {
        lag(Some(bound), true)
    }

    fn unobserved(bound: u64) -> ProbeOutcome {
        lag(Some(bound), false)
    }

    fn refused() -> ProbeOutcome {
        ProbeOutcome::Failed("connection refused".into())
    }

    fn timeout() -> ProbeOutcome {
        ProbeOutcome::TimedOut(ms(500))
    }

    fn promoted() -> ProbeOutcome {
        ProbeOutcome::Replica { in_recovery: false, lag: Lag::unknown(Instant::now()) }
    }

    fn primary() -> ProbeOutcome {
        ProbeOutcome::Primary { in_recovery: false }
    }

    fn standby() -> ProbeOutcome {
        ProbeOutcome::Primary { in_recovery: true }
    }

    /// A node that has gone through these probes.
    fn after(probes: impl IntoIterator<Item = ProbeOutcome>) -> NodeHealth {
        let mut node = NodeHealth::new(HealthPolicy::default());
        for probe in probes {
            node.observe(probe);
        }
        node
    }

    fn in_state(state: HealthState) -> NodeHealth {
        let node = match state {
            Unproven => after([]),
            Healthy => after([at_most(10)]),
            Lagging => after([at_most(1001)]),
            Unreachable => after([refused()]),
            Refused => after([promoted()]),
        };
        assert_eq!(node.state(), state);
        node
    }

    /// Every state against every outcome: the state after one probe, and after the same probe once more.
    #[test]
    fn every_state_meets_every_outcome() {
        const STATES: [HealthState; 5] = [Unproven, Healthy, Lagging, Unreachable, Refused];
        type Row = (&'static str, fn() -> ProbeOutcome, [(HealthState, HealthState); 5]);
        let good = [
            (Healthy, Healthy),
            (Healthy, Healthy),
            (Lagging, Healthy),
            (Unreachable, Healthy),
            (Refused, Healthy),
        ];
        let between = [
            (Healthy, Healthy),
            (Healthy, Healthy),
            (Lagging, Lagging),
            (Lagging, Lagging),
            (Lagging, Lagging),
        ];
        let out = |state| [(state, state); 5];
        let unverified = [
            (Unproven, Unproven),
            (Healthy, Healthy),
            (Lagging, Lagging),
            (Lagging, Lagging),
            (Lagging, Lagging),
        ];
        let unknown = [
            (Unproven, Unproven),
            (Lagging, Lagging),
            (Lagging, Lagging),
            (Lagging, Lagging),
            (Lagging, Lagging),
        ];
        let timeouts = [
            (Unproven, Unreachable),
            (Healthy, Unreachable),
            (Lagging, Unreachable),
            (Unreachable, Unreachable),
            (Refused, Unreachable),
        ];
        let rows: [Row; 15] = [
            ("no lag", || at_most(0), good),
            ("at recovery", || at_most(500), good),
            ("over recovery", || at_most(501), between),
            ("at the threshold", || at_most(1000), between),
            ("over the threshold", || at_most(1001), out(Lagging)),
            ("behind all samples", || lag(None, true), unknown),
            ("fresh, primary unobserved", || unobserved(500), good),
            ("between, primary unobserved", || unobserved(1000), between),
            ("over, primary unobserved", || unobserved(1001), unverified),
            ("unknown, primary unobserved", || lag(None, false), unverified),
            ("promoted", promoted, out(Refused)),
            ("refused", refused, out(Unreachable)),
            ("timed out", timeout, timeouts),
            ("primary", primary, good),
            ("primary is a standby", standby, out(Refused)),
        ];
        for (name, outcome, expected) in rows {
            for (state, expected) in STATES.into_iter().zip(expected) {
                let mut node = in_state(state);
                node.observe(outcome());
                let once = node.state();
                node.observe(outcome());
                assert_eq!((once, node.state()), expected, "{state}, then twice {name}");
            }
        }
    }

    #[test]
    fn transitions_carry_state_and_reason_and_come_once() {
        let mut node = NodeHealth::new(HealthPolicy::default());
        assert_eq!(node.reason(), &Reason::NotProbed);
        let mut told = vec![];
        for probe in [
            at_most(10),
            at_most(20),
            unobserved(1200),
            unobserved(1450),
            at_most(1700),
            at_most(1950),
            at_most(700),
            at_most(10),
            at_most(11),
            timeout(),
            timeout(),
            timeout(),
            refused(),
            refused(),
            promoted(),
        ] {
            told.extend(node.observe(probe).map(|t| format!("{} to {}: {}", t.from, t.to, t.reason)));
        }
        assert_eq!(
            told,
            [
                "unproven to healthy: lag of at most 10 ms",
                "healthy to healthy: primary unobserved: lag unverified",
                "healthy to lagging: lag of at most 1700 ms is over the threshold of 1000 ms",
                "lagging to healthy: lag of at most 11 ms",
                "healthy to unreachable: 2 probes timed out after 500 ms",
                "unreachable to unreachable: connection refused",
                "unreachable to refused: not in recovery: this node is a primary, or was promoted",
            ]
        );
    }

    #[test]
    fn the_reason_follows_the_figures_in_between() {
        let mut node = after([at_most(1500)]);
        for (bound, text) in [
            (900, "lag of at most 900 ms is not yet down to 500 ms"),
            (400, "lag of at most 400 ms is to be confirmed by the next probe"),
            (300, "lag of at most 300 ms"),
            (900, "lag of at most 900 ms"),
        ] {
            node.observe(at_most(bound));
            assert_eq!(node.reason().to_string(), text);
        }
        assert_eq!(
            after([timeout(), timeout(), timeout()]).reason().to_string(),
            "3 probes timed out after 500 ms"
        );
    }

    #[test]
    fn anything_in_between_starts_the_count_of_good_probes_anew() {
        for between in
            [at_most(501), at_most(1001), unobserved(1001), lag(None, true), timeout(), refused(), promoted()]
        {
            let mut node = after([at_most(1001), at_most(10), between, at_most(10)]);
            assert_ne!(node.state(), Healthy);
            node.observe(at_most(10));
            assert_eq!(node.state(), Healthy);
        }
    }

    #[test]
    fn an_answer_in_between_forgives_a_timeout() {
        let mut node = after([at_most(10), timeout(), at_most(10), timeout()]);
        assert_eq!(node.state(), Healthy);
        node.observe(timeout());
        assert_eq!(node.state(), Unreachable);
    }

    #[test]
    fn a_good_probe_long_ago_does_not_count_for_the_next_return() {
        let mut node = after([at_most(1001), at_most(10), at_most(10), at_most(1001), at_most(10)]);
        assert_eq!(node.state(), Lagging);
        node.observe(at_most(10));
        assert_eq!(node.state(), Healthy);
    }

    /// The replicas' probes as the clock and the machine see them together, on virtual time, every 250 ms.
    #[test]
    fn an_outage_of_the_primary_makes_no_replica_lag() {
        let start = Instant::now();
        let (mut clock, mut node) = (LsnClock::default(), after([]));
        for tick in 0..200u32 {
            let now = start + ms(250) * tick;
            // Ten seconds of writes unseen while the primary is out of our reach alone; the replica follows closely.
            let written = u64::from(tick) * 1000;
            match tick {
                40..80 => clock.missed(),
                _ => clock.sample(now, Lsn::new(written)),
            }
            let replayed = Lsn::new(written.saturating_sub(1));
            node.observe(ProbeOutcome::Replica { in_recovery: true, lag: clock.lag(replayed, now + ms(2)) });
            assert_eq!(node.state(), Healthy, "tick {tick}: {}", node.reason());
        }
    }

    fn outcome() -> impl Strategy<Value = ProbeOutcome> {
        prop_oneof![
            8 => (0..1600u64, any::<bool>()).prop_map(|(bound, observed)| lag(Some(bound), observed)),
            1 => any::<bool>().prop_map(|observed| lag(None, observed)),
            1 => Just(promoted()),
            1 => Just(refused()),
            2 => Just(timeout()),
        ]
    }

    fn bound(outcome: &ProbeOutcome) -> Option<Duration> {
        match outcome {
            ProbeOutcome::Replica { in_recovery: true, lag } => lag.time(),
            _ => None,
        }
    }

    fn is_good(outcome: &ProbeOutcome) -> bool {
        bound(outcome).is_some_and(|bound| bound <= ms(500))
    }

    proptest! {
        #[test]
        fn invariants_hold_on_random_schedules(probes in prop::collection::vec(outcome(), 1..120)) {
            let mut node = NodeHealth::new(HealthPolicy::default());
            let mut known = (Unproven, mem::discriminant(&Reason::NotProbed));
            for (i, probe) in probes.iter().enumerate() {
                let before = node.state();
                let transition = node.observe(probe.clone());
                let state = node.state();

                // What is told is what is, each change once and none left out.
                let now = (state, mem::discriminant(node.reason()));
                prop_assert_eq!(transition.is_some(), now != known);
                if let Some(transition) = transition {
                    prop_assert_eq!((transition.from, transition.to, &transition.reason), (before, state, node.reason()));
                }
                known = now;

                match probe {
                    ProbeOutcome::Failed(_) => prop_assert_eq!(state, Unreachable, "refused acts at once"),
                    ProbeOutcome::TimedOut(_) => {
                        let in_a_row = i > 0 && matches!(probes[i - 1], ProbeOutcome::TimedOut(_));
                        prop_assert_eq!(state, if in_a_row { Unreachable } else { before });
                    }
                    ProbeOutcome::Replica { in_recovery: false, .. } => prop_assert_eq!(state, Refused),
                    ProbeOutcome::Replica { lag, .. } => {
                        if lag.lacks_newer() && lag.time().is_none_or(|time| time > ms(1000)) {
                            prop_assert_ne!(state, Healthy, "serving with lag over the threshold");
                        }
                    }
                    ProbeOutcome::Primary { .. } => unreachable!("not generated"),
                }

                // Nobody starts to serve without proof, and nobody returns on less than two good probes in a row.
                if state == Healthy && before != Healthy {
                    prop_assert!(bound(probe).is_some_and(|bound| bound <= ms(1000)));
                    if before != Unproven {
                        prop_assert!(i > 0 && is_good(probe) && is_good(&probes[i - 1]));
                    }
                }
                // Hysteresis works one way only: two good probes are enough, whatever came before.
                if i > 0 && is_good(probe) && is_good(&probes[i - 1]) {
                    prop_assert_eq!(state, Healthy);
                }
                // A replica that serves leaves only for a cause.
                if before == Healthy && state != Healthy {
                    prop_assert!(bound(probe).is_none_or(|bound| bound > ms(1000)));
                }
                prop_assert!(state != Unproven || before == Unproven, "unproven is a beginning");
            }
        }
    }
}
