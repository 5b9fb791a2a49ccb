//! Servers that are there and let nobody in.

use super::{Failure, builder, in_time, is_well, login, only, read, said, served, until_lost, write};
use crate::support::{self, status, until, until_async, until_health};
use diesel_async::{AsyncConnection, AsyncPgConnection};
use diesel_replicas::{Error, HealthState};
use pg_cluster::{Cluster, Node};
use std::time::Instant;

/// A cluster that lets the role `app` in with this password alone.
async fn guarded(replicas: usize, password: &str) -> Cluster {
    let cluster = support::cluster(replicas).await;
    let sql = format!("CREATE ROLE app LOGIN PASSWORD '{password}'; GRANT SELECT, INSERT ON notes TO app");
    cluster.primary().sql(&sql).await.unwrap();
    let written = cluster.primary().position().await.unwrap().lsn;
    for node in cluster.nodes() {
        cluster.wait_replayed(node, written).await.unwrap();
        let lines = "VALUES ('host all app all password'), ('host all all all trust'), ('host replication all all trust')";
        let file = node.sql("SHOW hba_file").await.unwrap().unwrap();
        node.sql(&format!("COPY ({lines}) TO '{file}'")).await.unwrap();
        node.sql("SELECT pg_reload_conf()").await.unwrap();
        let guess = login(&node.url(), "app", "guess");
        until_async("it asks for passwords", async || AsyncPgConnection::establish(&guess).await.is_err())
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
    let error = in_time(async { router.read().await }).await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error:?}");
    assert!(error.to_string().contains("password authentication failed"), "{error}");
    assert_eq!(status(&router, cluster.replica(0).name()).health, HealthState::Healthy);
    drop(held);

    router.reload(with("new").config().unwrap()).await.unwrap();
    served(&router, 12).await;
    is_well(&router, &cluster, cluster.primary().name()).await;
    assert_eq!(router.status().nodes.len(), 2);
}

/// Nodes of which the role `app` can have this many connections and no more.
async fn narrow(replicas: usize) -> Cluster {
    const FOR_APP: usize = 15;
    let reserved = (100 - FOR_APP).to_string();
    let builder = Cluster::builder().replicas(replicas).setting("superuser_reserved_connections", reserved);
    let cluster = support::with_notes(builder).await;
    cluster.primary().sql("CREATE ROLE app LOGIN; GRANT SELECT, INSERT ON notes TO app").await.unwrap();
    let written = cluster.primary().position().await.unwrap().lsn;
    for replica in cluster.replicas() {
        cluster.wait_replayed(replica, written).await.unwrap();
    }
    cluster
}

fn app(node: &Node) -> String {
    login(&node.url(), "app", "")
}

/// Takes every connection that the node has left.
async fn fill(node: &Node) -> Vec<AsyncPgConnection> {
    let mut taken = vec![];
    loop {
        match AsyncPgConnection::establish(&app(node)).await {
            Ok(conn) => taken.push(conn),
            Err(error) => {
                assert!(is_full(&error.to_string()), "{error}");
                return taken;
            }
        }
    }
}

fn is_full(text: &str) -> bool {
    text.contains("connection slots are reserved")
}

/// Expected: a replica that has no connection left costs a read one attempt, and stays in service for those that have one:
/// saturation is not sickness.
#[tokio::test]
async fn a_replica_has_too_many_clients() {
    let cluster = narrow(2).await;
    let router = support::ready(builder(&cluster, app)).await;
    is_well(&router, &cluster, cluster.primary().name()).await;

    let full = cluster.replica(0);
    let taken = fill(full).await;
    // One connection of the pool is open; more cannot be had.
    let mut held = vec![];
    for _ in 0..6 {
        held.push(in_time(async { router.read().await }).await.unwrap());
    }
    let on_it = held.iter().filter(|conn| conn.node() == full.name()).count();
    assert_eq!(on_it, 1, "{held:?}");
    assert_eq!(status(&router, full.name()).health, HealthState::Healthy, "{:?}", said(&router, full.name()));
    drop((held, taken));
    is_well(&router, &cluster, cluster.primary().name()).await;
}

/// Expected: a write that has no connection fails with what the server said, and no sooner than two probe intervals pass; the
/// others go on. The primary stays the primary, even if the monitor loses its connection and gets no other: it is alive.
#[tokio::test]
async fn the_primary_has_too_many_clients() {
    let cluster = narrow(1).await;
    let router = support::ready(builder(&cluster, app)).await;
    is_well(&router, &cluster, cluster.primary().name()).await;

    let full = cluster.primary();
    let mut taken = fill(full).await;
    let mut held = router.write().await.unwrap();
    let started = Instant::now();
    let error = write(&router).await.unwrap_err();
    println!("a write failed after {:.1?}: {error:?}", started.elapsed());
    let Failure::Router(error) = error else { panic!("{error:?}") };
    assert!(error.is_unavailable() && is_full(&error.to_string()), "{error}");

    let kill = "SELECT count(pg_terminate_backend(pid))::text FROM pg_stat_activity \
                WHERE application_name = 'diesel-replicas monitor'";
    assert_eq!(full.sql(kill).await.unwrap().as_deref(), Some("1"));
    taken.extend(fill(full).await);
    let seen = status(&router, cluster.replica(0).name()).lag;
    until("further probes have gone by", || status(&router, cluster.replica(0).name()).lag != seen).await;
    let one = diesel::sql_query("SELECT 1");
    diesel_replicas::RunQueryDsl::execute(one, &mut held).await.unwrap();
    drop(held);
    assert_eq!(write(&router).await.unwrap(), full.name());
    assert!(status(&router, full.name()).serves_writes);
    only(&router, cluster.replica(0).name()).await;
    drop(taken);
    is_well(&router, &cluster, full.name()).await;
}
