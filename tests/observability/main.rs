//! What `docs/` has for Prometheus and Grafana, held against the programs themselves, and against a service that is measured.

#![allow(unreachable_pub, reason = "a program has no outside")]

mod alerts;
mod dashboard;
#[expect(dead_code, reason = "the chat's tests use all of it")]
#[path = "../chat/http.rs"]
mod http;
mod programs;
mod prometheus;
mod rules;
#[expect(dead_code, reason = "the chat's tests use all of it")]
#[path = "../chat/service.rs"]
mod service;
mod stage;

use std::time::{Duration, Instant};

/// Waits until `condition` holds, and fails with the name of what was waited for when it does not in time.
async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(40);
    while !condition().await {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
