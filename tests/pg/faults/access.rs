//! Servers that are there and let nobody in.

use super::{Failure, builder, in_time, is_well, login, only, read, said, served, until_lost, write};
use crate::support::{self, status, until, until_async, until_health};
use diesel_async::{AsyncConnection, AsyncPgConnection};
use diesel_replicas::{Error, HealthState};
use pg_cluster::{Cluster, Node};

/// A cluster that lets the role `app` in with this password alone.
async fn guarded(replicas: usize, password: &str) -> Cluster {
    let cluster = support::cluster(replicas).await;
    let sql = format!("CREATE ROLE app LOGIN PASSWORD '{password}'; GRANT SELECT, INSERT ON notes TO app");
    cluster.primary().sql(&sql).await.unwrap();
    let written = cluster.primary().position().await.unwrap().lsn;
    for node in cluster.nodes() {
        cluster.wait_replayed(node, written).await.unwrap();
        let lines = "VALUES ('host all app all scram-sha-256'), ('host all all all trust'), ('host replication all all trust')";
        let file = node.sql("SHOW hba_file").await.unwrap().unwrap();
        node.sql(&format!("COPY ({lines}) TO '{file}'")).await.unwrap();
        node.sql("SELECT pg_reload_conf()").await.unwrap();
        let loaded = "SELECT count(*)::text FROM pg_hba_file_rules WHERE auth_method = 'scram-sha-256'";
        until_async("it asks for passwords", async || {
            let refused = AsyncPgConnection::establish(&login(&node.url(), "app", "guess")).await.is_err();
            refused && node.sql(loaded).await.unwrap().as_deref() == Some("1")
        })
        .await;
    }
    cluster
}

/// Expected: the one replica is unreachable with what the server said; reads go elsewhere. With all of them wrong every call
/// fails at once with that text. The password is in no text.
#[tokio::test]
async fn a_password_is_wrong() {
    let cluster = guarded(2, "right").await;
    let wrong = cluster.replica(0);
    let password = |node: &Node| if node.name() == wrong.name() { "geheim" } else { "right" };
    let router = builder(&cluster, |node| login(&node.url(), "app", password(node))).build().await.unwrap();
    let reason = until_lost(&router, wrong.name()).await;
    assert!(reason.contains("password authentication failed"), "{reason}");
    until_health(&router, cluster.replica(1).name(), HealthState::Healthy).await;
    only(&router, cluster.replica(1).name()).await;
    assert_eq!(write(&router).await.unwrap(), cluster.primary().name());
    assert!(!format!("{router:?} {reason}").contains("geheim"));

    let lost = builder(&cluster, |node| login(&node.url(), "app", "geheim")).build().await.unwrap();
    for node in cluster.nodes() {
        until_lost(&lost, node.name()).await;
    }
    for error in [read(&lost).await.unwrap_err(), write(&lost).await.unwrap_err()] {
        let Failure::Router(error) = error else { panic!("{error:?}") };
        assert!(error.is_unavailable());
        assert!(error.to_string().contains("password authentication failed"), "{error}");
        assert!(!format!("{error:?} {error}").contains("geheim"), "{error}");
    }
}

/// Expected: sessions that are open go on, the monitor's too; what needs a new connection fails with what the server said. A
/// reload with the new password puts everything right, and no read fails that has a node to go to.
#[tokio::test]
async fn a_password_is_rotated() {
    let cluster = guarded(1, "old").await;
    let with = |password: &'static str| builder(&cluster, move |node| login(&node.url(), "app", password));
    let router = support::ready(with("old")).await;
    is_well(&router, &cluster, cluster.primary().name()).await;

    cluster.primary().sql("ALTER ROLE app PASSWORD 'new'").await.unwrap();
    let written = cluster.primary().position().await.unwrap().lsn;
    cluster.wait_replayed(cluster.replica(0), written).await.unwrap();
    assert_eq!(served(&router, 4).await.len(), 1, "the open connections serve");
    let held = router.read().await.unwrap();
    // Neither the replica nor the primary lets anybody in any more.
    let refused = in_time(async { router.read().await }).await;
    println!("{refused:?}");
    match refused {
        Err(error @ Error::Connect { .. }) => {
            assert!(error.to_string().contains("password authentication failed"), "{error}");
        }
        Ok(conn) => assert_eq!(conn.node(), cluster.primary().name(), "an open connection"),
        Err(error) => panic!("{error:?}"),
    }
    println!("{:?}", said(&router, cluster.replica(0).name()));
    drop(held);

    router.reload(with("new").config().unwrap()).await.unwrap();
    served(&router, 12).await;
    is_well(&router, &cluster, cluster.primary().name()).await;
    assert_eq!(router.status().nodes.len(), 2);
}

/// Expected: a replica that has no connection left costs a read one attempt, and stays in service for those that have one;
/// saturation is not sickness.
#[tokio::test]
async fn a_replica_has_too_many_clients() {
    // Of a hundred connections.
    let reserved = Cluster::builder().replicas(2).setting("superuser_reserved_connections", "85");
    let cluster = support::with_notes(reserved).await;
    cluster.primary().sql("CREATE ROLE app LOGIN; GRANT SELECT, INSERT ON notes TO app").await.unwrap();
    let written = cluster.primary().position().await.unwrap().lsn;
    for replica in cluster.replicas() {
        cluster.wait_replayed(replica, written).await.unwrap();
    }
    let app = |node: &Node| login(&node.url(), "app", "");
    let router = support::ready(builder(&cluster, app)).await;
    is_well(&router, &cluster, cluster.primary().name()).await;

    let full = cluster.replica(0);
    let mut others = vec![];
    while let Ok(conn) = AsyncPgConnection::establish(&app(full)).await {
        others.push(conn);
    }
    let refused = AsyncPgConnection::establish(&app(full)).await.err().unwrap().to_string();
    assert!(refused.contains("connection slots") || refused.contains("too many clients"), "{refused}");

    // One connection of the pool is open; more cannot be had.
    let mut held = vec![];
    for _ in 0..6 {
        held.push(in_time(async { router.read().await }).await.unwrap());
    }
    let on_it = held.iter().filter(|conn| conn.node() == full.name()).count();
    assert_eq!(on_it, 1, "{held:?}");
    assert_eq!(status(&router, full.name()).health, HealthState::Healthy, "{:?}", said(&router, full.name()));
    drop(held);
    drop(others);
    is_well(&router, &cluster, cluster.primary().name()).await;
    until("nothing was held against it", || status(&router, full.name()).health == HealthState::Healthy)
        .await;
}
