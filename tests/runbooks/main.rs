//! The runbooks of `docs/runbooks`, each run by bash, command by command, on a real cluster under the chat service, with traffic.
//!
//! What holds for all of them is checked here: each has a test; each block of commands is run, in order, ends well and prints what it
//! is said to print; the service logs what it is said to log; no read fails meanwhile, and what was acknowledged is there afterwards.
//!
//! The service is the example of that name: after a change to it, run `cargo build --example chat` first.

#![allow(clippy::unwrap_used, unreachable_pub, reason = "a test that cannot go on says where by panicking")]

#[expect(dead_code, reason = "these tests need less of it")]
#[path = "../chat/http.rs"]
mod http;
mod primaries;
mod replicas;
mod rollout;
mod runbook;
mod scene;
#[expect(dead_code, reason = "these tests need less of it")]
#[path = "../chat/service.rs"]
mod service;
mod shell;
mod stage;
mod traffic;
mod upgrade;

use std::time::{Duration, Instant};

/// A test for each runbook.
macro_rules! runbooks {
    ($($name:ident: $file:literal => $play:path,)*) => {
        const TESTED: &[&str] = &[$($file),*];
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                scene::perform($file, $play).await;
            }
        )*
    };
}

runbooks! {
    a_replica_is_added: "add-a-replica" => replicas::added,
    a_replica_is_removed: "remove-a-replica" => replicas::removed,
    a_replica_lags: "lag" => replicas::lags,
    a_replica_is_down: "replica-down" => replicas::down,
    a_replica_is_promoted: "promote-a-replica" => primaries::switched_over,
    the_primary_is_dead: "dead-primary" => primaries::dead,
    two_primaries_are_writable: "split-brain" => primaries::split,
    replicas_are_rolled_out_and_back: "rollout-and-rollback" => rollout::out_and_back,
    a_major_version_is_upgraded: "major-upgrade" => upgrade::upgraded,
}

#[test]
fn each_runbook_has_a_test_and_is_in_the_index() {
    let mut tested = TESTED.to_vec();
    tested.sort_unstable();
    assert_eq!(runbook::names(), tested);
    let index = std::fs::read_to_string(runbook::path("README")).unwrap();
    for name in tested {
        assert!(index.contains(&format!("]({name}.md)")), "{name} is not in the index");
    }
}

/// Waits until `condition` holds, and fails with the name of what was waited for when it does not in time.
async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition().await {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
