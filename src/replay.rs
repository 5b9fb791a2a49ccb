//! How far one node has come: known, or asked for all who wait on it.
//!
//! The monitor's probes answer most questions before they are asked. For the rest one task a node asks, for as long as somebody waits:
//! so the number of questions is bounded, however many wait.

mod board;
mod commits;
mod pace;
mod poller;
mod session;

use crate::endpoint::Endpoint;
use crate::lsn::Lsn;
use board::{Board, Duty, Entry, Want};
pub(crate) use commits::Visible;
use poller::Poller;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// What a node said of its position, or a probe saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) in_recovery: bool,
    /// Replayed up to here on a standby, written up to here on a primary.
    pub(crate) lsn: Lsn,
    /// On a primary log has been reserved up to here, which may not be written yet; on a standby the same as `lsn`.
    pub(crate) inserted: Lsn,
    /// What is known to be visible on a primary.
    pub(crate) visible: Option<Visible>,
    /// When the server process started, in microseconds: another one after a restart.
    pub(crate) started: i64,
    /// Before the question was sent.
    pub(crate) asked_at: Instant,
}

/// The position of one node, for all who want to know it.
///
/// Costs nothing until somebody waits: only then is there a connection, and a task on the runtime of the first who does. Both
/// end when nobody has waited for a while, or with this.
#[derive(Debug)]
pub(crate) struct Replay {
    board: Arc<Board>,
    endpoint: Endpoint,
    /// Dropping the set ends it.
    poller: Mutex<JoinSet<()>>,
}

impl Replay {
    pub(crate) fn new(endpoint: Endpoint) -> Self {
        Self { board: Arc::new(Board::new()), endpoint, poller: Mutex::default() }
    }

    /// Takes in what a probe has shown, unless it is older than what is known.
    pub(crate) fn learned(&self, position: Position) {
        self.board.learned(position);
    }

    /// The newest that is known. Asks nobody.
    pub(crate) fn latest(&self) -> Option<Position> {
        self.board.latest()
    }

    /// Waits until the server that started then is known to have replayed `lsn` as a standby. A server that has been restarted or
    /// promoted never gets there, nor does one that does not tell its position: the caller sets the deadline.
    ///
    /// # Cancel safety
    ///
    /// A dropped call waits for nothing any more, and the node is not asked on its behalf.
    pub(crate) async fn reached(&self, lsn: Lsn, started: i64) -> Position {
        self.met(Want::Replayed { lsn, started }).await
    }

    /// The first answer to a question that was sent after `instant`, of a primary or a standby. The caller sets the deadline.
    ///
    /// # Cancel safety
    ///
    /// As [`reached`](Self::reached).
    pub(crate) async fn asked_after(&self, instant: Instant) -> Position {
        self.met(Want::AskedAfter(instant)).await
    }

    /// Waits until the primary is known to show what any replica has shown up to now, as far as it lies before `lsn`, or not to be
    /// one. Known at once is what was visible when somebody else asked. The caller sets the deadline.
    ///
    /// # Cancel safety
    ///
    /// As [`reached`](Self::reached).
    pub(crate) async fn shows(&self, lsn: Lsn) -> Position {
        self.met(Want::Visible { lsn, since: Instant::now() }).await
    }

    async fn met(&self, want: Want) -> Position {
        loop {
            let place = match self.board.enter(want) {
                Entry::Met(position) => return position,
                Entry::Waits(place, duty) => {
                    duty.into_iter().for_each(|duty| self.poll(duty));
                    place
                }
            };
            if let Some(position) = place.met().await {
                return position;
            }
        }
    }

    fn poll(&self, duty: Duty) {
        let poller = Poller::new(duty, self.endpoint.clone());
        let mut tasks = self.poller.lock().unwrap_or_else(PoisonError::into_inner);
        // The one before has no duty any more.
        *tasks = JoinSet::new();
        tasks.spawn(poller.run());
    }
}

#[cfg(test)]
mod tests;
