//! What the nodes did in the last minutes: a look at the router's status every second.

mod ring;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use diesel_replicas::{HealthState, NodeStatus, Router};
use tokio::time::MissedTickBehavior;

pub use ring::Track;
use ring::{Look, Ring};

/// The time between two looks.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// How far back it goes.
pub const SPAN: Duration = Duration::from_secs(5 * 60);

/// Of more nodes than this, those that came last are left out.
const MAX_NODES: usize = 32;

/// The last minutes of all nodes. Clones share them.
#[derive(Debug, Clone)]
pub struct History(Arc<Mutex<Ring>>);

impl Default for History {
    fn default() -> Self {
        let looks = SPAN.as_millis().div_ceil(INTERVAL.as_millis());
        Self(Arc::new(Mutex::new(Ring::new(looks as usize, MAX_NODES))))
    }
}

impl History {
    /// Looks at the nodes of `router` for as long as it is polled.
    pub async fn follow(self, router: Router) {
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let nodes = router.status().nodes;
            let is_there_once = |name: &str| nodes.iter().filter(|node| node.name == name).count() == 1;
            // One that takes the place of another under its name is seen in its stead.
            let seen = nodes
                .iter()
                .filter(|node| node.health != HealthState::Draining || is_there_once(&node.name))
                .cloned();
            self.ring().push(Instant::now(), seen.map(Look::from));
        }
    }

    /// How long ago each look was taken, the oldest first, and what they saw of each node.
    pub fn show<R>(&self, show: impl FnOnce(Vec<Duration>, &[Track]) -> R) -> R {
        let ring = self.ring();
        let now = Instant::now();
        show(ring.times().map(|time| now.saturating_duration_since(time)).collect(), ring.tracks())
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        // A look that was left half taken by a panic lacks nodes, no more.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<NodeStatus> for Look {
    fn from(node: NodeStatus) -> Self {
        Self {
            lag: node.lag.and_then(|lag| lag.time()),
            name: node.name,
            reads: node.reads,
            health: node.health,
        }
    }
}
