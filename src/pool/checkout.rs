//! How a call gets a connection.

use super::connect::ConnectError;
use super::lease::Lease;
use super::manager::Manager;
use super::{Place, Pool};
use crate::metrics::Since;
use futures_util::FutureExt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{SemaphorePermit, TryAcquireError, watch};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

/// How long a call waits for a connection of others before it dials again after a failure; twice as long each time, so that
/// a server that has no more to give is not stormed.
const REDIAL: Duration = Duration::from_millis(20);
const REDIAL_MOST: Duration = Duration::from_millis(320);

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
    /// A connection that is open, idle and outside a transaction, if one is there and nobody waits for it.
    pub(crate) fn try_checkout(&self) -> Option<Lease> {
        let began = Since::now();
        let permit = self.shared.gate.try_enter().ok()?;
        self.lend_idle(self.place(permit), began).ok()
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
        let began = Since::now();
        let usage = shared.usage();
        let _waiting = usage.waiting.count();
        let permit = match shared.gate.try_enter() {
            Ok(permit) => permit,
            Err(TryAcquireError::Closed) => return Err(CheckoutError::Closed),
            Err(TryAcquireError::NoPermits) => match self.queue(limits).await {
                Err(CheckoutError::Exhausted) => {
                    usage.exhausted.add();
                    return Err(CheckoutError::Exhausted);
                }
                permit => permit?,
            },
        };
        let place = match self.lend_idle(self.place(permit), began) {
            Ok(lease) => return Ok(lease),
            Err(place) => place,
        };
        let mut refusal = None;
        let connection = tokio::select! {
            biased;
            connection = self.dial(&mut refusal) => connection?,
            () = shared.gate.closed() => return Err(CheckoutError::Closed),
            // There was room for a connection, so it is the node's doing.
            () = sleep_until(limits.deadline.min(Instant::now() + limits.dial)) => {
                return Err(refusal.map_or(CheckoutError::Silent, CheckoutError::Unreachable));
            }
        };
        Ok(Lease::new(connection, place, began))
    }

    fn place(&self, permit: SemaphorePermit<'_>) -> Place {
        permit.forget();
        Place { shared: Arc::clone(&self.shared), purpose: self.purpose }
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
    fn lend_idle(&self, place: Place, began: Since) -> Result<Lease, Place> {
        match self.shared.bb8.get_owned().now_or_never() {
            Some(Ok(connection)) => Ok(Lease::new(connection, place, began)),
            _ => Err(place),
        }
    }

    /// Waits for a permit, unless the node turns out to be out of reach for everybody.
    async fn queue(&self, limits: Limits) -> Result<SemaphorePermit<'_>, CheckoutError> {
        let shared = &self.shared;
        let mut failures = shared.failures.clone();
        failures.mark_unchanged();
        let mut permit = pin!(shared.gate.enter());
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
}

/// The next failure to connect; `None` once there can be no more.
async fn failure(failures: &mut watch::Receiver<Option<Arc<ConnectError>>>) -> Option<Arc<ConnectError>> {
    failures.changed().await.ok()?;
    failures.borrow_and_update().clone()
}
