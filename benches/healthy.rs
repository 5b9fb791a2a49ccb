//! Routers that are ready.

use diesel_replicas::{HealthState, Router};
use std::time::Duration;

/// Waits until all nodes are healthy.
pub(crate) async fn healthy(router: &Router) {
    while router.status().nodes.iter().any(|node| node.health != HealthState::Healthy) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
