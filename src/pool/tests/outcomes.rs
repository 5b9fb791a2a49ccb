//! What real traffic shows of a node.

use super::*;
use crate::traffic::Tally;
use diesel::prelude::{ExpressionMethods, QueryDsl};
use diesel::result::{DatabaseErrorKind, Error, QueryResult};
use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};
use futures_util::StreamExt;
use futures_util::future::{join_all, join3};
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::net::TcpListener;

/// What was counted since `before`: answers and failures.
fn counted(traffic: &Traffic, before: Tally) -> (u64, u64) {
    let now = traffic.tally();
    (now.answered - before.answered, now.failed - before.failed)
}

async fn insert(lease: &mut AsyncPgConnection, id: i32) -> QueryResult<usize> {
    diesel::insert_into(notes::table).values((notes::id.eq(id), notes::body.eq("a"))).execute(lease).await
}

async fn insert_returning(lease: &mut AsyncPgConnection, id: i32) -> QueryResult<i32> {
    let row = (notes::id.eq(id), notes::body.eq("a"));
    diesel::insert_into(notes::table).values(row).returning(notes::id).get_result(lease).await
}

#[tokio::test]
async fn the_callers_own_errors_are_answers() {
    let cluster = cluster(0).await;
    let (pool, traffic) = pool(&cluster.primary().url(), Access::ReadWrite, 1);
    let mut lease = checkout(&pool).await;
    let before = traffic.tally();
    insert(&mut lease, 1).await.unwrap();
    assert!(matches!(
        insert(&mut lease, 1).await,
        Err(Error::DatabaseError(DatabaseErrorKind::UniqueViolation, _))
    ));
    insert_returning(&mut lease, 1).await.unwrap_err();
    let nobody = notes::table.find(7).select(notes::body).first::<String>(&mut lease).await;
    assert!(matches!(nobody, Err(Error::NotFound)));
    lease.batch_execute("SELECT 1/0").await.unwrap_err();
    lease.batch_execute("SET statement_timeout = '5ms'").await.unwrap();
    let slow = diesel::select(pg_sleep(60.0)).execute(&mut lease).await.unwrap_err();
    assert_eq!(cause(&lease, &slow), Cause::Caller);
    assert_eq!(counted(&traffic, before), (7, 0));

    // None of these was sent.
    let before = traffic.tally();
    let unsendable = lease.batch_execute("SELECT '\0'").await.unwrap_err();
    assert_eq!(cause(&lease, &unsendable), Cause::Caller, "{unsendable:?}");
    diesel::sql_query("SELECT '\0'").execute(&mut lease).await.unwrap_err();
    assert_eq!(counted(&traffic, before), (0, 0));
    assert!(!traffic.take_suspicion());
}

#[tokio::test]
async fn transactions_and_streams_are_counted_call_by_call() {
    let cluster = cluster(0).await;
    let (pool, traffic) = pool(&cluster.primary().url(), Access::ReadWrite, 1);
    let mut lease = checkout(&pool).await;
    let before = traffic.tally();
    lease.transaction(async |conn| insert(conn, 1).await).await.unwrap();
    assert_eq!(counted(&traffic, before), (3, 0), "BEGIN, INSERT, COMMIT");
    let mut rows = notes::table.select(notes::id).load_stream::<i32>(&mut lease).await.unwrap();
    assert_eq!(rows.next().await.unwrap().unwrap(), 1);
    assert_eq!(counted(&traffic, before), (4, 0));
}

#[tokio::test]
async fn what_was_cancelled_or_never_let_in_counts_for_nothing() {
    let cluster = cluster(0).await;
    let (pool, traffic) = pool(&cluster.primary().url(), Access::ReadOnly, 1);
    let mut lease = checkout(&pool).await;
    let sleep = diesel::select(pg_sleep(120.0)).execute(&mut lease);
    tokio::select! {
        _ = sleep => panic!("it sleeps for two minutes"),
        () = until_sessions(cluster.primary(), SLEEPS, "1") => {}
    }
    let deadline = Instant::now() + Duration::from_millis(50);
    let full = pool.checkout(Limits { deadline, dial: SECOND }).await;
    assert!(matches!(full, Err(CheckoutError::Exhausted)), "{full:?}");
    drop(lease);
    let mut lease = checkout(&pool).await;
    assert_eq!(traffic.tally(), Tally::default());
    assert!(!traffic.take_suspicion());
    pid(&mut lease).await;
    assert_eq!(counted(&traffic, Tally::default()), (1, 0));
}

/// Whichever thread is first to know.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_killed_in_mid_query_fails_once_for_each_connection() {
    let cluster = cluster(0).await;
    let primary = cluster.primary();
    for _ in 0..3 {
        let (pool, traffic) = pool(&primary.url(), Access::ReadOnly, 3);
        let leases = join_all((0..3).map(|_| checkout(&pool))).await;
        let sleeping = join_all(leases.iter().map(async |lease| {
            let sleep = || diesel::select(pg_sleep(120.0));
            let (first, second, third) = join3(
                sleep().execute(&mut &**lease),
                sleep().get_result::<bool>(&mut &**lease),
                sleep().load::<bool>(&mut &**lease),
            )
            .await;
            [first.unwrap_err(), second.unwrap_err(), third.unwrap_err()].map(|error| cause(lease, &error))
        }));
        let killing = async {
            until_sessions(primary, SLEEPS, "3").await;
            primary.kill().await.unwrap();
        };
        let (causes, ()) = tokio::join!(sleeping, killing);
        assert_eq!(causes, [[Cause::Node; 3]; 3]);
        let Tally { answered, failed, failed_in_a_row } = traffic.tally();
        assert_eq!((answered, failed, failed_in_a_row), (0, 3, 3));
        assert!(traffic.take_suspicion());
        primary.start().await.unwrap();
    }
}

/// The server says that it shuts down in place of the first row, which to Diesel is the beginning of an answer.
#[tokio::test]
async fn a_node_that_is_stopped_in_mid_query_fails() {
    let cluster = cluster(0).await;
    let primary = cluster.primary();
    let (pool, traffic) = pool(&primary.url(), Access::ReadOnly, 1);
    let mut lease = checkout(&pool).await;
    let sleep = |seconds| diesel::select(pg_sleep(seconds).is_null());
    sleep(0.0).get_result::<bool>(&mut lease).await.unwrap();
    let before = traffic.tally();
    let sleeping = sleep(120.0).get_result::<bool>(&mut lease);
    let stopping = async {
        until_sessions(primary, SLEEPS, "1").await;
        primary.stop_fast().await.unwrap();
    };
    let (slept, ()) = tokio::join!(sleeping, stopping);
    assert_eq!(Cause::of(&slept.unwrap_err()), Cause::Node);
    assert_eq!(counted(&traffic, before), (0, 1));

    // A call on what is left of the connection is no news.
    let late = sleep(0.0).execute(&mut lease).await.unwrap_err();
    assert_eq!(cause(&lease, &late), Cause::Node);
    assert_eq!(counted(&traffic, before), (0, 1));
    drop(lease);

    let refused = try_checkout(&pool).await;
    assert!(matches!(refused, Err(CheckoutError::Unreachable(_))), "{refused:?}");
    assert_eq!(counted(&traffic, before), (0, 2));
}

#[tokio::test]
async fn a_result_that_is_cut_off_is_a_failure_although_its_call_was_answered() {
    let cluster = cluster(0).await;
    let primary = cluster.primary();
    let (pool, traffic) = pool(&primary.url(), Access::ReadOnly, 1);
    let mut lease = checkout(&pool).await;
    let series = "SELECT i AS id FROM generate_series(1, 2000000) AS i";
    let mut rows = diesel::sql_query(series).load_stream::<Number>(&mut lease).await.unwrap();
    assert_eq!(rows.next().await.unwrap().unwrap().id, 1);
    assert_eq!(counted(&traffic, Tally::default()), (1, 0));
    primary.kill().await.unwrap();
    timeout(PATIENCE, async { while rows.next().await.unwrap().is_ok() {} }).await.unwrap();
    assert_eq!(counted(&traffic, Tally::default()), (1, 1));
}

#[derive(diesel::QueryableByName)]
struct Number {
    #[diesel(sql_type = diesel::sql_types::Integer)]
    id: i32,
}

#[tokio::test]
async fn an_idle_connection_that_ends_makes_its_node_suspect() {
    let cluster = cluster(0).await;
    let primary = cluster.primary();
    let (pool, traffic) = pool(&primary.url(), Access::ReadOnly, 1);
    drop(checkout(&pool).await);
    primary.kill().await.unwrap();
    let suspected = async {
        while !traffic.take_suspicion() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, suspected).await.unwrap();
    assert_eq!(traffic.tally(), Tally::default());
}

/// The server speaks another language; its codes are what they are.
#[tokio::test]
async fn causes_are_known_in_every_language() {
    let cluster = cluster(0).await;
    let (pool, traffic) = pool(&cluster.primary().url(), Access::ReadOnly, 1);
    let mut lease = checkout(&pool).await;
    for (code, expected, counts) in [
        ("57P01", Cause::Node, (0, 1)),
        ("58030", Cause::Node, (0, 1)),
        ("57014", Cause::Caller, (1, 0)),
        ("53300", Cause::Caller, (1, 0)),
        ("40001", Cause::RecoveryConflict, (1, 0)),
    ] {
        let raise = format!("DO $$ BEGIN RAISE EXCEPTION 'misslungen' USING ERRCODE = '{code}'; END $$");
        let before = traffic.tally();
        let error = lease.batch_execute(&raise).await.unwrap_err();
        assert_eq!((cause(&lease, &error), counted(&traffic, before)), (expected, counts), "{code}");
    }
    // What was said of one call says nothing of the next.
    let raise = "DO $$ BEGIN RAISE EXCEPTION 'the database system is a joke'; END $$";
    let error = lease.batch_execute(raise).await.unwrap_err();
    assert_eq!((Cause::of(&error), cause(&lease, &error)), (Cause::Node, Cause::Caller));
}

#[tokio::test]
async fn a_connection_whose_plans_have_expired_gets_no_other_user() {
    let cluster = cluster(0).await;
    let primary = cluster.primary();
    let (pool, traffic) = pool(&primary.url(), Access::ReadOnly, 1);
    let read = async |lease: &mut Lease| notes::table.select(notes::body).load::<String>(lease).await;
    let mut lease = checkout(&pool).await;
    read(&mut lease).await.unwrap();
    primary.sql("ALTER TABLE notes ALTER COLUMN body TYPE varchar").await.unwrap();
    for _ in 0..2 {
        let expired = read(&mut lease).await.unwrap_err();
        assert_eq!((Cause::of(&expired), cause(&lease, &expired)), (Cause::StalePlan, Cause::StalePlan));
    }
    drop(lease);
    read(&mut checkout(&pool).await).await.unwrap();
    assert_eq!(counted(&traffic, Tally::default()), (4, 0));
}

#[tokio::test]
async fn a_write_pool_that_meets_a_standby_suspects_it_and_keeps_no_connection() {
    let cluster = cluster(1).await;
    let url = cluster.replica(0).url();
    let (writes, traffic) = pool(&url, Access::ReadWrite, 1);
    for (returning, instrumented) in [(false, true), (true, true), (true, false)] {
        let mut lease = checkout(&writes).await;
        if !instrumented {
            lease.set_instrumentation(|_: diesel::connection::InstrumentationEvent<'_>| {});
        }
        let first = pid(&mut lease).await;
        let refused = match returning {
            true => insert_returning(&mut lease, 1).await.map(|_| ()),
            false => insert(&mut lease, 1).await.map(|_| ()),
        };
        assert_eq!(cause(&lease, &refused.unwrap_err()), Cause::ReadOnly);
        assert!(traffic.take_suspicion());
        drop(lease);
        assert_ne!(pid(&mut checkout(&writes).await).await, first);
    }
    assert_eq!(traffic.tally().failed, 0);

    let (reads, traffic) = pool(&url, Access::ReadOnly, 1);
    let mut lease = checkout(&reads).await;
    let first = pid(&mut lease).await;
    let refused = insert(&mut lease, 1).await.unwrap_err();
    assert_eq!(cause(&lease, &refused), Cause::ReadOnly);
    drop(lease);
    assert_eq!(pid(&mut checkout(&reads).await).await, first);
    assert!(!traffic.take_suspicion(), "the caller should not have written");
}

#[tokio::test]
async fn a_dial_that_fails_counts_once_whoever_waits_for_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("postgres://app@{}/app", listener.local_addr().unwrap());
    let dials = Arc::new(AtomicU64::new(0));
    let accepted = Arc::clone(&dials);
    let server = tokio::spawn(async move {
        loop {
            drop(listener.accept().await.unwrap());
            accepted.fetch_add(1, Ordering::Relaxed);
        }
    });
    let (pool, traffic) = pool(&url, Access::ReadOnly, 2);
    let answers = join_all((0..16).map(|_| try_checkout(&pool))).await;
    assert!(answers.iter().all(|answer| matches!(answer, Err(CheckoutError::Unreachable(_)))), "{answers:?}");
    // A dial may be on its way yet that nobody waits for any more.
    let dialed = || AtomicU64::load(&dials, Ordering::Relaxed);
    let counted = async {
        while traffic.tally().failed < dialed() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, counted).await.expect("each counts");
    assert_eq!(traffic.tally().failed, dialed());
    assert!(traffic.take_suspicion());
    server.abort();
}

#[tokio::test]
async fn a_dial_that_gets_no_answer_fails_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("postgres://app@{}/app", listener.local_addr().unwrap());
    let (pool, traffic) = pool(&url, Access::ReadOnly, 1);
    let answer = pool.checkout(Limits { deadline: Instant::now(), dial: SECOND }).await;
    assert!(matches!(answer, Err(CheckoutError::Silent)), "{answer:?}");
    assert_eq!(traffic.tally().failed, 0, "the dial goes on");
    let answer = try_checkout(&pool).await;
    assert!(matches!(answer, Err(CheckoutError::Unreachable(_))), "{answer:?}");
    assert_eq!(traffic.tally().failed, 1);
}

#[tokio::test]
async fn a_node_that_is_full_is_not_sick_but_one_that_refuses_us_is() {
    let cluster = cluster(0).await;
    let primary = cluster.primary();
    primary.sql("CREATE ROLE crowded LOGIN CONNECTION LIMIT 0; CREATE ROLE barred NOLOGIN").await.unwrap();
    let url = primary.url();
    for (url, code, failed) in [
        (url.replace("postgres@", "crowded@"), "53300", 0),
        (url.replace("postgres@", "barred@"), "28000", 1),
        (format!("{}/nowhere", url.rsplit_once('/').unwrap().0), "3D000", 1),
    ] {
        let (pool, traffic) = pool(&url, Access::ReadOnly, 1);
        let refused = try_checkout(&pool).await;
        let Err(CheckoutError::Unreachable(cause)) = &refused else { panic!("{url}: {refused:?}") };
        assert!(format!("{cause:?}").contains(code), "{url}: {cause:?}");
        assert_eq!((traffic.tally().failed, traffic.take_suspicion()), (failed, failed == 1), "{url}");
    }
}
