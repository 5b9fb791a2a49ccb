//! How long a pool keeps its connections.

use rand::RngExt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::time::Instant;

/// How often it is looked what is too old.
pub(super) const LOOK: Duration = Duration::from_secs(30);

/// How long a connection may go without being used; it is closed between then and twice as long. As bb8 has it.
pub(super) const UNUSED: Duration = Duration::from_secs(10 * 60);

/// How long a connection may be open: a server process grows with all that it has ever had to remember. As bb8 has it.
const OPEN: Duration = Duration::from_secs(30 * 60);

/// By how much of it the end comes earlier, at most, so that connections that were opened together do not end together.
const EARLIER: f64 = 0.25;

/// Which connections of a pool are too old to be given to anybody. Looking costs no clock.
#[derive(Debug)]
pub(super) struct Ages {
    /// What the others are counted from, in nanoseconds.
    epoch: Instant,
    /// Those that were dialed before may lead to a server that the address leads to no more.
    moved: AtomicU64,
    /// Those that were due before have been open for long enough.
    now: AtomicU64,
}

/// Of one connection, in nanoseconds from its pool's epoch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Age {
    dialed: u64,
    due: u64,
}

impl Ages {
    pub(super) fn new() -> Self {
        Self { epoch: Instant::now(), moved: AtomicU64::new(0), now: AtomicU64::new(0) }
    }

    /// Of a connection that was dialed then.
    pub(super) fn of(&self, dialed: Instant) -> Age {
        let open = OPEN.mul_f64(1.0 - rand::rng().random_range(0.0..EARLIER));
        Age { dialed: self.at(dialed), due: self.at(dialed + open) }
    }

    /// What was dialed before is too old.
    pub(super) fn expire(&self, before: Instant) {
        self.moved.fetch_max(self.at(before), Relaxed);
    }

    /// It is this late.
    pub(super) fn tick(&self, now: Instant) {
        self.now.fetch_max(self.at(now), Relaxed);
    }

    pub(super) fn is_over(&self, age: Age) -> bool {
        age.dialed < self.moved.load(Relaxed) || age.due <= self.now.load(Relaxed)
    }

    fn at(&self, instant: Instant) -> u64 {
        instant.saturating_duration_since(self.epoch).as_nanos() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_over_when_its_time_is_not_before_and_not_with_all_others() {
        let ages = Ages::new();
        let now = Instant::now();
        let all: Vec<_> = (0..100).map(|_| ages.of(now)).collect();
        let over = |after: Duration| {
            ages.tick(now + after);
            all.iter().filter(|age| ages.is_over(**age)).count()
        };
        assert_eq!(over(OPEN.mul_f64(1.0 - EARLIER) - MINUTE), 0);
        let between = over(OPEN - 4 * MINUTE);
        assert!((5..95).contains(&between), "{between}");
        assert_eq!(over(OPEN), 100);
        assert_eq!(over(MINUTE), 100, "time does not go back");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_dialed_before_the_address_moved_is_over() {
        let ages = Ages::new();
        let now = Instant::now();
        let [before, after] = [now, now + MINUTE].map(|dialed| ages.of(dialed));
        assert!(!ages.is_over(before));
        ages.expire(now + MINUTE);
        assert!(ages.is_over(before));
        assert!(!ages.is_over(after));
        ages.expire(now);
        assert!(ages.is_over(before), "what is known is not forgotten");
    }
}
