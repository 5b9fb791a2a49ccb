//! The state machine of one node's health: one probe's outcome, or one tally of its traffic, in, at most one transition out.

use super::outlier::Outlier;
use super::{HealthPolicy, HealthState, Lag, Reason, UnverifiedLag};
use crate::traffic::Tally;
use std::{mem, sync::Arc, time::Duration};
use tokio::time::Instant;

/// What one probe of a node has found.
#[derive(Debug, Clone)]
pub(crate) enum ProbeOutcome {
    /// The node is the primary.
    Primary,
    /// The node is a standby that follows the primary.
    Standby(Lag),
    /// The node is a standby that is not known to follow the primary, for this reason.
    Astray(Reason),
    /// The node answers and must not serve, for this reason.
    Refused(Reason),
    /// The probe failed; the text says how.
    Failed(Arc<str>),
    /// The node is up, and gives out no connection for now; the text says how.
    Full(Arc<str>),
    /// So many probes ended without an answer, each after this long.
    TimedOut { probes: u32, after: Duration },
}

/// A change of a node's health, or of the kind of reason for it.
#[derive(Debug, Clone, PartialEq)]
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
/// Three things are known apart and seen together: what probes show, whether it is ejected for what its traffic showed, and
/// whether it is being removed.
#[derive(Debug, Clone)]
pub(crate) struct NodeHealth {
    state: HealthState,
    reason: Reason,
    /// Good probes in a row, counted while the node is out.
    good: u32,
    /// Probes in a row without an answer.
    timeouts: u32,
    answers: bool,
    outlier: Outlier,
    ejected: Option<Ejected>,
    draining: bool,
    /// When it last became healthy.
    since: Option<Instant>,
}

#[derive(Debug, Clone)]
struct Ejected {
    until: Instant,
    reason: Reason,
}

/// What the limits say of a lag, the better the less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Recovered,
    Within,
    /// Nobody can tell.
    Unverified,
    Over,
}

impl NodeHealth {
    pub(crate) fn new() -> Self {
        Self {
            state: HealthState::Unproven,
            reason: Reason::NotProbed,
            good: 0,
            timeouts: 0,
            answers: true,
            outlier: Outlier::default(),
            ejected: None,
            draining: false,
            since: None,
        }
    }

    pub(crate) fn state(&self) -> HealthState {
        match (self.draining, &self.ejected) {
            (true, _) => HealthState::Draining,
            (_, Some(_)) if self.state == HealthState::Healthy => HealthState::Ejected,
            _ => self.state,
        }
    }

    /// Why the node is in its state, with the figures of the latest probe.
    pub(crate) fn reason(&self) -> &Reason {
        match (self.state(), &self.ejected) {
            (HealthState::Draining, _) => &Reason::Removed,
            (HealthState::Ejected, Some(ejected)) => &ejected.reason,
            _ => &self.reason,
        }
    }

    /// Whether it is ejected, be it that something graver is wrong with it as well.
    pub(crate) fn is_ejected(&self) -> bool {
        self.ejected.is_some()
    }

    /// Whether it is refused, be it that it is being removed as well.
    pub(crate) fn is_refused(&self) -> bool {
        self.state == HealthState::Refused
    }

    /// When the node last became healthy, if it is.
    pub(crate) fn healthy_since(&self) -> Option<Instant> {
        self.since.filter(|_| self.state() == HealthState::Healthy)
    }

    /// Whether what the node said last still holds.
    pub(crate) fn answers(&self) -> bool {
        self.answers
    }

    /// The node has answered, whatever that comes to.
    pub(crate) fn answered(&mut self) {
        self.answers = true;
        self.timeouts = 0;
    }

    /// Takes in one probe, or what the latest answer means now that more is known of the other nodes. Tells of a change once: a
    /// reason of the same kind with other figures is none.
    pub(crate) fn observe(
        &mut self,
        policy: &HealthPolicy,
        now: Instant,
        outcome: ProbeOutcome,
    ) -> Option<Transition> {
        self.changing(now, |this| {
            // Time alone shows nothing: an ejection ends with an answer. What a node failed as a replica is over when it is promoted.
            let over = match outcome {
                ProbeOutcome::Primary => true,
                ProbeOutcome::Standby(_) => this.ejected.as_ref().is_some_and(|ejected| now >= ejected.until),
                _ => false,
            };
            match outcome {
                // Writes go to it at once.
                ProbeOutcome::Primary => this.set(HealthState::Healthy, Reason::Writable),
                ProbeOutcome::Standby(lag) => this.standby(policy, lag),
                ProbeOutcome::Astray(reason) => match this.state {
                    HealthState::Unproven => this.set(HealthState::Unproven, reason),
                    _ => this.set(HealthState::Lagging, reason),
                },
                ProbeOutcome::Refused(reason) => this.set(HealthState::Refused, reason),
                ProbeOutcome::Failed(how) => {
                    this.timeouts = 0;
                    this.silent(Reason::Failed(how));
                }
                ProbeOutcome::TimedOut { probes, after } => {
                    this.timeouts = this.timeouts.saturating_add(probes);
                    let probes = this.timeouts;
                    this.unanswered(policy, Reason::TimedOut { probes, after });
                }
                ProbeOutcome::Full(how) => {
                    this.timeouts = this.timeouts.saturating_add(1);
                    this.unanswered(policy, Reason::Failed(how));
                }
            }
            if over && this.state == HealthState::Healthy {
                this.readmit(now);
            }
        })
    }

    /// Judges a replica by other settings, with the lag that its latest answer has shown. What speaks against it counts at once; the
    /// same answer twice speaks for nobody.
    pub(crate) fn reconsider(&mut self, policy: &HealthPolicy, now: Instant, lag: Lag) -> Option<Transition> {
        self.changing(now, |this| {
            if this.state == HealthState::Healthy {
                this.standby(policy, lag);
            }
        })
    }

    /// Takes in the counts of the node's traffic, and says why it should be ejected if it should be.
    pub(crate) fn judge_traffic(
        &mut self,
        policy: &HealthPolicy,
        now: Instant,
        tally: Tally,
    ) -> Option<Reason> {
        if self.state() != HealthState::Healthy {
            return None;
        }
        self.outlier.judge(&policy.ejection, now, tally)
    }

    pub(crate) fn eject(
        &mut self,
        policy: &HealthPolicy,
        now: Instant,
        reason: Reason,
    ) -> Option<Transition> {
        self.changing(now, |this| {
            let until = this.outlier.eject(&policy.ejection, now);
            this.ejected = Some(Ejected { until, reason });
        })
    }

    /// Ends an ejection before its time.
    pub(crate) fn pardon(&mut self, now: Instant) -> Option<Transition> {
        self.changing(now, |this| this.readmit(now))
    }

    /// No new work from now on, for good.
    pub(crate) fn drain(&mut self, now: Instant) -> Option<Transition> {
        self.changing(now, |this| this.draining = true)
    }

    fn changing(&mut self, now: Instant, change: impl FnOnce(&mut Self)) -> Option<Transition> {
        let (from, why) = (self.state(), mem::discriminant(self.reason()));
        change(self);
        let to = self.state();
        if to == HealthState::Healthy && from != HealthState::Healthy {
            self.since = Some(now);
            self.outlier.restart();
        }
        let changed = from != to || why != mem::discriminant(self.reason());
        changed.then(|| Transition { from, to, reason: self.reason().clone() })
    }

    fn readmit(&mut self, now: Instant) {
        if self.ejected.take().is_some() {
            self.outlier.readmit(now);
        }
    }

    fn standby(&mut self, policy: &HealthPolicy, lag: Lag) {
        use HealthState::{Healthy, Lagging, Unproven};
        let (by_time, by_bytes) = (by_time(policy, lag), by_bytes(policy, lag));
        match by_time.max(by_bytes) {
            Verdict::Recovered => self.good(policy, fresh(lag)),
            Verdict::Within => match self.state {
                Unproven | Healthy => self.set(Healthy, fresh(lag)),
                _ => self.set(Lagging, behind(policy, lag, by_time < by_bytes)),
            },
            Verdict::Over => match (self.state, lag.time()) {
                (Unproven, None) => self.set(Unproven, Reason::LagUnknown),
                _ => self.set(Lagging, behind(policy, lag, by_time < by_bytes)),
            },
            Verdict::Unverified => match (policy.unverified_lag, self.state) {
                (UnverifiedLag::Serve, Lagging) => self.set(Lagging, Reason::LagUnverified),
                (UnverifiedLag::Serve, _) => self.good(policy, Reason::LagUnverified),
                (UnverifiedLag::Keep, Unproven | Healthy) | (UnverifiedLag::Exclude, Unproven) => {
                    self.set(self.state, Reason::LagUnverified);
                }
                _ => self.set(Lagging, Reason::LagUnverified),
            },
        }
    }

    fn good(&mut self, policy: &HealthPolicy, reason: Reason) {
        let good = self.good.saturating_add(1);
        let serves = match self.state {
            HealthState::Unproven | HealthState::Healthy => true,
            _ => good >= policy.probes_to_recover,
        };
        if serves {
            return self.set(HealthState::Healthy, reason);
        }
        if let (HealthState::Lagging, Reason::Fresh { lag }) = (self.state, reason) {
            let HealthPolicy { lag_threshold: threshold, lag_recovery: recovery, .. } = *policy;
            self.set(HealthState::Lagging, Reason::Behind { lag, threshold, recovery });
        }
        self.good = good;
    }

    fn unanswered(&mut self, policy: &HealthPolicy, reason: Reason) {
        if self.timeouts < policy.timeouts_to_unreachable {
            self.good = 0;
            return;
        }
        self.silent(reason);
    }

    fn silent(&mut self, reason: Reason) {
        self.answers = false;
        self.set(HealthState::Unreachable, reason);
    }

    fn set(&mut self, to: HealthState, reason: Reason) {
        self.good = 0;
        self.state = to;
        self.reason = reason;
    }
}

fn by_time(policy: &HealthPolicy, lag: Lag) -> Verdict {
    match lag.time() {
        Some(time) if time <= policy.lag_recovery => Verdict::Recovered,
        Some(time) if time <= policy.lag_threshold => Verdict::Within,
        _ if lag.lacks_newer() => Verdict::Over,
        _ => Verdict::Unverified,
    }
}

fn by_bytes(policy: &HealthPolicy, lag: Lag) -> Verdict {
    let Some(limits) = policy.lag_bytes else { return Verdict::Recovered };
    match lag.bytes() {
        Some(bytes) if bytes <= limits.recovery => Verdict::Recovered,
        Some(bytes) if bytes <= limits.threshold => Verdict::Within,
        Some(_) if lag.lacks_newer() => Verdict::Over,
        _ => Verdict::Unverified,
    }
}

fn fresh(lag: Lag) -> Reason {
    lag.time().map_or(Reason::LagUnverified, |lag| Reason::Fresh { lag })
}

fn behind(policy: &HealthPolicy, lag: Lag, bytes_decide: bool) -> Reason {
    match (lag.time(), lag.bytes().zip(policy.lag_bytes)) {
        (_, Some((lag, limits))) if bytes_decide => {
            Reason::BehindBytes { lag, threshold: limits.threshold, recovery: limits.recovery }
        }
        (Some(lag), _) => {
            Reason::Behind { lag, threshold: policy.lag_threshold, recovery: policy.lag_recovery }
        }
        (None, _) => Reason::LagUnknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::{LagBytes, LsnClock};
    use crate::lsn::Lsn;
    use HealthState::*;
    use proptest::prelude::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// A standby's answer whose bound is this many milliseconds, or unknown; `observed` is whether the primary answers.
    fn lag(bound: Option<u64>, observed: bool) -> ProbeOutcome {
        behind(bound, 1, observed)
    }

    /// The same, with this much log to replay.
    fn behind(bound: Option<u64>, bytes: u64, observed: bool) -> ProbeOutcome {
        let start = Instant::now();
        let mut clock = LsnClock::default();
        let replayed = Lsn::new(if bound.is_some() { 100 } else { 99 });
        clock.sample(start, Lsn::new(100));
        clock.sample(start, Lsn::new(replayed.get() + bytes));
        if !observed {
            clock.missed();
        }
        ProbeOutcome::Standby(clock.lag(replayed, start + ms(bound.unwrap_or(0))))
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

    fn full() -> ProbeOutcome {
        ProbeOutcome::Full("too many clients".into())
    }

    fn timed_out(probes: u32) -> ProbeOutcome {
        ProbeOutcome::TimedOut { probes, after: ms(500) }
    }

    fn timeout() -> ProbeOutcome {
        timed_out(1)
    }

    fn deposed() -> ProbeOutcome {
        ProbeOutcome::Refused(Reason::Deposed { timeline: 1, primary: 2 })
    }

    fn astray() -> ProbeOutcome {
        ProbeOutcome::Astray(Reason::OtherTimeline { follows: 1, primary: 2 })
    }

    fn primary() -> ProbeOutcome {
        ProbeOutcome::Primary
    }

    fn too_many_failures() -> Reason {
        Reason::FailedInARow { failures: 5 }
    }

    /// A node, the settings and the time.
    struct Watch {
        node: NodeHealth,
        policy: HealthPolicy,
        now: Instant,
    }

    impl Watch {
        fn new(policy: HealthPolicy) -> Self {
            Self { node: NodeHealth::new(), policy, now: Instant::now() }
        }

        fn observe(&mut self, probe: ProbeOutcome) -> Option<Transition> {
            use ProbeOutcome::{Failed, Full, TimedOut};
            if !matches!(probe, Failed(_) | Full(_) | TimedOut { .. }) {
                self.node.answered();
            }
            self.node.observe(&self.policy, self.now, probe)
        }

        fn eject(&mut self) -> Option<Transition> {
            self.node.eject(&self.policy, self.now, too_many_failures())
        }

        /// The state after this probe.
        fn then(&mut self, probe: ProbeOutcome) -> HealthState {
            self.observe(probe);
            self.node.state()
        }
    }

    /// A node that has gone through these probes.
    fn after_with(policy: HealthPolicy, probes: impl IntoIterator<Item = ProbeOutcome>) -> Watch {
        let mut watch = Watch::new(policy);
        for probe in probes {
            watch.observe(probe);
        }
        watch
    }

    fn after(probes: impl IntoIterator<Item = ProbeOutcome>) -> Watch {
        after_with(HealthPolicy::default(), probes)
    }

    fn ejected() -> Watch {
        let mut watch = after([at_most(10)]);
        watch.eject();
        watch
    }

    fn in_state(state: HealthState) -> Watch {
        let watch = match state {
            Unproven => after([]),
            Healthy => after([at_most(10)]),
            Lagging => after([at_most(1001)]),
            Unreachable => after([refused()]),
            Refused => after([deposed()]),
            Ejected => ejected(),
            Draining => {
                let mut watch = after([at_most(10)]);
                watch.node.drain(watch.now);
                watch
            }
        };
        assert_eq!(watch.node.state(), state);
        watch
    }

    /// Every state against every outcome: the state after one probe, and after the same probe once more. An ejection that is not
    /// over hides nothing but health.
    #[test]
    fn every_state_meets_every_outcome() {
        const STATES: [HealthState; 6] = [Unproven, Healthy, Lagging, Unreachable, Refused, Ejected];
        type Row = (&'static str, fn() -> ProbeOutcome, [(HealthState, HealthState); 6]);
        let good = [
            (Healthy, Healthy),
            (Healthy, Healthy),
            (Lagging, Healthy),
            (Unreachable, Healthy),
            (Refused, Healthy),
            (Ejected, Ejected),
        ];
        let between = [
            (Healthy, Healthy),
            (Healthy, Healthy),
            (Lagging, Lagging),
            (Lagging, Lagging),
            (Lagging, Lagging),
            (Ejected, Ejected),
        ];
        let out = |state| [(state, state); 6];
        let unverified = [
            (Unproven, Unproven),
            (Healthy, Healthy),
            (Lagging, Lagging),
            (Lagging, Lagging),
            (Lagging, Lagging),
            (Ejected, Ejected),
        ];
        let unproven_or_lagging = [
            (Unproven, Unproven),
            (Lagging, Lagging),
            (Lagging, Lagging),
            (Lagging, Lagging),
            (Lagging, Lagging),
            (Lagging, Lagging),
        ];
        let unanswered = [
            (Unproven, Unreachable),
            (Healthy, Unreachable),
            (Lagging, Unreachable),
            (Unreachable, Unreachable),
            (Refused, Unreachable),
            (Ejected, Unreachable),
        ];
        let rows: [Row; 17] = [
            ("no lag", || at_most(0), good),
            ("at recovery", || at_most(500), good),
            ("over recovery", || at_most(501), between),
            ("at the threshold", || at_most(1000), between),
            ("over the threshold", || at_most(1001), out(Lagging)),
            ("behind all samples", || lag(None, true), unproven_or_lagging),
            ("fresh, primary unobserved", || unobserved(500), good),
            ("between, primary unobserved", || unobserved(1000), between),
            ("over, primary unobserved", || unobserved(1001), unverified),
            ("unknown, primary unobserved", || lag(None, false), unverified),
            ("on another timeline", astray, unproven_or_lagging),
            ("not to serve", deposed, out(Refused)),
            ("refused", refused, out(Unreachable)),
            ("timed out", timeout, unanswered),
            ("timed out twice", || timed_out(2), out(Unreachable)),
            ("full", full, unanswered),
            ("primary", primary, out(Healthy)),
        ];
        for (name, outcome, expected) in rows {
            for (state, expected) in STATES.into_iter().zip(expected) {
                let mut watch = in_state(state);
                let states = (watch.then(outcome()), watch.then(outcome()));
                assert_eq!(states, expected, "{state}, then twice {name}");
            }
            let mut watch = in_state(Draining);
            assert_eq!(watch.observe(outcome()), None, "{name}");
            assert_eq!((watch.node.state(), watch.node.reason()), (Draining, &Reason::Removed), "{name}");
        }
    }

    #[test]
    fn transitions_carry_state_and_reason_and_come_once() {
        let mut watch = after([]);
        assert_eq!(watch.node.reason(), &Reason::NotProbed);
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
            astray(),
            astray(),
            at_most(10),
            deposed(),
            deposed(),
            primary(),
            primary(),
            astray(),
            primary(),
        ] {
            told.extend(watch.observe(probe).map(|t| format!("{} to {}: {}", t.from, t.to, t.reason)));
        }
        told.extend(watch.eject().map(|t| format!("{} to {}: {}", t.from, t.to, t.reason)));
        told.extend(watch.node.drain(watch.now).map(|t| format!("{} to {}: {}", t.from, t.to, t.reason)));
        told.extend(watch.node.drain(watch.now).map(|t| format!("{} to {}: {}", t.from, t.to, t.reason)));
        assert_eq!(
            told,
            [
                "unproven to healthy: lag of at most 10 ms",
                "healthy to healthy: primary unobserved: lag unverified",
                "healthy to lagging: lag of at most 1700 ms is over the threshold of 1000 ms",
                "lagging to healthy: lag of at most 11 ms",
                "healthy to unreachable: 2 probes timed out after 500 ms",
                "unreachable to unreachable: connection refused",
                "unreachable to lagging: not known to follow the primary to timeline 2: seen on 1 so far",
                "lagging to lagging: lag of at most 10 ms is to be confirmed by the next probe",
                "lagging to refused: writable, but on timeline 1 while the primary is on 2",
                "refused to healthy: answers and is writable",
                "healthy to lagging: not known to follow the primary to timeline 2: seen on 1 so far",
                "lagging to healthy: answers and is writable",
                "healthy to ejected: failed 5 calls in a row",
                "ejected to draining: being removed",
            ]
        );
    }

    #[test]
    fn the_reason_follows_the_figures_in_between() {
        let mut watch = after([at_most(1500)]);
        for (bound, text) in [
            (900, "lag of at most 900 ms is not yet down to 500 ms"),
            (400, "lag of at most 400 ms is to be confirmed by the next probe"),
            (300, "lag of at most 300 ms"),
            (900, "lag of at most 900 ms"),
        ] {
            watch.observe(at_most(bound));
            assert_eq!(watch.node.reason().to_string(), text);
        }
        let mut watch = after([timeout(), timeout(), timed_out(2)]);
        assert_eq!(watch.node.reason().to_string(), "4 probes timed out after 500 ms");
        watch.observe(refused());
        watch.observe(timeout());
        assert_eq!(watch.node.reason().to_string(), "connection refused");
        watch.observe(timeout());
        assert_eq!(watch.node.reason().to_string(), "2 probes timed out after 500 ms");
    }

    #[test]
    fn anything_in_between_starts_the_count_of_good_probes_anew() {
        for between in [
            at_most(501),
            at_most(1001),
            unobserved(1001),
            lag(None, true),
            astray(),
            timeout(),
            full(),
            refused(),
            deposed(),
        ] {
            let mut watch = after([at_most(1001), at_most(10), between.clone(), at_most(10)]);
            assert_ne!(watch.node.state(), Healthy, "{between:?}");
            assert_eq!(watch.then(at_most(10)), Healthy, "{between:?}");
        }
    }

    #[test]
    fn an_answer_in_between_forgives_a_timeout() {
        for (first, second) in [(timeout(), timeout()), (full(), timeout()), (timeout(), full())] {
            let mut watch = after([at_most(10), first.clone(), at_most(10), second.clone()]);
            assert_eq!(watch.node.state(), Healthy, "{first:?}, {second:?}");
            assert_eq!(watch.then(second), Unreachable);
        }
    }

    #[test]
    fn a_good_probe_long_ago_does_not_count_for_the_next_return() {
        let mut watch = after([at_most(1001), at_most(10), at_most(10), at_most(1001), at_most(10)]);
        assert_eq!(watch.node.state(), Lagging);
        assert_eq!(watch.then(at_most(10)), Healthy);
    }

    #[test]
    fn a_review_of_an_answer_is_no_other_answer() {
        let mut watch = after([at_most(10), timeout()]);
        watch.node.observe(&watch.policy, watch.now, deposed());
        assert_eq!(watch.node.state(), Refused);
        assert_eq!(watch.then(timeout()), Unreachable);
        watch.node.observe(&watch.policy, watch.now, deposed());
        assert!(!watch.node.answers());
    }

    #[test]
    fn the_counts_are_those_of_the_policy() {
        let policy = HealthPolicy { probes_to_recover: 3, timeouts_to_unreachable: 4, ..Default::default() };
        let mut watch = after_with(policy, [at_most(10), timeout(), timed_out(2)]);
        assert_eq!(watch.node.state(), Healthy);
        let states = [timeout(), at_most(10), at_most(10), at_most(10)].map(|probe| watch.then(probe));
        assert_eq!(states, [Unreachable, Unreachable, Unreachable, Healthy]);
        watch.policy.probes_to_recover = 1;
        watch.policy.timeouts_to_unreachable = 1;
        let states = [timeout(), at_most(10)].map(|probe| watch.then(probe));
        assert_eq!(states, [Unreachable, Healthy]);
    }

    #[test]
    fn unverified_lag_has_a_policy_of_its_own() {
        use UnverifiedLag::*;
        const STATES: [HealthState; 4] = [Unproven, Healthy, Lagging, Unreachable];
        for (policy, expected) in [
            (Keep, [Unproven, Healthy, Lagging, Lagging]),
            (Exclude, [Unproven, Lagging, Lagging, Lagging]),
            (Serve, [Healthy, Healthy, Lagging, Healthy]),
        ] {
            for unknown in [unobserved(1001), lag(None, false)] {
                for (state, expected) in STATES.into_iter().zip(expected) {
                    let mut watch = in_state(state);
                    watch.policy.unverified_lag = policy;
                    watch.observe(unknown.clone());
                    assert_eq!(watch.then(unknown.clone()), expected, "{policy:?}, {state}");
                    if state != Unreachable || policy == Serve {
                        assert_eq!(watch.node.reason(), &Reason::LagUnverified, "{policy:?}, {state}");
                    }
                }
            }
        }
    }

    #[test]
    fn bytes_are_a_criterion_beside_time() {
        let bytes = |bytes: u64| Lsn::new(0).bytes_behind(Lsn::new(bytes));
        let limits = LagBytes { threshold: bytes(1000), recovery: bytes(500) };
        let policy = HealthPolicy { lag_bytes: Some(limits), ..Default::default() };
        let out =
            |lag: u64| Reason::BehindBytes { lag: bytes(lag), threshold: bytes(1000), recovery: bytes(500) };
        let fresh = |lag| Reason::Fresh { lag: ms(lag) };
        let time = |lag| Reason::Behind { lag: ms(lag), threshold: ms(1000), recovery: ms(500) };
        let mut watch = after_with(policy, []);
        for (probe, state, reason) in [
            (behind(Some(10), 1000, true), Healthy, fresh(10)),
            (behind(Some(20), 1001, true), Lagging, out(1001)),
            (behind(Some(20), 501, true), Lagging, out(501)),
            (behind(Some(20), 500, true), Lagging, time(20)),
            (behind(Some(30), 500, true), Healthy, fresh(30)),
            // Bytes that nobody is known to lack in time speak against nobody.
            (behind(Some(30), 1001, false), Healthy, Reason::LagUnverified),
            // Of two limits that are passed, time is told.
            (behind(Some(1001), 1001, true), Lagging, time(1001)),
            // The worse one decides.
            (behind(Some(501), 500, true), Lagging, time(501)),
            (behind(Some(501), 1001, true), Lagging, out(1001)),
            (behind(Some(501), 501, true), Lagging, time(501)),
            (behind(Some(500), 500, true), Lagging, time(500)),
            (behind(Some(500), 500, true), Healthy, fresh(500)),
            (behind(None, 1, true), Lagging, Reason::LagUnknown),
        ] {
            watch.observe(probe);
            assert_eq!((watch.node.state(), watch.node.reason()), (state, &reason));
        }
        let nobody_says = ProbeOutcome::Standby(Lag::unknown(watch.now));
        let mut watch = after_with(watch.policy.clone(), [behind(Some(10), 1, true), nobody_says]);
        assert_eq!((watch.node.state(), watch.node.reason()), (Healthy, &Reason::LagUnverified));
        assert_eq!(watch.then(behind(None, 1, true)), Lagging);
    }

    #[test]
    fn an_ejection_ends_with_its_time_and_an_answer() {
        let mut watch = ejected();
        assert_eq!(watch.then(at_most(10)), Ejected);
        watch.now += watch.policy.ejection.duration - ms(1);
        assert_eq!(watch.then(at_most(10)), Ejected);
        watch.now += ms(1);
        for no_answer in [timeout(), full()] {
            assert_eq!(watch.then(no_answer), Ejected, "nothing has shown that it is any better");
            assert_eq!(watch.then(at_most(1001)), Lagging, "ejected or not");
            watch.observe(at_most(10));
            assert_eq!(watch.then(at_most(10)), Healthy);
            watch.eject();
            watch.now += watch.policy.ejection.max_duration;
        }
        let told = watch.observe(at_most(10)).expect("it is over");
        assert_eq!((told.from, told.to, told.reason), (Ejected, Healthy, Reason::Fresh { lag: ms(10) }));
    }

    #[test]
    fn an_ejection_outlasts_lag_and_silence() {
        for meanwhile in [vec![at_most(1001)], vec![refused()], vec![timeout(), timeout()], vec![deposed()]] {
            let mut watch = ejected();
            for probe in meanwhile {
                watch.observe(probe);
            }
            assert_ne!(watch.node.state(), Ejected, "the graver matter is told");
            let states = [at_most(10), at_most(10), at_most(10)].map(|probe| watch.then(probe));
            assert_eq!(states[1..], [Ejected, Ejected]);
            assert_eq!(watch.node.reason(), &too_many_failures());
        }
    }

    #[test]
    fn what_a_node_failed_as_a_replica_does_not_count_against_the_primary() {
        assert_eq!(ejected().then(primary()), Healthy);
    }

    #[test]
    fn a_pardon_ends_an_ejection_and_nothing_else() {
        let mut watch = ejected();
        let told = watch.node.pardon(watch.now).expect("it was ejected");
        assert_eq!((told.from, told.to), (Ejected, Healthy));
        for state in [Unproven, Healthy, Lagging, Unreachable, Refused, Draining] {
            let mut watch = in_state(state);
            assert_eq!(watch.node.pardon(watch.now), None);
            assert_eq!(watch.node.state(), state);
        }
    }

    #[test]
    fn only_the_traffic_of_a_node_that_serves_is_judged_and_only_from_its_return_on() {
        let failures = |n: u32| Tally { answered: 0, failed: n.into(), failed_in_a_row: n };
        let mut watch = in_state(Healthy);
        let judge = |watch: &mut Watch, n| watch.node.judge_traffic(&watch.policy, watch.now, failures(n));
        assert_eq!(judge(&mut watch, 100), None, "before it was looked at");
        assert_eq!(judge(&mut watch, 104), None);
        assert_eq!(judge(&mut watch, 105), Some(Reason::FailedInARow { failures: 5 }));
        watch.eject();
        assert_eq!(judge(&mut watch, 200), None);
        watch.node.pardon(watch.now);
        assert_eq!(judge(&mut watch, 205), None);
        watch.observe(refused());
        assert_eq!(judge(&mut watch, 210), None);
        watch.observe(at_most(10));
        watch.observe(at_most(10));
        assert_eq!((watch.node.state(), judge(&mut watch, 210)), (Healthy, None));
        assert!(judge(&mut watch, 215).is_some());
    }

    #[test]
    fn it_is_known_since_when_a_node_is_healthy() {
        let mut watch = after([]);
        assert_eq!(watch.node.healthy_since(), None);
        let start = watch.now;
        watch.observe(at_most(10));
        watch.now += ms(250);
        watch.observe(at_most(10));
        watch.observe(unobserved(1001));
        assert_eq!(watch.node.healthy_since(), Some(start));
        watch.eject();
        assert_eq!(watch.node.healthy_since(), None);
        watch.node.pardon(watch.now);
        assert_eq!(watch.node.healthy_since(), Some(start + ms(250)));
        watch.observe(at_most(1001));
        assert_eq!(watch.node.healthy_since(), None);
    }

    #[test]
    fn what_a_node_said_holds_until_it_is_unreachable() {
        let mut watch = after([at_most(10), timeout()]);
        assert!(watch.node.answers());
        watch.observe(timeout());
        assert!(!watch.node.answers());
        assert!(after([lag(None, true), timeout()]).node.answers(), "one timeout changes nothing");
        assert!(!after([refused(), timeout()]).node.answers());
        assert!(after([refused(), at_most(10), timeout()]).node.answers(), "nor while it is on its way back");
        for state in [Lagging, Refused, Ejected, Draining] {
            assert!(in_state(state).node.answers(), "{state}");
        }
    }

    /// The replicas' probes as the clock and the machine see them together, on virtual time, every 250 ms.
    #[test]
    fn an_outage_of_the_primary_makes_no_replica_lag() {
        let start = Instant::now();
        let (mut clock, mut watch) = (LsnClock::default(), after([]));
        for tick in 0..200u32 {
            let now = start + ms(250) * tick;
            // Ten seconds of writes unseen while the primary is out of our reach alone; the replica follows closely.
            let written = u64::from(tick) * 1000;
            match tick {
                40..80 => clock.missed(),
                _ => clock.sample(now, Lsn::new(written)),
            }
            let replayed = Lsn::new(written.saturating_sub(1));
            let state = watch.then(ProbeOutcome::Standby(clock.lag(replayed, now + ms(2))));
            assert_eq!(state, Healthy, "tick {tick}: {}", watch.node.reason());
        }
    }

    /// What happens to a node.
    #[derive(Debug, Clone)]
    enum Step {
        Probe(ProbeOutcome),
        Eject,
        Pardon,
        Wait(u64),
    }

    fn outcome() -> impl Strategy<Value = ProbeOutcome> {
        prop_oneof![
            8 => (0..1600u64, any::<bool>()).prop_map(|(bound, observed)| lag(Some(bound), observed)),
            1 => any::<bool>().prop_map(|observed| lag(None, observed)),
            1 => Just(primary()),
            1 => Just(deposed()),
            1 => Just(astray()),
            1 => Just(refused()),
            1 => Just(full()),
            2 => Just(timeout()),
        ]
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            12 => outcome().prop_map(Step::Probe),
            1 => Just(Step::Eject),
            1 => Just(Step::Pardon),
            3 => (0..10_000u64).prop_map(Step::Wait),
        ]
    }

    fn bound(outcome: &ProbeOutcome) -> Option<Duration> {
        match outcome {
            ProbeOutcome::Standby(lag) => lag.time(),
            ProbeOutcome::Primary => Some(Duration::ZERO),
            _ => None,
        }
    }

    fn is_good(outcome: &ProbeOutcome) -> bool {
        bound(outcome).is_some_and(|bound| bound <= ms(500))
    }

    proptest! {
        #[test]
        fn invariants_hold_on_random_schedules(steps in prop::collection::vec(step(), 1..120)) {
            let mut watch = Watch::new(HealthPolicy::default());
            let mut known = (Unproven, mem::discriminant(&Reason::NotProbed));
            let mut probes: Vec<ProbeOutcome> = vec![];
            let mut out_until = None;
            for step in steps {
                let before = watch.node.state();
                let transition = match step.clone() {
                    Step::Probe(probe) => {
                        probes.push(probe.clone());
                        watch.observe(probe)
                    }
                    Step::Eject => {
                        let told = watch.eject();
                        out_until = Some(watch.now + watch.policy.ejection.duration);
                        told
                    }
                    Step::Pardon => {
                        out_until = None;
                        watch.node.pardon(watch.now)
                    }
                    Step::Wait(millis) => {
                        watch.now += ms(millis);
                        None
                    }
                };
                let state = watch.node.state();

                // What is told is what is, each change once and none left out.
                let now = (state, mem::discriminant(watch.node.reason()));
                prop_assert_eq!(transition.is_some(), now != known);
                if let Some(transition) = transition {
                    let told = (transition.from, transition.to, &transition.reason);
                    prop_assert_eq!(told, (before, state, watch.node.reason()));
                }
                known = now;
                prop_assert_eq!(watch.node.healthy_since().is_some(), state == Healthy);
                prop_assert!(state != Unproven || before == Unproven, "unproven is a beginning");

                let Step::Probe(probe) = step else {
                    prop_assert!(state == before || matches!((before, state), (Healthy, Ejected) | (Ejected, Healthy)));
                    continue;
                };
                if matches!(probe, ProbeOutcome::Primary) {
                    out_until = None;
                }
                let shown = if state == Ejected { Healthy } else { state };
                let [.., last] = &probes[..] else { unreachable!("one was pushed") };
                let previous = probes.len().checked_sub(2).map(|i| &probes[i]);
                match last {
                    ProbeOutcome::Failed(_) => prop_assert_eq!(state, Unreachable, "refused acts at once"),
                    ProbeOutcome::TimedOut { .. } | ProbeOutcome::Full(_) => {
                        let silent = |probe: &&ProbeOutcome| {
                            matches!(probe, ProbeOutcome::TimedOut { .. } | ProbeOutcome::Full(_))
                        };
                        let in_a_row = previous.filter(silent).is_some();
                        prop_assert_eq!(state, if in_a_row { Unreachable } else { before });
                    }
                    ProbeOutcome::Refused(_) => prop_assert_eq!(state, Refused),
                    ProbeOutcome::Astray(_) => prop_assert!(matches!(state, Unproven | Lagging)),
                    ProbeOutcome::Standby(lag) => {
                        if lag.lacks_newer() && lag.time().is_none_or(|time| time > ms(1000)) {
                            prop_assert_ne!(shown, Healthy, "serving with lag over the threshold");
                        }
                    }
                    ProbeOutcome::Primary => prop_assert_eq!(state, Healthy),
                }

                // Nobody serves before the time of its ejection is over.
                if state == Healthy {
                    prop_assert!(out_until.is_none_or(|until| watch.now >= until));
                }
                // Nobody starts to serve without proof, and nobody returns on less than two good probes in a row.
                if shown == Healthy && !matches!(before, Healthy | Ejected) {
                    prop_assert!(bound(last).is_some_and(|bound| bound <= ms(1000)));
                    if before != Unproven && !matches!(last, ProbeOutcome::Primary) {
                        prop_assert!(is_good(last) && previous.is_some_and(is_good));
                    }
                }
                // Hysteresis works one way only: two good probes are enough, whatever came before.
                if is_good(last) && previous.is_some_and(is_good) {
                    prop_assert_eq!(shown, Healthy);
                }
                // A replica that serves leaves only for a cause.
                if before == Healthy && state != Healthy {
                    prop_assert!(bound(last).is_none_or(|bound| bound > ms(1000)));
                }
            }
        }
    }
}
