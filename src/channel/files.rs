//! The files that TLS is set up with. They are read for each connection, so that what was renewed is taken up.
//!
//! Source: PostgreSQL documentation, "SSL Support" of libpq.

use super::error::{Parameter, TlsError};
use crate::endpoint::{Authorities, ClientCertificate, Mode, Tls};
use std::fmt;
use std::path::{Path, PathBuf};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

/// What the files say.
pub(super) struct Files {
    /// Who may have signed the server's certificate; none where nobody asks.
    pub(super) authorities: Option<Vec<CertificateDer<'static>>>,
    pub(super) revoked: Option<Vec<CertificateRevocationListDer<'static>>>,
    pub(super) client: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    pub(super) origin: Origin,
}

/// Where it comes from, for those who have to change it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(super) authorities: Option<Authority>,
    pub(super) client: Option<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Authority {
    System,
    File(PathBuf),
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("the operating system (`sslrootcert=system`)"),
            Self::File(path) => write!(f, "`{}` (`sslrootcert`)", path.display()),
        }
    }
}

/// Where libpq looks when it is not told.
pub(super) fn default_directory() -> Option<PathBuf> {
    if cfg!(windows) {
        std::env::var_os("APPDATA").map(|directory| Path::new(&directory).join("postgresql"))
    } else {
        std::env::home_dir().map(|directory| directory.join(".postgresql"))
    }
}

impl Files {
    /// Blocks for as long as the files take to be read.
    pub(super) fn read(tls: &Tls, default: Option<&Path>) -> Result<Self, TlsError> {
        let in_default =
            |name: &str| default.map(|directory| directory.join(name)).filter(|path| path.exists());
        let authority = match &tls.authorities {
            Authorities::System => Some(Authority::System),
            Authorities::File(path) => Some(Authority::File(path.clone())),
            Authorities::Default => in_default("root.crt").map(Authority::File),
        };
        let authorities = match &authority {
            None if tls.mode >= Mode::VerifyCa => {
                return Err(TlsError::NoAuthority(default.map(|directory| directory.join("root.crt"))));
            }
            None => None,
            Some(Authority::System) => Some(of_the_system()?),
            Some(Authority::File(path)) => Some(all(Parameter::RootCert, path)?),
        };
        let list = tls.revoked.clone().or_else(|| in_default("root.crl"));
        // Without authorities there is nobody to revoke.
        let list = list.filter(|_| authorities.is_some());
        let revoked = list.map(|path| all(Parameter::Crl, &path)).transpose()?;
        let client = match &tls.client {
            ClientCertificate::None => None,
            ClientCertificate::Files { certificate, key } => Some((certificate.clone(), key.clone())),
            ClientCertificate::Default => in_default("postgresql.crt")
                .map(|certificate| (certificate.clone(), certificate.with_extension("key"))),
        };
        let origin = Origin {
            authorities: authority,
            client: client.as_ref().map(|(certificate, _)| certificate.clone()),
        };
        let client = client
            .map(|(certificate, path)| Ok((all(Parameter::Cert, &certificate)?, key(&path)?)))
            .transpose()?;
        Ok(Self { authorities, revoked, client, origin })
    }
}

fn of_the_system() -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        let problem = found.errors.first().map(ToString::to_string);
        return Err(TlsError::NoSystemAuthorities(problem.unwrap_or_else(|| "there are none".to_owned())));
    }
    Ok(found.certs)
}

fn all<T: PemObject>(parameter: Parameter, path: &Path) -> Result<Vec<T>, TlsError> {
    let text = read(parameter, path)?;
    let found: Result<Vec<T>, pem::Error> = T::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(TlsError::Malformed(parameter, path.to_owned())),
    }
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let text = read(Parameter::Key, path)?;
    #[cfg(unix)]
    if is_open_to_others(path)
        .map_err(|error| TlsError::Unreadable(Parameter::Key, path.to_owned(), error))?
    {
        return Err(TlsError::PublicKey(path.to_owned()));
    }
    PrivateKeyDer::from_pem_slice(&text).map_err(|_| TlsError::Malformed(Parameter::Key, path.to_owned()))
}

fn read(parameter: Parameter, path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|error| TlsError::Unreadable(parameter, path.to_owned(), error))
}

/// One of root's may be read by a group, as a secret that is mounted into a container is.
#[cfg(unix)]
fn is_open_to_others(path: &Path) -> std::io::Result<bool> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let file = std::fs::metadata(path)?;
    let forbidden = if file.uid() == 0 { 0o037 } else { 0o077 };
    Ok(file.permissions().mode() & forbidden != 0)
}
