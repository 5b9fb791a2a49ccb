//! One request for a connection, and how it is answered.

use super::Router;
use super::checkout::Deadline;
use super::session::Session;
use super::spans::Spans;
use super::wanted::Wanted;
use crate::conn::{Causal, Eventual, Freshness, Latest, ReadConn, WriteConn};
use crate::error::Error;
use crate::freshness::CausalToken;
use crate::pool::Lease;
use crate::topology::{Node, Topology};
use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tracing::Instrument;

/// A request for a [`ReadConn`]: await it, or refine it first.
///
/// `F` is how fresh the connection will be: [`Eventual`], unless it is refined with [`after`](Self::after) or
/// [`latest`](Self::latest).
///
/// # Errors
///
/// [`Error::NoEligibleNode`], [`Error::PoolExhausted`], [`Error::Connect`], [`Error::TimedOut`], [`Error::ShutDown`].
/// A node that cannot be reached costs one attempt: the next replica is tried, then the primary. The error is that of the
/// last one. Of a request that was refined also [`Error::NotFreshEnough`], [`Error::InvalidToken`] and [`Error::NoPrimary`].
/// A read that a [`Rollout`](crate::Rollout) keeps off replicas needs the primary: without one it is [`Error::NoPrimary`].
///
/// # Cancel safety
///
/// A dropped request leaves its place in the queue and gives back what it had got.
#[must_use = "a request does nothing until it is awaited"]
pub struct ReadRequest<'a, F = Eventual> {
    pub(super) router: &'a Router,
    pub(super) timeout: Option<Duration>,
    pub(super) wanted: Wanted,
    /// Whose token is followed and moved.
    pub(super) session: Option<&'a Session>,
    pub(super) site: Option<&'a str>,
    freshness: PhantomData<fn() -> F>,
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
    timeout: Option<Duration>,
    pub(super) session: Option<&'a Session>,
}

impl<'a> ReadRequest<'a> {
    pub(super) fn new(router: &'a Router) -> Self {
        Self {
            router,
            timeout: None,
            wanted: Wanted::default(),
            session: None,
            site: None,
            freshness: PhantomData,
        }
    }

    /// Asks for data that is at least as new as the token's commit: read-your-writes.
    ///
    /// A replica that is known to have replayed the commit serves it. If there is none, one is waited for, up to the
    /// [causal wait](crate::RouterBuilder::causal_wait), which most get to within a millisecond. Then the primary serves it; with a
    /// [fallback policy](crate::Fallback) that keeps reads off the primary it fails with [`Error::NotFreshEnough`].
    ///
    /// Of a token of an older timeline, all is there that has survived the promotion. One that has no place here, of another
    /// cluster, of a timeline that nobody knows or ahead of the primary, is [`Error::InvalidToken`].
    pub fn after(self, token: &CausalToken) -> ReadRequest<'a, Causal> {
        let wanted = Wanted { after: Some(*token), ..self.wanted };
        ReadRequest { wanted, ..self.turn() }
    }

    /// Asks for the latest data: on the primary, with a connection that can only read. It does not take from the connections for
    /// writes, and the [fallback policy](crate::Fallback) has no say in it.
    pub fn latest(self) -> ReadRequest<'a, Latest> {
        let wanted = Wanted { latest: true, ..self.wanted };
        ReadRequest { wanted, ..self.turn() }
    }
}

impl<'a> ReadRequest<'a, Causal> {
    pub(super) fn of_session(router: &'a Router, session: &'a Session) -> Self {
        Self { session: Some(session), ..ReadRequest::new(router).turn() }
    }

    /// Asks for the latest data: see [`ReadRequest::latest`].
    pub fn latest(self) -> ReadRequest<'a, Latest> {
        let wanted = Wanted { latest: true, ..self.wanted };
        ReadRequest { wanted, ..self.turn() }
    }
}

impl<'a, F> ReadRequest<'a, F> {
    /// How long this request may take in all, instead of the configured checkout timeout.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// How old the data may be at most: the bound on a replica's lag when the connection is handed out, not when it was probed last.
    ///
    /// That bound grows from probe to probe. Where no replica is known to be fresh enough, the primary is asked where it is, all such
    /// reads with one question, and a replica is waited for that gets there in time; up to the
    /// [causal wait](crate::RouterBuilder::causal_wait). Then the [fallback policy](crate::Fallback) decides: the primary, or
    /// [`Error::NotFreshEnough`].
    pub fn max_staleness(mut self, longest: Duration) -> Self {
        self.wanted.within = Some(longest);
        self
    }

    /// Names the call site, as in `messages.list`: what a [`Rollout`](crate::Rollout) allows is told by it. Default: none.
    pub fn site(mut self, site: &'a str) -> Self {
        self.site = Some(site);
        self
    }

    /// The same, with the rollout's decision on it. To ask twice would draw twice.
    pub(super) fn decided(mut self, topology: &Topology) -> Self {
        // On the primary anyway.
        if !self.wanted.latest {
            let enabled = topology.settings.read_replicas_enabled;
            let permits = || self.router.shared.rollout.permits(self.site, self.session);
            self.wanted.off_replicas = !(enabled && permits());
        }
        self
    }

    fn turn<G>(self) -> ReadRequest<'a, G> {
        let Self { router, timeout, wanted, session, site, .. } = self;
        ReadRequest { router, timeout, wanted, session, site, freshness: PhantomData }
    }

    pub(super) fn deadline(&self, topology: &Topology) -> Deadline {
        Deadline::after(self.timeout.unwrap_or(topology.settings.checkout_timeout))
    }

    /// Hands out the node's connection, as `topology` has it. A session is told, and the handle keeps what it says.
    pub(super) fn handle(
        &self,
        spans: Spans,
        node: &Arc<Node>,
        topology: &Topology,
        mut lease: Lease,
    ) -> ReadConn<F> {
        spans.end(node, topology, &mut lease);
        ReadConn::new(lease, self.session.map(|session| session.uses(node, topology, false)))
    }

    /// What is wanted, with what a session has seen, if that is known.
    pub(super) fn known(&self) -> Option<Wanted> {
        match self.session {
            // On the primary there is nothing to compare it with.
            Some(session) if !self.wanted.latest => Some(Wanted { after: session.known()?, ..self.wanted }),
            _ => Some(self.wanted),
        }
    }

    /// The same, if need be by asking.
    pub(super) async fn resolved(&self, deadline: Deadline) -> Wanted {
        match self.session {
            Some(session) if !self.wanted.latest => {
                Wanted { after: session.token_by(deadline.at).await, ..self.wanted }
            }
            _ => self.wanted,
        }
    }
}

impl<F: Freshness> ReadRequest<'_, F> {
    pub(super) fn spans(&self) -> Spans {
        Spans::begin::<F>("read")
    }
}

impl<'a> WriteRequest<'a> {
    pub(super) fn new(router: &'a Router) -> Self {
        Self { router, timeout: None, session: None }
    }

    pub(super) fn of_session(router: &'a Router, session: &'a Session) -> Self {
        Self { router, timeout: None, session: Some(session) }
    }

    /// How long this request may take in all, instead of the configured checkout timeout.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

impl<'a, F: Freshness> IntoFuture for ReadRequest<'a, F> {
    type Output = Result<ReadConn<F>, Error>;
    type IntoFuture = ReadFuture<'a, F>;

    fn into_future(self) -> ReadFuture<'a, F> {
        ReadFuture(Progress::Asked(self))
    }
}

impl WriteRequest<'_> {
    pub(super) fn deadline(&self, topology: &Topology) -> Deadline {
        Deadline::after(self.timeout.unwrap_or(topology.settings.checkout_timeout))
    }

    /// Tells the session, if there is one, what was committed.
    pub(super) fn observe(&self, token: CausalToken) {
        if let Some(session) = self.session {
            session.observe(token);
        }
    }

    pub(super) fn spans(&self) -> Spans {
        Spans::begin::<Latest>("write")
    }

    /// Hands out the primary's connection, as `topology` has it.
    pub(super) fn handle(
        &self,
        spans: Spans,
        node: &Arc<Node>,
        topology: &Topology,
        mut lease: Lease,
    ) -> WriteConn {
        spans.end(node, topology, &mut lease);
        WriteConn::new(lease, topology.history, self.uses(node, topology))
    }

    /// Tells the session, if there is one; the handle has to keep what it says.
    pub(super) fn uses(&self, node: &Arc<Node>, topology: &Topology) -> Option<Arc<()>> {
        self.session.map(|session| session.uses(node, topology, true))
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
pub struct ReadFuture<'a, F = Eventual>(Progress<'a, ReadRequest<'a, F>, ReadConn<F>>);

/// The answer to a [`WriteRequest`].
#[must_use = "futures do nothing until they are awaited"]
pub struct WriteFuture<'a>(Progress<'a, WriteRequest<'a>, WriteConn>);

/// A request is answered by its first poll, without an allocation, when a connection is there; else it waits.
enum Progress<'a, R, C> {
    Asked(R),
    Waiting(Pin<Box<dyn Future<Output = Result<C, Error>> + Send + 'a>>),
}

impl<F: Freshness> Future for ReadFuture<'_, F> {
    type Output = Result<ReadConn<F>, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Progress::Asked(request) = self.0 {
            let spans = request.spans();
            let shared = &*request.router.shared;
            let topology = shared.topology.load();
            let request = request.decided(&topology);
            let known = request.known();
            let first = match known.map(|wanted| shared.try_take(&topology, &wanted)) {
                Some(Ok((node, lease))) => {
                    return Poll::Ready(Ok(request.handle(spans, node, &topology, lease)));
                }
                Some(Err(first)) => first.cloned(),
                None => None,
            };
            let deadline = request.deadline(&topology);
            let span = spans.request();
            let answer = async move {
                let wanted = match known {
                    Some(known) => known,
                    None => request.resolved(deadline).await,
                };
                let (node, lease) = shared.take(wanted, first, None, deadline).await?;
                Ok(request.handle(spans, &node, &shared.topology.load(), lease))
            };
            self.0 = Progress::Waiting(Box::pin(answer.instrument(span)));
        }
        let Progress::Waiting(answer) = &mut self.0 else { unreachable!("it waits from here on") };
        answer.as_mut().poll(cx)
    }
}

impl Future for WriteFuture<'_> {
    type Output = Result<WriteConn, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Progress::Asked(request) = self.0 {
            let spans = request.spans();
            let shared = &*request.router.shared;
            let topology = shared.topology.load();
            if let Some((node, lease)) = shared.try_write(&topology) {
                return Poll::Ready(Ok(request.handle(spans, node, &topology, lease)));
            }
            let deadline = request.deadline(&topology);
            let span = spans.request();
            let answer = async move {
                let (node, lease) = shared.on_primary(deadline, |primary| &primary.writes).await?;
                Ok(request.handle(spans, &node, &shared.topology.load(), lease))
            };
            self.0 = Progress::Waiting(Box::pin(answer.instrument(span)));
        }
        let Progress::Waiting(answer) = &mut self.0 else { unreachable!("it waits from here on") };
        answer.as_mut().poll(cx)
    }
}

// Derived, they would ask the same of `F`.
impl<F> Clone for ReadRequest<'_, F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F> Copy for ReadRequest<'_, F> {}

impl<F> fmt::Debug for ReadRequest<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { timeout, wanted, .. } = self;
        f.debug_struct("ReadRequest")
            .field("timeout", timeout)
            .field("wanted", wanted)
            .finish_non_exhaustive()
    }
}

impl<F> fmt::Debug for ReadFuture<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadFuture").finish_non_exhaustive()
    }
}

impl fmt::Debug for WriteFuture<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteFuture").finish_non_exhaustive()
    }
}
