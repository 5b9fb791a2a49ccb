//! Where reads go, as replicas fall behind, die and come back.

use crate::support::{self, PATIENCE, keep_writing, notes, status, until, until_async, until_health};
use diesel::prelude::*;
use diesel_replicas::{
    Candidates, Error, Fallback, HealthState, LoadBalancing, NodeConfig, Reason, Role, Router, RunQueryDsl,
    Strategy,
};
use pg_cluster::{Cluster, Node};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const LAG: Duration = Duration::from_millis(1000);
const PROBE: Duration = Duration::from_millis(250);

/// Reads that many times, one after the other, and counts who served.
async fn served_by(router: &Router, reads: usize) -> BTreeMap<String, usize> {
    let mut served = BTreeMap::new();
    for _ in 0..reads {
        let mut conn = router.read().await.unwrap();
        notes::table.count().get_result::<i64>(&mut conn).await.unwrap();
        *served.entry(conn.node().to_owned()).or_default() += 1;
    }
    served
}

/// How many connections the node has from routers, their monitors' included.
async fn connections(node: &Node) -> String {
    let sql = "SELECT count(*)::text FROM pg_stat_activity WHERE application_name LIKE 'diesel-replicas%'";
    node.sql(sql).await.unwrap().unwrap()
}

fn health(router: &Router, node: &Node) -> HealthState {
    status(router, node.name()).health
}

#[tokio::test]
async fn reads_take_turns_and_writes_go_to_the_primary() {
    let cluster = support::cluster(3).await;
    let router = support::router(&cluster).await;
    let served = served_by(&router, 300).await;
    assert_eq!(served.values().copied().collect::<Vec<_>>(), [100, 100, 100], "{served:?}");
    assert!(!served.contains_key(cluster.primary().name()));

    let mut conn = router.write().await.unwrap();
    assert_eq!(conn.node(), cluster.primary().name());
    diesel::insert_into(notes::table).values(notes::body.eq("second")).execute(&mut conn).await.unwrap();
    drop(conn);

    let primary = status(&router, cluster.primary().name());
    assert_eq!((primary.role, primary.reads, primary.writes), (Role::Primary, 0, 1));
    let replica = status(&router, cluster.replica(0).name());
    assert_eq!((replica.role, replica.reads, replica.writes), (Role::Replica, 100, 0));
}

#[tokio::test]
async fn weights_are_followed_and_weight_zero_is_never_picked() {
    let cluster = support::cluster(3).await;
    let replica = |i: usize, weight| {
        let node = cluster.replica(i);
        NodeConfig::new(node.url()).name(node.name()).weight(weight)
    };
    let builder = Router::builder().primary(cluster.primary().url()).load_balancing(LoadBalancing::Weighted);
    let builder = builder.replica(replica(0, 3)).replica(replica(1, 1)).replica(replica(2, 0));
    let router = support::ready(builder).await;
    let served = served_by(&router, 400).await;
    let share = |i: usize| served.get(cluster.replica(i).name()).copied().unwrap_or(0);
    assert!((298..=302).contains(&share(0)) && share(2) == 0, "{served:?}");

    cluster.replica(0).kill().await.unwrap();
    cluster.replica(1).kill().await.unwrap();
    until("the weighted ones are out", || {
        [0, 1].iter().all(|i| health(&router, cluster.replica(*i)) == HealthState::Unreachable)
    })
    .await;
    let served = served_by(&router, 10).await;
    assert_eq!(served.len(), 1, "{served:?}");
    assert!(!served.contains_key(cluster.replica(2).name()), "not as a last resort either");
}

#[tokio::test]
async fn a_strategy_of_ones_own_decides() {
    #[derive(Debug)]
    struct Last;

    impl Strategy for Last {
        fn pick(&self, candidates: &Candidates, _: &mut dyn diesel_replicas::rand::Rng) -> usize {
            candidates.len() - 1
        }
    }

    let cluster = support::cluster(2).await;
    let router = support::ready(support::builder(&cluster).strategy(Last)).await;
    assert_eq!(served_by(&router, 5).await, BTreeMap::from([(cluster.replica(1).name().to_owned(), 5)]));
}

/// The replica is told to lag by `fall_behind`: it leaves in time, serves nothing, and is back after `recover`.
async fn lags_and_returns(
    cluster: &Cluster,
    fall_behind: impl AsyncFnOnce(&Node),
    recover: impl AsyncFnOnce(&Node),
) {
    let builder = support::builder(cluster).lag_threshold(LAG).probe_interval(PROBE);
    let router = support::ready(builder.slow_start(Duration::ZERO)).await;
    let writing = keep_writing(&router);
    let (lagging, other) = (cluster.replica(0), cluster.replica(1));
    until("writes arrive", || status(&router, cluster.primary().name()).writes > 2).await;

    fall_behind(lagging).await;
    let took = until_health(&router, lagging.name(), HealthState::Lagging).await;
    // The threshold, one probe interval with its jitter, and what a busy machine takes to run a task.
    assert!(took < LAG + PROBE * 2, "it left after {took:?}");
    let left = status(&router, lagging.name());
    assert!(
        matches!(left.reason, Reason::Behind { lag, threshold, .. } if lag > LAG && threshold == LAG),
        "{left:?}"
    );
    let lag = left.lag.unwrap();
    assert!(lag.time().unwrap() > LAG && lag.bytes().unwrap().get() > 0, "{lag}");
    let served = served_by(&router, 50).await;
    assert_eq!(served, BTreeMap::from([(other.name().to_owned(), 50)]));
    assert_eq!(status(&router, other.name()).health, HealthState::Healthy);

    recover(lagging).await;
    until_health(&router, lagging.name(), HealthState::Healthy).await;
    assert!(status(&router, lagging.name()).lag.unwrap().time().unwrap() <= LAG / 2);
    assert_eq!(served_by(&router, 50).await.get(lagging.name()), Some(&25));
    drop(writing);
}

#[tokio::test]
async fn a_paused_replica_lags_and_returns() {
    let cluster = support::cluster(2).await;
    let pause = async |node: &Node| node.pause_replay().await.unwrap();
    lags_and_returns(&cluster, pause, async |node: &Node| node.resume_replay().await.unwrap()).await;
}

#[tokio::test]
async fn a_replica_that_is_cut_off_lags_and_returns() {
    let cluster = support::cluster(2).await;
    let cut = async |node: &Node| node.cut_receiver().await.unwrap();
    lags_and_returns(&cluster, cut, async |node: &Node| node.reconnect_receiver().await.unwrap()).await;
}

#[tokio::test]
async fn a_replica_that_applies_late_lags_and_returns() {
    let cluster = support::cluster(2).await;
    let delay = async |node: &Node| node.apply_delay(LAG * 4).await.unwrap();
    lags_and_returns(&cluster, delay, async |node: &Node| node.apply_delay(Duration::ZERO).await.unwrap())
        .await;
}

#[tokio::test]
async fn an_idle_primary_makes_nobody_lag() {
    let cluster = support::cluster(2).await;
    let threshold = Duration::from_millis(200);
    let router = support::ready(support::builder(&cluster).lag_threshold(threshold)).await;
    let started = Instant::now();
    while started.elapsed() < threshold * 10 {
        for replica in cluster.replicas() {
            let seen = status(&router, replica.name());
            assert_eq!(seen.health, HealthState::Healthy, "{seen:?}");
            assert!(seen.lag.unwrap().time().unwrap() < threshold, "{seen:?}");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_replica_that_is_behind_from_the_start_is_not_served() {
    let cluster = support::cluster(1).await;
    let replica = cluster.replica(0);
    replica.pause_replay().await.unwrap();
    cluster.primary().sql("INSERT INTO notes (body) VALUES ('unseen')").await.unwrap();
    let router = support::builder(&cluster).build().await.unwrap();
    until("it has been probed", || status(&router, replica.name()).lag.is_some()).await;
    let seen = status(&router, replica.name());
    assert_eq!(seen.health, HealthState::Unproven, "{seen:?}");
    assert_eq!(seen.lag.unwrap().time(), None, "unknown is not zero");
    assert_eq!(served_by(&router, 5).await, BTreeMap::from([(cluster.primary().name().to_owned(), 5)]));

    replica.resume_replay().await.unwrap();
    until_health(&router, replica.name(), HealthState::Healthy).await;
    assert_eq!(served_by(&router, 5).await, BTreeMap::from([(replica.name().to_owned(), 5)]));
}

#[tokio::test]
async fn a_killed_replica_leaves_and_returns_by_itself() {
    let cluster = support::cluster(2).await;
    let router = support::ready(support::builder(&cluster).slow_start(Duration::ZERO)).await;
    let killed = cluster.replica(0);
    killed.kill().await.unwrap();
    until_health(&router, killed.name(), HealthState::Unreachable).await;
    assert_eq!(served_by(&router, 10).await, BTreeMap::from([(cluster.replica(1).name().to_owned(), 10)]));
    killed.start().await.unwrap();
    until_health(&router, killed.name(), HealthState::Healthy).await;
    assert_eq!(served_by(&router, 10).await.get(killed.name()), Some(&5));
}

#[tokio::test]
async fn a_replica_that_is_back_gets_a_growing_share() {
    let cluster = support::cluster(2).await;
    let ramp = Duration::from_secs(4);
    let router = support::ready(support::builder(&cluster).slow_start(ramp)).await;
    let started = Instant::now();
    until("the other replica has its whole share", || started.elapsed() > ramp).await;
    let back = cluster.replica(0);
    back.kill().await.unwrap();
    until_health(&router, back.name(), HealthState::Unreachable).await;
    back.start().await.unwrap();
    until_health(&router, back.name(), HealthState::Healthy).await;
    let share = async || served_by(&router, 100).await.get(back.name()).copied().unwrap_or(0);
    let returned = Instant::now();
    let first = share().await;
    // On a machine that is so busy that the ramp is half over by now, nothing can be said of its beginning.
    assert!(first < 40 || returned.elapsed() > ramp / 2, "{first} of the first 100");
    until_async("it has its whole share", async || share().await == 50).await;
    assert!(returned.elapsed() > ramp / 2, "not before its time");
}

#[tokio::test]
async fn a_frozen_replica_leaves_and_returns_by_itself() {
    let cluster = support::cluster(2).await;
    let router = support::router(&cluster).await;
    let frozen = cluster.replica(0);
    frozen.freeze().await.unwrap();
    until_health(&router, frozen.name(), HealthState::Unreachable).await;
    assert!(matches!(status(&router, frozen.name()).reason, Reason::TimedOut { probes: 2, .. }));
    assert_eq!(served_by(&router, 10).await, BTreeMap::from([(cluster.replica(1).name().to_owned(), 10)]));
    frozen.thaw().await.unwrap();
    until_health(&router, frozen.name(), HealthState::Healthy).await;
}

/// Its connections hang with the queries on them; who waits for one of them is not bound to the node.
#[tokio::test]
async fn those_that_wait_for_a_frozen_replica_are_served_elsewhere() {
    let cluster = support::cluster(2).await;
    let router = support::ready(support::builder(&cluster).pool_size(2)).await;
    let (frozen, other) = (cluster.replica(0), cluster.replica(1));
    let mut held = Vec::new();
    while held.len() < 2 {
        let conn = router.read().await.unwrap();
        if conn.node() == frozen.name() {
            held.push(conn);
        }
    }
    frozen.freeze().await.unwrap();
    let started = Instant::now();
    let waiting = futures_util::future::join_all((0..8).map(|_| served_by(&router, 1))).await;
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    for served in waiting {
        assert_eq!(served, BTreeMap::from([(other.name().to_owned(), 1)]));
    }
    frozen.thaw().await.unwrap();
}

/// A dead primary, and one that merely does not answer, say nothing against replicas that have all there is.
#[tokio::test]
async fn replicas_go_on_while_the_primary_is_gone() {
    let cluster = support::cluster(2).await;
    let router = support::ready(support::builder(&cluster).lag_threshold(Duration::from_millis(400))).await;
    let primary = cluster.primary();
    for frozen in [true, false] {
        if frozen {
            primary.freeze().await.unwrap()
        } else {
            primary.kill().await.unwrap()
        }
        until_health(&router, primary.name(), HealthState::Unreachable).await;
        until("lag can no longer be verified", || {
            cluster.replicas().iter().all(|node| status(&router, node.name()).reason == Reason::LagUnverified)
        })
        .await;
        let served = served_by(&router, 20).await;
        assert_eq!(served.values().copied().collect::<Vec<_>>(), [10, 10], "{served:?}");
        if frozen {
            primary.thaw().await.unwrap()
        } else {
            primary.start().await.unwrap()
        }
        until("every node is healthy again", || {
            router
                .status()
                .nodes
                .iter()
                .all(|node| node.health == HealthState::Healthy && node.reason != Reason::LagUnverified)
        })
        .await;
    }
}

#[tokio::test]
async fn without_an_eligible_replica_the_fallback_policy_decides() {
    let cluster = support::cluster(1).await;
    let to_primary = support::router(&cluster).await;
    let fail = support::ready(support::builder(&cluster).fallback(Fallback::Fail)).await;
    let replica = cluster.replica(0);
    replica.kill().await.unwrap();
    for router in [&to_primary, &fail] {
        until_health(router, replica.name(), HealthState::Unreachable).await;
    }
    let primary = cluster.primary().name();
    assert_eq!(served_by(&to_primary, 5).await, BTreeMap::from([(primary.to_owned(), 5)]));
    let error = fail.read().await.unwrap_err();
    assert!(matches!(error, Error::NoEligibleNode { .. }), "{error:?}");
    for part in [replica.name(), "unreachable", "refused"] {
        assert!(error.to_string().contains(part), "`{part}` is missing in: {error}");
    }
    fail.write().await.unwrap();
}

#[tokio::test]
async fn with_the_flag_off_replicas_are_left_alone() {
    let cluster = support::cluster(2).await;
    let router = support::ready(support::builder(&cluster).read_replicas_enabled(false)).await;
    assert_eq!(served_by(&router, 20).await, BTreeMap::from([(cluster.primary().name().to_owned(), 20)]));
    assert_eq!(router.status().nodes.len(), 1);
    for replica in cluster.replicas() {
        assert_eq!(connections(replica).await, "0");
    }
    // With no replica there is nothing to fall back from.
    let router =
        support::ready(Router::builder().primary(cluster.primary().url()).fallback(Fallback::Fail)).await;
    router.read().await.unwrap();
}

#[tokio::test]
async fn a_router_starts_without_any_node() {
    let cluster = support::cluster(1).await;
    for node in cluster.nodes() {
        node.stop_immediate().await.unwrap();
    }
    let started = Instant::now();
    let router = support::builder(&cluster).build().await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(1));
    router.read().await.unwrap_err();
    for node in cluster.nodes() {
        node.start().await.unwrap();
        until_health(&router, node.name(), HealthState::Healthy).await;
    }
    assert_eq!(served_by(&router, 5).await, BTreeMap::from([(cluster.replica(0).name().to_owned(), 5)]));
}

#[tokio::test]
async fn the_monitor_ends_with_the_router() {
    let cluster = support::cluster(1).await;
    let router = support::router(&cluster).await;
    assert_eq!(connections(cluster.replica(0)).await, "1");
    let clone = router.clone();
    drop(router);
    assert_eq!(health(&clone, cluster.replica(0)), HealthState::Healthy);
    served_by(&clone, 1).await;
    drop(clone);
    until_async("no connection is left", async || connections(cluster.replica(0)).await == "0").await;

    let router = support::ready(support::builder(&cluster).pool_size(1)).await;
    let mut held = router.read().await.unwrap();
    let waiting = tokio::spawn({
        let router = router.clone();
        async move { router.read().await.map(drop) }
    });
    tokio::time::timeout(PATIENCE, router.shutdown()).await.unwrap();
    assert!(matches!(waiting.await.unwrap(), Err(Error::ShutDown)));
    assert!(matches!(router.write().await, Err(Error::ShutDown)));
    assert_eq!(notes::table.count().get_result::<i64>(&mut held).await.unwrap(), 1);
    let monitors =
        "SELECT count(*)::text FROM pg_stat_activity WHERE application_name = 'diesel-replicas monitor'";
    until_async("the monitor's connection is closed", async || {
        cluster.replica(0).sql(monitors).await.unwrap().as_deref() == Some("0")
    })
    .await;
    router.shutdown().await;
}
