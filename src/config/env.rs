//! Settings from the environment.
//!
//! The variables are `DATABASE_URL`, `DB_READ_REPLICA_URLS`, `DB_READ_REPLICAS_ENABLED`, `DB_REPLICA_LAG_THRESHOLD_MS`,
//! `DB_LOAD_BALANCING`, `DB_READ_FALLBACK`, `DB_POOL_SIZE`, `DB_CHECKOUT_TIMEOUT_MS`, `DB_CONNECT_TIMEOUT_MS`,
//! `DB_PROBE_INTERVAL_MS` and `DB_PROBE_TIMEOUT_MS`; what each means stands at [`Config::from_env`]. [`VARIABLES`] is the one
//! place that connects them with the settings of [`RouterBuilder`].

use super::{
    Config, ConfigError, Fallback, RouterBuilder,
    fault::{Faults, Key, Part},
};
use crate::balance::LoadBalancing;
use std::{env, ffi::OsString, str::FromStr, time::Duration};

impl Config {
    /// The configuration in the environment of this process.
    ///
    /// | variable | value | default |
    /// |---|---|---|
    /// | `DATABASE_URL` | URL of the primary | required |
    /// | `DB_READ_REPLICA_URLS` | URLs of the replicas, separated by commas; a comma inside a URL is written `%2C` | none |
    /// | `DB_READ_REPLICAS_ENABLED` | `true`, `1`, `on`, `yes` or `false`, `0`, `off`, `no`: whether replicas serve reads | `false` |
    /// | `DB_REPLICA_LAG_THRESHOLD_MS` | milliseconds; see [`lag_threshold`](RouterBuilder::lag_threshold) | `1000` |
    /// | `DB_LOAD_BALANCING` | `round_robin`, `random`, `least_connections`, `weighted` or `peak_ewma` | `round_robin` |
    /// | `DB_READ_FALLBACK` | `primary` or `fail`: see [`Fallback`] | `primary` |
    /// | `DB_POOL_SIZE` | connections in each pool; see [`pool_size`](RouterBuilder::pool_size) | `10` |
    /// | `DB_CHECKOUT_TIMEOUT_MS` | milliseconds; see [`checkout_timeout`](RouterBuilder::checkout_timeout) | `5000` |
    /// | `DB_CONNECT_TIMEOUT_MS` | milliseconds; see [`connect_timeout`](RouterBuilder::connect_timeout) | `3000` |
    /// | `DB_PROBE_INTERVAL_MS` | milliseconds; see [`probe_interval`](RouterBuilder::probe_interval) | `250`, less for a low lag threshold |
    /// | `DB_PROBE_TIMEOUT_MS` | milliseconds; see [`probe_timeout`](RouterBuilder::probe_timeout) | `500` |
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
                    if let Err(Unusable { problem, wanted }) = set(&mut builder, value) {
                        faults.add(key, problem, wanted);
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

/// Text that is no value of its variable. It is not repeated: a URL may have ended up in the wrong variable.
struct Unusable {
    problem: &'static str,
    wanted: String,
}

const VARIABLES: [Variable; 11] = [
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
        name: "DB_LOAD_BALANCING",
        key: Key::LoadBalancing,
        set: |builder, text| load_balancing(text).map(|how| builder.load_balancing = how),
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
        name: "DB_PROBE_INTERVAL_MS",
        key: Key::ProbeInterval,
        set: |builder, text| millis(text).map(|interval| builder.probe_interval = Some(interval)),
    },
    Variable {
        name: "DB_PROBE_TIMEOUT_MS",
        key: Key::ProbeTimeout,
        set: |builder, text| millis(text).map(|timeout| builder.probe_timeout = timeout),
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
        _ => {
            let wanted = "true, 1, on or yes, or else false, 0, off or no".to_owned();
            Err(Unusable { problem: "is neither yes nor no", wanted })
        }
    }
}

fn millis(text: &str) -> Result<Duration, Unusable> {
    number(text, "milliseconds").map(Duration::from_millis)
}

fn number<N: FromStr>(text: &str, of: &str) -> Result<N, Unusable> {
    let wanted = || format!("a whole number of {of}");
    text.parse().map_err(|_| Unusable { problem: "is not a number that can be used", wanted: wanted() })
}

fn load_balancing(text: &str) -> Result<LoadBalancing, Unusable> {
    let wanted = || format!("one of {}", LoadBalancing::names());
    text.parse().map_err(|_| Unusable { problem: "names no load balancing", wanted: wanted() })
}

fn fallback(text: &str) -> Result<Fallback, Unusable> {
    match text {
        "primary" => Ok(Fallback::Primary),
        "fail" => Ok(Fallback::Fail),
        _ => Err(Unusable { problem: "names no fallback", wanted: "one of primary, fail".to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
        ])
        .expect("valid");
        let ms = Duration::from_millis;
        let replicas: Vec<_> = config.replicas.iter().map(|node| (&*node.name, node.weight)).collect();
        assert_eq!(replicas, [("a:5432", 1), ("b:5433", 1)]);
        assert!(config.read_replicas_enabled);
        assert_eq!((config.health.lag_threshold, config.health.lag_recovery), (ms(200), ms(100)));
        assert!(matches!(config.load_balancing, LoadBalancing::LeastConnections));
        assert_eq!((config.fallback, config.pool_size), (Fallback::Fail, 3));
        assert_eq!((config.checkout_timeout, config.connect_timeout), (ms(11), ms(12)));
        assert_eq!((config.probe_interval, config.probe_timeout), (ms(13), ms(14)));
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
            ("DB_READ_FALLBACK", "names no fallback; wanted: one of primary, fail"),
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
        assert_eq!(lines.len(), 11, "{lines:#?}");
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
