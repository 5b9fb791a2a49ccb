//! Replicas at the edge of what is fresh enough.

use super::{is_well, served};
use crate::support::{self, keep_writing, status, until, until_health};
use diesel_replicas::{HealthState, Receiver, Router};
use pg_cluster::Node;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Each state of the node's health, in their order.
struct Path(JoinSet<Vec<HealthState>>, tokio::sync::watch::Sender<bool>);

impl Path {
    fn of(router: &Router, node: &str) -> Self {
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let (router, node) = (router.clone(), node.to_owned());
        let mut watching = JoinSet::new();
        watching.spawn(async move {
            let mut path = vec![];
            loop {
                let is_last = *stopped.borrow();
                let now = status(&router, &node).health;
                if path.last() != Some(&now) {
                    path.push(now);
                }
                if is_last {
                    return path;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        Self(watching, stop)
    }

    async fn end(mut self) -> Vec<HealthState> {
        self.1.send_replace(true);
        self.0.join_next().await.unwrap().unwrap()
    }
}

/// Expected: a replica whose lag swings around the threshold leaves once, and stays out while its lag is not down to the recovery
/// threshold: it does not flap. It returns once, when its lag is low.
#[tokio::test]
async fn a_lag_swings_around_the_threshold() {
    let cluster = support::cluster(2).await;
    let threshold = Duration::from_millis(1500);
    let router = support::ready(support::builder(&cluster).lag_threshold(threshold)).await;
    let writing = keep_writing(&router);
    let lagging = cluster.replica(0);
    let path = Path::of(&router, lagging.name());
    let bound = || status(&router, lagging.name()).lag.and_then(|lag| lag.time()).unwrap_or_default();
    let (above, below) = (Duration::from_millis(1700), Duration::from_millis(1000));
    for _ in 0..2 {
        lagging.apply_delay(above).await.unwrap();
        until("it is above the threshold", || bound() > threshold).await;
        lagging.apply_delay(below).await.unwrap();
        until("it is below the threshold", || bound() < threshold).await;
        // Several probes long.
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(1) {
            assert_eq!(served(&router, 4).await.get(lagging.name()), None);
            assert!(bound() > threshold / 2, "it has recovered: {:?}", bound());
        }
    }
    lagging.apply_delay(Duration::ZERO).await.unwrap();
    until_health(&router, lagging.name(), HealthState::Healthy).await;
    use HealthState::{Healthy, Lagging};
    assert_eq!(path.end().await, [Healthy, Lagging, Healthy]);
    drop(writing);
    is_well(&router, &cluster, cluster.primary().name()).await;
}

/// Expected: the status says why a replica does not keep up, also while nothing is written and it lags by nothing.
#[tokio::test]
async fn the_status_says_why_a_replica_will_lag() {
    let cluster = support::cluster(2).await;
    let router = support::router(&cluster).await;
    let (paused, cut) = (cluster.replica(0), cluster.replica(1));
    let seen =
        |node: &Node| (status(&router, node.name()).replay_paused, status(&router, node.name()).receiver);
    let well = (Some(false), Some(Receiver::Streaming));
    assert_eq!((seen(paused), seen(cut)), (well, well));
    paused.pause_replay().await.unwrap();
    cut.cut_receiver().await.unwrap();
    until("it is told", || seen(paused).0 == Some(true) && seen(cut).1 == Some(Receiver::Stopped)).await;
    assert_eq!(served(&router, 12).await.len(), 2, "both have all there is");
    paused.resume_replay().await.unwrap();
    cut.reconnect_receiver().await.unwrap();
    until("it is told", || (seen(paused), seen(cut)) == (well, well)).await;
    is_well(&router, &cluster, cluster.primary().name()).await;
}
