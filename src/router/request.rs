//! One request for a connection, and how it is answered.

use super::{Router, Shared};
use crate::config::Fallback;
use crate::conn::{ReadConn, WriteConn};
use crate::error::{ConnectFailure, Error};
use crate::pool::{CheckoutError, Lease, Limits, Pool};
use crate::topology::{Node, Topology};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tracing::debug;

/// A request for a [`ReadConn`]: await it, or refine it first.
///
/// # Errors
///
/// [`Error::NoEligibleNode`], [`Error::PoolExhausted`], [`Error::Connect`], [`Error::TimedOut`], [`Error::ShutDown`].
/// A node that cannot be reached costs one attempt: the next replica is tried, then the primary. The error is that of the
/// last one.
///
/// # Cancel safety
///
/// A dropped request leaves its place in the queue and gives back what it had got.
#[derive(Debug, Clone, Copy)]
#[must_use = "a request does nothing until it is awaited"]
pub struct ReadRequest<'a> {
    router: &'a Router,
    timeout: Duration,
}

/// A request for a [`WriteConn`]: await it, or refine it first.
///
/// # Errors
///
/// [`Error::PoolExhausted`], [`Error::Connect`], [`Error::TimedOut`], [`Error::ShutDown`].
///
/// # Cancel safety
///
/// A dropped request leaves its place in the queue and gives back what it had got.
#[derive(Debug, Clone, Copy)]
#[must_use = "a request does nothing until it is awaited"]
pub struct WriteRequest<'a> {
    router: &'a Router,
    timeout: Duration,
}

impl<'a> ReadRequest<'a> {
    pub(super) fn new(router: &'a Router) -> Self {
        Self { router, timeout: router.shared.policy.checkout_timeout }
    }

    /// How long this request may take in all, instead of the configured checkout timeout.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

impl<'a> WriteRequest<'a> {
    pub(super) fn new(router: &'a Router) -> Self {
        Self { router, timeout: router.shared.policy.checkout_timeout }
    }

    /// How long this request may take in all, instead of the configured checkout timeout.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

impl<'a> IntoFuture for ReadRequest<'a> {
    type Output = Result<ReadConn, Error>;
    type IntoFuture = Answer<'a, ReadConn>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.router.shared.read(self.timeout).await.map(ReadConn::new) })
    }
}

impl<'a> IntoFuture for WriteRequest<'a> {
    type Output = Result<WriteConn, Error>;
    type IntoFuture = Answer<'a, WriteConn>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.router.shared.write(self.timeout).await.map(WriteConn::new) })
    }
}

impl Shared {
    async fn read(&self, timeout: Duration) -> Result<Lease, Error> {
        let started = Instant::now();
        let deadline = started + timeout;
        let topology = self.topology.load_full();
        let mut remaining = None;
        loop {
            let serving = remaining.as_ref().unwrap_or_else(|| topology.serving());
            let Some(node) = serving.pick(&*self.policy.strategy) else { break };
            // What is left is shared with the nodes that may still have to be tried.
            let attempts = serving.len() as u32 + 1;
            let dial = deadline.saturating_duration_since(Instant::now()) / attempts;
            match self.checkout(&node.reads, deadline, dial).await {
                Err(error @ (CheckoutError::Unreachable(_) | CheckoutError::Silent)) => {
                    let error = describe(error, node, started);
                    debug!(node = &*node.name, %error, "trying another node");
                    remaining = Some(serving.without(node));
                }
                taken => return taken.map_err(|error| describe(error, node, started)),
            }
        }
        // Without replicas there is nothing to fall back from.
        if self.policy.fallback == Fallback::Fail && !topology.replicas().is_empty() {
            return Err(no_eligible_node(&topology));
        }
        let primary = topology.primary();
        let dial = deadline.saturating_duration_since(Instant::now());
        let taken = self.checkout(&primary.reads, deadline, dial).await;
        taken.map_err(|error| describe(error, primary, started))
    }

    async fn write(&self, timeout: Duration) -> Result<Lease, Error> {
        let started = Instant::now();
        let topology = self.topology.load_full();
        let primary = topology.primary();
        let pool = primary.writes.as_ref().expect("the primary is made with a pool for writes");
        let taken = self.checkout(pool, started + timeout, timeout).await;
        taken.map_err(|error| describe(error, primary, started))
    }

    async fn checkout(&self, pool: &Pool, deadline: Instant, dial: Duration) -> Result<Lease, CheckoutError> {
        pool.checkout(Limits { deadline, dial: dial.min(self.policy.connect_timeout) }).await
    }
}

fn describe(error: CheckoutError, node: &Arc<Node>, started: Instant) -> Error {
    let node = node.name.to_string();
    let waited = started.elapsed();
    match error {
        CheckoutError::Unreachable(cause) => Error::Connect { node, cause: ConnectFailure(cause) },
        CheckoutError::Silent => Error::TimedOut { node, waited },
        CheckoutError::Exhausted => Error::PoolExhausted { node, waited },
        CheckoutError::Closed => Error::ShutDown,
    }
}

fn no_eligible_node(topology: &Topology) -> Error {
    let nodes = topology.replicas().iter();
    let nodes = nodes.map(|seen| format!("{}: {}, {}", seen.node.name, seen.health, seen.reason));
    Error::NoEligibleNode { nodes: nodes.collect::<Vec<_>>().join("; ") }
}
