//! Whether a node may serve, and why.
//!
//! Everything here is a pure function of what probes have seen: the lag clock turns log positions into an upper bound of
//! a replica's lag, the state machine turns one probe's outcome after the other into a [`HealthState`] and its [`Reason`].

mod lag;
mod machine;
mod outlier;
mod policy;

pub use lag::Lag;
pub(crate) use lag::LsnClock;
pub(crate) use machine::{NodeHealth, ProbeOutcome, Transition};
pub use policy::{Ejection, UnverifiedLag};
pub(crate) use policy::{HealthPolicy, LagBytes};

use crate::lsn::WalBytes;
use std::{fmt, sync::Arc, time::Duration};

/// The health of a node, as far as routing is concerned: only a [`Healthy`](Self::Healthy) replica serves reads, unless the
/// settings keep some [`Lagging`](Self::Lagging) ones in service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HealthState {
    /// No probe has shown yet that it can serve.
    Unproven,
    /// Serves.
    Healthy,
    /// A replica that answers but is too far behind the primary, or may be.
    Lagging,
    /// Does not answer.
    Unreachable,
    /// Answers, but fails too much of the work sent to it: out for a while.
    Ejected,
    /// Is being removed: takes no new work, and ends what it has.
    Draining,
    /// Answers, but must not serve: of another cluster, a second entry of one server, or writable without being the primary.
    Refused,
}

impl HealthState {
    #[cfg(feature = "metrics")]
    pub(crate) const ALL: [Self; 7] = [
        Self::Unproven,
        Self::Healthy,
        Self::Lagging,
        Self::Unreachable,
        Self::Ejected,
        Self::Draining,
        Self::Refused,
    ];
}

impl fmt::Display for HealthState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unproven => "unproven",
            Self::Healthy => "healthy",
            Self::Lagging => "lagging",
            Self::Unreachable => "unreachable",
            Self::Ejected => "ejected",
            Self::Draining => "draining",
            Self::Refused => "refused",
        })
    }
}

/// Why a node is in its [`HealthState`], for people to read: `Display` is one line without a final stop.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Reason {
    /// No probe has ended yet, or nothing shows yet which cluster this is.
    NotProbed,
    /// It is the primary, and answers.
    Writable,
    /// The replica's lag is within the threshold.
    Fresh {
        /// The upper bound of the lag.
        lag: Duration,
    },
    /// The replica's lag is over the threshold, or has been and is not yet down for good.
    Behind {
        /// The upper bound of the lag.
        lag: Duration,
        /// Over this lag a replica leaves.
        threshold: Duration,
        /// At this lag or below, probe after probe, it returns.
        recovery: Duration,
    },
    /// The same, counted in bytes of log.
    BehindBytes {
        /// How much log it has yet to replay.
        lag: WalBytes,
        /// Over this lag a replica leaves.
        threshold: WalBytes,
        /// At this lag or below, probe after probe, it returns.
        recovery: WalBytes,
    },
    /// The replica has not replayed even the oldest known position of the primary.
    LagUnknown,
    /// Nobody can tell the lag: the primary does not answer, or the replica does not say how far it has replayed.
    LagUnverified,
    /// The standby is not known to follow the primary's timeline.
    OtherTimeline {
        /// The newest timeline that it is known to have followed.
        follows: u32,
        /// The primary's.
        primary: u32,
    },
    /// The probe failed; the text says how.
    Failed(Arc<str>),
    /// Probes in a row ended without an answer.
    TimedOut {
        /// How many, so far.
        probes: u32,
        /// How long each was waited for.
        after: Duration,
    },
    /// Calls in a row failed, none answered in between.
    FailedInARow {
        /// How many.
        failures: u32,
    },
    /// Too many of its calls failed.
    ErrorRatio {
        /// How many failed.
        failed: u64,
        /// Of how many.
        calls: u64,
    },
    /// It is being removed.
    Removed,
    /// A server of another cluster: its system identifier is not that of the primary.
    ForeignCluster {
        /// Its system identifier.
        system: u64,
        /// The primary's.
        expected: u64,
    },
    /// The same server as another entry.
    Duplicate {
        /// The name of that entry.
        of: Arc<str>,
    },
    /// Writable, on an older timeline than the primary: it was deposed, and may hold writes that nobody else has.
    Deposed {
        /// Its own timeline.
        timeline: u32,
        /// The primary's.
        primary: u32,
    },
    /// Writable like another node, on the same timeline: nobody can tell which is the primary.
    SplitBrain {
        /// The timeline of both.
        timeline: u32,
    },
    /// Nothing shows that it belongs to the cluster: the configured primary has never answered, and the others that answer do not
    /// confirm it. A standby is refused for this only where others belong to another cluster.
    Unconfirmed,
}

#[cfg(feature = "metrics")]
impl Reason {
    /// Every [`kind`](Self::kind).
    pub(crate) const KINDS: [&str; 18] = [
        "not_probed",
        "writable",
        "fresh",
        "behind",
        "behind_bytes",
        "lag_unknown",
        "lag_unverified",
        "other_timeline",
        "failed",
        "timed_out",
        "failed_in_a_row",
        "error_ratio",
        "removed",
        "foreign_cluster",
        "duplicate",
        "deposed",
        "split_brain",
        "unconfirmed",
    ];

    /// What it is without its numbers.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::NotProbed => "not_probed",
            Self::Writable => "writable",
            Self::Fresh { .. } => "fresh",
            Self::Behind { .. } => "behind",
            Self::BehindBytes { .. } => "behind_bytes",
            Self::LagUnknown => "lag_unknown",
            Self::LagUnverified => "lag_unverified",
            Self::OtherTimeline { .. } => "other_timeline",
            Self::Failed(_) => "failed",
            Self::TimedOut { .. } => "timed_out",
            Self::FailedInARow { .. } => "failed_in_a_row",
            Self::ErrorRatio { .. } => "error_ratio",
            Self::Removed => "removed",
            Self::ForeignCluster { .. } => "foreign_cluster",
            Self::Duplicate { .. } => "duplicate",
            Self::Deposed { .. } => "deposed",
            Self::SplitBrain { .. } => "split_brain",
            Self::Unconfirmed => "unconfirmed",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotProbed => f.write_str("nothing is known yet that it could be judged by"),
            Self::Writable => f.write_str("answers and is writable"),
            Self::Fresh { lag } => write!(f, "lag of at most {}", Millis(*lag)),
            Self::Behind { lag, threshold, recovery } => {
                behind(f, Millis(*lag), lag > threshold, Millis(*threshold), lag > recovery, Millis(*recovery))
            }
            Self::BehindBytes { lag, threshold, recovery } => {
                behind(f, lag, lag > threshold, threshold, lag > recovery, recovery)
            }
            Self::LagUnknown => {
                f.write_str("lag unknown: behind every position sampled from the primary so far")
            }
            Self::LagUnverified => f.write_str("primary unobserved: lag unverified"),
            Self::OtherTimeline { follows, primary } if follows < primary => write!(
                f,
                "not known to follow the primary to timeline {primary}: seen on {follows} so far"
            ),
            Self::OtherTimeline { follows, primary } => {
                write!(f, "follows timeline {follows}, on which no known node is the primary: that is on {primary}")
            }
            Self::Failed(how) => f.write_str(how),
            Self::TimedOut { probes: 1, after } => write!(f, "1 probe timed out after {}", Millis(*after)),
            Self::TimedOut { probes, after } => {
                write!(f, "{probes} probes timed out after {}", Millis(*after))
            }
            Self::FailedInARow { failures } => write!(f, "failed {failures} calls in a row"),
            Self::ErrorRatio { failed, calls } => write!(f, "failed {failed} of {calls} calls"),
            Self::Removed => f.write_str("being removed"),
            Self::ForeignCluster { system, expected } => {
                write!(f, "of another cluster: its system identifier is {system}, the primary's {expected}")
            }
            Self::Duplicate { of } => write!(f, "the same server as `{of}`"),
            Self::Deposed { timeline, primary } => {
                write!(f, "writable, but on timeline {timeline} while the primary is on {primary}")
            }
            Self::SplitBrain { timeline } => {
                write!(f, "split brain: not the only writable node on timeline {timeline}")
            }
            Self::Unconfirmed => f.write_str(
                "nothing shows that it is of this cluster: the configured primary has never answered, and others do not confirm it",
            ),
        }
    }
}

/// A lag that keeps a replica out.
fn behind(
    f: &mut fmt::Formatter<'_>,
    lag: impl fmt::Display,
    over: bool,
    threshold: impl fmt::Display,
    above: bool,
    recovery: impl fmt::Display,
) -> fmt::Result {
    if over {
        write!(f, "lag of at most {lag} is over the threshold of {threshold}")
    } else if above {
        write!(f, "lag of at most {lag} is not yet down to {recovery}")
    } else {
        write!(f, "lag of at most {lag} is to be confirmed by the next probe")
    }
}

/// A duration in whole milliseconds, rounded up: a bound must not look smaller than it is.
pub(crate) struct Millis(pub(crate) Duration);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.0.as_nanos().div_ceil(1_000_000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lsn::Lsn;

    #[test]
    fn the_other_limits_of_lag_follow_the_threshold() {
        let policy = HealthPolicy::with_lag_threshold(Duration::from_secs(3));
        assert_eq!(policy.lag_recovery, Duration::from_millis(1500));
        assert_eq!(policy.lag_hard_limit, Duration::from_secs(30));
    }

    #[test]
    fn reasons_read_well() {
        let ms = Duration::from_millis;
        let bytes = |bytes: u64| Lsn::new(0).bytes_behind(Lsn::new(bytes));
        let behind = |lag| Reason::Behind { lag: ms(lag), threshold: ms(1000), recovery: ms(500) };
        let in_bytes =
            |lag| Reason::BehindBytes { lag: bytes(lag), threshold: bytes(1000), recovery: bytes(500) };
        for (reason, text) in [
            (Reason::NotProbed, "nothing is known yet that it could be judged by"),
            (Reason::Writable, "answers and is writable"),
            (Reason::Fresh { lag: Duration::from_micros(1) }, "lag of at most 1 ms"),
            (behind(1340), "lag of at most 1340 ms is over the threshold of 1000 ms"),
            (behind(1000), "lag of at most 1000 ms is not yet down to 500 ms"),
            (behind(500), "lag of at most 500 ms is to be confirmed by the next probe"),
            (in_bytes(1001), "lag of at most 1001 B is over the threshold of 1000 B"),
            (in_bytes(1000), "lag of at most 1000 B is not yet down to 500 B"),
            (in_bytes(501), "lag of at most 501 B is not yet down to 500 B"),
            (in_bytes(500), "lag of at most 500 B is to be confirmed by the next probe"),
            (Reason::LagUnknown, "lag unknown: behind every position sampled from the primary so far"),
            (Reason::LagUnverified, "primary unobserved: lag unverified"),
            (
                Reason::OtherTimeline { follows: 1, primary: 2 },
                "not known to follow the primary to timeline 2: seen on 1 so far",
            ),
            (
                Reason::OtherTimeline { follows: 3, primary: 2 },
                "follows timeline 3, on which no known node is the primary: that is on 2",
            ),
            (Reason::Failed("connection refused".into()), "connection refused"),
            (Reason::TimedOut { probes: 1, after: ms(500) }, "1 probe timed out after 500 ms"),
            (Reason::TimedOut { probes: 2, after: ms(500) }, "2 probes timed out after 500 ms"),
            (Reason::FailedInARow { failures: 5 }, "failed 5 calls in a row"),
            (Reason::ErrorRatio { failed: 10, calls: 20 }, "failed 10 of 20 calls"),
            (Reason::Removed, "being removed"),
            (
                Reason::ForeignCluster { system: 8, expected: 7 },
                "of another cluster: its system identifier is 8, the primary's 7",
            ),
            (Reason::Duplicate { of: "db-1:5432".into() }, "the same server as `db-1:5432`"),
            (
                Reason::Deposed { timeline: 1, primary: 2 },
                "writable, but on timeline 1 while the primary is on 2",
            ),
            (Reason::SplitBrain { timeline: 2 }, "split brain: not the only writable node on timeline 2"),
            (
                Reason::Unconfirmed,
                "nothing shows that it is of this cluster: the configured primary has never answered, and others do not confirm it",
            ),
        ] {
            assert_eq!(reason.to_string(), text);
        }
    }
}
