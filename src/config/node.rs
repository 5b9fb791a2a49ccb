//! One node: as it is given, and as it is once checked.

mod url;

use super::{
    ConfigError,
    fault::{Faults, Key, Names, Part, Unusable},
};
use crate::endpoint::{Endpoint, EndpointError, Password, PasswordProvider};
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
    given: Given,
    /// [`Password::Given`] where no provider is.
    password: Password,
}

/// What is said of a node besides its URL.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) name: Option<String>,
    pub(super) weight: Option<u32>,
    pub(super) zone: Option<String>,
    pub(super) pool_size: Option<u32>,
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
    /// Other than the configured one.
    pub(crate) pool_size: Option<u32>,
}

impl NodeConfig {
    /// The server at this URL, of weight 1 and named by its `host:port`. The URL is checked with the rest of the settings.
    ///
    /// The parameters `node_name`, `node_weight`, `node_zone` and `node_pool_size` of the URL stand for the setters of these names,
    /// which prevail where they are called: `postgres://app@replica-1/chat?node_name=big&node_weight=3`.
    pub fn new(url: impl Into<String>) -> Self {
        Self { server: Server::Url(url.into()), given: Given::default(), password: Password::Given }
    }

    /// What status, events and metrics call the node; no two nodes may have the same name. Default: `host:port`.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.given.name = Some(name.into());
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
        self.given.weight = Some(weight);
        self
    }

    /// Where the node stands: a router of the [same zone](crate::RouterBuilder::zone) prefers it. Letters, digits, `-`, `_`
    /// and `.`, as in `eu-west-1a`. Default: none, and no router takes the node for one of its own zone.
    #[must_use]
    pub fn zone(mut self, zone: impl Into<String>) -> Self {
        self.given.zone = Some(zone.into());
        self
    }

    /// The most connections in each pool of this node, instead of the router's [`pool_size`](crate::RouterBuilder::pool_size): for one
    /// that is larger or smaller than the others. Default: the router's.
    #[must_use]
    pub fn pool_size(mut self, connections: u32) -> Self {
        self.given.pool_size = Some(connections);
        self
    }

    /// Where the password of each new connection to the node comes from, instead of the URL. Default: the
    /// [router's](crate::RouterBuilder::password_provider).
    #[must_use]
    pub fn password_provider(mut self, provider: impl PasswordProvider) -> Self {
        self.password = Password::Provided(Arc::new(provider));
        self
    }

    #[cfg(feature = "serde")]
    pub(super) fn with(url: String, given: Given) -> Self {
        Self { given, ..Self::new(url) }
    }

    pub(crate) fn at(endpoint: Endpoint, name: String) -> Self {
        let given = Given { name: Some(name), ..Given::default() };
        Self { server: Server::At(Box::new(endpoint)), given, password: Password::Given }
    }

    /// Checks a node that comes on its own.
    pub(crate) fn check(self) -> Result<NodeSpec, ConfigError> {
        let mut faults = Faults::new(Names::Setters);
        let mut specs = self.checked(Key::Added, None, &mut HashMap::new(), &mut faults);
        if specs.len() > 1 {
            faults.add(
                Key::Added(Part::Url),
                "it names several hosts",
                "one host: give each an entry of its own",
            );
        }
        faults.result(specs.pop())
    }

    /// The servers of the URL, in its order. `names` are those of the nodes before it, `passwords` is the provider for those that have
    /// nothing of their own.
    pub(super) fn checked(
        self,
        key: impl Fn(Part) -> Key,
        passwords: Option<&Arc<dyn PasswordProvider>>,
        names: &mut HashMap<Arc<str>, Key>,
        faults: &mut Faults,
    ) -> Vec<NodeSpec> {
        let Self { server, given, password } = self;
        let parsed = match server {
            Server::At(endpoint) => Ok((vec![*endpoint], Given::default())),
            Server::Url(url) => url::split(&url).and_then(|(url, in_url)| Ok((parse_urls(&url)?, in_url))),
        };
        let (endpoints, in_url) = match parsed {
            Ok(parsed) => parsed,
            Err(unusable) => {
                faults.add_unusable(key(Part::Url), unusable);
                return vec![];
            }
        };
        if endpoints.len() > 1 && given.name.as_ref().or(in_url.name.as_ref()).is_some() {
            let at_fault = if given.name.is_some() { key(Part::Name) } else { key(Part::Url) };
            faults.add(
                at_fault,
                "is one name for several hosts",
                "an entry of its own for each host that has a name",
            );
            return vec![];
        }
        let with_password = |endpoint: Endpoint| match (&password, passwords) {
            (Password::Provided(provider), _) => endpoint.with_passwords(Arc::clone(provider)),
            (_, Some(provider)) if !endpoint.has_password() => endpoint.with_passwords(Arc::clone(provider)),
            _ => endpoint,
        };
        let endpoints = endpoints.into_iter().map(with_password);
        endpoints.map(|endpoint| spec(endpoint, given.clone(), in_url.clone(), &key, names, faults)).collect()
    }
}

fn spec(
    endpoint: Endpoint,
    given: Given,
    in_url: Given,
    key: impl Fn(Part) -> Key,
    names: &mut HashMap<Arc<str>, Key>,
    faults: &mut Faults,
) -> NodeSpec {
    let Given { name, weight, zone, pool_size } = given;

    // What is given in code is at fault as such; what stands in the URL as the URL.
    let named_by = if name.is_some() { key(Part::Name) } else { key(Part::Url) };
    let zoned_by = if zone.is_some() { key(Part::Zone) } else { key(Part::Url) };
    let sized_by = if pool_size.is_some() { key(Part::PoolSize) } else { key(Part::Url) };
    let name = name.or(in_url.name);
    let name: Arc<str> = name.map_or_else(|| endpoint.host_port(), |name| name.trim().to_owned()).into();
    if name.is_empty() || name.contains(char::is_control) {
        faults.add(named_by, "is empty or not printable", "a name of printable characters");
    } else if let Some(other) = names.insert(Arc::clone(&name), named_by) {
        let problem = format!("makes a second node named {name}, after {}", faults.name(other));
        faults.add(named_by, problem, "another server, or a name of its own for each node");
    }
    let zone = check_zone(zone.or(in_url.zone), zoned_by, faults);
    let pool_size = pool_size.or(in_url.pool_size);
    if pool_size == Some(0) {
        faults.add(sized_by, "has a pool of 0 connections", "1 connection or more");
    }
    NodeSpec { name, endpoint, weight: weight.or(in_url.weight).unwrap_or(1), zone, pool_size }
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
        let Given { name, weight, zone, pool_size } = &self.given;
        f.debug_struct("NodeConfig")
            .field("name", name)
            .field("weight", weight)
            .field("zone", zone)
            .field("pool_size", pool_size)
            .finish_non_exhaustive()
    }
}

pub(crate) fn parse_url(url: &str) -> Result<Endpoint, Unusable> {
    readable(url, Endpoint::parse)
}

/// The same for one that may name several servers.
fn parse_urls(url: &str) -> Result<Vec<Endpoint>, Unusable> {
    readable(url, Endpoint::parse_all)
}

fn readable<T>(url: &str, parse: impl Fn(&str) -> Result<T, EndpointError>) -> Result<T, Unusable> {
    let url = url.trim();
    if url.is_empty() {
        return Err(Unusable::new("is empty", URL_WANTED));
    }
    parse(url).map_err(|error| Unusable::new(error.to_string(), URL_WANTED))
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
