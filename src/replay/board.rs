//! What is known of a node's position, and who waits to know more.

use super::{Position, Visible};
use crate::lsn::Lsn;
use arc_swap::ArcSwapOption;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

/// What somebody waits for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Want {
    /// That the server that started then has replayed this, as a standby.
    Replayed { lsn: Lsn, started: i64 },
    /// That the primary shows all up to here, or all that replicas have shown up to then; or that it is none.
    Visible { lsn: Lsn, since: Instant },
    /// The answer to a question that was sent after this.
    AskedAfter(Instant),
}

impl Want {
    fn is_met_by(&self, position: &Position) -> bool {
        match *self {
            Self::Replayed { lsn, started } => {
                position.in_recovery && position.started == started && position.lsn >= lsn
            }
            Self::Visible { lsn, since } => {
                let is_covered = |visible: Visible| visible.flushed >= lsn || visible.asked_at > since;
                position.in_recovery || position.visible.is_some_and(is_covered)
            }
            Self::AskedAfter(instant) => position.asked_at > instant,
        }
    }
}

/// Where answers are put up and waiters are kept. Asks nobody.
#[derive(Debug)]
pub(super) struct Board {
    /// Changes only while the waiters are locked.
    latest: ArcSwapOption<Position>,
    waiters: Mutex<Waiters>,
    /// Changes when somebody has begun to wait.
    arrivals: watch::Sender<()>,
    /// How often the node has been asked.
    #[cfg(test)]
    pub(super) asked: std::sync::atomic::AtomicUsize,
}

#[derive(Debug, Default)]
struct Waiters {
    /// Those that nothing has met yet.
    waiting: HashMap<u64, Waiter>,
    /// What the next one is called.
    next: u64,
    /// Whether somebody has the duty.
    attended: bool,
}

#[derive(Debug)]
struct Waiter {
    want: Want,
    answer: oneshot::Sender<Position>,
}

/// What comes of asking for a position.
#[derive(Debug)]
pub(super) enum Entry<'a> {
    Met(Position),
    /// With the duty to find out, if nobody else has it.
    Waits(Place<'a>, Option<Duty>),
}

impl Board {
    pub(super) fn new() -> Self {
        let (arrivals, _) = watch::channel(());
        Self {
            latest: ArcSwapOption::empty(),
            waiters: Mutex::default(),
            arrivals,
            #[cfg(test)]
            asked: Default::default(),
        }
    }

    pub(super) fn latest(&self) -> Option<Position> {
        self.latest.load().as_deref().copied()
    }

    /// Takes in a position, unless a question that was sent later has been answered already.
    pub(super) fn learned(&self, mut position: Position) {
        let mut waiters = self.waiters();
        if let Some(latest) = self.latest() {
            if latest.asked_at > position.asked_at {
                return;
            }
            // What was visible stays so.
            if !position.in_recovery && position.started == latest.started {
                position.visible = position.visible.or(latest.visible);
            }
        }
        self.latest.store(Some(Arc::new(position)));
        for (_, waiter) in waiters.waiting.extract_if(|_, waiter| waiter.want.is_met_by(&position)) {
            // Whoever does not listen any more is about to leave.
            let _ = waiter.answer.send(position);
        }
    }

    pub(super) fn enter(self: &Arc<Self>, want: Want) -> Entry<'_> {
        let mut waiters = self.waiters();
        if let Some(latest) = self.latest().filter(|latest| want.is_met_by(latest)) {
            return Entry::Met(latest);
        }
        let (answer, answered) = oneshot::channel();
        let id = waiters.next;
        waiters.next += 1;
        waiters.waiting.insert(id, Waiter { want, answer });
        let unattended = !std::mem::replace(&mut waiters.attended, true);
        drop(waiters);
        self.arrivals.send_replace(());
        let duty = unattended.then(|| Duty { board: Arc::clone(self), over: false });
        Entry::Waits(Place { board: self, id, answered }, duty)
    }

    pub(super) fn is_anybody_waiting(&self) -> bool {
        !self.waiters().waiting.is_empty()
    }

    /// The first position that somebody waits for this server to replay.
    pub(super) fn next_target(&self, started: i64) -> Option<Lsn> {
        let waiters = self.waiters();
        let targets = waiters.waiting.values().filter_map(|waiter| match waiter.want {
            Want::Replayed { lsn, started: of } if of == started => Some(lsn),
            _ => None,
        });
        targets.min()
    }

    /// Whether somebody waits for what is visible.
    pub(super) fn wants_commits(&self) -> bool {
        let waiters = self.waiters();
        waiters.waiting.values().any(|waiter| matches!(waiter.want, Want::Visible { .. }))
    }

    pub(super) fn arrivals(&self) -> watch::Receiver<()> {
        self.arrivals.subscribe()
    }

    fn waiters(&self) -> MutexGuard<'_, Waiters> {
        // Nothing panics half-way.
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place among the waiters; dropping it gives it up.
#[derive(Debug)]
pub(super) struct Place<'a> {
    board: &'a Board,
    id: u64,
    answered: oneshot::Receiver<Position>,
}

impl Place<'_> {
    /// Waits until it is met; `None` if whoever had the duty is gone without having ended it.
    pub(super) async fn met(mut self) -> Option<Position> {
        (&mut self.answered).await.ok()
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.board.waiters().waiting.remove(&self.id);
    }
}

/// The duty to ask the node for as long as somebody waits. One at a time has it.
#[derive(Debug)]
pub(super) struct Duty {
    board: Arc<Board>,
    over: bool,
}

impl Duty {
    pub(super) fn board(&self) -> &Board {
        &self.board
    }

    /// Ends it, unless somebody waits; says whether it has ended.
    pub(super) fn end(&mut self) -> bool {
        let mut waiters = self.board.waiters();
        if waiters.waiting.is_empty() {
            waiters.attended = false;
            self.over = true;
        }
        self.over
    }
}

impl Drop for Duty {
    /// Where the runtime of whoever had it has been shut down, the waiters on another one go on.
    fn drop(&mut self) {
        if !self.over {
            let mut waiters = self.board.waiters();
            waiters.attended = false;
            waiters.waiting.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(board: &Arc<Board>, want: Want) -> (Place<'_>, Option<Duty>) {
        match board.enter(want) {
            Entry::Waits(place, duty) => (place, duty),
            Entry::Met(position) => panic!("{position:?}"),
        }
    }

    fn asking(board: &Arc<Board>) -> (Place<'_>, Option<Duty>) {
        enter(board, Want::AskedAfter(Instant::now()))
    }

    #[test]
    fn the_next_target_is_the_first_that_somebody_waits_for_on_this_server() {
        let board = Arc::new(Board::new());
        let _asking = asking(&board);
        assert_eq!(board.next_target(7), None);
        let reaching = |lsn, started| enter(&board, Want::Replayed { lsn: Lsn::new(lsn), started }).0;
        let (third, second, _first) = (reaching(3, 7), reaching(2, 7), reaching(1, 8));
        assert_eq!(board.next_target(7), Some(Lsn::new(2)));
        drop(second);
        assert_eq!(board.next_target(7), Some(Lsn::new(3)));
        drop(third);
        assert_eq!(board.next_target(7), None);
    }

    #[test]
    fn one_at_a_time_has_the_duty_until_nobody_waits() {
        let board = Arc::new(Board::new());
        let (first, duty) = asking(&board);
        let mut duty = duty.expect("nobody has it");
        let (second, none) = asking(&board);
        assert!(none.is_none());
        drop(first);
        assert!(!duty.end(), "somebody waits");
        drop(second);
        assert!(duty.end());
        let (_third, next) = asking(&board);
        assert!(next.is_some());
        drop(duty);
        assert!(asking(&board).1.is_none(), "one that is over is nobody else's");
    }

    #[tokio::test]
    async fn whoever_waits_is_told_that_nobody_asks_any_more() {
        let board = Arc::new(Board::new());
        let (place, duty) = asking(&board);
        drop(duty);
        assert_eq!(place.met().await, None);
        assert!(asking(&board).1.is_some());
    }
}
