//! The rollout of replicas, changeable while the service runs.

use super::{Router, Session};
use crate::config::ConfigError;
use crate::rollout::{Draws, Rollout};
use arc_swap::ArcSwap;
use std::sync::Arc;

/// The rollout in force, and the draws of those that ask.
#[derive(Debug, Default)]
pub(super) struct Choice {
    rollout: ArcSwap<Rollout>,
    reads: Draws,
    /// Apart, so that each keeps its share.
    sessions: Draws,
}

impl Choice {
    /// Whether a read may use replicas. Only those draw whose call site is allowed.
    pub(super) fn permits(&self, site: Option<&str>, session: Option<&Session>) -> bool {
        let rollout = self.rollout.load();
        rollout.allows(site)
            && rollout.admits(match session {
                Some(session) => session.draw(|| self.sessions.next()),
                None => self.reads.next(),
            })
    }
}

impl Router {
    /// Which reads may use replicas.
    pub fn rollout(&self) -> Rollout {
        Rollout::clone(&self.shared.rollout.rollout.load())
    }

    /// Changes which reads may use replicas, from the next request on. A [session](Router::session) draws its lot once: while the
    /// share stays, all of its reads at allowed call sites may use replicas or none may, and a share that grows takes nobody out.
    ///
    /// Reads that may not use replicas, those [after a token](crate::ReadRequest::after) as well, go to the primary on its
    /// connections for reading. That is no [fallback](crate::Fallback): the policy has no say in it.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the rollout. Then the one before stays.
    pub fn set_rollout(&self, rollout: Rollout) -> Result<(), ConfigError> {
        rollout.check()?;
        self.shared.rollout.rollout.store(Arc::new(rollout));
        Ok(())
    }
}
