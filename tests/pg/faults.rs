//! What happens to a service when something goes wrong with its database: `docs/faults.md` lists it all.
//!
//! Each test says what is expected, breaks something, and heals it again: the router must then be as it was before, by itself.

mod access;
mod lag;
mod lost;
mod network;
mod queries;
mod roles;

use crate::support::{self, PATIENCE, notes, status, until, until_health};
use diesel::prelude::*;
use diesel_replicas::{Error, HealthState, NodeConfig, Retry, Role, Router, RouterBuilder, RunQueryDsl};
use pg_cluster::{Cluster, Node};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio::time::timeout;

const SECOND: Duration = Duration::from_secs(1);

/// What a call of the service may come to.
#[derive(Debug)]
enum Failure {
    Router(Error),
    Query(diesel::result::Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Router(error)
    }
}

impl From<diesel::result::Error> for Failure {
    fn from(error: diesel::result::Error) -> Self {
        Self::Query(error)
    }
}

impl Retry for Failure {
    fn is_retryable(&self) -> bool {
        match self {
            Self::Router(error) => error.is_retryable(),
            Self::Query(error) => error.is_retryable(),
        }
    }
}

/// Reads as services should, and says who served it.
async fn read(router: &Router) -> Result<String, Failure> {
    let reading = router.with_read(async |conn| {
        notes::table.count().get_result::<i64>(conn).await?;
        Ok(conn.node().to_owned())
    });
    in_time(reading).await
}

/// Writes a row, and says who took it.
async fn write(router: &Router) -> Result<String, Failure> {
    let writing = async {
        let mut conn = router.write().await?;
        diesel::insert_into(notes::table).values(notes::body.eq("more")).execute(&mut conn).await?;
        Ok(conn.node().to_owned())
    };
    in_time(writing).await
}

/// No call waits longer than this for anything: its deadline, and what a busy machine adds.
async fn in_time<T>(call: impl Future<Output = T>) -> T {
    timeout(PATIENCE / 2, call).await.expect("no call hangs")
}

/// Reads that many times, none of which may fail, and counts who served.
async fn served(router: &Router, reads: usize) -> BTreeMap<String, usize> {
    let mut served = BTreeMap::new();
    for _ in 0..reads {
        *served.entry(read(router).await.unwrap()).or_default() += 1;
    }
    served
}

/// That many reads all go to this node.
async fn only(router: &Router, node: &str) {
    assert_eq!(served(router, 12).await, BTreeMap::from([(node.to_owned(), 12)]));
}

/// Waits until everything is as it should be: every node healthy, all replicas serving, writes taken by this node, and no
/// connection kept by anything that is over.
async fn is_well(router: &Router, cluster: &Cluster, primary: &str) {
    until("every node is healthy", || {
        router.status().nodes.iter().all(|node| node.health == HealthState::Healthy)
    })
    .await;
    let replicas: Vec<_> =
        router.status().nodes.into_iter().filter(|node| node.role == Role::Replica).collect();
    for replica in &replicas {
        let started = Instant::now();
        while read(router).await.unwrap() != replica.name {
            assert!(started.elapsed() < PATIENCE, "{} never serves", replica.name);
        }
    }
    assert_eq!(write(router).await.unwrap(), primary);
    is_idle(router, cluster).await;
}

/// Waits until nothing is out, and nothing is left behind on the nodes.
async fn is_idle(router: &Router, cluster: &Cluster) {
    until("no handle is out", || router.status().nodes.iter().all(|node| node.in_flight == 0)).await;
    for node in cluster.nodes() {
        support::until_quiet(node).await;
    }
}

/// The cluster's nodes as they are reached through URLs of one's own.
fn builder(cluster: &Cluster, url: impl Fn(&Node) -> String) -> RouterBuilder {
    let node = |node: &Node| NodeConfig::new(url(node)).name(node.name());
    let builder = Router::builder().primary(node(cluster.primary()));
    cluster.replicas().iter().fold(builder, |builder, replica| builder.replica(node(replica)))
}

/// The health and the reason, as text, that the router gives for a node.
fn said(router: &Router, node: &str) -> (HealthState, String) {
    let status = status(router, node);
    (status.health, status.reason.to_string())
}

/// The URL for another role, with this password.
fn login(url: &str, role: &str, password: &str) -> String {
    url.replace("//postgres@", &format!("//{role}:{password}@"))
}

/// Waits until the node is out, and says why.
async fn until_lost(router: &Router, node: &str) -> String {
    until_health(router, node, HealthState::Unreachable).await;
    status(router, node).reason.to_string()
}
