//! A node's connections: bb8 behind a fair gate, failing fast.
//!
//! bb8 keeps the connections. What it does not do is done around it: a FIFO gate, because a task that returns a
//! connection to bb8 can take it again before those that wait; an answer as soon as the node is known to be out of
//! reach, because `bb8::Pool::get` waits out its timeout and keeps the cause to itself; and a look at the protocol
//! instead of a ping.
//!
//! This and its submodules are the only files that name bb8.

mod calls;
mod checkout;
mod connect;
mod gate;
mod lease;
mod manager;
mod record;
mod tap;
#[cfg(test)]
mod tests;
mod wire;
mod wires;

pub(crate) use checkout::{CheckoutError, Limits};
pub(crate) use connect::{Access, ConnectError, Dialed, Opened};
pub(crate) use lease::Lease;

use crate::endpoint::Endpoint;
use crate::traffic::{Traffic, Usage};
use arc_swap::ArcSwapOption;
use futures_util::FutureExt;
use gate::Gate;
use manager::{Failures, Manager};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
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
    gate: Arc<Gate>,
    wires: Arc<Wires>,
    since: Arc<ArcSwapOption<Instant>>,
    failures: watch::Receiver<Option<Arc<ConnectError>>>,
    /// What the sessions are for.
    access: Access,
    traffic: Arc<Traffic>,
    /// Handles may be dropped outside of any runtime, and cleaning up after them needs one.
    runtime: tokio::runtime::Handle,
}

/// The right to one of the connections, from before it is there until it is back.
struct Place {
    shared: Arc<Shared>,
    purpose: Access,
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
        let gate = Arc::new(Gate::new(policy.size));
        let wires = Arc::<Wires>::default();
        let since = Arc::<ArcSwapOption<Instant>>::default();
        let manager = Manager {
            endpoint,
            access,
            connect_timeout: policy.connect_timeout,
            traffic: Arc::clone(&traffic),
            gate: Arc::clone(&gate),
            wires: Arc::clone(&wires),
            since: Arc::clone(&since),
        };
        let bb8 = bb8::Pool::builder()
            .max_size(policy.size)
            // Costs no round trip: see `Manager::is_valid`.
            .test_on_check_out(true)
            .retry_connection(false)
            // Every call has a deadline of its own.
            .connection_timeout(Duration::from_secs(24 * 60 * 60))
            .error_sink(Box::new(Failures { traffic: Arc::clone(&traffic), last }))
            .build_unchecked(manager);
        Self {
            purpose,
            shared: Arc::new(Shared {
                node,
                bb8,
                gate,
                wires,
                since,
                failures,
                access,
                traffic,
                runtime: tokio::runtime::Handle::current(),
            }),
        }
    }

    /// The same connections, which must take writes, for writes.
    pub(crate) fn for_writes(&self) -> Self {
        Self { purpose: Access::ReadWrite, ..self.clone() }
    }

    /// Retires the pool: idle connections are closed at once and those that are out when they come back, no other is opened, and
    /// every call that waits, and every later one, ends with [`CheckoutError::Closed`]. Handles that are out stay usable.
    pub(crate) fn close(&self) {
        let shared = &self.shared;
        shared.gate.close();
        shared.purge();
        // A dial may have come to its end meanwhile.
        for wire in shared.wires.open() {
            wire.end_if_free(&shared.runtime);
        }
    }

    /// No connection that was dialed before this is given to anybody any more: the node's address has led to another server since.
    pub(crate) fn expire(&self, before: Instant) {
        self.shared.since.store(Some(Arc::new(before)));
    }

    /// Connections that are used and that are idle.
    #[cfg(feature = "metrics")]
    pub(crate) fn connections(&self) -> [u32; 2] {
        let state = self.shared.bb8.state();
        [state.connections - state.idle_connections, state.idle_connections]
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
    fn usage(&self) -> &Usage {
        self.traffic.usage(self.access == Access::ReadWrite)
    }

    /// What users of these connections can do.
    fn user(&self) -> User {
        if self.access == Access::ReadOnly { User::Calls } else { User::Anything }
    }

    /// Drops the idle connections of a closed pool: bb8 goes on to the next one when the manager refuses one.
    fn purge(&self) {
        if self.bb8.state().idle_connections > 0 {
            let _runtime = self.runtime.enter();
            let none = self.bb8.get_owned().now_or_never();
            debug_assert!(none.is_none(), "the gate is closed");
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let shared = &self.shared;
        if shared.gate.is_closed() {
            // bb8 has taken back what was out.
            shared.purge();
        }
        shared.gate.leave();
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("node", &self.shared.node).finish_non_exhaustive()
    }
}
