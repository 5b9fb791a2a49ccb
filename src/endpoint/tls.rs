//! What a connection URL says of TLS, in libpq's terms.
//!
//! Source: PostgreSQL documentation, "Database Connection Control Functions", parameters `ssl*` and `channel_binding`.

use std::path::PathBuf;

/// How a connection is protected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tls {
    pub(crate) mode: Mode,
    pub(crate) negotiation: Negotiation,
    /// Who may have signed the server's certificate.
    pub(crate) authorities: Authorities,
    /// Certificates that were revoked (`sslcrl`).
    pub(crate) revoked: Option<PathBuf>,
    /// Shown to a server that asks who the client is.
    pub(crate) client: Option<ClientCertificate>,
    /// Whether the server is told the name that it was looked up by (`sslsni`).
    pub(crate) tells_name: bool,
    pub(crate) oldest: Version,
    pub(crate) newest: Version,
    pub(crate) channel_binding: ChannelBinding,
}

/// `sslmode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mode {
    Disable,
    /// Without, and with it where the server refuses that.
    Allow,
    /// With it, and without where the server has none.
    Prefer,
    /// With it, whoever the server is; `verify-ca` where authorities are given, as libpq has it.
    Require,
    /// With it, and a certificate that the authorities have signed.
    VerifyCa,
    /// That, and one that names the host.
    VerifyFull,
}

/// `sslnegotiation`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Negotiation {
    /// The server is asked first whether it has TLS.
    Postgres,
    /// TLS from the first byte on: PostgreSQL 17.
    Direct,
}

/// `sslrootcert`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Authorities {
    /// None given: libpq's default file, if it is there.
    Default,
    /// The operating system's.
    System,
    /// In PEM.
    File(PathBuf),
}

/// `sslcert` and `sslkey`, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClientCertificate {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// `ssl_min_protocol_version` and `ssl_max_protocol_version`; rustls has no others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    V1_2,
    V1_3,
}

/// `channel_binding`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChannelBinding {
    Disable,
    Prefer,
    Require,
}
