//! Nodes that nobody has named: what a server says of its standbys, and what a name stands for.

use crate::support::{self, notes, until_async};
use diesel::prelude::*;
use diesel_replicas::{Discovery, DnsDiscovery, Fallback, NodeConfig, Router, RunQueryDsl, StandbyDiscovery};
use pg_cluster::{Cluster, Node};

fn port(node: &Node) -> u16 {
    node.url().parse::<tokio_postgres::Config>().unwrap().get_ports()[0]
}

/// The names of the nodes, as a router knows them.
async fn names(nodes: Vec<NodeConfig>) -> Vec<String> {
    let builder = Router::builder().primary(NodeConfig::new("postgres://app@primary/chat").name("primary"));
    let builder = nodes.into_iter().fold(builder, |builder, node| builder.replica(node));
    let router = builder.build().await.unwrap();
    router.status().nodes.into_iter().map(|node| node.name).filter(|name| name != "primary").collect()
}

/// The nodes, once there are as many as that.
async fn found(discovery: &impl Discovery, count: usize) -> Vec<NodeConfig> {
    let mut nodes = vec![];
    until_async(&format!("{discovery:?} finds {count}"), async || {
        nodes = discovery.discover().await.unwrap();
        nodes.len() == count
    })
    .await;
    nodes
}

/// Reads go to this node, and to no other.
async fn serves(cluster: &Cluster, node: NodeConfig) -> String {
    let builder = Router::builder().primary(cluster.primary().url()).replica(node).fallback(Fallback::Fail);
    let router = support::ready(builder).await;
    let mut conn = router.read().await.unwrap();
    notes::table.count().get_result::<i64>(&mut conn).await.unwrap();
    conn.node().to_owned()
}

#[tokio::test]
async fn the_primary_says_where_its_standbys_are() {
    let cluster = support::cluster(2).await;
    for replica in cluster.replicas() {
        // Here they are all at one address, and told apart by their ports alone.
        let discovery = StandbyDiscovery::new(cluster.primary().url()).unwrap().port(port(replica));
        let node = found(&discovery, 1).await.remove(0);
        assert_eq!(serves(&cluster, node).await, format!("127.0.0.1:{}", port(replica)));
    }
}

#[tokio::test]
async fn a_standby_says_where_its_own_standbys_are() {
    let mut cluster = Cluster::builder().replicas(2).start().await.unwrap();
    let upstream = cluster.replica(0).clone();
    cluster.add_replica_of(&upstream).await.unwrap();
    found(&StandbyDiscovery::new(cluster.replica(0).url()).unwrap(), 1).await;
    assert_eq!(StandbyDiscovery::new(cluster.replica(1).url()).unwrap().discover().await.unwrap(), []);
}

#[tokio::test]
async fn a_role_that_is_told_no_addresses_is_told_what_it_lacks() {
    let cluster = Cluster::builder().replicas(1).start().await.unwrap();
    cluster.primary().sql("CREATE ROLE app LOGIN").await.unwrap();
    let url = cluster.primary().url().replace("postgres@", "app@");
    let discovery = StandbyDiscovery::new(url).unwrap();
    let error = discovery.discover().await.unwrap_err().to_string();
    assert!(
        error.ends_with("does not tell this role the addresses of its standbys: `GRANT pg_monitor` to it"),
        "{error}"
    );
    cluster.primary().sql("GRANT pg_monitor TO app").await.unwrap();
    found(&discovery, 1).await;
}

#[tokio::test]
async fn a_subscriber_is_no_standby() {
    let cluster = Cluster::builder().setting("wal_level", "logical").start().await.unwrap();
    let primary = cluster.primary();
    for sql in [
        "CREATE PUBLICATION all_of_it FOR ALL TABLES".to_owned(),
        // A subscription to the own server cannot make its slot by itself.
        "SELECT pg_create_logical_replication_slot('subscriber', 'pgoutput')".to_owned(),
        format!(
            "CREATE SUBSCRIPTION subscriber CONNECTION '{}' PUBLICATION all_of_it WITH (create_slot = false)",
            primary.url()
        ),
    ] {
        primary.sql(&sql).await.unwrap();
    }
    until_async("it has replayed something", async || {
        let sql = "SELECT count(*)::text FROM pg_stat_replication WHERE state = 'streaming' AND replay_lsn IS NOT NULL";
        primary.sql(sql).await.unwrap().as_deref() == Some("1")
    })
    .await;
    assert_eq!(StandbyDiscovery::new(primary.url()).unwrap().discover().await.unwrap(), []);
}

#[tokio::test]
async fn one_connection_is_kept_and_replaced_when_it_is_lost() {
    let cluster = Cluster::builder().start().await.unwrap();
    let primary = cluster.primary();
    let discovery = StandbyDiscovery::new(primary.url()).unwrap();
    let backend = "SELECT string_agg(pid::text, ' ') FROM pg_stat_activity WHERE application_name LIKE 'diesel-replicas%'";
    discovery.discover().await.unwrap();
    let first = primary.sql(backend).await.unwrap().unwrap();
    discovery.discover().await.unwrap();
    assert_eq!(primary.sql(backend).await.unwrap().unwrap(), first);

    // Closed while nobody was looking, it is replaced at once; lost under the question, at the next one.
    primary.kill().await.unwrap();
    primary.start().await.unwrap();
    discovery.discover().await.unwrap();
    primary.kill().await.unwrap();
    discovery.discover().await.unwrap_err();
    primary.start().await.unwrap();
    discovery.discover().await.unwrap();
}

#[tokio::test]
async fn each_address_of_a_name_is_a_node() {
    let cluster = support::cluster(1).await;
    let port = port(cluster.replica(0));
    let nodes = DnsDiscovery::new(format!("postgres://postgres@localhost:{port}/postgres")).unwrap();
    let nodes = nodes.discover().await.unwrap();
    let names = names(nodes.clone()).await;
    let local = format!("127.0.0.1:{port}");
    let index = names.iter().position(|name| *name == local).unwrap_or_else(|| panic!("{names:?}"));
    assert_eq!(serves(&cluster, nodes[index].clone()).await, local);
}
