//! Where a node is and how one connects to it: a parsed connection URL.

mod conninfo;
mod keywords;
mod password;
mod read;
mod tls;

pub(crate) use conninfo::percent_decoded;
pub use password::{Login, PasswordProvider, Providing};
pub(crate) use password::{Password, PasswordError};

use crate::channel::{Attempts, TlsError};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
pub(crate) use tls::Tls;
#[cfg(feature = "tls")]
pub(crate) use tls::{Authorities, ClientCertificate, Mode, Negotiation, Version};
use tokio_postgres::config::{Config, Host};

/// How one node is reached: a parsed connection URL.
///
/// Two are equal if they lead to the same server in the same way: as the same user, with the same password and options.
/// `Debug` shows no password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Says nothing of TLS, nor of a password that comes from elsewhere: see [`login`](Self::login).
    pub(crate) config: Config,
    tls: Tls,
    password: Password,
    /// TLS hooks exist for TCP alone, and so does the tap.
    pub(crate) tcp: bool,
}

/// Why a connection URL cannot be used. The text never contains a part of the URL that could be secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct EndpointError(String);

const DEFAULT_PORT: u16 = 5432;

impl EndpointError {
    fn new(problem: impl Into<String>) -> Self {
        Self(problem.into())
    }
}

impl Endpoint {
    /// Parses a connection URL, or libpq's form of keys and values, of one server.
    pub(crate) fn parse(text: &str) -> Result<Self, EndpointError> {
        let mut all = Self::parse_all(text)?;
        match (all.pop(), all.is_empty()) {
            (Some(endpoint), true) => Ok(endpoint),
            _ => Err(EndpointError::new("it names several hosts: give each an entry of its own")),
        }
    }

    /// The same for one that may name several servers, each an endpoint; at least one.
    pub(crate) fn parse_all(text: &str) -> Result<Vec<Self>, EndpointError> {
        read::endpoints(text)
    }

    /// The same server, with passwords from there.
    pub(crate) fn with_passwords(self, provider: Arc<dyn PasswordProvider>) -> Self {
        Self { password: Password::Provided(provider), ..self }
    }

    /// Whether it is said where the password comes from.
    pub(crate) fn has_password(&self) -> bool {
        self.password.is_anywhere(&self.config)
    }

    /// What tokio-postgres needs for a new connection, the password of this moment included.
    pub(crate) async fn login(&self) -> Result<Config, PasswordError> {
        let mut config = self.config.clone();
        let user = config.get_user().unwrap_or_default().to_owned();
        let place = self.host();
        let database = config.get_dbname().unwrap_or(&user).to_owned();
        let login = Login { host: &place, port: self.port(), user: &user, database: &database };
        if let Some(password) = self.password.get(login).await? {
            config.password(password);
        }
        Ok(config)
    }

    /// How its connections are protected: what is tried, one after the other. Those through a Unix socket never leave the machine.
    pub(crate) async fn attempts(&self) -> Result<Attempts, TlsError> {
        if self.tcp { Attempts::with(&self.tls, &self.host()).await } else { Ok(Attempts::plain()) }
    }

    /// How connections are to be protected.
    #[cfg(feature = "cli")]
    pub(crate) fn tls_mode(&self) -> Mode {
        self.tls.mode
    }

    /// Whether connections go to the machine that this is.
    #[cfg(feature = "cli")]
    pub(crate) fn is_local(&self) -> bool {
        let address =
            |host: &str| host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
        match self.config.get_hostaddrs() {
            [address, ..] => address.is_loopback(),
            [] => !self.tcp || self.host() == "localhost" || address(&self.host()),
        }
    }

    /// The role that connects.
    #[cfg(feature = "cli")]
    pub(crate) fn user(&self) -> &str {
        self.config.get_user().unwrap_or_default()
    }

    /// Whether connections should be encrypted, if that can be had.
    pub(crate) fn prefers_tls(&self) -> bool {
        self.tcp && self.tls.mode > tls::Mode::Disable
    }

    /// The host as it was given; the directory of a Unix socket.
    fn host(&self) -> String {
        match self.config.get_hosts() {
            [Host::Tcp(host), ..] => host.clone(),
            #[cfg(unix)]
            [Host::Unix(directory), ..] => directory.display().to_string(),
            [] => "localhost".to_owned(),
        }
    }

    /// `host:port`, the default name of a node; a socket's path for a Unix socket.
    pub(crate) fn host_port(&self) -> String {
        let port = self.port();
        match self.config.get_hosts() {
            [Host::Tcp(host), ..] if host.contains(':') => format!("[{host}]:{port}"),
            [Host::Tcp(host), ..] => format!("{host}:{port}"),
            #[cfg(unix)]
            [Host::Unix(directory), ..] => format!("{}/.s.PGSQL.{port}", directory.display()),
            [] => format!("localhost:{port}"),
        }
    }

    /// The host name to look up, and the port; none for a Unix socket, and where the address is given.
    pub(crate) fn host_name(&self) -> Option<(&str, u16)> {
        match self.config.get_hosts() {
            [Host::Tcp(name)] if self.config.get_hostaddrs().is_empty() => Some((name, self.port())),
            _ => None,
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.config.get_ports().first().copied().unwrap_or(DEFAULT_PORT)
    }

    /// The server at this address, reached in the same way. What it is called stays the name of the host.
    pub(crate) fn at(&self, host: &str, address: SocketAddr) -> Self {
        let from = &self.config;
        // A place once set in a `Config` cannot be replaced.
        let mut config = Config::new();
        config
            .host(host)
            .hostaddr(address.ip())
            .port(address.port())
            .ssl_mode(from.get_ssl_mode())
            .ssl_negotiation(from.get_ssl_negotiation())
            .channel_binding(from.get_channel_binding())
            .target_session_attrs(from.get_target_session_attrs())
            .load_balance_hosts(from.get_load_balance_hosts())
            .keepalives(from.get_keepalives())
            .keepalives_idle(from.get_keepalives_idle());
        if let Some(user) = from.get_user() {
            config.user(user);
        }
        if let Some(password) = from.get_password() {
            config.password(password);
        }
        if let Some(name) = from.get_dbname() {
            config.dbname(name);
        }
        if let Some(options) = from.get_options() {
            config.options(options);
        }
        if let Some(name) = from.get_application_name() {
            config.application_name(name);
        }
        if let Some(timeout) = from.get_connect_timeout() {
            config.connect_timeout(*timeout);
        }
        if let Some(timeout) = from.get_tcp_user_timeout() {
            config.tcp_user_timeout(*timeout);
        }
        if let Some(interval) = from.get_keepalives_interval() {
            config.keepalives_interval(interval);
        }
        if let Some(retries) = from.get_keepalives_retries() {
            config.keepalives_retries(retries);
        }
        Self { config, tcp: true, ..self.clone() }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_accepted_and_name_their_node() {
        for (url, name) in [
            ("postgres://app:hunter2@db-1/chat", "db-1:5432"),
            ("postgresql://app@db-1:6000/chat?application_name=x&connect_timeout=3", "db-1:6000"),
            ("postgres://app@db-1/chat?sslmode=disable", "db-1:5432"),
            ("postgres://app@db-1/chat?sslmode=prefer", "db-1:5432"),
            ("postgres://app@db-1/chat?sslmode=disable&sslrootcert=/ca", "db-1:5432"),
            ("postgres://app@db-1", "db-1:5432"),
            ("postgres://app:p%40ss%2Fword@db-1/c%40t", "db-1:5432"),
            ("postgres://app:hun/ter2@db-1/chat", "db-1:5432"),
            ("postgres://app@127.0.0.1:5433/chat", "127.0.0.1:5433"),
            ("postgres://app@[::1]:5433/chat", "[::1]:5433"),
            ("postgres://app@[2001:db8::7]/chat", "[2001:db8::7]:5432"),
            ("postgres://app@%2Frun%2Fpg:5433/chat", "/run/pg/.s.PGSQL.5433"),
            ("postgres:///chat?host=/run/pg&user=app&password=hunter2", "/run/pg/.s.PGSQL.5432"),
            ("postgres://app@/chat?hostaddr=10.0.0.7", "10.0.0.7:5432"),
            ("postgres://app@/chat?hostaddr=::1&port=6000", "[::1]:6000"),
            ("postgres://app@db-1/chat?hostaddr=10.0.0.7", "db-1:5432"),
            ("postgres://app@db-1/chat?target_session_attrs=read-write", "db-1:5432"),
            ("host=db-1 port=6000 user=app password=hunter2 dbname=chat", "db-1:6000"),
        ] {
            let endpoint = Endpoint::parse(url).unwrap_or_else(|error| panic!("{url}: {error}"));
            assert_eq!(endpoint.host_port(), name, "{url}");
            assert!(!format!("{endpoint:?}").contains("hunter2"), "{endpoint:?}");
        }
    }

    #[test]
    fn it_leads_elsewhere_in_the_same_way() {
        let settings = "/chat?options=-c%20work_mem%3D8MB&application_name=x&sslmode=disable&connect_timeout=3\
             &tcp_user_timeout=4&keepalives=0&keepalives_idle=5&keepalives_interval=6&keepalives_count=7\
             &channel_binding=disable&load_balance_hosts=random";
        let at = |place: &str| Endpoint::parse(&format!("postgres://app:hunter2@{place}{settings}"));
        let here = at("db-1:6000").expect("valid");
        let there = here.at("db-2", SocketAddr::from(([10, 0, 0, 7], 5433)));
        assert_eq!(
            there.config,
            at("db-2:5433").expect("valid").config.hostaddr([10, 0, 0, 7].into()).clone()
        );
        assert_eq!((here.host_name(), there.host_name()), (Some(("db-1", 6000)), None));
        assert_ne!(here, there);
        assert_eq!(Some(here), at("db-1:6000").ok());
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_a_reason_and_without_a_secret() {
        const DIRECT: &str = "its `sslnegotiation=direct` needs `sslmode=require` or a stricter one";
        const HOST: &str = "it names no host";
        const HOSTS: &str = "it names several hosts: give each an entry of its own";
        const PORT: &str = "it has a port that is none";
        const PORTS: &str = "it has neither one port nor as many as hosts";
        const UNKNOWN: &str = "it has a parameter that PostgreSQL does not know: perhaps a reserved character in user, password or \
                               database is not percent-encoded";
        const TWICE: &str =
            "it contains `@` twice: one in a user, password or database must be written `%40`";
        const INVALID: &str = "it is not a valid URL: reserved characters in user, password or database must be percent-encoded";
        for (url, problem) in [
            ("mysql://app:hunter2@db-1/chat", "it is not a `postgres://` URL"),
            ("hunter2", "it is not a `postgres://` URL"),
            ("postgres://app:hunter2@db-1/chat?sslnegotiation=direct", DIRECT),
            (
                "postgres://app@db-1/chat?sslpassword=hunter2",
                "its parameter `sslpassword` is not supported: keys of clients must not be encrypted: protect the file instead",
            ),
            (
                "postgres://app@db-1/chat?sslmode=hunter2",
                "its `sslmode` is none of disable, allow, prefer, require, verify-ca, verify-full",
            ),
            (
                "postgres://app@db-1/chat?gssencmode=require",
                "its `gssencmode` can only be `disable`, `prefer`: GSSAPI is not supported",
            ),
            (
                "postgres://app@db-1/chat?sslcert=/hunter2",
                "of `sslcert` and `sslkey` it has only one: give both",
            ),
            (
                "postgres://app@db-1/chat?connect_timeout=hunter2",
                "its `connect_timeout` is not a whole number",
            ),
            ("postgres://app@db-1/chat?hostaddr=hunter2", "its `hostaddr` is no IP address"),
            (
                "postgres://app@db-1/chat?ssl_min_protocol_version=TLSv1.3&ssl_max_protocol_version=TLSv1.2",
                "its `ssl_min_protocol_version` is above its `ssl_max_protocol_version`",
            ),
            ("postgres://app@db-1/chat?hunter2=1", UNKNOWN),
            ("postgres://app@db-1/chat?hunter2", UNKNOWN),
            ("postgres://app:hunter2/chat", "it names no user"),
            ("postgres://app@db-1:hunter2/chat", PORT),
            ("postgres://app:%ff@db-1%ff/chat", INVALID),
            ("postgres://app:hunter2@/chat", HOST),
            ("postgres://app:hunter2@:5433/chat", HOST),
            ("postgres://app:hunter2@a,b/chat", HOSTS),
            ("postgres://app:hunter2@/chat?hostaddr=10.0.0.1,10.0.0.2", HOSTS),
            (
                "postgres://app:hunter2@a/chat?hostaddr=10.0.0.1,10.0.0.2",
                "its `host` and `hostaddr` are lists of different lengths",
            ),
            ("postgres://app:hunter2@a/chat?port=6000,6001", PORTS),
            ("postgres://app:x@hunter2@db-1/chat", TWICE),
            ("postgres://app:x@hunter2/y@db-1/chat", TWICE),
            ("postgres://app:x?y@hunter2/z@db-1/chat", TWICE),
            ("postgres://db-1/chat", "it names no user"),
        ] {
            let error = Endpoint::parse(url).expect_err(url);
            assert_eq!(error.to_string(), problem, "{url}");
            assert!(!format!("{error:?}").contains("hunter2"));
        }
    }

    #[test]
    fn what_asks_for_tls_is_refused_where_there_is_none() {
        for parameters in [
            "sslmode=require",
            "sslmode=require&sslnegotiation=direct",
            "sslmode=verify-full",
            "sslrootcert=system",
            "sslmode=prefer&sslrootcert=/hunter2",
            "sslmode=allow&sslcrl=/hunter2",
            "sslmode=prefer&sslcert=/hunter2&sslkey=/hunter2",
            "sslmode=prefer&ssl_min_protocol_version=TLSv1.3",
        ] {
            for text in [
                format!("postgres://app:hunter2@db-1/chat?{parameters}"),
                format!("host=db-1 user=app password=hunter2 {}", parameters.replace('&', " ")),
            ] {
                let parsed = Endpoint::parse(&text);
                if cfg!(feature = "tls") {
                    assert!(parsed.expect("valid").prefers_tls(), "{text}");
                } else {
                    let error = parsed.expect_err(&text).to_string();
                    assert!(error.contains("needs its feature `tls`"), "{error}");
                    assert!(!error.contains("hunter2"), "{error}");
                }
            }
        }
        let bare = Endpoint::parse("postgres://app@db-1/chat").expect("valid");
        assert_eq!(bare.prefers_tls(), cfg!(feature = "tls"));
        let socket = Endpoint::parse("host=/run/pg user=app sslmode=prefer").expect("valid");
        assert!(!socket.prefers_tls());
    }
}
