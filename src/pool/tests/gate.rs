//! The order in which places are given out, and the end of it.

use super::super::gate::{Arrival, Refused};
use super::super::place::Place;
use super::*;
use std::pin::pin;
use tokio::sync::oneshot;

/// A pool of so many places that never opens a connection.
fn places(size: u32) -> Pool {
    pool("postgres://app@127.0.0.1:1/app", Access::ReadOnly, size).0
}

fn try_enter(pool: &Pool) -> Result<Place, Refused> {
    let none = pool.shared.gate.try_enter()?;
    assert!(none.is_none());
    Ok(Place::taken(Arc::clone(&pool.shared)))
}

fn queue(pool: &Pool) -> oneshot::Receiver<Place> {
    match pool.shared.gate.enter() {
        Arrival::Queued(turn) => turn,
        _ => panic!("there is a place"),
    }
}

#[tokio::test]
async fn a_place_goes_to_whoever_has_waited_for_longest() {
    let pool = places(2);
    let places = [try_enter(&pool).unwrap(), try_enter(&pool).unwrap()];
    assert_eq!(try_enter(&pool).err(), Some(Refused::Full));
    let mut waiting: Vec<_> = (0..4).map(|_| queue(&pool)).collect();
    waiting.remove(1).close();
    drop(places);
    for turn in &mut waiting[..2] {
        let place = turn.try_recv().expect("it is its turn");
        assert_eq!(try_enter(&pool).err(), Some(Refused::Full), "nobody is overtaken");
        // Given up before it was taken.
        drop(place);
    }
    waiting[2].try_recv().expect("it is the last one's turn");
    try_enter(&pool).unwrap();
}

#[tokio::test]
async fn whoever_gives_up_takes_no_place_along() {
    let pool = places(1);
    let place = try_enter(&pool).unwrap();
    let gone: Vec<_> = (0..100_000).map(|_| queue(&pool)).collect();
    let mut last = queue(&pool);
    drop(gone);
    drop(place);
    drop(last.try_recv().expect("all others have given up"));

    let place = try_enter(&pool).unwrap();
    let gone = queue(&pool);
    drop(place);
    assert_eq!(try_enter(&pool).err(), Some(Refused::Full), "it is on its way");
    drop(gone);
    try_enter(&pool).unwrap();
}

#[tokio::test]
async fn a_queue_of_those_who_gave_up_does_not_grow() {
    let pool = places(1);
    let _place = try_enter(&pool).unwrap();
    let mut waiting = queue(&pool);
    (0..10_000).for_each(|_| drop(queue(&pool)));
    assert!(pool.shared.gate.queue_len() < 200, "{}", pool.shared.gate.queue_len());
    drop(_place);
    waiting.try_recv().expect("who still waits is still there");
}

#[tokio::test]
async fn it_is_drained_once_it_is_closed_and_everybody_has_left() {
    let pool = places(2);
    let gate = &pool.shared.gate;
    let mut drained = pin!(gate.drained());
    assert!(drained.as_mut().now_or_never().is_none(), "somebody may still come");
    let places = [try_enter(&pool).unwrap(), try_enter(&pool).unwrap()];
    let mut waiting = queue(&pool);
    pool.close();
    assert!(waiting.try_recv().is_err_and(|error| error == oneshot::error::TryRecvError::Closed));
    gate.closed().now_or_never().expect("it is closed");
    for place in places {
        assert!(drained.as_mut().now_or_never().is_none(), "somebody is in");
        drop(place);
    }
    drained.now_or_never().expect("nobody is in");
    assert_eq!(try_enter(&pool).err(), Some(Refused::Closed));
    assert!(matches!(gate.enter(), Arrival::Closed));
}

/// A place may be on its way to somebody when the pool is closed.
#[tokio::test]
async fn a_place_of_somebody_who_was_sent_away_is_not_taken() {
    for takes in [false, true] {
        let pool = places(1);
        let place = try_enter(&pool).unwrap();
        let mut waiting = queue(&pool);
        drop(place);
        pool.close();
        let mut drained = pin!(pool.shared.gate.drained());
        assert!(drained.as_mut().now_or_never().is_none(), "the place is with the one who waited");
        if takes {
            waiting.try_recv().expect("it was its turn");
        } else {
            drop(waiting);
        }
        drained.now_or_never().expect("nobody is in");
    }
}

/// Whether or not those who gave up are still in the queue.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_departure_is_missed() {
    for round in 0..1000 {
        let pool = places(3);
        let places: Vec<_> = (0..3).map(|_| try_enter(&pool).unwrap()).collect();
        (0..round % 50).for_each(|_| drop(queue(&pool)));
        for place in places {
            tokio::spawn(async move { drop(place) });
        }
        pool.close();
        timeout(PATIENCE, pool.shared.gate.drained()).await.unwrap();
    }
}
