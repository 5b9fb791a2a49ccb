//! Shared counts: of what is going on right now, and of what has happened so far.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// How much of something there is.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicUsize);

impl Gauge {
    /// The count at this moment.
    pub(crate) fn value(&self) -> usize {
        self.0.load(Relaxed)
    }

    /// Counts one more, for as long as the guard lives.
    pub(crate) fn count(&self) -> Counted<'_> {
        self.begin();
        Counted(self)
    }

    /// Counts one more, until that ends.
    pub(crate) fn begin(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    /// One that began has ended.
    pub(crate) fn end(&self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Counts for one in its [`Gauge`] until it is dropped, so that cancelled work is counted down as well.
#[derive(Debug)]
#[must_use = "dropping it counts down at once"]
pub(crate) struct Counted<'a>(&'a Gauge);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// How often something has happened.
#[derive(Debug, Default)]
pub(crate) struct Count {
    value: AtomicU64,
    #[cfg(feature = "metrics")]
    told: AtomicU64,
}

impl Count {
    /// It has happened once more.
    pub(crate) fn add(&self) {
        self.value.fetch_add(1, Relaxed);
    }

    /// How often so far.
    pub(crate) fn value(&self) -> u64 {
        self.value.load(Relaxed)
    }

    /// How often since this was asked last. For one asker.
    #[cfg(feature = "metrics")]
    pub(crate) fn untold(&self) -> u64 {
        let value = self.value();
        value - self.told.swap(value, Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_is_alive() {
        let gauge = Gauge::default();
        let first = gauge.count();
        let second = gauge.count();
        assert_eq!(gauge.value(), 2);
        drop(first);
        assert_eq!(gauge.value(), 1);
        drop(second);
        assert_eq!(gauge.value(), 0);
    }
}
