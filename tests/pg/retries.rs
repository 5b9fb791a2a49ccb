//! Closures that the router runs, and runs once more when their node is lost.

use crate::support::{self, notes, status, until_async, until_health};
use diesel::prelude::*;
use diesel_replicas::{Error, HealthState, ReadConn, Retry, RetryBudget, Router, RunQueryDsl};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::time::timeout;

diesel::define_sql_function! {
    /// Sleeps on the server.
    fn pg_sleep(seconds: diesel::sql_types::Double) -> diesel::sql_types::Bool;
}

const SECOND: Duration = Duration::from_secs(1);

/// An error type as services have one.
#[derive(Debug)]
enum Failed {
    Query(diesel::result::Error),
    Router(Error),
    Refused,
}

impl From<diesel::result::Error> for Failed {
    fn from(error: diesel::result::Error) -> Self {
        Self::Query(error)
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Router(error)
    }
}

impl Retry for Failed {
    fn is_retryable(&self) -> bool {
        match self {
            Self::Query(error) => error.is_retryable(),
            Self::Router(error) => error.is_retryable(),
            Self::Refused => false,
        }
    }
}

fn count(runs: &AtomicUsize) -> usize {
    // `runs.load(..)` would be this crate's `load`.
    AtomicUsize::load(runs, Ordering::Relaxed)
}

/// Sleeps on the node that it is run on, unless that is the last one; says where it was run in the end.
async fn sleep_but_on(router: &Router, last: &str, runs: &AtomicUsize) -> QueryResult<String> {
    router
        .with_read(async |conn| {
            runs.fetch_add(1, Ordering::Relaxed);
            if conn.node() != last {
                diesel::select(pg_sleep(60.0)).execute(conn).await?;
            }
            Ok(conn.node().to_owned())
        })
        .await
}

#[tokio::test]
async fn a_closure_borrows_runs_in_a_task_and_returns_what_it_found() {
    let cluster = support::cluster(1).await;
    let router = support::router(&cluster).await;
    let wanted = String::from("first");
    let found = tokio::spawn(async move {
        let wanted = &wanted;
        router
            .with_read(async |conn| {
                notes::table.filter(notes::body.eq(wanted)).select(notes::body).load::<String>(conn).await
            })
            .await
    });
    assert_eq!(found.await.unwrap().unwrap(), ["first"]);
}

/// Trait objects as errors are a matter of their own: what is written without care for them compiles until a task runs it.
#[tokio::test]
async fn closures_with_boxed_errors_run_in_a_task() {
    type Boxed = Box<dyn std::error::Error + Send + Sync>;
    let cluster = support::cluster(0).await;
    let router = support::router(&cluster).await;
    let running = tokio::spawn(async move {
        router
            .with_write(async |conn| {
                diesel::insert_into(notes::table).values(notes::body.eq("second")).execute(conn).await?;
                Ok::<_, Boxed>(())
            })
            .await?;
        router
            .with_read(async |conn| {
                let counting = async |conn: &mut ReadConn| {
                    Ok::<_, Boxed>(notes::table.count().get_result::<i64>(conn).await?)
                };
                conn.snapshot().run(counting).await
            })
            .await
    });
    assert_eq!(running.await.unwrap().unwrap(), 2);
}

#[tokio::test]
async fn a_closure_that_hangs_on_a_frozen_node_is_abandoned_and_run_elsewhere() {
    let cluster = support::cluster(1).await;
    let router = support::router(&cluster).await;
    let (replica, primary) = (cluster.replica(0), cluster.primary());
    let runs = AtomicUsize::new(0);
    let running = sleep_but_on(&router, primary.name(), &runs);
    let freezing = async {
        let asleep = "SELECT count(*)::text FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND state = 'active' \
                      AND application_name = 'diesel-replicas'";
        until_async("it runs", async || replica.sql(asleep).await.unwrap().as_deref() == Some("1")).await;
        replica.freeze().await.unwrap();
    };
    let (served_by, ()) = tokio::join!(running, freezing);
    assert_eq!(served_by.unwrap(), primary.name());
    assert_eq!(count(&runs), 2);
    assert_eq!(status(&router, replica.name()).health, HealthState::Unreachable);
    replica.thaw().await.unwrap();
    support::until_quiet(replica).await;
    support::until("no handle is out", || status(&router, replica.name()).in_flight == 0).await;
}

#[tokio::test]
async fn without_a_budget_the_error_says_that_the_node_was_lost() {
    let cluster = support::cluster(1).await;
    let builder = support::builder(&cluster).retry_budget(RetryBudget::none());
    let router = support::ready(builder).await;
    let frozen = cluster.replica(0);
    let runs = AtomicUsize::new(0);
    let running = sleep_but_on(&router, cluster.primary().name(), &runs);
    let freezing = async {
        support::until("it runs", || count(&runs) == 1).await;
        frozen.freeze().await.unwrap();
    };
    let (result, ()) = tokio::join!(running, freezing);
    let error = result.unwrap_err().to_string();
    assert!(error.contains(&format!("`{}` was lost while work was under way", frozen.name())), "{error}");
    frozen.thaw().await.unwrap();
}

#[tokio::test]
async fn errors_of_the_callers_own_are_returned_at_once() {
    let cluster = support::cluster(1).await;
    let router = support::router(&cluster).await;
    let runs = AtomicUsize::new(0);
    let refused = router
        .with_read(async |conn| {
            runs.fetch_add(1, Ordering::Relaxed);
            notes::table.count().get_result::<i64>(conn).await?;
            Err::<(), _>(Failed::Refused)
        })
        .await;
    assert!(matches!(refused, Err(Failed::Refused)), "{refused:?}");
    let missing = router
        .with_read(async |conn| {
            runs.fetch_add(1, Ordering::Relaxed);
            Ok::<_, Failed>(notes::table.filter(notes::id.eq(-1)).first::<(i32, String)>(conn).await?)
        })
        .await;
    assert!(matches!(missing, Err(Failed::Query(diesel::result::Error::NotFound))), "{missing:?}");
    assert_eq!(count(&runs), 2);
}

#[tokio::test]
async fn a_write_is_one_transaction_and_run_once() {
    let cluster = support::cluster(0).await;
    let router = support::router(&cluster).await;
    let insert = async |body: &str, result: Result<(), Failed>| {
        router
            .with_write(async move |conn| {
                diesel::insert_into(notes::table).values(notes::body.eq(body)).execute(conn).await?;
                result
            })
            .await
    };
    insert("kept", Ok(())).await.unwrap();
    assert!(matches!(insert("dropped", Err(Failed::Refused)).await, Err(Failed::Refused)));
    let bodies = router
        .with_read(async |conn| notes::table.select(notes::body).order(notes::id).load::<String>(conn).await);
    assert_eq!(bodies.await.unwrap(), ["first", "kept"]);
}

#[tokio::test]
async fn a_write_on_a_primary_that_freezes_ends() {
    let cluster = support::cluster(0).await;
    let router = support::router(&cluster).await;
    let started = AtomicUsize::new(0);
    let writing = router.with_write(async |conn| {
        started.fetch_add(1, Ordering::Relaxed);
        diesel::select(pg_sleep(60.0)).execute(conn).await?;
        Ok::<_, Failed>(())
    });
    let freezing = async {
        support::until("it runs", || count(&started) == 1).await;
        cluster.primary().freeze().await.unwrap();
    };
    let (result, ()) = timeout(10 * SECOND, async { tokio::join!(writing, freezing) }).await.unwrap();
    assert!(matches!(result, Err(Failed::Router(Error::Lost { .. }))), "{result:?}");
    cluster.primary().thaw().await.unwrap();
    until_health(&router, cluster.primary().name(), HealthState::Healthy).await;
    let started = Instant::now();
    router.with_write(async |_| Ok::<_, Failed>(())).await.unwrap();
    assert!(started.elapsed() < SECOND, "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_write_whose_statement_failed_is_not_taken_for_a_success() {
    let cluster = support::cluster(0).await;
    let router = support::router(&cluster).await;
    let swallowed = router.with_write(async |conn| {
        diesel::insert_into(notes::table).values(notes::body.eq("dropped")).execute(conn).await?;
        let taken = diesel::insert_into(notes::table).values((notes::id.eq(1), notes::body.eq("again")));
        assert!(taken.execute(conn).await.is_err());
        Ok::<_, Failed>(())
    });
    let error = swallowed.await.unwrap_err();
    assert!(matches!(&error, Failed::Query(error) if error.to_string().contains("rolled back")), "{error:?}");
    let mut conn = router.read().await.unwrap();
    let bodies = notes::table.select(notes::body).load::<String>(&mut conn);
    assert_eq!(bodies.await.unwrap(), ["first"]);
}

#[tokio::test]
async fn a_write_under_way_on_a_primary_that_is_deposed_ends() {
    let cluster = support::cluster(1).await;
    let router = support::router(&cluster).await;
    let started = AtomicUsize::new(0);
    let writing = router.with_write(async |conn| {
        diesel::insert_into(notes::table).values(notes::body.eq("dropped")).execute(conn).await?;
        started.fetch_add(1, Ordering::Relaxed);
        std::future::pending::<Result<(), Failed>>().await
    });
    let promoting = async {
        support::until("it runs", || count(&started) == 1).await;
        cluster.replica(0).promote().await.unwrap();
    };
    let (result, ()) = timeout(10 * SECOND, async { tokio::join!(writing, promoting) }).await.unwrap();
    assert!(matches!(result, Err(Failed::Router(Error::Lost { .. }))), "{result:?}");
    support::until_quiet(cluster.primary()).await;
    let rows = cluster.primary().sql("SELECT count(*)::text FROM notes").await.unwrap();
    assert_eq!(rows.as_deref(), Some("1"), "it was rolled back");
}
