//! Who may have a connection, in which order, and until when; and the connections that nobody has.
//!
//! All of it is behind one lock, which is held for some loads and stores: a call that finds what it needs takes it once to get in
//! and once to leave.

use super::manager::{Pooled, discard};
use super::place::Place;
use super::stack::Stack;
use super::wire::Fitness;
use std::collections::VecDeque;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, oneshot, watch};

/// As many places as the pool has connections, given out in the order in which they were asked for: a place that is given back goes
/// to the one that has waited for longest, and nobody can take it on its way.
pub(super) struct Gate {
    size: u32,
    inside: Mutex<Inside>,
    closed: watch::Sender<bool>,
    /// Signalled by the end, and by each place that is given back after it.
    left: Notify,
    /// Signalled when a connection is given back for which somebody waits who has a place.
    returned: Notify,
}

#[derive(Default)]
struct Inside {
    /// Places that somebody has.
    taken: u32,
    idle: Stack<Pooled>,
    /// Who waits for a place, while none is free; some may have given up.
    queue: VecDeque<oneshot::Sender<Place>>,
    /// When the queue has become so long, it is looked who has given up.
    tidy_at: usize,
    /// How many have a place and wait for a connection to come back, besides having one opened.
    awaiting: usize,
    closed: bool,
}

/// Why somebody does not get in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    Full,
    Closed,
}

/// What becomes of somebody who comes to stay.
pub(super) enum Arrival {
    /// There was a place, and perhaps a connection.
    In(Option<Pooled>),
    /// It is told when there is one. Dropping this gives up.
    Queued(oneshot::Receiver<Place>),
    Closed,
}

impl Gate {
    pub(super) fn new(size: u32) -> Self {
        Self {
            size,
            inside: Mutex::default(),
            closed: watch::Sender::new(false),
            left: Notify::new(),
            returned: Notify::new(),
        }
    }

    /// Takes a place, if one is free, and a connection, if one is there. The place is to be made a [`Place`] at once.
    pub(super) fn try_enter(&self) -> Result<Option<Pooled>, Refused> {
        let mut inside = self.lock();
        if inside.closed {
            return Err(Refused::Closed);
        }
        if inside.taken == self.size {
            return Err(Refused::Full);
        }
        inside.taken += 1;
        Ok(take_idle(inside))
    }

    /// The same, or a place in the queue.
    pub(super) fn enter(&self) -> Arrival {
        match self.try_enter() {
            Ok(pooled) => return Arrival::In(pooled),
            Err(Refused::Closed) => return Arrival::Closed,
            Err(Refused::Full) => {}
        }
        let (sender, receiver) = oneshot::channel();
        let mut inside = self.lock();
        if inside.closed {
            return Arrival::Closed;
        }
        if inside.taken < self.size {
            inside.taken += 1;
            return Arrival::In(take_idle(inside));
        }
        if inside.queue.len() >= inside.tidy_at {
            inside.queue.retain(|waiting| !waiting.is_closed());
            inside.tidy_at = TIDY_FROM.max(2 * inside.queue.len());
        }
        inside.queue.push_back(sender);
        Arrival::Queued(receiver)
    }

    /// A connection that is fit for somebody who has a place, if one is there.
    pub(super) fn idle(&self) -> Option<Pooled> {
        take_idle(self.lock())
    }

    /// Ends somebody's stay: the connection, if it can be used again, is back before the place is the next one's.
    pub(super) fn leave(place: Place, pooled: Option<Pooled>) {
        let (mut shared, mut pooled) = (place.into_shared(), pooled);
        loop {
            let mut inside = shared.gate.lock();
            let over = inside.closed;
            if let Some(pooled) = pooled.take_if(|_| over) {
                drop(inside);
                discard(pooled);
                continue;
            }
            let awaited = pooled.take().is_some_and(|pooled| inside.put(pooled));
            let next = inside.next();
            drop(inside);
            if awaited {
                shared.gate.returned.notify_one();
            }
            if over {
                shared.purge();
                shared.gate.left.notify_waiters();
            }
            let Some(waiting) = next else { return };
            match waiting.send(Place::taken(shared)) {
                Ok(()) => return,
                // It has given up.
                Err(place) => shared = place.into_shared(),
            }
        }
    }

    /// A connection without a place joins those that nobody has.
    pub(super) fn put(&self, pooled: Pooled) {
        let mut inside = self.lock();
        if inside.closed {
            drop(inside);
            return discard(pooled);
        }
        let awaited = inside.put(pooled);
        drop(inside);
        if awaited {
            self.returned.notify_one();
        }
    }

    /// A connection that is lent, of those that are there, if need be when one has settled.
    ///
    /// # Cancel safety
    ///
    /// A dropped call puts back what it had taken.
    pub(super) async fn settled(&self) -> Option<Pooled> {
        loop {
            let (pooled, fitness) = {
                let idle = &mut self.lock().idle;
                let settled = idle.take(|pooled| pooled.try_lend());
                settled.or_else(|| Some((idle.take(|_| Fitness::Unfit)?.0, Fitness::Unsettled)))?
            };
            let mut held = Held { gate: self, pooled: Some(pooled) };
            let fit = match fitness {
                Fitness::Fit => true,
                Fitness::Unsettled => held.get().lend().await,
                Fitness::Unfit => false,
            };
            let pooled = held.take();
            if fit {
                return Some(pooled);
            }
            discard(pooled);
        }
    }

    /// The same for somebody who has just come: nothing, where others wait already.
    pub(super) async fn settled_for_newcomers(&self) -> Option<Pooled> {
        if self.lock().are_awaited() { None } else { self.settled().await }
    }

    /// The same as [`settled`](Self::settled), as soon as there is one, ahead of all who come later.
    ///
    /// # Cancel safety
    ///
    /// As that of [`settled`](Self::settled).
    pub(super) async fn returned(&self) -> Pooled {
        let _awaiting = Awaiting::begin(self);
        loop {
            let mut returned = pin!(self.returned.notified());
            returned.as_mut().enable();
            if let Some(pooled) = self.settled().await {
                return pooled;
            }
            returned.await;
        }
    }

    /// Lets nobody in any more, sends away who waits, and returns the connections that nobody has.
    pub(super) fn close(&self) -> Vec<Pooled> {
        let mut inside = self.lock();
        inside.closed = true;
        let idle = inside.idle.clear();
        let queue = std::mem::take(&mut inside.queue);
        drop(inside);
        self.closed.send_replace(true);
        drop(queue);
        self.left.notify_waiters();
        idle
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Waits until the gate is closed.
    pub(super) async fn closed(&self) {
        // The sender is here, so it is not gone.
        let _ = self.closed.subscribe().wait_for(|closed| *closed).await;
    }

    /// Tells of the end.
    pub(super) fn closing(&self) -> watch::Receiver<bool> {
        self.closed.subscribe()
    }

    /// Takes away the connections of which this is true.
    pub(super) fn extract(&self, which: impl Fn(&Pooled) -> bool) -> Vec<Pooled> {
        self.lock().idle.extract(which)
    }

    /// Takes away those that nobody has had since this was asked last.
    pub(super) fn untouched(&self) -> Vec<Pooled> {
        self.lock().idle.take_untouched()
    }

    /// How many places there are.
    #[cfg(feature = "metrics")]
    pub(super) fn size(&self) -> u32 {
        self.size
    }

    /// How many connections nobody has.
    #[cfg(feature = "metrics")]
    pub(super) fn idle_count(&self) -> usize {
        self.lock().idle.len()
    }

    /// How many wait, or did and have given up since.
    #[cfg(test)]
    pub(super) fn queue_len(&self) -> usize {
        self.lock().queue.len()
    }

    /// Waits until the gate is closed and no place is taken.
    pub(super) async fn drained(&self) {
        loop {
            let mut left = pin!(self.left.notified());
            left.as_mut().enable();
            let drained = {
                let inside = self.lock();
                inside.closed && inside.taken == 0
            };
            if drained {
                return;
            }
            left.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        // What is inside is as good as before, whoever panicked.
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A queue that is shorter is not worth a look.
const TIDY_FROM: usize = 64;

impl Inside {
    /// Says whether somebody waits for it.
    #[must_use]
    fn put(&mut self, pooled: Pooled) -> bool {
        self.idle.put(pooled);
        self.awaiting != 0
    }

    /// Whether all idle connections are those of others, who came first and have yet to take them.
    fn are_awaited(&self) -> bool {
        self.idle.len() <= self.awaiting
    }

    /// Whose turn it is; if nobody waits, a place is free.
    fn next(&mut self) -> Option<oneshot::Sender<Place>> {
        let next = self.queue.pop_front();
        if next.is_none() {
            self.taken -= 1;
        }
        next
    }
}

/// The topmost connection that is fit right now, for somebody who has just come.
fn take_idle(mut inside: MutexGuard<'_, Inside>) -> Option<Pooled> {
    if inside.are_awaited() {
        return None;
    }
    let mut unfit = Vec::new();
    let fit = loop {
        match inside.idle.take(|pooled| pooled.try_lend()) {
            Some((pooled, Fitness::Fit)) => break Some(pooled),
            Some((pooled, _)) => unfit.push(pooled),
            None => break None,
        }
    };
    drop(inside);
    unfit.into_iter().for_each(discard);
    fit
}

/// A connection that is looked at, and is put back unless it is taken.
struct Held<'a> {
    gate: &'a Gate,
    pooled: Option<Pooled>,
}

impl Held<'_> {
    fn get(&mut self) -> &mut Pooled {
        self.pooled.as_mut().expect("only taking takes it out")
    }

    fn take(mut self) -> Pooled {
        self.pooled.take().expect("only taking takes it out")
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Some(pooled) = self.pooled.take() {
            self.gate.put(pooled);
        }
    }
}

/// Counts for one that waits for a connection to come back, for as long as it lives.
struct Awaiting<'a>(&'a Gate);

impl<'a> Awaiting<'a> {
    fn begin(gate: &'a Gate) -> Self {
        gate.lock().awaiting += 1;
        Self(gate)
    }
}

impl Drop for Awaiting<'_> {
    fn drop(&mut self) {
        self.0.lock().awaiting -= 1;
    }
}
