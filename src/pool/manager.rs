//! How bb8 opens a connection, and what it takes for one that can be used again.

use super::age::{Age, Ages};
use super::connect::{Access, ConnectError, Opened};
use super::record::Record;
use super::wire::{Fitness, User, Wire};
use super::wires::Wires;
use crate::endpoint::Endpoint;
use crate::metrics::Since;
use crate::traffic::{Failure, Traffic};
use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::PoolableConnection;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// A connection that counts as one of bb8's. It stays on the heap, and what is passed on is small.
pub(super) type Pooled = Box<bb8::PooledConnection<'static, Manager>>;

/// Opens and judges connections for bb8. Once the pool is closed it opens none, and finds none that is in order.
pub(super) struct Manager {
    pub(super) endpoint: Endpoint,
    pub(super) access: Access,
    pub(super) connect_timeout: Duration,
    pub(super) traffic: Arc<Traffic>,
    /// True when the pool is closed, and nothing more is said when it is gone.
    pub(super) closing: watch::Receiver<bool>,
    pub(super) wires: Arc<Wires>,
    pub(super) ages: Arc<Ages>,
}

impl Manager {
    fn is_closed(&self) -> bool {
        *self.closing.borrow()
    }

    async fn closed(&self) {
        let _ = self.closing.clone().wait_for(|closed| *closed).await;
    }
}

/// A connection and what is known of it.
pub(super) struct Connection {
    pub(super) pg: AsyncPgConnection,
    pub(super) opened: Opened,
    pub(super) wire: Option<Arc<Wire>>,
    pub(super) record: Arc<Record>,
    age: Age,
    ages: Arc<Ages>,
}

impl Connection {
    /// Lends it to somebody, if it is fit. That costs no round trip: what the socket has told so far is enough to know a
    /// connection that the server closed.
    pub(super) fn try_lend(&mut self) -> Fitness {
        if self.is_over() {
            return Fitness::Unfit;
        }
        let fitness = match &self.wire {
            Some(wire) => wire.try_lend(),
            None if self.pg.is_broken() => Fitness::Unfit,
            None => Fitness::Fit,
        };
        if fitness == Fitness::Fit {
            self.record.lend();
        }
        fitness
    }

    /// The same, and waits for what its last user left behind.
    pub(super) async fn lend(&mut self) -> bool {
        if self.is_over() {
            return false;
        }
        let fit = match &self.wire {
            Some(wire) => wire.lend().await,
            None => !self.pg.is_broken(),
        };
        if fit {
            self.record.lend();
        }
        fit
    }

    /// Takes it back from somebody who did nothing with it.
    pub(super) fn take_back(&self) {
        self.record.give_back();
        if let Some(wire) = &self.wire {
            wire.give_back(User::Calls);
        }
    }

    /// Nobody is to have it any more.
    pub(super) fn is_over(&self) -> bool {
        self.record.is_unfit() || self.ages.is_over(self.age)
    }
}

/// Has bb8 close it.
pub(super) fn discard(pooled: Pooled) {
    pooled.record.condemn();
}

/// What bb8's error sink gets.
#[derive(Debug)]
pub(super) enum ManagerError {
    Connect(ConnectError),
    /// An idle connection turned out to be closed, or not to be idle.
    Stale,
    Closed,
}

impl bb8::ManageConnection for Manager {
    type Connection = Connection;
    type Error = ManagerError;

    async fn connect(&self) -> Result<Connection, ManagerError> {
        let writes = self.access == Access::ReadWrite;
        let record = Arc::new(Record::new(Arc::clone(&self.traffic), writes));
        let began = Since::now();
        let (pg, wire, opened) = tokio::select! {
            biased;
            () = self.closed() => return Err(ManagerError::Closed),
            connected = self.endpoint.connect(self.access, &record, self.connect_timeout) => {
                connected.map_err(ManagerError::Connect)?
            }
        };
        self.traffic.usage(writes).times.connected(began);
        if let Some(wire) = &wire {
            self.wires.add(wire);
        }
        // Whoever closes the gate looks at the wires afterwards: either side sees the other.
        if self.is_closed() {
            return Err(ManagerError::Closed);
        }
        let ages = Arc::clone(&self.ages);
        Ok(Connection { pg, opened, wire, record, age: ages.of(opened.dialed), ages })
    }

    async fn is_valid(&self, connection: &mut Connection) -> Result<(), ManagerError> {
        let fit = !self.is_closed() && connection.lend().await;
        if fit { Ok(()) } else { Err(ManagerError::Stale) }
    }

    fn has_broken(&self, connection: &mut Connection) -> bool {
        std::thread::panicking() || connection.is_over() || connection.pg.is_broken()
    }
}

/// Takes note of failures to connect, and passes them on to the calls that wait for a connection.
///
/// bb8 calls the sink when it has given the attempt up; told any earlier, a caller that asks again would find the
/// attempt still counted, and start none.
#[derive(Debug)]
pub(super) struct Failures {
    pub(super) traffic: Arc<Traffic>,
    pub(super) last: watch::Sender<Option<Arc<ConnectError>>>,
}

impl bb8::ErrorSink<ManagerError> for Failures {
    /// Once for each attempt, however many calls wait for its end. A server that refuses this user, password or database counts
    /// as failing, since reads must go elsewhere; one that is merely full does not.
    fn sink(&self, error: ManagerError) {
        match error {
            ManagerError::Connect(cause) => {
                if !cause.is_saturation() {
                    self.traffic.failed(Failure::Connect);
                }
                self.last.send_replace(Some(Arc::new(cause)));
            }
            ManagerError::Stale | ManagerError::Closed => {}
        }
    }

    fn boxed_clone(&self) -> Box<dyn bb8::ErrorSink<ManagerError>> {
        Box::new(Self { traffic: Arc::clone(&self.traffic), last: self.last.clone() })
    }
}
