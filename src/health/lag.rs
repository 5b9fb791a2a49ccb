//! The LSN clock: how far a replica is behind, without synchronised clocks.
//!
//! What PostgreSQL offers directly misleads: the age of the last replayed transaction grows for ever while the primary is
//! idle, and "received equals replayed" says zero while the replica is cut off. So the primary's log position is sampled,
//! each sample with the local instant *before* it was asked for. Everything committed before that instant lies at or below
//! the sampled position. A replica that has replayed up to it therefore holds everything committed before that instant, and
//! its lag is at most the time since.
//!
//! The bound is as fine as the sampling. While the primary does not answer it grows although nothing may have been written,
//! and right after such a gap it still spans the gap; so each [`Lag`] also says whether a high bound means anything.
//!
//! One limit: with `synchronous_commit = off` a commit is acknowledged before it is written to the log, and until then (some
//! three times the server's `wal_writer_delay`) no position that can be asked for covers it.

use crate::lsn::{Lsn, WalBytes};
use std::{fmt, time::Duration};
use tokio::time::Instant;

/// How far a replica was behind the primary when it was last asked: an upper bound, or unknown. Unknown is not zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lag {
    answered_at: Instant,
    as_of: Option<Instant>,
    bytes: Option<WalBytes>,
    lacks_newer: bool,
}

impl Lag {
    /// Nothing is known about a replica that was asked at this instant.
    pub(crate) const fn unknown(answered_at: Instant) -> Self {
        Self { answered_at, as_of: None, bytes: None, lacks_newer: false }
    }

    /// What the server said of itself at some time between the two.
    pub(crate) fn reported(asked_at: Instant, answered_at: Instant, lag: Duration) -> Self {
        Self { answered_at, as_of: asked_at.checked_sub(lag), bytes: None, lacks_newer: !lag.is_zero() }
    }

    /// The most that the replica was behind in time when it answered.
    pub fn time(&self) -> Option<Duration> {
        // A sample may have been sent after the replica answered: then it was not behind at all.
        self.as_of.map(|as_of| self.answered_at.saturating_duration_since(as_of))
    }

    /// The same for a replica that is known to be behind by this.
    pub(crate) fn at_least(self, behind: Duration) -> Self {
        let as_of = self.as_of.and_then(|as_of| Some(as_of.min(self.answered_at.checked_sub(behind)?)));
        Self { as_of, ..self }
    }

    /// How much log lay between what the replica had replayed and the newest position known of the primary.
    pub fn bytes(&self) -> Option<WalBytes> {
        self.bytes
    }

    #[cfg(feature = "testing")]
    pub(crate) fn answered_at(&self) -> Instant {
        self.answered_at
    }

    /// The replica holds everything that was committed before this instant: the time since is the bound at any later moment.
    pub(crate) fn as_of(&self) -> Option<Instant> {
        self.as_of
    }

    /// Whether there is something newer on the primary that the replica is known to lack. If not, because the primary is
    /// not being sampled or because the replica has all that the newest sample covers, a high bound or none says nothing
    /// against the replica; a low bound is a bound all the same.
    pub(crate) fn lacks_newer(&self) -> bool {
        self.lacks_newer
    }
}

impl fmt::Display for Lag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.time() {
            Some(time) => write!(f, "at most {}", super::Millis(time))?,
            None => f.write_str("unknown")?,
        }
        match self.bytes {
            Some(bytes) => write!(f, ", {bytes}"),
            None => Ok(()),
        }
    }
}

/// The primary's positions over time.
#[derive(Debug, Clone, Default)]
pub(crate) struct LsnClock {
    /// Rising in both instant and position.
    samples: Vec<Sample>,
    contact: Contact,
}

/// Whether the primary answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Contact {
    #[default]
    Lost,
    /// It has answered once since it did not: bounds may still span the gap.
    Resumed,
    Steady,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    sent_at: Instant,
    lsn: Lsn,
}

impl LsnClock {
    const CAPACITY: usize = 256;

    /// Records that the primary, asked at `sent_at` or later, was at `lsn`.
    ///
    /// A position below the last one means another primary, on another history: all that was known is forgotten.
    pub(crate) fn sample(&mut self, sent_at: Instant, lsn: Lsn) {
        let sample = Sample { sent_at, lsn };
        let spans_a_gap = self.contact == Contact::Lost && !self.samples.is_empty();
        self.contact = if spans_a_gap { Contact::Resumed } else { Contact::Steady };
        match self.samples.last_mut() {
            // Answers that overtook each other: the newer one already says more.
            Some(last) if sent_at < last.sent_at => {}
            Some(last) if lsn == last.lsn => last.sent_at = sent_at,
            Some(last) if lsn < last.lsn => self.samples = vec![sample],
            _ => {
                if self.samples.len() == Self::CAPACITY {
                    self.thin_out(sent_at);
                }
                self.samples.push(sample);
            }
        }
    }

    /// Records that the primary was asked and did not answer.
    pub(crate) fn missed(&mut self) {
        self.contact = Contact::Lost;
    }

    /// How far a replica is behind that answered at `answered_at` to have replayed up to `replayed`.
    pub(crate) fn lag(&self, replayed: Lsn, answered_at: Instant) -> Lag {
        let reached = self.samples.partition_point(|sample| sample.lsn <= replayed);
        Lag {
            answered_at,
            as_of: self.samples[..reached].last().map(|sample| sample.sent_at),
            bytes: self.samples.last().map(|newest| replayed.bytes_behind(newest.lsn)),
            lacks_newer: self.contact == Contact::Steady && reached < self.samples.len(),
        }
    }

    /// Drops the one sample that is missed least.
    ///
    /// Without a sample, replicas between it and the next one fall back on the sample before: their bound rises, which
    /// keeps it a bound. It rises by a factor of at most the ages of the two neighbours, so the sample with the smallest
    /// factor goes. That spaces samples in proportion to their age, and the oldest one always stays: a replica paused for
    /// hours still has a bound, about a tenth too high at worst.
    fn thin_out(&mut self, now: Instant) {
        let age = |sample: &Sample| now.saturating_duration_since(sample.sent_at).as_secs_f64();
        let factors = self.samples.windows(3).map(|around| age(&around[0]) / age(&around[2]));
        let least = factors.enumerate().min_by(|(_, a), (_, b)| a.total_cmp(b));
        if let Some((before, _)) = least {
            self.samples.remove(before + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TICK: Duration = Duration::from_millis(250);

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_replica_that_is_known_to_be_behind_is_at_least_that() {
        let answered_at = Instant::now() + Duration::from_secs(10);
        let lag = Lag { as_of: Some(answered_at - Duration::from_secs(2)), ..Lag::unknown(answered_at) };
        let time = |behind| lag.at_least(Duration::from_secs(behind)).time();
        assert_eq!((time(1), time(5)), (Some(Duration::from_secs(2)), Some(Duration::from_secs(5))));
        assert_eq!(lag.at_least(Duration::MAX).time(), None);
        assert_eq!(Lag::unknown(answered_at).at_least(Duration::ZERO).time(), None);
    }

    #[test]
    fn nothing_sampled_is_unknown_and_not_zero() {
        let now = Instant::now();
        assert_eq!(LsnClock::default().lag(Lsn::new(7), now), Lag::unknown(now));
        assert_eq!(Lag::unknown(now).time(), None);
        assert_eq!(Lag::unknown(now).to_string(), "unknown");
    }

    #[test]
    fn behind_every_sample_the_time_is_unknown_and_the_bytes_are_known() {
        let now = Instant::now();
        let mut clock = LsnClock::default();
        clock.sample(now, Lsn::new(3000));
        let lag = clock.lag(Lsn::new(952), now + ms(1));
        assert_eq!((lag.time(), lag.bytes().map(WalBytes::get)), (None, Some(2048)));
        assert_eq!(lag.to_string(), "unknown, 2.0 KiB");
    }

    #[test]
    fn the_bound_counts_from_the_latest_sample_replayed() {
        let start = Instant::now();
        let mut clock = LsnClock::default();
        for step in 0..4 {
            clock.sample(start + TICK * step, Lsn::new(100 * u64::from(step)));
        }
        let lag = clock.lag(Lsn::new(199), start + ms(1000));
        assert_eq!(lag.as_of(), Some(start + TICK));
        assert_eq!(lag.to_string(), "at most 750 ms, 101 B");
    }

    #[test]
    fn an_idle_primary_makes_nobody_lag() {
        let start = Instant::now();
        let mut clock = LsnClock::default();
        for step in 0..10_000 {
            let sent_at = start + TICK * step;
            clock.sample(sent_at, Lsn::new(42));
            assert_eq!(clock.lag(Lsn::new(42), sent_at + ms(2)).time(), Some(ms(2)));
        }
        assert_eq!(clock.samples.len(), 1);
    }

    #[test]
    fn a_paused_replica_of_a_writing_primary_falls_behind_steadily() {
        let start = Instant::now();
        let mut clock = LsnClock::default();
        let mut before = Duration::ZERO;
        for step in 0..20_000 {
            let now = start + TICK * step;
            clock.sample(now, Lsn::new(u64::from(step)));
            let lag = clock.lag(Lsn::new(0), now).time().expect("the oldest sample stays");
            assert_eq!(lag, TICK * step);
            assert!(step == 0 || lag > before);
            before = lag;
        }
    }

    #[test]
    fn thinning_out_keeps_the_bound_close_for_hours_and_exact_near_the_threshold() {
        let start = Instant::now();
        let mut clock = LsnClock::default();
        let steps = 6 * 3600 * 4;
        for step in 0..=steps {
            clock.sample(start + TICK * step, Lsn::new(u64::from(step)));
        }
        assert_eq!(clock.samples.len(), LsnClock::CAPACITY);
        let now = start + TICK * steps;
        for behind in 0..=steps {
            let exact = TICK * behind;
            let bound =
                clock.lag(Lsn::new(u64::from(steps - behind)), now).time().expect("the oldest sample stays");
            assert!(bound >= exact);
            let allowed = if exact <= ms(5000) { exact } else { exact.mul_f64(1.12) };
            assert!(bound <= allowed, "{bound:?} for {exact:?}");
        }
    }

    #[test]
    fn a_position_going_backwards_forgets_the_old_history() {
        let start = Instant::now();
        let mut clock = LsnClock::default();
        clock.sample(start, Lsn::new(100));
        clock.sample(start + ms(250), Lsn::new(900));
        clock.sample(start + ms(500), Lsn::new(500));
        assert_eq!(clock.lag(Lsn::new(100), start + ms(600)).time(), None);
        assert_eq!(clock.lag(Lsn::new(500), start + ms(600)).time(), Some(ms(100)));
    }

    #[test]
    fn an_answer_that_was_overtaken_changes_nothing() {
        let start = Instant::now();
        let mut clock = LsnClock::default();
        clock.sample(start, Lsn::new(100));
        clock.sample(start + ms(500), Lsn::new(300));
        clock.sample(start + ms(250), Lsn::new(200));
        assert_eq!(clock.lag(Lsn::new(250), start + ms(500)).as_of(), Some(start));
        assert_eq!(clock.lag(Lsn::new(300), start + ms(500)).as_of(), Some(start + ms(500)));
    }

    #[test]
    fn a_replica_that_has_all_that_was_sampled_is_not_known_to_lack_anything() {
        let start = Instant::now();
        let mut clock = LsnClock::default();
        clock.sample(start, Lsn::new(100));
        let late = clock.lag(Lsn::new(100), start + ms(5000));
        assert_eq!((late.time(), late.lacks_newer()), (Some(ms(5000)), false));
        assert!(clock.lag(Lsn::new(99), start + ms(5000)).lacks_newer());
    }

    #[test]
    fn contact_is_lost_with_one_missed_sample_and_steady_again_after_two() {
        let start = Instant::now();
        let mut clock = LsnClock::default();
        let observed = |clock: &LsnClock| clock.lag(Lsn::new(99), start).lacks_newer();
        assert!(!observed(&clock));
        clock.sample(start, Lsn::new(100));
        assert!(observed(&clock), "there was no gap before the first sample");
        clock.missed();
        assert!(!observed(&clock));
        clock.sample(start + ms(9000), Lsn::new(200));
        assert!(!observed(&clock), "the bound of a replica between the two samples spans the gap");
        clock.sample(start + ms(9250), Lsn::new(300));
        assert!(observed(&clock));
    }

    /// What can happen in the model; each step takes its `after` milliseconds first.
    #[derive(Debug, Clone, Copy)]
    enum Step {
        Commit {
            after: u64,
            bytes: u64,
        },
        /// The question travels for `travel` before the primary reads its position.
        Sample {
            after: u64,
            travel: u64,
            commit_on_the_way: bool,
        },
        /// Replays this share, in percent, of what is missing.
        Replay {
            after: u64,
            share: u64,
        },
        /// The answer travels for `travel` after the replica has read its position.
        Ask {
            after: u64,
            travel: u64,
        },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0..400u64, 1..5000u64).prop_map(|(after, bytes)| Step::Commit { after, bytes }),
            4 => (0..400u64, 0..100u64, any::<bool>())
                .prop_map(|(after, travel, commit_on_the_way)| Step::Sample { after, travel, commit_on_the_way }),
            2 => (0..400u64, 0..=100u64).prop_map(|(after, share)| Step::Replay { after, share }),
            2 => (0..400u64, 0..100u64).prop_map(|(after, travel)| Step::Ask { after, travel }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Against a model that remembers every commit and every sample.
        #[test]
        fn the_bound_is_never_below_the_true_lag(steps in prop::collection::vec(step(), 1..2500)) {
            let mut now = Instant::now();
            let mut clock = LsnClock::default();
            let mut commits: Vec<(Instant, Lsn)> = vec![];
            let mut samples: Vec<(Instant, Lsn)> = vec![];
            let (mut written, mut replayed) = (1u64, 1u64);
            for step in steps {
                match step {
                    Step::Commit { after, bytes } => {
                        now += ms(after);
                        written += bytes;
                        commits.push((now, Lsn::new(written)));
                    }
                    Step::Sample { after, travel, commit_on_the_way } => {
                        now += ms(after);
                        let sent_at = now;
                        now += ms(travel);
                        if commit_on_the_way {
                            written += 64;
                            commits.push((now, Lsn::new(written)));
                        }
                        clock.sample(sent_at, Lsn::new(written));
                        samples.push((sent_at, Lsn::new(written)));
                    }
                    Step::Replay { after, share } => {
                        now += ms(after);
                        replayed += (written - replayed) * share / 100;
                    }
                    Step::Ask { after, travel } => {
                        now += ms(after);
                        let position = Lsn::new(replayed);
                        let missing = commits.iter().find(|(_, lsn)| *lsn > position);
                        let true_lag = missing.map_or(Duration::ZERO, |(at, _)| now - *at);
                        now += ms(travel);
                        let lag = clock.lag(position, now);

                        let best = samples.iter().rfind(|(_, lsn)| *lsn <= position).map(|(at, _)| now - *at);
                        prop_assert_eq!(lag.time().is_some(), best.is_some(), "known exactly when it can be");
                        if let (Some(bound), Some(best)) = (lag.time(), best) {
                            prop_assert!(bound >= true_lag, "{:?} < {:?}", bound, true_lag);
                            prop_assert!(bound >= best);
                            if clock.samples.len() < LsnClock::CAPACITY {
                                prop_assert_eq!(bound, best, "nothing is lost before the history is full");
                            }
                        }
                        let behind = samples.last().map(|(_, lsn)| position.bytes_behind(*lsn));
                        prop_assert_eq!(lag.bytes(), behind);
                    }
                }
                prop_assert!(clock.samples.len() <= LsnClock::CAPACITY);
                prop_assert!(clock.samples.is_sorted_by(|a, b| a.sent_at <= b.sent_at && a.lsn < b.lsn));
            }
        }
    }
}
