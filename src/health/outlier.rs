//! Outlier ejection: a node that answers its probes and yet fails the work sent to it.

use super::{Ejection, Reason};
use crate::traffic::Tally;
use std::collections::VecDeque;
use tokio::time::Instant;

/// Tallies are remembered at least this part of the window apart, but for the latest: a storm of failures, each of which may have the
/// node judged, must not fill the memory.
const SPACING: u32 = 64;

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
        // The latest one gives way to this one if it is all too near to the one before it.
        let mut backwards = self.tallies.iter().rev().map(|(at, _)| *at);
        if let (Some(latest), Some(before)) = (backwards.next(), backwards.next())
            && latest.saturating_duration_since(before) < policy.window / SPACING
        {
            self.tallies.pop_back();
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn tally(answered: u64, failed: u64, failed_in_a_row: u32) -> Tally {
        Tally { answered, failed, failed_in_a_row }
    }

    /// What is said of the last one of these tallies, a second apart.
    fn judge_all(policy: &Ejection, tallies: &[Tally]) -> Option<Reason> {
        let (mut outlier, mut now, mut said) = (Outlier::default(), Instant::now(), None);
        for tally in tallies {
            said = outlier.judge(policy, now, *tally);
            now += s(1);
        }
        said
    }

    #[test]
    fn failures_eject_in_a_row_or_by_their_share() {
        let in_a_row = |failures| Some(Reason::FailedInARow { failures });
        let ratio = |failed, calls| Some(Reason::ErrorRatio { failed, calls });
        let start = tally(1000, 1000, 3);
        for (name, tallies, said) in [
            ("nothing yet", vec![], None),
            ("nothing since", vec![start, start], None),
            ("four in a row", vec![start, tally(1000, 1004, 7)], None),
            ("five in a row", vec![start, tally(1000, 1005, 8)], in_a_row(5)),
            (
                "five in a row, bit by bit",
                vec![start, tally(1000, 1002, 5), tally(1000, 1005, 8)],
                in_a_row(5),
            ),
            ("five, one answered in between", vec![start, tally(1001, 1005, 4)], None),
            ("nine of nineteen calls too few", vec![start, tally(1009, 1010, 1)], None),
            ("half of enough calls", vec![start, tally(1010, 1010, 1)], ratio(10, 20)),
            ("less than half", vec![start, tally(1011, 1010, 1)], None),
            ("none failed", vec![start, tally(2000, 1000, 0)], None),
        ] {
            assert_eq!(judge_all(&Ejection::default(), &tallies), said, "{name}");
        }
        let any = Ejection::default().error_ratio(0.0).min_samples(1);
        assert_eq!(
            judge_all(&any, &[start, tally(1100, 1000, 0)]),
            None,
            "a node that fails nothing is none"
        );
        assert_eq!(judge_all(&any, &[start, tally(1100, 1001, 1)]), ratio(1, 101));
        let strict = Ejection::default().consecutive_failures(1);
        assert_eq!(judge_all(&strict, &[start, tally(1100, 1001, 1)]), in_a_row(1));
    }

    #[test]
    fn what_is_older_than_the_window_does_not_count() {
        let policy = Ejection::default().consecutive_failures(1000).window(s(7));
        let all = Some(Reason::ErrorRatio { failed: 20, calls: 20 });
        for (after, said) in [(0, all.clone()), (7, all), (8, None)] {
            let (mut outlier, start) = (Outlier::default(), Instant::now());
            outlier.judge(&policy, start, tally(0, 0, 0));
            outlier.judge(&policy, start, tally(0, 19, 19));
            assert_eq!(outlier.judge(&policy, start + s(after), tally(0, 20, 20)), said, "{after} s later");
        }
    }

    #[test]
    fn only_the_window_is_remembered() {
        let (mut outlier, start) = (Outlier::default(), Instant::now());
        for second in 0..100 {
            outlier.judge(&Ejection::default(), start + s(second), tally(second, 0, 0));
        }
        assert_eq!(outlier.tallies.len(), 12);
    }

    #[test]
    fn a_storm_of_failures_does_not_fill_the_memory() {
        let policy = Ejection::default().consecutive_failures(100_000);
        let (mut outlier, start) = (Outlier::default(), Instant::now());
        for ms in 0..30_000 {
            let now = start + Duration::from_millis(ms);
            let said = outlier.judge(&policy, now, tally(2 * ms, ms, 1));
            assert_eq!(said, None, "a third of the calls, after {ms} ms");
        }
        assert!(outlier.tallies.len() <= 66, "{}", outlier.tallies.len());
        let worse = tally(60_000, 60_000, 30_000);
        let said = outlier.judge(&policy, start + s(30), worse);
        assert!(matches!(said, Some(Reason::ErrorRatio { .. })), "each tally counts at once: {said:?}");
    }

    #[test]
    fn ejections_grow_up_to_a_limit_and_are_forgotten_after_a_long_good_time() {
        let policy = Ejection::default().duration(s(4)).max_duration(s(12));
        let (mut outlier, mut now) = (Outlier::default(), Instant::now());
        for (good_for, lasts) in [(0, 4), (0, 8), (11, 12), (11, 12), (12, 4), (0, 8), (1000, 4)] {
            now += s(good_for);
            let until = outlier.eject(&policy, now);
            assert_eq!(until, now + s(lasts), "after {good_for} good seconds");
            now = until;
            outlier.readmit(now);
        }
    }
}
