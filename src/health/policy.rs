//! The settings of health.

use crate::lsn::WalBytes;
use std::time::Duration;

/// When a node leaves, and when it comes back.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct HealthPolicy {
    /// A replica whose lag is over this leaves at once.
    pub(crate) lag_threshold: Duration,
    /// A replica that has left returns at this lag or below; never more than the threshold.
    pub(crate) lag_recovery: Duration,
    /// The same two limits in bytes of log, where they are to count as well.
    pub(crate) lag_bytes: Option<LagBytes>,
    pub(crate) unverified_lag: UnverifiedLag,
    /// No replica whose lag is over this serves, whatever else is asked for; never less than the threshold.
    pub(crate) lag_hard_limit: Duration,
    /// Lagging replicas serve, the least lagging first, while fewer than this many do.
    pub(crate) min_replicas: usize,
    /// Good probes in a row that bring a node back.
    pub(crate) probes_to_recover: u32,
    /// Probes in a row without an answer that make a node unreachable.
    pub(crate) timeouts_to_unreachable: u32,
    pub(crate) ejection: Ejection,
}

/// Limits of a replica's lag in bytes of log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LagBytes {
    pub(crate) threshold: WalBytes,
    pub(crate) recovery: WalBytes,
}

/// What becomes of a replica whose lag nobody can tell, because the primary does not answer or because the server does not say
/// how far it has replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum UnverifiedLag {
    /// It goes on serving if it did, and does not begin to. The default: reads survive the loss of the primary, marked as
    /// unverified, and nobody trusts a replica that has never been measured.
    #[default]
    Keep,
    /// It leaves, and reads follow the fallback policy: no read is ever served without a bound of its lag.
    Exclude,
    /// It serves, even if it has never been measured: for servers that do not tell, and for starting without a primary. Until the
    /// configured primary has answered once, a replica that answers alone is taken at its word for which cluster it is of.
    Serve,
}

/// When a replica that fails the work sent to it is taken out for a while: outlier ejection.
///
/// Only what the node itself fails counts: connections refused or lost, a server that shuts down. A full pool, an error of the
/// caller's own making and a cancelled call never do. A replica returns when its time is over and a probe finds it good.
///
/// # Example
///
/// ```
/// use diesel_replicas::Ejection;
/// use std::time::Duration;
///
/// let strict = Ejection::default().consecutive_failures(3).duration(Duration::from_secs(10));
/// # let _ = strict;
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Ejection {
    pub(crate) consecutive_failures: u32,
    pub(crate) error_ratio: f64,
    pub(crate) min_samples: u32,
    pub(crate) window: Duration,
    pub(crate) duration: Duration,
    pub(crate) max_duration: Duration,
    pub(crate) max_share: f64,
}

impl Default for Ejection {
    fn default() -> Self {
        Self {
            consecutive_failures: 5,
            error_ratio: 0.5,
            min_samples: 20,
            window: Duration::from_secs(10),
            duration: Duration::from_secs(5),
            max_duration: Duration::from_secs(60),
            max_share: 0.5,
        }
    }
}

impl Ejection {
    /// Nothing is ever ejected.
    #[must_use]
    pub fn off() -> Self {
        Self { max_share: 0.0, ..Self::default() }
    }

    /// So many failures without an answer in between eject. Default: 5.
    #[must_use]
    pub fn consecutive_failures(mut self, failures: u32) -> Self {
        self.consecutive_failures = failures;
        self
    }

    /// A share of failures, from 0 to 1, at or over which a replica is ejected, once there were enough
    /// [samples](Self::min_samples). Default: 0.5.
    #[must_use]
    pub fn error_ratio(mut self, ratio: f64) -> Self {
        self.error_ratio = ratio;
        self
    }

    /// So many calls within the [window](Self::window) make the ratio count. Default: 20.
    #[must_use]
    pub fn min_samples(mut self, samples: u32) -> Self {
        self.min_samples = samples;
        self
    }

    /// The time over which the ratio is taken. Default: 10 s.
    #[must_use]
    pub fn window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// How long the first ejection lasts; each further one lasts longer by this much. Default: 5 s.
    #[must_use]
    pub fn duration(mut self, duration: Duration) -> Self {
        self.duration = duration;
        self
    }

    /// The longest that an ejection lasts. A replica that serves for this long without another starts afresh. Default: 60 s.
    #[must_use]
    pub fn max_duration(mut self, duration: Duration) -> Self {
        self.max_duration = duration;
        self
    }

    /// The largest share of the replicas, from 0 to 1, that may be ejected at a time, rounded down: with the default of 0.5 one
    /// of two or three, and never the only one.
    #[must_use]
    pub fn max_share(mut self, share: f64) -> Self {
        self.max_share = share;
        self
    }
}

impl HealthPolicy {
    /// The defaults, with this threshold: a replica returns below half of it.
    pub(crate) fn with_lag_threshold(lag_threshold: Duration) -> Self {
        Self {
            lag_threshold,
            lag_recovery: lag_threshold / 2,
            lag_bytes: None,
            unverified_lag: UnverifiedLag::default(),
            lag_hard_limit: lag_threshold * 10,
            min_replicas: 0,
            probes_to_recover: 2,
            timeouts_to_unreachable: 2,
            ejection: Ejection::default(),
        }
    }
}

impl Default for HealthPolicy {
    fn default() -> Self {
        Self::with_lag_threshold(Duration::from_secs(1))
    }
}
