//! The right to one of a pool's connections.

use super::Shared;
use super::gate::Gate;
use super::manager::Pooled;
use std::sync::Arc;

/// The right to one of the connections, from before it is there until it is back.
pub(super) struct Place {
    shared: Option<Arc<Shared>>,
}

impl Place {
    /// For a place that has been taken.
    pub(super) fn taken(shared: Arc<Shared>) -> Self {
        Self { shared: Some(shared) }
    }

    pub(super) fn shared(&self) -> &Shared {
        self.shared.as_ref().expect(UNTIL_END)
    }

    /// Gives it up, and a connection that can be used again.
    pub(super) fn give_back(self, pooled: Pooled) {
        Gate::leave(self, Some(pooled));
    }

    /// The place is somebody else's from now on.
    pub(super) fn into_shared(mut self) -> Arc<Shared> {
        self.shared.take().expect(UNTIL_END)
    }
}

const UNTIL_END: &str = "it is taken out only when the place ends";

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.take() {
            Gate::leave(Self { shared: Some(shared) }, None);
        }
    }
}
