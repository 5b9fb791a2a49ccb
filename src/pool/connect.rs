//! How a session with a node starts.

use super::calls::Calls;
use super::record::Record;
use super::tap::PlainTap;
use super::wire::Wire;
use crate::endpoint::{Endpoint, PasswordError};
use diesel_async::{AsyncConnection, AsyncPgConnection};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_postgres::config::{Config, SslMode, SslNegotiation};
use tokio_postgres::error::{DbError, SqlState};
use tokio_postgres::{Client, Connection, NoTls, Socket};

/// What a session is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// The server refuses writes from the first statement on.
    ReadOnly,
    ReadWrite,
}

/// How a connection began. For as long as it lives, it leads to the server process that it led to then.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Opened {
    /// Before it was looked for.
    pub(crate) dialed: Instant,
    /// The process was there before.
    pub(crate) at: Instant,
    /// The server was in recovery. It may have been promoted since; the other way round it would have to restart. Servers tell from
    /// version 14 on.
    pub(crate) on_standby: bool,
}

impl Opened {
    fn now<S>(dialed: Instant, connection: &Connection<Socket, S>) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let on_standby = connection.parameter("in_hot_standby") == Some("on");
        Self { dialed, at: Instant::now(), on_standby }
    }
}

/// Why no connection could be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("{0}")]
    Server(#[source] tokio_postgres::Error),
    #[error(transparent)]
    Password(#[from] PasswordError),
    #[error("the session could not be set up")]
    Setup(#[source] diesel::ConnectionError),
    #[error(
        "what stands before the server refuses the start-up parameter `options`, which makes sessions for reads read-only: PgBouncer \
         takes it from version 1.20 on, with `track_extra_parameters = default_transaction_read_only`"
    )]
    OptionsRefused(#[source] tokio_postgres::Error),
    #[error(
        "the session is not read-only: what stands before the server ignores the start-up parameter `options`, as PgBouncer does \
         where its `ignore_startup_parameters` names it"
    )]
    Writable,
    #[error("no answer within {}", crate::error::Millis(*.0))]
    TimedOut(Duration),
}

impl ConnectError {
    fn of(error: tokio_postgres::Error) -> Self {
        let refused = |error: &DbError| error.message().ends_with("startup parameter: options");
        if error.as_db_error().is_some_and(refused) {
            Self::OptionsRefused(error)
        } else {
            Self::Server(error)
        }
    }

    /// The server has as many clients as it takes, or as its settings allow this role or database.
    pub(super) fn is_saturation(&self) -> bool {
        matches!(self, Self::Server(error) if error.code() == Some(&SqlState::TOO_MANY_CONNECTIONS))
    }
}

impl Endpoint {
    /// Opens a session for Diesel. The timeout bounds the whole of it, from the socket to the last setting.
    ///
    /// The second part of the answer tells what the connection does from then on; a Unix socket has none.
    ///
    /// # Cancel safety
    ///
    /// A dropped call closes what it had opened.
    pub(super) async fn connect(
        &self,
        access: Access,
        record: &Arc<Record>,
        timeout: Duration,
    ) -> Result<(AsyncPgConnection, Option<Arc<Wire>>, Opened), ConnectError> {
        let session = async {
            let dialed = Instant::now();
            let mut config = self.session(access, "diesel-replicas").await?;
            if !self.tcp {
                let (client, connection) = config.connect(NoTls).await.map_err(ConnectError::of)?;
                check(access, &connection)?;
                let opened = Opened::now(dialed, &connection);
                let connection = AsyncPgConnection::try_from_client_and_connection(client, connection).await;
                let mut connection = connection.map_err(ConnectError::Setup)?;
                connection.set_instrumentation(Calls::new(Arc::clone(record), None));
                return Ok((connection, None, opened));
            }
            // Only here, where no TLS was asked for, may the hook for TLS be given something else.
            config.ssl_mode(SslMode::Require).ssl_negotiation(SslNegotiation::Direct);
            let wire = Wire::new(Arc::clone(record));
            let tap = PlainTap(Arc::clone(&wire));
            let (client, connection) = config.connect(tap).await.map_err(ConnectError::of)?;
            check(access, &connection)?;
            let opened = Opened::now(dialed, &connection);
            wire.connected(client.cancel_token());
            let connection = AsyncPgConnection::try_from_client_and_connection(client, connection).await;
            let mut connection = connection.map_err(ConnectError::Setup)?;
            connection.set_instrumentation(Calls::new(Arc::clone(record), Some(Arc::clone(&wire))));
            wire.answered().await;
            Ok((connection, Some(wire), opened))
        };
        tokio::time::timeout(timeout, session).await.unwrap_or(Err(ConnectError::TimedOut(timeout)))
    }

    /// Opens a plain session for the monitor's own questions; read-only.
    pub(crate) async fn connect_raw(
        &self,
    ) -> Result<(Client, Connection<Socket, tokio_postgres::tls::NoTlsStream>), ConnectError> {
        let config = self.session(Access::ReadOnly, "diesel-replicas monitor").await?;
        config.connect(NoTls).await.map_err(ConnectError::of)
    }

    async fn session(&self, access: Access, application: &str) -> Result<Config, ConnectError> {
        let mut config = self.login().await?;
        if config.get_application_name().is_none() {
            config.application_name(application);
        }
        if access == Access::ReadOnly {
            // A start-up option is in force before the first statement, and `RESET ALL` and `DISCARD ALL` return to it.
            let options = config.get_options().unwrap_or_default();
            let options = format!("{options} -c default_transaction_read_only=on");
            config.options(options.trim_start());
        }
        Ok(config)
    }
}

/// A proxy may drop the parameter that makes a session read-only. Servers report the setting from version 14 on.
fn check<S>(access: Access, connection: &Connection<Socket, S>) -> Result<(), ConnectError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let writable = connection.parameter("default_transaction_read_only") == Some("off");
    if access == Access::ReadOnly && writable { Err(ConnectError::Writable) } else { Ok(()) }
}
