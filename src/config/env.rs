//! Settings from the environment.
//!
//! The variables are `DATABASE_URL`, `DB_READ_REPLICA_URLS`, `DB_READ_REPLICA_DNS`, `DB_DISCOVERY_INTERVAL_MS`,
//! `DB_READ_REPLICAS_ENABLED`, `DB_REPLICA_LAG_THRESHOLD_MS`, `DB_REPLICA_LAG_RECOVERY_MS`, `DB_REPLICA_LAG_THRESHOLD_BYTES`,
//! `DB_REPLICA_LAG_RECOVERY_BYTES`, `DB_REPLICA_LAG_HARD_LIMIT_MS`, `DB_UNVERIFIED_LAG`, `DB_MIN_REPLICAS`, `DB_EJECTION`,
//! `DB_LOAD_BALANCING`, `DB_SLOW_START_MS`, `DB_ZONE`, `DB_MIN_ZONE_REPLICAS`, `DB_READ_FALLBACK`, `DB_POOL_SIZE`,
//! `DB_CHECKOUT_TIMEOUT_MS`, `DB_CONNECT_TIMEOUT_MS`, `DB_CAUSAL_WAIT_MS`, `DB_DRAIN_TIMEOUT_MS`, `DB_PROBE_INTERVAL_MS`, `DB_PROBE_TIMEOUT_MS` and
//! `DB_PROBE_BACKOFF_MS`; what each means stands at [`Config::from_env`]. [`VARIABLES`] is the one place that connects them
//! with the settings of [`RouterBuilder`].

use super::{
    Config, ConfigError, RouterBuilder,
    fault::{Faults, Key, Part, Unusable},
};
use crate::{
    balance::LoadBalancing,
    discovery::DnsDiscovery,
    health::{Ejection, UnverifiedLag},
    topology::Fallback,
};
use std::{env, ffi::OsString, str::FromStr, sync::Arc, time::Duration};

impl Config {
    /// The configuration in the environment of this process.
    ///
    /// | variable | value | default |
    /// |---|---|---|
    /// | `DATABASE_URL` | URL of the primary | required |
    /// | `DB_READ_REPLICA_URLS` | URLs of the replicas, separated by commas; a comma inside a URL is written `%2C` | none |
    /// | `DB_READ_REPLICA_DNS` | URL whose host name is looked up again and again, each address a replica: see [`DnsDiscovery`] | none |
    /// | `DB_DISCOVERY_INTERVAL_MS` | milliseconds; see [`discovery_interval`](RouterBuilder::discovery_interval) | `30000` |
    /// | `DB_READ_REPLICAS_ENABLED` | `true`, `1`, `on`, `yes` or `false`, `0`, `off`, `no`: whether replicas serve reads | `false` |
    /// | `DB_REPLICA_LAG_THRESHOLD_MS` | milliseconds; see [`lag_threshold`](RouterBuilder::lag_threshold) | `1000` |
    /// | `DB_REPLICA_LAG_RECOVERY_MS` | milliseconds; see [`lag_recovery`](RouterBuilder::lag_recovery) | half of the threshold |
    /// | `DB_REPLICA_LAG_THRESHOLD_BYTES` | bytes; see [`lag_threshold_bytes`](RouterBuilder::lag_threshold_bytes) | none |
    /// | `DB_REPLICA_LAG_RECOVERY_BYTES` | bytes; see [`lag_recovery_bytes`](RouterBuilder::lag_recovery_bytes) | half of the threshold |
    /// | `DB_REPLICA_LAG_HARD_LIMIT_MS` | milliseconds; see [`lag_hard_limit`](RouterBuilder::lag_hard_limit) | ten times the threshold |
    /// | `DB_UNVERIFIED_LAG` | `keep`, `exclude` or `serve`: see [`UnverifiedLag`] | `keep` |
    /// | `DB_MIN_REPLICAS` | replicas; see [`min_replicas`](RouterBuilder::min_replicas) | `0` |
    /// | `DB_EJECTION` | `on` or `off`, and the other words for it: see [`Ejection`] | `on` |
    /// | `DB_LOAD_BALANCING` | `round_robin`, `random`, `least_connections`, `weighted` or `peak_ewma` | `round_robin` |
    /// | `DB_SLOW_START_MS` | milliseconds; see [`slow_start`](RouterBuilder::slow_start) | `10000` |
    /// | `DB_ZONE` | name of the zone of this process; see [`zone`](RouterBuilder::zone) | none |
    /// | `DB_MIN_ZONE_REPLICAS` | replicas; see [`min_zone_replicas`](RouterBuilder::min_zone_replicas) | `1` |
    /// | `DB_READ_FALLBACK` | `primary`, `least_lagged` or `fail`: see [`Fallback`] | `primary` |
    /// | `DB_POOL_SIZE` | connections in each pool; see [`pool_size`](RouterBuilder::pool_size) | `10` |
    /// | `DB_CHECKOUT_TIMEOUT_MS` | milliseconds; see [`checkout_timeout`](RouterBuilder::checkout_timeout) | `5000` |
    /// | `DB_CONNECT_TIMEOUT_MS` | milliseconds; see [`connect_timeout`](RouterBuilder::connect_timeout) | `3000` |
    /// | `DB_CAUSAL_WAIT_MS` | milliseconds; see [`causal_wait`](RouterBuilder::causal_wait) | `100` |
    /// | `DB_DRAIN_TIMEOUT_MS` | milliseconds; see [`drain_timeout`](RouterBuilder::drain_timeout) | `30000` |
    /// | `DB_PROBE_INTERVAL_MS` | milliseconds; see [`probe_interval`](RouterBuilder::probe_interval) | `250`, less for a low lag threshold |
    /// | `DB_PROBE_TIMEOUT_MS` | milliseconds; see [`probe_timeout`](RouterBuilder::probe_timeout) | `500` |
    /// | `DB_PROBE_BACKOFF_MS` | milliseconds; see [`probe_backoff`](RouterBuilder::probe_backoff) | `2000`, or the probe interval if longer |
    ///
    /// Space around a value is ignored. The URLs of replicas are checked even while replicas are not enabled.
    ///
    /// # Errors
    ///
    /// Everything that is wrong, each with the name of its variable.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_vars(|name| env::var_os(name))
    }

    /// The configuration in variables that come from elsewhere, a file or a test, under the same names as in
    /// [`Config::from_env`].
    ///
    /// # Errors
    ///
    /// Everything that is wrong, each with the name of its variable.
    ///
    /// # Example
    ///
    /// ```
    /// use diesel_replicas::Config;
    ///
    /// let error = Config::from_vars(|name| match name {
    ///     "DB_POOL_SIZE" => Some("many"),
    ///     _ => None,
    /// })
    /// .unwrap_err();
    /// assert_eq!(error.faults().len(), 2); // DATABASE_URL is missing as well
    /// ```
    pub fn from_vars<V: Into<OsString>>(
        mut lookup: impl FnMut(&str) -> Option<V>,
    ) -> Result<Self, ConfigError> {
        let mut faults = Faults::named_by(variable);
        let mut builder = RouterBuilder::default().read_replicas_enabled(false);
        for Variable { name, key, set } in VARIABLES {
            let Some(value) = lookup(name) else { continue };
            let value = value.into();
            match value.to_str().map(str::trim) {
                None => faults.add(key, "is not UTF-8", "plain text"),
                // A list without entries is a list.
                Some("") if key == Key::Replicas => {}
                Some("") => faults.add(key, "is empty", "a value, or the variable left unset"),
                Some(value) => {
                    if let Err(unusable) = set(&mut builder, value) {
                        faults.add_unusable(key, unusable);
                    }
                }
            }
        }
        builder.check(faults)
    }
}

/// One variable.
struct Variable {
    name: &'static str,
    /// The setting that it is for.
    key: Key,
    /// Sets it to what the text says.
    set: fn(&mut RouterBuilder, &str) -> Result<(), Unusable>,
}

const VARIABLES: [Variable; 26] = [
    Variable {
        name: "DATABASE_URL",
        key: Key::Primary(Part::Url),
        set: |builder, url| {
            builder.primary = Some(url.into());
            Ok(())
        },
    },
    Variable {
        name: "DB_READ_REPLICA_URLS",
        key: Key::Replicas,
        set: |builder, urls| {
            builder.replicas = urls.split(',').map(Into::into).collect();
            Ok(())
        },
    },
    Variable {
        name: "DB_READ_REPLICA_DNS",
        key: Key::Discovery,
        set: |builder, url| DnsDiscovery::parse(url).map(|dns| builder.discovery = vec![Arc::new(dns)]),
    },
    Variable {
        name: "DB_DISCOVERY_INTERVAL_MS",
        key: Key::DiscoveryInterval,
        set: |builder, text| millis(text).map(|interval| builder.discovery_interval = interval),
    },
    Variable {
        name: "DB_READ_REPLICAS_ENABLED",
        key: Key::ReadReplicasEnabled,
        set: |builder, text| flag(text).map(|enabled| builder.read_replicas_enabled = enabled),
    },
    Variable {
        name: "DB_REPLICA_LAG_THRESHOLD_MS",
        key: Key::LagThreshold,
        set: |builder, text| millis(text).map(|lag| builder.lag_threshold = lag),
    },
    Variable {
        name: "DB_REPLICA_LAG_RECOVERY_MS",
        key: Key::LagRecovery,
        set: |builder, text| millis(text).map(|lag| builder.lag_recovery = Some(lag)),
    },
    Variable {
        name: "DB_REPLICA_LAG_THRESHOLD_BYTES",
        key: Key::LagThresholdBytes,
        set: |builder, text| number(text, "bytes").map(|bytes| builder.lag_threshold_bytes = Some(bytes)),
    },
    Variable {
        name: "DB_REPLICA_LAG_RECOVERY_BYTES",
        key: Key::LagRecoveryBytes,
        set: |builder, text| number(text, "bytes").map(|bytes| builder.lag_recovery_bytes = Some(bytes)),
    },
    Variable {
        name: "DB_REPLICA_LAG_HARD_LIMIT_MS",
        key: Key::LagHardLimit,
        set: |builder, text| millis(text).map(|lag| builder.lag_hard_limit = Some(lag)),
    },
    Variable {
        name: "DB_UNVERIFIED_LAG",
        key: Key::UnverifiedLag,
        set: |builder, text| unverified_lag(text).map(|policy| builder.unverified_lag = policy),
    },
    Variable {
        name: "DB_MIN_REPLICAS",
        key: Key::MinReplicas,
        set: |builder, text| number(text, "replicas").map(|replicas| builder.min_replicas = replicas),
    },
    Variable {
        name: "DB_EJECTION",
        key: Key::Ejection,
        set: |builder, text| {
            let ejection = |on| if on { Ejection::default() } else { Ejection::off() };
            flag(text).map(|on| builder.ejection = ejection(on))
        },
    },
    Variable {
        name: "DB_LOAD_BALANCING",
        key: Key::LoadBalancing,
        set: |builder, text| load_balancing(text).map(|how| builder.load_balancing = how),
    },
    Variable {
        name: "DB_SLOW_START_MS",
        key: Key::SlowStart,
        set: |builder, text| millis(text).map(|time| builder.slow_start = time),
    },
    Variable {
        name: "DB_ZONE",
        key: Key::Zone,
        set: |builder, zone| {
            builder.zone = Some(zone.to_owned());
            Ok(())
        },
    },
    Variable {
        name: "DB_MIN_ZONE_REPLICAS",
        key: Key::MinZoneReplicas,
        set: |builder, text| number(text, "replicas").map(|replicas| builder.min_zone_replicas = replicas),
    },
    Variable {
        name: "DB_READ_FALLBACK",
        key: Key::Fallback,
        set: |builder, text| fallback(text).map(|fallback| builder.fallback = fallback),
    },
    Variable {
        name: "DB_POOL_SIZE",
        key: Key::PoolSize,
        set: |builder, text| number(text, "connections").map(|size| builder.pool_size = size),
    },
    Variable {
        name: "DB_CHECKOUT_TIMEOUT_MS",
        key: Key::CheckoutTimeout,
        set: |builder, text| millis(text).map(|timeout| builder.checkout_timeout = timeout),
    },
    Variable {
        name: "DB_CONNECT_TIMEOUT_MS",
        key: Key::ConnectTimeout,
        set: |builder, text| millis(text).map(|timeout| builder.connect_timeout = timeout),
    },
    Variable {
        name: "DB_CAUSAL_WAIT_MS",
        key: Key::CausalWait,
        set: |builder, text| millis(text).map(|longest| builder.causal_wait = longest),
    },
    Variable {
        name: "DB_DRAIN_TIMEOUT_MS",
        key: Key::DrainTimeout,
        set: |builder, text| millis(text).map(|timeout| builder.drain_timeout = timeout),
    },
    Variable {
        name: "DB_PROBE_INTERVAL_MS",
        key: Key::ProbeInterval,
        set: |builder, text| millis(text).map(|interval| builder.probe_interval = Some(interval)),
    },
    Variable {
        name: "DB_PROBE_TIMEOUT_MS",
        key: Key::ProbeTimeout,
        set: |builder, text| millis(text).map(|timeout| builder.probe_timeout = timeout),
    },
    Variable {
        name: "DB_PROBE_BACKOFF_MS",
        key: Key::ProbeBackoff,
        set: |builder, text| millis(text).map(|longest| builder.probe_backoff = Some(longest)),
    },
];

/// What a setting is called in the environment, where nodes have no names but their URLs'.
fn variable(key: Key) -> String {
    let (of, position) = match key {
        Key::Primary(_) => (Key::Primary(Part::Url), String::new()),
        Key::Replica(i, _) => (Key::Replicas, format!("[{i}]")),
        other => (other, String::new()),
    };
    let variable = VARIABLES.iter().find(|variable| variable.key == of);
    variable.map_or_else(|| key.setter(), |variable| format!("{}{position}", variable.name))
}

fn flag(text: &str) -> Result<bool, Unusable> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "on" | "yes" => Ok(true),
        "false" | "0" | "off" | "no" => Ok(false),
        _ => Err(Unusable::new("is neither yes nor no", "true, 1, on or yes, or else false, 0, off or no")),
    }
}

fn millis(text: &str) -> Result<Duration, Unusable> {
    number(text, "milliseconds").map(Duration::from_millis)
}

fn number<N: FromStr>(text: &str, of: &str) -> Result<N, Unusable> {
    let unusable = |_| Unusable::new("is not a number that can be used", format!("a whole number of {of}"));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{health::LagBytes, lsn::WalBytes};
    use proptest::prelude::*;
    use std::{collections::BTreeSet, os::unix::ffi::OsStringExt};

    const PRIMARY: (&str, &str) = ("DATABASE_URL", "postgres://app:hunter2@primary/chat");

    fn read<'a>(vars: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Config, ConfigError> {
        let vars: Vec<_> = vars.into_iter().collect();
        Config::from_vars(|name| vars.iter().find(|(n, _)| *n == name).map(|(_, value)| *value))
    }

    /// The lines of the error.
    fn faults<'a>(vars: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<String> {
        read(vars).map_or_else(|error| error.to_string().lines().map(str::to_owned).collect(), |_| vec![])
    }

    #[test]
    fn a_primary_is_all_it_takes() {
        let config = read([PRIMARY]).expect("valid");
        assert_eq!(&*config.primary.name, "primary:5432");
        assert!(config.replicas.is_empty());
        assert!(!config.read_replicas_enabled, "replicas are opted into");
        assert_eq!(config.pool_size, 10);
    }

    #[test]
    fn every_variable_arrives() {
        let config = read([
            ("DATABASE_URL", " postgres://app@primary/chat\n"),
            ("DB_READ_REPLICA_URLS", "postgres://app@a/chat, postgres://app@b:5433/chat"),
            ("DB_READ_REPLICAS_ENABLED", "true"),
            ("DB_REPLICA_LAG_THRESHOLD_MS", "200"),
            ("DB_LOAD_BALANCING", "least_connections"),
            ("DB_READ_FALLBACK", "fail"),
            ("DB_POOL_SIZE", " 3 "),
            ("DB_CHECKOUT_TIMEOUT_MS", "11"),
            ("DB_CONNECT_TIMEOUT_MS", "12"),
            ("DB_PROBE_INTERVAL_MS", "13"),
            ("DB_PROBE_TIMEOUT_MS", "14"),
            ("DB_PROBE_BACKOFF_MS", "15"),
            ("DB_READ_REPLICA_DNS", "postgres://app@replicas/chat"),
            ("DB_DISCOVERY_INTERVAL_MS", "116"),
            ("DB_REPLICA_LAG_RECOVERY_MS", "17"),
            ("DB_REPLICA_LAG_THRESHOLD_BYTES", "18"),
            ("DB_REPLICA_LAG_RECOVERY_BYTES", "8"),
            ("DB_REPLICA_LAG_HARD_LIMIT_MS", "219"),
            ("DB_UNVERIFIED_LAG", "serve"),
            ("DB_MIN_REPLICAS", "2"),
            ("DB_EJECTION", "off"),
            ("DB_SLOW_START_MS", "0"),
            ("DB_CAUSAL_WAIT_MS", "16"),
            ("DB_DRAIN_TIMEOUT_MS", "0"),
            ("DB_ZONE", " eu-west-1a "),
            ("DB_MIN_ZONE_REPLICAS", "4"),
        ])
        .expect("valid");
        let ms = Duration::from_millis;
        let replicas: Vec<_> = config.replicas.iter().map(|node| (&*node.name, node.weight)).collect();
        assert_eq!(replicas, [("a:5432", 1), ("b:5433", 1)]);
        assert!(config.read_replicas_enabled);
        assert_eq!((config.health.lag_threshold, config.health.lag_recovery), (ms(200), ms(17)));
        let (threshold, recovery) = (WalBytes::new(18), WalBytes::new(8));
        assert_eq!(config.health.lag_bytes, Some(LagBytes { threshold, recovery }));
        assert_eq!((config.health.lag_hard_limit, config.health.min_replicas), (ms(219), 2));
        assert_eq!(config.health.unverified_lag, UnverifiedLag::Serve);
        assert_eq!(config.health.ejection, Ejection::off());
        assert_eq!((config.slow_start, config.drain_timeout), (Duration::ZERO, Duration::ZERO));
        assert_eq!(config.causal_wait, ms(16));
        assert_eq!((config.zone.as_deref(), config.min_zone_replicas), (Some("eu-west-1a"), 4));
        assert_eq!((config.discovery.len(), config.discovery_interval), (1, ms(116)));
        assert!(matches!(config.load_balancing, LoadBalancing::LeastConnections));
        assert_eq!((config.fallback, config.pool_size), (Fallback::Fail, 3));
        assert_eq!((config.checkout_timeout, config.connect_timeout), (ms(11), ms(12)));
        assert_eq!((config.probe_interval, config.probe_timeout), (ms(13), ms(14)));
        assert_eq!(config.probe_backoff, ms(15));
    }

    #[test]
    fn policies_are_named() {
        for (text, fallback) in [
            ("primary", Fallback::Primary),
            ("least_lagged", Fallback::LeastLagged),
            ("fail", Fallback::Fail),
        ] {
            assert_eq!(read([PRIMARY, ("DB_READ_FALLBACK", text)]).expect("valid").fallback, fallback);
        }
        for (text, policy) in [
            ("keep", UnverifiedLag::Keep),
            ("exclude", UnverifiedLag::Exclude),
            ("serve", UnverifiedLag::Serve),
        ] {
            let config = read([PRIMARY, ("DB_UNVERIFIED_LAG", text)]).expect("valid");
            assert_eq!(config.health.unverified_lag, policy);
        }
        let config = read([PRIMARY, ("DB_EJECTION", "on")]).expect("valid");
        assert_eq!(config.health.ejection, Ejection::default());
    }

    #[test]
    fn a_fault_names_the_variables_that_it_is_held_against() {
        for (name, value, fault) in [
            ("DB_REPLICA_LAG_RECOVERY_MS", "2000", "at most DB_REPLICA_LAG_THRESHOLD_MS, 1000 milliseconds"),
            ("DB_REPLICA_LAG_RECOVERY_BYTES", "1", "both or neither"),
            ("DB_REPLICA_LAG_HARD_LIMIT_MS", "1", "at least DB_REPLICA_LAG_THRESHOLD_MS, 1000 milliseconds"),
            ("DB_PROBE_BACKOFF_MS", "1", "at least DB_PROBE_INTERVAL_MS, 250 milliseconds"),
            (
                "DB_READ_REPLICA_DNS",
                "postgres://app@/chat?hostaddr=::1",
                "a URL with a host name and without `hostaddr`",
            ),
        ] {
            let lines = faults([PRIMARY, (name, value)]);
            assert!(
                lines[0].starts_with(&format!("{name}: "))
                    && lines[0].ends_with(&format!("; wanted: {fault}")),
                "{lines:?}"
            );
            assert_eq!(lines.len(), 1, "{lines:?}");
        }
    }

    /// The names in the first column, and the defaults in the last.
    fn documented<'a>(text: &'a str, line_start: &str) -> Vec<(&'a str, &'a str)> {
        let rows = text.lines().filter_map(|line| line.trim_start().strip_prefix(line_start));
        rows.filter_map(|row| {
            let (name, rest) = row.strip_prefix("| `")?.split_once('`')?;
            let default = rest.trim_end().trim_end_matches('|').rsplit('|').next()?.trim();
            name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_').then_some((name, default))
        })
        .collect()
    }

    #[test]
    fn every_variable_is_documented_with_the_same_default() {
        let here = documented(include_str!("env.rs"), "/// ");
        assert_eq!(here.iter().map(|row| row.0).collect::<Vec<_>>(), VARIABLES.map(|variable| variable.name));
        assert_eq!(documented(include_str!("../../README.md"), ""), here);
    }

    #[test]
    fn flags_are_read_in_every_spelling() {
        for (texts, expected) in [
            (["true", "1", "on", "yes", "TRUE", "On"], true),
            (["false", "0", "off", "no", "False", "OFF"], false),
        ] {
            for text in texts {
                let config = read([PRIMARY, ("DB_READ_REPLICAS_ENABLED", text)]).expect("valid");
                assert_eq!(config.read_replicas_enabled, expected, "{text}");
            }
        }
    }

    #[test]
    fn replicas_are_kept_and_checked_while_they_are_off() {
        let config = read([PRIMARY, ("DB_READ_REPLICA_URLS", "postgres://app@a/chat")]).expect("valid");
        assert_eq!((config.replicas.len(), config.read_replicas_enabled), (1, false));
        assert_eq!(faults([PRIMARY, ("DB_READ_REPLICA_URLS", "a")]).len(), 1);
    }

    #[test]
    fn an_empty_list_is_no_replicas_but_an_empty_entry_is_a_fault() {
        assert!(read([PRIMARY, ("DB_READ_REPLICA_URLS", " ")]).expect("valid").replicas.is_empty());
        assert_eq!(
            faults([PRIMARY, ("DB_READ_REPLICA_URLS", "postgres://app@a/chat,")]),
            [
                "DB_READ_REPLICA_URLS[1]: is empty; wanted: a URL like postgres://user:password@host:5432/database, with reserved characters percent-encoded"
            ]
        );
    }

    #[test]
    fn a_missing_primary_is_one_fault_however_it_is_missing() {
        let wanted = "wanted: a URL like postgres://user:password@host:5432/database, with reserved characters percent-encoded";
        assert_eq!(faults([]), [format!("DATABASE_URL: is missing; {wanted}")]);
        assert_eq!(
            faults([("DATABASE_URL", " ")]),
            ["DATABASE_URL: is empty; wanted: a value, or the variable left unset"]
        );
        let error = Config::from_vars(|name| {
            (name == "DATABASE_URL").then(|| OsString::from_vec(b"postgres://app:hunter2\xFF@a".to_vec()))
        });
        assert_eq!(
            error.expect_err("not UTF-8").to_string(),
            "DATABASE_URL: is not UTF-8; wanted: plain text"
        );
    }

    #[test]
    fn every_fault_is_reported_at_once_with_its_variable() {
        let lines = faults([
            PRIMARY,
            (
                "DB_READ_REPLICA_URLS",
                "postgres://app:hunter2@b/chat,redis://hunter2@c,postgres://app:hunter2@primary/x",
            ),
            ("DB_READ_REPLICAS_ENABLED", "maybe"),
            ("DB_REPLICA_LAG_THRESHOLD_MS", "0"),
            ("DB_LOAD_BALANCING", "least_conn"),
            ("DB_READ_FALLBACK", "panic"),
            ("DB_POOL_SIZE", "-1"),
            ("DB_CHECKOUT_TIMEOUT_MS", "5s"),
            ("DB_CONNECT_TIMEOUT_MS", "0"),
            ("DB_PROBE_INTERVAL_MS", "99999999999999999999"),
            ("DB_PROBE_TIMEOUT_MS", "600000"),
            ("DB_UNVERIFIED_LAG", "trust"),
            ("DB_ZONE", "postgres://app:hunter2@b/chat"),
        ]);
        let by_key = |key: &str| {
            let found: Vec<_> = lines.iter().filter(|line| line.starts_with(&format!("{key}: "))).collect();
            assert_eq!(found.len(), 1, "{key} in {lines:#?}");
            found[0].clone()
        };
        by_key("DB_READ_REPLICA_URLS[1]");
        for (key, rest) in [
            (
                "DB_READ_REPLICA_URLS[2]",
                "makes a second node named primary:5432, after DATABASE_URL; wanted: another server, or a name of its own for each node",
            ),
            (
                "DB_READ_REPLICAS_ENABLED",
                "is neither yes nor no; wanted: true, 1, on or yes, or else false, 0, off or no",
            ),
            ("DB_REPLICA_LAG_THRESHOLD_MS", "0 ms is out of range; wanted: from 1 to 86400000 milliseconds"),
            (
                "DB_LOAD_BALANCING",
                "names no load balancing; wanted: one of round_robin, random, least_connections, weighted, peak_ewma",
            ),
            ("DB_READ_FALLBACK", "names no fallback; wanted: one of primary, least_lagged, fail"),
            ("DB_UNVERIFIED_LAG", "names no policy; wanted: one of keep, exclude, serve"),
            ("DB_ZONE", "is not the name of a zone; wanted: letters, digits, `-`, `_` and `.`"),
            ("DB_POOL_SIZE", "is not a number that can be used; wanted: a whole number of connections"),
            (
                "DB_CHECKOUT_TIMEOUT_MS",
                "is not a number that can be used; wanted: a whole number of milliseconds",
            ),
            ("DB_CONNECT_TIMEOUT_MS", "0 ms is out of range; wanted: from 1 to 86400000 milliseconds"),
            (
                "DB_PROBE_INTERVAL_MS",
                "is not a number that can be used; wanted: a whole number of milliseconds",
            ),
            ("DB_PROBE_TIMEOUT_MS", "600000 ms is out of range; wanted: from 1 to 60000 milliseconds"),
        ] {
            assert_eq!(by_key(key), format!("{key}: {rest}"));
        }
        assert_eq!(lines.len(), 13, "{lines:#?}");
    }

    #[test]
    fn the_table_and_the_docs_list_the_same_variables() {
        let docs: BTreeSet<_> = include_str!("env.rs")
            .lines()
            .filter_map(|line| {
                line.trim().strip_prefix("/// | `D")?.split_once('`').map(|(name, _)| format!("D{name}"))
            })
            .collect();
        assert_eq!(docs, VARIABLES.iter().map(|variable| variable.name.to_owned()).collect());
        let module_docs: String =
            include_str!("env.rs").lines().take_while(|line| line.starts_with("//!")).collect();
        for Variable { name, key, .. } in &VARIABLES {
            assert!(module_docs.contains(name), "{name}");
            assert_eq!(variable(*key), *name);
        }
    }

    /// Where a secret may stand.
    const WRAPPINGS: [&str; 13] = [
        "{}",
        "postgres://app:{}@a/chat",
        "postgres://app:x,{}@a/chat",
        "postgres://app:x?{}@a/chat",
        "postgres://app:x@[{}",
        "postgres://app:{}@a:{}/chat",
        "postgres://app:x@{}@a/chat",
        "postgres://app@a/chat?password={}",
        "postgres://app@a/chat?{}=1",
        "postgres://app@a/chat?sslmode={}",
        "postgres://app@a/chat?connect_timeout={}",
        "{}://app@a/chat",
        "host=a user=app password={}",
    ];

    proptest! {
        /// Whatever variable a secret has ended up in, and in whatever it is wrapped, no text shows it.
        #[test]
        fn no_text_shows_a_secret(
            wrappings in prop::collection::vec(prop::option::of(prop::sample::select(&WRAPPINGS[..])), VARIABLES.len()),
        ) {
            let vars = VARIABLES.iter().zip(&wrappings);
            let vars: Vec<_> = vars
                // A zone is there to be shown; only what cannot be one is not.
                .filter(|(variable, wrapping)| variable.key != Key::Zone || **wrapping != Some("{}"))
                .filter_map(|(variable, wrapping)| Some((variable.name, wrapping.as_ref()?.replace("{}", "hunter2"))))
                .collect();
            let text = match read(vars.iter().map(|(name, value)| (*name, value.as_str()))) {
                Ok(config) => format!("{config:?}"),
                Err(error) => format!("{error} {error:?}"),
            };
            prop_assert!(!text.contains("hunter2"), "{}", text);
        }
    }
}
