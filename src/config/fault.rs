//! What is wrong with a configuration.

use super::settings;
use std::{borrow::Cow, fmt};

/// The configuration is wrong: every fault in it, not just the first.
///
/// `Display` is one line a fault. No part of a URL and no text that could not be made sense of is repeated, since a
/// password may be in it.
/// `Debug` is the same: `main` shows it so.
#[derive(Clone, PartialEq, Eq)]
pub struct ConfigError {
    faults: Vec<Fault>,
}

impl ConfigError {
    /// The faults, at least one.
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// The one fault is that this text is no value of the setting.
    pub(crate) fn unusable(key: &str, Unusable { problem, wanted }: Unusable) -> Self {
        Self { faults: vec![Fault { key: key.to_owned(), problem: problem.into(), wanted: wanted.into() }] }
    }

    /// The same, of at least one setting.
    pub(crate) fn all_unusable(faults: Vec<(String, Unusable)>) -> Self {
        let faults = faults.into_iter().flat_map(|(key, unusable)| Self::unusable(&key, unusable).faults);
        Self { faults: faults.collect() }
    }
}

impl fmt::Debug for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, fault) in self.faults.iter().enumerate() {
            let line_break = if i == 0 { "" } else { "\n" };
            write!(f, "{line_break}{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// One thing that is wrong. `Display` says which setting, what is wrong with it, and what is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    key: String,
    problem: String,
    wanted: String,
}

impl Fault {
    /// The setting: a variable as in `DB_READ_REPLICA_URLS[1]`, or a setter as in `replica[1].url`, both counted from 0; the
    /// function where there is no setter.
    pub fn key(&self) -> &str {
        &self.key
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; wanted: {}", self.key, self.problem, self.wanted)
    }
}

/// Text that is no value of its setting. It is not repeated: a URL may have ended up in the wrong place.
#[derive(Debug)]
pub(crate) struct Unusable {
    pub(crate) problem: Cow<'static, str>,
    pub(crate) wanted: Cow<'static, str>,
}

impl Unusable {
    pub(crate) fn new(problem: impl Into<Cow<'static, str>>, wanted: impl Into<Cow<'static, str>>) -> Self {
        Self { problem: problem.into(), wanted: wanted.into() }
    }
}

/// What a fault can be about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Primary(Part),
    /// By position.
    Replica(usize, Part),
    Replicas,
    /// A replica on its own.
    Added(Part),
    ReadReplicasEnabled,
    /// By what of it.
    RolloutPart(&'static str),
    Service,
    Discovery,
    DiscoveryInterval,
    PoolSize,
    CheckoutTimeout,
    ConnectTimeout,
    /// By what of it.
    RetryBudgetPart(&'static str),
    LoadBalancing,
    LagThreshold,
    LagRecovery,
    LagThresholdBytes,
    LagRecoveryBytes,
    UnverifiedLag,
    LagHardLimit,
    AlertLagWarning,
    AlertLagCritical,
    AlertUnhealthyAfter,
    MinReplicas,
    Ejection,
    /// By setter.
    EjectionPart(&'static str),
    SlowStart,
    Fallback,
    CausalWait,
    DrainTimeout,
    ProbeInterval,
    ProbeTimeout,
    ProbeBackoff,
    Zone,
    MinZoneReplicas,
    ReadSubset,
    SubsetSeed,
}

/// What of a node a fault is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Url,
    Name,
    Zone,
    PoolSize,
}

impl Part {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Url => "url",
            Self::Name => "name",
            Self::Zone => "zone",
            Self::PoolSize => "pool_size",
        }
    }
}

impl Key {
    /// What it is called in code.
    pub(super) fn setter(self) -> String {
        let setter = match self {
            Self::Primary(of) => return format!("primary.{}", of.name()),
            Self::Replica(i, of) => return format!("replica[{i}].{}", of.name()),
            Self::Added(of) => return format!("replica.{}", of.name()),
            Self::EjectionPart(of) => return format!("ejection.{of}"),
            Self::RolloutPart("shadow_percent") => return "shadow_percent".to_owned(),
            Self::RolloutPart(of) => return format!("read_replicas_{of}"),
            Self::RetryBudgetPart(of) => return format!("retry_budget.{of}"),
            Self::Replicas => "replica",
            Self::ReadReplicasEnabled => "read_replicas_enabled",
            Self::Service => "service",
            Self::Discovery => "discover",
            Self::DiscoveryInterval => "discovery_interval",
            Self::PoolSize => "pool_size",
            Self::CheckoutTimeout => "checkout_timeout",
            Self::ConnectTimeout => "connect_timeout",
            Self::LoadBalancing => "load_balancing",
            Self::LagThreshold => "lag_threshold",
            Self::LagRecovery => "lag_recovery",
            Self::LagThresholdBytes => "lag_threshold_bytes",
            Self::LagRecoveryBytes => "lag_recovery_bytes",
            Self::UnverifiedLag => "unverified_lag",
            Self::LagHardLimit => "lag_hard_limit",
            Self::AlertLagWarning => "alert_lag_warning",
            Self::AlertLagCritical => "alert_lag_critical",
            Self::AlertUnhealthyAfter => "alert_unhealthy_after",
            Self::MinReplicas => "min_replicas",
            Self::Ejection => "ejection",
            Self::SlowStart => "slow_start",
            Self::Fallback => "fallback",
            Self::CausalWait => "causal_wait",
            Self::DrainTimeout => "drain_timeout",
            Self::ProbeInterval => "probe_interval",
            Self::ProbeTimeout => "probe_timeout",
            Self::ProbeBackoff => "probe_backoff",
            Self::Zone => "zone",
            Self::MinZoneReplicas => "min_zone_replicas",
            Self::ReadSubset => "read_subset",
            Self::SubsetSeed => "read_subset_key",
        };
        setter.to_owned()
    }
}

/// What the reader of a fault calls the settings.
#[derive(Debug, Clone)]
pub(super) enum Names {
    Setters,
    Variables {
        prefix: String,
        /// Those that were given in milliseconds, under the names that end so.
        in_millis: Vec<Key>,
    },
    #[cfg(feature = "serde")]
    File,
}

impl Names {
    pub(super) fn name(&self, key: Key) -> String {
        match self {
            Self::Setters => key.setter(),
            Self::Variables { prefix, in_millis } => {
                settings::variable(prefix, key, in_millis.contains(&key))
            }
            #[cfg(feature = "serde")]
            Self::File => settings::in_file(key),
        }
    }
}

/// Collects faults, under names that the reader of them knows.
#[derive(Debug, Clone)]
pub(super) struct Faults {
    pub(super) names: Names,
    faults: Vec<Fault>,
}

impl Faults {
    pub(super) fn new(names: Names) -> Self {
        Self { names, faults: vec![] }
    }

    pub(super) fn name(&self, key: Key) -> String {
        self.names.name(key)
    }

    /// Adds a fault, unless one of the same key is there: what follows from that is none of its own.
    pub(super) fn add(&mut self, key: Key, problem: impl Into<String>, wanted: impl Into<String>) {
        self.add_as(self.name(key), problem, wanted);
    }

    /// The same for what is no setting, or more than one.
    pub(super) fn add_as(
        &mut self,
        key: impl Into<String>,
        problem: impl Into<String>,
        wanted: impl Into<String>,
    ) {
        let key = key.into();
        if !self.faults.iter().any(|fault| fault.key == key) {
            self.faults.push(Fault { key, problem: problem.into(), wanted: wanted.into() });
        }
    }

    pub(super) fn has(&self, key: Key) -> bool {
        let key = self.name(key);
        self.faults.iter().any(|fault| fault.key == key)
    }

    pub(super) fn add_unusable(&mut self, key: Key, Unusable { problem, wanted }: Unusable) {
        self.add(key, problem, wanted);
    }

    /// The value, if nothing is wrong. A value can be missing only if something is.
    pub(super) fn result<T>(self, value: Option<T>) -> Result<T, ConfigError> {
        match value {
            Some(value) if self.faults.is_empty() => Ok(value),
            _ => Err(ConfigError { faults: self.faults }),
        }
    }
}
