//! Outlier ejection: a node that answers its probes and yet fails the work sent to it.

use super::{Ejection, Reason};
use crate::traffic::Tally;
use std::collections::VecDeque;
use tokio::time::Instant;

/// Judges one node by the tallies of its traffic, and remembers how often it has been ejected.
#[derive(Debug, Clone, Default)]
pub(super) struct Outlier {
    /// Tallies within the window, the oldest first, since the node began to serve.
    tallies: VecDeque<(Instant, Tally)>,
    /// Ejections in a row, without a long good time in between.
    ejections: u32,
    /// The end of the last one.
    ended: Option<Instant>,
}

impl Outlier {
    /// What happened before the node began to serve, or while it was out, does not count.
    pub(super) fn restart(&mut self) {
        self.tallies.clear();
    }

    /// Takes in the tally at this moment, and says why the node should be ejected if it should be.
    pub(super) fn judge(&mut self, policy: &Ejection, now: Instant, tally: Tally) -> Option<Reason> {
        let expired = |at: Instant| now.saturating_duration_since(at) > policy.window;
        // The last one before the window is where the window's counts begin.
        while self.tallies.get(1).is_some_and(|(at, _)| expired(*at)) {
            self.tallies.pop_front();
        }
        let (_, first) = *self.tallies.front().unwrap_or(&(now, tally));
        self.tallies.push_back((now, tally));

        let answered = tally.answered - first.answered;
        let failed = tally.failed - first.failed;
        let failures = failed.min(tally.failed_in_a_row.into()) as u32;
        if failures >= policy.consecutive_failures {
            return Some(Reason::FailedInARow { failures });
        }
        let calls = answered + failed;
        let too_many = failed as f64 >= policy.error_ratio * calls as f64;
        (failed > 0 && calls >= policy.min_samples.into() && too_many)
            .then_some(Reason::ErrorRatio { failed, calls })
    }

    /// The node is ejected from now on: until when?
    pub(super) fn eject(&mut self, policy: &Ejection, now: Instant) -> Instant {
        let good_for = self.ended.map(|ended| now.saturating_duration_since(ended));
        if good_for.is_some_and(|good_for| good_for >= policy.max_duration) {
            self.ejections = 0;
        }
        self.ejections = self.ejections.saturating_add(1);
        now + policy.duration.saturating_mul(self.ejections).min(policy.max_duration)
    }

    pub(super) fn readmit(&mut self, now: Instant) {
        self.ended = Some(now);
        self.restart();
    }
}
