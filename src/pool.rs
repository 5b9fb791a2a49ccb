//! A node's connections: bb8 behind a fair gate, failing fast.
//!
//! bb8 keeps the connections. What it does not do is done around it: a FIFO gate, because a task that returns a
//! connection to bb8 can take it again before those that wait; an answer as soon as the node is known to be out of
//! reach, because `bb8::Pool::get` waits out its timeout and keeps the cause to itself; and a look at the protocol
//! instead of a ping.
//!
//! This and its submodules are the only files that name bb8.

mod calls;
mod connect;
mod lease;
mod manager;
mod tap;
mod wire;

pub(crate) use connect::{Access, ConnectError, Endpoint};
pub(crate) use lease::Lease;

use crate::traffic::Traffic;
use futures_util::FutureExt;
use manager::{Failures, Manager};
use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, watch};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use wire::User;

/// How long a call waits for a connection of others before it dials again after a failure; twice as long each time, so that
/// a server that has no more to give is not stormed.
const REDIAL: Duration = Duration::from_millis(20);
const REDIAL_MOST: Duration = Duration::from_millis(320);

/// The connections to one node for one kind of access. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    node: Arc<str>,
    bb8: bb8::Pool<Manager>,
    /// As many permits as connections; whoever holds one never waits in bb8's own, unfair queue.
    gate: Arc<Semaphore>,
    failures: watch::Receiver<Option<Arc<ConnectError>>>,
    /// For the calls that have passed the gate and are waiting for a connection.
    closed: watch::Sender<bool>,
    /// What users of these connections can do.
    user: User,
    traffic: Arc<Traffic>,
    served: AtomicU64,
    /// Handles may be dropped outside of any runtime, and cleaning up after them needs one.
    runtime: tokio::runtime::Handle,
}

/// How a pool behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PoolPolicy {
    /// Connections at most.
    pub(crate) size: u32,
    /// How long opening a connection may take, from the socket to the last setting.
    pub(crate) connect_timeout: Duration,
}

/// Until when a checkout may take what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// When the call has to end.
    pub(crate) deadline: Instant,
    /// How long the node may take to open a connection, once the pool has room for one.
    pub(crate) dial: Duration,
}

/// Why a pool gave no connection.
#[derive(Debug)]
pub(crate) enum CheckoutError {
    /// The node cannot be reached: another one may be tried.
    Unreachable(Arc<ConnectError>),
    /// The node accepts no connection, nor does it refuse one: another one may be tried.
    Silent,
    /// All connections stayed in use until the deadline. This says nothing of the node's health.
    Exhausted,
    /// The pool was closed.
    Closed,
}

impl Pool {
    /// Opens no connection yet. Must be called within a tokio runtime.
    pub(crate) fn new(
        node: Arc<str>,
        endpoint: Endpoint,
        access: Access,
        policy: PoolPolicy,
        traffic: Arc<Traffic>,
    ) -> Self {
        let (failed, failures) = watch::channel(None);
        let manager = Manager { endpoint, access, connect_timeout: policy.connect_timeout };
        let bb8 = bb8::Pool::builder()
            .max_size(policy.size)
            // Costs no round trip: see `Manager::is_valid`.
            .test_on_check_out(true)
            .retry_connection(false)
            // Every call has a deadline of its own.
            .connection_timeout(Duration::from_secs(24 * 60 * 60))
            .error_sink(Box::new(Failures(failed)))
            .build_unchecked(manager);
        Self {
            shared: Arc::new(Shared {
                node,
                bb8,
                gate: Arc::new(Semaphore::new(policy.size as usize)),
                failures,
                closed: watch::Sender::new(false),
                user: if access == Access::ReadOnly { User::Calls } else { User::Anything },
                traffic,
                served: AtomicU64::new(0),
                runtime: tokio::runtime::Handle::current(),
            }),
        }
    }

    /// Handles given out so far.
    pub(crate) fn served(&self) -> u64 {
        self.shared.served.load(Ordering::Relaxed)
    }

    /// A connection that is open, idle and outside a transaction, if one is there and nobody waits for it.
    pub(crate) fn try_checkout(&self) -> Option<Lease> {
        let permit = Arc::clone(&self.shared.gate).try_acquire_owned().ok()?;
        self.lend_idle(permit).ok()
    }

    /// Takes a connection that is open, idle and outside a transaction, or opens one.
    ///
    /// Callers are served in the order in which they came. No round trip is made for a connection that is there.
    ///
    /// # Cancel safety
    ///
    /// A dropped call leaves the queue, and gives back what it had got.
    pub(crate) async fn checkout(&self, limits: Limits) -> Result<Lease, CheckoutError> {
        let shared = &self.shared;
        let permit = match Arc::clone(&shared.gate).try_acquire_owned() {
            Ok(permit) => permit,
            Err(TryAcquireError::Closed) => return Err(CheckoutError::Closed),
            Err(TryAcquireError::NoPermits) => self.queue(limits).await?,
        };
        let permit = match self.lend_idle(permit) {
            Ok(lease) => return Ok(lease),
            Err(permit) => permit,
        };
        let mut closed = shared.closed.subscribe();
        let mut refusal = None;
        let connection = tokio::select! {
            biased;
            connection = self.dial(&mut refusal) => connection?,
            _ = closed.wait_for(|closed| *closed) => return Err(CheckoutError::Closed),
            // There was room for a connection, so it is the node's doing.
            () = sleep_until(limits.deadline.min(Instant::now() + limits.dial)) => {
                return Err(refusal.map_or(CheckoutError::Silent, CheckoutError::Unreachable));
            }
        };
        Ok(Lease::new(connection, permit, Arc::clone(shared)))
    }

    /// Opens a connection, or takes one that has been given back meanwhile. As long as others hold connections the node is
    /// there, and a refusal may be a passing one; what was said is left in `refusal`.
    async fn dial(
        &self,
        refusal: &mut Option<Arc<ConnectError>>,
    ) -> Result<bb8::PooledConnection<'static, Manager>, CheckoutError> {
        let bb8 = &self.shared.bb8;
        let mut failures = self.shared.failures.clone();
        failures.mark_unchanged();
        let mut pause = REDIAL;
        loop {
            let mut get = pin!(bb8.get_owned());
            let cause = tokio::select! {
                biased;
                // bb8's only error is its own timeout, which is longer than any deadline.
                connection = &mut get => return connection.map_err(|_| CheckoutError::Silent),
                Some(cause) = failure(&mut failures) => cause,
            };
            if bb8.state().connections == 0 {
                return Err(CheckoutError::Unreachable(cause));
            }
            *refusal = Some(cause);
            if let Ok(connection) = timeout(pause, get).await {
                return connection.map_err(|_| CheckoutError::Silent);
            }
            pause = REDIAL_MOST.min(pause * 2);
        }
    }

    /// The usual case, ahead of everything that only waiting needs.
    fn lend_idle(&self, permit: OwnedSemaphorePermit) -> Result<Lease, OwnedSemaphorePermit> {
        match self.shared.bb8.get_owned().now_or_never() {
            Some(Ok(connection)) => Ok(Lease::new(connection, permit, Arc::clone(&self.shared))),
            _ => Err(permit),
        }
    }

    /// Waits for a permit, unless the node turns out to be out of reach for everybody.
    async fn queue(&self, limits: Limits) -> Result<OwnedSemaphorePermit, CheckoutError> {
        let shared = &self.shared;
        let mut failures = shared.failures.clone();
        failures.mark_unchanged();
        let mut permit = pin!(Arc::clone(&shared.gate).acquire_owned());
        let unreachable = async {
            loop {
                let Some(cause) = failure(&mut failures).await else { return std::future::pending().await };
                if shared.bb8.state().connections == 0 {
                    return cause;
                }
            }
        };
        let queued = async {
            tokio::select! {
                biased;
                permit = &mut permit => permit.map_err(|_| CheckoutError::Closed),
                cause = unreachable => Err(CheckoutError::Unreachable(cause)),
            }
        };
        timeout_at(limits.deadline, queued).await.unwrap_or_else(|_| {
            let connected = shared.bb8.state().connections > 0;
            Err(if connected { CheckoutError::Exhausted } else { CheckoutError::Silent })
        })
    }

    pub(crate) async fn drained(&self) {
        std::future::pending().await
    }
    pub(crate) fn cut(&self) -> usize {
        0
    }

    /// Lets every call that waits, and all later ones, end with [`CheckoutError::Closed`]. Handles that are out stay
    /// usable.
    pub(crate) fn close(&self) {
        self.shared.gate.close();
        self.shared.closed.send_replace(true);
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("node", &self.shared.node).finish_non_exhaustive()
    }
}

/// The next failure to connect; `None` once there can be no more.
async fn failure(failures: &mut watch::Receiver<Option<Arc<ConnectError>>>) -> Option<Arc<ConnectError>> {
    failures.changed().await.ok()?;
    failures.borrow_and_update().clone()
}
