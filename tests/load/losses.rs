//! A node goes wrong under load: no read fails, and nothing is sent to it any more.

use crate::Stage;
use crate::steady::Kind;
use crate::support::{status, until, until_health};
use diesel_replicas::{HealthState, Role};
use pg_cluster::Node;
use std::time::Duration;
use tokio::time::Instant;

/// So many calls show that things go on; they take half a second.
const SOME: usize = 250;

/// A replica goes wrong: says how long after the fault the last work was sent to it, once nothing is sent any more.
async fn loses(stage: &Stage, lost: &Node, health: HealthState, fault: impl AsyncFnOnce(&Node)) -> Duration {
    fault(lost).await;
    let at = Instant::now();
    let noticed = until_health(&stage.router, lost.name(), health).await;
    stage.load.until_ended(SOME * 2).await;
    assert_eq!(status(&stage.router, lost.name()).health, health);
    let last = stage.load.last_sent_to(lost.name()).saturating_duration_since(at);
    println!(
        "{} is {health} after {noticed:.1?}; the last work was sent to it after {last:.1?}",
        lost.name()
    );
    last
}

/// It is as it was before, and serves again.
async fn returns(stage: &Stage, lost: &Node, heal: impl AsyncFnOnce(&Node)) {
    heal(lost).await;
    let took = until_health(&stage.router, lost.name(), HealthState::Healthy).await;
    println!("{} is healthy again after {took:.1?}", lost.name());
    stage.load.until_read_from(lost.name(), 20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_is_killed() {
    let stage = Stage::set().await;
    let lost = stage.cluster.replica(0);
    let last = loses(&stage, lost, HealthState::Unreachable, async |node| node.kill().await.unwrap()).await;
    assert!(last < Duration::from_millis(100), "{last:?}");
    returns(&stage, lost, async |node| node.start().await.unwrap()).await;
    let report = stage.end("a replica is killed").await;
    assert_eq!((report.failed(Kind::Read).len(), report.failed(Kind::Write).len()), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_freezes() {
    let stage = Stage::set().await;
    let lost = stage.cluster.replica(0);
    let last = loses(&stage, lost, HealthState::Unreachable, async |node| node.freeze().await.unwrap()).await;
    assert!(last < Duration::from_secs(1), "{last:?}");
    returns(&stage, lost, async |node| node.thaw().await.unwrap()).await;
    let report = stage.end("a replica freezes").await;
    assert_eq!((report.failed(Kind::Read).len(), report.failed(Kind::Write).len()), (0, 0));
}

/// Its data are at most as old as the threshold when it leaves, plus the time from one probe to the next.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_stops_to_replay() {
    let (threshold, probe) = (Duration::from_millis(1000), Duration::from_millis(250));
    let stage = Stage::with(|builder| builder.lag_threshold(threshold).probe_interval(probe)).await;
    let lost = stage.cluster.replica(0);
    let pause = async |node: &Node| node.pause_replay().await.unwrap();
    let last = loses(&stage, lost, HealthState::Lagging, pause).await;
    assert!(last < threshold + probe * 5 / 4, "{last:?}");
    returns(&stage, lost, async |node| node.resume_replay().await.unwrap()).await;
    let report = stage.end("a replica stops to replay").await;
    assert_eq!((report.failed(Kind::Read).len(), report.failed(Kind::Write).len()), (0, 0));
}

/// What happens around a promotion, from the moment that it is done.
async fn promotes(stage: &Stage, promoted: &Node) {
    promoted.promote().await.unwrap();
    let at = Instant::now();
    let resumed = stage.load.first_write_after(at, promoted.name()).await - at;
    println!("writes resume {resumed:.1?} after the promotion");
    assert!(resumed < Duration::from_secs(1), "{resumed:?}");
    until("it is the primary", || status(&stage.router, promoted.name()).role == Role::Primary).await;
    stage.load.until_ended(SOME).await;
}

/// All others are told to follow, and serve.
async fn follow(stage: &Stage, promoted: &Node) {
    for node in stage.cluster.nodes().iter().filter(|node| node.name() != promoted.name()) {
        node.follow(promoted).await.unwrap();
        until_health(&stage.router, node.name(), HealthState::Healthy).await;
        stage.load.until_read_from(node.name(), 20).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_is_promoted_while_the_primary_lives() {
    let stage = Stage::set().await;
    let promoted = stage.cluster.replica(0);
    promotes(&stage, promoted).await;
    follow(&stage, promoted).await;
    let report = stage.end("a replica is promoted while the primary lives").await;
    assert_eq!(report.failed(Kind::Read).len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_is_promoted_after_the_primary_died() {
    let stage = Stage::set().await;
    let (primary, promoted) = (stage.cluster.primary(), stage.cluster.replica(0));
    primary.kill().await.unwrap();
    until_health(&stage.router, primary.name(), HealthState::Unreachable).await;
    stage.load.until_ended(SOME).await;
    promotes(&stage, promoted).await;
    follow(&stage, promoted).await;
    let report = stage.end("a replica is promoted after the primary died").await;
    assert_eq!(report.failed(Kind::Read).len(), 0);
}

/// Writes that hang on it end when the monitor finds that it does not answer, and none is acknowledged by it afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_is_promoted_while_the_primary_is_frozen() {
    let stage = Stage::set().await;
    let (primary, promoted) = (stage.cluster.primary(), stage.cluster.replica(0));
    primary.freeze().await.unwrap();
    until_health(&stage.router, primary.name(), HealthState::Unreachable).await;
    promotes(&stage, promoted).await;
    primary.thaw().await.unwrap();
    let thawed = Instant::now();
    until_health(&stage.router, primary.name(), HealthState::Refused).await;
    follow(&stage, promoted).await;
    let deposed = primary.name().to_owned();
    let report = stage.end("a replica is promoted while the primary is frozen").await;
    assert_eq!(report.failed(Kind::Read).len(), 0);
    let late = report.calls(Kind::Write).filter(|call| call.ended > thawed);
    let late: Vec<_> = late.filter(|call| call.result.as_ref() == Ok(&deposed)).collect();
    assert!(late.is_empty(), "acknowledged by the deposed primary: {late:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_replica_is_lost_one_after_the_other() {
    let stage = Stage::set().await;
    for lost in stage.cluster.replicas() {
        lost.kill().await.unwrap();
        until_health(&stage.router, lost.name(), HealthState::Unreachable).await;
    }
    stage.load.until_read_from(stage.cluster.primary().name(), 20).await;
    for lost in stage.cluster.replicas() {
        returns(&stage, lost, async |node| node.start().await.unwrap()).await;
    }
    let report = stage.end("every replica is lost, and all come back").await;
    assert_eq!((report.failed(Kind::Read).len(), report.failed(Kind::Write).len()), (0, 0));
}
