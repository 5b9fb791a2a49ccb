//! One request for a connection, and how it is answered.

use super::{Router, Shared};
use crate::config::Fallback;
use crate::conn::{ReadConn, WriteConn};
use crate::error::{ConnectFailure, Error};
use crate::pool::{CheckoutError, Lease, Limits, Pool};
use crate::topology::{Node, Topology};
use arc_swap::Guard;
use std::borrow::Cow;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;
use tracing::debug;

/// A request waits for a day at most: far enough to be never, and an instant that exists.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

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

impl<'a> IntoFuture for ReadRequest<'a> {
    type Output = Result<ReadConn, Error>;
    type IntoFuture = ReadFuture<'a>;

    fn into_future(self) -> ReadFuture<'a> {
        ReadFuture(Progress::Asked(self))
    }
}

impl<'a> IntoFuture for WriteRequest<'a> {
    type Output = Result<WriteConn, Error>;
    type IntoFuture = WriteFuture<'a>;

    fn into_future(self) -> WriteFuture<'a> {
        WriteFuture(Progress::Asked(self))
    }
}

/// The answer to a [`ReadRequest`].
#[must_use = "futures do nothing until they are awaited"]
pub struct ReadFuture<'a>(Progress<'a, ReadRequest<'a>>);

/// The answer to a [`WriteRequest`].
#[must_use = "futures do nothing until they are awaited"]
pub struct WriteFuture<'a>(Progress<'a, WriteRequest<'a>>);

/// A request is answered by its first poll, without an allocation, when a connection is there; else it waits.
enum Progress<'a, R> {
    Asked(R),
    Waiting(Pin<Box<dyn Future<Output = Result<Lease, Error>> + Send + 'a>>),
}

impl Future for ReadFuture<'_> {
    type Output = Result<ReadConn, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Progress::Asked(ReadRequest { router, timeout }) = self.0 {
            let shared = &*router.shared;
            let topology = shared.topology.load();
            let first = topology.serving().pick(&*shared.policy.strategy);
            let lease = first.and_then(|node| node.reads.try_checkout());
            if let Some(lease) = lease {
                return Poll::Ready(Ok(ReadConn::new(lease)));
            }
            let first = first.cloned();
            self.0 = Progress::Waiting(Box::pin(shared.read(Guard::into_inner(topology), first, timeout)));
        }
        let Progress::Waiting(answer) = &mut self.0 else { unreachable!("it waits from here on") };
        answer.as_mut().poll(cx).map_ok(ReadConn::new)
    }
}

impl Future for WriteFuture<'_> {
    type Output = Result<WriteConn, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Progress::Asked(WriteRequest { router, timeout }) = self.0 {
            let shared = &*router.shared;
            let topology = shared.topology.load();
            if let Some(lease) = topology.primary().writes().try_checkout() {
                return Poll::Ready(Ok(WriteConn::new(lease)));
            }
            self.0 = Progress::Waiting(Box::pin(shared.write(Guard::into_inner(topology), timeout)));
        }
        let Progress::Waiting(answer) = &mut self.0 else { unreachable!("it waits from here on") };
        answer.as_mut().poll(cx).map_ok(WriteConn::new)
    }
}

impl Shared {
    /// Tries one node after the other, beginning with the one that was picked.
    async fn read(
        &self,
        topology: Arc<Topology>,
        first: Option<Arc<Node>>,
        timeout: Duration,
    ) -> Result<Lease, Error> {
        let started = Instant::now();
        let deadline = started + timeout.min(LONGEST);
        // Without replicas there is nothing to fall back from.
        let falls_back = self.policy.fallback == Fallback::Primary || topology.replicas().is_empty();
        let mut failed = None;
        let mut picked = first;
        let mut serving = Cow::Borrowed(topology.serving());
        while let Some(node) = picked {
            // What is left is shared with the nodes that may still have to be tried.
            let attempts = serving.len() as u32 + u32::from(falls_back);
            let dial = deadline.saturating_duration_since(Instant::now()) / attempts.max(1);
            let taken = tokio::select! {
                biased;
                taken = self.checkout(&node.reads, deadline, dial) => Some(taken),
                // Whoever is still waiting for one of its connections must not be served by it any more.
                () = self.topology.left_service(&node) => None,
            };
            match taken {
                None => {
                    debug!(node = &*node.name, "left service while a request waited: trying another node")
                }
                Some(Err(error @ (CheckoutError::Unreachable(_) | CheckoutError::Silent))) => {
                    let error = describe(error, &node, started);
                    debug!(node = &*node.name, %error, "trying another node");
                    failed = Some(error);
                }
                Some(taken) => return taken.map_err(|error| describe(error, &node, started)),
            }
            serving = Cow::Owned(serving.without(&node));
            picked = serving.pick(&*self.policy.strategy).cloned();
        }
        if !falls_back {
            return Err(failed.unwrap_or_else(|| no_eligible_node(&self.topology.load())));
        }
        let primary = topology.primary();
        let dial = deadline.saturating_duration_since(Instant::now());
        let taken = self.checkout(&primary.reads, deadline, dial).await;
        taken.map_err(|error| describe(error, primary, started))
    }

    async fn write(&self, topology: Arc<Topology>, timeout: Duration) -> Result<Lease, Error> {
        let started = Instant::now();
        let primary = topology.primary();
        let taken = self.checkout(primary.writes(), started + timeout.min(LONGEST), timeout).await;
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

impl fmt::Debug for ReadFuture<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadFuture").finish_non_exhaustive()
    }
}

impl fmt::Debug for WriteFuture<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteFuture").finish_non_exhaustive()
    }
}
