//! A node's connections: bb8 opens and counts them, behind a fair gate, failing fast.
//!
//! What bb8 does not do is done around it: a FIFO gate, because a task that returns a connection to bb8 can take it again
//! before those that wait; a stack of those that are idle, because `bb8::Pool::get` costs a timer and its return a wake-up;
//! an answer as soon as the node is known to be out of reach, because `get` waits out its timeout and keeps the cause to itself;
//! and a look at the protocol instead of a ping.
//!
//! To bb8 each connection is in use from when it was opened until it is to be closed.
//!
//! This and its submodules are the only files that name bb8.

mod age;
mod calls;
mod checkout;
mod connect;
mod gate;
mod lease;
mod manager;
mod place;
mod record;
mod stack;
mod tap;
#[cfg(test)]
mod tests;
mod wire;
mod wires;

pub(crate) use checkout::{CheckoutError, Limits};
pub(crate) use connect::{Access, ConnectError, Dialed, Opened};
pub(crate) use lease::Lease;

use crate::endpoint::Endpoint;
use crate::gauge::Gauge;
use crate::traffic::{Traffic, Usage};
use age::Ages;
use futures_util::FutureExt;
use gate::Gate;
use manager::{Failures, Manager, discard};
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use wire::User;
use wires::Wires;

/// The connections to one node for one kind of access. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Pool {
    shared: Arc<Shared>,
    /// What its handles are for.
    purpose: Access,
}

struct Shared {
    node: Arc<str>,
    bb8: bb8::Pool<Manager>,
    gate: Gate,
    wires: Arc<Wires>,
    ages: Arc<Ages>,
    failures: watch::Receiver<Option<Arc<ConnectError>>>,
    /// What the sessions are for.
    access: Access,
    traffic: Arc<Traffic>,
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
    /// Reads and writes share the connections, which then take both.
    pub(crate) common: bool,
}

impl PoolPolicy {
    /// The same, for a node with a size of its own.
    pub(crate) fn sized(self, size: Option<u32>) -> Self {
        Self { size: size.unwrap_or(self.size), ..self }
    }
}

impl Pool {
    /// Opens no connection yet. Must be called within a tokio runtime.
    pub(crate) fn new(
        node: Arc<str>,
        endpoint: Endpoint,
        purpose: Access,
        policy: PoolPolicy,
        traffic: Arc<Traffic>,
    ) -> Self {
        let access = if policy.common { Access::ReadWrite } else { purpose };
        let (last, failures) = watch::channel(None);
        let gate = Gate::new(policy.size);
        let wires = Arc::<Wires>::default();
        let ages = Arc::new(Ages::new());
        let manager = Manager {
            endpoint,
            access,
            connect_timeout: policy.connect_timeout,
            traffic: Arc::clone(&traffic),
            closing: gate.closing(),
            wires: Arc::clone(&wires),
            ages: Arc::clone(&ages),
        };
        let bb8 = bb8::Pool::builder()
            .max_size(policy.size)
            // Costs no round trip: see `Connection::try_lend`.
            .test_on_check_out(true)
            // See `Ages`.
            .max_lifetime(None)
            .idle_timeout(None)
            .retry_connection(false)
            // Every call has a deadline of its own.
            .connection_timeout(Duration::from_secs(24 * 60 * 60))
            .error_sink(Box::new(Failures { traffic: Arc::clone(&traffic), last }))
            .build_unchecked(manager);
        let runtime = tokio::runtime::Handle::current();
        let shared = Shared { node, bb8, gate, wires, ages, failures, access, traffic, runtime };
        let shared = Arc::new(shared);
        shared.runtime.spawn(tend(Arc::downgrade(&shared)));
        Self { purpose, shared }
    }

    /// The same connections, which must take writes, for writes.
    pub(crate) fn for_writes(&self) -> Self {
        Self { purpose: Access::ReadWrite, ..self.clone() }
    }

    /// Retires the pool: idle connections are closed at once and those that are out when they come back, no other is opened, and
    /// every call that waits, and every later one, ends with [`CheckoutError::Closed`]. Handles that are out stay usable.
    pub(crate) fn close(&self) {
        let shared = &self.shared;
        shared.gate.close().into_iter().for_each(discard);
        shared.purge();
        // A dial may have come to its end meanwhile.
        for wire in shared.wires.open() {
            wire.end_if_free(&shared.runtime);
        }
    }

    /// No connection that was dialed before this is given to anybody any more: the node's address has led to another server since.
    pub(crate) fn expire(&self, before: Instant) {
        self.shared.ages.expire(before);
    }

    /// Connections that are used and that are idle.
    #[cfg(feature = "metrics")]
    pub(crate) fn connections(&self) -> [u32; 2] {
        let state = self.shared.bb8.state();
        let idle = state.idle_connections + self.shared.gate.idle_count() as u32;
        [state.connections.saturating_sub(idle), idle]
    }

    /// Connections at most.
    #[cfg(feature = "metrics")]
    pub(crate) fn size(&self) -> u32 {
        self.shared.gate.size()
    }

    /// Waits until the pool is closed and no connection is out any more: with somebody, being opened for somebody, or settling
    /// after somebody.
    ///
    /// # Cancel safety
    ///
    /// A dropped call changes nothing.
    pub(crate) async fn drained(&self) {
        self.shared.gate.drained().await;
    }

    /// Retires the pool and severs every connection that is still out; says how many those were. Their queries fail at once, and
    /// are cancelled on the server.
    ///
    /// A connection through a Unix socket is out of reach while somebody has it: it stays until it is given back.
    pub(crate) fn cut(&self) -> usize {
        self.close();
        let wires = self.shared.wires.open();
        wires.iter().filter(|wire| wire.sever(&self.shared.runtime)).count()
    }
}

impl Shared {
    fn waiting(&self) -> &Gauge {
        self.traffic.waiting(self.access == Access::ReadWrite)
    }

    fn usage(&self) -> &Usage {
        self.traffic.usage(self.access == Access::ReadWrite)
    }

    /// What users of these connections can do.
    fn user(&self) -> User {
        if self.access == Access::ReadOnly { User::Calls } else { User::Anything }
    }

    /// Has bb8 drop those that nobody waited for any more when they were opened: it goes on to the next one when the manager refuses one.
    fn purge(&self) {
        if self.bb8.state().idle_connections > 0 {
            let _runtime = self.runtime.enter();
            let none = self.bb8.get_owned().now_or_never();
            debug_assert!(none.is_none(), "the pool is closed");
        }
    }

    /// Closes what nobody has used in a while, and what has been open for long.
    fn prune(&self, now: Instant, looks: u32) {
        self.ages.tick(now);
        self.gate.extract(|pooled| pooled.is_over()).into_iter().for_each(discard);
        if (age::LOOK * looks).as_nanos().is_multiple_of(age::UNUSED.as_nanos()) {
            self.gate.untouched().into_iter().for_each(discard);
        }
        // Whoever had it opened did not wait for it. Should it have died meanwhile, bb8 opens another one.
        while self.bb8.state().idle_connections > 0
            && let Some(Ok(pooled)) = self.bb8.get_owned().now_or_never()
        {
            pooled.take_back();
            self.gate.put(Box::new(pooled));
        }
    }
}

/// Looks after a pool for as long as there is one.
async fn tend(pool: Weak<Shared>) {
    let mut looks = interval_at(Instant::now() + age::LOOK, age::LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for count in 1.. {
        let now = looks.tick().await;
        match pool.upgrade() {
            Some(pool) if !pool.gate.is_closed() => pool.prune(now, count),
            _ => return,
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("node", &self.shared.node).finish_non_exhaustive()
    }
}
