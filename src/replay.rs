//! How far one node has come, as far as is known.

use crate::lsn::Lsn;
use crate::pool::Endpoint;
use tokio::sync::watch;
use tokio::time::Instant;

/// What a node said of its position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) in_recovery: bool,
    /// Replayed up to here on a standby, written up to here on a primary.
    pub(crate) lsn: Lsn,
    /// On a primary, log has been reserved up to here; on a standby the same as `lsn`.
    pub(crate) inserted: Lsn,
    /// When the server process started: tells a restart.
    pub(crate) started: i64,
    /// Before the question was sent.
    pub(crate) asked_at: Instant,
}

/// How far one node has come.
#[derive(Debug)]
pub(crate) struct Replay {
    latest: watch::Sender<Option<Position>>,
}

impl Replay {
    pub(crate) fn new(_endpoint: Endpoint) -> Self {
        Self { latest: watch::Sender::new(None) }
    }

    /// Takes in what a probe has shown.
    pub(crate) fn learned(&self, position: Position) {
        self.latest.send_replace(Some(position));
    }

    /// The newest that is known.
    pub(crate) fn latest(&self) -> Option<Position> {
        *self.latest.borrow()
    }

    /// Waits until the server that started then is known, as a standby, to have replayed `lsn`.
    pub(crate) async fn reached(&self, lsn: Lsn, started: i64) -> Position {
        self.wait(|position| position.in_recovery && position.started == started && position.lsn >= lsn).await
    }

    /// The first answer to a question that was sent after `instant`.
    pub(crate) async fn asked_after(&self, instant: Instant) -> Position {
        self.wait(|position| position.asked_at > instant).await
    }

    async fn wait(&self, found: impl Fn(&Position) -> bool) -> Position {
        let mut latest = self.latest.subscribe();
        loop {
            if let Some(position) = latest.borrow_and_update().filter(&found) {
                return position;
            }
            let _ = latest.changed().await;
        }
    }
}
