//! A node goes wrong under load: no read fails, and nothing is sent to it any more.

use crate::Stage;
use crate::steady::{Kind, Report};
use crate::support::{status, until, until_health};
use diesel_replicas::HealthState;
use pg_cluster::Node;
use std::time::Duration;
use tokio::time::Instant;

/// So many calls show that things go on; they take half a second.
const SOME: usize = 250;

const SECOND: Duration = Duration::from_secs(1);

/// More than any call takes that nothing holds up.
const HELD_UP: Duration = Duration::from_millis(500);

/// What the fault of a replica meant for it, counted from when the fault was there.
struct Loss {
    at: Instant,
    noticed: Duration,
    /// When work was sent to it for the last time.
    sent: Duration,
}

/// A replica goes wrong, and is left alone for a while.
async fn loses(stage: &Stage, lost: &Node, health: HealthState, fault: impl AsyncFnOnce(&Node)) -> Loss {
    fault(lost).await;
    let at = Instant::now();
    until_health(&stage.router, lost.name(), health).await;
    let noticed = at.elapsed();
    stage.load.until_ended(SOME * 2).await;
    assert_eq!(status(&stage.router, lost.name()).health, health);
    let sent = stage.load.last_sent_to(lost.name()).saturating_duration_since(at);
    println!(
        "{} is {health} after {noticed:.1?}; work was sent to it until {sent:.1?} after the fault",
        lost.name()
    );
    Loss { at, noticed, sent }
}

/// It is as it was before, and serves again.
async fn returns(stage: &Stage, lost: &Node, heal: impl AsyncFnOnce(&Node)) {
    heal(lost).await;
    let took = until_health(&stage.router, lost.name(), HealthState::Healthy).await;
    println!("{} is healthy {took:.1?} after it was healed", lost.name());
    stage.load.until_read_from(lost.name(), 20).await;
}

fn nothing_failed(report: &Report) {
    assert_eq!((report.failed(Kind::Read).len(), report.failed(Kind::Write).len()), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_is_killed() {
    let stage = Stage::set().await;
    let lost = stage.cluster.replica(0);
    let loss = loses(&stage, lost, HealthState::Unreachable, async |node| node.kill().await.unwrap()).await;
    assert!(loss.sent < SECOND / 10, "{:?}", loss.sent);
    returns(&stage, lost, async |node| node.start().await.unwrap()).await;
    let report = stage.end("a replica is killed").await;
    nothing_failed(&report);
    let most = report.calls(Kind::Read).map(|call| call.ended - call.due).max().unwrap();
    assert!(most < HELD_UP, "a read took {most:?}");
}

/// Those that hang on it, or wait for a connection to it, are served elsewhere when it has been found out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_freezes() {
    let stage = Stage::set().await;
    let lost = stage.cluster.replica(0);
    let loss = loses(&stage, lost, HealthState::Unreachable, async |node| node.freeze().await.unwrap()).await;
    assert!(loss.sent < SECOND, "{:?}", loss.sent);
    // A second by design; the rest is for a busy machine.
    assert!(loss.noticed < SECOND * 11 / 10, "{:?}", loss.noticed);
    returns(&stage, lost, async |node| node.thaw().await.unwrap()).await;
    let report = stage.end("a replica freezes").await;
    nothing_failed(&report);
    let late = report.calls(Kind::Read).filter(|call| call.due > loss.at + SECOND);
    let held_up: Vec<_> = late.filter(|call| call.ended - call.due > HELD_UP).collect();
    assert!(held_up.is_empty(), "{held_up:?}");
}

/// Its data are at most as old as the threshold when it leaves, plus the time from one probe to the next.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_stops_to_replay() {
    let probe = SECOND / 4;
    let stage = Stage::with(|builder| builder.lag_threshold(SECOND).probe_interval(probe)).await;
    let lost = stage.cluster.replica(0);
    let pause = async |node: &Node| node.pause_replay().await.unwrap();
    let loss = loses(&stage, lost, HealthState::Lagging, pause).await;
    assert!(loss.sent < SECOND + probe * 5 / 4, "{:?}", loss.sent);
    returns(&stage, lost, async |node| node.resume_replay().await.unwrap()).await;
    nothing_failed(&stage.end("a replica stops to replay").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_replica_is_killed_one_after_the_other() {
    let stage = Stage::set().await;
    for lost in stage.cluster.replicas() {
        lost.kill().await.unwrap();
        until_health(&stage.router, lost.name(), HealthState::Unreachable).await;
    }
    stage.load.until_read_from(stage.cluster.primary().name(), 20).await;
    for lost in stage.cluster.replicas() {
        returns(&stage, lost, async |node| node.start().await.unwrap()).await;
    }
    nothing_failed(&stage.end("every replica is killed, and all come back").await);
}

/// A replica is promoted, writes go on there, and in the end all others follow it and serve. Says when the first write was done.
async fn promotes(stage: &Stage, promoted: &Node) -> Instant {
    promoted.promote().await.unwrap();
    let at = Instant::now();
    let resumed = stage.load.first_write_after(at, promoted.name()).await;
    println!("the first write is done {:.1?} after the promotion", resumed - at);
    assert!(resumed - at < SECOND, "{:?}", resumed - at);
    stage.load.until_ended(SOME).await;
    resumed
}

async fn follow(stage: &Stage, promoted: &Node) {
    for node in stage.cluster.nodes().iter().filter(|node| node.name() != promoted.name()) {
        node.follow(promoted).await.unwrap();
        until_health(&stage.router, node.name(), HealthState::Healthy).await;
        stage.load.until_read_from(node.name(), 20).await;
    }
}

/// Writes may fail around a promotion, and none that begins after it goes to the deposed primary.
fn no_read_failed_and_no_write_went_astray(report: &Report, deposed: &str, resumed: Instant) {
    assert_eq!(report.failed(Kind::Read).len(), 0);
    let late = report.calls(Kind::Write).filter(|call| call.due > resumed);
    let astray: Vec<_> = late.filter(|call| call.result.as_deref() == Ok(deposed)).collect();
    assert!(astray.is_empty(), "{astray:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_is_promoted_while_the_primary_lives() {
    let stage = Stage::set().await;
    let (primary, promoted) = (stage.cluster.primary().clone(), stage.cluster.replica(0));
    let resumed = promotes(&stage, promoted).await;
    follow(&stage, promoted).await;
    let report = stage.end("a replica is promoted while the primary lives").await;
    no_read_failed_and_no_write_went_astray(&report, primary.name(), resumed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_is_promoted_after_the_primary_died() {
    let stage = Stage::set().await;
    let (primary, promoted) = (stage.cluster.primary().clone(), stage.cluster.replica(0));
    primary.kill().await.unwrap();
    until_health(&stage.router, primary.name(), HealthState::Unreachable).await;
    stage.load.until_ended(SOME).await;
    let resumed = promotes(&stage, promoted).await;
    follow(&stage, promoted).await;
    let report = stage.end("a replica is promoted after the primary died").await;
    no_read_failed_and_no_write_went_astray(&report, primary.name(), resumed);
}

/// It comes back to life while nobody has told it, writable as it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_is_promoted_while_the_primary_is_frozen() {
    let stage = Stage::set().await;
    let (primary, promoted) = (stage.cluster.primary().clone(), stage.cluster.replica(0));
    primary.freeze().await.unwrap();
    until_health(&stage.router, primary.name(), HealthState::Unreachable).await;
    let resumed = promotes(&stage, promoted).await;
    primary.thaw().await.unwrap();
    until_health(&stage.router, primary.name(), HealthState::Refused).await;
    until("it takes no writes", || !status(&stage.router, primary.name()).serves_writes).await;
    stage.load.until_ended(SOME).await;
    follow(&stage, promoted).await;
    let report = stage.end("a replica is promoted while the primary is frozen").await;
    no_read_failed_and_no_write_went_astray(&report, primary.name(), resumed);
}
