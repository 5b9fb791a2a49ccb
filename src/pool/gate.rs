//! The way into a pool: who may have a connection, in which order, and until when.

use std::pin::pin;
use tokio::sync::{AcquireError, Notify, Semaphore, SemaphorePermit, TryAcquireError, watch};

/// As many places as the pool has connections, given out in the order in which they were asked for.
///
/// Whoever has one never waits in bb8's own, unfair queue.
#[derive(Debug)]
pub(super) struct Gate {
    size: u32,
    places: Semaphore,
    /// For those who have a place and wait for something else; the semaphore tells all others.
    closed: watch::Sender<bool>,
    /// Signalled when a place is given back after the end.
    left: Notify,
}

impl Gate {
    pub(super) fn new(size: u32) -> Self {
        let places = Semaphore::new(size as usize);
        Self { size, places, closed: watch::Sender::new(false), left: Notify::new() }
    }

    /// A place, if one is free and nobody waits for it.
    pub(super) fn try_enter(&self) -> Result<SemaphorePermit<'_>, TryAcquireError> {
        self.places.try_acquire()
    }

    /// Waits for a place; fails once the gate is closed.
    pub(super) async fn enter(&self) -> Result<SemaphorePermit<'_>, AcquireError> {
        // A place may be given to somebody whom the end, or its caller, then sends away: it goes back without a word.
        let _left = Leaving(self);
        self.places.acquire().await
    }

    /// Gives back a place whose permit was forgotten.
    pub(super) fn leave(&self) {
        let _left = Leaving(self);
        self.places.add_permits(1);
    }

    /// Lets nobody in any more, and sends away who waits.
    pub(super) fn close(&self) {
        self.places.close();
        self.closed.send_replace(true);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.places.is_closed()
    }

    /// Waits until the gate is closed.
    pub(super) async fn closed(&self) {
        // The sender is here, so it is not gone.
        let _ = self.closed.subscribe().wait_for(|closed| *closed).await;
    }

    /// How many places there are.
    #[cfg(feature = "metrics")]
    pub(super) fn size(&self) -> u32 {
        self.size
    }

    /// How many places are taken.
    pub(super) fn taken(&self) -> usize {
        self.size as usize - self.places.available_permits()
    }

    /// Waits until the gate is closed and no place is taken.
    pub(super) async fn drained(&self) {
        self.closed().await;
        loop {
            let mut left = pin!(self.left.notified());
            left.as_mut().enable();
            if self.taken() == 0 {
                return;
            }
            left.await;
        }
    }
}

/// Tells those who wait for the end that somebody is gone, when it is.
struct Leaving<'a>(&'a Gate);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        if self.0.is_closed() {
            self.0.left.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[tokio::test]
    async fn it_is_drained_once_it_is_closed_and_everybody_has_left() {
        let gate = Gate::new(2);
        let mut drained = pin!(gate.drained());
        assert!(drained.as_mut().now_or_never().is_none(), "somebody may still come");
        for _ in 0..2 {
            gate.try_enter().expect("there is room").forget();
        }
        assert!(gate.try_enter().is_err());
        let mut waiting = pin!(gate.enter());
        assert!(waiting.as_mut().now_or_never().is_none());

        gate.close();
        assert!(waiting.now_or_never().expect("nobody waits any more").is_err());
        gate.closed().now_or_never().expect("it is closed");
        for taken in [2, 1] {
            assert_eq!(gate.taken(), taken);
            assert!(drained.as_mut().now_or_never().is_none());
            gate.leave();
        }
        drained.now_or_never().expect("nobody is in");
        assert!(matches!(gate.try_enter(), Err(TryAcquireError::Closed)));
    }

    #[tokio::test]
    async fn whoever_gives_up_waiting_for_the_end_takes_nothing_along() {
        let gate = Gate::new(1);
        gate.try_enter().expect("there is room").forget();
        gate.close();
        assert!(gate.drained().now_or_never().is_none());
        gate.leave();
        gate.drained().now_or_never().expect("nobody is in");
    }

    #[tokio::test]
    async fn a_place_of_somebody_who_was_sent_away_is_not_taken() {
        for gives_up in [false, true] {
            let gate = Gate::new(1);
            gate.try_enter().expect("there is room").forget();
            let mut waiting = Box::pin(gate.enter());
            assert!(waiting.as_mut().now_or_never().is_none());
            gate.leave();
            gate.close();
            let mut drained = pin!(gate.drained());
            assert!(drained.as_mut().now_or_never().is_none(), "the place is with the one who waited");
            if !gives_up {
                assert!(waiting.as_mut().now_or_never().expect("nobody waits any more").is_err());
            }
            drop(waiting);
            drained.now_or_never().expect("nobody is in");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_departure_is_missed() {
        for _ in 0..500 {
            let gate = std::sync::Arc::new(Gate::new(3));
            for _ in 0..3 {
                gate.try_enter().expect("there is room").forget();
                let gate = std::sync::Arc::clone(&gate);
                tokio::spawn(async move { gate.leave() });
            }
            gate.close();
            gate.drained().await;
        }
    }
}
