//! The end of a pool: retired, drained, cut.

use super::*;
use diesel_async::SimpleAsyncConnection;
use futures_util::StreamExt;
use futures_util::future::join_all;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

fn is_drained(pool: &Pool) -> bool {
    pool.drained().now_or_never().is_some()
}

#[tokio::test]
async fn a_retired_pool_closes_what_is_idle_at_once_and_what_is_out_on_return() {
    let cluster = cluster(0).await;
    let primary = cluster.primary();
    let (pool, traffic) = pool(&primary.url(), Access::ReadWrite, 4);
    let mut held = checkout(&pool).await;
    drop(join_all((0..3).map(|_| checkout(&pool))).await);
    assert_eq!(sessions(primary, "true").await, "4");

    pool.close();
    until_sessions(primary, "true", "1").await;
    assert!(pool.try_checkout().is_none());
    assert!(matches!(try_checkout(&pool).await, Err(CheckoutError::Closed)));
    pid(&mut held).await;
    assert!(!is_drained(&pool));

    std::thread::spawn(move || drop(held)).join().unwrap();
    assert!(is_drained(&pool));
    until_sessions(primary, "true", "0").await;
    assert_eq!(traffic.tally().failed, 0);
    assert!(!traffic.take_suspicion());
}

#[tokio::test]
async fn whoever_waits_is_told_that_the_pool_was_retired() {
    let cluster = cluster(0).await;
    let (pool, _) = pool(&cluster.primary().url(), Access::ReadOnly, 1);
    let held = checkout(&pool).await;
    let waiting = join_all((0..3).map(|_| try_checkout(&pool)));
    let closing = async {
        tokio::task::yield_now().await;
        pool.close();
    };
    let (answers, ()) = timeout(SECOND, async { tokio::join!(waiting, closing) }).await.unwrap();
    assert!(answers.iter().all(|answer| matches!(answer, Err(CheckoutError::Closed))), "{answers:?}");
    drop(held);
}

/// What waits for an answer of the server's own is dropped as well.
#[tokio::test]
async fn a_dial_ends_with_its_pool() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("postgres://app@{}/app", listener.local_addr().unwrap());
    let policy = PoolPolicy { size: 1, connect_timeout: 2 * PATIENCE, common: false };
    let (pool, traffic) = pool_with(&url, Access::ReadOnly, policy);
    let answering = async {
        let (mut server, _) = listener.accept().await.unwrap();
        pool.close();
        server.read_to_end(&mut vec![]).await.unwrap();
    };
    let both = async { tokio::join!(try_checkout(&pool), answering) };
    let (answer, ()) = timeout(PATIENCE, both).await.unwrap();
    assert!(matches!(answer, Err(CheckoutError::Closed)), "{answer:?}");
    assert!(is_drained(&pool));
    assert_eq!(traffic.tally().failed, 0);
}

#[tokio::test]
async fn a_connection_that_has_to_settle_is_out_until_it_has() {
    let cluster = cluster(0).await;
    let primary = cluster.primary();
    let (pool, _) = pool(&primary.url(), Access::ReadWrite, 1);
    let mut held = checkout(&pool).await;
    tokio::select! {
        _ = diesel::select(pg_sleep(120.0)).execute(&mut held) => panic!("it sleeps for two minutes"),
        () = until_sessions(primary, SLEEPS, "1") => {}
    }
    pool.close();
    drop(held);
    assert!(!is_drained(&pool), "it is not idle yet");
    timeout(5 * SECOND, pool.drained()).await.unwrap();
    until_sessions(primary, "true", "0").await;
}

/// Wherever a checkout, a dial or a return happens to be when its pool is closed, nothing of it is left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_left_of_a_pool_that_was_retired_under_load() {
    let cluster = cluster(0).await;
    let primary = cluster.primary();
    for round in 0..40 {
        let (pool, _) = pool(&primary.url(), Access::ReadOnly, 3);
        let tasks = (0..6).map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move {
                while let Ok(mut lease) = try_checkout(&pool).await {
                    pid(&mut lease).await;
                }
            })
        });
        let tasks: Vec<_> = tasks.collect();
        // From "before the first dial" to "in full swing".
        tokio::time::sleep(Duration::from_micros(round * 150)).await;
        pool.close();
        timeout(5 * SECOND, pool.drained()).await.unwrap();
        for task in tasks {
            timeout(5 * SECOND, task).await.unwrap().unwrap();
        }
        // The pool is still there: nothing is closed merely because it is dropped.
        until_sessions(primary, "true", "0").await;
    }
}

#[tokio::test]
async fn a_cut_ends_every_call_at_once_here_and_on_the_server() {
    let cluster = cluster(0).await;
    let primary = cluster.primary();
    let (pool, traffic) = pool(&primary.url(), Access::ReadWrite, 5);
    let [mut sleeping, mut streaming, mut open, mut quiet] =
        [checkout(&pool).await, checkout(&pool).await, checkout(&pool).await, checkout(&pool).await];
    drop(checkout(&pool).await);
    open.batch_execute("BEGIN; LOCK TABLE notes").await.unwrap();
    // More than the server can send without anybody taking it.
    let series = "SELECT repeat('x', 1000) AS body, i AS id FROM generate_series(1, 1000000) AS i";
    let mut rows = diesel::sql_query(series).load_stream::<Note>(&mut streaming).await.unwrap();
    rows.next().await.unwrap().unwrap();
    let sleep = diesel::select(pg_sleep(120.0)).execute(&mut sleeping);

    let cutting = async {
        until_sessions(primary, SLEEPS, "1").await;
        assert_eq!(pool.cut(), 4, "an idle one is not cut but closed");
        assert_eq!(pool.cut(), 0, "nothing is left to cut");
    };
    let (slept, ()) = timeout(PATIENCE, async { tokio::join!(sleep, cutting) }).await.unwrap();
    slept.unwrap_err();
    // What had arrived is still handed over, then comes the end.
    timeout(SECOND, async { while rows.next().await.unwrap().is_ok() {} }).await.unwrap();
    drop(rows);
    for lease in [&mut sleeping, &mut streaming, &mut open, &mut quiet] {
        let next = diesel::select(pg_backend_pid()).get_result::<i32>(lease);
        timeout(SECOND, next).await.unwrap().unwrap_err();
    }
    until_sessions(primary, "true", "0").await;
    assert!(!is_drained(&pool), "the handles are still out");
    drop([sleeping, streaming, open, quiet]);
    timeout(SECOND, pool.drained()).await.unwrap();
    assert_eq!(traffic.tally().failed, 0, "it was not the node");
    assert!(!traffic.take_suspicion());
}

#[derive(diesel::QueryableByName)]
struct Note {
    #[diesel(sql_type = diesel::sql_types::Text)]
    #[expect(dead_code, reason = "it is there to be large")]
    body: String,
}
