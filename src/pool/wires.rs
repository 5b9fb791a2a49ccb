//! The open connections of a pool, so that it can reach those that bb8 does not have.

use super::wire::Wire;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Every connection that has been opened and not dropped.
#[derive(Debug, Default)]
pub(super) struct Wires(Mutex<Vec<Weak<Wire>>>);

impl Wires {
    pub(super) fn add(&self, wire: &Arc<Wire>) {
        let mut wires = self.lock();
        wires.retain(|wire| wire.strong_count() > 0);
        wires.push(Arc::downgrade(wire));
    }

    pub(super) fn open(&self) -> Vec<Arc<Wire>> {
        self.lock().iter().filter_map(Weak::upgrade).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Weak<Wire>>> {
        // A list is as good as before, whoever panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
