//! What there is to see of a violation right after it.

use crate::connection::{Connection, Failure};
use crate::service::name_of;
use crate::world::World;
use hyper::Method;
use pg_cluster::Node;
use serde_json::Value;
use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::timeout;

/// A frozen node does not answer.
const LIMIT: Duration = Duration::from_secs(1);

/// How far each node is, and what each service makes of it.
pub async fn gather(world: &World) -> String {
    let mut text = format!("\n      at {:.3?}", world.now());
    for node in world.cluster.nodes() {
        let of = timeout(LIMIT, of_node(node)).await.unwrap_or_else(|_| "no answer".to_owned());
        // Writing to a string does not fail.
        let _ = write!(text, "\n      {} {} {of}", node.name(), name_of(node));
    }
    for service in world.services() {
        let of = match timeout(LIMIT, of_service(service)).await {
            Ok(Ok(of)) => of,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer".to_owned(),
        };
        let _ = write!(text, "\n      service {service}{of}");
    }
    text
}

async fn of_node(node: &Node) -> String {
    let position = match node.position().await {
        Ok(position) => position,
        Err(error) => return error.to_string(),
    };
    let role = if position.in_recovery { "standby" } else { "primary" };
    let newest = node.sql("SELECT max(id)::text FROM messages").await.ok().flatten();
    let newest = newest.unwrap_or_else(|| "unknown".to_owned());
    format!("{role}, timeline {}, at {}, newest message {newest}", position.timeline, position.lsn)
}

async fn of_service(service: SocketAddr) -> Result<String, Failure> {
    let answer = Connection::open(service).await?.send(Method::GET, "/api/status", None, None).await?;
    let status = answer.json();
    let mut text = String::new();
    for node in status["nodes"].as_array().into_iter().flatten() {
        let field = |name: &str| match &node[name] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let [name, role, health, timeline, reason] =
            ["name", "role", "health", "timeline", "reason"].map(field);
        let _ = write!(text, "\n        {name} {role}, {health}, timeline {timeline}: {reason}");
    }
    Ok(text)
}
