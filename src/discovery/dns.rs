//! The addresses of a name.

use super::{Discovering, Discovery};
use crate::{
    config::{ConfigError, NodeConfig, Unusable, parse_url},
    endpoint::{Endpoint, PasswordProvider},
};
use std::{io, net::SocketAddr, sync::Arc};
use tokio::net::lookup_host;

/// Each address of a host name is a node, as behind a headless service or a round-robin record.
///
/// The URL says how they are reached; its host name is looked up, with the resolver of the system, and its port holds for all.
/// Nodes are named `address:port`. A name without an address is a failure, and so the last good answer stays.
///
/// # Example
///
/// ```
/// use diesel_replicas::{DnsDiscovery, Router};
///
/// let replicas = DnsDiscovery::new("postgres://app:secret@replicas.internal/chat")?;
/// let builder = Router::builder().primary("postgres://app:secret@primary.internal/chat").discover(replicas);
/// # let _ = builder;
/// # Ok::<(), diesel_replicas::ConfigError>(())
/// ```
#[derive(Debug)]
pub struct DnsDiscovery {
    template: Endpoint,
    host: String,
    port: u16,
}

#[derive(Debug, thiserror::Error)]
enum DnsError {
    #[error("`{host}` cannot be looked up")]
    Lookup {
        host: String,
        #[source]
        cause: io::Error,
    },
    #[error("`{0}` has no address")]
    NoAddress(String),
}

impl DnsDiscovery {
    /// Looks nothing up yet.
    ///
    /// # Errors
    ///
    /// The URL is wrong, or has no host name to look up.
    pub fn new(url: impl AsRef<str>) -> Result<Self, ConfigError> {
        let parsed = Self::parse(url.as_ref());
        parsed.map_err(|unusable| ConfigError::unusable("DnsDiscovery::new", unusable))
    }

    /// Where passwords come from, those of the nodes that are found included, instead of the URL.
    #[must_use]
    pub fn password_provider(mut self, provider: impl PasswordProvider) -> Self {
        self.template = self.template.with_passwords(Arc::new(provider));
        self
    }

    pub(crate) fn parse(url: &str) -> Result<Self, Unusable> {
        let template = parse_url(url)?;
        let (host, port) = template.host_name().ok_or_else(|| {
            Unusable::new("it has no host name to look up", "a URL with a host name and without `hostaddr`")
        })?;
        let host = host.to_owned();
        Ok(Self { template, host, port })
    }

    /// What an answer of the resolver says.
    fn nodes(
        &self,
        answer: io::Result<impl Iterator<Item = SocketAddr>>,
    ) -> Result<Vec<NodeConfig>, DnsError> {
        let addresses = answer.map_err(|cause| DnsError::Lookup { host: self.host.clone(), cause })?;
        let node = |address| NodeConfig::at(self.template.at(&self.host, address), address.to_string());
        let nodes: Vec<_> = addresses.map(node).collect();
        if nodes.is_empty() { Err(DnsError::NoAddress(self.host.clone())) } else { Ok(nodes) }
    }
}

impl Discovery for DnsDiscovery {
    fn discover(&self) -> Discovering<'_> {
        Box::pin(async { Ok(self.nodes(lookup_host((&*self.host, self.port)).await)?) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Chain;

    fn replicas() -> DnsDiscovery {
        DnsDiscovery::new("postgres://app:hunter2@replicas:6000/chat").expect("valid")
    }

    #[test]
    fn each_address_is_a_node_reached_as_the_url_says() {
        let addresses = [SocketAddr::from(([10, 0, 0, 1], 6000)), "[2001:db8::7]:6000".parse().expect("one")];
        let nodes = replicas().nodes(Ok(addresses.into_iter())).expect("an answer");
        let nodes: Vec<_> = nodes.into_iter().map(|node| node.check().expect("valid")).collect();
        assert_eq!(
            nodes.iter().map(|node| &*node.name).collect::<Vec<_>>(),
            ["10.0.0.1:6000", "[2001:db8::7]:6000"]
        );
        for (node, address) in nodes.iter().zip(["10.0.0.1", "2001:db8::7"]) {
            let url = format!("postgres://app:hunter2@replicas:6000/chat?hostaddr={address}");
            assert_eq!(Some(&node.endpoint), Endpoint::parse(&url).ok().as_ref());
        }
    }

    #[test]
    fn without_an_address_there_is_no_answer() {
        let error = replicas().nodes(Ok(std::iter::empty())).expect_err("no address");
        assert_eq!(error.to_string(), "`replicas` has no address");
        let refused = io::Error::other("no such host");
        let error = replicas().nodes(Err::<std::iter::Empty<_>, _>(refused)).expect_err("a failure");
        assert_eq!(Chain(&error).to_string(), "`replicas` cannot be looked up: no such host");
    }

    #[tokio::test]
    async fn the_resolver_of_the_system_is_asked() {
        let found = DnsDiscovery::new("postgres://app@localhost:6000/chat").expect("valid").discover().await;
        let names: Vec<_> =
            found.expect("an address").into_iter().map(|node| node.check().expect("valid").name).collect();
        assert!(names.iter().any(|name| &**name == "127.0.0.1:6000"), "{names:?}");
        assert!(names.iter().all(|name| ["127.0.0.1:6000", "[::1]:6000"].contains(&&**name)), "{names:?}");
    }

    #[test]
    fn a_url_needs_a_name_to_look_up_and_no_secret_shows() {
        const NAMELESS: &str =
            "it has no host name to look up; wanted: a URL with a host name and without `hostaddr`";
        for (url, problem) in [
            ("postgres://app:hunter2@%2Frun%2Fpg/chat", NAMELESS),
            ("postgres://app:hunter2@/chat?hostaddr=10.0.0.1", NAMELESS),
            ("postgres://app:hunter2@replicas/chat?hostaddr=10.0.0.1", NAMELESS),
            ("hunter2", "it is not a `postgres://` URL; wanted: a URL like "),
            ("", "is empty; wanted: a URL like "),
        ] {
            let text = DnsDiscovery::new(url).expect_err(url).to_string();
            assert!(text.starts_with(&format!("DnsDiscovery::new: {problem}")), "{text}");
            assert!(!text.contains("hunter2"), "{text}");
        }
        assert!(!format!("{:?}", replicas()).contains("hunter2"));
    }
}
