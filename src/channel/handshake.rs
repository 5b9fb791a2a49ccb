//! How TLS begins.

use super::Channel;
use super::error::TlsError;
use super::files::{Files, Origin, default_directory};
use super::verifier::Verifier;
use crate::endpoint::{Mode, Negotiation, Tls, Version};
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ClientConfig, SupportedProtocolVersion};

/// Asks the server whether it has TLS. Source: PostgreSQL documentation, "SSL Session Encryption" of the protocol's message flow.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// The protocol's name for ALPN, which servers from version 17 on expect of those who begin with TLS at once.
const PROTOCOL: &[u8] = b"postgresql";

/// All that is needed to begin TLS with one server.
pub(crate) struct Handshake {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    negotiation: Negotiation,
    origin: Origin,
}

impl Handshake {
    /// Reads the files, on a thread where that may take a while.
    pub(super) async fn prepare(tls: &Tls, host: &str) -> Result<Self, TlsError> {
        let (tls, host) = (tls.clone(), host.to_owned());
        let prepared =
            tokio::task::spawn_blocking(move || Self::read(&tls, &host, default_directory().as_deref()));
        prepared.await.unwrap_or_else(|stopped| Err(TlsError::Stopped(stopped)))
    }

    fn read(tls: &Tls, host: &str, default: Option<&Path>) -> Result<Self, TlsError> {
        let mut files = Files::read(tls, default)?;
        let name = ServerName::try_from(host.to_owned()).map_err(|_| TlsError::HostName(host.to_owned()))?;
        // One that the program has chosen, such as for FIPS, is for everything in it.
        let provider = CryptoProvider::get_default().cloned();
        let provider = provider.unwrap_or_else(|| Arc::new(ring::default_provider()));
        let verifier = Verifier::new(&mut files, tls.mode == Mode::VerifyFull, &provider);
        let verifier = verifier.map_err(TlsError::Authorities)?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions(tls))
            .map_err(TlsError::SetUp)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match files.client.take() {
            None => builder.with_no_client_auth(),
            Some((certificates, key)) => {
                builder.with_client_auth_cert(certificates, key).map_err(TlsError::ClientKey)?
            }
        };
        config.enable_sni = tls.tells_name;
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        let config = Arc::new(config);
        Ok(Self { config, name, negotiation: tls.negotiation, origin: files.origin })
    }

    pub(super) fn refusal(&self, error: &(dyn Error + 'static)) -> Option<TlsError> {
        TlsError::behind(error, &self.origin)
    }

    /// An answer that is not a clear yes is never one to go on with in plain text, but for the no where TLS is `optional`.
    pub(super) async fn with<S>(&self, mut stream: S, optional: bool) -> Result<Channel<S>, TlsError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        if self.negotiation == Negotiation::Postgres {
            stream.write_all(&SSL_REQUEST).await.map_err(TlsError::Lost)?;
            stream.flush().await.map_err(TlsError::Lost)?;
            // Not a byte more: what comes behind it is part of the handshake, or somebody's between us and the server.
            match stream.read_u8().await.map_err(TlsError::Lost)? {
                b'S' => {}
                b'N' if optional => return Ok(Channel::Plain(stream)),
                b'N' => return Err(TlsError::NotOffered),
                other => return Err(TlsError::Answer(other)),
            }
        }
        let connector = TlsConnector::from(Arc::clone(&self.config));
        let stream = connector.connect(self.name.clone(), stream).await;
        let stream = stream.map_err(|error| TlsError::of_handshake(error, self.negotiation, &self.origin))?;
        if self.negotiation == Negotiation::Direct && stream.get_ref().1.alpn_protocol() != Some(PROTOCOL) {
            return Err(TlsError::NotPostgres);
        }
        Ok(Channel::Tls(Box::new(stream)))
    }
}

fn versions(tls: &Tls) -> &'static [&'static SupportedProtocolVersion] {
    const BOTH: &[&SupportedProtocolVersion] = &[&TLS12, &TLS13];
    match (tls.oldest, tls.newest) {
        (Version::V1_2, Version::V1_3) => BOTH,
        (Version::V1_2, Version::V1_2) => &BOTH[..1],
        (Version::V1_3, _) => &BOTH[1..],
    }
}
