//! One request for a connection, and how it is answered.

use super::Router;
use super::checkout::Deadline;
use crate::conn::{ReadConn, WriteConn};
use crate::error::Error;
use crate::pool::Lease;
use arc_swap::Guard;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

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
    pub(super) router: &'a Router,
    pub(super) timeout: Option<Duration>,
}

/// A request for a [`WriteConn`]: await it, or refine it first.
///
/// # Errors
///
/// [`Error::NoPrimary`], [`Error::PoolExhausted`], [`Error::Connect`], [`Error::TimedOut`], [`Error::ShutDown`]. Where no node
/// takes writes, the request waits two probe intervals for one.
///
/// # Cancel safety
///
/// A dropped request leaves its place in the queue and gives back what it had got.
#[derive(Debug, Clone, Copy)]
#[must_use = "a request does nothing until it is awaited"]
pub struct WriteRequest<'a> {
    pub(super) router: &'a Router,
    pub(super) timeout: Option<Duration>,
}

impl<'a> ReadRequest<'a> {
    pub(super) fn new(router: &'a Router) -> Self {
        Self { router, timeout: None }
    }

    /// How long this request may take in all, instead of the configured checkout timeout.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

impl<'a> WriteRequest<'a> {
    pub(super) fn new(router: &'a Router) -> Self {
        Self { router, timeout: None }
    }

    /// How long this request may take in all, instead of the configured checkout timeout.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
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
            let first = topology.near().pick(&*topology.settings.strategy);
            let lease = first.and_then(|node| node.reads.try_checkout());
            if let Some(lease) = lease {
                return Poll::Ready(Ok(ReadConn::new(lease)));
            }
            let first = first.cloned();
            let topology = Guard::into_inner(topology);
            let waits = async move {
                let deadline = Deadline::after(timeout.unwrap_or(topology.settings.checkout_timeout));
                shared.read(topology, first, None, deadline).await.map(|(_, lease)| lease)
            };
            self.0 = Progress::Waiting(Box::pin(waits));
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
            let lease = topology.primary().ok().and_then(|primary| primary.writes.try_checkout());
            if let Some(lease) = lease {
                return Poll::Ready(Ok(WriteConn::new(lease)));
            }
            let deadline = Deadline::after(timeout.unwrap_or(topology.settings.checkout_timeout));
            let waits = async move { shared.write(deadline).await.map(|(_, lease)| lease) };
            self.0 = Progress::Waiting(Box::pin(waits));
        }
        let Progress::Waiting(answer) = &mut self.0 else { unreachable!("it waits from here on") };
        answer.as_mut().poll(cx).map_ok(WriteConn::new)
    }
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
