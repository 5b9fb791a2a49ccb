//! The chat service under random faults: no user reads less than what the user wrote or has read before.
//!
//! See `docs/consistency.md` for what is checked. For ten minutes at full load:
//!
//! ```text
//! CONSISTENCY_SECONDS=600 cargo test --release --test consistency -- --nocapture
//! ```
//!
//! The service is the example of that name, which plain `cargo test` builds along with the tests. After a change to it,
//! `cargo test --test consistency` alone does not: run `cargo build --example chat` first.

#![allow(clippy::unwrap_used, unreachable_pub, reason = "a test that cannot go on says where by panicking")]

mod connection;
mod evidence;
mod faults;
mod history;
#[allow(dead_code, reason = "shared with the other tests of the service, which use more of it")]
#[path = "../chat/http.rs"]
mod http;
mod operation;
mod report;
mod schedule;
#[allow(dead_code, reason = "shared with the other tests of the service, which use more of it")]
#[path = "../chat/service.rs"]
mod service;
mod token;
mod user;
mod window;
mod world;

use faults::{Faults, Pace};
use history::Guarantee;
use operation::Asker;
use report::Report;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use token::Carrier;
use tokio::task::JoinSet;
use user::User;
use window::Window;
use world::World;

/// Of these, each fourth has no second window, and each eighth has nothing but cookies.
const USERS: usize = 16;

/// Without tokens it takes no long time to see what they are for.
const WITHOUT: Duration = Duration::from_secs(30);

/// Waits until `condition` holds, and fails with the name of what was waited for when it does not in time.
async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition().await {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[derive(Debug, Clone, Copy)]
struct Plan {
    seed: u64,
    length: Duration,
    tokens: bool,
    pace: Pace,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_keep_the_promises_that_replicas_break() {
    let setting = |name: &str| Some(std::env::var(name).ok()?.parse::<u64>().unwrap());
    let seed = setting("CONSISTENCY_SEED").unwrap_or_else(rand::random);
    let length = Duration::from_secs(setting("CONSISTENCY_SECONDS").unwrap_or(10));
    let every = |seconds: u64| length.min(Duration::from_secs(seconds));
    let pace = Pace { promotion: every(30) / 2, service: every(40) / 3 };

    let plan = Plan { seed, length, tokens: true, pace };
    let with = run(plan).await;
    let without = run(Plan { length: length.min(WITHOUT), tokens: false, ..plan }).await;

    for guarantee in [Guarantee::ReadYourWrites, Guarantee::MonotonicReads] {
        assert_eq!(with.violations(guarantee), 0, "{guarantee:?} with tokens, seed {seed}");
        assert_ne!(without.violations(guarantee), 0, "{guarantee:?} without tokens, seed {seed}");
    }
    assert_eq!(with.untold(), 0, "each acknowledged write has a token, seed {seed}");
    for report in [with, without] {
        assert!(report.by_replicas() > report.reads() / 10, "replicas served: {report}");
        assert!(report.failed_reads() < report.reads() / 5, "it went on: {report}");
    }
}

async fn run(plan: Plan) -> Report {
    let Plan { seed, length, tokens, pace } = plan;
    let world = Arc::new(World::start().await);
    let mut users = Vec::new();
    for number in 0..USERS {
        let word = format!("w{number:03}");
        let asker = Asker { id: world.create_user(&word).await, word };
        let carrier = match (tokens, number % 8) {
            (false, _) => Carrier::None,
            (true, 7) => Carrier::Cookie,
            (true, _) => Carrier::Header,
        };
        users.push(Arc::new(User::new(asker, carrier, world.era())));
    }

    let stop = Arc::new(AtomicBool::new(false));
    let mut windows = JoinSet::new();
    let two = users.iter().enumerate().filter(|(number, _)| number % 4 != 3);
    for (number, user) in users.iter().chain(two.map(|(_, user)| user)).enumerate() {
        let stop = Arc::clone(&stop);
        let window = Window::new(&world, user, number, seed);
        windows.spawn(window.run(move || stop.load(Ordering::Relaxed)));
    }
    let mut faults = Faults::of(&world, seed, pace);
    faults.go_on_for(length).await;
    stop.store(true, Ordering::Relaxed);
    let mut report = Report::default();
    while let Some(ended) = windows.join_next().await {
        report.merge(ended.unwrap());
    }

    let title = if tokens { "with tokens" } else { "without tokens" };
    println!("{title}, {length:?}, seed {seed}: {report}\n  faults {:?}", faults.counts());
    if tokens && !report.is_clean() {
        for (number, output) in world.outputs().await.iter().enumerate() {
            let path = format!("{}/consistency-{seed}-service-{number}.log", env!("CARGO_TARGET_TMPDIR"));
            std::fs::write(&path, output).unwrap();
            println!("  what service {number} said is in {path}");
        }
    }
    report
}
