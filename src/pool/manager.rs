//! How bb8 opens a connection, and what it takes for one that can be used again.

use super::connect::{Access, ConnectError, Opened};
use super::gate::Gate;
use super::record::Record;
use super::wire::Wire;
use super::wires::Wires;
use crate::endpoint::Endpoint;
use crate::metrics::Since;
use crate::traffic::{Failure, Traffic};
use arc_swap::ArcSwapOption;
use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::PoolableConnection;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Opens and judges connections for bb8. Once the gate is closed it opens none, and finds none that is in order.
pub(super) struct Manager {
    pub(super) endpoint: Endpoint,
    pub(super) access: Access,
    pub(super) connect_timeout: Duration,
    pub(super) traffic: Arc<Traffic>,
    pub(super) gate: Arc<Gate>,
    pub(super) wires: Arc<Wires>,
    /// Connections that were dialed before this may lead to a server that the address leads to no more.
    pub(super) since: Arc<ArcSwapOption<Instant>>,
}

impl Manager {
    fn is_expired(&self, connection: &Connection) -> bool {
        self.since.load().as_deref().is_some_and(|since| connection.opened.dialed < *since)
    }
}

/// A connection and what is known of it.
pub(super) struct Connection {
    pub(super) pg: AsyncPgConnection,
    pub(super) opened: Opened,
    pub(super) wire: Option<Arc<Wire>>,
    pub(super) record: Arc<Record>,
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
            () = self.gate.closed() => return Err(ManagerError::Closed),
            connected = self.endpoint.connect(self.access, &record, self.connect_timeout) => {
                connected.map_err(ManagerError::Connect)?
            }
        };
        self.traffic.usage(writes).times.connected(began);
        if let Some(wire) = &wire {
            self.wires.add(wire);
        }
        // Whoever closes the gate looks at the wires afterwards: either side sees the other.
        if self.gate.is_closed() {
            Err(ManagerError::Closed)
        } else {
            Ok(Connection { pg, opened, wire, record })
        }
    }

    /// Costs no round trip: what the socket has told so far is enough to know a connection that the server closed.
    async fn is_valid(&self, connection: &mut Connection) -> Result<(), ManagerError> {
        let fit = !self.gate.is_closed()
            && !self.is_expired(connection)
            && !connection.pg.is_broken()
            && match &connection.wire {
                Some(wire) => wire.lend().await,
                None => true,
            };
        if !fit {
            return Err(ManagerError::Stale);
        }
        connection.record.lend();
        Ok(())
    }

    fn has_broken(&self, connection: &mut Connection) -> bool {
        let unfit = connection.record.is_unfit() || self.is_expired(connection);
        std::thread::panicking() || unfit || connection.pg.is_broken()
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
