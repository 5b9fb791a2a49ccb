//! Ties SCRAM authentication to the TLS channel that it goes through: `tls-server-end-point`.
//!
//! Source: RFC 5929, section 4.1: the hash of the server's certificate, by the hash function that signed it, which is SHA-256 in
//! the place of MD5 and SHA-1.

use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};
use tokio_postgres::tls::ChannelBinding;
use tokio_rustls::rustls::ClientConnection;
use x509_cert::Certificate;
use x509_cert::der::Decode;

pub(super) fn of(connection: &ClientConnection) -> ChannelBinding {
    let certificate = connection.peer_certificates().and_then(|chain| chain.first());
    let hash = certificate.and_then(|certificate| end_point(certificate));
    hash.map_or_else(ChannelBinding::none, ChannelBinding::tls_server_end_point)
}

/// None where the RFC leaves it undefined, as for Ed25519, and for RSA-PSS, whose hash stands in its parameters.
fn end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let parsed = Certificate::from_der(certificate).ok()?;
    let hash = match parsed.signature_algorithm().oid.to_string().as_str() {
        // RSA with MD5, SHA-1 and SHA-256; ECDSA with SHA-1 and SHA-256. Source: RFC 3279, RFC 4055, RFC 5758.
        "1.2.840.113549.1.1.4"
        | "1.2.840.113549.1.1.5"
        | "1.2.840.113549.1.1.11"
        | "1.2.840.10045.4.1"
        | "1.2.840.10045.4.3.2" => Sha256::digest(certificate).to_vec(),
        "1.2.840.113549.1.1.14" | "1.2.840.10045.4.3.1" => Sha224::digest(certificate).to_vec(),
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => Sha384::digest(certificate).to_vec(),
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => Sha512::digest(certificate).to_vec(),
        _ => return None,
    };
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};

    #[test]
    fn the_hash_is_that_of_the_signature() {
        for (algorithm, bits) in
            [(&PKCS_ECDSA_P256_SHA256, 256), (&PKCS_ECDSA_P384_SHA384, 384), (&PKCS_ED25519, 0)]
        {
            let key = KeyPair::generate_for(algorithm).expect("a key");
            let certificate = CertificateParams::default().self_signed(&key).expect("a certificate");
            let hash = end_point(certificate.der()).unwrap_or_default();
            assert_eq!(hash.len() * 8, bits, "{algorithm:?}");
        }
        assert_eq!(end_point(b"no certificate"), None);
    }
}
