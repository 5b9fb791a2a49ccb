//! Why a connection is not protected as it should be, and what to do about it.

use super::files::Origin;
use crate::endpoint::Negotiation;
use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;
use tokio_rustls::rustls::client::VerifierBuilderError;
use tokio_rustls::rustls::{self, AlertDescription, CertificateError};

/// Why there is no TLS. The texts name files and hosts, nothing that is in them.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error(
        "the server has no TLS: switch it on there (`ssl = on`), or set `sslmode=disable` where nobody else is on the network"
    )]
    NotOffered,
    #[error("asked whether it has TLS, the server answered with byte {0:#04x}, which is no answer")]
    Answer(u8),
    #[error("the server closed the connection when TLS was to begin")]
    Lost(#[source] io::Error),
    #[error(
        "the server closed the connection in the handshake, as it does when it does not accept the client's certificate `{}` (`sslcert`): its log says \
         why", .0.display()
    )]
    LostWithCertificate(PathBuf, #[source] io::Error),
    #[error("{advice}")]
    Handshake { advice: String, source: rustls::Error },
    #[error(
        "what answers does not speak PostgreSQL over TLS, or is older than version 17: set `sslnegotiation=postgres`"
    )]
    NotPostgres,
    #[error("{0} `{path}` cannot be read", path = .1.display())]
    Unreadable(Parameter, PathBuf, #[source] io::Error),
    #[error("{0} `{path}` does not hold {what} in PEM", path = .1.display(), what = .0.content())]
    Malformed(Parameter, PathBuf),
    #[cfg(unix)]
    #[error(
        "`sslkey` `{}` can be read by others than its owner: its mode has to be 0600, or 0640 where root owns it", .0.display()
    )]
    PublicKey(PathBuf),
    #[error(
        "`sslmode` asks for the server's certificate to be verified, but not against what: set `sslrootcert` to the file of its authority, or to \
         `system`{}", DefaultFile(.0.as_deref())
    )]
    NoAuthority(Option<PathBuf>),
    #[error("the operating system's authorities (`sslrootcert=system`) cannot be had: {0}")]
    NoSystemAuthorities(String),
    #[error("what `sslrootcert` or `sslcrl` holds cannot be used")]
    Authorities(#[source] VerifierBuilderError),
    #[error("`sslcert` and `sslkey` cannot be used together")]
    ClientKey(#[source] rustls::Error),
    #[error("TLS cannot be set up")]
    SetUp(#[source] rustls::Error),
    #[error("`{0}` is no name that a certificate can have")]
    HostName(String),
    #[error("the runtime shuts down")]
    Stopped(#[source] tokio::task::JoinError),
}

/// What a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parameter {
    RootCert,
    Crl,
    Cert,
    Key,
}

impl Parameter {
    fn content(self) -> &'static str {
        match self {
            Self::RootCert | Self::Cert => "certificates",
            Self::Crl => "certificate revocation lists",
            Self::Key => "an unencrypted private key",
        }
    }
}

impl fmt::Display for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RootCert => "`sslrootcert`",
            Self::Crl => "`sslcrl`",
            Self::Cert => "`sslcert`",
            Self::Key => "`sslkey`",
        })
    }
}

struct DefaultFile<'a>(Option<&'a std::path::Path>);

impl fmt::Display for DefaultFile<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(path) => write!(f, " (there is no `{}` either)", path.display()),
            None => Ok(()),
        }
    }
}

impl TlsError {
    pub(super) fn of_handshake(error: io::Error, negotiation: Negotiation, origin: &Origin) -> Self {
        match error.downcast::<rustls::Error>() {
            Ok(source) => Self::Handshake { advice: advice(&source, origin), source },
            Err(_) if negotiation == Negotiation::Direct => Self::NotPostgres,
            Err(error) => match &origin.client {
                Some(path) => Self::LostWithCertificate(path.clone(), error),
                None => Self::Lost(error),
            },
        }
    }

    /// The cause of an error on a connection whose handshake has ended.
    pub(super) fn behind(error: &(dyn Error + 'static), origin: &Origin) -> Option<Self> {
        let cause = error.source()?.downcast_ref::<io::Error>()?;
        let source = cause.get_ref()?.downcast_ref::<rustls::Error>()?.clone();
        Some(Self::Handshake { advice: advice(&source, origin), source })
    }

    /// The server, or what stands before it, will have no TLS, or not this one: where plain text is allowed it is what remains.
    pub(crate) fn is_of_the_server(&self) -> bool {
        matches!(self, Self::NotOffered | Self::Handshake { .. } | Self::NotPostgres)
    }
}

/// Which check failed, and what to set.
fn advice(error: &rustls::Error, origin: &Origin) -> String {
    use CertificateError as Certificate;
    use rustls::Error::{AlertReceived, InvalidCertificate, InvalidMessage, PeerIncompatible};
    let authority =
        || origin.authorities.as_ref().map_or_else(String::new, |authority| format!(": {authority}"));
    match error {
        InvalidCertificate(Certificate::UnknownIssuer) => format!(
            "the server's certificate is signed by none of the authorities that are trusted{}; give the one that has signed it",
            authority()
        ),
        InvalidCertificate(Certificate::NotValidForNameContext { presented, .. }) if presented.is_empty() => {
            "the server's certificate names no host in its subjectAltName, and a common name does not count: renew it with one, or \
             set `sslmode=verify-ca`, which checks no name"
                .to_owned()
        }
        InvalidCertificate(Certificate::NotValidForName | Certificate::NotValidForNameContext { .. }) => {
            "the server's certificate is for another host: connect by a name that it has (`hostaddr` can say where that is), or set \
             `sslmode=verify-ca`, which checks no name"
                .to_owned()
        }
        InvalidCertificate(Certificate::Expired | Certificate::ExpiredContext { .. }) => {
            "the server's certificate, or one that it was signed with, has expired: renew it".to_owned()
        }
        InvalidCertificate(Certificate::NotValidYet | Certificate::NotValidYetContext { .. }) => {
            "the server's certificate is not valid yet: look at the clocks of both machines".to_owned()
        }
        InvalidCertificate(Certificate::Revoked) => {
            "the server's certificate has been revoked (`sslcrl`)".to_owned()
        }
        InvalidCertificate(
            Certificate::UnknownRevocationStatus
            | Certificate::ExpiredRevocationList
            | Certificate::ExpiredRevocationListContext { .. },
        ) => "whether the server's certificate has been revoked is not known: `sslcrl` needs a current list of each authority \
              in its chain"
            .to_owned(),
        InvalidCertificate(_) => {
            "the server's certificate cannot be verified: it has to be one of X.509 version 3 for servers, or stand in `sslrootcert` itself"
                .to_owned()
        }
        AlertReceived(alert) if is_of_the_client(*alert) => match &origin.client {
            Some(path) => format!(
                "the server does not accept the client's certificate `{}` (`sslcert`): it has to be signed by an authority in the server's \
                 `ssl_ca_file`",
                path.display()
            ),
            None => "the server does not accept the client's certificate: set `sslcert` and `sslkey` to one that is signed by an authority in \
                     the server's `ssl_ca_file`"
                .to_owned(),
        },
        AlertReceived(AlertDescription::ProtocolVersion) | PeerIncompatible(_) => {
            "client and server have no version of TLS, or no cipher, in common: look at `ssl_min_protocol_version` and \
             `ssl_max_protocol_version`, here and on the server"
                .to_owned()
        }
        AlertReceived(AlertDescription::NoApplicationProtocol) | InvalidMessage(_) => {
            "what answers does not speak PostgreSQL over TLS".to_owned()
        }
        _ => "TLS could not be agreed on with the server".to_owned(),
    }
}

fn is_of_the_client(alert: AlertDescription) -> bool {
    use AlertDescription as Alert;
    matches!(
        alert,
        Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::DecryptError
            | Alert::CertificateRequired
    )
}
