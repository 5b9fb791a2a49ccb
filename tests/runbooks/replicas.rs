//! Replicas that are added and removed, that lag, and that are down.

use crate::scene::Scene;
use crate::until;
use pg_cluster::Node;
use std::time::Duration;
use tokio_postgres::{Client, NoTls};

pub async fn added(scene: &mut Scene) {
    for section in ["Look", "Make it", "Tell the service", "Over when"] {
        scene.run(section).await;
    }
    scene.serves_reads("db-4").await;
}

pub async fn removed(scene: &mut Scene) {
    scene.run("Look").await;
    scene.run("Take it out of the service").await;
    assert!(scene.service().nodes().await.iter().all(|node| node["name"] != "db-2"));
    scene.run("Stop it").await;
    scene.run("Over when").await;
    scene.serves_reads("db-3").await;
    assert!(scene.server("REPLICA").sql("SELECT 1").await.is_err(), "it is stopped");
}

pub async fn lags(scene: &mut Scene) {
    let replica = scene.server("REPLICA").clone();

    replica.pause_replay().await.unwrap();
    scene.until("db-2", "health", "lagging").await;
    scene.run("Look").await;
    scene.run("Replay is paused").await;

    let query = hold_replay_back(scene, &replica).await;
    scene.until("db-2", "health", "lagging").await;
    scene.run("A query holds replay back").await;
    until("the query is ended", async || query.is_closed()).await;

    replica.cut_receiver().await.unwrap();
    scene.until("db-2", "health", "lagging").await;
    scene.run("It receives no log").await;

    replica.apply_delay(Duration::from_secs(3600)).await.unwrap();
    scene.until("db-2", "health", "lagging").await;
    scene.run("It applies late on purpose").await;

    scene.run("Over when").await;
    scene.serves_reads("db-2").await;
}

/// Reads a table in a transaction that stays open, and has the primary lock the table.
async fn hold_replay_back(scene: &Scene, replica: &Node) -> Client {
    let primary = scene.server("PRIMARY");
    primary.sql("CREATE TABLE held ()").await.unwrap();
    let lsn = primary.position().await.unwrap().lsn;
    scene.cluster().wait_replayed(replica, lsn).await.unwrap();
    let (client, connection) = tokio_postgres::connect(&replica.url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute("BEGIN; SELECT FROM held").await.unwrap();
    primary.sql("ALTER TABLE held ADD COLUMN id int").await.unwrap();
    client
}

pub async fn down(scene: &mut Scene) {
    let replica = scene.server("REPLICA").clone();
    replica.kill().await.unwrap();
    scene.until("db-2", "health", "unreachable").await;
    scene.run("Look").await;
    scene.run("Start it").await;
    scene.serves_reads("db-2").await;

    // No server starts from that.
    let data = scene.stage.variable("REPLICA_PGDATA").to_owned();
    let stop = format!("pg_ctl -D '{data}' -m immediate -w stop && rm '{data}/global/pg_control'");
    scene.shell().run("the damage", &stop).await;
    scene.until("db-2", "health", "unreachable").await;
    scene.run("Make it anew").await;
    scene.run("Over when").await;
    scene.serves_reads("db-2").await;
}
