//! The task that asks a node for as long as somebody waits.

use super::Position;
use super::board::{Board, Duty};
use super::commits::Commits;
use super::pace::Pace;
use super::session::{Failure, Session};
use crate::endpoint::Endpoint;
use crate::error::Chain;
use crate::lsn::Lsn;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tracing::debug;

/// How long the connection is kept after the last waiter has gone.
pub(super) const LINGER: Duration = Duration::from_secs(10);

/// Asks one question after the other on one connection, for all who wait.
#[derive(Debug)]
pub(super) struct Poller {
    duty: Duty,
    endpoint: Endpoint,
    arrivals: watch::Receiver<()>,
    session: Option<Session>,
    /// What was told on it.
    commits: Commits,
    questions: Pace,
    failures: Pace,
    /// What the server is to wait for before it answers the next question, and for how long: a pause that ends in time.
    hold: Option<(Lsn, Duration)>,
}

impl Poller {
    pub(super) fn new(duty: Duty, endpoint: Endpoint) -> Self {
        Self {
            arrivals: duty.board().arrivals(),
            duty,
            endpoint,
            session: None,
            commits: Commits::default(),
            questions: Pace::of_questions(),
            failures: Pace::of_failures(),
            hold: None,
        }
    }

    /// Ends when nobody has waited for a while.
    pub(super) async fn run(mut self) {
        while self.is_wanted().await {
            match self.ask().await {
                Ok(position) => {
                    self.failures.restart();
                    self.board().learned(position);
                    self.pause(position).await;
                }
                Err(failure) => self.back_off(failure).await,
            }
        }
    }

    fn board(&self) -> &Board {
        self.duty.board()
    }

    /// Waits until somebody does. Whoever has come since the last question was sent gets one without delay.
    async fn is_wanted(&mut self) -> bool {
        while !self.board().is_anybody_waiting() {
            match timeout(LINGER, self.arrivals.changed()).await {
                Ok(_) => self.hurry(),
                Err(_) if self.duty.end() => return false,
                Err(_) => {}
            }
        }
        // The sender is on the board.
        if self.arrivals.has_changed().unwrap_or(false) {
            self.arrivals.mark_unchanged();
            self.hurry();
        }
        true
    }

    fn hurry(&mut self) {
        self.questions.restart();
        self.hold = None;
    }

    /// On the connection there is, or a new one. One that fails is closed.
    async fn ask(&mut self) -> Result<Position, Failure> {
        #[cfg(test)]
        self.board().asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mut session = match self.session.take() {
            Some(session) => session,
            None => {
                self.commits = Commits::default();
                Session::open(&self.endpoint).await?
            }
        };
        let position = match self.hold.take() {
            Some((lsn, at_most)) => session.ask_after(lsn, at_most).await?,
            None if self.board().wants_commits() => {
                let (mut position, told) = session.ask_who_commits().await?;
                position.visible =
                    told.and_then(|told| self.commits.told(told.then, &told.committing, Instant::now()));
                position
            }
            None => session.ask().await?,
        };
        self.session = Some(session);
        Ok(position)
    }

    /// Here, until somebody comes, or on the server with the next question.
    async fn pause(&mut self, position: Position) {
        if !self.board().is_anybody_waiting() {
            return;
        }
        let pause = self.questions.pause();
        let can_wait = position.in_recovery && self.session.as_ref().is_some_and(Session::can_wait);
        let target = can_wait.then(|| self.board().next_target(position.started)).flatten();
        match target {
            _ if pause.is_zero() => {}
            Some(target) => self.hold = Some((target, pause)),
            None => {
                if timeout(pause, self.arrivals.changed()).await.is_ok() {
                    self.hurry();
                }
            }
        }
    }

    /// Whoever comes meanwhile has to wait as well: a node that is down is asked no more often the more it is wanted.
    async fn back_off(&mut self, failure: Failure) {
        self.hold = None;
        let pause = self.failures.pause();
        if pause.is_zero() {
            debug!(node = self.endpoint.host_port(), error = %Chain(&failure), "a node does not tell its position");
        }
        sleep(pause).await;
    }
}
