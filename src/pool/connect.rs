//! Where a node is and how to reach it.

/// The parsed connection URL of one node. Its `Debug` and `Display` never show a password.
#[derive(Clone, Debug)]
pub struct Endpoint(tokio_postgres::Config);

/// Why a connection URL cannot be used; the text never contains a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EndpointError(String);

impl Endpoint {
    /// Parses a `postgres://` URL.
    pub fn parse(url: &str) -> Result<Self, EndpointError> {
        url.parse().map(Self).map_err(|_| EndpointError("not a valid postgres:// URL".into()))
    }

    /// `host:port`, the default name of a node.
    pub fn host_port(&self) -> String {
        todo!()
    }
}
