//! What a connection URL says of TLS, in libpq's terms.
//!
//! Source: PostgreSQL documentation, "Database Connection Control Functions", parameters `ssl*`.

use super::EndpointError;
use super::conninfo::Parameters;
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
    pub(crate) client: ClientCertificate,
    /// Whether the server is told the name that it was looked up by (`sslsni`).
    pub(crate) tells_name: bool,
    pub(crate) oldest: Version,
    pub(crate) newest: Version,
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
pub(crate) enum ClientCertificate {
    /// libpq's default files, if they are there.
    Default,
    Files {
        certificate: PathBuf,
        key: PathBuf,
    },
    /// Not even those.
    None,
}

/// `ssl_min_protocol_version` and `ssl_max_protocol_version`; rustls has no others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    V1_2,
    V1_3,
}

impl Default for Tls {
    /// As libpq has it, but for the mode where this crate is without TLS.
    fn default() -> Self {
        Self {
            mode: if cfg!(feature = "tls") { Mode::Prefer } else { Mode::Disable },
            negotiation: Negotiation::Postgres,
            authorities: Authorities::Default,
            revoked: None,
            client: ClientCertificate::Default,
            tells_name: true,
            oldest: Version::V1_2,
            newest: Version::V1_3,
        }
    }
}

impl Tls {
    /// Whether it counts on TLS: to be without it would be to be without what was asked for.
    #[cfg(not(feature = "tls"))]
    pub(super) fn is_asked_for(&self) -> bool {
        let sets_up = self.names_files() || self.oldest > Version::V1_2;
        self.mode >= Mode::Require
            || self.negotiation == Negotiation::Direct
            || self.mode > Mode::Disable && sets_up
    }

    /// Whether it says which files TLS is set up with.
    pub(crate) fn names_files(&self) -> bool {
        self.authorities != Authorities::Default
            || self.revoked.is_some()
            || matches!(self.client, ClientCertificate::Files { .. })
    }

    pub(super) fn parse(parameters: &Parameters) -> Result<Self, EndpointError> {
        let default = Self::default();
        let authorities = match parameters.get("sslrootcert") {
            None => Authorities::Default,
            Some("system") => Authorities::System,
            Some(file) => Authorities::File(file.into()),
        };
        let mode = choice(
            parameters,
            "sslmode",
            &[
                ("disable", Mode::Disable),
                ("allow", Mode::Allow),
                ("prefer", Mode::Prefer),
                ("require", Mode::Require),
                ("verify-ca", Mode::VerifyCa),
                ("verify-full", Mode::VerifyFull),
            ],
        )?;
        let mode = match (mode, &authorities) {
            // Anybody can have a certificate that they have signed.
            (Some(mode), Authorities::System) if mode < Mode::VerifyFull => {
                return Err(EndpointError::new(
                    "its `sslrootcert=system` goes with `sslmode=verify-full` alone",
                ));
            }
            (None, Authorities::System) => Mode::VerifyFull,
            (Some(Mode::Require), Authorities::File(_)) => Mode::VerifyCa,
            (mode, _) => mode.unwrap_or(default.mode),
        };
        let negotiation = choice(
            parameters,
            "sslnegotiation",
            &[("postgres", Negotiation::Postgres), ("direct", Negotiation::Direct)],
        )?;
        if negotiation == Some(Negotiation::Direct) && mode < Mode::Require {
            let problem = "its `sslnegotiation=direct` needs `sslmode=require` or a stricter one";
            return Err(EndpointError::new(problem));
        }
        let client = match (parameters.get("sslcert"), parameters.get("sslkey")) {
            _ if parameters.get("sslcertmode") == Some("disable") => ClientCertificate::None,
            (None, None) => ClientCertificate::Default,
            (Some(certificate), Some(key)) => {
                ClientCertificate::Files { certificate: certificate.into(), key: key.into() }
            }
            _ => return Err(EndpointError::new("of `sslcert` and `sslkey` it has only one: give both")),
        };
        let versions = [("TLSv1.2", Version::V1_2), ("TLSv1.3", Version::V1_3)];
        let oldest = choice(parameters, "ssl_min_protocol_version", &versions)?.unwrap_or(default.oldest);
        let newest = choice(parameters, "ssl_max_protocol_version", &versions)?.unwrap_or(default.newest);
        if oldest > newest {
            return Err(EndpointError::new(
                "its `ssl_min_protocol_version` is above its `ssl_max_protocol_version`",
            ));
        }
        Ok(Self {
            mode,
            negotiation: negotiation.unwrap_or(default.negotiation),
            authorities,
            revoked: parameters.get("sslcrl").map(PathBuf::from),
            client,
            tells_name: choice(parameters, "sslsni", &[("1", true), ("0", false)])?.unwrap_or(true),
            oldest,
            newest,
        })
    }
}

/// The value of a parameter, which has to be one of these.
pub(super) fn choice<T: Copy>(
    parameters: &Parameters,
    name: &str,
    values: &[(&str, T)],
) -> Result<Option<T>, EndpointError> {
    let Some(given) = parameters.get(name) else { return Ok(None) };
    match values.iter().find(|(value, _)| *value == given) {
        Some((_, meant)) => Ok(Some(*meant)),
        None => {
            let known: Vec<_> = values.iter().map(|(value, _)| *value).collect();
            Err(EndpointError(format!("its `{name}` is none of {}", known.join(", "))))
        }
    }
}
