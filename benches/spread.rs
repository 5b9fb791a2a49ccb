//! How a figure is reported: never without its spread.

use std::fmt;

/// A median and what it was taken from.
pub(crate) struct Spread(Vec<f64>);

impl Spread {
    pub(crate) fn of(mut figures: Vec<f64>) -> Self {
        figures.sort_by(f64::total_cmp);
        Self(figures)
    }

    /// The lowest, the median and the highest.
    pub(crate) fn range(&self) -> [f64; 3] {
        let Self(sorted) = self;
        [sorted[0], sorted[sorted.len() / 2], sorted[sorted.len() - 1]]
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [lowest, median, highest] = self.range();
        write!(f, "{median:.2} [{lowest:.2}..{highest:.2}]")
    }
}
