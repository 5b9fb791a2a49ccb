//! Every setting that can be given as text: what it is called, and how the text is read.

use super::{
    RouterBuilder,
    fault::{Faults, Key, Unusable},
    units,
};
use crate::{
    balance::LoadBalancing,
    discovery::DnsDiscovery,
    health::{Ejection, UnverifiedLag},
    retry::RetryBudget,
    topology::Fallback,
};
use std::{str::FromStr, sync::Arc, time::Duration};

/// What stands before the names of variables, unless another prefix is asked for.
pub(crate) const PREFIX: &str = "DB_";

/// The primary's variable under that prefix; under another one it is the prefix and `URL`.
pub(crate) const PRIMARY: &str = "DATABASE_URL";

/// A setting other than the nodes.
#[derive(Debug)]
pub(super) struct Setting {
    /// In a file: that of the setter, where there is one.
    #[cfg_attr(not(any(test, feature = "serde")), expect(dead_code, reason = "only files are read by it"))]
    pub(super) name: &'static str,
    /// In the environment, behind the prefix.
    pub(super) variable: &'static str,
    pub(super) key: Key,
    set: Set,
}

/// How the text of a setting is read.
#[derive(Debug)]
enum Set {
    Time(fn(&mut RouterBuilder, Duration)),
    Size(fn(&mut RouterBuilder, u64)),
    Text(fn(&mut RouterBuilder, &str) -> Result<(), Unusable>),
}

impl Setting {
    pub(super) fn is_time(&self) -> bool {
        matches!(self.set, Set::Time(_))
    }

    /// Takes in this text; what is wrong with it is a fault of the builder.
    pub(super) fn set(&self, builder: &mut RouterBuilder, text: &str) {
        let read = match self.set {
            _ if text.trim().is_empty() => Err(Unusable::new("is empty", "a value, or none given at all")),
            Set::Time(set) => units::time(text.trim()).map(|time| set(builder, time)),
            Set::Size(set) => units::size(text.trim()).map(|size| set(builder, size)),
            Set::Text(set) => set(builder, text.trim()),
        };
        self.note(read, &mut builder.faults);
    }

    /// The same for a time in milliseconds, without its unit.
    pub(super) fn set_millis(&self, builder: &mut RouterBuilder, text: &str) {
        if let Set::Time(set) = self.set {
            let millis = number(text.trim(), "milliseconds").map(Duration::from_millis);
            let read = millis.map(|time| set(builder, time));
            self.note(read, &mut builder.faults);
        }
    }

    fn note(&self, read: Result<(), Unusable>, faults: &mut Faults) {
        if let Err(unusable) = read {
            faults.add_unusable(self.key, unusable);
        }
    }
}

/// In the order of the documentation.
pub(super) const SETTINGS: [Setting; 42] = [
    Setting {
        name: "replica_dns",
        variable: "READ_REPLICA_DNS",
        key: Key::Discovery,
        set: Set::Text(|builder, url| {
            DnsDiscovery::parse(url).map(|dns| builder.discovery = vec![Arc::new(dns)])
        }),
    },
    Setting {
        name: "discovery_interval",
        variable: "DISCOVERY_INTERVAL",
        key: Key::DiscoveryInterval,
        set: Set::Time(|builder, time| builder.discovery_interval = time),
    },
    Setting {
        name: "read_replicas_enabled",
        variable: "READ_REPLICAS_ENABLED",
        key: Key::ReadReplicasEnabled,
        set: Set::Text(|builder, text| flag(text).map(|enabled| builder.read_replicas_enabled = enabled)),
    },
    Setting {
        name: "read_replicas_percent",
        variable: "READ_REPLICAS_PERCENT",
        key: Key::RolloutPart("percent"),
        set: Set::Text(|builder, text| percent(text).map(|share| builder.rollout.percent = share)),
    },
    Setting {
        name: "read_replicas_allow",
        variable: "READ_REPLICAS_ALLOW",
        key: Key::RolloutPart("allow"),
        set: Set::Text(|builder, text| {
            builder.rollout.allow = text.split(',').map(|site| site.trim().to_owned()).collect();
            Ok(())
        }),
    },
    Setting {
        name: "shadow_percent",
        variable: "SHADOW_PERCENT",
        key: Key::RolloutPart("shadow_percent"),
        set: Set::Text(|builder, text| percent(text).map(|share| builder.rollout.shadow_percent = share)),
    },
    Setting {
        name: "service",
        variable: "SERVICE",
        key: Key::Service,
        set: Set::Text(|builder, name| {
            builder.service = Some(name.to_owned());
            Ok(())
        }),
    },
    Setting {
        name: "lag_threshold",
        variable: "REPLICA_LAG_THRESHOLD",
        key: Key::LagThreshold,
        set: Set::Time(|builder, lag| builder.lag_threshold = lag),
    },
    Setting {
        name: "lag_recovery",
        variable: "REPLICA_LAG_RECOVERY",
        key: Key::LagRecovery,
        set: Set::Time(|builder, lag| builder.lag_recovery = Some(lag)),
    },
    Setting {
        name: "lag_threshold_bytes",
        variable: "REPLICA_LAG_THRESHOLD_BYTES",
        key: Key::LagThresholdBytes,
        set: Set::Size(|builder, bytes| builder.lag_threshold_bytes = Some(bytes)),
    },
    Setting {
        name: "lag_recovery_bytes",
        variable: "REPLICA_LAG_RECOVERY_BYTES",
        key: Key::LagRecoveryBytes,
        set: Set::Size(|builder, bytes| builder.lag_recovery_bytes = Some(bytes)),
    },
    Setting {
        name: "lag_hard_limit",
        variable: "REPLICA_LAG_HARD_LIMIT",
        key: Key::LagHardLimit,
        set: Set::Time(|builder, lag| builder.lag_hard_limit = Some(lag)),
    },
    Setting {
        name: "alert_lag_warning",
        variable: "ALERT_LAG_WARNING",
        key: Key::AlertLagWarning,
        set: Set::Time(|builder, lag| builder.alert_lag_warning = lag),
    },
    Setting {
        name: "alert_lag_critical",
        variable: "ALERT_LAG_CRITICAL",
        key: Key::AlertLagCritical,
        set: Set::Time(|builder, lag| builder.alert_lag_critical = lag),
    },
    Setting {
        name: "alert_unhealthy_after",
        variable: "ALERT_UNHEALTHY_AFTER",
        key: Key::AlertUnhealthyAfter,
        set: Set::Time(|builder, time| builder.alert_unhealthy_after = time),
    },
    Setting {
        name: "unverified_lag",
        variable: "UNVERIFIED_LAG",
        key: Key::UnverifiedLag,
        set: Set::Text(|builder, text| unverified_lag(text).map(|policy| builder.unverified_lag = policy)),
    },
    Setting {
        name: "min_replicas",
        variable: "MIN_REPLICAS",
        key: Key::MinReplicas,
        set: Set::Text(|builder, text| number(text, "replicas").map(|least| builder.min_replicas = least)),
    },
    Setting {
        name: "ejection",
        variable: "EJECTION",
        key: Key::Ejection,
        set: Set::Text(|builder, text| {
            let ejection = |on| if on { Ejection::default() } else { Ejection::off() };
            flag(text).map(|on| builder.ejection = ejection(on))
        }),
    },
    Setting {
        name: "ejection.consecutive_failures",
        variable: "EJECTION_CONSECUTIVE_FAILURES",
        key: Key::EjectionPart("consecutive_failures"),
        set: Set::Text(|builder, text| {
            number(text, "failures").map(|count| builder.ejection.consecutive_failures = count)
        }),
    },
    Setting {
        name: "ejection.error_ratio",
        variable: "EJECTION_ERROR_RATIO",
        key: Key::EjectionPart("error_ratio"),
        set: Set::Text(|builder, text| share(text).map(|ratio| builder.ejection.error_ratio = ratio)),
    },
    Setting {
        name: "ejection.min_samples",
        variable: "EJECTION_MIN_SAMPLES",
        key: Key::EjectionPart("min_samples"),
        set: Set::Text(|builder, text| {
            number(text, "calls").map(|count| builder.ejection.min_samples = count)
        }),
    },
    Setting {
        name: "ejection.window",
        variable: "EJECTION_WINDOW",
        key: Key::EjectionPart("window"),
        set: Set::Time(|builder, time| builder.ejection.window = time),
    },
    Setting {
        name: "ejection.duration",
        variable: "EJECTION_DURATION",
        key: Key::EjectionPart("duration"),
        set: Set::Time(|builder, time| builder.ejection.duration = time),
    },
    Setting {
        name: "ejection.max_duration",
        variable: "EJECTION_MAX_DURATION",
        key: Key::EjectionPart("max_duration"),
        set: Set::Time(|builder, time| builder.ejection.max_duration = time),
    },
    Setting {
        name: "ejection.max_share",
        variable: "EJECTION_MAX_SHARE",
        key: Key::EjectionPart("max_share"),
        set: Set::Text(|builder, text| share(text).map(|most| builder.ejection.max_share = most)),
    },
    Setting {
        name: "load_balancing",
        variable: "LOAD_BALANCING",
        key: Key::LoadBalancing,
        set: Set::Text(|builder, text| load_balancing(text).map(|how| builder.load_balancing = how)),
    },
    Setting {
        name: "slow_start",
        variable: "SLOW_START",
        key: Key::SlowStart,
        set: Set::Time(|builder, time| builder.slow_start = time),
    },
    Setting {
        name: "zone",
        variable: "ZONE",
        key: Key::Zone,
        set: Set::Text(|builder, zone| {
            builder.zone = Some(zone.to_owned());
            Ok(())
        }),
    },
    Setting {
        name: "min_zone_replicas",
        variable: "MIN_ZONE_REPLICAS",
        key: Key::MinZoneReplicas,
        set: Set::Text(|builder, text| {
            number(text, "replicas").map(|least| builder.min_zone_replicas = least)
        }),
    },
    Setting {
        name: "read_subset",
        variable: "READ_SUBSET",
        key: Key::ReadSubset,
        set: Set::Text(|builder, text| {
            number(text, "replicas").map(|replicas| builder.read_subset = Some(replicas))
        }),
    },
    Setting {
        name: "read_subset_key",
        variable: "READ_SUBSET_KEY",
        key: Key::SubsetSeed,
        set: Set::Text(|builder, key| {
            builder.read_subset_key = Some(key.to_owned());
            Ok(())
        }),
    },
    Setting {
        name: "fallback",
        variable: "READ_FALLBACK",
        key: Key::Fallback,
        set: Set::Text(|builder, text| fallback(text).map(|fallback| builder.fallback = fallback)),
    },
    Setting {
        name: "retry_budget.share",
        variable: "RETRY_BUDGET_SHARE",
        key: Key::RetryBudgetPart("share"),
        set: Set::Text(|builder, text| {
            let RetryBudget { per_second, .. } = builder.retry_budget;
            share(text).map(|share| builder.retry_budget = RetryBudget::new(share, per_second))
        }),
    },
    Setting {
        name: "retry_budget.per_second",
        variable: "RETRY_BUDGET_PER_SECOND",
        key: Key::RetryBudgetPart("per_second"),
        set: Set::Text(|builder, text| {
            let RetryBudget { share, .. } = builder.retry_budget;
            number(text, "reads").map(|reads| builder.retry_budget = RetryBudget::new(share, reads))
        }),
    },
    Setting {
        name: "pool_size",
        variable: "POOL_SIZE",
        key: Key::PoolSize,
        set: Set::Text(|builder, text| number(text, "connections").map(|size| builder.pool_size = size)),
    },
    Setting {
        name: "checkout_timeout",
        variable: "CHECKOUT_TIMEOUT",
        key: Key::CheckoutTimeout,
        set: Set::Time(|builder, time| builder.checkout_timeout = time),
    },
    Setting {
        name: "connect_timeout",
        variable: "CONNECT_TIMEOUT",
        key: Key::ConnectTimeout,
        set: Set::Time(|builder, time| builder.connect_timeout = time),
    },
    Setting {
        name: "causal_wait",
        variable: "CAUSAL_WAIT",
        key: Key::CausalWait,
        set: Set::Time(|builder, time| builder.causal_wait = time),
    },
    Setting {
        name: "drain_timeout",
        variable: "DRAIN_TIMEOUT",
        key: Key::DrainTimeout,
        set: Set::Time(|builder, time| builder.drain_timeout = time),
    },
    Setting {
        name: "probe_interval",
        variable: "PROBE_INTERVAL",
        key: Key::ProbeInterval,
        set: Set::Time(|builder, time| builder.probe_interval = Some(time)),
    },
    Setting {
        name: "probe_timeout",
        variable: "PROBE_TIMEOUT",
        key: Key::ProbeTimeout,
        set: Set::Time(|builder, time| builder.probe_timeout = time),
    },
    Setting {
        name: "probe_backoff",
        variable: "PROBE_BACKOFF",
        key: Key::ProbeBackoff,
        set: Set::Time(|builder, time| builder.probe_backoff = Some(time)),
    },
];

/// What a setting is called in the environment.
pub(super) fn variable(prefix: &str, key: Key, in_millis: bool) -> String {
    let unit = if in_millis { "_MS" } else { "" };
    match key {
        Key::Primary(_) if prefix == PREFIX => PRIMARY.to_owned(),
        Key::Primary(_) => format!("{prefix}URL"),
        Key::Replicas => format!("{prefix}READ_REPLICA_URLS"),
        Key::Replica(i, _) => format!("{prefix}READ_REPLICA_URLS[{i}]"),
        _ => match SETTINGS.iter().find(|setting| setting.key == key) {
            Some(setting) => format!("{prefix}{}{unit}", setting.variable),
            None => key.setter(),
        },
    }
}

/// What it is called in a file.
#[cfg(feature = "serde")]
pub(super) fn in_file(key: Key) -> String {
    match key {
        Key::Replica(i, part) => format!("replicas[{i}].{}", part.name()),
        Key::Replicas => "replicas".to_owned(),
        _ => match SETTINGS.iter().find(|setting| setting.key == key) {
            Some(setting) => setting.name.to_owned(),
            None => key.setter(),
        },
    }
}

fn flag(text: &str) -> Result<bool, Unusable> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "on" | "yes" => Ok(true),
        "false" | "0" | "off" | "no" => Ok(false),
        _ => Err(Unusable::new("is neither yes nor no", "true, 1, on or yes, or else false, 0, off or no")),
    }
}

fn number<N: FromStr>(text: &str, of: &str) -> Result<N, Unusable> {
    let unusable = |_| Unusable::new("is not a number that can be used", format!("a whole number of {of}"));
    text.parse().map_err(unusable)
}

/// The range is checked with the rest.
fn percent(text: &str) -> Result<f64, Unusable> {
    let unusable = |_| Unusable::new("is not a number that can be used", "a number from 0 to 100");
    text.parse().map_err(unusable)
}

/// The same.
fn share(text: &str) -> Result<f64, Unusable> {
    let unusable = |_| Unusable::new("is not a number that can be used", "a number from 0 to 1");
    text.parse().map_err(unusable)
}

fn load_balancing(text: &str) -> Result<LoadBalancing, Unusable> {
    let wanted = || format!("one of {}", LoadBalancing::names());
    text.parse().map_err(|_| Unusable::new("names no load balancing", wanted()))
}

fn fallback(text: &str) -> Result<Fallback, Unusable> {
    match text {
        "primary" => Ok(Fallback::Primary),
        "least_lagged" => Ok(Fallback::LeastLagged),
        "fail" => Ok(Fallback::Fail),
        _ => Err(Unusable::new("names no fallback", "one of primary, least_lagged, fail")),
    }
}

fn unverified_lag(text: &str) -> Result<UnverifiedLag, Unusable> {
    match text {
        "keep" => Ok(UnverifiedLag::Keep),
        "exclude" => Ok(UnverifiedLag::Exclude),
        "serve" => Ok(UnverifiedLag::Serve),
        _ => Err(Unusable::new("names no policy", "one of keep, exclude, serve")),
    }
}
