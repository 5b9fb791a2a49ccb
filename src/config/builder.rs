//! Settings from code, and the check that all settings go through.

use super::{
    Config, ConfigError, NodeConfig, NodeSpec,
    fault::{Faults, Key, Part},
};
use crate::{
    balance::{LoadBalancing, Strategy},
    health::HealthPolicy,
    pool::Endpoint,
    retry::RetryBudget,
    topology::Fallback,
};
use std::{collections::HashMap, sync::Arc, time::Duration};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const MINUTE: Duration = Duration::from_secs(60);

const URL_WANTED: &str =
    "a URL like postgres://user:password@host:5432/database, with reserved characters percent-encoded";

/// Settings of a router, from code. Only the primary is required.
///
/// # Example
///
/// ```no_run
/// use diesel_replicas::{LoadBalancing, NodeConfig, RouterBuilder};
/// use std::time::Duration;
///
/// let config = RouterBuilder::default()
///     .primary("postgres://app@primary/chat")
///     .replica(NodeConfig::new("postgres://app@replica-1/chat").weight(3))
///     .replica("postgres://app@replica-2/chat")
///     .load_balancing(LoadBalancing::Weighted)
///     .lag_threshold(Duration::from_millis(500))
///     .config()?;
/// # Ok::<(), diesel_replicas::ConfigError>(())
/// ```
#[derive(Debug, Clone)]
#[must_use = "settings do nothing until a router is built from them"]
pub struct RouterBuilder {
    pub(super) primary: Option<NodeConfig>,
    pub(super) replicas: Vec<NodeConfig>,
    pub(super) read_replicas_enabled: bool,
    pub(super) pool_size: u32,
    pub(super) checkout_timeout: Duration,
    pub(super) connect_timeout: Duration,
    pub(super) retry_budget: RetryBudget,
    pub(super) load_balancing: LoadBalancing,
    pub(super) lag_threshold: Duration,
    pub(super) fallback: Fallback,
    pub(super) probe_interval: Option<Duration>,
    pub(super) probe_timeout: Duration,
}

impl Default for RouterBuilder {
    fn default() -> Self {
        Self {
            primary: None,
            replicas: vec![],
            read_replicas_enabled: true,
            pool_size: 10,
            checkout_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(3),
            retry_budget: RetryBudget::default(),
            load_balancing: LoadBalancing::default(),
            lag_threshold: HealthPolicy::default().lag_threshold,
            fallback: Fallback::default(),
            probe_interval: None,
            probe_timeout: Duration::from_millis(500),
        }
    }
}

impl RouterBuilder {
    /// The server that takes the writes. Required.
    pub fn primary(mut self, node: impl Into<NodeConfig>) -> Self {
        self.primary = Some(node.into());
        self
    }

    /// Adds a server that takes reads: a streaming replica of the primary. Default: none, and the primary serves all reads.
    pub fn replica(mut self, node: impl Into<NodeConfig>) -> Self {
        self.replicas.push(node.into());
        self
    }

    /// Whether replicas are used at all. If not, the primary serves every read, and the replicas are checked but not
    /// connected to: the way to roll them out, and back, without touching the rest. Default: yes. (From the environment it
    /// is no.)
    pub fn read_replicas_enabled(mut self, enabled: bool) -> Self {
        self.read_replicas_enabled = enabled;
        self
    }

    /// The most connections in each pool. A replica has one pool; the primary has one for writes and one for reads. More
    /// let more queries run at once, but each takes memory on the server and counts against its `max_connections`, for every
    /// process of the service. Default: 10.
    pub fn pool_size(mut self, connections: u32) -> Self {
        self.pool_size = connections;
        self
    }

    /// How long a caller waits for a connection in all, further nodes included. Longer rides out bursts; shorter sheds load
    /// early. Default: 5 s.
    pub fn checkout_timeout(mut self, timeout: Duration) -> Self {
        self.checkout_timeout = timeout;
        self
    }

    /// How long opening a connection may take, from the name lookup to the end of the handshake. Too short fails on a busy
    /// server; too long holds up the move to the next node. Default: 3 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How many of the reads that [`Router::with_read`](crate::Router::with_read) runs may be run a second time, when their node was
    /// lost. More hides more failures; fewer keep the load down when everything fails. Default: a fifth of them, and 10 a second.
    pub fn retry_budget(mut self, budget: RetryBudget) -> Self {
        self.retry_budget = budget;
        self
    }

    /// How reads are spread over the replicas. Default: [`LoadBalancing::RoundRobin`].
    pub fn load_balancing(mut self, how: LoadBalancing) -> Self {
        self.load_balancing = how;
        self
    }

    /// Spreads reads by a strategy of one's own: short for [`LoadBalancing::Custom`].
    pub fn strategy(self, strategy: impl Strategy + 'static) -> Self {
        self.load_balancing(LoadBalancing::Custom(Arc::new(strategy)))
    }

    /// A replica that is, or may be, further behind than this gets no reads until it is down to half of it. Lower means
    /// fresher reads; under heavy writing it also means that more of them fall back. Lag is known only as an upper bound, which
    /// includes the time between probes. Default: 1 s.
    pub fn lag_threshold(mut self, lag: Duration) -> Self {
        self.lag_threshold = lag;
        self
    }

    /// What becomes of a read when no replica may serve it. Default: [`Fallback::Primary`].
    pub fn fallback(mut self, fallback: Fallback) -> Self {
        self.fallback = fallback;
        self
    }

    /// How often each node is probed: a lagging or lost replica is noticed this much later, at one small query each time.
    /// At most half of the lag threshold. Default: 250 ms, but a quarter of the lag threshold when that is less, and never
    /// under 10 ms.
    pub fn probe_interval(mut self, interval: Duration) -> Self {
        self.probe_interval = Some(interval);
        self
    }

    /// How long a probe waits for its answer; two in a row without one make a node unreachable. Shorter notices a hung server
    /// sooner, but may mistake a slow one for it. At most 1 min. Default: 500 ms.
    pub fn probe_timeout(mut self, timeout: Duration) -> Self {
        self.probe_timeout = timeout;
        self
    }

    /// Checks the settings.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with them, each with the name of its setter.
    pub fn config(self) -> Result<Config, ConfigError> {
        self.check(Faults::named_by(Key::setter))
    }

    pub(super) fn check(self, mut faults: Faults) -> Result<Config, ConfigError> {
        let Self {
            primary,
            replicas,
            read_replicas_enabled,
            pool_size,
            checkout_timeout,
            connect_timeout,
            retry_budget,
            load_balancing,
            lag_threshold,
            fallback,
            probe_interval,
            probe_timeout,
        } = self;

        if primary.is_none() {
            faults.add(Key::Primary(Part::Url), "is missing", URL_WANTED);
        }
        let mut names = HashMap::new();
        let primary = primary.and_then(|node| check_node(node, Key::Primary, &mut names, &mut faults));
        let replicas = replicas
            .into_iter()
            .enumerate()
            .filter_map(|(i, node)| check_node(node, |part| Key::Replica(i, part), &mut names, &mut faults))
            .collect();

        if pool_size == 0 {
            faults.add(Key::PoolSize, "is 0", "1 connection or more");
        }
        check_duration(Key::CheckoutTimeout, checkout_timeout, DAY, &mut faults);
        check_duration(Key::ConnectTimeout, connect_timeout, DAY, &mut faults);
        if !(0.0..=1.0).contains(&retry_budget.share) {
            faults.add(Key::RetryBudget, "its share is out of range", "a share from 0 to 1");
        }
        check_duration(Key::LagThreshold, lag_threshold, DAY, &mut faults);
        check_duration(Key::ProbeTimeout, probe_timeout, MINUTE, &mut faults);

        let health = HealthPolicy::with_lag_threshold(lag_threshold);
        if let Some(interval) = probe_interval {
            check_duration(Key::ProbeInterval, interval, DAY, &mut faults);
            // The bound of a replica that keeps up still includes one interval: it has to pass for recovered.
            if interval > health.lag_recovery && !lag_threshold.is_zero() {
                let threshold = faults.name(Key::LagThreshold);
                let problem = format!("{} ms is too long to tell lag by", interval.as_millis());
                let most = health.lag_recovery.as_millis();
                faults.add(
                    Key::ProbeInterval,
                    problem,
                    format!("at most half of {threshold}, {most} milliseconds"),
                );
            }
        }

        let config = primary.map(|primary| Config {
            primary,
            replicas,
            read_replicas_enabled,
            pool_size,
            checkout_timeout,
            connect_timeout,
            retry_budget,
            load_balancing,
            fallback,
            probe_interval: probe_interval.unwrap_or_else(|| default_probe_interval(lag_threshold)),
            probe_timeout,
            health,
        });
        faults.result(config)
    }
}

fn default_probe_interval(lag_threshold: Duration) -> Duration {
    (lag_threshold / 4).clamp(Duration::from_millis(10), Duration::from_millis(250))
}

fn check_duration(key: Key, value: Duration, most: Duration, faults: &mut Faults) {
    let millis = value.as_millis();
    if millis == 0 || value > most {
        let wanted = format!("from 1 to {} milliseconds", most.as_millis());
        faults.add(key, format!("{millis} ms is out of range"), wanted);
    }
}

impl NodeConfig {
    /// The node by itself.
    pub(crate) fn check(self) -> Result<NodeSpec, ConfigError> {
        let mut faults = Faults::named_by(Key::setter);
        let spec = check_node(self, |part| Key::Replica(0, part), &mut HashMap::new(), &mut faults);
        faults.result(spec)
    }
}

fn check_node(
    node: NodeConfig,
    key: impl Fn(Part) -> Key,
    names: &mut HashMap<Arc<str>, Key>,
    faults: &mut Faults,
) -> Option<NodeSpec> {
    let NodeConfig { url, name, weight } = node;
    let url = url.trim();
    if url.is_empty() {
        faults.add(key(Part::Url), "is empty", URL_WANTED);
        return None;
    }
    let endpoint = match Endpoint::parse(url) {
        Ok(endpoint) => endpoint,
        Err(error) => {
            faults.add(key(Part::Url), error.to_string(), URL_WANTED);
            return None;
        }
    };

    // A name given in code is at fault as a name; one taken from the URL as the URL.
    let named_by = if name.is_some() { key(Part::Name) } else { key(Part::Url) };
    let name: Arc<str> = name.map_or_else(|| endpoint.host_port(), |name| name.trim().to_owned()).into();
    if name.is_empty() || name.contains(char::is_control) {
        faults.add(named_by, "is empty or not printable", "a name of printable characters");
    } else if let Some(other) = names.insert(Arc::clone(&name), named_by) {
        let problem = format!("makes a second node named {name}, after {}", faults.name(other));
        faults.add(named_by, problem, "another server, or a name of its own for each node");
    }
    Some(NodeSpec { name, endpoint, weight, zone: None })
}

#[cfg(test)]
mod tests {
    use super::{super::Fault, *};

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
    }

    #[test]
    fn probing_keeps_pace_with_the_lag_threshold_unless_told_otherwise() {
        for (threshold, interval) in [(60_000, 250), (1000, 250), (400, 100), (20, 10), (1, 10)] {
            let config = minimal().lag_threshold(ms(threshold)).config().expect("valid");
            assert_eq!(config.probe_interval, ms(interval), "threshold {threshold}");
        }
        let no_threshold = minimal().lag_threshold(Duration::ZERO).probe_interval(ms(200));
        assert_eq!(keys(no_threshold), ["lag_threshold"], "nothing is said about what follows from a fault");
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
            .replica(NodeConfig::new("postgres://app@replica/chat").name(" a ").weight(0))
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
            .config()
            .expect("valid");
        let replicas: Vec<_> = config.replicas.iter().map(|node| (&*node.name, node.weight)).collect();
        assert_eq!(replicas, [("a", 0), ("replica:5433", 1)]);
        assert!(!config.read_replicas_enabled);
        assert_eq!(config.pool_size, 3);
        assert_eq!((config.checkout_timeout, config.connect_timeout), (ms(11), ms(12)));
        assert!(matches!(config.load_balancing, LoadBalancing::Custom(_)));
        assert_eq!(config.fallback, Fallback::Fail);
        assert_eq!((config.health.lag_threshold, config.health.lag_recovery), (ms(200), ms(100)));
        assert_eq!((config.probe_interval, config.probe_timeout), (ms(13), ms(14)));
    }

    #[test]
    fn every_fault_is_reported_at_once() {
        let error = RouterBuilder::default()
            .replica("mysql://hunter2@replica/chat")
            .replica(NodeConfig::new("postgres://app:hunter2@a/chat").name(" "))
            .replica("postgres://app:hunter2@b,c/chat")
            .replica(NodeConfig::new("  ").name("hollow"))
            .replica(NodeConfig::new("postgres://app:hunter2@d/chat").name("twin"))
            .replica(NodeConfig::new("postgres://app:hunter2@e/chat").name("twin"))
            .replica("postgres://app:hunter2@f/chat")
            .replica("postgres://app:hunter2@f:5432/chat")
            .read_replicas_enabled(false)
            .pool_size(0)
            .checkout_timeout(Duration::ZERO)
            .connect_timeout(Duration::MAX)
            .lag_threshold(Duration::from_micros(999))
            .probe_interval(Duration::ZERO)
            .probe_timeout(ms(60_001))
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
                "pool_size",
                "checkout_timeout",
                "connect_timeout",
                "lag_threshold",
                "probe_timeout",
                "probe_interval",
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
