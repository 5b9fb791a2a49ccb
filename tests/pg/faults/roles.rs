//! Nodes that turn out to be something else.

use super::{builder, is_well, login, only, said, served, until_lost, write};
use crate::proxy::{Proxy, port};
use crate::support::{self, status, until, until_health};
use diesel_replicas::{HealthState, NodeConfig, Reason, Receiver, Role, Router};
use pg_cluster::{Cluster, Node};

/// Expected: refused, loudly, with both system identifiers, and never served, whether it was configured or is added later; the
/// reads of the others go on.
#[tokio::test]
async fn a_node_is_of_another_cluster() {
    let cluster = support::cluster(1).await;
    let other = Cluster::builder().own_identity().start().await.unwrap();
    let stranger = |name: &str| NodeConfig::new(other.primary().url()).name(name);
    let router = support::builder(&cluster).replica(stranger("stranger")).build().await.unwrap();
    until_health(&router, cluster.replica(0).name(), HealthState::Healthy).await;
    until_health(&router, "stranger", HealthState::Refused).await;
    let seen = status(&router, "stranger");
    let Reason::ForeignCluster { system, expected } = seen.reason else { panic!("{seen:?}") };
    assert_ne!(system, expected);
    assert!(!seen.serves_reads && !seen.serves_writes);
    only(&router, cluster.replica(0).name()).await;

    router.remove_replica("stranger").await.unwrap();
    router.add_replica(stranger("another")).await.unwrap();
    until_health(&router, "another", HealthState::Refused).await;
    only(&router, cluster.replica(0).name()).await;
    // Nobody else is left, and it is not asked even so.
    cluster.replica(0).kill().await.unwrap();
    only(&router, cluster.primary().name()).await;
    cluster.replica(0).start().await.unwrap();
    assert_eq!((status(&router, "another").reads, status(&router, "another").writes), (0, 0));
    router.remove_replica("another").await.unwrap();
    is_well(&router, &cluster, cluster.primary().name()).await;
}

/// Expected: the configured primary says which cluster it is; whoever is of another one is refused, and reads go to it.
#[tokio::test]
async fn the_primary_is_of_another_cluster() {
    let cluster = support::cluster(1).await;
    let other = support::with_notes(Cluster::builder().own_identity()).await;
    let builder = Router::builder().primary(NodeConfig::new(other.primary().url()).name("other"));
    let replica = cluster.replica(0);
    let router = builder.replica(NodeConfig::new(replica.url()).name(replica.name())).build().await.unwrap();
    until_health(&router, replica.name(), HealthState::Refused).await;
    assert!(
        said(&router, replica.name()).1.contains("another cluster"),
        "{:?}",
        said(&router, replica.name())
    );
    only(&router, "other").await;
    assert_eq!(write(&router).await.unwrap(), "other");
    assert_eq!(status(&router, replica.name()).reads, 0);
}

/// Expected: refused from its first probe on, which is at once, since everything on the old connections fails. A read that comes
/// between the two is the limit of this: a connection is not asked for its cluster.
#[tokio::test]
async fn an_address_comes_to_lead_to_another_cluster() {
    let cluster = support::cluster(2).await;
    let other = support::with_notes(Cluster::builder().own_identity()).await;
    let (moved, stays) = (cluster.replica(0), cluster.replica(1));
    let proxy = Proxy::start(port(&moved.url())).await;
    let url = |node: &Node| if node.name() == moved.name() { proxy.url(&node.url()) } else { node.url() };
    let router = support::ready(builder(&cluster, url)).await;
    served(&router, 4).await;

    proxy.lead_to(port(&other.primary().url()));
    until_lost(&router, moved.name()).await;
    proxy.heal();
    until_health(&router, moved.name(), HealthState::Refused).await;
    assert!(matches!(status(&router, moved.name()).reason, Reason::ForeignCluster { .. }));
    only(&router, stays.name()).await;

    proxy.lead_to(port(&moved.url()));
    until_lost(&router, moved.name()).await;
    proxy.heal();
    is_well(&router, &cluster, cluster.primary().name()).await;
}

/// A role that may log in and use the table, and nothing else.
async fn without_privileges(cluster: &Cluster) {
    let sql = "CREATE ROLE plain LOGIN; GRANT SELECT, INSERT ON notes TO plain";
    cluster.primary().sql(sql).await.unwrap();
    let written = cluster.primary().position().await.unwrap().lsn;
    for replica in cluster.replicas() {
        cluster.wait_replayed(replica, written).await.unwrap();
    }
}

/// Expected: all that routing needs is there: roles, the cluster, lag.
#[tokio::test]
async fn the_monitors_role_has_no_privileges() {
    let cluster = support::cluster(2).await;
    without_privileges(&cluster).await;
    let router = support::ready(builder(&cluster, |node| login(&node.url(), "plain", ""))).await;
    let writing = support::keep_writing(&router);
    for replica in cluster.replicas() {
        let seen = status(&router, replica.name());
        assert_eq!((seen.role, seen.receiver), (Role::Replica, Some(Receiver::Streaming)), "{seen:?}");
        assert!(seen.lag.unwrap().time().is_some(), "{seen:?}");
    }
    let lagging = cluster.replica(0);
    lagging.pause_replay().await.unwrap();
    until_health(&router, lagging.name(), HealthState::Lagging).await;
    assert_eq!(served(&router, 12).await.get(lagging.name()), None);
    lagging.resume_replay().await.unwrap();
    drop(writing);
    is_well(&router, &cluster, cluster.primary().name()).await;
}

/// Expected: writes follow the promotion. A standby that follows it does not tell such a role from whom it receives, and stays out
/// until its control file has the new timeline: after a checkpoint of its own, which comes by itself within the server's
/// `checkpoint_timeout`. With `pg_read_all_stats` it is back at once.
#[tokio::test]
async fn a_promotion_is_seen_without_privileges() {
    // What a standby flushes by itself would tell the new timeline.
    let quiet = Cluster::builder().replicas(3).setting("bgwriter_lru_maxpages", "0");
    let cluster = support::with_notes(quiet).await;
    without_privileges(&cluster).await;
    let router = support::ready(builder(&cluster, |node| login(&node.url(), "plain", ""))).await;
    let (promoted, one, other) = (cluster.replica(0), cluster.replica(1), cluster.replica(2));
    // What the old primary still logs would set its standbys apart.
    for follower in [one, other] {
        follower.cut_receiver().await.unwrap();
    }
    promoted.promote().await.unwrap();
    until("writes go to it", || status(&router, promoted.name()).serves_writes).await;
    assert_eq!(write(&router).await.unwrap(), promoted.name());
    for follower in [one, other] {
        follower.follow(promoted).await.unwrap();
        until_health(&router, follower.name(), HealthState::Lagging).await;
    }
    let astray = Reason::OtherTimeline { follows: 1, primary: 2 };
    let follows = |node: &Node| status(&router, node.name()).reason != astray;
    promoted.sql("CHECKPOINT").await.unwrap();
    only(&router, promoted.name()).await;
    assert!(
        !follows(one) && !follows(other),
        "{:?} {:?}",
        said(&router, one.name()),
        said(&router, other.name())
    );

    one.sql("CHECKPOINT").await.unwrap();
    until_health(&router, one.name(), HealthState::Healthy).await;
    only(&router, one.name()).await;
    assert!(!follows(other), "{:?}", said(&router, other.name()));
    promoted.sql("GRANT pg_read_all_stats TO plain").await.unwrap();
    until_health(&router, other.name(), HealthState::Healthy).await;
    cluster.primary().follow(promoted).await.unwrap();
    is_well(&router, &cluster, promoted.name()).await;
}
