//! Handles of one test among each other, and tests among each other.

use super::{add, begin, bodies, committed, insert, sessions, shown};
use crate::support::{self, notes};
use diesel::prelude::*;
use diesel::result::Error;
use diesel::sql_types::Integer;
use diesel_async::AsyncConnection;
use diesel_replicas::testing::TestDatabase;
use diesel_replicas::{AssertReadOnlyDsl, RunQueryDsl};
use std::time::{Duration, Instant};
use tokio::time::timeout;

#[tokio::test]
async fn handles_that_are_out_are_in_nobodys_way() {
    let (_cluster, database) = begin().await;
    let router = database.router();
    let mut reading = router.read().await.unwrap();
    assert_eq!(bodies(&mut reading).await.unwrap(), ["first"]);
    let mut writing = router.write().await.unwrap();
    insert(&mut writing, "second").await.unwrap();
    let (one, other, third) = tokio::join!(shown(&router), shown(&router), bodies(&mut reading));
    assert_eq!(one, ["first", "second"]);
    assert_eq!((&one, &one), (&other, &third.unwrap()));
    let pipelined = tokio::try_join!(
        notes::table.count().get_result::<i64>(&mut reading.pipeline()),
        notes::table.count().get_result::<i64>(&mut reading.pipeline()),
    );
    assert_eq!(pipelined, Ok((2, 2)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn transactions_of_several_handles_take_turns() {
    let (_cluster, database) = begin().await;
    let router = database.router();
    let write = async |body: &'static str| {
        let mut conn = router.write().await.unwrap();
        conn.transaction(async |conn| {
            let before = bodies(conn).await?.len();
            insert(conn, body).await?;
            assert_eq!(bodies(conn).await?.len(), before + 1);
            QueryResult::Ok(())
        })
        .await
    };
    let results = tokio::join!(write("a"), write("b"), write("c"), write("d"));
    assert_eq!(results, (Ok(()), Ok(()), Ok(()), Ok(())));
    assert_eq!(shown(&router).await.len(), 5);
}

#[tokio::test]
async fn waiting_inside_of_a_transaction_for_another_handle_is_an_error_that_says_so() {
    let (_cluster, database) = begin().await;
    let router = database.router();
    let started = Instant::now();
    let mut conn = router.write().await.unwrap();
    let result = conn.transaction(async |conn| {
        insert(conn, "gone").await?;
        bodies(&mut router.read().await.unwrap()).await
    });
    let error = result.await.unwrap_err().to_string();
    let says = ["share one session", "a write handle of `primary` began it", "ran `INSERT` in it"];
    assert!(says.iter().all(|part| error.contains(part)), "{error}");
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    assert_eq!(shown(&router).await, ["first"]);
    let paused = conn.transaction(async |conn| {
        insert(conn, "gone").await?;
        database.pause_replay().await.map_err(|error| Error::QueryBuilderError(error.into()))
    });
    let error = paused.await.unwrap_err().to_string();
    assert!(error.starts_with("replay was not paused: all handles"), "{error}");
}

#[tokio::test]
async fn work_that_is_dropped_is_undone_and_the_rest_goes_on() {
    let (cluster, database) = begin().await;
    let router = database.router();
    add(&router, "kept").await;
    let started = Instant::now();
    let moment = Duration::from_millis(100);
    let asleep = async {
        let mut conn = router.read().await.unwrap();
        diesel::sql_query("SELECT pg_sleep(600)").assert_read_only().execute(&mut conn).await
    };
    assert!(timeout(moment, asleep).await.is_err());
    assert_eq!(shown(&router).await, ["first", "kept"]);
    let asleep = router.with_write(async |conn| {
        insert(conn, "gone").await?;
        diesel::sql_query("SELECT pg_sleep(600)").execute(conn).await
    });
    assert!(timeout(moment, asleep).await.is_err());
    add(&router, "more").await;
    let idle = router.with_write(async |conn| {
        insert(conn, "gone").await?;
        std::future::pending::<QueryResult<()>>().await
    });
    assert!(timeout(moment, idle).await.is_err());
    assert_eq!(shown(&router).await, ["first", "kept", "more"]);
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    assert_eq!(committed(&cluster).await, "first");
    database.rollback().await.unwrap();
}

#[tokio::test]
async fn tests_on_one_database_do_not_see_each_other() {
    let (cluster, one) = begin().await;
    let other = TestDatabase::begin(cluster.primary().url()).await.unwrap();
    let (router, other_router) = (one.router(), other.router());
    tokio::join!(add(&router, "one"), add(&other_router, "other"));
    assert_eq!(shown(&router).await, ["first", "one"]);
    assert_eq!(shown(&other_router).await, ["first", "other"]);
    one.rollback().await.unwrap();
    assert_eq!(shown(&other_router).await, ["first", "other"]);
    other.rollback().await.unwrap();
    assert_eq!(committed(&cluster).await, "first");
}

#[tokio::test]
async fn a_test_that_panics_leaves_nothing_behind() {
    let cluster = support::cluster(0).await;
    let url = cluster.primary().url();
    let panicked = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let database = TestDatabase::begin(url).await.unwrap();
            add(&database.router(), "gone").await;
            let mut conn = database.router().write().await.unwrap();
            let _: QueryResult<()> = conn
                .transaction(async |conn| {
                    insert(conn, "gone too").await?;
                    panic!("as a failed assertion does")
                })
                .await;
        });
    });
    assert!(panicked.join().is_err());
    support::until_async("the sessions are gone", async || sessions(&cluster).await == "0").await;
    assert_eq!(committed(&cluster).await, "first");
}

#[tokio::test]
async fn a_database_that_is_dropped_leaves_nothing_behind() {
    let (cluster, database) = begin().await;
    let router = database.router();
    add(&router, "gone").await;
    drop(database);
    support::until_async("the sessions are gone", async || sessions(&cluster).await == "0").await;
    assert_eq!(committed(&cluster).await, "first");
}

#[tokio::test]
async fn a_session_that_is_lost_is_told_at_the_end() {
    let (cluster, database) = begin().await;
    let router = database.router();
    add(&router, "gone").await;
    let end = "SELECT count(pg_terminate_backend(pid))::text FROM pg_stat_activity WHERE state = 'idle in transaction'";
    assert_eq!(cluster.primary().sql(end).await.unwrap().as_deref(), Some("1"));
    let mut conn = router.write().await.unwrap();
    diesel::select(1.into_sql::<Integer>()).execute(&mut conn).await.unwrap_err();
    let error = database.rollback().await.unwrap_err().to_string();
    assert!(error.contains("was lost"), "{error}");
}

#[tokio::test]
async fn what_is_wrong_with_a_database_is_told_without_its_password() {
    let cluster = support::cluster(0).await;
    let url = cluster.primary().url();
    let other = url.rsplit_once('/').unwrap().0.to_owned() + "/no_such_database";
    for (url, says) in [
        (other.as_str(), "no_such_database"),
        ("postgres://app:hunter2@127.0.0.1:1/chat", "refused"),
        ("postgres://app:hunter2@/chat", "it names no host"),
    ] {
        let error = TestDatabase::begin(url).await.unwrap_err().to_string();
        assert!(error.starts_with("the test database did not begin: "), "{error}");
        assert!(error.contains(says) && !error.contains("hunter2"), "{error}");
    }
}
