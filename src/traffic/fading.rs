//! Quantities in which the latest counts most.

use std::f64::consts::LN_2;
use std::sync::{
    LazyLock,
    atomic::{AtomicU64, Ordering::Relaxed},
};
use std::time::Duration;
use tokio::time::Instant;

/// A quantity becomes e times smaller in this time: the decay of Finagle's peak EWMA (`Balancers.p2cPeakEwma`).
const DECAY: Duration = Duration::from_secs(10);

/// A peak becomes e times smaller also by so many observations that do not reach it. What is seen more seldom is soon forgotten: with
/// time alone, a busy node would be known by its slowest answer of many thousands, and that one is slow everywhere.
const DECAY_OBSERVATIONS: f64 = 20.0;

/// A quantity that fades unless it is renewed. It begins with nothing.
///
/// What is stored does not change as time goes by: the logarithm of what the quantity would have been long ago to be now what it is.
/// So two quantities are compared without a clock, which costs more than all the rest of a pick. The idea is known as forward decay
/// (Cormode, Shkapenyuk, Srivastava and Xu, ICDE 2009).
#[derive(Debug, Default)]
pub(crate) struct Fading {
    /// The bits of a [`level`], or 0 for nothing.
    level: AtomicU64,
}

impl Fading {
    /// Makes it a peak of what is observed: as much as this, or a little less than it was. All under 1 is 1.
    pub(super) fn observe(&self, amount: f64, now: Instant) {
        let observed = level(amount, now);
        let peak =
            |bits| Some(observed.max(f64::from_bits(bits) - 1.0 / (DECAY_OBSERVATIONS * LN_2)).to_bits());
        let _ = self.level.fetch_update(Relaxed, Relaxed, peak);
    }

    /// So much more than it is by now. All under 1 is 1.
    pub(super) fn add(&self, more: f64, now: Instant) {
        let sum = |bits| Some(level(value(bits, now) + more, now).to_bits());
        let _ = self.level.fetch_update(Relaxed, Relaxed, sum);
    }

    /// What it is by now.
    pub(crate) fn value(&self, now: Instant) -> f64 {
        value(self.level.load(Relaxed), now)
    }

    pub(crate) fn is_nothing(&self) -> bool {
        self.level.load(Relaxed) == 0
    }

    /// How many times the other one would have to be doubled to be as much, at whatever time; `None` if one is nothing.
    pub(crate) fn doublings_over(&self, other: &Self) -> Option<f64> {
        let level = |of: &Self| match of.level.load(Relaxed) {
            0 => None,
            bits => Some(f64::from_bits(bits)),
        };
        Some(level(self)? - level(other)?)
    }

    /// Lets go of what is less than that by now.
    pub(super) fn drop_below(&self, least: f64, now: Instant) {
        let bits = self.level.load(Relaxed);
        if bits != 0 && value(bits, now) < least {
            // Whoever has changed it meanwhile has made it more.
            let _ = self.level.compare_exchange(bits, 0, Relaxed, Relaxed);
        }
    }

    pub(super) fn clear(&self) {
        self.level.store(0, Relaxed);
    }
}

/// The binary logarithm of the value, and one more for each half-life until now: far over zero.
fn level(value: f64, now: Instant) -> f64 {
    value.max(1.0).log2() + half_lives(now)
}

fn value(bits: u64, now: Instant) -> f64 {
    match bits {
        0 => 0.0,
        bits => (f64::from_bits(bits) - half_lives(now)).exp2(),
    }
}

/// The time from a moment that is long ago, and the same for all quantities of the process.
fn half_lives(now: Instant) -> f64 {
    static LANDMARK: LazyLock<Instant> = LazyLock::new(Instant::now);
    /// Months before the landmark: a paused clock may be behind it.
    const BEFORE: f64 = 1_000_000.0;
    let after = now.saturating_duration_since(*LANDMARK).as_secs_f64();
    let before = LANDMARK.saturating_duration_since(now).as_secs_f64();
    BEFORE + (after - before) / (DECAY.as_secs_f64() * LN_2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};

    #[derive(Debug, Clone, Copy)]
    enum Change {
        Observe(f64),
        Add(f64),
    }

    fn change() -> impl Strategy<Value = Change> {
        let amount = 1.0..1e12;
        prop_oneof![amount.clone().prop_map(Change::Observe), amount.prop_map(Change::Add)]
    }

    fn apply(fading: &Fading, change: Change, now: Instant) {
        match change {
            Change::Observe(amount) => fading.observe(amount, now),
            Change::Add(more) => fading.add(more, now),
        }
    }

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() <= 1e-6 * a.abs().max(b.abs())
    }

    proptest! {
        /// The same as a number that is multiplied down as time goes by.
        #[test]
        fn follows_what_decays_step_by_step(steps in vec((0..60_000u64, change()), 1..50)) {
            let (fading, mut now, mut expected) = (Fading::default(), Instant::now(), 0.0_f64);
            for (ms, change) in steps {
                now += Duration::from_millis(ms);
                expected *= (-(ms as f64) / 10_000.0).exp();
                apply(&fading, change, now);
                expected = match change {
                    Change::Observe(amount) => amount.max(expected * (-1.0_f64 / 20.0).exp()),
                    Change::Add(more) => expected + more,
                };
                prop_assert!(close(fading.value(now), expected), "{} {}", fading.value(now), expected);
            }
        }

        /// Two that are compared without a clock compare as their values do at any time.
        #[test]
        fn comparisons_need_no_clock(a in change(), b in change(), apart in 0..100_000u64, later in 0..100_000u64) {
            let (one, other, start) = (Fading::default(), Fading::default(), Instant::now());
            let then = start + Duration::from_millis(apart);
            apply(&one, a, start);
            apply(&other, b, then);
            let now = then + Duration::from_millis(later);
            let doublings = one.doublings_over(&other).expect("both are something");
            prop_assert!(close(other.value(now) * doublings.exp2(), one.value(now)));
        }
    }

    #[test]
    fn a_peak_falls_to_a_third_in_ten_seconds_or_twenty_observations() {
        let (fading, now) = (Fading::default(), Instant::now());
        fading.observe(1000.0, now);
        let after = |seconds| fading.value(now + Duration::from_secs(seconds)).round();
        assert_eq!([after(0), after(10), after(20), after(70)], [1000.0, 368.0, 135.0, 1.0]);
        (0..20).for_each(|_| fading.observe(5.0, now));
        assert_eq!(fading.value(now).round(), 368.0);
        fading.observe(400.0, now);
        assert_eq!(fading.value(now).round(), 400.0);
    }

    #[test]
    fn a_clock_behind_the_landmark_counts_as_well() {
        let (fading, now) = (Fading::default(), Instant::now());
        half_lives(now);
        let Some(before) = now.checked_sub(Duration::from_secs(3600)) else { return };
        fading.observe(1000.0, before);
        assert_eq!(fading.value(before + Duration::from_secs(10)).round(), 368.0);
    }

    #[test]
    fn only_what_has_faded_is_dropped() {
        let (fading, now) = (Fading::default(), Instant::now());
        assert!(fading.is_nothing());
        assert_eq!(fading.value(now), 0.0);
        assert_eq!(fading.doublings_over(&fading), None);
        fading.add(2.0, now);
        fading.drop_below(1.0, now);
        assert!(!fading.is_nothing());
        fading.drop_below(1.0, now + Duration::from_secs(7));
        assert!(fading.is_nothing());
        fading.add(2.0, now);
        fading.clear();
        assert!(fading.is_nothing());
    }
}
