//! What a router is made from: the nodes, and how to use them.
//!
//! Settings come from code, from the environment or from a file, all into a [`RouterBuilder`]; they are checked in one place, and
//! what is wrong is reported all at once.

mod builder;
mod check;
mod env;
mod fault;
#[cfg(feature = "serde")]
mod file;
mod near;
mod node;
mod settings;
mod units;

pub use builder::RouterBuilder;
pub(crate) use fault::Unusable;
pub use fault::{ConfigError, Fault};
pub use node::NodeConfig;
pub(crate) use node::{NodeSpec, parse_url};
#[cfg(feature = "cli")]
pub(crate) use settings::{PREFIX, PRIMARY};

use crate::{
    alerts::AlertPolicy, balance::LoadBalancing, discovery::Discovery, health::HealthPolicy,
    retry::RetryBudget, rollout::Rollout, topology::Fallback,
};
use std::{sync::Arc, time::Duration};

/// A complete and valid configuration. Made by [`Config::from_env`] or [`RouterBuilder::config`].
///
/// Its `Debug` shows no passwords.
#[derive(Debug, Clone)]
pub struct Config {
    pub(crate) primary: NodeSpec,
    /// Kept also when they are not enabled.
    pub(crate) replicas: Vec<NodeSpec>,
    pub(crate) read_replicas_enabled: bool,
    pub(crate) rollout: Rollout,
    pub(crate) service: Option<Arc<str>>,
    /// Kept also when replicas are not enabled.
    pub(crate) discovery: Vec<Arc<dyn Discovery>>,
    pub(crate) discovery_interval: Duration,
    pub(crate) pool_size: u32,
    pub(crate) checkout_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) retry_budget: RetryBudget,
    pub(crate) load_balancing: LoadBalancing,
    /// Zero is off.
    pub(crate) slow_start: Duration,
    pub(crate) zone: Option<Arc<str>>,
    pub(crate) min_zone_replicas: usize,
    /// How many replicas to read from, if not from all.
    pub(crate) read_subset: Option<usize>,
    /// What the subset is drawn by, if that is said.
    pub(crate) subset_seed: Option<u64>,
    pub(crate) fallback: Fallback,
    pub(crate) causal_wait: Duration,
    pub(crate) drain_timeout: Duration,
    pub(crate) health: HealthPolicy,
    pub(crate) alerts: AlertPolicy,
    pub(crate) probe_interval: Duration,
    pub(crate) probe_timeout: Duration,
    /// The longest time between two probes of a node that is down.
    pub(crate) probe_backoff: Duration,
}
