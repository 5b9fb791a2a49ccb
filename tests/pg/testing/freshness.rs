//! Replicas that lag when the test says so.

use super::{add, begin, bodies, insert, shown};
use crate::support::{self, notes};
use diesel::prelude::*;
use diesel::sql_types::{Array, Bytea, Date, Double, Jsonb, Nullable, Text, Timestamptz};
use diesel_async::SimpleAsyncConnection;
use diesel_replicas::testing::TestDatabase;
use diesel_replicas::{Error, Fallback, HealthState, Receiver, Role, RunQueryDsl};
use std::time::{Duration, Instant};

#[tokio::test]
async fn a_replica_that_lags_shows_what_there_was_and_a_token_leads_to_the_primary() {
    let (_cluster, database) = begin().await;
    let router = database.router();
    add(&router, "before").await;
    database.pause_replay().await.unwrap();
    let mut writing = router.write().await.unwrap();
    let all =
        "DELETE FROM notes WHERE body = 'first'; UPDATE notes SET body = 'changed' WHERE body = 'before'";
    writing.batch_execute(all).await.unwrap();
    let (_, token) = router.with_write(async |conn| insert(conn, "after").await).await.unwrap();
    assert_eq!(shown(&router).await, ["first", "before"]);

    let mut conn = router.read().after(&token).await.unwrap();
    assert_eq!(conn.node(), "primary");
    assert_eq!(bodies(&mut conn).await.unwrap(), ["changed", "after"]);
    let mut conn = router.read().latest().await.unwrap();
    assert_eq!(bodies(&mut conn).await.unwrap(), ["changed", "after"]);
    assert_eq!(bodies(&mut writing).await.unwrap(), ["changed", "after"]);
    assert_eq!(shown(&router).await, ["first", "before"], "again");

    database.pause_replay().await.unwrap();
    assert_eq!(shown(&router).await, ["changed", "after"], "paused again, later");
    add(&router, "last").await;
    assert_eq!(shown(&router).await, ["changed", "after"]);
    database.resume_replay().await.unwrap();
    let mut conn = router.read().after(&token).await.unwrap();
    assert_eq!(conn.node(), "replica-1");
    assert_eq!(bodies(&mut conn).await.unwrap(), ["changed", "after", "last"]);
    database.rollback().await.unwrap();
}

#[tokio::test]
async fn a_token_of_before_the_pause_is_followed_on_the_replica() {
    let (_cluster, database) = begin().await;
    let router = database.router();
    let (_, token) = router.with_write(async |conn| insert(conn, "before").await).await.unwrap();
    let asked = router.write().await.unwrap().causal_token().await.unwrap();
    database.pause_replay().await.unwrap();
    add(&router, "after").await;
    for token in [token, asked] {
        let mut conn = router.read().after(&token).await.unwrap();
        assert_eq!(conn.node(), "replica-1");
        assert_eq!(bodies(&mut conn).await.unwrap(), ["first", "before"]);
    }
}

#[tokio::test]
async fn a_session_sees_its_own_writes() {
    let (_cluster, database) = begin().await;
    let session = database.router().session();
    database.pause_replay().await.unwrap();
    assert_eq!(session.read().await.unwrap().node(), "replica-1");
    session.with_write(async |conn| insert(conn, "mine").await).await.unwrap();
    let mut conn = session.read().await.unwrap();
    assert_eq!(conn.node(), "primary");
    assert_eq!(bodies(&mut conn).await.unwrap(), ["first", "mine"]);
    drop(conn);
    database.resume_replay().await.unwrap();
    let mut conn = session.read().await.unwrap();
    assert_eq!(conn.node(), "replica-1");
    assert_eq!(bodies(&mut conn).await.unwrap(), ["first", "mine"]);
    drop(conn);
    let started = Instant::now();
    assert_eq!(bodies(&mut session.read().latest().await.unwrap()).await.unwrap(), ["first", "mine"]);
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
}

#[tokio::test]
async fn without_a_fallback_a_token_that_is_not_reached_is_an_error() {
    let cluster = support::cluster(0).await;
    let builder = TestDatabase::builder(cluster.primary().url()).replicas(2);
    let database = builder.router(|router| router.fallback(Fallback::Fail)).begin().await.unwrap();
    let router = database.router();
    database.pause_replay().await.unwrap();
    let (_, token) = router.with_write(async |conn| insert(conn, "after").await).await.unwrap();
    let error = router.read().after(&token).await.unwrap_err();
    assert!(matches!(error, Error::NotFreshEnough { .. }), "{error}");
    let nodes: Vec<_> = router.status().nodes.into_iter().map(|node| node.name).collect();
    assert_eq!(nodes, ["primary", "replica-1", "replica-2"]);
}

#[tokio::test]
async fn staleness_grows_from_the_first_write_that_is_not_replayed() {
    let (_cluster, database) = begin().await;
    let router = database.router();
    let at_most = Duration::from_secs(1);
    database.pause_replay().await.unwrap();
    add(&router, "after").await;
    let router = &router;
    support::until_async("the replica is too old", async || {
        router.read().max_staleness(at_most).await.unwrap().node() == "primary"
    })
    .await;
    assert_eq!(shown(router).await, ["first"], "it serves whoever does not mind");
    let replica = support::status(router, "replica-1");
    assert_eq!((replica.role, replica.health), (Role::Replica, HealthState::Healthy));
    assert_eq!((replica.replay_paused, replica.receiver), (Some(true), Some(Receiver::Streaming)));
    let lag = replica.lag.unwrap();
    assert!(lag.time().unwrap() >= at_most - Duration::from_millis(500), "{lag}");
    assert!(lag.bytes().unwrap().get() > 0, "{lag}");
    database.resume_replay().await.unwrap();
    support::until("the replica has caught up", || {
        let replica = support::status(router, "replica-1");
        replica.replay_paused == Some(false) && replica.lag.unwrap().bytes().unwrap().get() == 0
    })
    .await;
}

#[tokio::test]
async fn a_test_says_how_far_a_replica_that_lacks_something_is_behind() {
    let (_cluster, database) = begin().await;
    let router = database.router();
    let within =
        async |longest: Duration| router.read().max_staleness(longest).await.unwrap().node().to_owned();
    database.pause_replay().await.unwrap();
    add(&router, "after").await;
    let hour = Duration::from_secs(3600);
    assert_eq!(within(hour / 2).await, "replica-1");
    database.lag(hour).await.unwrap();
    let lag = support::status(&router, "replica-1").lag.unwrap();
    assert!(lag.time().is_none_or(|time| time >= hour), "{lag}");
    assert_eq!(within(hour / 2).await, "primary");
    assert_eq!(shown(&router).await, ["first"], "it serves whoever does not mind");
    database.lag(Duration::ZERO).await.unwrap();
    assert_eq!(within(hour / 2).await, "replica-1");
}

#[tokio::test]
async fn a_snapshot_on_a_replica_that_lags_shows_what_there_was() {
    let (_cluster, database) = begin().await;
    let router = database.router();
    add(&router, "before").await;
    database.pause_replay().await.unwrap();
    add(&router, "after").await;
    let mut conn = router.read().await.unwrap();
    let read = conn.snapshot().run(async |conn| {
        let count: i64 = notes::table.count().get_result(conn).await?;
        let two: Vec<i32> = notes::table.select(notes::id).filter(notes::body.ne("first")).load(conn).await?;
        QueryResult::Ok((count, two.len()))
    });
    assert_eq!(read.await.unwrap(), (2, 1));
    let failed = conn.snapshot().run(async |conn| {
        let division = diesel::select(diesel::dsl::sql::<diesel::sql_types::Integer>("1 / 0"));
        let error = division.get_result::<i32>(conn).await.unwrap_err().to_string();
        assert!(error.contains("division by zero"), "{error}");
        notes::table.count().get_result::<i64>(conn).await
    });
    let error = failed.await.unwrap_err().to_string();
    assert!(error.contains("current transaction is aborted"), "{error}");
    assert_eq!(shown(&router).await, ["first", "before"]);
}

#[tokio::test]
async fn a_replica_that_lags_takes_parameters_of_all_kinds() {
    let (_cluster, database) = begin().await;
    let router = database.router();
    router.write().await.unwrap().batch_execute("SET TIME ZONE 'Asia/Kolkata'").await.unwrap();
    database.pause_replay().await.unwrap();
    add(&router, "after").await;
    let mut conn = router.read().await.unwrap();
    macro_rules! same {
        ($sql_type:ty, $rust:ty, $($value:expr),+) => {$(
            let value: $rust = $value;
            let query = diesel::select(value.clone().into_sql::<$sql_type>());
            assert_eq!(query.get_result::<$rust>(&mut conn).await.unwrap(), value);
        )+};
    }
    same!(Text, String, "it's a \\ \"$1\" {,} ü\n".to_owned(), String::new(), "NULL".to_owned());
    same!(Nullable<Text>, Option<String>, None, Some("NULL".to_owned()));
    same!(Array<Text>, Vec<String>, vec!["a,b".to_owned(), "{}".to_owned()], vec![]);
    same!(Double, f64, 0.1 + 0.2, f64::MAX, f64::MIN_POSITIVE, -0.0);
    same!(Bytea, Vec<u8>, vec![0, 255, 92, 39], vec![]);
    same!(Jsonb, serde_json::Value, serde_json::json!({"a": ["$1", null, 1.5]}));
    let time = chrono::DateTime::from_timestamp_micros(1_700_000_000_123_456).unwrap();
    same!(Timestamptz, chrono::DateTime<chrono::Utc>, time);
    same!(Date, chrono::NaiveDate, time.date_naive());
    let some = notes::table.filter(notes::id.eq_any([1, 2, 3])).filter(notes::body.like("f%")).limit(5);
    let mut ids: Vec<i32> = some.select(notes::id).load(&mut conn).await.unwrap();
    assert_eq!(ids, [1]);
    ids = notes::table.select(notes::id).limit(0).load(&mut conn).await.unwrap();
    assert!(ids.is_empty());
}
