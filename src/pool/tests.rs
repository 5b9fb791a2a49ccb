//! Pools against real servers.

mod closing;
mod gate;
mod idle;
mod outcomes;
#[cfg(unix)]
mod socket;

use super::*;
use crate::failure::Cause;
use diesel_async::RunQueryDsl;
use pg_cluster::{Cluster, Node};
use tokio::time::{Instant, timeout};

diesel::define_sql_function! {
    fn pg_sleep(seconds: diesel::sql_types::Double) -> diesel::sql_types::Bool;
}

diesel::define_sql_function! {
    fn pg_backend_pid() -> diesel::sql_types::Integer;
}

diesel::table! {
    notes (id) {
        id -> Integer,
        body -> Text,
    }
}

const SECOND: Duration = Duration::from_secs(1);

/// How long a condition may take to come true on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

async fn cluster(replicas: usize) -> Cluster {
    let cluster = Cluster::builder().replicas(replicas).start().await.unwrap();
    let primary = cluster.primary();
    primary.sql("CREATE TABLE notes (id int PRIMARY KEY, body text NOT NULL)").await.unwrap();
    let written = primary.position().await.unwrap().lsn;
    for replica in cluster.replicas() {
        cluster.wait_replayed(replica, written).await.unwrap();
    }
    cluster
}

fn pool(url: &str, access: Access, size: u32) -> (Pool, Arc<Traffic>) {
    pool_with(url, access, PoolPolicy { size, connect_timeout: SECOND, common: false })
}

fn pool_with(url: &str, access: Access, policy: PoolPolicy) -> (Pool, Arc<Traffic>) {
    let traffic = Arc::<Traffic>::default();
    let endpoint = Endpoint::parse(url).unwrap();
    (Pool::new("node".into(), endpoint, access, policy, Arc::clone(&traffic)), traffic)
}

async fn try_checkout(pool: &Pool) -> Result<Lease, CheckoutError> {
    pool.checkout(Limits { deadline: Instant::now() + PATIENCE, dial: 5 * SECOND }).await
}

async fn checkout(pool: &Pool) -> Lease {
    try_checkout(pool).await.unwrap()
}

/// Why the last call on the connection ended with this error.
fn cause(lease: &Lease, error: &diesel::result::Error) -> Cause {
    use diesel::result::{DatabaseErrorKind::Unknown, Error::DatabaseError};
    match (error, lease.heard()) {
        (DatabaseError(Unknown, _), Some(heard)) => heard,
        _ => Cause::of(error),
    }
}

async fn pid(lease: &mut Lease) -> i32 {
    diesel::select(pg_backend_pid()).get_result(lease).await.unwrap()
}

/// How many sessions of pools the server has, of which `which` is true.
async fn sessions(node: &Node, which: &str) -> String {
    let sql = format!(
        "SELECT count(*)::text FROM pg_stat_activity WHERE application_name = 'diesel-replicas' AND {which}"
    );
    node.sql(&sql).await.unwrap().unwrap()
}

async fn until_sessions(node: &Node, which: &str, count: &str) {
    let counted = async {
        while sessions(node, which).await != count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, counted).await.unwrap_or_else(|_| panic!("waited in vain for {count} where {which}"));
}

const SLEEPS: &str = "state = 'active' AND query LIKE '%pg_sleep%'";
