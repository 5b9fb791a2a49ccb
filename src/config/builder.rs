//! Settings from code.

use super::{
    Config, ConfigError, NodeConfig,
    fault::{Faults, Names},
};
use crate::{
    balance::{LoadBalancing, Strategy},
    discovery::Discovery,
    endpoint::PasswordProvider,
    health::{Ejection, HealthPolicy, UnverifiedLag},
    retry::RetryBudget,
    rollout::Rollout,
    topology::Fallback,
};
use std::{sync::Arc, time::Duration};

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
    /// What was wrong with settings that came as text.
    pub(super) faults: Faults,
    pub(super) passwords: Option<Arc<dyn PasswordProvider>>,
    pub(super) primary: Option<NodeConfig>,
    pub(super) replicas: Vec<NodeConfig>,
    pub(super) read_replicas_enabled: bool,
    pub(super) rollout: Rollout,
    pub(super) service: Option<String>,
    pub(super) discovery: Vec<Arc<dyn Discovery>>,
    pub(super) discovery_interval: Duration,
    pub(super) pool_size: u32,
    pub(super) checkout_timeout: Duration,
    pub(super) connect_timeout: Duration,
    pub(super) retry_budget: RetryBudget,
    pub(super) load_balancing: LoadBalancing,
    pub(super) alert_lag_warning: Duration,
    pub(super) alert_lag_critical: Duration,
    pub(super) alert_unhealthy_after: Duration,
    pub(super) slow_start: Duration,
    pub(super) zone: Option<String>,
    pub(super) min_zone_replicas: usize,
    pub(super) read_subset: Option<usize>,
    pub(super) read_subset_key: Option<String>,
    pub(super) lag_threshold: Duration,
    pub(super) lag_recovery: Option<Duration>,
    pub(super) lag_threshold_bytes: Option<u64>,
    pub(super) lag_recovery_bytes: Option<u64>,
    pub(super) unverified_lag: UnverifiedLag,
    pub(super) lag_hard_limit: Option<Duration>,
    pub(super) min_replicas: usize,
    pub(super) ejection: Ejection,
    pub(super) fallback: Fallback,
    pub(super) causal_wait: Duration,
    pub(super) drain_timeout: Duration,
    pub(super) probe_interval: Option<Duration>,
    pub(super) probe_timeout: Duration,
    pub(super) probe_backoff: Option<Duration>,
}

impl Default for RouterBuilder {
    fn default() -> Self {
        let HealthPolicy { lag_threshold, unverified_lag, min_replicas, ejection, .. } =
            HealthPolicy::default();
        Self {
            faults: Faults::new(Names::Setters),
            passwords: None,
            primary: None,
            replicas: vec![],
            read_replicas_enabled: true,
            rollout: Rollout::default(),
            service: None,
            discovery: vec![],
            discovery_interval: Duration::from_secs(30),
            pool_size: 10,
            checkout_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(3),
            retry_budget: RetryBudget::default(),
            load_balancing: LoadBalancing::default(),
            alert_lag_warning: Duration::from_secs(1),
            alert_lag_critical: Duration::from_secs(5),
            alert_unhealthy_after: Duration::from_secs(120),
            slow_start: Duration::from_secs(10),
            zone: None,
            min_zone_replicas: 1,
            read_subset: None,
            read_subset_key: None,
            lag_threshold,
            lag_recovery: None,
            lag_threshold_bytes: None,
            lag_recovery_bytes: None,
            unverified_lag,
            lag_hard_limit: None,
            min_replicas,
            ejection,
            fallback: Fallback::default(),
            causal_wait: Duration::from_millis(100),
            drain_timeout: Duration::from_secs(30),
            probe_interval: None,
            probe_timeout: Duration::from_millis(500),
            probe_backoff: None,
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

    /// Where the passwords of nodes come from whose URLs have none, neither as such nor as a `passfile`: secrets that are rotated,
    /// tokens that expire. A source of [discovery](Self::discover) and a node that is added later have it from their own settings.
    /// Default: they have no password.
    pub fn password_provider(mut self, provider: impl PasswordProvider) -> Self {
        self.passwords = Some(Arc::new(provider));
        self
    }

    /// Whether replicas are used at all. If not, the primary serves every read, and the replicas are checked but not
    /// connected to: the way to roll them out, and back, without touching the rest. Default: yes. (From the environment it
    /// is no.)
    ///
    /// While they are not, all is as it was with one pool: reads and writes share up to [`pool_size`](Self::pool_size) connections, and
    /// sessions for reads are not read-only on the server. When replicas are switched off in a router that runs, the node that takes
    /// writes by then stays, be it one of them that was promoted.
    pub fn read_replicas_enabled(mut self, enabled: bool) -> Self {
        self.read_replicas_enabled = enabled;
        self
    }

    /// The share of reads that may use replicas, of those whose call site is [allowed](Self::read_replicas_allow): see
    /// [`Rollout::percent`]. [`Router::set_rollout`](crate::Router::set_rollout) changes it while the router runs. Default: 100.
    pub fn read_replicas_percent(mut self, percent: f64) -> Self {
        self.rollout.percent = percent;
        self
    }

    /// The call sites whose reads may use replicas: see [`Rollout::allow`]. Default: none in particular, which allows all.
    pub fn read_replicas_allow<S: Into<String>>(mut self, sites: impl IntoIterator<Item = S>) -> Self {
        self.rollout = self.rollout.allow(sites);
        self
    }

    /// The share of shadowed reads that run on a replica as well: see [`Rollout::shadow_percent`]. Default: 0.
    pub fn shadow_percent(mut self, percent: f64) -> Self {
        self.rollout.shadow_percent = percent;
        self
    }

    /// What the service is called that the router is part of, for entries like `service:chat` in the list of
    /// [call sites](Self::read_replicas_allow). Letters, digits, `-`, `_`, `.` and `/`. Default: none.
    pub fn service(mut self, name: impl Into<String>) -> Self {
        self.service = Some(name.into());
        self
    }

    /// Adds a source of nodes that come and go while the router runs: those it finds are added, and those it finds no longer
    /// are drained and removed. Nodes given by name stay, whatever it finds. Default: none.
    pub fn discover(mut self, discovery: impl Discovery) -> Self {
        self.discovery.push(Arc::new(discovery));
        self
    }

    /// How often each [source of nodes](Self::discover) is asked, give or take a fifth. Shorter notices a new replica sooner,
    /// and asks whoever knows them as much more often. At least 100 ms. Default: 30 s.
    pub fn discovery_interval(mut self, interval: Duration) -> Self {
        self.discovery_interval = interval;
        self
    }

    /// The most connections in each pool. A replica has one pool; the primary has one for writes and one for reads. More
    /// let more queries run at once, but each takes memory on the server and counts against its `max_connections`, for every
    /// process of the service. Default: 10.
    ///
    /// Connections are opened when they are needed, and used again, the last one first. One that has not been used for ten minutes is
    /// closed within another ten, and each is closed for its age when it has been open for between 22 and 30 minutes.
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

    /// Over this lag of a replica there is a [warning](crate::EventKind::Lag), which ends at half of it. Default: 1 s.
    pub fn alert_lag_warning(mut self, lag: Duration) -> Self {
        self.alert_lag_warning = lag;
        self
    }

    /// Over this lag of a replica there is a [critical event](crate::EventKind::Lag), which ends at half of it. Default: 5 s.
    pub fn alert_lag_critical(mut self, lag: Duration) -> Self {
        self.alert_lag_critical = lag;
        self
    }

    /// When a replica has not been healthy for so long there is a [warning](crate::EventKind::Unhealthy). Default: 2 min.
    pub fn alert_unhealthy_after(mut self, time: Duration) -> Self {
        self.alert_unhealthy_after = time;
        self
    }

    /// For how long the share of a replica that is just back grows up to its full one. Longer lets caches fill before the load
    /// is there; meanwhile the others carry more. Zero gives it its full share at once. Default: 10 s.
    pub fn slow_start(mut self, time: Duration) -> Self {
        self.slow_start = time;
        self
    }

    /// Where this router runs. Reads prefer replicas [of the same zone](NodeConfig::zone), which saves time and traffic between
    /// zones, while [enough](Self::min_zone_replicas) of them serve, and are spread over all replicas otherwise. Letters, digits,
    /// `-`, `_` and `.`, as in `eu-west-1a`. Default: none, and zones do not count.
    pub fn zone(mut self, zone: impl Into<String>) -> Self {
        self.zone = Some(zone.into());
        self
    }

    /// The own [zone](Self::zone) is preferred while at least this many of its replicas serve. More keep the few that are left
    /// from being overrun; fewer keep reads near for longer. At least 1. Default: 1.
    pub fn min_zone_replicas(mut self, replicas: usize) -> Self {
        self.min_zone_replicas = replicas;
        self
    }

    /// This router reads from so many replicas alone, a subset of its own of those that serve, of its [zone](Self::zone) as far as there
    /// are enough: for many processes and many replicas, where a pool of each process on each replica is more connections than there
    /// can be. When one of the subset leaves, the next in the router's order takes its place at once. All nodes are watched all the same.
    ///
    /// Fewer save more connections; more spread the load evenly, for which each replica should have some hundred readers: processes times
    /// this number, by the number of replicas. At least 1. Default: all replicas.
    pub fn read_subset(mut self, replicas: usize) -> Self {
        self.read_subset = Some(replicas);
        self
    }

    /// What the [subset](Self::read_subset) is drawn by, other for each process, as the name of a pod is: a process that starts again under the same key has
    /// the same subset again, as far as the replicas are the same. Default: drawn at random for each router.
    pub fn read_subset_key(mut self, key: impl Into<String>) -> Self {
        self.read_subset_key = Some(key.into());
        self
    }

    /// A replica that is, or may be, further behind than this gets no reads until it is down to the
    /// [recovery](Self::lag_recovery). Lower means fresher reads; under heavy writing it also means that more of them fall back.
    /// Lag is known only as an upper bound, which includes the time between probes. Default: 1 s.
    pub fn lag_threshold(mut self, lag: Duration) -> Self {
        self.lag_threshold = lag;
        self
    }

    /// A replica that has left returns at this lag or below, two probes in a row. Nearer to the threshold it returns sooner,
    /// and may leave again as soon. At most the threshold. Default: half of the threshold.
    pub fn lag_recovery(mut self, lag: Duration) -> Self {
        self.lag_recovery = Some(lag);
        self
    }

    /// A replica that lacks more bytes of log than this gets no reads either, however little time that is. Catches a burst of
    /// writes before it has become old; a bulk load takes every replica out. Default: bytes do not count.
    pub fn lag_threshold_bytes(mut self, bytes: u64) -> Self {
        self.lag_threshold_bytes = Some(bytes);
        self
    }

    /// A replica that has left over its [bytes](Self::lag_threshold_bytes) returns when it lacks this many or fewer, two probes in
    /// a row. At most the threshold in bytes. Default: half of it.
    pub fn lag_recovery_bytes(mut self, bytes: u64) -> Self {
        self.lag_recovery_bytes = Some(bytes);
        self
    }

    /// What becomes of a replica whose lag nobody can tell. Default: [`UnverifiedLag::Keep`].
    pub fn unverified_lag(mut self, policy: UnverifiedLag) -> Self {
        self.unverified_lag = policy;
        self
    }

    /// No replica that lags more than this ever serves: the bound of [`min_replicas`](Self::min_replicas) and
    /// [`Fallback::LeastLagged`], which let replicas over the threshold serve. At least the threshold. Default: 10 times the
    /// threshold.
    pub fn lag_hard_limit(mut self, lag: Duration) -> Self {
        self.lag_hard_limit = Some(lag);
        self
    }

    /// While fewer replicas than this are within the lag threshold, those that lag least serve with them, up to the
    /// [hard limit](Self::lag_hard_limit). Keeps capacity when all lag, at the price of older data. Default: 0, and the
    /// threshold is strict.
    pub fn min_replicas(mut self, replicas: usize) -> Self {
        self.min_replicas = replicas;
        self
    }

    /// When a replica that fails the work sent to it is taken out for a while. Default: [`Ejection::default`].
    pub fn ejection(mut self, ejection: Ejection) -> Self {
        self.ejection = ejection;
        self
    }

    /// What becomes of a read when no replica may serve it. Default: [`Fallback::Primary`].
    pub fn fallback(mut self, fallback: Fallback) -> Self {
        self.fallback = fallback;
        self
    }

    /// How long a read [after a token](crate::ReadRequest::after) waits for a replica to replay that far, before it goes to the primary.
    /// Longer keeps more of these reads off the primary while replicas lag; shorter answers them sooner. Zero uses what is known and
    /// waits for nobody. Default: 100 ms.
    pub fn causal_wait(mut self, longest: Duration) -> Self {
        self.causal_wait = longest;
        self
    }

    /// How long a node that is removed waits for the handles that are out before their connections are cut. Longer lets long
    /// queries end; shorter frees the server sooner. Zero cuts at once. Default: 30 s.
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.drain_timeout = timeout;
        self
    }

    /// How often each node is probed: a lagging or lost replica is noticed this much later, at one small query each time.
    /// At most the [lag recovery](Self::lag_recovery). Default: 250 ms, but half of the lag recovery when that is less, and never
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

    /// The longest time between two probes of a node that is down: they become rarer the longer it is. Shorter finds it sooner
    /// when it is back; longer spares whoever is starting it. At least the probe interval. Default: 2 s, or the probe interval if
    /// that is longer.
    pub fn probe_backoff(mut self, longest: Duration) -> Self {
        self.probe_backoff = Some(longest);
        self
    }

    /// Checks the settings.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with them, each with the name that it has where the settings come from: a setter, a variable, an entry of
    /// a file.
    pub fn config(self) -> Result<Config, ConfigError> {
        self.check()
    }
}
