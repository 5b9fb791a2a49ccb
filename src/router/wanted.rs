//! What a read asks of the node that serves it, beside its health.

use crate::freshness::CausalToken;
use crate::lsn::Lsn;
use crate::replay::Position;
use crate::topology::Seen;
use std::time::Duration;
use tokio::time::Instant;

/// How fresh a read has to be.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wanted {
    /// On the primary.
    pub(super) latest: bool,
    /// Not on a replica: it is not among the reads that may.
    pub(super) off_replicas: bool,
    /// Not before this commit.
    pub(super) after: Option<CausalToken>,
    /// Not older than this.
    pub(super) within: Option<Duration>,
    /// Where the primary was when it was asked for the sake of this read.
    pub(super) sampled: Option<Sample>,
}

/// Whoever has replayed up to here holds all that was committed before that instant.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    pub(super) lsn: Lsn,
    pub(super) asked_at: Instant,
}

impl Wanted {
    /// Any healthy node will do.
    pub(super) fn is_nothing(&self) -> bool {
        !self.latest && !self.off_replicas && self.after.is_none() && self.within.is_none()
    }

    /// Until when a replica can be waited for.
    pub(super) fn until(&self, until: Instant) -> Instant {
        let expires = self.sampled.and_then(|sample| sample.asked_at.checked_add(self.within?));
        expires.map_or(until, |expires| expires.min(until))
    }

    /// What shows that a standby is fresh enough, of which it is enough to have come to `target`.
    pub(super) fn shown_by(&self, seen: &Seen, target: Option<Lsn>, now: Instant) -> Option<Position> {
        let server = seen.view.seen.as_ref()?.identity;
        let position = seen.node.replay.latest()?;
        // Another process may have begun anew, before where the last one was.
        let is_known = position.in_recovery && position.started == server.started;
        let has_come = target.is_none_or(|target| position.lsn >= target);
        let is_recent = self.within.is_none_or(|longest| {
            let probed = seen.view.lag.and_then(|lag| lag.as_of());
            let sampled =
                self.sampled.filter(|sample| position.lsn >= sample.lsn).map(|sample| sample.asked_at);
            probed.max(sampled).is_some_and(|as_of| now.saturating_duration_since(as_of) <= longest)
        });
        (is_known && has_come && is_recent).then_some(position)
    }
}
