//! How a session with a node starts.

use super::calls::Calls;
use super::record::Record;
use super::tap::Tapped;
use super::wire::Wire;
use crate::channel::{Attempts, Channel, Protect, Protection, TlsError};
use crate::endpoint::{Endpoint, PasswordError};
use diesel_async::{AsyncConnection, AsyncPgConnection};
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_postgres::config::{Config, SslMode, SslNegotiation};
use tokio_postgres::error::{DbError, SqlState};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Connection, Socket};

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

/// A session, and how it is protected.
pub(crate) struct Dialed<S> {
    pub(crate) client: Client,
    pub(crate) connection: Connection<Socket, S>,
    protect: Protect,
    /// Why it is in plain text, where TLS was preferred.
    pub(crate) plain: Option<Arc<str>>,
}

#[cfg(feature = "cli")]
impl<S> Dialed<S> {
    pub(crate) fn is_encrypted(&self) -> bool {
        self.protect.is_encrypted()
    }
}

const NO_TLS: &str = "the server has no TLS";
const ALLOWED: &str = "`sslmode=allow` asks for no more";

const WANTS_TLS: &str = if cfg!(feature = "tls") {
    "the server takes no connections in plain text, at least not this one: set `sslmode=verify-full` with `sslrootcert`, or `sslmode=require`"
} else {
    "the server takes no connections in plain text, at least not this one: `diesel-replicas` needs its feature `tls` for others"
};

/// Why no connection could be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("{0}")]
    Server(#[source] tokio_postgres::Error),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("{}", WANTS_TLS)]
    Unencrypted(#[source] tokio_postgres::Error),
    #[error(
        "the server asks for a certificate of the client: set `sslcert` and `sslkey` to one that is signed by an authority in its `ssl_ca_file`"
    )]
    ClientCertificate(#[source] tokio_postgres::Error),
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
    fn of(error: tokio_postgres::Error, protection: &Protection, in_plain_text: bool) -> Self {
        if error.source().is_some_and(<dyn Error>::is::<TlsError>) {
            return match error.into_source().map(<dyn Error + Send + Sync>::downcast) {
                Some(Ok(tls)) => Self::Tls(*tls),
                _ => unreachable!("it was looked at"),
            };
        }
        if let Some(tls) = protection.refusal(&error) {
            return Self::Tls(tls);
        }
        match error.as_db_error().map(DbError::message) {
            // PgBouncer's words before 1.20, and from then on.
            Some(message)
                if message.ends_with("startup parameter: options")
                    || message.contains("startup parameter in options: default_transaction_read_only") =>
            {
                Self::OptionsRefused(error)
            }
            Some(message) if message.ends_with("requires a valid client certificate") => {
                Self::ClientCertificate(error)
            }
            // PostgreSQL's own words, those of version 13, and of what may stand before it.
            Some(message)
                if in_plain_text
                    && ["no encryption", "SSL", "sslmode"].iter().any(|words| message.contains(words)) =>
            {
                Self::Unencrypted(error)
            }
            _ => Self::Server(error),
        }
    }

    /// Whether it is about how the connection is protected, so that another protection may do.
    fn is_of_protection(&self) -> bool {
        match self {
            #[cfg(feature = "tls")]
            Self::Tls(error) => error.is_of_the_server(),
            Self::Unencrypted(_) | Self::ClientCertificate(_) => true,
            Self::Server(error) => error.code() == Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION),
            _ => false,
        }
    }

    /// The server has no TLS.
    fn is_without_tls(&self) -> bool {
        #[cfg(feature = "tls")]
        return matches!(self, Self::Tls(TlsError::NotOffered));
        #[cfg(not(feature = "tls"))]
        false
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
            let config = self.session(access, "diesel-replicas").await?;
            let wire = Wire::new(Arc::clone(record));
            let tapped = |protect| Tapped { protect, wire: Arc::clone(&wire) };
            let Dialed { client, connection, protect, plain: _ } = self.dial(config, tapped).await?;
            check(access, &connection)?;
            let opened = Opened::now(dialed, &connection);
            let wire = self.tcp.then_some(wire);
            if let Some(wire) = &wire {
                wire.connected(client.cancel_token(), protect.again());
            }
            let connection = AsyncPgConnection::try_from_client_and_connection(client, connection).await;
            let mut connection = connection.map_err(ConnectError::Setup)?;
            connection.set_instrumentation(Calls::new(Arc::clone(record), wire.clone()));
            if let Some(wire) = &wire {
                wire.answered().await;
            }
            Ok((connection, wire, opened))
        };
        tokio::time::timeout(timeout, session).await.unwrap_or(Err(ConnectError::TimedOut(timeout)))
    }

    /// Opens a session for questions of our own, which write nothing; with `access` it shows whether pools would get one.
    pub(crate) async fn connect_raw(&self, access: Access) -> Result<Dialed<Channel<Socket>>, ConnectError> {
        let config = self.session(access, "diesel-replicas monitor").await?;
        let dialed = self.dial(config, |protect| protect).await?;
        check(access, &dialed.connection)?;
        Ok(dialed)
    }

    /// Tries one protection after the other, as the endpoint wants it.
    async fn dial<T>(
        &self,
        mut config: Config,
        hook: impl Fn(Protect) -> T,
    ) -> Result<Dialed<T::Stream>, ConnectError>
    where
        T: MakeTlsConnect<Socket>,
    {
        if self.tcp {
            // The hook has the say, over connections in plain text as well.
            config.ssl_mode(SslMode::Require).ssl_negotiation(SslNegotiation::Direct);
        }
        let Attempts { protections, unavailable } = self.attempts().await?;
        let (mut with_tls, mut in_plain_text) = (unavailable.map(ConnectError::Tls), None);
        for protection in protections {
            let protect = Protect::new(protection.clone());
            let error = match config.connect(hook(protect.clone())).await {
                Ok((client, connection)) => {
                    let plain = (self.prefers_tls() && protect.is_plain()).then(|| match &with_tls {
                        Some(refused) => refused.to_string().into(),
                        None if protection.is_plain() => ALLOWED.into(),
                        None => NO_TLS.into(),
                    });
                    return Ok(Dialed { client, connection, protect, plain });
                }
                Err(error) => ConnectError::of(error, &protection, protect.is_plain()),
            };
            if !error.is_of_protection() {
                return Err(error);
            }
            if protect.is_plain() {
                in_plain_text = Some(error);
                // The server was asked for TLS already.
                if !protection.is_plain() {
                    break;
                }
            } else {
                with_tls = Some(error);
            }
        }
        // Where both ways are barred, that with TLS is the one to look at, unless there is none.
        let has_none = with_tls.as_ref().is_some_and(ConnectError::is_without_tls);
        let (first, second) = if has_none { (in_plain_text, with_tls) } else { (with_tls, in_plain_text) };
        Err(first.or(second).expect("there is an attempt, and it has failed"))
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
