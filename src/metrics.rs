//! What is measured for the `metrics` facade: durations where they happen, everything else from what the router keeps anyway.
//!
//! Without the feature `metrics` nothing is measured, and no clock is read.

#[cfg(feature = "metrics")]
mod publish;
#[cfg(feature = "metrics")]
mod table;

#[cfg(feature = "metrics")]
pub(crate) use publish::{end, forget, probed, publish, saw};

#[cfg(feature = "metrics")]
use arc_swap::ArcSwapOption;
use std::time::Duration;
#[cfg(feature = "metrics")]
use tokio::time::Instant;

/// Since when something lasts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Since(#[cfg(feature = "metrics")] Instant);

/// What takes time with the connections to one node for one kind of access.
#[derive(Debug, Default)]
pub(crate) struct Times {
    /// Taken anew with every round, since the service may install its recorder, or another one, when the router runs already.
    #[cfg(feature = "metrics")]
    histograms: ArcSwapOption<Histograms>,
}

/// In seconds.
#[cfg(feature = "metrics")]
pub(crate) struct Histograms {
    create: metrics::Histogram,
    wait: metrics::Histogram,
    r#use: metrics::Histogram,
    operation: metrics::Histogram,
}

#[cfg(feature = "metrics")]
impl Since {
    pub(crate) fn now() -> Self {
        Self(Instant::now())
    }
}

#[cfg(feature = "metrics")]
impl Times {
    /// A connection was opened.
    pub(crate) fn connected(&self, began: Since) {
        self.record(|to| &to.create, began.0.elapsed());
    }

    /// A request has got its connection, which it has from now on. One that did not have to wait took no time.
    pub(crate) fn waited(&self, began: Option<Since>) -> Since {
        let now = Instant::now();
        self.record(|to| &to.wait, began.map_or(Duration::ZERO, |began| now - began.0));
        Since(now)
    }

    /// A handle is given back.
    pub(crate) fn used(&self, lent: Since) {
        self.record(|to| &to.r#use, lent.0.elapsed());
    }

    /// A call was answered.
    pub(crate) fn answered(&self, took: Duration) {
        self.record(|to| &to.operation, took);
    }

    fn record(&self, to: impl Fn(&Histograms) -> &metrics::Histogram, took: Duration) {
        if let Some(histograms) = &*self.histograms.load() {
            to(histograms).record(took);
        }
    }
}

#[cfg(not(feature = "metrics"))]
impl Since {
    pub(crate) fn now() -> Self {
        Self()
    }
}

#[cfg(not(feature = "metrics"))]
#[expect(clippy::unused_self, reason = "as where something is measured")]
impl Times {
    pub(crate) fn connected(&self, _: Since) {}

    pub(crate) fn waited(&self, _: Option<Since>) -> Since {
        Since()
    }

    pub(crate) fn used(&self, _: Since) {}

    pub(crate) fn answered(&self, _: Duration) {}
}

#[cfg(feature = "metrics")]
impl std::fmt::Debug for Histograms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Histograms").finish_non_exhaustive()
    }
}
