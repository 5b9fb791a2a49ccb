//! Tells the recorder what is so, with every round of probes: so that idle series are there, at 0.

use super::Histograms;
use super::table::{self, Metric};
use crate::event::{Event, EventKind};
use crate::fleet::Role;
use crate::health::{HealthState, Reason};
use crate::observation::{Observation, ProbeFailure};
use crate::pool::Pool;
use crate::status::NodeStatus;
use crate::topology::{Node, Topology};
use crate::traffic::Failure;
use metrics::{Label, counter, gauge, histogram};
use std::sync::Arc;

/// What connections are for, and whether they may write.
const ACCESS: [(&str, bool); 2] = [("read", false), ("write", true)];
const ROLES: [Role; 2] = [Role::Primary, Role::Replica];
const PROBE_FAILURES: [&str; 3] = ["failed", "full", "timed_out"];

/// Tells what the topology is.
pub(crate) fn publish(topology: &Topology, split_brain: bool) {
    table::ALL.iter().for_each(Metric::describe);
    let set = |metric: Metric, value: f64| gauge!(metric.name).set(value);
    set(table::SERVING_REPLICAS, topology.serving() as f64);
    set(table::HAS_PRIMARY, one_if(topology.primary().is_ok()));
    set(table::SPLIT_BRAIN, one_if(split_brain));
    for seen in topology.nodes() {
        counts(&seen.node);
        // The one that takes the place of another under its name is told in its stead.
        let namesakes = topology.nodes().iter().filter(|other| other.node.name == seen.node.name).count();
        if namesakes == 1 || seen.view.health != HealthState::Draining {
            state(&seen.node.name, Some(&NodeStatus::of(seen, topology)));
            connections(&seen.node, topology);
        }
    }
}

/// Tells that nobody watches the nodes any more.
pub(crate) fn end(topology: &Topology) {
    for metric in [table::SERVING_REPLICAS, table::HAS_PRIMARY, table::SPLIT_BRAIN] {
        gauge!(metric.name).set(f64::NAN);
    }
    topology.nodes().iter().for_each(|seen| forget(&seen.node, false));
}

/// Tells that the node is not there any more, unless another one has its name. What it has been counted for stays.
pub(crate) fn forget(node: &Node, is_replaced: bool) {
    counts(node);
    if !is_replaced {
        state(&node.name, None);
        for (access, _) in ACCESS {
            pool(&node.name, access, None, 0);
        }
    }
}

/// Counts what has happened.
pub(crate) fn saw(event: &Event) {
    match &event.kind {
        // One that was out for another reason meanwhile has been counted before.
        EventKind::Health { node, from: HealthState::Healthy, to: HealthState::Ejected, .. } => {
            count(table::EJECTIONS, labels(node, []), 1)
        }
        EventKind::Role { node, .. } => count(table::ROLE_CHANGES, labels(node, []), 1),
        _ => {}
    }
}

/// Counts a probe that has ended.
pub(crate) fn probed(node: &Arc<str>, result: &Result<Observation, ProbeFailure>) {
    let kind = match result {
        Ok(Observation { asked_at, answered_at, .. }) => {
            let took = *answered_at - *asked_at;
            return histogram!(table::PROBE_DURATION.name, labels(node, [])).record(took);
        }
        Err(ProbeFailure::Failed(_)) => "failed",
        Err(ProbeFailure::Full(_)) => "full",
        Err(ProbeFailure::TimedOut { .. }) => "timed_out",
    };
    count(table::PROBE_FAILURES, labels(node, [("kind", kind)]), 1);
}

/// What the node is; `None` of one that is not there any more.
fn state(node: &Arc<str>, status: Option<&NodeStatus>) {
    let set = |metric: Metric, value: f64| gauge!(metric.name, labels(node, [])).set(value);
    let is = |what: fn(&NodeStatus) -> bool| one_if(status.is_some_and(what));
    set(table::LAG_SECONDS, lag(status, |lag| Some(lag.time()?.as_secs_f64())));
    set(table::LAG_BYTES, lag(status, |lag| Some(lag.bytes()?.get() as f64)));
    set(table::SERVES_READS, is(|status| status.serves_reads));
    set(table::SERVES_WRITES, is(|status| status.serves_writes));

    let set_one = |metric: Metric, key: &'static str, value: String, is: bool| {
        let mut labels = labels(node, []);
        labels.push(Label::new(key, value));
        gauge!(metric.name, labels).set(one_if(is));
    };
    for health in HealthState::ALL {
        let is = status.is_some_and(|status| status.health == health);
        set_one(table::HEALTH, "health", health.to_string(), is);
    }
    for kind in Reason::KINDS {
        let is = status.is_some_and(|status| status.reason.kind() == kind);
        set_one(table::HEALTH_REASON, "reason", kind.to_owned(), is);
    }
    for role in ROLES {
        set_one(table::ROLE, "role", role.to_string(), status.is_some_and(|status| status.role == role));
    }
}

/// Unknown is not zero.
fn lag(status: Option<&NodeStatus>, value: fn(&crate::health::Lag) -> Option<f64>) -> f64 {
    match status {
        Some(NodeStatus { serves_writes: true, .. }) => 0.0,
        Some(NodeStatus { lag: Some(lag), .. }) => value(lag).unwrap_or(f64::NAN),
        _ => f64::NAN,
    }
}

/// What has happened at the node.
fn counts(Node { name, traffic, .. }: &Node) {
    for failure in Failure::ALL {
        let kind = match failure {
            Failure::Connect => "connect",
            Failure::Lost => "lost",
        };
        count(table::FAILURES, labels(name, [("kind", kind)]), traffic.failures_of(failure).untold());
    }
    count(table::FAILURES, labels(name, [("kind", "recovery_conflict")]), traffic.conflicts.untold());
    count(table::FALLBACKS, labels(name, []), traffic.fallbacks.untold());
    count(table::RETRIES, labels(name, []), traffic.retries.untold());
    for (access, may_write) in ACCESS {
        let usage = traffic.usage(may_write);
        count(table::HANDLES, labels(name, [("access", access)]), traffic.handles(may_write).untold());
        count(table::TIMEOUTS, pool_labels(name, access), usage.exhausted.untold());
        usage.times.take(name, access);
    }
    count(table::EJECTIONS, labels(name, []), 0);
    count(table::ROLE_CHANGES, labels(name, []), 0);
    for kind in PROBE_FAILURES {
        count(table::PROBE_FAILURES, labels(name, [("kind", kind)]), 0);
    }
}

/// The node's pools. Where reads and writes have one in common, it is the one for writes.
fn connections(node: &Node, topology: &Topology) {
    let primary = topology.primary().ok().filter(|primary| primary.node.id == node.id);
    let pools = match node.pools.common {
        true => [None, Some(&node.reads)],
        false => [Some(&node.reads), primary.map(|primary| &primary.writes)],
    };
    for ((access, may_write), connections) in ACCESS.into_iter().zip(pools) {
        pool(&node.name, access, connections, node.traffic.waiting(may_write).value());
    }
}

fn pool(node: &Arc<str>, access: &'static str, pool: Option<&Pool>, waiting: usize) {
    let [used, idle] = pool.map_or([0; 2], Pool::connections);
    for (state, value) in [("used", used), ("idle", idle)] {
        let mut labels = pool_labels(node, access);
        labels.push(Label::from_static_parts("db.client.connection.state", state));
        gauge!(table::CONNECTIONS.name, labels).set(f64::from(value));
    }
    let set = |metric: Metric, value: f64| gauge!(metric.name, pool_labels(node, access)).set(value);
    set(table::CONNECTIONS_MAX, f64::from(pool.map_or(0, Pool::size)));
    set(table::PENDING, waiting as f64);
}

impl super::Times {
    /// Has what takes time recorded from now on by the recorder that is installed now.
    fn take(&self, node: &Arc<str>, access: &'static str) {
        let of_pool = |metric: Metric| histogram!(metric.name, pool_labels(node, access));
        let operation = labels(node, [("access", access), ("db.system.name", "postgresql")]);
        self.histograms.store(Some(Arc::new(Histograms {
            create: of_pool(table::CREATE_TIME),
            wait: of_pool(table::WAIT_TIME),
            r#use: of_pool(table::USE_TIME),
            operation: histogram!(table::OPERATION_DURATION.name, operation),
        })));
    }
}

fn count(metric: Metric, labels: Vec<Label>, more: u64) {
    counter!(metric.name, labels).increment(more);
}

fn labels<const N: usize>(node: &Arc<str>, more: [(&'static str, &'static str); N]) -> Vec<Label> {
    let node = Label::new("node", Arc::clone(node));
    std::iter::once(node).chain(more.map(|(key, value)| Label::from_static_parts(key, value))).collect()
}

/// A pool is named as OpenTelemetry asks for it, in one label.
fn pool_labels(node: &Arc<str>, access: &'static str) -> Vec<Label> {
    let mut labels = labels(node, [("access", access)]);
    labels.push(Label::new("db.client.connection.pool.name", format!("{node}/{access}")));
    labels
}

fn one_if(so: bool) -> f64 {
    f64::from(u8::from(so))
}
