//! How the nodes are used and watched.

use super::Subset;
use crate::alerts::AlertPolicy;
use crate::balance::Strategy;
use crate::health::HealthPolicy;
use crate::pool::PoolPolicy;
use crate::retry::RetryBudget;
use std::sync::Arc;
use std::time::Duration;

/// The settings of one router, but for its nodes.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) read_replicas_enabled: bool,
    pub(crate) strategy: Arc<dyn Strategy>,
    pub(crate) fallback: Fallback,
    pub(crate) pools: PoolPolicy,
    pub(crate) checkout_timeout: Duration,
    /// How long a read after a token waits for a replica.
    pub(crate) causal_wait: Duration,
    pub(crate) drain_timeout: Duration,
    pub(crate) retry_budget: RetryBudget,
    pub(crate) health: HealthPolicy,
    pub(crate) alerts: AlertPolicy,
    /// From one probe of a node to the next; jittered by a tenth.
    pub(crate) probe_interval: Duration,
    /// How long one probe may take, with connecting.
    pub(crate) probe_timeout: Duration,
    /// From one probe of a node that is down to the next, at most.
    pub(crate) probe_backoff: Duration,
    pub(crate) slow_start: Duration,
    /// Where the router is.
    pub(crate) zone: Option<Arc<str>>,
    /// The own zone alone serves while at least so many of its replicas do.
    pub(crate) min_zone_replicas: usize,
    /// Of many replicas only some are read from.
    pub(crate) subset: Option<Subset>,
}

/// What becomes of a read when no replica may serve it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Fallback {
    /// The primary serves it, through a pool apart from that of the writes. The default: reads go on, at the price of more
    /// load on the primary just when replicas are missing.
    #[default]
    Primary,
    /// The least lagging replica serves it, unless its lag is over the
    /// [hard limit](crate::RouterBuilder::lag_hard_limit): then it fails with an error. Keeps the load off the primary, at the
    /// price of staler data.
    LeastLagged,
    /// It fails with an error. Protects the primary from a load that it may not be sized for.
    Fail,
}
