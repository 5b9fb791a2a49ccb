#![doc = include_str!("../docs/testing.md")]

mod backend;
mod client;
mod frame;
mod lag;
mod node;
mod server;
mod session;
mod sql;
mod stage;

use crate::config::{NodeConfig, RouterBuilder};
use crate::endpoint::Endpoint;
use crate::error::Chain;
use crate::fleet::Role;
use crate::health::HealthState;
use crate::router::Router;
use node::Node;
use stage::Stage;
use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

/// How long all of the start may take, and all of the end.
const LIMIT: Duration = Duration::from_secs(10);

/// Longer than any test: how far a replica is behind is for the test to say.
const NEVER: Duration = Duration::from_secs(3600);

/// A database whose primary and replicas are one transaction, which is rolled back at the end.
pub struct TestDatabase {
    router: Router,
    stage: Arc<Stage>,
    servers: JoinSet<()>,
}

/// How a [`TestDatabase`] is to be.
#[must_use = "it does nothing until it begins"]
pub struct TestDatabaseBuilder {
    url: String,
    replicas: usize,
    configure: Box<dyn FnOnce(RouterBuilder) -> RouterBuilder + Send>,
}

impl TestDatabase {
    /// Begins a transaction in the database at this URL, with a primary and one replica.
    ///
    /// # Errors
    ///
    /// [`TestError`], if the database cannot be reached, or is no primary.
    ///
    /// # Cancel safety
    ///
    /// A dropped call leaves nothing behind.
    pub async fn begin(url: impl Into<String>) -> Result<Self, TestError> {
        Self::builder(url).begin().await
    }

    /// Starts the description of a test database that differs from the default.
    pub fn builder(url: impl Into<String>) -> TestDatabaseBuilder {
        TestDatabaseBuilder { url: url.into(), replicas: 1, configure: Box::new(|router| router) }
    }

    /// The router, for what is to be tested.
    pub fn router(&self) -> Router {
        self.router.clone()
    }

    /// From now on the replicas show what there is now, and nothing that is written later.
    ///
    /// # Errors
    ///
    /// [`TestError`], if a transaction is open that does not end, or the database was lost.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may or may not have paused replay.
    pub async fn pause_replay(&self) -> Result<(), TestError> {
        self.stage.pause().await.map_err(|failure| TestError::new("replay was not paused", failure))
    }

    /// From now on the replicas show all that is written, at once.
    ///
    /// # Errors
    ///
    /// [`TestError`], if a transaction is open that does not end, or the database was lost.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may or may not have resumed replay.
    pub async fn resume_replay(&self) -> Result<(), TestError> {
        self.stage.resume().await.map_err(|failure| TestError::new("replay was not resumed", failure))
    }

    /// From now on the replicas are behind by this much at least, in [`Router::status`] and for
    /// [`max_staleness`](crate::ReadRequest::max_staleness), when replay is paused and they lack something: as if it had been written so
    /// long ago. Zero ends it. Returns when the router knows.
    ///
    /// # Errors
    ///
    /// [`TestError`], if the router does not learn of it in time, as after [`Router::shutdown`].
    ///
    /// # Cancel safety
    ///
    /// A dropped call may or may not have taken effect.
    pub async fn lag(&self, behind: Duration) -> Result<(), TestError> {
        // Longer than any server has been running.
        let behind = behind.min(Duration::from_secs(u32::MAX.into()));
        self.stage.lag(behind.as_millis() as u64);
        let learning = async {
            // The answer to a question that was under way may be an older one.
            let mut heard = Instant::now();
            for _ in 0..2 {
                while !self.has_heard_since(heard) {
                    sleep(Duration::from_millis(2)).await;
                }
                heard = Instant::now();
            }
        };
        let learned = timeout(LIMIT, learning).await;
        learned.map_err(|_| TestError::new("the lag was not learned", "no answer within 10 s"))
    }

    /// Whether the router has heard of all replicas since then.
    fn has_heard_since(&self, then: Instant) -> bool {
        let nodes = self.router.status().nodes;
        let mut replicas = nodes.iter().filter(|node| node.role == Role::Replica);
        replicas.all(|node| node.lag.is_some_and(|lag| lag.answered_at() > then))
    }

    /// Rolls everything back, and waits until the server has done so.
    ///
    /// Dropping the database rolls back as well, without waiting.
    ///
    /// # Errors
    ///
    /// [`TestError`], if the transaction was lost before: then the test has not tested what it seems to.
    ///
    /// # Cancel safety
    ///
    /// Once it has been polled everything is rolled back, although the call was dropped.
    pub async fn rollback(self) -> Result<(), TestError> {
        let Self { router, stage, mut servers } = self;
        let ending = async {
            router.shutdown().await;
            let rolled_back = match stage.session().await {
                Ok(mut session) => {
                    let rolled_back = session.batch("ROLLBACK").await.map(drop);
                    session.close().await;
                    rolled_back
                }
                Err(refusal) => Err(backend::Failure::Refused(refusal)),
            };
            servers.shutdown().await;
            rolled_back
        };
        let ended = timeout(LIMIT, ending).await;
        match ended {
            Ok(Ok(())) => Ok(()),
            Ok(Err(failure)) => {
                Err(TestError::new("the test database was not rolled back in order", failure))
            }
            Err(_) => {
                Err(TestError::new("the test database was not rolled back in order", "no answer within 10 s"))
            }
        }
    }
}

impl TestDatabaseBuilder {
    /// So many replicas, named `replica-1` and so on; one if not said otherwise.
    pub fn replicas(mut self, replicas: usize) -> Self {
        self.replicas = replicas;
        self
    }

    /// Changes the router's settings, such as its fallback or its timeouts. Its nodes are there already.
    pub fn router(mut self, configure: impl FnOnce(RouterBuilder) -> RouterBuilder + Send + 'static) -> Self {
        self.configure = Box::new(configure);
        self
    }

    /// Begins the transaction, and waits until the router has found its nodes.
    ///
    /// # Errors
    ///
    /// [`TestError`], if the database cannot be reached, or is no primary, or the router's settings are wrong.
    ///
    /// # Cancel safety
    ///
    /// A dropped call leaves nothing behind.
    pub async fn begin(self) -> Result<TestDatabase, TestError> {
        let beginning = timeout(LIMIT, self.begin_in_time()).await;
        beginning.unwrap_or_else(|_| Err(TestError::new(BEGIN, "no answer within 10 s")))
    }

    async fn begin_in_time(self) -> Result<TestDatabase, TestError> {
        let error = |cause: Cause| TestError::new(BEGIN, cause);
        let Self { url, replicas, configure } = self;
        let endpoint = Endpoint::parse(&url).map_err(|cause| error(format!("its URL: {cause}").into()))?;
        let stage = Arc::new(Stage::set(endpoint).await.map_err(error)?);
        let mut servers = JoinSet::new();
        let mut builder = Router::builder();
        for node in std::iter::once(Node::Primary).chain((1..=replicas).map(Node::Replica)) {
            let listener =
                TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(|cause| error(cause.into()))?;
            let port = listener.local_addr().map_err(|cause| error(cause.into()))?.port();
            let url = format!("postgres://test:{}@127.0.0.1:{port}/test?sslmode=disable", stage.password);
            let config = NodeConfig::new(url).name(node.name());
            builder = match node {
                Node::Primary => builder.primary(config),
                Node::Replica(_) => builder.replica(config),
            };
            servers.spawn(server::serve(listener, node, Arc::clone(&stage)));
        }
        let builder = builder.lag_threshold(NEVER).lag_hard_limit(NEVER).slow_start(Duration::ZERO);
        let config = configure(builder).config().map_err(|cause| error(cause.into()))?;
        let router = Router::new(config);
        while router.status().nodes.iter().any(|node| node.health != HealthState::Healthy) {
            sleep(Duration::from_millis(2)).await;
        }
        Ok(TestDatabase { router, stage, servers })
    }
}

const BEGIN: &str = "the test database did not begin";

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// What is wrong with a test database.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {}", Chain(&**cause))]
pub struct TestError {
    what: &'static str,
    #[source]
    cause: Cause,
}

impl TestError {
    fn new(what: &'static str, cause: impl Into<Cause>) -> Self {
        Self { what, cause: cause.into() }
    }
}

impl fmt::Debug for TestDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestDatabase").field("router", &self.router).finish_non_exhaustive()
    }
}

impl fmt::Debug for TestDatabaseBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestDatabaseBuilder").field("replicas", &self.replicas).finish_non_exhaustive()
    }
}
