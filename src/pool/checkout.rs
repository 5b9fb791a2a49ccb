//! How a call gets a connection.

use super::connect::ConnectError;
use super::gate::Arrival;
use super::lease::Lease;
use super::manager::Pooled;
use super::place::Place;
use super::{Pool, Shared};
use crate::metrics::Since;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

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
    /// A connection that is open, idle and outside a transaction, if one is there that has settled, and nobody waits for it.
    pub(crate) fn try_checkout(&self) -> Option<Lease> {
        let pooled = self.shared.gate.try_enter().ok()?;
        let place = self.place();
        Some(Lease::new(pooled?, place, self.purpose, None))
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
        let _waiting = shared.waiting().count();
        let (place, pooled) = match shared.gate.enter() {
            Arrival::In(pooled) => (self.place(), pooled),
            Arrival::Closed => return Err(CheckoutError::Closed),
            Arrival::Queued(turn) => match self.queue(turn, limits).await {
                Err(CheckoutError::Exhausted) => {
                    shared.usage().exhausted.add();
                    return Err(CheckoutError::Exhausted);
                }
                place => (place?, shared.gate.idle()),
            },
        };
        if let Some(pooled) = pooled {
            return Ok(Lease::new(pooled, place, self.purpose, Some(began)));
        }
        let mut refusal = None;
        let pooled = tokio::select! {
            biased;
            pooled = self.dial(&mut refusal) => pooled?,
            () = shared.gate.closed() => return Err(CheckoutError::Closed),
            // There was room for a connection, so it is the node's doing.
            () = sleep_until(limits.deadline.min(Instant::now() + limits.dial)) => {
                return Err(refusal.map_or(CheckoutError::Silent, CheckoutError::Unreachable));
            }
        };
        Ok(Lease::new(pooled, place, self.purpose, Some(began)))
    }

    /// For a place that has been taken.
    fn place(&self) -> Place {
        Place::taken(Arc::clone(&self.shared))
    }

    /// Opens a connection, or takes one that has been given back meanwhile. As long as others hold connections the node is
    /// there, and a refusal may be a passing one; what was said is left in `refusal`.
    async fn dial(&self, refusal: &mut Option<Arc<ConnectError>>) -> Result<Pooled, CheckoutError> {
        let Shared { bb8, gate, .. } = &*self.shared;
        if let Some(settled) = gate.settled_for_newcomers().await {
            return Ok(settled);
        }
        let mut returned = pin!(gate.returned());
        let mut failures = self.shared.failures.clone();
        failures.mark_unchanged();
        let mut pause = REDIAL;
        loop {
            let mut get = pin!(bb8.get_owned());
            let cause = tokio::select! {
                biased;
                pooled = &mut returned => return Ok(pooled),
                // bb8's only error is its own timeout, which is longer than any deadline.
                pooled = &mut get => return pooled.map(Box::new).map_err(|_| CheckoutError::Silent),
                Some(cause) = failure(&mut failures) => cause,
            };
            if bb8.state().connections == 0 {
                return Err(CheckoutError::Unreachable(cause));
            }
            *refusal = Some(cause);
            tokio::select! {
                biased;
                pooled = &mut returned => return Ok(pooled),
                pooled = get => return pooled.map(Box::new).map_err(|_| CheckoutError::Silent),
                () = sleep(pause) => {}
            }
            pause = REDIAL_MOST.min(pause * 2);
        }
    }

    /// Waits for a place, unless the node turns out to be out of reach for everybody.
    async fn queue(&self, turn: oneshot::Receiver<Place>, limits: Limits) -> Result<Place, CheckoutError> {
        let shared = &self.shared;
        let mut failures = shared.failures.clone();
        failures.mark_unchanged();
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
                place = turn => place.map_err(|_| CheckoutError::Closed),
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
