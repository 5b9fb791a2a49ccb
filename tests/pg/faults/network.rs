//! What the network, or what stands in for it, does to a replica.

use super::{SECOND, builder, is_well, only, read, said, until_lost};
use crate::proxy::{Proxy, port};
use crate::support::{self, until, until_health};
use diesel_replicas::{Ejection, HealthState, NodeConfig, Router, RouterBuilder};
use pg_cluster::Cluster;

/// A cluster with two replicas, the first behind a proxy.
struct Stage {
    cluster: Cluster,
    proxy: Proxy,
    router: Router,
}

impl Stage {
    async fn set(settings: impl FnOnce(RouterBuilder) -> RouterBuilder) -> Self {
        let cluster = support::cluster(2).await;
        let first = cluster.replica(0);
        let proxy = Proxy::start(port(&first.url())).await;
        let url = |node: &pg_cluster::Node| match node.name() == first.name() {
            true => proxy.url(&node.url()),
            false => node.url(),
        };
        let router = support::ready(settings(builder(&cluster, url))).await;
        let stage = Self { cluster, proxy, router };
        stage.is_well().await;
        stage
    }

    /// The name of the one behind the proxy.
    fn lost(&self) -> &str {
        self.cluster.replica(0).name()
    }

    fn other(&self) -> &str {
        self.cluster.replica(1).name()
    }

    async fn is_well(&self) {
        is_well(&self.router, &self.cluster, self.cluster.primary().name()).await;
    }
}

/// Expected: no read fails. The replica is unreachable at the first refusal, with its text; it is back after two good probes.
#[tokio::test]
async fn a_replica_refuses() {
    let stage = Stage::set(|builder| builder).await;
    stage.proxy.refuse();
    only(&stage.router, stage.other()).await;
    let reason = until_lost(&stage.router, stage.lost()).await;
    assert!(reason.contains("refused") || reason.contains("closed"), "{reason}");
    until("it is refused for good", || said(&stage.router, stage.lost()).1.contains("refused")).await;
    stage.proxy.heal();
    stage.is_well().await;
}

/// Expected: no read fails. Those that hang on the replica are abandoned and run elsewhere when two probes have timed out;
/// connections that were swallowed are not used again after it heals.
#[tokio::test]
async fn a_replica_is_black_holed() {
    let stage = Stage::set(|builder| builder).await;
    stage.proxy.fall_silent();
    only(&stage.router, stage.other()).await;
    let reason = until_lost(&stage.router, stage.lost()).await;
    assert!(reason.contains("probes timed out"), "{reason}");
    stage.proxy.heal();
    stage.is_well().await;
}

/// Expected: what is connected goes on, the monitor too; a read that needs a new connection waits for it no longer than the connect
/// timeout allows, and then goes elsewhere. When that has happened some times in a row, the replica is ejected for a while.
#[tokio::test]
async fn a_replica_accepts_and_says_nothing() {
    let ejection = Ejection::default().duration(SECOND);
    let stage = Stage::set(|builder| builder.connect_timeout(SECOND / 5).ejection(ejection)).await;
    stage.proxy.fall_silent_to_new();
    let held = stage.router.read().await.unwrap();
    let held = match held.node() == stage.lost() {
        true => held,
        false => stage.router.read().await.unwrap(),
    };
    assert_eq!(held.node(), stage.lost(), "an open connection is used");
    // Its only open connection is out: whoever comes now would have to open one.
    only(&stage.router, stage.other()).await;
    assert_eq!(said(&stage.router, stage.lost()).0, HealthState::Ejected);
    drop(held);
    stage.proxy.heal();
    stage.is_well().await;
}

/// The same, and the monitor has to connect anew as well.
///
/// Expected: unreachable, as if it were frozen.
#[tokio::test]
async fn a_replica_accepts_and_says_nothing_to_the_monitor_either() {
    let stage = Stage::set(|builder| builder.connect_timeout(SECOND / 5)).await;
    stage.proxy.fall_silent_to_new();
    let kill = "SELECT count(pg_terminate_backend(pid))::text FROM pg_stat_activity \
                WHERE application_name LIKE 'diesel-replicas%'";
    stage.cluster.replica(0).sql(kill).await.unwrap();
    let reason = until_lost(&stage.router, stage.lost()).await;
    assert!(reason.contains("timed out"), "{reason}");
    only(&stage.router, stage.other()).await;
    stage.proxy.heal();
    stage.is_well().await;
}

/// Expected: unreachable where it was. A reload with the new address under the old name replaces it at once and without a
/// failed read; the name serves again from the new place.
#[tokio::test]
async fn a_replica_comes_back_on_another_port() {
    let stage = Stage::set(|builder| builder).await;
    let (cluster, router) = (&stage.cluster, &stage.router);
    stage.proxy.refuse();
    until_lost(router, stage.lost()).await;
    only(router, stage.other()).await;
    router.reload(support::builder(cluster).config().unwrap()).await.unwrap();
    until_health(router, stage.lost(), HealthState::Healthy).await;
    stage.is_well().await;
    assert_eq!(router.status().nodes.len(), 3, "{:?}", router.status());
}

/// Expected: a server that cannot be found is unreachable with what the resolver said, and costs no read anything.
#[tokio::test]
async fn a_replica_has_no_address() {
    let cluster = support::cluster(1).await;
    let lost = NodeConfig::new("postgres://postgres@no-such-host.invalid:5432/postgres").name("lost");
    let router = support::builder(&cluster).replica(lost).build().await.unwrap();
    let reason = until_lost(&router, "lost").await;
    assert!(reason.contains("lookup") || reason.contains("resolve"), "{reason}");
    until_health(&router, cluster.replica(0).name(), HealthState::Healthy).await;
    only(&router, cluster.replica(0).name()).await;
    assert!(read(&router).await.is_ok());
    router.remove_replica("lost").await.unwrap();
    is_well(&router, &cluster, cluster.primary().name()).await;
}
