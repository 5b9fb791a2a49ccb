//! Which commits a primary has written and does not show yet.
//!
//! A commit is in the log, and may be sent to replicas and shown there, before the primary itself shows it: a moment before, or with
//! synchronous replication until a replica has answered. No position tells these apart, but who is about to commit can be seen: a
//! commit that was in the log at some instant and is not shown yet is of a transaction that was running then. When none of these
//! is committing any more, the primary shows all that any replica had shown up to that instant.
//!
//! Source: `RecordTransactionCommit` and `CommitTransaction` in PostgreSQL's `xact.c`.

use crate::lsn::Lsn;
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;

/// From the flush of its record a commit needs microseconds to be shown, or a turn on a busy processor. Whoever runs for longer
/// is doing something else.
const LONGEST: Duration = Duration::from_millis(50);

/// The same for one that waits for a synchronous replica. Where none is left to answer, nobody else is kept waiting for ever.
const LONGEST_HELD: Duration = Duration::from_secs(1);

/// A transaction that may be committing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Committing {
    pub(super) xid: i64,
    /// It waits for a synchronous replica, or may do so.
    pub(super) held: bool,
}

/// All that had been flushed up to here, and all that any replica had shown by then, is visible on the primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Visible {
    pub(crate) flushed: Lsn,
    pub(crate) asked_at: Instant,
}

/// What one connection has been told so far.
#[derive(Debug, Default)]
pub(super) struct Commits {
    first_seen: HashMap<i64, Instant>,
    awaited: Vec<Awaited>,
}

/// What becomes visible when none of these is committing.
#[derive(Debug)]
struct Awaited {
    then: Visible,
    xids: Vec<i64>,
}

impl Commits {
    /// Takes in who may have been committing after that had been flushed, at `now`; returns the newest that is visible since.
    pub(super) fn told(&mut self, then: Visible, committing: &[Committing], now: Instant) -> Option<Visible> {
        self.first_seen.retain(|xid, _| committing.iter().any(|other| other.xid == *xid));
        let is_awaited = |Committing { xid, held }: &Committing| {
            let since = *self.first_seen.entry(*xid).or_insert(now);
            now.duration_since(since) < if *held { LONGEST_HELD } else { LONGEST }
        };
        let xids: Vec<_> = committing.iter().copied().filter(is_awaited).map(|other| other.xid).collect();
        for awaited in &mut self.awaited {
            awaited.xids.retain(|xid| xids.contains(xid));
        }
        match self.awaited.last_mut().filter(|last| last.xids == xids) {
            Some(last) => last.then = then,
            None => self.awaited.push(Awaited { then, xids }),
        }
        let over = self.awaited.iter().rposition(|awaited| awaited.xids.is_empty())?;
        self.awaited.drain(..=over).next_back().map(|awaited| awaited.then)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// One second after the other is told who is committing: `-` a number for one that a replica holds.
    struct Scene {
        commits: Commits,
        start: Instant,
        lsn: u64,
    }

    impl Scene {
        fn new() -> Self {
            Self { commits: Commits::default(), start: Instant::now(), lsn: 0 }
        }

        /// The next position, and up to which all is visible then.
        fn told(&mut self, ms: u32, committing: &[i64]) -> Option<u64> {
            self.lsn += 1;
            let now = self.start + MS * ms;
            let then = Visible { flushed: Lsn::new(self.lsn), asked_at: now };
            let committing = committing.iter().map(|xid| Committing { xid: xid.abs(), held: *xid < 0 });
            let visible = self.commits.told(then, &committing.collect::<Vec<_>>(), now)?;
            Some(visible.flushed.get())
        }
    }

    #[test]
    fn all_is_visible_where_nobody_commits() {
        let mut scene = Scene::new();
        assert_eq!(scene.told(0, &[]), Some(1));
        assert_eq!(scene.told(1, &[]), Some(2));
    }

    #[test]
    fn what_was_flushed_is_visible_when_those_are_done_who_were_committing_then() {
        let mut scene = Scene::new();
        assert_eq!(scene.told(0, &[7]), None);
        assert_eq!(scene.told(1, &[7, 8]), None);
        assert_eq!(scene.told(2, &[8, 9]), Some(1), "8 began to commit later");
        assert_eq!(scene.told(3, &[9]), Some(2));
        assert_eq!(scene.told(4, &[9]), None);
        assert_eq!(scene.told(5, &[]), Some(6), "and all before");
    }

    #[test]
    fn whoever_runs_for_long_is_not_committing() {
        let mut scene = Scene::new();
        assert_eq!(scene.told(0, &[7]), None);
        assert_eq!(scene.told(49, &[7, 8]), None);
        assert_eq!(scene.told(50, &[7, 8]), Some(1));
        assert_eq!(scene.told(51, &[7]), Some(4));
    }

    #[test]
    fn one_that_is_held_is_waited_for_longer() {
        let mut scene = Scene::new();
        assert_eq!(scene.told(0, &[-7]), None);
        assert_eq!(scene.told(999, &[-7]), None);
        assert_eq!(scene.told(1000, &[-7]), Some(3));
    }

    #[test]
    fn what_does_not_change_takes_no_room() {
        let mut scene = Scene::new();
        for ms in 0..40 {
            scene.told(ms, &[7]);
        }
        assert_eq!(scene.commits.awaited.len(), 1);
        scene.told(41, &[]);
        assert!(scene.commits.awaited.is_empty() && scene.commits.first_seen.is_empty());
    }
}
