//! The rollout of replicas, changeable while the service runs.

use super::{Router, Session};
use crate::config::{Config, ConfigError};
use crate::rollout::{Draws, Rollout, Shadows};
use arc_swap::ArcSwap;
use std::sync::Arc;

/// The rollout in force, and the draws of those that ask.
#[derive(Debug)]
pub(super) struct Choice {
    in_force: ArcSwap<InForce>,
    reads: Draws,
    /// Apart, so that each keeps its share.
    sessions: Draws,
    shadowed: Draws,
    pub(super) shadows: Arc<Shadows>,
}

#[derive(Debug)]
pub(super) struct InForce {
    rollout: Rollout,
    /// What the router is part of.
    service: Option<Arc<str>>,
}

impl InForce {
    pub(super) fn of(config: &Config) -> Self {
        Self { rollout: config.rollout.clone(), service: config.service.clone() }
    }
}

impl Choice {
    pub(super) fn new(in_force: InForce) -> Self {
        let [reads, sessions, shadowed] = std::array::from_fn(|_| Draws::default());
        let shadows = Arc::new(Shadows::new());
        Self { in_force: ArcSwap::from_pointee(in_force), reads, sessions, shadowed, shadows }
    }

    pub(super) fn set(&self, in_force: InForce) {
        self.in_force.store(Arc::new(in_force));
    }

    /// Whether a read may use replicas. Only those draw whose call site is allowed.
    pub(super) fn permits(&self, site: Option<&str>, session: Option<&Session>) -> bool {
        let InForce { rollout, service } = &**self.in_force.load();
        rollout.allows(site, service.as_deref())
            && rollout.admits(|| match session {
                Some(session) => session.draw(|| self.sessions.next()),
                None => self.reads.next(),
            })
    }

    /// Whether this read runs on a replica as well.
    pub(super) fn shadows(&self) -> bool {
        let rollout = &self.in_force.load().rollout;
        rollout.shadows(|| self.shadowed.next())
    }
}

impl Router {
    /// Which reads may use replicas.
    pub fn rollout(&self) -> Rollout {
        self.shared.rollout.in_force.load().rollout.clone()
    }

    /// Changes which reads may use replicas, from the next request on. A [session](Router::session) draws its lot once: while the
    /// share stays, all of its reads at allowed call sites may use replicas or none may, and a share that grows takes nobody out.
    ///
    /// Reads that may not use replicas, those [after a token](crate::ReadRequest::after) as well, go to the primary on its
    /// connections for reading. That is no [fallback](crate::Fallback): the policy has no say in it.
    ///
    /// It lasts until the next change, or until a configuration is [reloaded](Self::reload), which has a rollout of its own.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the rollout. Then the one before stays.
    pub fn set_rollout(&self, rollout: Rollout) -> Result<(), ConfigError> {
        let faults =
            rollout.faults().map(|(of, unusable)| (format!("rollout.{of}"), unusable)).collect::<Vec<_>>();
        if !faults.is_empty() {
            return Err(ConfigError::all_unusable(faults));
        }
        let choice = &self.shared.rollout;
        choice.in_force.rcu(|before| InForce { rollout: rollout.clone(), service: before.service.clone() });
        Ok(())
    }
}
