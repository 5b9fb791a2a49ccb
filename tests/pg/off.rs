//! Without replicas: one pool on the primary, whoever that is, and the same code.

use crate::proxy::{Proxy, port};
use crate::support::{self, notes, status, until, until_async};
use diesel::prelude::*;
use diesel_replicas::{
    AssertReadOnlyDsl, Config, DnsDiscovery, Error, HealthState, Login, NodeConfig, PasswordProvider,
    Providing, Router, RouterBuilder, RunQueryDsl,
};
use pg_cluster::{Cluster, Node};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Sessions of pools, on a node.
const SESSIONS: &str =
    "SELECT count(*)::text FROM pg_stat_activity WHERE application_name = 'diesel-replicas'";

async fn sessions(node: &Node) -> String {
    node.sql(SESSIONS).await.unwrap().unwrap()
}

fn off(cluster: &Cluster) -> RouterBuilder {
    support::builder(cluster).read_replicas_enabled(false).pool_size(2)
}

fn config(builder: RouterBuilder) -> Config {
    builder.config().unwrap()
}

async fn writes(router: &Router) -> Result<String, String> {
    let mut conn = router.write().await.map_err(|error| error.to_string())?;
    let row = diesel::insert_into(notes::table).values(notes::body.eq("more"));
    row.execute(&mut conn).await.map_err(|error| error.to_string())?;
    Ok(conn.node().to_owned())
}

#[tokio::test]
async fn reads_and_writes_have_one_pool_and_no_replica_is_asked() {
    let cluster = support::cluster(1).await;
    let [primary, replica] = cluster.nodes() else { panic!("as many as asked for") };
    let router = support::ready(off(&cluster)).await;
    let (read, write) = (router.read().await.unwrap(), router.write().await.unwrap());
    let full = router.read().timeout(Duration::from_millis(100)).await.unwrap_err();
    assert!(matches!(full, Error::PoolExhausted { .. }), "{full}");
    assert_eq!(sessions(primary).await, "2");
    drop(write);
    drop(router.read().await.unwrap());
    drop(read);
    let seen = status(&router, primary.name());
    assert_eq!((seen.reads, seen.writes), (2, 1));
    // As before: what is asserted to read and writes all the same fails only where replicas could serve it.
    let mut conn = router.read().await.unwrap();
    let writing = "INSERT INTO notes (body) VALUES ('asserted to only read')";
    assert_eq!(diesel::sql_query(writing).assert_read_only().execute(&mut conn).await, Ok(1));
    drop(conn);
    assert_eq!(router.status().nodes.len(), 1);
    let asked = "SELECT count(*)::text FROM pg_stat_activity WHERE application_name LIKE 'diesel-replicas%'";
    assert_eq!(replica.sql(asked).await.unwrap().as_deref(), Some("0"));

    // On, and off again, with a handle out all the while.
    let mut held = router.write().await.unwrap();
    router.reload(config(support::builder(&cluster).pool_size(2))).await.unwrap();
    until("the replica serves", || status(&router, replica.name()).health == HealthState::Healthy).await;
    let mut conn = router.read().await.unwrap();
    assert_eq!(conn.node(), replica.name());
    let refused = diesel::sql_query(writing).assert_read_only().execute(&mut conn).await.unwrap_err();
    assert!(refused.to_string().contains("read-only transaction"), "{refused}");
    drop(conn);
    let (one, other) = (router.read().latest().await.unwrap(), router.write().await.unwrap());
    router.reload(config(off(&cluster))).await.unwrap();
    assert_eq!(notes::table.count().get_result::<i64>(&mut held).await, Ok(2));
    drop((one, other, held));
    let (one, other) = (router.read().await.unwrap(), router.write().await.unwrap());
    assert_eq!((one.node(), other.node()), (primary.name(), primary.name()));
    until_async("the connections of before are gone", async || sessions(primary).await == "2").await;
    until_async("those to the replica as well", async || {
        replica.sql(asked).await.unwrap().as_deref() == Some("0")
    })
    .await;
}

#[tokio::test]
async fn the_primary_of_a_promotion_stays_when_replicas_are_switched_off() {
    let cluster = support::cluster(2).await;
    let [old, new, other] = cluster.nodes() else { panic!("as many as asked for") };
    let router = support::router(&cluster).await;
    old.kill().await.unwrap();
    new.promote().await.unwrap();
    other.follow(new).await.unwrap();
    until_async("writes go to the new primary", async || writes(&router).await.as_deref() == Ok(new.name()))
        .await;

    router.reload(config(off(&cluster))).await.unwrap();
    assert_eq!(writes(&router).await.as_deref(), Ok(new.name()));
    old.follow(new).await.unwrap();
    until("the old one is a standby", || status(&router, old.name()).health == HealthState::Healthy).await;
    for _ in 0..10 {
        let mut conn = router.read().await.unwrap();
        assert_eq!(conn.node(), new.name());
        assert!(notes::table.count().get_result::<i64>(&mut conn).await.unwrap() >= 2);
    }
    let names: Vec<_> = router.status().nodes.into_iter().map(|node| node.name).collect();
    assert_eq!(names, [old.name(), new.name()]);
}

#[tokio::test]
async fn the_only_pool_survives_that_its_primary_is_none_for_a_while() {
    let cluster = support::cluster(0).await;
    let primary = cluster.primary();
    let router = support::ready(off(&cluster)).await;
    assert_eq!(writes(&router).await.as_deref(), Ok(primary.name()));
    primary.kill().await.unwrap();
    until_async("nobody takes writes", async || writes(&router).await.is_err()).await;
    primary.start().await.unwrap();
    until_async("it does again", async || writes(&router).await.is_ok()).await;
    let mut conn = router.read().await.unwrap();
    assert!(notes::table.count().get_result::<i64>(&mut conn).await.unwrap() >= 2);
}

#[tokio::test]
async fn what_is_discovered_waits_until_replicas_are_switched_on() {
    let cluster = support::cluster(1).await;
    let [primary, replica] = cluster.nodes() else { panic!("as many as asked for") };
    let template = replica.url().replace("127.0.0.1", "localhost");
    let builder = |enabled| {
        let node = NodeConfig::new(primary.url()).name("primary");
        Router::builder().primary(node).read_replicas_enabled(enabled)
    };
    let discovered = builder(false)
        .discover(DnsDiscovery::new(template).unwrap())
        .discovery_interval(Duration::from_millis(100));
    let router = support::ready(discovered).await;
    assert_eq!(writes(&router).await.as_deref(), Ok("primary"));
    let found = || router.status().nodes.len() > 1;
    let told = router.status().nodes.len();
    assert_eq!(told, 1);
    router.reload(config(builder(true))).await.unwrap();
    until("the replica is there", found).await;
    until("it serves", || {
        router.status().nodes.iter().filter(|node| node.health == HealthState::Healthy).count() == 2
    })
    .await;
    router.reload(config(builder(false))).await.unwrap();
    until("it is gone", || !found()).await;
    assert_eq!(router.read().await.unwrap().node(), "primary");
}

#[tokio::test]
async fn another_address_for_the_primary_takes_its_place() {
    let cluster = support::cluster(0).await;
    let url = cluster.primary().url();
    let proxy = Proxy::start(port(&url)).await;
    let named = |url: String, name: &str| {
        Router::builder().primary(NodeConfig::new(url).name(name)).read_replicas_enabled(false)
    };
    let router = support::ready(named(url.clone(), "directly")).await;
    assert_eq!(writes(&router).await.as_deref(), Ok("directly"));
    router.reload(config(named(proxy.url(&url), "pooled"))).await.unwrap();
    until_async("writes go the other way", async || writes(&router).await.as_deref() == Ok("pooled")).await;
    until("the old way is gone", || router.status().nodes.len() == 1).await;
    assert_eq!(router.read().await.unwrap().node(), "pooled");
}

#[tokio::test]
async fn the_only_pool_is_opened_anew_after_a_panic_of_the_monitor() {
    /// Panics once when it is told to.
    #[derive(Debug, Clone, Default)]
    struct Faulty(Arc<AtomicBool>);
    impl PasswordProvider for Faulty {
        fn password<'a>(&'a self, _: Login<'a>) -> Providing<'a> {
            assert!(!self.0.swap(false, Ordering::SeqCst), "as it was told to");
            Box::pin(async { Ok("secret".to_owned()) })
        }
    }
    let cluster = support::cluster(0).await;
    let primary = cluster.primary();
    let faulty = Faulty::default();
    let router = support::ready(off(&cluster).password_provider(faulty.clone())).await;
    assert!(writes(&router).await.is_ok());
    faulty.0.store(true, Ordering::SeqCst);
    let monitors = "SELECT count(pg_terminate_backend(pid))::text FROM pg_stat_activity WHERE application_name LIKE '%monitor'";
    assert_eq!(primary.sql(monitors).await.unwrap().as_deref(), Some("1"));
    until("the monitor has panicked", || !AtomicBool::load(&faulty.0, Ordering::SeqCst)).await;
    until_async("writes go on", async || writes(&router).await.is_ok()).await;
    let mut conn = router.read().await.unwrap();
    assert!(notes::table.count().get_result::<i64>(&mut conn).await.unwrap() >= 3);
}
