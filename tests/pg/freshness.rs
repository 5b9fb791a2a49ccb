//! Reads that see what was just written, on real replicas that are held back and let go.

mod commits;
mod sessions;

use crate::proxy::{Proxy, port};
use crate::support::{self, notes, status, until, until_async};
use diesel::prelude::*;
use diesel_async::{AsyncConnection, SimpleAsyncConnection};
use diesel_replicas::{
    CausalToken, Error, Fallback, InvalidToken, NodeConfig, ReadConn, Reader, Router, RouterBuilder,
    RunQueryDsl,
};
use pg_cluster::Cluster;
use std::time::{Duration, Instant};

const SECOND: Duration = Duration::from_secs(1);

/// A router that does not mind how far its replicas are behind.
fn patient(cluster: &Cluster) -> RouterBuilder {
    support::builder(cluster).lag_threshold(600 * SECOND).probe_interval(SECOND / 4)
}

async fn add(router: &Router, body: &str) -> CausalToken {
    let adding = router.with_write(async |conn| {
        diesel::insert_into(notes::table).values(notes::body.eq(body)).execute(conn).await
    });
    let (added, token) = adding.await.unwrap();
    assert_eq!(added, 1);
    token
}

async fn has(conn: &mut Reader, body: &str) -> bool {
    diesel::select(diesel::dsl::exists(notes::table.filter(notes::body.eq(body))))
        .get_result(conn)
        .await
        .unwrap()
}

async fn position(cluster: &Cluster) -> u64 {
    cluster.primary().position().await.unwrap().lsn.into()
}

#[tokio::test]
async fn a_commit_s_token_names_the_cluster_the_timeline_and_a_position_past_it() {
    let cluster = support::cluster(1).await;
    let router = support::router(&cluster).await;
    let before = position(&cluster).await;
    let token = add(&router, "new").await;
    let after = position(&cluster).await;
    let system =
        cluster.primary().sql("SELECT system_identifier::text FROM pg_control_system()").await.unwrap();
    assert_eq!(token.system().map(|system| system.to_string()), system);
    assert_eq!(token.timeline(), Some(1));
    let lsn = token.lsn().unwrap().get();
    assert!(before < lsn && lsn <= after, "{before} {lsn} {after}");

    let mut conn = router.write().await.unwrap();
    diesel::insert_into(notes::table).values(notes::body.eq("newer")).execute(&mut conn).await.unwrap();
    let newer = conn.causal_token().await.unwrap();
    assert!(newer > token);
    assert_eq!(newer.lsn().unwrap().get(), position(&cluster).await);
}

#[tokio::test]
async fn a_read_after_a_token_is_served_by_a_replica_that_has_it() {
    let cluster = support::cluster(2).await;
    let router = support::router(&cluster).await;
    for i in 0..200 {
        let body = format!("note {i}");
        let token = add(&router, &body).await;
        let mut conn = router.read().after(&token).await.unwrap();
        assert!(has(&mut conn, &body).await, "{} lacks {body}", conn.node());
    }
    let (primary, first, second) = (
        status(&router, cluster.primary().name()).reads,
        status(&router, cluster.replica(0).name()).reads,
        status(&router, cluster.replica(1).name()).reads,
    );
    println!("reads after a token: {first} and {second} on replicas, {primary} on the primary");
    // On a busy machine some wait in vain.
    assert!(first > 40 && second > 40, "{first} {second} {primary}");
}

/// One read costs one turn, also where a connection has yet to be opened: else every second replica would never get one.
#[tokio::test]
async fn reads_after_a_token_take_turns_from_the_first_one_on() {
    let cluster = support::cluster(2).await;
    let token = add(&support::router(&cluster).await, "note").await;
    let written = cluster.primary().position().await.unwrap().lsn;
    for replica in cluster.replicas() {
        cluster.wait_replayed(replica, written).await.unwrap();
    }
    // Another router, which knows from its first probes on that both have it, and has no connection to read with.
    let router = support::ready(support::builder(&cluster).slow_start(Duration::ZERO)).await;
    let node = async |conn: &mut ReadConn<_>| Ok::<_, Error>(conn.node().to_owned());
    let mut served = Vec::new();
    for _ in 0..10 {
        served.push(router.read().after(&token).await.unwrap().node().to_owned());
        served.push(router.read().after(&token).run(node).await.unwrap());
    }
    for replica in cluster.replicas() {
        let reads = served.iter().filter(|node| *node == replica.name()).count();
        // On a busy machine one may not be shown in time that a new connection leads to where the replica was asked.
        assert!((8..=12).contains(&reads), "{served:?}");
    }
}

#[tokio::test]
async fn a_replica_that_lacks_the_commit_is_passed_over() {
    let cluster = support::cluster(2).await;
    let router = support::ready(patient(&cluster).causal_wait(20 * SECOND)).await;
    cluster.replica(0).pause_replay().await.unwrap();
    for i in 0..20 {
        let body = format!("note {i}");
        let token = add(&router, &body).await;
        cluster
            .wait_replayed(cluster.replica(1), cluster.primary().position().await.unwrap().lsn)
            .await
            .unwrap();
        let mut conn = router.read().after(&token).await.unwrap();
        assert_eq!(conn.node(), cluster.replica(1).name());
        assert!(has(&mut conn, &body).await);
    }
    let mut stale = 0;
    for _ in 0..2 {
        let mut conn = router.read().await.unwrap();
        stale += usize::from(!has(&mut conn, "note 0").await);
    }
    assert_eq!(stale, 1, "without a token the other one serves as well");
}

#[tokio::test]
async fn where_no_replica_gets_there_in_time_the_primary_serves() {
    let cluster = support::cluster(1).await;
    let router = support::ready(patient(&cluster).causal_wait(SECOND / 5)).await;
    let long = support::ready(patient(&cluster).causal_wait(20 * SECOND)).await;
    cluster.replica(0).pause_replay().await.unwrap();
    let token = add(&router, "new").await;
    let started = Instant::now();
    let mut conn = router.read().after(&token).await.unwrap();
    assert_eq!(conn.node(), cluster.primary().name());
    assert!(has(&mut conn, "new").await);
    assert!(started.elapsed() >= SECOND / 5, "{:?}", started.elapsed());

    let reading = long.read().after(&token);
    let resuming = async {
        // Beside the monitors of both routers, and what the first one asked with.
        let asking = "SELECT (count(*) > 0)::text FROM pg_stat_activity WHERE query LIKE '%pg_last_wal_replay_lsn%' \
                      AND application_name = 'diesel-replicas monitor' AND pid <> pg_backend_pid() HAVING count(*) > 3";
        until_async("the replica is asked", async || cluster.replica(0).sql(asking).await.unwrap().is_some())
            .await;
        cluster.replica(0).resume_replay().await.unwrap();
    };
    let (conn, ()) = tokio::join!(reading, resuming);
    assert_eq!(conn.unwrap().node(), cluster.replica(0).name(), "it serves as soon as it has got there");
}

#[tokio::test]
async fn a_policy_that_keeps_reads_off_the_primary_holds_for_tokens_as_well() {
    let cluster = support::cluster(1).await;
    for policy in [Fallback::Fail, Fallback::LeastLagged] {
        let router = support::ready(patient(&cluster).causal_wait(SECOND / 20).fallback(policy)).await;
        cluster.replica(0).pause_replay().await.unwrap();
        let token = add(&router, "new").await;
        let error = router.read().after(&token).await.unwrap_err();
        assert!(matches!(error, Error::NotFreshEnough { .. }) && error.is_unavailable(), "{error}");
        let conn = router.read().latest().await.unwrap();
        assert_eq!(conn.node(), cluster.primary().name(), "it asks for the primary");
        cluster.replica(0).resume_replay().await.unwrap();
        until_async("the replica has it", async || router.read().after(&token).await.is_ok()).await;
    }
}

#[tokio::test]
async fn the_latest_data_is_on_the_primary_and_read_only() {
    let cluster = support::cluster(1).await;
    let router = support::ready(patient(&cluster)).await;
    cluster.replica(0).pause_replay().await.unwrap();
    add(&router, "new").await;
    let mut conn = router.read().latest().await.unwrap();
    assert_eq!(conn.node(), cluster.primary().name());
    assert!(has(&mut conn, "new").await);
    let on: String =
        diesel::select(current_setting("transaction_read_only")).get_result(&mut conn).await.unwrap();
    assert_eq!(on, "on");
}

diesel::define_sql_function! {
    fn current_setting(name: diesel::sql_types::Text) -> diesel::sql_types::Text;
}

#[tokio::test]
async fn the_age_of_data_is_bounded_at_the_moment_of_the_pick() {
    let cluster = support::cluster(1).await;
    let router = support::ready(patient(&cluster).probe_interval(SECOND / 10)).await;
    let replica = cluster.replica(0).name();
    let mut conn = router.read().max_staleness(5 * SECOND).await.unwrap();
    assert_eq!(conn.node(), replica);

    cluster.replica(0).pause_replay().await.unwrap();
    let paused = Instant::now();
    add(&router, "new").await;
    // It is in service all the while.
    let longest = SECOND;
    let served_by = async || router.read().max_staleness(longest).await.unwrap().node().to_owned();
    until_async("the primary serves", async || served_by().await == cluster.primary().name()).await;
    let took = paused.elapsed();
    assert!(took < longest + SECOND / 2, "{took:?}");
    assert_eq!(router.read().await.unwrap().node(), replica);

    cluster.replica(0).resume_replay().await.unwrap();
    until_async("the replica serves", async || served_by().await == replica).await;
    drop(conn);
    conn = router.read().max_staleness(Duration::ZERO).await.unwrap();
    assert_eq!(conn.node(), cluster.primary().name(), "nothing but the primary is that fresh");
}

#[tokio::test]
async fn data_younger_than_the_last_probe_is_asked_for() {
    let cluster = support::cluster(1).await;
    let router = support::ready(support::blind(support::builder(&cluster))).await;
    let (mut on_replica, longest) = (0, SECOND / 20);
    for i in 0..20 {
        let body = format!("note {i}");
        add(&router, &body).await;
        tokio::time::sleep(longest).await;
        let mut conn = router.read().max_staleness(longest).await.unwrap();
        assert!(has(&mut conn, &body).await, "{}", conn.node());
        on_replica += usize::from(conn.node() == cluster.replica(0).name());
    }
    assert!(on_replica > 10, "{on_replica}");
    cluster.replica(0).pause_replay().await.unwrap();
    add(&router, "new").await;
    let started = Instant::now();
    let conn = router.read().max_staleness(SECOND / 5).await.unwrap();
    assert_eq!(conn.node(), cluster.primary().name());
    assert!(started.elapsed() < SECOND, "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_replica_that_has_begun_anew_is_not_taken_for_the_one_that_was_seen() {
    let cluster = support::cluster(1).await;
    let replica = cluster.replica(0);
    let router = support::ready(support::blind(support::builder(&cluster))).await;
    let token = add(&router, "new").await;
    until_async("the replica serves", async || {
        router.read().after(&token).await.unwrap().node() == replica.name()
    })
    .await;
    // After a restart it waits with all that it had not flushed, and serves meanwhile.
    replica.apply_delay(3600 * SECOND).await.unwrap();
    replica.kill().await.unwrap();
    replica.start().await.unwrap();
    let is_there = "SELECT count(*)::text FROM pg_tables WHERE tablename = 'notes'";
    assert_eq!(replica.sql(is_there).await.unwrap().as_deref(), Some("0"), "it has begun before the table");
    for _ in 0..3 {
        let mut conn = router.read().after(&token).await.unwrap();
        assert!(has(&mut conn, "new").await);
    }
}

#[tokio::test]
async fn a_token_that_has_no_place_here_is_told_apart_at_once() {
    let cluster = support::cluster(1).await;
    let router = support::ready(patient(&cluster).causal_wait(20 * SECOND)).await;
    let token = add(&router, "new").await;
    let with = |system: u64, timeline: u32, lsn: u64| -> CausalToken {
        format!("1-{system:016x}-{timeline:08x}-{lsn:016x}").parse().unwrap()
    };
    let (system, lsn) = (token.system().unwrap(), token.lsn().unwrap().get());
    let before = status(&router, cluster.primary().name()).reads;
    for (token, expected) in [
        (with(system ^ 1, 1, lsn), "OtherCluster"),
        (with(system, 2, lsn), "NewerTimeline { timeline: 2 }"),
        (with(system, 1, lsn + (1 << 40)), "Ahead"),
    ] {
        let started = Instant::now();
        let error = router.read().after(&token).await.unwrap_err();
        let Error::InvalidToken(why) = error else { panic!("{error}") };
        assert_eq!(format!("{why:?}"), expected);
        assert!(started.elapsed() < 2 * SECOND, "{why:?}: {:?}", started.elapsed());
        assert_eq!(Error::from(why).is_unavailable(), matches!(why, InvalidToken::NewerTimeline { .. }));
    }
    assert_eq!(status(&router, cluster.primary().name()).reads, before, "the primary is spared");
}

#[tokio::test]
async fn a_token_outlives_a_promotion() {
    let cluster = support::cluster(2).await;
    let [primary, promoted, other] = cluster.nodes() else { panic!("as many as asked for") };
    let router = support::ready(patient(&cluster)).await;
    let old = add(&router, "old").await;
    for replica in cluster.replicas() {
        cluster.wait_replayed(replica, primary.position().await.unwrap().lsn).await.unwrap();
    }
    primary.kill().await.unwrap();
    promoted.promote().await.unwrap();
    other.follow(promoted).await.unwrap();
    until("writes go to the new primary", || status(&router, promoted.name()).serves_writes).await;
    let new = add(&router, "new").await;
    assert_eq!((old.timeline(), new.timeline()), (Some(1), Some(2)));
    assert!(new > old);
    for (token, body) in [(&old, "old"), (&new, "new")] {
        let mut conn = router.read().after(token).await.unwrap();
        assert!(has(&mut conn, body).await, "{}", conn.node());
    }
    // A log that is lost is waited for by nobody.
    let lost: CausalToken =
        format!("1-{:016x}-00000001-{:016x}", old.system().unwrap(), u64::MAX - 1).parse().unwrap();
    until_async("a replica serves a token of what was lost", async || {
        router.read().after(&lost).await.unwrap().node() == other.name()
    })
    .await;
}

#[tokio::test]
async fn there_is_no_token_before_the_commit() {
    let cluster = support::cluster(0).await;
    let router = support::router(&cluster).await;
    let mut conn = router.write().await.unwrap();
    conn.batch_execute("BEGIN").await.unwrap();
    conn.causal_token().await.unwrap();
    diesel::insert_into(notes::table).values(notes::body.eq("new")).execute(&mut conn).await.unwrap();
    let error = conn.causal_token().await.unwrap_err();
    assert!(error.to_string().contains("once it has been committed"), "{error}");
    conn.batch_execute("COMMIT").await.unwrap();
    conn.causal_token().await.unwrap();
}

#[tokio::test]
async fn commits_that_nobody_waits_for_are_covered_too() {
    let cluster = support::cluster(1).await;
    let router = support::ready(patient(&cluster).causal_wait(20 * SECOND)).await;
    for (i, set) in
        ["SET LOCAL synchronous_commit = off", "SET synchronous_commit = off"].into_iter().enumerate()
    {
        for round in 0..20 {
            let body = format!("{i} {round}");
            let adding = router.with_write(async |conn| {
                conn.batch_execute(set).await?;
                diesel::insert_into(notes::table).values(notes::body.eq(&body)).execute(conn).await
            });
            let (_, token) = adding.await.unwrap();
            let mut conn = router.read().after(&token).await.unwrap();
            assert!(has(&mut conn, &body).await, "{body} on {}", conn.node());
        }
    }
}

#[tokio::test]
async fn a_session_never_goes_back() {
    let cluster = support::cluster(2).await;
    let router = support::ready(patient(&cluster)).await;
    let session = router.session();
    assert_eq!(session.token().await, None);
    session
        .with_write(async |conn| {
            diesel::insert_into(notes::table).values(notes::body.eq("mine")).execute(conn).await
        })
        .await
        .unwrap();
    let written = session.token().await.unwrap();
    let mine = async |conn: &mut ReadConn<_>| Ok::<_, diesel::result::Error>(has(conn, "mine").await);
    assert!(session.with_read(mine).await.unwrap());

    // What others write, and this session happens to see, stays.
    cluster.replica(0).pause_replay().await.unwrap();
    add(&router, "theirs").await;
    let theirs = cluster.primary().position().await.unwrap().lsn;
    cluster.wait_replayed(cluster.replica(1), theirs).await.unwrap();
    let mut seen = false;
    for _ in 0..20 {
        let mut conn = session.read().await.unwrap();
        let now = has(&mut conn, "theirs").await;
        assert!(now || !seen, "{} went back", conn.node());
        seen |= now;
    }
    assert!(seen);
    assert!(session.token().await.unwrap() > written);

    // A plain handle for writing counts as well.
    let mut conn = session.write().await.unwrap();
    diesel::insert_into(notes::table).values(notes::body.eq("also mine")).execute(&mut conn).await.unwrap();
    drop(conn);
    let mut conn = session.read().await.unwrap();
    assert!(has(&mut conn, "also mine").await);

    let other = router.session();
    other.observe(session.token().await.unwrap());
    let mut conn = other.read().await.unwrap();
    assert!(has(&mut conn, "also mine").await, "it goes on elsewhere");
}

#[tokio::test]
async fn a_transaction_without_writes_has_a_token_too() {
    let cluster = support::cluster(1).await;
    let router = support::router(&cluster).await;
    let first = add(&router, "new").await;
    let (count, token) = router
        .with_write(async |conn| {
            conn.transaction(async |conn| notes::table.count().get_result::<i64>(conn).await).await
        })
        .await
        .unwrap();
    assert_eq!(count, 2);
    assert!(token >= first);
}

#[tokio::test]
async fn without_replicas_the_primary_serves_every_token() {
    let cluster = support::cluster(1).await;
    let router =
        patient(&cluster).read_replicas_enabled(false).fallback(Fallback::Fail).build().await.unwrap();
    let token = add(&router, "new").await;
    let mut conn = router.read().after(&token).await.unwrap();
    assert!(has(&mut conn, "new").await);
    assert_eq!(conn.node(), cluster.primary().name());
}

#[tokio::test]
async fn a_commit_that_nobody_waited_for_is_not_taken_for_a_forgery() {
    let builder = Cluster::builder().replicas(1).setting("wal_writer_delay", "10s");
    let cluster = support::with_notes(builder).await;
    let builder = patient(&cluster).causal_wait(Duration::from_millis(5));
    let router = support::ready(builder.probe_interval(Duration::from_millis(1))).await;
    cluster.replica(0).pause_replay().await.unwrap();
    let mut forged = 0;
    for round in 0..400 {
        let body = format!("{round}");
        let adding = router.with_write(async |conn| {
            conn.batch_execute("SET LOCAL synchronous_commit = off").await?;
            diesel::insert_into(notes::table).values(notes::body.eq(&body)).execute(conn).await
        });
        let (_, token) = adding.await.unwrap();
        forged += usize::from(router.read().after(&token).await.is_err());
    }
    assert_eq!(forged, 0, "of 400");
}

/// A token of the primary's timeline, without a position.
fn without_position(token: &CausalToken) -> CausalToken {
    let text = format!("1-{:016x}-00000001-ffffffffffffffff", token.system().unwrap());
    let token: CausalToken = text.parse().unwrap();
    assert_eq!(token.lsn(), None);
    token
}

#[tokio::test]
async fn a_last_resort_is_not_as_new_as_a_commit_of_unknown_position() {
    let cluster = support::cluster(1).await;
    let replica = cluster.replica(0);
    let builder = support::builder(&cluster).lag_threshold(SECOND / 5).lag_hard_limit(600 * SECOND);
    let router = support::ready(builder.fallback(Fallback::LeastLagged)).await;
    replica.pause_replay().await.unwrap();
    let token = add(&router, "new").await;
    let _writing = support::keep_writing(&router);
    support::until_health(&router, replica.name(), diesel_replicas::HealthState::Lagging).await;
    assert_eq!(router.read().await.unwrap().node(), replica.name());
    match router.read().after(&without_position(&token)).await {
        Ok(mut conn) => assert!(has(&mut conn, "new").await, "{} lacks it", conn.node()),
        Err(error) => assert!(matches!(error, Error::NotFreshEnough { .. }), "{error}"),
    }
}

#[tokio::test]
async fn nobody_waits_for_data_that_no_replica_can_be_shown_to_have() {
    let cluster = support::cluster(1).await;
    let router = support::ready(patient(&cluster).causal_wait(3 * SECOND)).await;
    let token = add(&router, "new").await;
    until_async("the replica has it", async || {
        router.read().after(&token).await.unwrap().node() == cluster.replica(0).name()
    })
    .await;
    let started = Instant::now();
    let conn = router.read().max_staleness(Duration::ZERO).after(&token).await.unwrap();
    assert_eq!(conn.node(), cluster.primary().name());
    assert!(started.elapsed() < SECOND, "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_commit_of_unknown_position_is_read_on_a_replica() {
    let cluster = support::cluster(1).await;
    let replica = cluster.replica(0);
    let router = support::ready(patient(&cluster).causal_wait(20 * SECOND)).await;
    let token = without_position(&add(&router, "new").await);
    let before = status(&router, cluster.primary().name()).reads;
    for _ in 0..20 {
        let mut conn = router.read().after(&token).await.unwrap();
        assert!(has(&mut conn, "new").await);
    }
    let on_primary = status(&router, cluster.primary().name()).reads - before;
    assert!(on_primary == 0, "{on_primary} of 20 on the primary, instead of {}", replica.name());
}

#[tokio::test]
async fn the_only_replica_serves_a_read_after_a_token_again_when_it_was_lost() {
    let cluster = support::cluster(1).await;
    let replica = cluster.replica(0);
    for policy in [Fallback::Fail, Fallback::LeastLagged, Fallback::Primary] {
        let router = support::ready(patient(&cluster).fallback(policy)).await;
        let token = add(&router, "new").await;
        until_async("the replica has it", async || router.read().after(&token).await.is_ok()).await;
        let runs = std::sync::atomic::AtomicUsize::new(0);
        let reading = router.read().after(&token).run(async |conn| {
            if runs.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0 {
                let sql = "SELECT pg_terminate_backend(pid)::text FROM pg_stat_activity \
                           WHERE application_name = 'diesel-replicas' AND pid <> pg_backend_pid()";
                replica.sql(sql).await.unwrap();
            }
            let there = diesel::dsl::exists(notes::table.filter(notes::body.eq("new")));
            let there: bool = diesel::select(there).get_result(conn).await?;
            QueryResult::Ok(there)
        });
        assert_eq!(reading.await.map_err(|error| error.to_string()), Ok(true), "{policy:?}");
    }
}

#[tokio::test]
async fn a_connection_to_the_server_that_an_address_led_to_before_is_not_taken_for_one_to_the_next() {
    let cluster = support::cluster(2).await;
    let [primary, old, new] = cluster.nodes() else { panic!("as many as asked for") };
    let proxy = Proxy::start(port(&old.url())).await;
    let builder = Router::builder()
        .primary(NodeConfig::new(primary.url()).name("primary"))
        .replica(NodeConfig::new(proxy.url(&old.url())).name("moved"))
        .lag_threshold(600 * SECOND)
        .causal_wait(20 * SECOND);
    let router = support::ready(builder).await;
    let token = add(&router, "first").await;
    assert!(has(&mut router.read().after(&token).await.unwrap(), "first").await);

    old.pause_replay().await.unwrap();
    proxy.lead_new_to(port(&new.url()));
    let monitors = "application_name = 'diesel-replicas monitor' AND pid <> pg_backend_pid()";
    let end = format!("SELECT pg_terminate_backend(pid)::text FROM pg_stat_activity WHERE {monitors}");
    old.sql(&end).await.unwrap();
    let count = format!("SELECT count(*)::text FROM pg_stat_activity WHERE {monitors}");
    until_async("the monitor is at the new one", async || {
        new.sql(&count).await.unwrap().as_deref() != Some("0")
    })
    .await;
    for i in 0..10 {
        let body = format!("note {i}");
        let token = add(&router, &body).await;
        cluster.wait_replayed(new, primary.position().await.unwrap().lsn).await.unwrap();
        let mut conn = router.read().after(&token).await.unwrap();
        assert!(has(&mut conn, &body).await, "{} lacks {body}", conn.node());
    }
}
