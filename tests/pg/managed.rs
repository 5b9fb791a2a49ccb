//! Servers that tell less than PostgreSQL does, and what stands between them and the router.

use crate::proxy::{Proxy, port};
use crate::support::{self, notes, status, until, until_health};
use diesel::prelude::*;
use diesel_replicas::{HealthState, Limitation, NodeConfig, Role, Router, RunQueryDsl};
use pg_cluster::{Cluster, Node};
use std::time::Duration;

/// What Amazon Aurora answers, as its user guide and its users tell: functions of the log's position are not supported, and a function
/// of its own says how far each standby is behind.
const AURORA: &str = "
    ALTER FUNCTION pg_catalog.pg_last_wal_replay_lsn() RENAME TO hidden_replay_lsn;
    CREATE FUNCTION pg_catalog.pg_last_wal_replay_lsn() RETURNS pg_lsn LANGUAGE plpgsql AS $$ BEGIN
        RAISE EXCEPTION 'Function pg_last_wal_replay_lsn() is currently not supported for Aurora' USING ERRCODE = '0A000';
    END $$;
    ALTER FUNCTION pg_catalog.pg_current_wal_lsn() RENAME TO hidden_current_lsn;
    CREATE FUNCTION pg_catalog.pg_current_wal_lsn() RETURNS pg_lsn LANGUAGE plpgsql AS $$ BEGIN
        RAISE EXCEPTION 'wal_level must be set to ''logical''' USING ERRCODE = '55000';
    END $$;
    ALTER FUNCTION pg_catalog.pg_stat_get_wal_receiver() RENAME TO hidden_wal_receiver;
    CREATE FUNCTION pg_catalog.pg_stat_get_wal_receiver(OUT pid int, OUT received_tli int) LANGUAGE plpgsql AS $$ BEGIN
        RAISE EXCEPTION 'Function pg_stat_get_wal_receiver() is currently not supported in Aurora' USING ERRCODE = '0A000';
    END $$;
    CREATE TABLE aurora (server_id text, replica_lag_in_msec double precision);
    CREATE FUNCTION aurora_db_instance_identifier() RETURNS text LANGUAGE sql AS 'SELECT inet_server_port()::text';
    CREATE FUNCTION aurora_replica_status() RETURNS SETOF aurora LANGUAGE sql AS 'SELECT * FROM aurora';
    GRANT SELECT ON aurora TO PUBLIC;
    CREATE ROLE app LOGIN; GRANT pg_monitor TO app; GRANT ALL ON notes TO app; GRANT USAGE ON SEQUENCE notes_id_seq TO app;
";

async fn aurora(replicas: usize) -> Cluster {
    let cluster = support::cluster(replicas).await;
    let primary = cluster.primary();
    primary.sql(AURORA).await.unwrap();
    for node in cluster.nodes() {
        let lag = if node.name() == primary.name() { "NULL" } else { "12.5" };
        primary.sql(&format!("INSERT INTO aurora VALUES ('{}', {lag})", port(&node.url()))).await.unwrap();
    }
    for replica in cluster.replicas() {
        let told = async || replica.sql("SELECT count(*)::text FROM aurora").await.ok().flatten();
        let all = (replicas + 1).to_string();
        support::until_async("the replica has it", async || told().await.as_deref() == Some(&*all)).await;
    }
    cluster
}

fn as_app(node: &Node) -> NodeConfig {
    let url = format!("{}?sslmode=disable", node.url().replace("//postgres@", "//app@"));
    NodeConfig::new(url).name(node.name())
}

#[tokio::test]
async fn aurora_is_routed_by_the_lag_that_it_reports() {
    let cluster = aurora(2).await;
    let [primary, near, far] = cluster.nodes() else { panic!("as many as asked for") };
    let builder = Router::builder().primary(as_app(primary)).replica(as_app(near)).replica(as_app(far));
    let router = support::ready(builder).await;
    let seen = status(&router, near.name());
    assert_eq!((seen.role, seen.lag.and_then(|lag| lag.time())).0, Role::Replica);
    let lag = seen.lag.and_then(|lag| lag.time()).unwrap();
    assert!(lag >= Duration::from_millis(13) && lag < Duration::from_secs(1), "{lag:?}");
    let withheld = Limitation::Withheld(vec!["pg_last_wal_replay_lsn", "pg_stat_get_wal_receiver"]);
    assert_eq!(seen.limitations, [withheld, Limitation::LagReported]);
    let withheld = Limitation::Withheld(vec!["pg_current_wal_lsn", "pg_walfile_name"]);
    assert_eq!(status(&router, primary.name()).limitations, [withheld]);

    let behind = async |millis: u32| {
        let sql = format!(
            "UPDATE aurora SET replica_lag_in_msec = {millis} WHERE server_id = '{}'",
            port(&far.url())
        );
        primary.sql(&sql).await.unwrap();
    };
    behind(5000).await;
    until_health(&router, far.name(), HealthState::Lagging).await;
    for _ in 0..10 {
        let mut conn = router.read().await.unwrap();
        assert_eq!(conn.node(), near.name());
        assert!(notes::table.count().get_result::<i64>(&mut conn).await.unwrap() >= 1);
    }
    behind(0).await;
    until_health(&router, far.name(), HealthState::Healthy).await;

    // Where a position in the log is not told, what has to see a write is read on the primary.
    let write = router.with_write(async |conn| {
        diesel::insert_into(notes::table).values(notes::body.eq("second")).execute(conn).await
    });
    let (written, token): (usize, _) = write.await.unwrap();
    assert_eq!(written, 1);
    let mut conn = router.read().after(&token).await.unwrap();
    assert_eq!(conn.node(), primary.name());
    assert_eq!(notes::table.count().get_result::<i64>(&mut conn).await, Ok(2));
}

#[tokio::test]
async fn a_role_with_no_more_rights_than_its_tables_does_everything() {
    let cluster = support::cluster(1).await;
    let [primary, replica] = cluster.nodes() else { panic!("as many as asked for") };
    let rights = "CREATE ROLE app LOGIN; GRANT SELECT, INSERT ON notes TO app";
    primary.sql(rights).await.unwrap();
    let written = primary.position().await.unwrap().lsn;
    cluster.wait_replayed(replica, written).await.unwrap();
    let router = support::ready(Router::builder().primary(as_app(primary)).replica(as_app(replica))).await;
    for node in cluster.nodes() {
        assert_eq!(status(&router, node.name()).limitations, [Limitation::StatisticsHidden]);
    }
    let write = router.with_write(async |conn| {
        let row = (notes::id.eq(7), notes::body.eq("second"));
        diesel::insert_into(notes::table).values(row).execute(conn).await
    });
    let (written, token): (usize, _) = write.await.unwrap();
    assert_eq!(written, 1);
    let mut conn = router.read().after(&token).await.unwrap();
    assert_eq!(conn.node(), replica.name());
    assert_eq!(notes::table.count().get_result::<i64>(&mut conn).await, Ok(2));
    drop(conn);

    replica.pause_replay().await.unwrap();
    primary.sql("INSERT INTO notes (body) VALUES ('third')").await.unwrap();
    until_health(&router, replica.name(), HealthState::Lagging).await;
    replica.resume_replay().await.unwrap();
    until_health(&router, replica.name(), HealthState::Healthy).await;
}

#[tokio::test]
async fn several_servers_behind_one_address_are_noticed() {
    let cluster = support::cluster(2).await;
    let [_, one, other] = cluster.nodes() else { panic!("as many as asked for") };
    let balancer = Proxy::start(port(&one.url())).await;
    let url = format!("{}?sslmode=disable", balancer.url(&one.url()));
    let builder = Router::builder()
        .primary(NodeConfig::new(cluster.primary().url()).name("primary"))
        .replica(NodeConfig::new(url).name("balanced"))
        .probe_interval(Duration::from_millis(5));
    let router = support::ready(builder).await;
    assert_eq!(status(&router, "balanced").limitations, []);
    balancer.lead_new_to(port(&other.url()));
    let noticed = || status(&router, "balanced").limitations == [Limitation::SeveralServers];
    until("it is noticed", noticed).await;
    until("one has been the only one for a while", || !noticed()).await;
    assert_eq!(status(&router, "balanced").health, HealthState::Healthy);
}

/// An address that always leads to the primary, as a proxy's or a cloud's writer endpoint does: whoever moves it has no entry to change.
#[tokio::test]
async fn an_address_that_moves_to_the_new_primary_takes_the_writes_along() {
    let cluster = support::cluster(1).await;
    let [primary, replica] = cluster.nodes() else { panic!("as many as asked for") };
    let moving = Proxy::start(port(&primary.url())).await;
    let builder = Router::builder()
        .primary(NodeConfig::new(moving.url(&primary.url())).name("writer"))
        .replica(NodeConfig::new(replica.url()).name("reader"));
    let router = support::ready(builder).await;
    let write = async || {
        let mut conn = router.write().await.map_err(|error| error.to_string())?;
        let row = diesel::insert_into(notes::table).values(notes::body.eq("more"));
        row.execute(&mut conn).await.map_err(|error| error.to_string())
    };
    assert_eq!(write().await, Ok(1));
    primary.kill().await.unwrap();
    moving.lead_to(port(&replica.url()));
    replica.promote().await.unwrap();
    moving.heal();
    support::until_async("writes go on", async || write().await.is_ok()).await;
    // Both names lead to it now.
    until("one of the two stands for the server", || {
        let nodes = router.status().nodes;
        nodes.iter().filter(|node| node.serves_writes).count() == 1
    })
    .await;
    let mut conn = router.read().await.unwrap();
    assert!(notes::table.count().get_result::<i64>(&mut conn).await.unwrap() >= 2);
    let on_new = replica.sql("SELECT count(*)::text FROM notes WHERE body = 'more'").await.unwrap().unwrap();
    assert!(on_new.parse::<u32>().unwrap() >= 1);
}
