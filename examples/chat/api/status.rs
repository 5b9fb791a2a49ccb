use std::time::Duration;

use axum::Json;
use axum::extract::State;
use diesel_replicas::{NodeStatus, WalBytes};
use serde::Serialize;
use serde_json::{Value, json};

use super::App;

#[derive(Serialize)]
pub struct Nodes {
    nodes: Vec<Node>,
}

/// One node of the database. The lag of the primary, and one that is unknown, is `null`: it is not zero.
#[derive(Serialize)]
struct Node {
    name: String,
    role: String,
    health: String,
    reason: String,
    /// At most so long, in milliseconds.
    lag_ms: Option<u64>,
    lag_bytes: Option<u64>,
    in_flight: usize,
    reads: u64,
    writes: u64,
}

impl From<NodeStatus> for Node {
    fn from(node: NodeStatus) -> Self {
        Self {
            name: node.name,
            role: node.role.to_string(),
            health: node.health.to_string(),
            reason: node.reason.to_string(),
            lag_ms: node.lag.and_then(|lag| lag.time()).map(whole_ms),
            lag_bytes: node.lag.and_then(|lag| lag.bytes()).map(WalBytes::get),
            in_flight: node.in_flight,
            reads: node.reads,
            writes: node.writes,
        }
    }
}

/// Rounded up, for lag is an upper bound.
fn whole_ms(lag: Duration) -> u64 {
    u64::try_from(lag.as_micros().div_ceil(1000)).unwrap_or(u64::MAX)
}

pub async fn nodes(State(app): State<App>) -> Json<Nodes> {
    Json(Nodes { nodes: app.router.status().nodes.into_iter().map(Node::from).collect() })
}

/// Says that the process lives. A database that is away is no reason to restart it: `ready` tells whether it was there once.
pub async fn healthz(State(app): State<App>) -> Json<Value> {
    Json(json!({ "status": "ok", "ready": app.migrated.is_done() }))
}
