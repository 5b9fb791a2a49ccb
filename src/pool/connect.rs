//! Where a node is, and how a session with it starts.

use super::tap::{PlainTap, Wire};
use diesel_async::AsyncPgConnection;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::config::{Config, Host, SslMode, SslNegotiation};
use tokio_postgres::{Client, NoTls, Socket};

/// How one node is reached: a parsed connection URL.
///
/// Neither `Debug` nor `Display` shows a password.
#[derive(Clone)]
pub(crate) struct Endpoint {
    config: Config,
    /// TLS hooks exist for TCP alone, and so does the tap.
    tcp: bool,
}

/// Why a connection URL cannot be used. The text never contains a part of the URL that could be secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct EndpointError(String);

/// What a session is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// The server refuses writes from the first statement on.
    ReadOnly,
    ReadWrite,
}

/// Why no connection could be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("{0}")]
    Server(#[source] tokio_postgres::Error),
    #[error("the session could not be set up")]
    Setup(#[source] diesel::ConnectionError),
    #[error("no answer within {}", crate::error::Millis(*.0))]
    TimedOut(Duration),
}

/// libpq's parameters that are worth naming when tokio-postgres does not take them. Others are not repeated: what looks
/// like a parameter may be the rest of a password that was not percent-encoded.
const KNOWN_PARAMETERS: &[&str] = &[
    "channel_binding",
    "client_encoding",
    "fallback_application_name",
    "gssencmode",
    "gsslib",
    "keepalives_count",
    "krbsrvname",
    "load_balance_hosts",
    "passfile",
    "replication",
    "require_auth",
    "requirepeer",
    "service",
    "sslcert",
    "sslcompression",
    "sslcrl",
    "sslkey",
    "sslmode",
    "sslnegotiation",
    "sslpassword",
    "sslrootcert",
    "sslsni",
    "target_session_attrs",
];

impl Endpoint {
    /// Parses a connection URL, or libpq's form of keys and values.
    pub(crate) fn parse(url: &str) -> Result<Self, EndpointError> {
        let mut config: Config = url.parse().map_err(|error| EndpointError(explain(url, &error)))?;
        let refuse = |problem: &str| Err(EndpointError(problem.to_owned()));
        if config.get_ssl_mode() == SslMode::Require {
            return refuse("it asks for TLS, which is not supported yet: without it, set `sslmode=disable`");
        }
        // An address without a host name; the tap's hook wants a name.
        if config.get_hosts().is_empty() {
            for address in config.get_hostaddrs().to_vec() {
                config.host(address.to_string());
            }
        }
        match config.get_hosts() {
            [] => return refuse("it names no host"),
            [_] => {}
            _ => return refuse("it names several hosts: give each replica an entry of its own"),
        }
        // What follows the first `@` of a password that was not percent-encoded looks like a host, and would be shown as one.
        if config.get_hosts().iter().any(|host| matches!(host, Host::Tcp(name) if name.contains('@'))) {
            return refuse("its host contains `@`: one in a user or password must be written `%40`");
        }
        if config.get_user().is_none() {
            return refuse("it names no user");
        }
        let tcp = matches!(config.get_hosts(), [Host::Tcp(_)]);
        Ok(Self { config, tcp })
    }

    /// `host:port`, the default name of a node; a socket's path for a Unix socket.
    pub(crate) fn host_port(&self) -> String {
        let port = self.config.get_ports().first().copied().unwrap_or(5432);
        match self.config.get_hosts() {
            [Host::Tcp(host), ..] if host.contains(':') => format!("[{host}]:{port}"),
            [Host::Tcp(host), ..] => format!("{host}:{port}"),
            #[cfg(unix)]
            [Host::Unix(directory), ..] => format!("{}/.s.PGSQL.{port}", directory.display()),
            [] => format!("localhost:{port}"),
        }
    }

    /// Opens a session for Diesel. The timeout bounds the whole of it, from the socket to the last setting.
    ///
    /// The second part of the answer is what the connection does from then on; a Unix socket has none.
    ///
    /// # Cancel safety
    ///
    /// A dropped call closes what it had opened.
    pub(super) async fn connect(
        &self,
        access: Access,
        timeout: Duration,
    ) -> Result<(AsyncPgConnection, Option<Arc<Wire>>), ConnectError> {
        let session = async {
            let mut config = self.session(access, "diesel-replicas");
            if !self.tcp {
                let (client, connection) = config.connect(NoTls).await.map_err(ConnectError::Server)?;
                let connection = AsyncPgConnection::try_from_client_and_connection(client, connection).await;
                return Ok((connection.map_err(ConnectError::Setup)?, None));
            }
            // Only here, where no TLS was asked for, may the hook for TLS be given something else.
            config.ssl_mode(SslMode::Require).ssl_negotiation(SslNegotiation::Direct);
            let wire = Wire::new();
            let tap = PlainTap(Arc::clone(&wire));
            let (client, connection) = config.connect(tap).await.map_err(ConnectError::Server)?;
            wire.connected(client.cancel_token());
            let connection = AsyncPgConnection::try_from_client_and_connection(client, connection).await;
            let connection = connection.map_err(ConnectError::Setup)?;
            wire.answered().await;
            Ok((connection, Some(wire)))
        };
        tokio::time::timeout(timeout, session).await.unwrap_or(Err(ConnectError::TimedOut(timeout)))
    }

    /// Opens a plain session for the monitor's own questions; read-only.
    pub(crate) async fn connect_raw(
        &self,
    ) -> Result<(Client, tokio_postgres::Connection<Socket, tokio_postgres::tls::NoTlsStream>), ConnectError>
    {
        let config = self.session(Access::ReadOnly, "diesel-replicas monitor");
        config.connect(NoTls).await.map_err(ConnectError::Server)
    }

    fn session(&self, access: Access, application: &str) -> Config {
        let mut config = self.config.clone();
        if config.get_application_name().is_none() {
            config.application_name(application);
        }
        if access == Access::ReadOnly {
            // A start-up option is in force before the first statement, and `RESET ALL` and `DISCARD ALL` return to it.
            let options = config.get_options().unwrap_or_default();
            let options = format!("{options} -c default_transaction_read_only=on");
            config.options(options.trim_start());
        }
        config
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("address", &self.host_port())
            .field("user", &self.config.get_user())
            .field("database", &self.config.get_dbname())
            .finish_non_exhaustive()
    }
}

/// tokio-postgres's own text may quote the URL, so it is not passed on.
fn explain(url: &str, error: &tokio_postgres::Error) -> String {
    let detail = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    let parameter = KNOWN_PARAMETERS.iter().find(|name| detail.contains(&format!("`{name}`")));
    if let Some(parameter) = parameter {
        return format!("its parameter `{parameter}` is not supported, or not with this value");
    }
    let is_url = ["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme));
    if is_url {
        "it is not a valid URL: reserved characters in user, password or database must be percent-encoded"
            .to_owned()
    } else {
        "it is not a `postgres://` URL".to_owned()
    }
}
