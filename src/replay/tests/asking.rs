//! Real nodes.

use super::proxy::{Proxy, Waits};
use super::*;
use tokio_postgres::NoTls;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn any_role_is_told_what_a_standby_has_replayed_and_a_primary_has_written() {
    let cluster = cluster().await;
    let written = note(&cluster).await;
    for node in cluster.nodes() {
        for role in ["postgres", "nobody"] {
            let replay = replay(&node.url().replace("postgres@", &format!("{role}@")));
            let before = Instant::now();
            let position = timeout(PATIENCE, replay.asked_after(before)).await.unwrap();
            let standby = node.name() != "primary";
            assert_eq!(position.in_recovery, standby);
            assert!(position.asked_at > before && position.asked_at < Instant::now());
            assert!(standby || (position.lsn >= written && position.inserted >= position.lsn));
            assert!(!standby || position.inserted == position.lsn);
            assert_eq!(replay.latest(), Some(position));
            let started = "SELECT (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint";
            assert_eq!(node.sql(started).await.unwrap(), Some(position.started.to_string()));
        }
    }
}

#[tokio::test]
async fn a_commit_is_reached_and_then_known() {
    let cluster = cluster().await;
    let replay = replay(&cluster.replica(0).url());
    let started = now(&replay).await.started;
    for _ in 0..20 {
        let written = note(&cluster).await;
        let position = timeout(PATIENCE, replay.reached(written, started)).await.unwrap();
        assert!(position.in_recovery && position.lsn >= written && position.started == started);
        let asked = replay.asked();
        replay.reached(written, started).await;
        assert_eq!(replay.asked(), asked, "what is known is asked no more");
    }
    assert_eq!(sessions(cluster.replica(0), "true").await, "1");
}

#[tokio::test]
async fn whoever_waits_is_answered_by_a_question_that_is_sent_after_it_came() {
    let cluster = cluster().await;
    let replay = replay(&cluster.primary().url());
    now(&replay).await;
    for _ in 0..50 {
        let asked = replay.asked();
        let instant = Instant::now();
        let (one, (later, other)) = tokio::join!(replay.asked_after(instant), async {
            // The question is under way then.
            tokio::task::yield_now().await;
            let later = Instant::now();
            (later, replay.asked_after(later).await)
        });
        assert!(instant < one.asked_at && one.asked_at < later && later < other.asked_at);
        assert_eq!(replay.asked(), asked + 2);
    }
}

#[tokio::test]
async fn what_is_not_replayed_is_not_reached() {
    let cluster = cluster().await;
    let replica = cluster.replica(0);
    let replay = replay(&replica.url());
    let started = now(&replay).await.started;
    replica.pause_replay().await.unwrap();
    let written = note(&cluster).await;
    let mut waiter = waiter(&replay, written, started);
    replay.until_asked(20).await;
    assert!(waiter.try_join_next().is_none() && replay.latest().unwrap().lsn < written);
    replica.resume_replay().await.unwrap();
    assert!(answer(&mut waiter).await.lsn >= written);
}

/// How often a node may have been asked since then: five times at once, after 1, 3, 7 and 15 ms, and then every 10.
fn most(start: Instant) -> usize {
    5 + 4 + (start.elapsed().as_millis() / 10) as usize
}

#[tokio::test]
async fn many_who_wait_share_the_questions() {
    let cluster = cluster().await;
    let replica = cluster.replica(0);
    let replay = replay(&replica.url());
    let started = now(&replay).await.started;
    replica.pause_replay().await.unwrap();
    let written = note(&cluster).await;
    let (start, asked) = (Instant::now(), replay.asked());
    let mut waiters: Vec<_> = (0..32).map(|_| waiter(&replay, written, started)).collect();
    timeout(SECOND, waiters[0].join_next()).await.expect_err("replay is paused");
    let asked = replay.asked() - asked;
    assert!(asked <= most(start), "{asked} in {:?}", start.elapsed());
    replay.until_asked(5).await;
    assert_eq!(sessions(replica, "true").await, "1");

    replica.resume_replay().await.unwrap();
    for waiter in &mut waiters {
        assert!(answer(waiter).await.lsn >= written);
    }
}

#[tokio::test]
async fn a_pause_ends_when_somebody_comes() {
    let cluster = cluster().await;
    let replay = replay(&cluster.replica(0).url());
    let started = now(&replay).await.started;
    // For a server that is not there: nothing that one could wait for by itself.
    let _waiter = waiter(&replay, Lsn::new(1), started + 1);
    let mut delays = vec![];
    for _ in 0..11 {
        // It pauses for 10 ms each time then.
        replay.until_asked(12).await;
        let instant = Instant::now();
        delays.push(replay.asked_after(instant).await.asked_at - instant);
    }
    delays.sort_unstable();
    assert!(delays[5] < Duration::from_millis(2), "{delays:?}");
}

#[tokio::test]
async fn a_node_is_asked_no_more_when_nobody_waits() {
    let cluster = cluster().await;
    let replica = cluster.replica(0);
    let replay = replay(&replica.url());
    let started = now(&replay).await.started;
    replica.pause_replay().await.unwrap();
    let waiter = waiter(&replay, note(&cluster).await, started);
    replay.until_asked(20).await;
    drop(waiter);
    let idle = "state = 'idle' AND state_change < clock_timestamp() - interval '100 ms'";
    until("it is left alone", async || sessions(replica, idle).await == "1").await;
    let asked = replay.asked();
    until("it still is", async || sessions(replica, &idle.replace("100", "500")).await == "1").await;
    assert_eq!(replay.asked(), asked);
    now(&replay).await;
    assert_eq!(replay.asked(), asked + 1, "on the same connection");
    assert_eq!(sessions(replica, "true").await, "1");
}

#[tokio::test]
async fn a_connection_that_nobody_needs_for_a_while_is_closed() {
    let cluster = cluster().await;
    let replica = cluster.replica(0);
    let replay = replay(&replica.url());
    now(&replay).await;
    // Nothing is to come that a jump of the clock could overtake.
    pause();
    sleep(poller::LINGER * 9 / 10).await;
    resume();
    assert_eq!(sessions(replica, "true").await, "1");
    pause();
    sleep(poller::LINGER / 5).await;
    resume();
    until("it is closed", async || sessions(replica, "true").await == "0").await;
    now(&replay).await;
    assert_eq!(sessions(replica, "true").await, "1");
}

#[tokio::test]
async fn dropping_it_closes_its_connection() {
    let cluster = cluster().await;
    let replica = cluster.replica(0);
    for waits in [false, true] {
        let start = Instant::now();
        let replay = replay(&replica.url());
        let started = now(&replay).await.started;
        let waiter = waiter(&replay, Lsn::new(u64::MAX), started);
        if waits {
            replay.until_asked(5).await;
        }
        assert_eq!(sessions(replica, "true").await, "1");
        drop((waiter, replay));
        until("it is closed", async || sessions(replica, "true").await == "0").await;
        assert!(start.elapsed() < poller::LINGER, "not only because nobody needs it");
    }
}

#[tokio::test]
async fn a_server_that_was_restarted_has_not_reached_what_the_old_one_was_to() {
    let cluster = cluster().await;
    let replica = cluster.replica(0);
    let replay = replay(&replica.url());
    let before = now(&replay).await;
    replica.pause_replay().await.unwrap();
    let written = note(&cluster).await;
    let mut waiter = waiter(&replay, written, before.started);
    replay.until_asked(5).await;

    replica.stop_fast().await.unwrap();
    replica.start().await.unwrap();
    let mut after = now(&replay).await;
    assert_ne!(after.started, before.started);
    after = timeout(PATIENCE, replay.reached(written, after.started)).await.unwrap();
    assert!(after.lsn >= written);
    replay.until_asked(5).await;
    assert!(waiter.try_join_next().is_none(), "it is another server");
}

#[tokio::test]
async fn a_node_that_was_killed_answers_when_it_is_back() {
    let cluster = cluster().await;
    let replica = cluster.replica(0);
    let replay = replay(&replica.url());
    let before = now(&replay).await;
    replica.kill().await.unwrap();
    let asking = Arc::clone(&replay);
    let mut waiter = JoinSet::new();
    waiter.spawn(async move { asking.asked_after(Instant::now()).await });
    replay.until_asked(5).await;
    assert!(waiter.try_join_next().is_none());
    replica.start().await.unwrap();
    assert_ne!(answer(&mut waiter).await.started, before.started);
}

#[tokio::test]
async fn a_node_that_was_frozen_answers_when_it_is_thawed() {
    let cluster = cluster().await;
    let replica = cluster.replica(0);
    let replay = replay(&replica.url());
    let started = now(&replay).await.started;
    replica.freeze().await.unwrap();
    let written = note(&cluster).await;
    let mut waiter = waiter(&replay, written, started);
    // On the connection there was, and on another one.
    replay.until_asked(3).await;
    assert!(waiter.try_join_next().is_none());
    replica.thaw().await.unwrap();
    assert!(answer(&mut waiter).await.lsn >= written);
}

#[tokio::test]
async fn a_connection_gone_silent_is_replaced() {
    let cluster = cluster().await;
    let proxy = Proxy::before(cluster.replica(0), Waits::AsDocumented).await;
    let replay = Replay::new(proxy.endpoint.clone());
    now(&replay).await;
    proxy.silence();
    now(&replay).await;
    assert_eq!((proxy.connections(), replay.asked()), (2, 3));
}

#[tokio::test]
async fn a_promoted_standby_has_not_reached_what_it_writes_itself() {
    let cluster = cluster().await;
    let replica = cluster.replica(0);
    let replay = replay(&replica.url());
    let before = now(&replay).await;
    let beyond = Lsn::new(before.lsn.get() + (1 << 20));
    let mut waiter = waiter(&replay, beyond, before.started);
    replay.until_asked(5).await;
    replica.promote().await.unwrap();
    replica.sql("CREATE TABLE many AS SELECT generate_series(1, 50000)").await.unwrap();
    let after = now(&replay).await;
    assert!(!after.in_recovery && after.lsn >= beyond && after.started == before.started);
    replay.until_asked(5).await;
    assert!(waiter.try_join_next().is_none());
}

#[tokio::test]
async fn a_server_that_does_not_tell_is_asked_with_pauses_until_it_does() {
    let cluster = cluster().await;
    let replica = cluster.replica(0);
    let refused = "pg_catalog.pg_last_wal_replay_lsn()";
    let revoked = commit(&cluster, &format!("REVOKE EXECUTE ON FUNCTION {refused} FROM PUBLIC")).await;
    cluster.wait_replayed(replica, revoked.get().into()).await.unwrap();
    let replay = replay(&replica.url().replace("postgres@", "nobody@"));
    let start = Instant::now();
    timeout(SECOND, replay.asked_after(start)).await.expect_err("it may not");
    // 0, 0, 10, 30, 70, 150 and 310 ms after the start, and then every 200.
    let most = 7 + (start.elapsed().as_millis() / 200) as usize;
    assert!(replay.asked() <= most, "{} in {:?}", replay.asked(), start.elapsed());
    commit(&cluster, &format!("GRANT EXECUTE ON FUNCTION {refused} TO PUBLIC")).await;
    assert!(now(&replay).await.in_recovery);
}

#[tokio::test]
async fn a_server_that_can_wait_by_itself_is_told_what_for() {
    let cluster = cluster().await;
    let replica = cluster.replica(0);
    let proxy = Proxy::before(replica, Waits::AsDocumented).await;
    let replay = Arc::new(Replay::new(proxy.endpoint.clone()));
    let started = now(&replay).await.started;
    replica.pause_replay().await.unwrap();
    let (first, second) = (note(&cluster).await, note(&cluster).await);
    let mut later = waiter(&replay, second, started);
    replay.until_asked(12).await;
    assert!(later.try_join_next().is_none());
    assert!(proxy.told().iter().all(|(lsn, _)| *lsn == second));
    let pauses: Vec<_> = proxy.told().iter().map(|(_, at_most)| at_most.as_millis()).take(6).collect();
    assert_eq!(pauses, [1, 2, 4, 8, 10, 10]);

    let mut sooner = waiter(&replay, first, started);
    replay.until_asked(12).await;
    let told = proxy.told();
    let sooner_told: Vec<_> = told.iter().skip_while(|(lsn, _)| *lsn == second).collect();
    assert!(sooner_told.iter().all(|(lsn, _)| *lsn == first), "{told:?}");
    assert_eq!(sooner_told[0].1.as_millis(), 1, "the pace restarts");
    // One that waits for no position has its own question.
    assert!(now(&replay).await.in_recovery);
    replica.resume_replay().await.unwrap();
    assert!(answer(&mut sooner).await.lsn >= first && answer(&mut later).await.lsn >= second);
    assert_eq!(proxy.connections(), 1);
}

#[tokio::test]
async fn a_server_that_does_not_wait_as_it_should_is_left_alone_for_a_while_instead() {
    let cluster = cluster().await;
    let replica = cluster.replica(0);
    for waits in
        [Waits::Garbled, Waits::Says("not in recovery"), Waits::Says("success"), Waits::Says("unheard of")]
    {
        let proxy = Proxy::before(replica, waits).await;
        let replay = Arc::new(Replay::new(proxy.endpoint.clone()));
        let started = now(&replay).await.started;
        replica.pause_replay().await.unwrap();
        let written = note(&cluster).await;
        let mut waiter = waiter(&replay, written, started);
        until("it is told to", async || !proxy.told().is_empty()).await;
        let (start, asked) = (Instant::now(), replay.asked());
        timeout(SECOND / 2, waiter.join_next()).await.expect_err("replay is paused");
        let asked = replay.asked() - asked;
        assert!(asked <= most(start), "{waits:?}: {asked} in {:?}", start.elapsed());
        replay.until_asked(5).await;
        assert_eq!(proxy.told().len(), proxy.connections(), "{waits:?}: once on each");
        replica.resume_replay().await.unwrap();
        assert!(answer(&mut waiter).await.lsn >= written, "{waits:?}");
    }
}

#[tokio::test]
async fn a_primary_is_waited_for_that_does_not_show_yet_what_its_replica_shows() {
    let cluster = cluster().await;
    let (primary, replica) = (cluster.primary(), cluster.replica(0));
    // Has written and does nothing more.
    let (idle, connection) = tokio_postgres::connect(&primary.url(), NoTls).await.unwrap();
    let _idle = AbortOnDrop(tokio::spawn(connection));
    idle.batch_execute("BEGIN; INSERT INTO notes VALUES ('uncommitted')").await.unwrap();
    let set_sync = async |names: &str| {
        primary.sql(&format!("ALTER SYSTEM SET synchronous_standby_names = '{names}'")).await.unwrap();
        primary.sql("SELECT pg_reload_conf()").await.unwrap();
        let is_set = format!("SELECT (current_setting('synchronous_standby_names') = '{names}')::text");
        until("the setting is in force", async || {
            primary.sql(&is_set).await.unwrap().as_deref() == Some("true")
        })
        .await;
    };
    let count = async |node: &Node, body: &str| {
        node.sql(&format!("SELECT count(*)::text FROM notes WHERE body = '{body}'")).await.unwrap().unwrap()
    };
    for role in ["postgres", "nobody"] {
        let replay = replay(&primary.url().replace("postgres@", &format!("{role}@")));
        let written = note(&cluster).await;
        timeout(PATIENCE, replay.shows(written)).await.expect("nobody commits");
        let asked = replay.asked();
        assert!(replay.shows(written).await.visible.is_some());
        assert_eq!(replay.asked(), asked, "what is visible stays so");

        set_sync("gone").await;
        let sql = format!("INSERT INTO notes VALUES ('of {role}')");
        let url = primary.url();
        let committing = AbortOnDrop(tokio::spawn(async move {
            let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
            let _connection = AbortOnDrop(tokio::spawn(connection));
            client.batch_execute(&sql).await.unwrap();
        }));
        let body = format!("of {role}");
        until("the replica shows it", async || count(replica, &body).await == "1").await;
        assert_eq!(count(primary, &body).await, "0");
        let shown = position(replica).await;
        let waits = replay.shows(shown);
        tokio::pin!(waits);
        tokio::select! {
            position = &mut waits => panic!("{position:?}"),
            () = replay.until_asked(8) => {}
        }
        set_sync("").await;
        timeout(PATIENCE, waits).await.expect("it is released");
        assert_eq!(count(primary, &body).await, "1");
        drop(committing);
    }
}

struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
