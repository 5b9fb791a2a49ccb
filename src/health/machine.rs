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

    /// When the node last became healthy, if it is.
    pub(crate) fn healthy_since(&self) -> Option<Instant> {
        self.since.filter(|_| self.state() == HealthState::Healthy)
    }

    /// Whether what the node said last still holds.
    pub(crate) fn answers(&self) -> bool {
        self.state != HealthState::Unreachable
    }

    /// Takes in one probe. Tells of a change once: a reason of the same kind with other figures is none.
    pub(crate) fn observe(
        &mut self,
        policy: &HealthPolicy,
        now: Instant,
        outcome: ProbeOutcome,
    ) -> Option<Transition> {
        self.changing(now, |this| {
            let timeouts = mem::take(&mut this.timeouts);
            // Time alone shows nothing: an ejection ends with an answer. What a node failed as a replica is over when it is promoted.
            let over = match outcome {
                ProbeOutcome::Primary => true,
                ProbeOutcome::Standby(_) => this.ejected.as_ref().is_some_and(|ejected| now >= ejected.until),
                _ => false,
            };
            match outcome {
                ProbeOutcome::Primary => this.good(policy, Reason::Writable),
                ProbeOutcome::Standby(lag) => this.standby(policy, lag),
                ProbeOutcome::Astray(reason) => match this.state {
                    HealthState::Unproven => this.set(HealthState::Unproven, reason),
                    _ => this.set(HealthState::Lagging, reason),
                },
                ProbeOutcome::Refused(reason) => this.set(HealthState::Refused, reason),
                ProbeOutcome::Failed(how) => this.set(HealthState::Unreachable, Reason::Failed(how)),
                ProbeOutcome::TimedOut { probes, after } => {
                    this.timeouts = timeouts.saturating_add(probes);
                    let probes = this.timeouts;
                    this.unanswered(policy, Reason::TimedOut { probes, after });
                }
                ProbeOutcome::Full(how) => {
                    this.timeouts = timeouts.saturating_add(1);
                    this.unanswered(policy, Reason::Failed(how));
                }
            }
            if over && this.state == HealthState::Healthy {
                this.readmit(now);
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
