//! How a figure is reported: never without its spread.

use std::fmt;

/// A median and what it was taken from.
pub(crate) struct Spread(Vec<f64>);

impl Spread {
    pub(crate) fn of(mut figures: Vec<f64>) -> Self {
        figures.sort_by(f64::total_cmp);
        Self(figures)
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(sorted) = self;
        write!(f, "{:.2} [{:.2}..{:.2}]", sorted[sorted.len() / 2], sorted[0], sorted[sorted.len() - 1])
    }
}
