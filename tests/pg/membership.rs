//! Nodes that come and go, and nodes that are not what they are listed as.

use crate::support::{self, notes, ready, status, until, until_health};
use diesel::prelude::*;
use diesel_replicas::{
    Error, Fallback, HealthState, LoadBalancing, NodeConfig, Reason, Role, Router, RouterBuilder, RunQueryDsl,
};
use pg_cluster::Node;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::timeout;

const SECOND: Duration = Duration::from_secs(1);

fn node(node: &Node) -> NodeConfig {
    NodeConfig::new(node.url()).name(node.name())
}

/// How many of so many reads each node serves.
async fn shares(router: &Router, reads: usize) -> BTreeMap<String, usize> {
    let mut shares = BTreeMap::new();
    for _ in 0..reads {
        let served_by = router.with_read(async |conn| QueryResult::Ok(conn.node().to_owned())).await.unwrap();
        *shares.entry(served_by).or_default() += 1;
    }
    shares
}

/// Reads from many tasks until it is stopped; then says how many reads there were. Each of them has to succeed.
struct Reading {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<usize>,
}

impl Reading {
    fn start(router: &Router) -> Self {
        Self::with(router, false)
    }

    /// On write handles, or on read handles.
    fn with(router: &Router, writes: bool) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for _ in 0..8 {
            let (router, stop) = (router.clone(), Arc::clone(&stop));
            tasks.spawn(async move {
                let mut reads = 0;
                while !AtomicBool::load(&stop, Ordering::Relaxed) {
                    let count = notes::table.count();
                    let count: i64 = if writes {
                        count.get_result(&mut router.write().await.unwrap()).await.unwrap()
                    } else {
                        count.get_result(&mut router.read().await.unwrap()).await.unwrap()
                    };
                    assert_eq!(count, 1);
                    reads += 1;
                }
                reads
            });
        }
        Self { stop, tasks }
    }

    async fn end(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.tasks.join_all().await.into_iter().sum()
    }
}

#[tokio::test]
async fn replicas_come_and_go_while_reads_go_on() {
    let cluster = support::cluster(3).await;
    let [first, second, third] = [0, 1, 2].map(|i| cluster.replica(i));
    let builder = Router::builder().primary(node(cluster.primary())).replica(node(first));
    let router = ready(builder.pool_size(3)).await;
    let reading = Reading::start(&router);

    for added in [second, third] {
        router.add_replica(node(added)).await.unwrap();
        until_health(&router, added.name(), HealthState::Healthy).await;
        until("it serves", || status(&router, added.name()).reads > 0).await;
    }
    let there = router.add_replica(node(second)).await.unwrap_err();
    assert!(matches!(&there, Error::NodeExists { node, .. } if node == second.name()), "{there:?}");
    let wrong = router.add_replica("postgres://app:hunter2@/chat").await.unwrap_err();
    assert!(wrong.is_config() && !wrong.to_string().contains("hunter2"), "{wrong}");

    assert_eq!(router.remove_replica(first.name()).await.unwrap(), 0);
    assert!(router.status().nodes.iter().all(|node| node.name != first.name()));
    support::until_quiet(first).await;
    let unknown = router.remove_replica(first.name()).await.unwrap_err();
    assert!(matches!(unknown, Error::UnknownNode { .. }), "{unknown:?}");
    let primary = router.remove_replica(cluster.primary().name()).await.unwrap_err();
    assert!(matches!(primary, Error::IsPrimary { .. }), "{primary:?}");

    // The same server under its old name again.
    router.add_replica(node(first)).await.unwrap();
    until_health(&router, first.name(), HealthState::Healthy).await;
    assert!(reading.end().await > 0);
}

#[tokio::test]
async fn a_removed_replica_waits_for_its_handles_and_then_cuts_them() {
    let cluster = support::cluster(1).await;
    let replica = cluster.replica(0);
    let router = ready(support::builder(&cluster).drain_timeout(SECOND / 2)).await;
    let mut held = router.read().await.unwrap();
    assert_eq!(held.node(), replica.name());
    let removing = tokio::spawn({
        let (router, name) = (router.clone(), replica.name().to_owned());
        async move { router.remove_replica(&name).await }
    });
    until_health(&router, replica.name(), HealthState::Draining).await;
    assert_eq!(router.read().await.unwrap().node(), cluster.primary().name());
    assert_eq!(notes::table.count().get_result::<i64>(&mut held).await.unwrap(), 1, "it can still be used");
    assert_eq!(removing.await.unwrap().unwrap(), 1);
    notes::table.count().get_result::<i64>(&mut held).await.unwrap_err();
    drop(held);
    let gone = "SELECT count(*)::text FROM pg_stat_activity WHERE application_name LIKE 'diesel-replicas%'";
    support::until_async("every connection is closed", async || {
        replica.sql(gone).await.unwrap().as_deref() == Some("0")
    })
    .await;
}

#[tokio::test]
async fn a_weight_of_0_takes_a_node_out_at_once() {
    let cluster = support::cluster(2).await;
    let router = ready(support::builder(&cluster).load_balancing(LoadBalancing::Weighted)).await;
    let [first, second] = [0, 1].map(|i| cluster.replica(i).name());
    router.set_weight(first, 0).await.unwrap();
    assert_eq!(shares(&router, 20).await, BTreeMap::from([(second.to_owned(), 20)]));
    assert!(!status(&router, first).serves_reads);
    router.set_weight(first, 3).await.unwrap();
    let shares = shares(&router, 400).await;
    assert!((280..=320).contains(&shares[first]), "{shares:?}");
    let unknown = router.set_weight("nobody", 1).await.unwrap_err();
    assert!(matches!(unknown, Error::UnknownNode { .. }), "{unknown:?}");
}

#[tokio::test]
async fn another_configuration_takes_over_in_one_step() {
    let cluster = support::cluster(3).await;
    let [first, second, third] = [0, 1, 2].map(|i| cluster.replica(i));
    let with = |replicas: &[&Node]| {
        let builder = Router::builder().primary(node(cluster.primary()));
        replicas.iter().fold(builder, |builder, replica| builder.replica(node(replica)))
    };
    let router = ready(with(&[first, second])).await;
    let reading = Reading::start(&router);
    let writing = Reading::with(&router, true);

    router.reload(with(&[second, third]).config().unwrap()).await.unwrap();
    let names = || router.status().nodes.into_iter().map(|node| node.name).collect::<Vec<_>>();
    until("the old replica is gone", || names() == ["primary", second.name(), third.name()]).await;
    until_health(&router, third.name(), HealthState::Healthy).await;

    // Other pools for the same nodes.
    router.reload(with(&[second, third]).pool_size(2).config().unwrap()).await.unwrap();
    let held = [router.read().await.unwrap(), router.read().await.unwrap()];
    assert!(held.iter().all(|conn| conn.node() != cluster.primary().name()));
    drop(held);

    // Off, and on again.
    router.reload(with(&[second]).read_replicas_enabled(false).config().unwrap()).await.unwrap();
    until("the primary is alone", || names() == ["primary"]).await;
    router.reload(with(&[second]).config().unwrap()).await.unwrap();
    until_health(&router, second.name(), HealthState::Healthy).await;
    assert!(reading.end().await > 0);
    assert!(writing.end().await > 0);
}

#[tokio::test]
async fn a_router_prefers_its_own_zone_while_enough_replicas_are_there() {
    let cluster = support::cluster(3).await;
    let zoned = |i: usize, zone: &str| node(cluster.replica(i)).zone(zone);
    let builder = Router::builder().primary(node(cluster.primary()));
    let builder = builder.replica(zoned(0, "a")).replica(zoned(1, "a")).replica(zoned(2, "b"));
    let router = ready(builder.zone("a").min_zone_replicas(2)).await;
    let names = [0, 1, 2].map(|i| cluster.replica(i).name().to_owned());
    let served = shares(&router, 40).await;
    assert_eq!(served, BTreeMap::from([(names[0].clone(), 20), (names[1].clone(), 20)]));
    assert_eq!(status(&router, &names[2]).zone.as_deref(), Some("b"));
    assert!(!status(&router, &names[2]).serves_reads);

    cluster.replica(0).kill().await.unwrap();
    until_health(&router, &names[0], HealthState::Unreachable).await;
    let served = shares(&router, 40).await;
    assert_eq!(served, BTreeMap::from([(names[1].clone(), 20), (names[2].clone(), 20)]));
}

#[tokio::test]
async fn a_router_reads_from_a_subset_and_another_replica_stands_in_for_one_that_is_lost() {
    let cluster = support::cluster(4).await;
    let builder =
        support::builder(&cluster).read_subset(2).read_subset_key("chat-0").slow_start(Duration::ZERO);
    let router = ready(builder.clone()).await;
    let names = |served: &BTreeMap<String, usize>| served.keys().cloned().collect::<Vec<_>>();
    let served = shares(&router, 40).await;
    let subset = names(&served);
    assert!(subset.len() == 2 && served.values().all(|reads| *reads == 20), "{served:?}");
    for replica in cluster.replicas() {
        let seen = status(&router, replica.name());
        let is_in = subset.contains(&seen.name);
        assert_eq!((seen.health, seen.serves_reads, seen.spare), (HealthState::Healthy, is_in, !is_in));
    }
    let connections =
        "SELECT count(*)::text FROM pg_stat_activity WHERE application_name = 'diesel-replicas'";
    for spare in cluster.replicas().iter().filter(|replica| !subset.contains(&replica.name().to_owned())) {
        assert_eq!(spare.sql(connections).await.unwrap().as_deref(), Some("0"), "of its pools");
    }
    // Another process of the same key.
    let single = ready(builder.read_subset(1)).await;
    let [first] = &names(&shares(&single, 10).await)[..] else { panic!("reads go to more than one") };
    assert!(subset.contains(first));

    let lost = cluster.replicas().iter().find(|replica| replica.name() == first).unwrap();
    let other = subset.iter().find(|name| *name != first).unwrap();
    lost.kill().await.unwrap();
    // No read goes to the primary, not even before the monitor has noticed.
    for router in [&single, &router].into_iter().cycle().take(20) {
        let read = router.with_read(async |conn| {
            notes::table.count().get_result::<i64>(conn).await?;
            QueryResult::Ok(conn.node().to_owned())
        });
        let served_by = read.await.unwrap();
        assert!(served_by != "primary" && served_by != *first, "{served_by}");
    }
    until_health(&router, lost.name(), HealthState::Unreachable).await;
    let served = shares(&router, 40).await;
    assert_eq!(served[other], 20, "it has no more to do than before: {served:?}");
    assert!(served.len() == 2 && !served.contains_key("primary"), "{served:?}");

    lost.start().await.unwrap();
    until_health(&router, lost.name(), HealthState::Healthy).await;
    until("it has its place again", || status(&router, lost.name()).serves_reads).await;
    assert_eq!(router.status().nodes.iter().filter(|node| node.spare).count(), 2);
}

#[tokio::test]
async fn a_subset_that_was_drawn_stays_through_other_configurations() {
    let cluster = support::cluster(4).await;
    let builder = support::builder(&cluster).read_subset(2);
    let router = ready(builder.clone()).await;
    let subset = || {
        let nodes = router.status().nodes.into_iter();
        nodes.filter(|node| node.serves_reads).map(|node| node.name).collect::<Vec<_>>()
    };
    let drawn = subset();
    assert_eq!(drawn.len(), 2);
    for pool_size in 1..10 {
        router.reload(builder.clone().pool_size(pool_size).config().unwrap()).await.unwrap();
        assert_eq!(subset(), drawn);
    }
}

#[tokio::test]
async fn a_promoted_replica_outside_the_subset_takes_the_writes() {
    let cluster = support::cluster(3).await;
    let router = ready(support::builder(&cluster).read_subset(1)).await;
    let spare = cluster.replicas().iter().find(|replica| status(&router, replica.name()).spare).unwrap();
    cluster.primary().kill().await.unwrap();
    spare.promote().await.unwrap();
    until("writes go to it", || status(&router, spare.name()).serves_writes).await;
    assert_eq!(router.write().await.unwrap().node(), spare.name());
}

/// A router whose every node has been probed.
async fn probed(builder: RouterBuilder) -> Router {
    let router = builder.build().await.unwrap();
    until("every node has been judged", || {
        router.status().nodes.iter().all(|node| node.health != HealthState::Unproven)
    })
    .await;
    router
}

#[tokio::test]
async fn nodes_are_what_they_are_and_not_what_they_are_listed_as() {
    let cluster = support::cluster(2).await;
    let [replica, other] = [0, 1].map(|i| cluster.replica(i));
    // The primary is listed as a replica, and the other way round.
    let builder = Router::builder().primary(NodeConfig::new(replica.url()).name("listed as primary"));
    let builder = builder.replica(NodeConfig::new(cluster.primary().url()).name("listed as replica"));
    let router = probed(builder.replica(node(other))).await;
    assert_eq!(status(&router, "listed as primary").role, Role::Replica);
    assert_eq!(status(&router, "listed as replica").role, Role::Primary);
    assert_eq!(router.write().await.unwrap().node(), "listed as replica");
    let served = shares(&router, 40).await;
    assert_eq!(served.keys().collect::<Vec<_>>(), ["listed as primary", other.name()]);
}

#[tokio::test]
async fn a_second_entry_of_one_server_never_serves() {
    let cluster = support::cluster(1).await;
    let replica = cluster.replica(0);
    let again = |node: &Node, name: &str| NodeConfig::new(node.url()).name(name);
    let builder = support::builder(&cluster).replica(again(cluster.primary(), "primary again"));
    let router = probed(builder.replica(again(replica, "replica again"))).await;
    for (name, of) in [("primary again", cluster.primary()), ("replica again", replica)] {
        let second = status(&router, name);
        assert_eq!((second.health, second.serves_reads), (HealthState::Refused, false), "{name}");
        assert_eq!(second.reason, Reason::Duplicate { of: of.name().into() });
    }
    assert_eq!(shares(&router, 10).await, BTreeMap::from([(replica.name().to_owned(), 10)]));
    // Restarted, it is met through one entry before it is through the other.
    replica.stop_fast().await.unwrap();
    until_health(&router, replica.name(), HealthState::Unreachable).await;
    replica.start().await.unwrap();
    until_health(&router, replica.name(), HealthState::Healthy).await;
    until_health(&router, "replica again", HealthState::Refused).await;
}

#[tokio::test]
async fn when_all_lag_the_least_lagging_serve_as_far_as_the_settings_let_them() {
    let cluster = support::cluster(2).await;
    let builder = support::builder(&cluster).lag_threshold(Duration::from_millis(200));
    let spare = ready(builder.clone().fallback(Fallback::LeastLagged).lag_hard_limit(3 * SECOND)).await;
    let keep = ready(builder.min_replicas(1).lag_hard_limit(3 * SECOND)).await;
    let _writing = support::keep_writing(&keep);
    let [first, last] = [0, 1].map(|i| cluster.replica(i));
    first.pause_replay().await.unwrap();
    for router in [&spare, &keep] {
        until_health(router, first.name(), HealthState::Lagging).await;
    }
    last.pause_replay().await.unwrap();
    for router in [&spare, &keep] {
        until_health(router, last.name(), HealthState::Lagging).await;
        assert_eq!(router.read().await.unwrap().node(), last.name(), "the one paused last");
    }
    assert!(status(&keep, last.name()).serves_reads, "kept in service");
    assert!(!status(&spare, last.name()).serves_reads, "a last resort");

    let beyond = |router: &Router| {
        let lag = status(router, last.name()).lag.and_then(|lag| lag.time());
        lag.is_some_and(|lag| lag > 3 * SECOND)
    };
    until("the lag is over the hard limit", || beyond(&spare) && beyond(&keep)).await;
    let error = timeout(SECOND, spare.read()).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::NoEligibleNode { .. }), "{error:?}");
    assert_eq!(keep.read().await.unwrap().node(), cluster.primary().name());
}

#[tokio::test]
async fn what_a_source_finds_is_added_and_what_it_loses_is_drained() {
    let cluster = support::cluster(2).await;
    let source = Arc::new(std::sync::Mutex::new(vec![node(cluster.replica(0))]));
    let builder = Router::builder().primary(node(cluster.primary())).discover(Found(Arc::clone(&source)));
    let router = builder.discovery_interval(Duration::from_millis(100)).build().await.unwrap();
    let names = || router.status().nodes.into_iter().map(|node| node.name).collect::<Vec<_>>();
    for i in [0, 1] {
        *source.lock().unwrap() = vec![node(cluster.replica(i))];
        until("the nodes are as found", || names() == ["primary", cluster.replica(i).name()]).await;
        until_health(&router, cluster.replica(i).name(), HealthState::Healthy).await;
        assert_eq!(router.read().await.unwrap().node(), cluster.replica(i).name());
    }
}

#[derive(Debug)]
struct Found(Arc<std::sync::Mutex<Vec<NodeConfig>>>);

impl diesel_replicas::Discovery for Found {
    fn discover(&self) -> diesel_replicas::Discovering<'_> {
        Box::pin(async { Ok(self.0.lock().unwrap().clone()) })
    }
}
