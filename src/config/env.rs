//! Settings from the environment.
//!
//! The variables are `DATABASE_URL`, `DB_READ_REPLICA_URLS` and those of [`SETTINGS`], the one place that connects names with the settings of
//! [`RouterBuilder`]; `docs/configuration.md` says what each means.

use super::{
    Config, ConfigError, NodeConfig, RouterBuilder,
    fault::{Faults, Key, Names, Part},
    near::nearest,
    settings::{self, PREFIX, PRIMARY, SETTINGS},
};
use std::{
    collections::BTreeMap,
    env,
    ffi::{OsStr, OsString},
};

/// The list of replicas, behind the prefix.
const REPLICAS: &str = "READ_REPLICA_URLS";

impl Config {
    /// The configuration in the environment of this process: see [`RouterBuilder::from_env`].
    ///
    /// # Errors
    ///
    /// Everything that is wrong, each with the name of its variable.
    pub fn from_env() -> Result<Self, ConfigError> {
        RouterBuilder::from_env().config()
    }
}

impl RouterBuilder {
    /// The settings in the environment of this process, to be completed in code or used as they are. What is wrong with them
    /// [`config`](Self::config) tells, all at once.
    ///
    #[doc = include_str!("../../docs/configuration.md")]
    pub fn from_env() -> Self {
        Self::from_prefixed_env(PREFIX)
    }

    /// The same with another prefix than `DB_`, for a process with several routers: with `ORDERS_` the variables are `ORDERS_URL`, which stands
    /// for `DATABASE_URL`, `ORDERS_READ_REPLICA_URLS`, `ORDERS_POOL_SIZE` and so on.
    ///
    /// # Example
    ///
    /// ```no_run
    /// use diesel_replicas::RouterBuilder;
    ///
    /// # async fn example() -> Result<(), diesel_replicas::Error> {
    /// let orders = RouterBuilder::from_prefixed_env("ORDERS_").build().await?;
    /// let billing = RouterBuilder::from_prefixed_env("BILLING_").build().await?;
    /// # Ok(()) }
    /// ```
    pub fn from_prefixed_env(prefix: &str) -> Self {
        Self::from_variables(prefix, env::vars_os().collect())
    }

    /// The settings in variables that come from elsewhere, a file or a test, under the same names as in [`from_env`](Self::from_env).
    ///
    /// # Example
    ///
    /// ```
    /// use diesel_replicas::RouterBuilder;
    ///
    /// let error = RouterBuilder::from_vars([("DB_POOL_SIZE", "many"), ("DB_CONECT_TIMEOUT", "1s")]).config().unwrap_err();
    /// assert_eq!(error.faults().len(), 3); // DATABASE_URL is missing as well
    /// assert!(error.to_string().contains("wanted: DB_CONNECT_TIMEOUT"));
    /// ```
    pub fn from_vars<K, V>(vars: impl IntoIterator<Item = (K, V)>) -> Self
    where
        K: Into<OsString>,
        V: Into<OsString>,
    {
        Self::from_variables(
            PREFIX,
            vars.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
        )
    }

    fn from_variables(prefix: &str, vars: BTreeMap<OsString, OsString>) -> Self {
        let names = Names::Variables { prefix: prefix.to_owned(), in_millis: vec![] };
        let mut builder = Self { faults: Faults::new(names), ..Self::default() }.read_replicas_enabled(false);

        let primary = Key::Primary(Part::Url);
        if let Some(url) =
            text(&vars, &settings::variable(prefix, primary, false), primary, &mut builder.faults)
        {
            if url.is_empty() {
                builder.faults.add(primary, "is empty", "a value, or none given at all");
            }
            builder.primary = Some(url.into());
        }
        let replicas = format!("{prefix}{REPLICAS}");
        match text(&vars, &replicas, Key::Replicas, &mut builder.faults) {
            // A list without entries is a list.
            None | Some("") => {}
            Some(urls) => builder.replicas = urls.split(',').map(NodeConfig::new).collect(),
        }
        for setting in &SETTINGS {
            let name = format!("{prefix}{}", setting.variable);
            let in_millis = Some(format!("{name}_MS")).filter(|name| setting.is_time() && has(&vars, name));
            match in_millis {
                Some(other) if has(&vars, &name) => {
                    builder.faults.add(setting.key, format!("is set, and so is {other}"), "one of them");
                }
                Some(in_millis) => {
                    if let Names::Variables { in_millis, .. } = &mut builder.faults.names {
                        in_millis.push(setting.key);
                    }
                    if let Some(value) = text(&vars, &in_millis, setting.key, &mut builder.faults) {
                        setting.set_millis(&mut builder, value);
                    }
                }
                None => {
                    if let Some(value) = text(&vars, &name, setting.key, &mut builder.faults) {
                        setting.set(&mut builder, value);
                    }
                }
            }
        }
        note_slips(prefix, &vars, &mut builder.faults);
        builder
    }
}

fn has(vars: &BTreeMap<OsString, OsString>, name: &str) -> bool {
    vars.contains_key(OsStr::new(name))
}

fn text<'a>(
    vars: &'a BTreeMap<OsString, OsString>,
    name: &str,
    key: Key,
    faults: &mut Faults,
) -> Option<&'a str> {
    let text = vars.get(OsStr::new(name))?.to_str();
    if text.is_none() {
        faults.add(key, "is not UTF-8", "plain text");
    }
    text.map(str::trim)
}

/// Names that look like ours and are not. Others that begin like ours are a service's own.
fn note_slips(prefix: &str, vars: &BTreeMap<OsString, OsString>, faults: &mut Faults) {
    let mut known: Vec<String> = vec![REPLICAS.to_owned()];
    for setting in &SETTINGS {
        known.push(setting.variable.to_owned());
        if setting.is_time() {
            known.push(format!("{}_MS", setting.variable));
        }
    }
    let lacks_primary = prefix == PREFIX && !has(vars, PRIMARY);
    for name in vars.keys().filter_map(|name| name.to_str()) {
        let start = name.get(..prefix.len()).filter(|start| start.eq_ignore_ascii_case(prefix));
        let meant = match start.map(|start| (start, &name[prefix.len()..])) {
            Some((start, rest)) if start == prefix && known.iter().any(|known| known == rest) => None,
            Some((_, rest)) => {
                nearest(rest, known.iter().map(String::as_str)).map(|meant| format!("{prefix}{meant}"))
            }
            None => nearest(name, [PRIMARY]).filter(|_| lacks_primary).map(str::to_owned),
        };
        if let Some(meant) = meant {
            faults.add_as(
                name,
                "is no variable of the router",
                format!("{meant}, or a name that is less like it"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        balance::LoadBalancing,
        health::{Ejection, LagBytes, UnverifiedLag},
        lsn::WalBytes,
        retry::RetryBudget,
        rollout::Rollout,
        topology::{Fallback, Subset},
    };
    use proptest::prelude::*;
    use std::{os::unix::ffi::OsStringExt, time::Duration};

    const PRIMARY: (&str, &str) = ("DATABASE_URL", "postgres://app:hunter2@primary/chat");

    fn read<'a>(vars: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Config, ConfigError> {
        RouterBuilder::from_vars(vars).config()
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
            ("DB_READ_REPLICA_URLS", "postgres://app@a/chat?node_name=x&node_pool_size=7, postgres://app@b:5433/chat?node_weight=3"),
            ("DB_READ_REPLICAS_ENABLED", "true"),
            ("DB_REPLICA_LAG_THRESHOLD", "200ms"),
            ("DB_READ_REPLICAS_PERCENT", "12.5"),
            ("DB_READ_REPLICAS_ALLOW", "rooms.list, messages.*,service:chat"),
            ("DB_SHADOW_PERCENT", "2"),
            ("DB_SERVICE", "chat"),
            ("DB_LOAD_BALANCING", "least_connections"),
            ("DB_READ_FALLBACK", "fail"),
            ("DB_POOL_SIZE", " 3 "),
            ("DB_CHECKOUT_TIMEOUT", "11 ms"),
            ("DB_CONNECT_TIMEOUT_MS", "12"),
            ("DB_PROBE_INTERVAL_MS", "13"),
            ("DB_PROBE_TIMEOUT_MS", "14"),
            ("DB_PROBE_BACKOFF_MS", "15"),
            ("DB_READ_REPLICA_DNS", "postgres://app@replicas/chat"),
            ("DB_DISCOVERY_INTERVAL_MS", "116"),
            ("DB_REPLICA_LAG_RECOVERY_MS", "17"),
            ("DB_REPLICA_LAG_THRESHOLD_BYTES", "1kB"),
            ("DB_REPLICA_LAG_RECOVERY_BYTES", "8"),
            ("DB_REPLICA_LAG_HARD_LIMIT_MS", "219"),
            ("DB_UNVERIFIED_LAG", "serve"),
            ("DB_MIN_REPLICAS", "2"),
            ("DB_EJECTION", "on"),
            ("DB_EJECTION_CONSECUTIVE_FAILURES", "21"),
            ("DB_EJECTION_ERROR_RATIO", "0.25"),
            ("DB_EJECTION_MIN_SAMPLES", "22"),
            ("DB_EJECTION_WINDOW", "23s"),
            ("DB_EJECTION_DURATION", "24s"),
            ("DB_EJECTION_MAX_DURATION", "25s"),
            ("DB_EJECTION_MAX_SHARE", "1"),
            ("DB_RETRY_BUDGET_SHARE", "0.75"),
            ("DB_RETRY_BUDGET_PER_SECOND", "26"),
            ("DB_SLOW_START_MS", "0"),
            ("DB_CAUSAL_WAIT_MS", "16"),
            ("DB_DRAIN_TIMEOUT_MS", "0"),
            ("DB_ZONE", " eu-west-1a "),
            ("DB_MIN_ZONE_REPLICAS", "4"),
            ("DB_READ_SUBSET", "5"),
            ("DB_READ_SUBSET_KEY", " chat-7 "),
        ])
        .expect("valid");
        let ms = Duration::from_millis;
        let replicas: Vec<_> =
            config.replicas.iter().map(|node| (&*node.name, node.weight, node.pool_size)).collect();
        assert_eq!(replicas, [("x", 1, Some(7)), ("b:5433", 3, None)]);
        assert!(config.read_replicas_enabled);
        let rollout = Rollout::default().percent(12.5).allow(["rooms.list", "messages.*", "service:chat"]);
        assert_eq!((config.rollout, config.service.as_deref()), (rollout.shadow_percent(2.0), Some("chat")));
        assert_eq!((config.health.lag_threshold, config.health.lag_recovery), (ms(200), ms(17)));
        let (threshold, recovery) = (WalBytes::new(1024), WalBytes::new(8));
        assert_eq!(config.health.lag_bytes, Some(LagBytes { threshold, recovery }));
        assert_eq!((config.health.lag_hard_limit, config.health.min_replicas), (ms(219), 2));
        assert_eq!(config.health.unverified_lag, UnverifiedLag::Serve);
        let ejection = Ejection::default().consecutive_failures(21).error_ratio(0.25).min_samples(22);
        let ejection = ejection.window(23_000 * ms(1)).duration(24_000 * ms(1)).max_duration(25_000 * ms(1));
        assert_eq!(config.health.ejection, ejection.max_share(1.0));
        assert_eq!(config.retry_budget, RetryBudget::new(0.75, 26));
        assert_eq!((config.slow_start, config.drain_timeout), (Duration::ZERO, Duration::ZERO));
        assert_eq!(config.causal_wait, ms(16));
        assert_eq!((config.zone.as_deref(), config.min_zone_replicas), (Some("eu-west-1a"), 4));
        assert_eq!((config.read_subset, config.subset_seed), (Some(5), Some(Subset::seed("chat-7"))));
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
        let config = read([PRIMARY, ("DB_EJECTION", "off")]).expect("valid");
        assert_eq!(config.health.ejection, Ejection::off());
        let config = read([PRIMARY, ("DB_EJECTION", "on")]).expect("valid");
        assert_eq!(config.health.ejection, Ejection::default());
    }

    #[test]
    fn a_fault_names_the_variables_that_it_is_held_against() {
        for (name, value, fault) in [
            ("DB_REPLICA_LAG_RECOVERY", "2s", "at most DB_REPLICA_LAG_THRESHOLD, 1000 milliseconds"),
            ("DB_REPLICA_LAG_RECOVERY_BYTES", "1", "both or neither"),
            ("DB_REPLICA_LAG_HARD_LIMIT_MS", "1", "at least DB_REPLICA_LAG_THRESHOLD, 1000 milliseconds"),
            ("DB_PROBE_BACKOFF_MS", "1", "at least DB_PROBE_INTERVAL, 250 milliseconds"),
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

    const DOCUMENTED: &str = include_str!("../../docs/configuration.md");

    /// The cells of the rows that begin with such a name.
    fn rows<'a>(text: &'a str, name: fn(&str) -> bool) -> Vec<Vec<&'a str>> {
        let cells = |line: &'a str| Some(line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ").collect());
        let rows = text.lines().filter_map(cells);
        rows.filter(|row: &Vec<&str>| name(row[0].trim_matches('`'))).collect()
    }

    fn is_variable(name: &str) -> bool {
        name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
    }

    fn quoted(cell: &str) -> Option<&str> {
        cell.strip_prefix('`')?.split('`').next()
    }

    #[test]
    fn every_setting_is_documented_under_its_names() {
        let nodes = [("DATABASE_URL".to_owned(), "primary"), ("DB_READ_REPLICA_URLS".to_owned(), "replicas")];
        let settings = SETTINGS.iter().map(|setting| (format!("DB_{}", setting.variable), setting.name));
        let expected: Vec<_> = nodes.into_iter().chain(settings).collect();
        let rows = rows(DOCUMENTED, is_variable);
        let told = rows.iter().map(|row| (quoted(row[0]).unwrap().to_owned(), quoted(row[1]).unwrap()));
        assert_eq!(told.collect::<Vec<_>>(), expected);
        for (setting, row) in SETTINGS.iter().zip(&rows[2..]) {
            assert_eq!(setting.is_time(), row[2].starts_with("time"), "{row:?}");
        }
    }

    #[test]
    fn every_setter_is_documented() {
        let setters =
            include_str!("builder.rs").lines().filter_map(|line| line.trim().strip_prefix("pub fn "));
        let setters =
            setters.filter(|line| line.contains("self, ")).filter_map(|line| line.split(['(', '<']).next());
        let table: Vec<_> = rows(DOCUMENTED, |name| is_variable(name) || name == "none").concat();
        let mut known = 0;
        for setter in setters {
            let is_named = |cell: &&str| {
                let mut names = cell.split('`').skip(1).step_by(2);
                names.any(|name| name.split('.').next() == Some(setter))
            };
            assert!(table.iter().any(is_named), "{setter} is not in the table");
            known += 1;
        }
        assert!(known > 25, "{known} setters were found");
    }

    #[test]
    fn the_documented_defaults_are_those_of_the_code() {
        let unset = format!("{:?}", RouterBuilder::from_vars([PRIMARY]));
        let mut given = 0;
        for row in rows(DOCUMENTED, is_variable) {
            let (name, default) = (quoted(row[0]).unwrap(), row[3]);
            let Some(value) = quoted(default) else { continue };
            let set = RouterBuilder::from_vars([PRIMARY, (name, value)]);
            if default.contains(',') {
                // It depends on others.
                let (set, unset) = (set.config().expect("valid"), read([PRIMARY]).expect("valid"));
                assert_eq!(format!("{set:?}"), format!("{unset:?}"), "{name}");
            } else {
                assert_eq!(format!("{set:?}"), unset, "{name}");
            }
            given += 1;
        }
        assert!(given > 25, "{given} defaults were found");
    }

    #[test]
    fn the_readme_says_the_same() {
        let all = rows(DOCUMENTED, is_variable);
        let short = rows(include_str!("../../README.md"), is_variable);
        assert!(!short.is_empty());
        for row in short {
            let same =
                all.iter().find(|other| other[0] == row[0]).unwrap_or_else(|| panic!("{} is none", row[0]));
            assert_eq!(same.last(), row.last(), "the default of {}", row[0]);
        }
    }

    #[test]
    fn a_time_has_one_variable_with_a_unit_and_one_without() {
        for (name, value, fault) in [
            (
                "DB_CHECKOUT_TIMEOUT",
                "5000",
                "DB_CHECKOUT_TIMEOUT: lacks its unit; wanted: a whole number and one of the units",
            ),
            (
                "DB_CHECKOUT_TIMEOUT_MS",
                "5s",
                "DB_CHECKOUT_TIMEOUT_MS: is not a number that can be used; wanted: a whole number of milliseconds",
            ),
            ("DB_CHECKOUT_TIMEOUT_MS", "0", "DB_CHECKOUT_TIMEOUT_MS: 0 ms is out of range"),
            ("DB_CHECKOUT_TIMEOUT", "0s", "DB_CHECKOUT_TIMEOUT: 0 ms is out of range"),
        ] {
            let lines = faults([PRIMARY, (name, value)]);
            assert!(lines.len() == 1 && lines[0].starts_with(fault), "{lines:?}");
        }
        assert_eq!(
            faults([PRIMARY, ("DB_CHECKOUT_TIMEOUT", "5s"), ("DB_CHECKOUT_TIMEOUT_MS", "5000")]),
            ["DB_CHECKOUT_TIMEOUT: is set, and so is DB_CHECKOUT_TIMEOUT_MS; wanted: one of them"]
        );
    }

    #[test]
    fn a_slip_is_a_fault_and_what_is_not_ours_is_none() {
        for (name, meant) in [
            ("DB_POOL_SIZES", "DB_POOL_SIZE"),
            ("DB_pool_size", "DB_POOL_SIZE"),
            ("db_pool_size", "DB_POOL_SIZE"),
            ("DB_READ_REPLICA_URL", "DB_READ_REPLICA_URLS"),
            ("DB_CHECKOUT_TIMEOUT_SECS", "DB_CHECKOUT_TIMEOUT_MS"),
            ("DB_READ_REPLICAS_ENABLE", "DB_READ_REPLICAS_ENABLED"),
        ] {
            let expected = format!(
                "{name}: is no variable of the router; wanted: {meant}, or a name that is less like it"
            );
            assert_eq!(faults([PRIMARY, (name, "hunter2")]), [expected]);
        }
        for name in
            ["DB_HOST", "DB_PASSWORD", "DB_NAME", "DB_MAX_POOL_SIZE", "POOL_SIZES", "DATABASE_URI", "DB_"]
        {
            assert!(read([PRIMARY, (name, "hunter2")]).is_ok(), "{name}");
        }
        let lines = faults([("DATABSE_URL", "postgres://app@a/chat")]);
        assert!(lines.len() == 2 && lines[0].contains("wanted: DATABASE_URL, "), "{lines:?}");
    }

    #[test]
    fn another_prefix_has_variables_of_its_own() {
        let vars = |own: &[(&str, &str)]| {
            let process = [("DATABASE_URL", "postgres://app@chat/chat"), ("DB_POOL_SIZE", "3")];
            let all = process.iter().chain(own);
            all.map(|(name, value)| (OsString::from(name), OsString::from(value))).collect()
        };
        let own = [("ORDERS_URL", "postgres://app@orders/orders"), ("ORDERS_POOL_SIZE", "4")];
        let config = RouterBuilder::from_variables("ORDERS_", vars(&own)).config().expect("valid");
        assert_eq!((&*config.primary.name, config.pool_size), ("orders:5432", 4));
        let wrong = [("ORDERS_POOL_SIZE", "0"), ("ORDERS_POOL_SIZES", "4")];
        let error = RouterBuilder::from_variables("ORDERS_", vars(&wrong)).config().expect_err("wrong");
        let keys: Vec<_> = error.faults().iter().map(|fault| fault.key()).collect();
        assert_eq!(keys, ["ORDERS_POOL_SIZES", "ORDERS_URL", "ORDERS_POOL_SIZE"]);
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
            ["DATABASE_URL: is empty; wanted: a value, or none given at all"]
        );
        let url = OsString::from_vec(b"postgres://app:hunter2\xFF@a".to_vec());
        assert_eq!(
            RouterBuilder::from_vars([("DATABASE_URL", url)]).config().expect_err("not UTF-8").to_string(),
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
            ("DB_READ_REPLICAS_PERCENT", "101"),
            ("DB_READ_REPLICAS_ALLOW", "a,hunter2 b"),
            ("DB_SHADOW_PERCENT", "hunter2"),
            ("DB_SERVICE", "hunter2:b"),
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
            ("DB_READ_REPLICAS_PERCENT", "is not a percentage; wanted: a number from 0 to 100"),
            (
                "DB_READ_REPLICAS_ALLOW",
                "has an entry that names no call site; wanted: call sites as in `messages.list`, `messages.*` for all that begin alike, and `service:chat`",
            ),
            ("DB_SHADOW_PERCENT", "is not a number that can be used; wanted: a number from 0 to 100"),
            ("DB_SERVICE", "is not the name of a service; wanted: letters, digits, `-`, `_`, `.` and `/`"),
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
        assert_eq!(lines.len(), 17, "{lines:#?}");
    }

    /// Where a secret may stand.
    const WRAPPINGS: [&str; 16] = [
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
        "postgres://app@a/chat?node_{}=1",
        "postgres://app@a/chat?node_weight={}",
        "postgres://app@a/chat?node_pool_size=1&node_zone=%{}",
        "{}://app@a/chat",
        "host=a user=app password={}",
    ];

    proptest! {
        /// Whatever variable a secret has ended up in, and in whatever it is wrapped, no text shows it.
        #[test]
        fn no_text_shows_a_secret(
            wrappings in prop::collection::vec(prop::option::of(prop::sample::select(&WRAPPINGS[..])), SETTINGS.len() + 2),
        ) {
            let settings = SETTINGS.iter().map(|setting| format!("DB_{}", setting.variable));
            let names = ["DATABASE_URL", "DB_READ_REPLICA_URLS"].map(str::to_owned).into_iter().chain(settings);
            let vars: Vec<_> = names
                .zip(&wrappings)
                // A zone is there to be shown; only what cannot be one is not.
                .filter(|(name, wrapping)| {
                    let shown = ["DB_ZONE", "DB_SERVICE", "DB_READ_REPLICAS_ALLOW"].contains(&name.as_str());
                    !shown || **wrapping != Some("{}")
                })
                .filter_map(|(name, wrapping)| Some((name, wrapping.as_ref()?.replace("{}", "hunter2"))))
                .collect();
            let text = match read(vars.iter().map(|(name, value)| (name.as_str(), value.as_str()))) {
                Ok(config) => format!("{config:?}"),
                Err(error) => format!("{error} {error:?}"),
            };
            prop_assert!(!text.contains("hunter2"), "{}", text);
        }
    }
}
