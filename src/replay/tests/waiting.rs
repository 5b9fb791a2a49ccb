//! Who waits and what ends it, without a database.

use super::*;
use futures_util::FutureExt;
use std::pin::pin;

fn standby(lsn: u64, started: i64, asked_at: Instant) -> Position {
    let lsn = Lsn::new(lsn);
    Position { in_recovery: true, lsn, inserted: lsn, visible: None, started, asked_at }
}

#[test]
fn what_a_probe_has_shown_is_known_without_a_runtime_and_without_waiting() {
    let replay = replay(NOWHERE);
    assert_eq!(replay.latest(), None);
    let before = Instant::now();
    let seen = standby(5, 1, before + Duration::from_millis(1));
    replay.learned(seen);
    assert_eq!(replay.latest(), Some(seen));
    assert_eq!(replay.reached(Lsn::new(5), 1).now_or_never(), Some(seen));
    assert_eq!(replay.asked_after(before).now_or_never(), Some(seen));
    assert_eq!(replay.asked(), 0);
}

#[test]
fn the_question_that_was_sent_last_tells_the_position() {
    let replay = replay(NOWHERE);
    let (earlier, later) = (Instant::now(), Instant::now() + Duration::from_millis(1));
    let seen = standby(5, 1, later);
    replay.learned(seen);
    replay.learned(standby(9, 1, earlier));
    assert_eq!(replay.latest(), Some(seen));
    // A standby that recovers after a crash goes back.
    let crashed = standby(4, 1, later);
    replay.learned(crashed);
    assert_eq!(replay.latest(), Some(crashed));
}

#[tokio::test(start_paused = true)]
async fn a_probe_answers_those_whom_it_tells_enough() {
    let replay = replay(NOWHERE);
    let start = Instant::now();
    let mut reached = pin!(replay.reached(Lsn::new(5), 1));
    let mut asked = pin!(replay.asked_after(start + Duration::from_millis(3)));
    assert!(reached.as_mut().now_or_never().is_none() && asked.as_mut().now_or_never().is_none());

    let not_enough = [
        standby(4, 1, start),
        standby(5, 2, start),
        Position { in_recovery: false, ..standby(9, 1, start) },
        standby(4, 1, start + Duration::from_millis(3)),
    ];
    for position in not_enough {
        replay.learned(position);
        assert_eq!(replay.latest(), Some(position));
        assert_eq!(timeout(PATIENCE, &mut reached).await.ok(), None, "{position:?}");
        assert_eq!(asked.as_mut().now_or_never(), None, "{position:?}");
    }

    let enough = standby(5, 1, start + Duration::from_millis(3));
    replay.learned(enough);
    assert_eq!(reached.await, enough);
    let primary = Position { in_recovery: false, ..standby(4, 1, start + Duration::from_millis(4)) };
    replay.learned(primary);
    assert_eq!(asked.await, primary);
}

#[tokio::test(start_paused = true)]
async fn a_question_is_answered_by_what_met_it_whatever_is_learned_next() {
    let replay = replay(NOWHERE);
    let start = Instant::now();
    let mut reached = pin!(replay.reached(Lsn::new(5), 1));
    assert!(reached.as_mut().now_or_never().is_none());
    let met = standby(6, 1, start);
    replay.learned(met);
    replay.learned(Position { in_recovery: false, ..met });
    assert_eq!(reached.now_or_never(), Some(met));
}

#[tokio::test]
async fn a_node_that_is_down_is_asked_no_more_often_the_more_it_is_wanted() {
    let replay = replay(NOWHERE);
    let start = Instant::now();
    let soon = Duration::from_millis(5);
    while start.elapsed() < Duration::from_millis(500) {
        timeout(soon, replay.reached(Lsn::new(1), 1)).await.expect_err("it is down");
    }
    // 0, 0, 10, 30, 70, 150 and 310 ms after the start, and then every 200.
    let most = 7 + (start.elapsed().as_millis() / 200) as usize;
    assert!(replay.asked() <= most, "{} in {:?}", replay.asked(), start.elapsed());
}

#[test]
fn another_runtime_takes_over_from_one_that_is_shut_down() {
    let runtime =
        || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (one, other) = (runtime(), runtime());
    let replay = replay(NOWHERE);
    let on = |runtime: &tokio::runtime::Runtime| {
        let replay = Arc::clone(&replay);
        runtime.spawn(async move { replay.reached(Lsn::new(5), 1).await })
    };
    let _first = on(&one);
    one.block_on(replay.until_asked(2));
    let second = on(&other);
    one.shutdown_timeout(PATIENCE);
    other.block_on(replay.until_asked(2));

    let seen = standby(5, 1, Instant::now());
    replay.learned(seen);
    assert_eq!(other.block_on(second).unwrap(), seen);
}
