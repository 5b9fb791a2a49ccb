//! What a router is made from: the nodes, and how to use them.
//!
//! Settings come from code ([`RouterBuilder`]) or from the environment ([`Config::from_env`]); both are checked in the same
//! place, and what is wrong is reported all at once.

mod builder;
mod env;
mod fault;

pub use builder::RouterBuilder;
pub use fault::{ConfigError, Fault};

use crate::{balance::LoadBalancing, health::HealthPolicy, pool::Endpoint};
use std::{fmt, sync::Arc, time::Duration};

/// A complete and valid configuration. Made by [`Config::from_env`], [`Config::from_vars`] or [`RouterBuilder::config`].
///
/// Its `Debug` shows no passwords.
#[derive(Debug, Clone)]
pub struct Config {
    pub(crate) primary: NodeSpec,
    /// Kept also when they are not enabled.
    pub(crate) replicas: Vec<NodeSpec>,
    pub(crate) read_replicas_enabled: bool,
    pub(crate) pool_size: u32,
    pub(crate) checkout_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) load_balancing: LoadBalancing,
    pub(crate) fallback: Fallback,
    pub(crate) health: HealthPolicy,
    pub(crate) probe_interval: Duration,
    pub(crate) probe_timeout: Duration,
}

/// A node of a valid configuration.
#[derive(Debug, Clone)]
pub(crate) struct NodeSpec {
    /// Unlike that of any other node.
    pub(crate) name: Arc<str>,
    pub(crate) endpoint: Endpoint,
    pub(crate) weight: u32,
}

/// One PostgreSQL server, as given to [`RouterBuilder::primary`] and [`RouterBuilder::replica`].
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
#[derive(Clone)]
pub struct NodeConfig {
    url: String,
    name: Option<String>,
    weight: u32,
}

impl NodeConfig {
    /// The server at this URL, of weight 1 and named by its `host:port`. The URL is checked with the rest of the settings.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), name: None, weight: 1 }
    }

    /// What status, events and metrics call the node; no two nodes may have the same name. Default: `host:port`.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The node's share of reads relative to the others, for [`LoadBalancing::Weighted`],
    /// [`LoadBalancing::LeastConnections`] and [`LoadBalancing::PeakEwma`]. A node of weight 0 is watched but never picked.
    /// Default: 1.
    #[must_use]
    pub fn weight(mut self, weight: u32) -> Self {
        self.weight = weight;
        self
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
            .finish_non_exhaustive()
    }
}

/// What becomes of a read when no replica may serve it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Fallback {
    /// The primary serves it, through a pool apart from that of the writes. The default: reads go on, at the price of more
    /// load on the primary just when replicas are missing.
    #[default]
    Primary,
    /// It fails with an error. Protects the primary from a load that it may not be sized for.
    Fail,
}
