//! `GET /api/status`: the database as the router sees it at this moment. Asks no node.
//!
//! `no_primary` says why no node takes writes, and is `null` while one does. `rollout` has the shares of reads that may use replicas
//! and that run on one to be compared, in percent, and `shadow` what came of the latter. `nodes` has of each node:
//!
//! | field | is |
//! |---|---|
//! | `name` | its name: `host:port`, unless the configuration gives it another one |
//! | `role` | `primary` or `replica`: what it is, not what it was configured as |
//! | `health` | `unproven`, `healthy`, `lagging`, `unreachable`, `ejected`, `draining` or `refused` |
//! | `reason` | why its health is that, one line of text |
//! | `serves_reads`, `serves_writes` | whether reads go to it, other than for want of anybody else, and whether writes do |
//! | `spare` | whether it would serve reads, but is not of the subset that this process reads from |
//! | `lag_ms`, `lag_bytes` | how far it is behind, at most |
//! | `timeline` | the timeline that it is on: a promotion begins a new one |
//! | `version` | of PostgreSQL: `15.18` |
//! | `replay_paused` | whether its replay is paused |
//! | `receiver` | whether it receives log: `streaming` or `stopped` |
//! | `limitations` | what it does not do or tell, so that routing does without, each one line of text |
//! | `weight`, `zone` | its share of reads relative to the others, and where it is, as configured |
//! | `in_flight` | connections that are in use |
//! | `reads`, `writes` | connections given out so far; for writes, since it became the primary |
//! | `answered`, `failed` | calls that it answered so far, and calls and attempts to connect that it failed itself |
//!
//! What is unknown, or has no meaning for the node's role, is `null`: an unknown lag is not zero. What only the node can tell is as
//! it was when the node answered last.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use diesel_replicas::{NodeStatus, Status, WalBytes};
use serde::Serialize;
use serde_json::{Value, json};

use super::App;

#[derive(Serialize)]
pub struct Database {
    no_primary: Option<String>,
    rollout: Shares,
    shadow: Shadow,
    nodes: Vec<Node>,
}

#[derive(Serialize)]
struct Shares {
    percent: f64,
    shadow_percent: f64,
}

#[derive(Serialize)]
struct Shadow {
    equal: u64,
    different: u64,
    changed: u64,
    failed: u64,
    timed_out: u64,
    skipped: u64,
}

#[derive(Serialize)]
struct Node {
    name: String,
    role: String,
    health: String,
    reason: String,
    serves_reads: bool,
    serves_writes: bool,
    spare: bool,
    lag_ms: Option<u64>,
    lag_bytes: Option<u64>,
    timeline: Option<u32>,
    version: Option<String>,
    replay_paused: Option<bool>,
    receiver: Option<String>,
    limitations: Vec<String>,
    weight: u32,
    zone: Option<String>,
    in_flight: usize,
    reads: u64,
    writes: u64,
    answered: u64,
    failed: u64,
}

impl From<Status> for Database {
    fn from(status: Status) -> Self {
        let (rollout, shadow) = (status.rollout, status.shadow);
        Self {
            no_primary: status.no_primary,
            rollout: Shares { percent: rollout.percent, shadow_percent: rollout.shadow_percent },
            shadow: Shadow {
                equal: shadow.equal,
                different: shadow.different,
                changed: shadow.changed,
                failed: shadow.failed,
                timed_out: shadow.timed_out,
                skipped: shadow.skipped,
            },
            nodes: status.nodes.into_iter().map(Node::from).collect(),
        }
    }
}

impl From<NodeStatus> for Node {
    fn from(node: NodeStatus) -> Self {
        Self {
            name: node.name,
            role: node.role.to_string(),
            health: node.health.to_string(),
            reason: node.reason.to_string(),
            serves_reads: node.serves_reads,
            serves_writes: node.serves_writes,
            spare: node.spare,
            lag_ms: node.lag.and_then(|lag| lag.time()).map(whole_ms),
            lag_bytes: node.lag.and_then(|lag| lag.bytes()).map(WalBytes::get),
            timeline: node.timeline,
            version: node.version.map(version),
            replay_paused: node.replay_paused,
            receiver: node.receiver.map(|receiver| receiver.to_string()),
            limitations: node.limitations.iter().map(ToString::to_string).collect(),
            weight: node.weight,
            zone: node.zone,
            in_flight: node.in_flight,
            reads: node.reads,
            writes: node.writes,
            answered: node.answered,
            failed: node.failed,
        }
    }
}

/// Rounded up, for lag is an upper bound.
pub(super) fn whole_ms(lag: Duration) -> u64 {
    u64::try_from(lag.as_micros().div_ceil(1000)).unwrap_or(u64::MAX)
}

/// `15.18` for 150018.
fn version(number: u32) -> String {
    format!("{}.{}", number / 10_000, number % 10_000)
}

pub async fn database(State(app): State<App>) -> Json<Database> {
    Json(app.router.status().into())
}

/// Says that the process lives. A database that is away is no reason to restart it: `ready` tells whether it was there once.
pub async fn healthz(State(app): State<App>) -> Json<Value> {
    Json(json!({ "status": "ok", "ready": app.migrated.is_done() }))
}
