//! The router: the one place that knows all the rest.

mod request;

pub use request::{ReadFuture, ReadRequest, WriteFuture, WriteRequest};

use crate::balance::Strategy;
use crate::config::{Config, Fallback, NodeSpec, RouterBuilder};
use crate::error::Error;
use crate::monitor::{Monitor, ProbePolicy};
use crate::pool::{Access, Endpoint, Pool, PoolPolicy};
use crate::status::Status;
use crate::topology::{Latest, Node, Role};
use crate::traffic::Traffic;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

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
    policy: Policy,
    /// The monitor ends when this is dropped.
    stop: watch::Sender<bool>,
}

/// How requests are answered.
#[derive(Debug)]
struct Policy {
    strategy: Arc<dyn Strategy>,
    fallback: Fallback,
    checkout_timeout: Duration,
    connect_timeout: Duration,
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
        let Config {
            primary,
            replicas,
            read_replicas_enabled,
            pool_size,
            checkout_timeout,
            connect_timeout,
            load_balancing,
            fallback,
            health,
            probe_interval,
            probe_timeout,
        } = config;
        let pools = PoolPolicy { size: pool_size, connect_timeout };
        let replicas = replicas.into_iter().filter(|_| read_replicas_enabled);
        let nodes = std::iter::once(open(primary, Role::Primary, pools));
        let nodes: Vec<_> = nodes.chain(replicas.map(|node| open(node, Role::Replica, pools))).collect();

        let unproven = Monitor::unproven(nodes.iter().map(|(node, _)| Arc::clone(node)));
        let topology = Arc::new(Latest::new(unproven));
        let probes = ProbePolicy { interval: probe_interval, timeout: probe_timeout };
        let monitor = Monitor { nodes, health, probes, topology: Arc::clone(&topology) };
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(monitor.run(stopped));

        let strategy = load_balancing.into_strategy(&mut rand::rng());
        let policy = Policy { strategy, fallback, checkout_timeout, connect_timeout };
        Self { shared: Arc::new(Shared { topology, policy, stop }) }
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

    /// What the router knows of each node at this moment, the primary first.
    ///
    /// A snapshot of memory: it asks nobody and waits for nothing.
    pub fn status(&self) -> Status {
        Status::of(&self.shared.topology.load())
    }

    /// Stops the monitor and waits for its end. Every request that waits for a connection, and every later one, fails with
    /// [`Error::ShutDown`]. Idle connections are closed; handles that are out stay usable, and their connections are closed when
    /// they are dropped.
    ///
    /// # Cancel safety
    ///
    /// The monitor stops also when the call is dropped; calling again waits for it.
    pub async fn shutdown(&self) {
        for seen in self.shared.topology.load().nodes() {
            seen.node.reads.close();
            if let Some(writes) = &seen.node.writes {
                writes.close();
            }
        }
        self.shared.stop.send_replace(true);
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

fn open(node: NodeSpec, role: Role, pools: PoolPolicy) -> (Arc<Node>, Endpoint) {
    let NodeSpec { name, endpoint, weight } = node;
    let traffic = Arc::<Traffic>::default();
    let pool = |access| Pool::new(Arc::clone(&name), endpoint.clone(), access, pools, Arc::clone(&traffic));
    let reads = pool(Access::ReadOnly);
    let writes = (role == Role::Primary).then(|| pool(Access::ReadWrite));
    (Arc::new(Node { name, role, weight, traffic, reads, writes }), endpoint)
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router").field("status", &self.status()).finish_non_exhaustive()
    }
}
