//! What is allocated where nobody listens to spans. Whether somebody does is kept for the whole process: no test here does.

#![allow(clippy::unwrap_used, unreachable_pub, reason = "a test that cannot go on says where by panicking")]

use diesel::prelude::*;
use diesel_async::{AsyncConnection, AsyncPgConnection};
use diesel_replicas::{HealthState, Router, RunQueryDsl};
use futures_util::FutureExt;
use pg_cluster::Cluster;
use std::time::Duration;
use tokio::time::{sleep, timeout};

async fn router(cluster: &Cluster) -> Router {
    let builder = Router::builder().primary(cluster.primary().url()).replica(cluster.replica(0).url());
    let router = builder.build().await.unwrap();
    let healthy = async {
        while router.status().nodes.iter().any(|node| node.health != HealthState::Healthy) {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(Duration::from_secs(20), healthy).await.unwrap();
    router
}

#[tokio::test]
async fn where_nobody_listens_a_read_allocates_nothing() {
    let cluster = Cluster::builder().replicas(1).start().await.unwrap();
    let router = router(&cluster).await;
    let reads = || {
        let read = || drop(router.read().into_future().now_or_never().expect("no wait").unwrap());
        allocation_counter::measure(|| (0..1000).for_each(|_| read())).count_total
    };
    let runs = || {
        let run =
            || router.with_read(async |_| QueryResult::Ok(())).now_or_never().expect("no wait").unwrap();
        allocation_counter::measure(|| (0..1000).for_each(|_| run())).count_total
    };
    // The first one opens the connection.
    drop(router.read().await.unwrap());
    assert_eq!(reads(), 0);
    assert_eq!(runs(), 1000, "the future of each closure");
}

/// Tasks of connections included, which run on the thread that counts.
#[test]
fn a_query_by_the_router_allocates_no_more_than_by_a_bare_connection() {
    const QUERIES: u64 = 100;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let cluster = runtime.block_on(Cluster::builder().replicas(1).start()).unwrap();
    let router = runtime.block_on(router(&cluster));
    let url = cluster.replica(0).url();
    let mut bare = runtime.block_on(AsyncPgConnection::establish(&url)).unwrap();
    let query = || diesel::select(1.into_sql::<diesel::sql_types::Integer>());
    // The least of some counts is one in which nothing else ran, such as the monitor.
    let mut least = [u64::MAX; 2];
    for _ in 0..20 {
        let by_router = allocation_counter::measure(|| {
            runtime.block_on(async {
                for _ in 0..QUERIES {
                    query().get_result::<i32>(&mut router.read().await.unwrap()).await.unwrap();
                }
            });
        });
        let by_bare = allocation_counter::measure(|| {
            runtime.block_on(async {
                for _ in 0..QUERIES {
                    query().get_result::<i32>(&mut bare).await.unwrap();
                }
            });
        });
        least = [least[0].min(by_router.count_total), least[1].min(by_bare.count_total)];
    }
    let [by_router, by_bare] = least;
    // Up to a tenth of one a query may be of something else.
    assert!(by_router <= by_bare + QUERIES / 10 && by_bare > QUERIES, "{by_router}, bare {by_bare}");
}
