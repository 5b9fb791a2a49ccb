//! How bb8 opens a connection, and what it takes for one that can be used again.

use super::connect::{Access, ConnectError, Endpoint};
use super::wire::Wire;
use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::PoolableConnection;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Opens and judges connections for bb8.
pub(super) struct Manager {
    pub(super) endpoint: Endpoint,
    pub(super) access: Access,
    pub(super) connect_timeout: Duration,
}

/// A connection and what is known of it.
pub(super) struct Connection {
    pub(super) pg: AsyncPgConnection,
    pub(super) wire: Option<Arc<Wire>>,
    /// It has been found unfit for another user.
    pub(super) unfit: bool,
}

/// What bb8's error sink gets.
#[derive(Debug)]
pub(super) enum ManagerError {
    Connect(ConnectError),
    /// An idle connection turned out to be closed, or not to be idle.
    Stale,
}

impl bb8::ManageConnection for Manager {
    type Connection = Connection;
    type Error = ManagerError;

    async fn connect(&self) -> Result<Connection, ManagerError> {
        let connected = self.endpoint.connect(self.access, self.connect_timeout).await;
        let (pg, wire) = connected.map_err(ManagerError::Connect)?;
        Ok(Connection { pg, wire, unfit: false })
    }

    /// Costs no round trip: what the socket has told so far is enough to know a connection that the server closed.
    async fn is_valid(&self, connection: &mut Connection) -> Result<(), ManagerError> {
        let fit = !connection.pg.is_broken()
            && match &connection.wire {
                Some(wire) => wire.lend().await,
                None => true,
            };
        if fit { Ok(()) } else { Err(ManagerError::Stale) }
    }

    fn has_broken(&self, connection: &mut Connection) -> bool {
        std::thread::panicking() || connection.unfit || connection.pg.is_broken()
    }
}

/// Passes failures to connect on to the calls that wait for a connection.
///
/// bb8 calls the sink when it has given the attempt up; told any earlier, a caller that asks again would find the
/// attempt still counted, and start none.
#[derive(Debug)]
pub(super) struct Failures(pub(super) watch::Sender<Option<Arc<ConnectError>>>);

impl bb8::ErrorSink<ManagerError> for Failures {
    fn sink(&self, error: ManagerError) {
        match error {
            ManagerError::Connect(cause) => {
                self.0.send_replace(Some(Arc::new(cause)));
            }
            ManagerError::Stale => {}
        }
    }

    fn boxed_clone(&self) -> Box<dyn bb8::ErrorSink<ManagerError>> {
        Box::new(Self(self.0.clone()))
    }
}
