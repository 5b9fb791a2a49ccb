//! The testing aid, on a real server.

mod freshness;
mod isolation;
mod service;
mod transactions;

use crate::support::{self, notes};
use diesel::prelude::*;
use diesel_async::AsyncPgConnection;
use diesel_replicas::testing::TestDatabase;
use diesel_replicas::{Reader, Router, RunQueryDsl};
use pg_cluster::Cluster;

async fn begin() -> (Cluster, TestDatabase) {
    let cluster = support::cluster(0).await;
    let database = TestDatabase::begin(cluster.primary().url()).await.unwrap();
    (cluster, database)
}

async fn bodies(conn: &mut Reader) -> QueryResult<Vec<String>> {
    notes::table.select(notes::body).order(notes::id).load(conn).await
}

/// What a replica shows.
async fn shown(router: &Router) -> Vec<String> {
    let mut conn = router.read().await.unwrap();
    assert_eq!(conn.node(), "replica-1");
    bodies(&mut conn).await.unwrap()
}

async fn add(router: &Router, body: &str) {
    let mut conn = router.write().await.unwrap();
    insert(&mut conn, body).await.unwrap();
}

async fn insert(conn: &mut AsyncPgConnection, body: &str) -> QueryResult<usize> {
    diesel::insert_into(notes::table).values(notes::body.eq(body)).execute(conn).await
}

/// What is in the database for everybody else.
async fn committed(cluster: &Cluster) -> String {
    let sql = "SELECT string_agg(body, ',' ORDER BY id) FROM notes";
    cluster.primary().sql(sql).await.unwrap().unwrap()
}

/// Sessions of test databases that the server still has.
async fn sessions(cluster: &Cluster) -> String {
    let sql = "SELECT count(*)::text FROM pg_stat_activity WHERE application_name = 'diesel-replicas test'";
    cluster.primary().sql(sql).await.unwrap().unwrap()
}
