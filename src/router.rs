//! The router: the one place that knows all the rest.

mod change;
mod checkout;
mod fresh;
mod request;
mod rollout;
mod run;
mod session;
mod shadow;
mod spans;
mod waiting;
mod wanted;

pub use request::{ReadFuture, ReadRequest, WriteFuture, WriteRequest};
pub use run::ReadFn;
pub use session::Session;
pub use shadow::Reading;

use self::rollout::{Choice, InForce};
use crate::config::{Config, NodeConfig, NodeSpec, RouterBuilder};
use crate::discovery;
use crate::error::Error;
use crate::event::{Announcer, Events, Listening};
use crate::fleet::{NoPrimary, NodeId, Role};
use crate::monitor::{Command, Inbox, Monitor};
use crate::pool::PoolPolicy;
use crate::replay::Replay;
use crate::retry::Retries;
use crate::status::Status;
use crate::topology::{Latest, Listing, Node, Origin, Seen, Settings, Subset, Topology};
use crate::traffic::Traffic;
use rand::RngExt;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use tokio::sync::{Mutex, Notify, mpsc, watch};
use tokio::time::Instant;
use tracing::{info, warn};

/// Gives out connections: reads go to healthy replicas, writes to the primary.
///
/// Cheap to clone; all clones are the same router. Its monitor ends when the last clone is dropped.
///
/// # Example
///
/// ```no_run
/// use diesel::prelude::*;
/// use diesel_replicas::{Router, RunQueryDsl};
///
/// # diesel::table! { rooms { id -> Integer, name -> Text, } }
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let router = Router::from_env().await?;
///
/// let mut conn = router.read().await?;
/// let names = rooms::table.select(rooms::name).load::<String>(&mut conn).await?;
///
/// let mut conn = router.write().await?;
/// diesel::insert_into(rooms::table).values(rooms::name.eq("lobby")).execute(&mut conn).await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Router {
    shared: Arc<Shared>,
}

struct Shared {
    topology: Arc<Latest>,
    retries: Retries,
    rollout: Choice,
    commands: mpsc::UnboundedSender<Command>,
    /// The monitor ends when this is dropped.
    stop: watch::Sender<bool>,
    listening: Listening,
}

impl Router {
    /// Starts a configuration in code.
    ///
    /// # Example
    ///
    /// ```no_run
    /// use diesel_replicas::{LoadBalancing, NodeConfig, Router};
    ///
    /// # async fn example() -> Result<(), diesel_replicas::Error> {
    /// let router = Router::builder()
    ///     .primary("postgres://app@db-0/chat")
    ///     .replica(NodeConfig::new("postgres://app@db-1/chat").name("db-1").weight(2))
    ///     .replica("postgres://app@db-2/chat")
    ///     .load_balancing(LoadBalancing::Weighted)
    ///     .build()
    ///     .await?;
    /// # Ok(()) }
    /// ```
    pub fn builder() -> RouterBuilder {
        RouterBuilder::default()
    }

    /// A router with the configuration that the environment holds: see [`Config::from_env`] for the variables.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] with every fault of the configuration. A database that cannot be reached is none.
    ///
    /// # Cancel safety
    ///
    /// A call that was not awaited does nothing.
    pub async fn from_env() -> Result<Self, Error> {
        Ok(Self::new(Config::from_env()?))
    }

    /// A router with this configuration, whether or not any node can be reached.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime, as do all ways to start a router: it needs one for its monitor.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let alarm = Arc::new(Notify::new());
        let (sources, every) = (config.discovery.clone(), config.discovery_interval);
        if config.read_replicas_enabled && config.replicas.is_empty() && sources.is_empty() {
            info!("no replica is configured: the primary serves all reads");
        }
        let rollout = Choice::new(InForce::of(&config));
        let topology = Arc::new(Latest::new(Self::unproven(config, &alarm)));
        let retries = Retries::new(topology.load().settings.retry_budget, Instant::now());
        let (commands, told) = mpsc::unbounded_channel();
        let inbox = Arc::new(Mutex::new(Inbox::new(told)));
        let announcer = Announcer::new();
        let listening = announcer.downgrade();
        let monitor = Monitor { topology: Arc::clone(&topology), alarm, inbox, announcer };
        let (stop, stopped) = watch::channel(false);
        for (source, discovery) in sources.into_iter().enumerate() {
            let commands = commands.clone();
            let mut stopped = stopped.clone();
            tokio::spawn(async move {
                let asking = discovery::watch(discovery, every, |found| {
                    // The monitor may have ended.
                    let _ = commands.send(Command::Discovered { source, nodes: valid(found) });
                });
                tokio::select! {
                    () = asking => {}
                    _ = stopped.wait_for(|stop| *stop) => {}
                }
            });
        }
        tokio::spawn(monitor.run(stopped));
        Self { shared: Arc::new(Shared { topology, retries, rollout, commands, stop, listening }) }
    }

    /// The nodes of this configuration, of which nothing is known yet.
    pub(crate) fn unproven(config: Config, alarm: &Arc<Notify>) -> Topology {
        let (nodes, settings) = parts(config);
        let roles = std::iter::once(Role::Primary).chain(std::iter::repeat(Role::Replica));
        let seen = nodes.into_iter().zip(roles).map(|(spec, role)| {
            let NodeSpec { name, endpoint, weight, zone, pool_size } = spec;
            let traffic = Arc::new(Traffic::new(Arc::clone(alarm)));
            let replay = Arc::new(Replay::new(endpoint.clone()));
            let pools = settings.pools.sized(pool_size);
            let node = Node::new(NodeId::unique(), name, endpoint, pools, traffic, replay);
            let listing = Listing { by: Origin::Configuration, role, weight, zone, pool_size };
            Seen::unproven(Arc::new(node), listing)
        });
        let seen = seen.collect();
        Topology::new(seen, Err(NoPrimary::NotYetKnown), Arc::new(settings), None, Instant::now())
    }

    /// Asks for a connection to read from: a healthy replica's, or what the fallback policy says.
    ///
    /// Await the request directly, or refine it first.
    pub fn read(&self) -> ReadRequest<'_> {
        ReadRequest::new(self)
    }

    /// Asks for a connection to write with: always the primary's.
    ///
    /// Await the request directly, or refine it first.
    pub fn write(&self) -> WriteRequest<'_> {
        WriteRequest::new(self)
    }

    /// What the router knows of each node at this moment, in the order of the configuration.
    ///
    /// A snapshot of memory: it asks nobody and waits for nothing.
    pub fn status(&self) -> Status {
        Status::of(&self.shared.topology.load(), self.rollout(), self.shared.rollout.shadows.status())
    }

    /// The nodes by their names, and how each is reached.
    #[cfg(feature = "cli")]
    pub(crate) fn endpoints(&self) -> Vec<(String, crate::endpoint::Endpoint)> {
        let topology = self.shared.topology.load();
        topology.nodes().iter().map(|seen| (seen.node.name.to_string(), seen.node.endpoint.clone())).collect()
    }

    /// What happens to the nodes from now on: health, roles, failovers, alerts, each with its severity. A listener that is slow loses
    /// the oldest events, is told how many, and keeps nobody waiting.
    ///
    /// # Example
    ///
    /// ```no_run
    /// use diesel_replicas::{NoEvent, Router, Severity};
    ///
    /// # async fn page(_: String) {}
    /// # async fn example(router: Router) {
    /// let mut events = router.events();
    /// loop {
    ///     match events.next().await {
    ///         Ok(event) if event.severity == Severity::Critical => page(event.to_string()).await,
    ///         Ok(_) => {}
    ///         Err(NoEvent::ShutDown) => break,
    ///         Err(missed) => tracing::warn!(%missed),
    ///     }
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn events(&self) -> Events {
        self.shared.listening.listen()
    }

    /// Stops the monitor and waits for its end. Every request that waits for a connection, and every later one, fails with
    /// [`Error::ShutDown`]. Idle connections are closed; handles that are out stay usable, and their connections are closed when
    /// they are dropped.
    ///
    /// # Cancel safety
    ///
    /// Once it has been polled, the router is shut down although the call was dropped; calling again waits for the monitor's end.
    pub async fn shutdown(&self) {
        self.shared.stop.send_replace(true);
        self.shared.topology.wake();
        self.shared.stop.closed().await;
    }
}

impl RouterBuilder {
    /// Checks the configuration and starts the router, whether or not any node can be reached.
    ///
    /// Until a first probe has proven a replica, reads follow the fallback policy.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] with every fault of the configuration.
    ///
    /// # Cancel safety
    ///
    /// A call that was not awaited does nothing.
    pub async fn build(self) -> Result<Router, Error> {
        Ok(Router::new(self.config()?))
    }
}

/// Those nodes that can be used; of the others is told why they cannot.
fn valid(nodes: Vec<NodeConfig>) -> Vec<NodeSpec> {
    let check = |node: NodeConfig| {
        let described = format!("{node:?}");
        node.check()
            .inspect_err(|error| warn!(node = described, %error, "a node that was found cannot be used"))
    };
    let mut names = HashSet::new();
    let mut is_first = |node: &NodeSpec| {
        let first = names.insert(Arc::clone(&node.name));
        if !first {
            warn!(node = &*node.name, "another node of this name was found: only the first one is used");
        }
        first
    };
    nodes.into_iter().filter_map(|node| check(node).ok()).filter(|node| is_first(node)).collect()
}

/// The nodes to use, the primary first, and how to use them.
pub(crate) fn parts(config: Config) -> (Vec<NodeSpec>, Settings) {
    let Config {
        primary,
        replicas,
        read_replicas_enabled,
        rollout: _,
        service: _,
        discovery: _,
        discovery_interval: _,
        pool_size,
        checkout_timeout,
        connect_timeout,
        retry_budget,
        load_balancing,
        slow_start,
        zone,
        min_zone_replicas,
        read_subset,
        subset_seed,
        fallback,
        causal_wait,
        drain_timeout,
        health,
        alerts,
        probe_interval,
        probe_timeout,
        probe_backoff,
    } = config;
    let replicas = replicas.into_iter().filter(|_| read_replicas_enabled);
    let settings = Settings {
        read_replicas_enabled,
        strategy: load_balancing.into_strategy(&mut rand::rng()),
        fallback,
        pools: PoolPolicy { size: pool_size, connect_timeout, common: !read_replicas_enabled },
        checkout_timeout,
        causal_wait,
        drain_timeout,
        retry_budget,
        health,
        alerts,
        probe_interval,
        probe_timeout,
        probe_backoff,
        slow_start,
        zone,
        min_zone_replicas,
        subset: read_subset
            .map(|size| Subset { size, seed: subset_seed.unwrap_or_else(|| rand::rng().random()) }),
    };
    (std::iter::once(primary).chain(replicas).collect(), settings)
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router").field("status", &self.status()).finish_non_exhaustive()
    }
}
