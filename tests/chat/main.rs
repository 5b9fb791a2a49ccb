//! The chat service, run as its users run it: a process of its own, on real clusters, over HTTP and in a browser.
//!
//! The service is the example of that name, which plain `cargo test` builds along with the tests. After a change to it,
//! `cargo test --test chat` alone does not: run `cargo build --example chat` first.

#![allow(unreachable_pub, reason = "a program has no outside")]

mod api;
mod browser;
mod charts;
mod faults;
mod freshness;
mod history;
mod http;
mod metrics;
mod page;
mod process;
#[path = "../../examples/chat/history/ring.rs"]
mod ring;
mod routing;
mod service;
mod settings;
mod windows;

use std::time::{Duration, Instant};

/// Waits until `condition` holds, and fails with the name of what was waited for when it does not in time.
async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition().await {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
