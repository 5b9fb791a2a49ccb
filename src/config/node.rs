//! One node: as it is given, and as it is once checked.

use super::{
    ConfigError,
    fault::{Faults, Key, Part, Unusable},
};
use crate::endpoint::Endpoint;
use std::{collections::HashMap, fmt, sync::Arc};

pub(super) const URL_WANTED: &str =
    "a URL like postgres://user:password@host:5432/database, with reserved characters percent-encoded";

/// One PostgreSQL server, as given to [`RouterBuilder::primary`] and [`RouterBuilder::replica`], or found by a
/// [`Discovery`](crate::Discovery).
///
/// A URL alone will do where the other settings are not needed: `builder.replica("postgres://app@replica-1/chat")`.
///
/// # Example
///
/// ```
/// use diesel_replicas::NodeConfig;
///
/// let big = NodeConfig::new("postgres://app:secret@replica-1/chat").name("big").weight(3);
/// assert!(!format!("{big:?}").contains("secret"));
/// ```
///
/// [`RouterBuilder::primary`]: crate::RouterBuilder::primary
/// [`RouterBuilder::replica`]: crate::RouterBuilder::replica
#[derive(Clone, PartialEq, Eq)]
pub struct NodeConfig {
    server: Server,
    name: Option<String>,
    weight: u32,
    zone: Option<String>,
}

#[derive(Clone, PartialEq, Eq)]
enum Server {
    /// Not parsed yet.
    Url(String),
    At(Box<Endpoint>),
}

/// A node of a valid configuration.
#[derive(Debug, Clone)]
pub(crate) struct NodeSpec {
    /// Unlike that of any other node.
    pub(crate) name: Arc<str>,
    pub(crate) endpoint: Endpoint,
    pub(crate) weight: u32,
    pub(crate) zone: Option<Arc<str>>,
}

impl NodeConfig {
    /// The server at this URL, of weight 1 and named by its `host:port`. The URL is checked with the rest of the settings.
    pub fn new(url: impl Into<String>) -> Self {
        Self { server: Server::Url(url.into()), name: None, weight: 1, zone: None }
    }

    /// What status, events and metrics call the node; no two nodes may have the same name. Default: `host:port`.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The node's share of reads relative to the others, for [`LoadBalancing::Weighted`],
    /// [`LoadBalancing::LeastConnections`] and [`LoadBalancing::PeakEwma`]. A node of weight 0 is watched but never
    /// picked. Default: 1.
    ///
    /// [`LoadBalancing::Weighted`]: crate::LoadBalancing::Weighted
    /// [`LoadBalancing::LeastConnections`]: crate::LoadBalancing::LeastConnections
    /// [`LoadBalancing::PeakEwma`]: crate::LoadBalancing::PeakEwma
    #[must_use]
    pub fn weight(mut self, weight: u32) -> Self {
        self.weight = weight;
        self
    }

    /// Where the node stands: a router of the [same zone](crate::RouterBuilder::zone) prefers it. Letters, digits, `-`, `_`
    /// and `.`, as in `eu-west-1a`. Default: none, and no router takes the node for one of its own zone.
    #[must_use]
    pub fn zone(mut self, zone: impl Into<String>) -> Self {
        self.zone = Some(zone.into());
        self
    }

    pub(crate) fn at(endpoint: Endpoint, name: String) -> Self {
        Self { server: Server::At(Box::new(endpoint)), name: Some(name), weight: 1, zone: None }
    }

    /// Checks a node that comes on its own.
    pub(crate) fn check(self) -> Result<NodeSpec, ConfigError> {
        let mut faults = Faults::named_by(Key::setter);
        let spec = self.checked(Key::Added, &mut HashMap::new(), &mut faults);
        faults.result(spec)
    }

    /// `names` are those of the nodes before it.
    pub(super) fn checked(
        self,
        key: impl Fn(Part) -> Key,
        names: &mut HashMap<Arc<str>, Key>,
        faults: &mut Faults,
    ) -> Option<NodeSpec> {
        let Self { server, name, weight, zone } = self;
        let endpoint = match server {
            Server::At(endpoint) => Ok(*endpoint),
            Server::Url(url) => parse_url(&url),
        };
        let endpoint = match endpoint {
            Ok(endpoint) => endpoint,
            Err(unusable) => {
                faults.add_unusable(key(Part::Url), unusable);
                return None;
            }
        };

        // A name given in code is at fault as a name; one taken from the URL as the URL.
        let named_by = if name.is_some() { key(Part::Name) } else { key(Part::Url) };
        let name: Arc<str> = name.map_or_else(|| endpoint.host_port(), |name| name.trim().to_owned()).into();
        if name.is_empty() || name.contains(char::is_control) {
            faults.add(named_by, "is empty or not printable", "a name of printable characters");
        } else if let Some(other) = names.insert(Arc::clone(&name), named_by) {
            let problem = format!("makes a second node named {name}, after {}", faults.name(other));
            faults.add(named_by, problem, "another server, or a name of its own for each node");
        }
        let zone = check_zone(zone, key(Part::Zone), faults);
        Some(NodeSpec { name, endpoint, weight, zone })
    }
}

impl From<&str> for NodeConfig {
    fn from(url: &str) -> Self {
        Self::new(url)
    }
}

impl From<String> for NodeConfig {
    fn from(url: String) -> Self {
        Self::new(url)
    }
}

impl fmt::Debug for NodeConfig {
    /// Leaves the URL out: it is not parsed yet, so nobody can say where in it the password is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeConfig")
            .field("name", &self.name)
            .field("weight", &self.weight)
            .field("zone", &self.zone)
            .finish_non_exhaustive()
    }
}

pub(crate) fn parse_url(url: &str) -> Result<Endpoint, Unusable> {
    let url = url.trim();
    if url.is_empty() {
        return Err(Unusable::new("is empty", URL_WANTED));
    }
    Endpoint::parse(url).map_err(|error| Unusable::new(error.to_string(), URL_WANTED))
}

/// What is no zone is not repeated, and a URL is none.
pub(super) fn check_zone(zone: Option<String>, key: Key, faults: &mut Faults) -> Option<Arc<str>> {
    let zone = zone?;
    let zone = zone.trim();
    let good = |c: char| c.is_alphanumeric() || "-_.".contains(c);
    if zone.is_empty() || !zone.chars().all(good) {
        faults.add(key, "is not the name of a zone", "letters, digits, `-`, `_` and `.`");
    }
    Some(zone.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_on_its_own_is_checked_like_any_other() {
        const URL: &str = "postgres://app:hunter2@a/chat";
        for (node, expected) in [
            (NodeConfig::new(" "), "replica.url: is empty"),
            (NodeConfig::new("hunter2"), "replica.url: it is not a `postgres://` URL"),
            (NodeConfig::new(URL).name("\n"), "replica.name: is empty or not printable"),
            (NodeConfig::new(URL).zone(URL), "replica.zone: is not the name of a zone"),
            (NodeConfig::new(URL).zone(" "), "replica.zone: is not the name of a zone"),
        ] {
            let text = node.check().expect_err(expected).to_string();
            assert!(text.starts_with(&format!("{expected}; wanted: ")), "{text}");
            assert!(!text.contains("hunter2"));
        }
        let node = NodeConfig::new(URL).name(" a ").weight(0).zone(" eu-west_1.ä ").check().expect("valid");
        assert_eq!((&*node.name, node.weight, node.zone.as_deref()), ("a", 0, Some("eu-west_1.ä")));
        assert_eq!(node.endpoint, NodeConfig::new(URL).check().expect("valid").endpoint);
    }
}
