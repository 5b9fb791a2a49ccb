//! The standbys that a server reports.

use super::{Discovering, Discovery};
use crate::{
    config::{ConfigError, NodeConfig, parse_url},
    endpoint::{Endpoint, PasswordProvider},
    pool::{Access, ConnectError, Dialed},
};
use std::{
    fmt,
    net::{AddrParseError, SocketAddr},
    sync::Arc,
};
use tokio::{sync::Mutex, task::JoinSet};
use tokio_postgres::{Client, SimpleQueryMessage};

/// The address of each standby that receives log; NULL for those of which this role is told nothing. Whoever else receives log
/// serves no reads: a logical subscriber, an archiver (which replays nothing), a base backup. A standby that came over a Unix
/// socket has no address.
const STANDBYS: &str = "SELECT DISTINCT CASE WHEN state IS NOT NULL THEN pg_catalog.host(client_addr) END \
     FROM pg_catalog.pg_stat_replication AS sender \
     WHERE state IS NULL \
     OR client_addr IS NOT NULL AND state IN ('catchup', 'streaming') AND replay_lsn IS NOT NULL \
     AND NOT EXISTS (SELECT FROM pg_catalog.pg_replication_slots AS slot \
                     WHERE slot.active_pid = sender.pid AND slot.slot_type = 'logical')";

/// Each standby that streams from a server is a node, as `pg_stat_replication` lists them.
///
/// The URL is that of the server to ask, the primary as a rule, and says how standbys are reached: its user, password, database
/// and options, at the address from which a standby replicates. Nodes are named `address:port`. A standby that replicates over
/// another network than the one it serves on, or from behind a proxy, cannot be found in this way.
///
/// The URL's role has to be told addresses: `GRANT pg_monitor TO app`, otherwise discovery fails with an error that says so.
/// Standbys of a standby are known to that one alone. The connection is kept, one to the server.
///
/// # Example
///
/// ```
/// use diesel_replicas::{Router, StandbyDiscovery};
///
/// let primary = "postgres://app:secret@primary.internal/chat";
/// let builder = Router::builder().primary(primary).discover(StandbyDiscovery::new(primary)?.port(5433));
/// # let _ = builder;
/// # Ok::<(), diesel_replicas::ConfigError>(())
/// ```
pub struct StandbyDiscovery {
    asked: Endpoint,
    port: u16,
    /// Away while it is asked.
    session: Mutex<Option<Session>>,
}

struct Session {
    client: Client,
    /// Drives the connection; dropping the set ends it.
    _connection: JoinSet<()>,
}

#[derive(Debug, thiserror::Error)]
enum StandbyError {
    #[error("cannot connect to `{node}` to ask for its standbys")]
    Connect {
        node: String,
        #[source]
        cause: ConnectError,
    },
    #[error("`{node}` does not say what its standbys are")]
    Query {
        node: String,
        #[source]
        cause: tokio_postgres::Error,
    },
    #[error("`{node}` does not tell this role the addresses of its standbys: `GRANT pg_monitor` to it")]
    Hidden { node: String },
    #[error("`{node}` gives a standby an address that is none")]
    NoAddress {
        node: String,
        #[source]
        cause: AddrParseError,
    },
}

impl StandbyDiscovery {
    /// Connects to nobody yet.
    ///
    /// # Errors
    ///
    /// The URL is wrong.
    pub fn new(url: impl AsRef<str>) -> Result<Self, ConfigError> {
        let parsed = parse_url(url.as_ref());
        let asked = parsed.map_err(|unusable| ConfigError::unusable("StandbyDiscovery::new", unusable))?;
        Ok(Self { port: asked.port(), asked, session: Mutex::new(None) })
    }

    /// The port at which standbys serve; a server does not know those of others. Default: that of the URL.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Where passwords come from, those of the nodes that are found included, instead of the URL.
    #[must_use]
    pub fn password_provider(mut self, provider: impl PasswordProvider) -> Self {
        self.asked = self.asked.with_passwords(Arc::new(provider));
        self
    }

    async fn standbys(&self) -> Result<Vec<NodeConfig>, StandbyError> {
        let mut kept = self.session.lock().await;
        // Whoever gives up on the answer gives up the connection too: it may be why there is none.
        let session = match kept.take() {
            Some(session) if !session.client.is_closed() => session,
            _ => self.connect().await?,
        };
        let answer = session.client.simple_query(STANDBYS).await;
        let answer = answer.map_err(|cause| StandbyError::Query { node: self.node(), cause })?;
        *kept = Some(session);
        let addresses = answer.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row.get(0)),
            _ => None,
        });
        addresses.map(|address| self.standby(address)).collect()
    }

    fn standby(&self, address: Option<&str>) -> Result<NodeConfig, StandbyError> {
        let address = address.ok_or_else(|| StandbyError::Hidden { node: self.node() })?;
        let ip = address.parse().map_err(|cause| StandbyError::NoAddress { node: self.node(), cause })?;
        let place = SocketAddr::new(ip, self.port);
        Ok(NodeConfig::at(self.asked.at(address, place), place.to_string()))
    }

    async fn connect(&self) -> Result<Session, StandbyError> {
        let connected = self.asked.connect_raw(Access::ReadWrite).await;
        let Dialed { client, connection, .. } =
            connected.map_err(|cause| StandbyError::Connect { node: self.node(), cause })?;
        let mut driver = JoinSet::new();
        // What goes wrong on the connection shows in the client's answers.
        driver.spawn(async move {
            let _ = connection.await;
        });
        Ok(Session { client, _connection: driver })
    }

    /// The server that is asked.
    fn node(&self) -> String {
        self.asked.host_port()
    }
}

impl Discovery for StandbyDiscovery {
    fn discover(&self) -> Discovering<'_> {
        Box::pin(async { Ok(self.standbys().await?) })
    }
}

impl fmt::Debug for StandbyDiscovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StandbyDiscovery")
            .field("asked", &self.asked)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standbys_are_reached_as_the_url_says_and_no_secret_shows() {
        let discovery = StandbyDiscovery::new("postgres://app:hunter2@primary:6000/chat").expect("valid");
        for (discovery, address, url) in [
            (&discovery, "10.0.0.7", "postgres://app:hunter2@10.0.0.7:6000/chat?hostaddr=10.0.0.7"),
            (
                &StandbyDiscovery::new("postgres://app:hunter2@primary/chat").expect("valid").port(5433),
                "2001:db8::7",
                "postgres://app:hunter2@[2001:db8::7]:5433/chat?hostaddr=2001:db8::7",
            ),
        ] {
            let node = discovery.standby(Some(address)).expect("an address").check().expect("valid");
            assert_eq!(node.endpoint, Endpoint::parse(url).expect("valid"));
            assert_eq!(*node.name, node.endpoint.host_port());
        }
        assert!(!format!("{discovery:?}").contains("hunter2"));
        let error = StandbyDiscovery::new("hunter2").expect_err("no URL").to_string();
        assert!(
            error.starts_with("StandbyDiscovery::new: it is not a `postgres://` URL; wanted: "),
            "{error}"
        );
    }
}
