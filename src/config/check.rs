//! The check that all settings go through.

use super::{
    Config, ConfigError, NodeConfig, RouterBuilder,
    fault::{Faults, Key, Part},
    node::{URL_WANTED, check_zone},
};
use crate::{
    alerts::AlertPolicy,
    health::{Ejection, HealthPolicy, LagBytes},
    lsn::WalBytes,
    rollout::is_name,
    topology::Subset,
};
use std::{collections::HashMap, ops::RangeInclusive, time::Duration};

const MILLI: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl RouterBuilder {
    pub(super) fn check(self) -> Result<Config, ConfigError> {
        let Self {
            mut faults,
            passwords,
            primary,
            replicas,
            read_replicas_enabled,
            rollout,
            service,
            discovery,
            discovery_interval,
            pool_size,
            checkout_timeout,
            connect_timeout,
            retry_budget,
            load_balancing,
            slow_start,
            zone,
            min_zone_replicas,
            read_subset,
            read_subset_key,
            lag_threshold,
            lag_recovery,
            lag_threshold_bytes,
            lag_recovery_bytes,
            unverified_lag,
            lag_hard_limit,
            min_replicas,
            ejection,
            fallback,
            causal_wait,
            drain_timeout,
            probe_interval,
            probe_timeout,
            probe_backoff,
            alert_lag_warning,
            alert_lag_critical,
            alert_unhealthy_after,
        } = self;

        if primary.is_none() {
            faults.add(Key::Primary(Part::Url), "is missing", URL_WANTED);
        }
        let mut names = HashMap::new();
        let mut check = |node: NodeConfig, key: &dyn Fn(Part) -> Key, faults: &mut Faults| {
            node.checked(key, passwords.as_ref(), &mut names, faults)
        };
        // Where the primary's URL names several hosts, the others stand with the replicas.
        let mut nodes =
            primary.map(|node| check(node, &Key::Primary, &mut faults)).unwrap_or_default().into_iter();
        let primary = nodes.next();
        let mut listed: Vec<_> = nodes.collect();
        for (i, node) in replicas.into_iter().enumerate() {
            listed.extend(check(node, &|part| Key::Replica(i, part), &mut faults));
        }
        for (of, unusable) in rollout.faults() {
            faults.add_unusable(Key::RolloutPart(of), unusable);
        }
        if service.as_deref().is_some_and(|name| !is_name(name)) {
            faults.add(
                Key::Service,
                "is not the name of a service",
                "letters, digits, `-`, `_`, `.` and `/`",
            );
        }
        check_duration(Key::DiscoveryInterval, discovery_interval, 100 * MILLI..=DAY, &mut faults);

        if pool_size == 0 {
            faults.add(Key::PoolSize, "is 0", "1 connection or more");
        }
        check_duration(Key::CheckoutTimeout, checkout_timeout, MILLI..=DAY, &mut faults);
        check_duration(Key::ConnectTimeout, connect_timeout, MILLI..=DAY, &mut faults);
        if !(0.0..=1.0).contains(&retry_budget.share) {
            let problem = format!("{} is out of range", retry_budget.share);
            faults.add(Key::RetryBudgetPart("share"), problem, "from 0 to 1");
        }
        check_duration(Key::SlowStart, slow_start, Duration::ZERO..=DAY, &mut faults);
        let zone = check_zone(zone, Key::Zone, &mut faults);
        if min_zone_replicas == 0 {
            faults.add(Key::MinZoneReplicas, "is 0", "1 replica or more");
        }
        if read_subset == Some(0) {
            faults.add(Key::ReadSubset, "is 0", "1 replica or more, or none given at all to read from all");
        }
        let subset_key = read_subset_key.as_deref().map(str::trim);
        if subset_key == Some("") {
            faults.add(Key::SubsetSeed, "is empty", "what tells this process from others");
        }

        check_ejection(&ejection, &mut faults);
        let health = HealthPolicy {
            lag_bytes: check_lag_bytes(lag_threshold_bytes, lag_recovery_bytes, &mut faults),
            unverified_lag,
            min_replicas,
            ejection,
            ..check_lag(lag_threshold, lag_recovery, lag_hard_limit, &mut faults)
        };
        check_duration(Key::CausalWait, causal_wait, Duration::ZERO..=DAY, &mut faults);
        check_duration(Key::DrainTimeout, drain_timeout, Duration::ZERO..=DAY, &mut faults);

        check_duration(Key::ProbeTimeout, probe_timeout, MILLI..=MINUTE, &mut faults);
        let probe_interval =
            check_probe_interval(probe_interval, lag_recovery.is_some(), &health, &mut faults);
        if let Some(longest) = probe_backoff {
            check_duration(Key::ProbeBackoff, longest, MILLI..=DAY, &mut faults);
            check_at_least(Key::ProbeBackoff, longest, Key::ProbeInterval, probe_interval, &mut faults);
        }

        check_duration(Key::AlertLagWarning, alert_lag_warning, MILLI..=DAY, &mut faults);
        check_duration(Key::AlertLagCritical, alert_lag_critical, MILLI..=DAY, &mut faults);
        let (warning, critical) = (alert_lag_warning, alert_lag_critical);
        check_at_least(Key::AlertLagCritical, critical, Key::AlertLagWarning, warning, &mut faults);
        check_duration(Key::AlertUnhealthyAfter, alert_unhealthy_after, Duration::ZERO..=DAY, &mut faults);
        let alerts = AlertPolicy {
            lag_warning: alert_lag_warning,
            lag_critical: alert_lag_critical,
            unhealthy_after: alert_unhealthy_after,
        };

        let config = primary.map(|primary| Config {
            primary,
            replicas: listed,
            read_replicas_enabled,
            rollout,
            service: service.map(Into::into),
            discovery,
            discovery_interval,
            pool_size,
            checkout_timeout,
            connect_timeout,
            retry_budget,
            load_balancing,
            slow_start,
            zone,
            min_zone_replicas,
            read_subset,
            subset_seed: subset_key.map(Subset::seed),
            fallback,
            causal_wait,
            drain_timeout,
            health,
            alerts,
            probe_interval,
            probe_timeout,
            probe_backoff: probe_backoff.unwrap_or_else(|| Duration::from_secs(2).max(probe_interval)),
        });
        faults.result(config)
    }
}

fn check_lag(
    threshold: Duration,
    recovery: Option<Duration>,
    hard_limit: Option<Duration>,
    faults: &mut Faults,
) -> HealthPolicy {
    check_duration(Key::LagThreshold, threshold, MILLI..=DAY, faults);
    let mut policy = HealthPolicy::with_lag_threshold(threshold.min(DAY));
    if let Some(recovery) = recovery {
        check_duration(Key::LagRecovery, recovery, MILLI..=DAY, faults);
        check_at_most(Key::LagRecovery, recovery, Key::LagThreshold, threshold, faults);
        policy.lag_recovery = recovery;
    }
    if let Some(limit) = hard_limit {
        check_duration(Key::LagHardLimit, limit, MILLI..=DAY, faults);
        check_at_least(Key::LagHardLimit, limit, Key::LagThreshold, threshold, faults);
        policy.lag_hard_limit = limit;
    }
    policy
}

fn check_lag_bytes(threshold: Option<u64>, recovery: Option<u64>, faults: &mut Faults) -> Option<LagBytes> {
    if threshold == Some(0) {
        faults.add(Key::LagThresholdBytes, "is 0", "1 byte or more");
    }
    if let Some(recovery) = recovery
        && !faults.has(Key::LagThresholdBytes)
    {
        let of = faults.name(Key::LagThresholdBytes);
        match threshold {
            None => {
                faults.add(Key::LagRecoveryBytes, format!("does nothing without {of}"), "both or neither")
            }
            Some(threshold) if recovery > threshold => {
                let wanted = format!("at most {of}, {threshold} bytes");
                faults.add(Key::LagRecoveryBytes, format!("{recovery} bytes is out of range"), wanted);
            }
            Some(_) => {}
        }
    }
    threshold.map(|threshold| LagBytes {
        threshold: WalBytes::new(threshold),
        recovery: WalBytes::new(recovery.unwrap_or(threshold / 2)),
    })
}

fn check_ejection(ejection: &Ejection, faults: &mut Faults) {
    let Ejection {
        consecutive_failures,
        error_ratio,
        min_samples,
        window,
        duration,
        max_duration,
        max_share,
    } = *ejection;
    let key = Key::EjectionPart;
    for (part, count) in [("consecutive_failures", consecutive_failures), ("min_samples", min_samples)] {
        if count == 0 {
            faults.add(key(part), "is 0", "1 or more");
        }
    }
    if !(error_ratio > 0.0 && error_ratio <= 1.0) {
        faults.add(key("error_ratio"), format!("{error_ratio} is out of range"), "over 0 and at most 1");
    }
    if !(0.0..=1.0).contains(&max_share) {
        faults.add(key("max_share"), format!("{max_share} is out of range"), "from 0 to 1");
    }
    for (part, time) in [("window", window), ("duration", duration), ("max_duration", max_duration)] {
        check_duration(key(part), time, MILLI..=DAY, faults);
    }
    check_at_most(key("duration"), duration, key("max_duration"), max_duration, faults);
}

fn check_probe_interval(
    interval: Option<Duration>,
    recovery_is_set: bool,
    health: &HealthPolicy,
    faults: &mut Faults,
) -> Duration {
    let recovery = health.lag_recovery;
    let Some(interval) = interval else {
        return (recovery / 2).clamp(10 * MILLI, 250 * MILLI);
    };
    check_duration(Key::ProbeInterval, interval, MILLI..=DAY, faults);
    // The bound of a replica that keeps up still includes one interval: it has to pass for recovered.
    if interval > recovery && !faults.has(Key::LagThreshold) && !faults.has(Key::LagRecovery) {
        let problem = format!("{} ms is too long to tell lag by", interval.as_millis());
        let most = if recovery_is_set {
            faults.name(Key::LagRecovery)
        } else {
            format!("half of {}", faults.name(Key::LagThreshold))
        };
        let wanted = format!("at most {most}, {} milliseconds", recovery.as_millis());
        faults.add(Key::ProbeInterval, problem, wanted);
    }
    interval
}

fn check_duration(key: Key, value: Duration, range: RangeInclusive<Duration>, faults: &mut Faults) {
    if !range.contains(&value) {
        let [least, most] = [range.start(), range.end()].map(Duration::as_millis);
        let problem = format!("{} ms is out of range", value.as_millis());
        faults.add(key, problem, format!("from {least} to {most} milliseconds"));
    }
}

fn check_at_most(key: Key, value: Duration, other: Key, most: Duration, faults: &mut Faults) {
    if value > most {
        add_relative(key, value, "at most", other, most, faults);
    }
}

fn check_at_least(key: Key, value: Duration, other: Key, least: Duration, faults: &mut Faults) {
    if value < least {
        add_relative(key, value, "at least", other, least, faults);
    }
}

/// Nothing is said about what may follow from another fault.
fn add_relative(key: Key, value: Duration, side: &str, other: Key, bound: Duration, faults: &mut Faults) {
    if !faults.has(other) {
        let problem = format!("{} ms is out of range", value.as_millis());
        let wanted = format!("{side} {}, {} milliseconds", faults.name(other), bound.as_millis());
        faults.add(key, problem, wanted);
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Fault, NodeConfig},
        *,
    };
    use crate::{
        balance::{LoadBalancing, Strategy},
        endpoint::{Endpoint, Login, PasswordProvider, Providing},
        health::UnverifiedLag,
        retry::RetryBudget,
        topology::Fallback,
    };

    const PRIMARY: &str = "postgres://app:hunter2@primary/chat";

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn keys(builder: RouterBuilder) -> Vec<String> {
        match builder.config() {
            Ok(_) => vec![],
            Err(error) => error.faults().iter().map(|fault| fault.key().to_owned()).collect(),
        }
    }

    fn minimal() -> RouterBuilder {
        RouterBuilder::default().primary(PRIMARY)
    }

    #[test]
    fn defaults_are_as_documented() {
        let config = minimal().config().expect("a primary is enough");
        assert_eq!(&*config.primary.name, "primary:5432");
        assert_eq!((config.primary.weight, config.replicas.len()), (1, 0));
        assert!(config.read_replicas_enabled);
        assert_eq!(config.pool_size, 10);
        assert_eq!((config.checkout_timeout, config.connect_timeout), (ms(5000), ms(3000)));
        assert!(matches!(config.load_balancing, LoadBalancing::RoundRobin));
        assert_eq!(config.fallback, Fallback::Primary);
        assert_eq!((config.health.lag_threshold, config.health.lag_recovery), (ms(1000), ms(500)));
        assert_eq!((config.probe_interval, config.probe_timeout), (ms(250), ms(500)));
        assert_eq!(config.probe_backoff, ms(2000));
        assert_eq!((config.slow_start, config.drain_timeout), (ms(10_000), ms(30_000)));
        assert_eq!(config.causal_wait, ms(100));
        assert_eq!((config.zone, config.min_zone_replicas), (None, 1));
        assert_eq!((config.read_subset, config.subset_seed), (None, None));
        assert!(config.discovery.is_empty());
        assert_eq!(config.discovery_interval, ms(30_000));
        let HealthPolicy { lag_hard_limit, lag_bytes, unverified_lag, min_replicas, ejection, .. } =
            config.health;
        assert_eq!((lag_hard_limit, lag_bytes, min_replicas), (ms(10_000), None, 0));
        assert_eq!((unverified_lag, ejection), (UnverifiedLag::Keep, Ejection::default()));
    }

    #[test]
    fn what_follows_from_a_setting_follows_it() {
        let config = minimal().lag_threshold(ms(400)).lag_recovery(ms(100)).config().expect("valid");
        assert_eq!((config.probe_interval, config.health.lag_hard_limit), (ms(50), ms(4000)));
        let bytes = |builder: RouterBuilder| builder.config().expect("valid").health.lag_bytes;
        let limits = |threshold, recovery| {
            Some(LagBytes { threshold: WalBytes::new(threshold), recovery: WalBytes::new(recovery) })
        };
        assert_eq!(bytes(minimal().lag_threshold_bytes(1001)), limits(1001, 500));
        assert_eq!(bytes(minimal().lag_threshold_bytes(1001).lag_recovery_bytes(0)), limits(1001, 0));
        let rare = minimal().lag_threshold(ms(60_000)).probe_interval(ms(30_000)).config().expect("valid");
        assert_eq!(rare.probe_backoff, ms(30_000));
    }

    #[test]
    fn a_setting_is_held_against_those_it_depends_on() {
        for (builder, fault) in [
            (
                minimal().lag_recovery(ms(1001)),
                "lag_recovery: 1001 ms is out of range; wanted: at most lag_threshold, 1000 milliseconds",
            ),
            (
                minimal().lag_hard_limit(ms(999)),
                "lag_hard_limit: 999 ms is out of range; wanted: at least lag_threshold, 1000 milliseconds",
            ),
            (
                minimal().lag_recovery(ms(200)).probe_interval(ms(201)),
                "probe_interval: 201 ms is too long to tell lag by; wanted: at most lag_recovery, 200 milliseconds",
            ),
            (
                minimal().probe_backoff(ms(249)),
                "probe_backoff: 249 ms is out of range; wanted: at least probe_interval, 250 milliseconds",
            ),
            (
                minimal().lag_recovery_bytes(1),
                "lag_recovery_bytes: does nothing without lag_threshold_bytes; wanted: both or neither",
            ),
            (
                minimal().lag_threshold_bytes(7).lag_recovery_bytes(8),
                "lag_recovery_bytes: 8 bytes is out of range; wanted: at most lag_threshold_bytes, 7 bytes",
            ),
            (
                minimal().ejection(Ejection::default().duration(ms(60_001))),
                "ejection.duration: 60001 ms is out of range; wanted: at most ejection.max_duration, 60000 milliseconds",
            ),
        ] {
            assert_eq!(builder.config().expect_err(fault).to_string(), fault);
        }
        let at_the_bounds = minimal()
            .lag_recovery(ms(1000))
            .lag_hard_limit(ms(1000))
            .probe_backoff(ms(250))
            .lag_threshold_bytes(7)
            .lag_recovery_bytes(7)
            .ejection(Ejection::default().duration(ms(60_000)));
        assert_eq!(keys(at_the_bounds), [""; 0]);
    }

    #[test]
    fn nothing_is_said_about_what_follows_from_a_fault() {
        let zero = Duration::ZERO;
        for (builder, key) in [
            (minimal().lag_threshold(zero).lag_recovery(ms(200)).probe_interval(ms(200)), "lag_threshold"),
            (minimal().lag_threshold(Duration::MAX).lag_hard_limit(ms(200)), "lag_threshold"),
            (minimal().lag_recovery(zero).probe_interval(ms(200)), "lag_recovery"),
            (minimal().probe_interval(zero).probe_backoff(ms(1)), "probe_interval"),
            (minimal().lag_threshold_bytes(0).lag_recovery_bytes(1), "lag_threshold_bytes"),
            (minimal().ejection(Ejection::default().max_duration(zero)), "ejection.max_duration"),
        ] {
            assert_eq!(keys(builder), [key]);
        }
    }

    #[test]
    fn ejection_is_checked_part_by_part() {
        let with = |change: fn(Ejection) -> Ejection| keys(minimal().ejection(change(Ejection::default())));
        for (change, key) in [
            ((|e| e.consecutive_failures(0)) as fn(Ejection) -> Ejection, "ejection.consecutive_failures"),
            (|e| e.min_samples(0), "ejection.min_samples"),
            (|e| e.error_ratio(0.0), "ejection.error_ratio"),
            (|e| e.error_ratio(1.01), "ejection.error_ratio"),
            (|e| e.error_ratio(f64::NAN), "ejection.error_ratio"),
            (|e| e.max_share(-0.01), "ejection.max_share"),
            (|e| e.max_share(1.01), "ejection.max_share"),
            (|e| e.max_share(f64::NAN), "ejection.max_share"),
            (|e| e.window(Duration::ZERO), "ejection.window"),
            (|e| e.duration(Duration::ZERO), "ejection.duration"),
            (|e| e.max_duration(Duration::MAX), "ejection.max_duration"),
        ] {
            assert_eq!(with(change), [key]);
        }
        for good in [
            |e: Ejection| e.error_ratio(1.0).max_share(1.0),
            |e: Ejection| e.max_share(0.0),
            |_| Ejection::off(),
        ] {
            assert_eq!(with(good), [""; 0]);
        }
    }

    #[test]
    fn probing_keeps_pace_with_the_lag_threshold_unless_told_otherwise() {
        for (threshold, interval) in [(60_000, 250), (1000, 250), (400, 100), (20, 10), (1, 10)] {
            let config = minimal().lag_threshold(ms(threshold)).config().expect("valid");
            assert_eq!(config.probe_interval, ms(interval), "threshold {threshold}");
        }
        assert!(minimal().lag_threshold(ms(400)).probe_interval(ms(200)).config().is_ok());
        let error = minimal().lag_threshold(ms(400)).probe_interval(ms(201)).config().expect_err("too long");
        assert_eq!(
            error.to_string(),
            "probe_interval: 201 ms is too long to tell lag by; wanted: at most half of lag_threshold, 200 milliseconds"
        );
    }

    #[test]
    fn every_setting_arrives() {
        #[derive(Debug)]
        struct First;
        impl Strategy for First {
            fn pick(&self, _: &crate::Candidates, _: &mut dyn rand::Rng) -> usize {
                0
            }
        }
        let config = minimal()
            .replica(NodeConfig::new("postgres://app@replica/chat").name(" a ").weight(0).zone("here"))
            .replica(String::from("postgres://app@replica:5433/chat"))
            .read_replicas_enabled(false)
            .pool_size(3)
            .checkout_timeout(ms(11))
            .connect_timeout(ms(12))
            .strategy(First)
            .lag_threshold(ms(200))
            .fallback(Fallback::Fail)
            .probe_interval(ms(13))
            .probe_timeout(ms(14))
            .lag_recovery(ms(150))
            .lag_hard_limit(ms(201))
            .unverified_lag(UnverifiedLag::Exclude)
            .min_replicas(2)
            .ejection(Ejection::off())
            .slow_start(Duration::ZERO)
            .retry_budget(RetryBudget::none())
            .causal_wait(ms(16))
            .drain_timeout(Duration::ZERO)
            .probe_backoff(ms(15))
            .zone(" here ")
            .min_zone_replicas(4)
            .read_subset(5)
            .read_subset_key(" chat-7 ")
            .discover(vec![NodeConfig::new("postgres://app@found/chat")])
            .discover(vec![])
            .discovery_interval(ms(100))
            .config()
            .expect("valid");
        let replicas: Vec<_> = config.replicas.iter().map(|node| (&*node.name, node.weight)).collect();
        assert_eq!(replicas, [("a", 0), ("replica:5433", 1)]);
        let zones: Vec<_> = config.replicas.iter().map(|node| node.zone.as_deref()).collect();
        assert_eq!((zones, config.zone.as_deref()), (vec![Some("here"), None], Some("here")));
        assert_eq!(config.min_zone_replicas, 4);
        assert_eq!((config.read_subset, config.subset_seed), (Some(5), Some(Subset::seed("chat-7"))));
        assert_eq!(config.retry_budget, RetryBudget::none());
        assert_eq!((config.discovery.len(), config.discovery_interval), (2, ms(100)));
        let HealthPolicy { lag_hard_limit, unverified_lag, min_replicas, ref ejection, .. } = config.health;
        assert_eq!((lag_hard_limit, min_replicas), (ms(201), 2));
        assert_eq!((unverified_lag, ejection), (UnverifiedLag::Exclude, &Ejection::off()));
        assert_eq!((config.slow_start, config.drain_timeout), (Duration::ZERO, Duration::ZERO));
        assert_eq!(config.causal_wait, ms(16));
        assert_eq!(config.probe_backoff, ms(15));
        assert!(!config.read_replicas_enabled);
        assert_eq!(config.pool_size, 3);
        assert_eq!((config.checkout_timeout, config.connect_timeout), (ms(11), ms(12)));
        assert!(matches!(config.load_balancing, LoadBalancing::Custom(_)));
        assert_eq!(config.fallback, Fallback::Fail);
        assert_eq!((config.health.lag_threshold, config.health.lag_recovery), (ms(200), ms(150)));
        assert_eq!((config.probe_interval, config.probe_timeout), (ms(13), ms(14)));
    }

    #[test]
    fn a_url_of_several_hosts_is_as_many_nodes() {
        let builder = RouterBuilder::default()
            .primary("postgres://app@a,b:6000,[::1]/chat?node_weight=3&target_session_attrs=read-write")
            .replica(NodeConfig::new("postgres://app@c,d/chat?port=7000").zone("east"));
        let config = builder.config().expect("valid");
        let nodes = std::iter::once(&config.primary).chain(&config.replicas);
        let nodes: Vec<_> = nodes.map(|node| (&*node.name, node.weight, node.zone.as_deref())).collect();
        let expected = [
            ("a:5432", 3, None),
            ("b:6000", 3, None),
            ("[::1]:5432", 3, None),
            ("c:7000", 1, Some("east")),
            ("d:7000", 1, Some("east")),
        ];
        assert_eq!(nodes, expected);
        for (node, key) in [
            (NodeConfig::new("postgres://app@a,b/chat").name("one"), "replica[0].name"),
            (NodeConfig::new("postgres://app@a,b/chat?node_name=one"), "replica[0].url"),
            (NodeConfig::new("postgres://app@a,a/chat"), "replica[0].url"),
        ] {
            assert_eq!(keys(minimal().replica(node)), [key]);
        }
    }

    #[test]
    fn the_routers_provider_is_for_those_without_a_password() {
        #[derive(Debug)]
        struct Nobody;
        impl PasswordProvider for Nobody {
            fn password<'a>(&'a self, _: Login<'a>) -> Providing<'a> {
                Box::pin(async { Err("nobody knows".into()) })
            }
        }
        let own = NodeConfig::new("postgres://app:hunter2@a/chat").password_provider(Nobody);
        let builder = minimal()
            .replica(own)
            .replica("postgres://app@b/chat?passfile=/p")
            .replica("postgres://app@c/chat");
        let endpoints = |builder: RouterBuilder| {
            let config = builder.config().expect("valid");
            let nodes = std::iter::once(config.primary).chain(config.replicas);
            nodes.map(|node| node.endpoint).collect::<Vec<_>>()
        };
        let (without, with) = (endpoints(builder.clone()), endpoints(builder.password_provider(Nobody)));
        let same: Vec<_> = without.iter().zip(&with).map(|(without, with)| without == with).collect();
        assert_eq!(same, [true, true, true, false]);
        assert!(with.iter().all(Endpoint::has_password));
    }

    #[test]
    fn every_fault_is_reported_at_once() {
        let error = RouterBuilder::default()
            .replica("mysql://hunter2@replica/chat")
            .replica(NodeConfig::new("postgres://app:hunter2@a/chat").name(" "))
            .replica("postgres://app:hunter2@b:0/chat")
            .replica(NodeConfig::new("  ").name("hollow"))
            .replica(NodeConfig::new("postgres://app:hunter2@d/chat").name("twin"))
            .replica(NodeConfig::new("postgres://app:hunter2@e/chat").name("twin"))
            .replica("postgres://app:hunter2@f/chat")
            .replica("postgres://app:hunter2@f:5432/chat")
            .replica(NodeConfig::new("postgres://app:hunter2@g/chat").zone("a b"))
            .read_replicas_enabled(false)
            .pool_size(0)
            .checkout_timeout(Duration::ZERO)
            .connect_timeout(Duration::MAX)
            .lag_threshold(Duration::from_micros(999))
            .probe_interval(Duration::ZERO)
            .probe_timeout(ms(60_001))
            .probe_backoff(Duration::MAX)
            .lag_recovery(Duration::ZERO)
            .lag_hard_limit(Duration::ZERO)
            .lag_threshold_bytes(0)
            .ejection(Ejection::default().min_samples(0))
            .slow_start(Duration::MAX)
            .retry_budget(RetryBudget::new(f64::NAN, 1))
            .causal_wait(Duration::MAX)
            .drain_timeout(Duration::MAX)
            .zone("postgres://app:hunter2@h/chat")
            .min_zone_replicas(0)
            .read_subset(0)
            .read_subset_key(" ")
            .discovery_interval(ms(99))
            .config()
            .expect_err("nothing is right");
        let keys: Vec<_> = error.faults().iter().map(Fault::key).collect();
        assert_eq!(
            keys,
            [
                "primary.url",
                "replica[0].url",
                "replica[1].name",
                "replica[2].url",
                "replica[3].url",
                "replica[5].name",
                "replica[7].url",
                "replica[8].zone",
                "discovery_interval",
                "pool_size",
                "checkout_timeout",
                "connect_timeout",
                "retry_budget.share",
                "slow_start",
                "zone",
                "min_zone_replicas",
                "read_subset",
                "read_subset_key",
                "ejection.min_samples",
                "lag_threshold_bytes",
                "lag_threshold",
                "lag_recovery",
                "lag_hard_limit",
                "causal_wait",
                "drain_timeout",
                "probe_timeout",
                "probe_interval",
                "probe_backoff",
            ]
        );
        let text = error.to_string();
        assert_eq!(text.lines().count(), keys.len(), "{text}");
        for line in [
            "primary.url: is missing; wanted: a URL like postgres://user:password@host:5432/database, with reserved characters percent-encoded",
            "replica[5].name: makes a second node named twin, after replica[4].name; wanted: another server, or a name of its own for each node",
            "replica[7].url: makes a second node named f:5432, after replica[6].url; wanted: another server, or a name of its own for each node",
            "pool_size: is 0; wanted: 1 connection or more",
            "checkout_timeout: 0 ms is out of range; wanted: from 1 to 86400000 milliseconds",
            "probe_timeout: 60001 ms is out of range; wanted: from 1 to 60000 milliseconds",
            "slow_start: 18446744073709551615999 ms is out of range; wanted: from 0 to 86400000 milliseconds",
            "discovery_interval: 99 ms is out of range; wanted: from 100 to 86400000 milliseconds",
            "zone: is not the name of a zone; wanted: letters, digits, `-`, `_` and `.`",
            "ejection.min_samples: is 0; wanted: 1 or more",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\nis not in\n{text}");
        }
        assert!(!format!("{text}{error:?}").contains("hunter2"));
    }

    #[test]
    fn replicas_are_checked_even_when_they_are_off() {
        let builder = minimal().replica("nonsense").read_replicas_enabled(false);
        assert_eq!(keys(builder), ["replica[0].url"]);
    }

    #[test]
    fn names_are_checked() {
        let named = |name: &str| minimal().replica(NodeConfig::new("postgres://app@a/chat").name(name));
        assert_eq!(keys(named("a\nb")), ["replica[0].name"]);
        assert_eq!(keys(named("primary:5432")), ["replica[0].name"]);
        assert_eq!(keys(named("zürich-1")), [""; 0]);
    }

    #[test]
    fn no_secret_shows() {
        let builder = minimal().replica("postgres://app:hunter2@a/chat?password=hunter2");
        let builder_text = format!("{builder:?}");
        let config = builder.config().expect("valid");
        assert!(!format!("{builder_text}{config:?}").contains("hunter2"));
    }
}
