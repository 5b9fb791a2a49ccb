//! Which reads may use replicas: a share of them, and only those of call sites that are allowed.
//!
//! The decision is pure: it takes the setting, the read's call site and a draw.

mod shadow;

pub use shadow::ShadowStatus;
pub(crate) use shadow::{Outcome, Shadows};

use crate::balance::GOLDEN;
use crate::config::Unusable;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

/// Two to the 64th.
const WHOLE: f64 = 18_446_744_073_709_551_616.0;

/// Which reads may use replicas; the others go to the primary, on its connections for reading. Set with
/// [`Router::set_rollout`](crate::Router::set_rollout), from the next request on. By default all may.
///
/// Replicas stay connected to and probed whatever it says: to take them out altogether, set
/// [`read_replicas_enabled`](crate::RouterBuilder::read_replicas_enabled) in a configuration to
/// [reload](crate::Router::reload).
///
/// # Example
///
/// ```
/// use diesel_replicas::Rollout;
///
/// // A tenth of the reads of two parts of the service.
/// let rollout = Rollout::default().percent(10.0).allow(["messages.list", "rooms.*"]);
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
#[must_use = "a rollout does nothing until it is set"]
pub struct Rollout {
    /// The share of reads that may use replicas, of those whose call site is allowed. From 0 to 100; default: 100.
    pub percent: f64,
    /// The call sites whose reads may use replicas: `messages.list`, or all that begin alike, `messages.*`, or all of a
    /// [service](crate::RouterBuilder::service), `service:chat`. A read that [names no site](crate::ReadRequest::site) is none of
    /// them. Default: empty, which allows all reads.
    pub allow: BTreeSet<String>,
    /// The share of [shadowed reads](crate::Router::with_shadowed_read) that the primary served and that run on a replica as well.
    /// From 0 to 100; default: 0.
    pub shadow_percent: f64,
}

impl Default for Rollout {
    fn default() -> Self {
        Self { percent: 100.0, allow: BTreeSet::new(), shadow_percent: 0.0 }
    }
}

impl Rollout {
    /// Sets the [share](Self::percent) of reads that may use replicas.
    pub fn percent(mut self, percent: f64) -> Self {
        self.percent = percent;
        self
    }

    /// Sets the [call sites](Self::allow) whose reads may use replicas, in the place of those before.
    pub fn allow<S: Into<String>>(mut self, sites: impl IntoIterator<Item = S>) -> Self {
        self.allow = sites.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the [share](Self::shadow_percent) of shadowed reads that run on a replica as well.
    pub fn shadow_percent(mut self, percent: f64) -> Self {
        self.shadow_percent = percent;
        self
    }

    /// What is wrong with it, by the name of what it is wrong with.
    pub(crate) fn faults(&self) -> impl Iterator<Item = (&'static str, Unusable)> {
        let share = |name, percent: f64| {
            let is_one = (0.0..=100.0).contains(&percent);
            (!is_one).then(|| (name, Unusable::new("is not a percentage", "a number from 0 to 100")))
        };
        let sites = self.allow.iter().any(|entry| !is_entry(entry)).then(|| {
            let wanted =
                "call sites as in `messages.list`, `messages.*` for all that begin alike, and `service:chat`";
            ("allow", Unusable::new("has an entry that names no call site", wanted))
        });
        let percent = share("percent", self.percent);
        percent.into_iter().chain(sites).chain(share("shadow_percent", self.shadow_percent))
    }

    /// Whether reads of this call site, in this service, may use replicas, if the share allows.
    pub(crate) fn allows(&self, site: Option<&str>, service: Option<&str>) -> bool {
        let matches = |entry: &String| match entry.strip_prefix(SERVICE) {
            Some(name) => service == Some(name),
            None => site.is_some_and(|site| match entry.strip_suffix('*') {
                Some(prefix) => site.starts_with(prefix),
                None => site == entry,
            }),
        };
        self.allow.is_empty() || self.allow.iter().any(matches)
    }

    /// Whether a draw is within the share. One that is within stays so when the share grows.
    pub(crate) fn admits(&self, draw: impl FnOnce() -> u64) -> bool {
        is_within(draw, self.percent)
    }

    /// The same for a read that is to run on a replica as well.
    pub(crate) fn shadows(&self, draw: impl FnOnce() -> u64) -> bool {
        is_within(draw, self.shadow_percent)
    }
}

/// Of all and of nothing there is no draw.
fn is_within(draw: impl FnOnce() -> u64, percent: f64) -> bool {
    // The conversion saturates.
    percent >= 100.0 || percent > 0.0 && draw() < (percent / 100.0 * WHOLE) as u64
}

/// What stands before the name of a service.
const SERVICE: &str = "service:";

/// A call site, or its beginning and `*`, or a service.
fn is_entry(entry: &str) -> bool {
    match entry.strip_prefix(SERVICE) {
        Some(name) => is_name(name),
        None => entry == "*" || is_name(entry.strip_suffix('*').unwrap_or(entry)),
    }
}

/// Letters, digits, `-`, `_`, `.` and `/`.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c: char| c.is_ascii_alphanumeric() || "-_./".contains(c))
}

/// Numbers that fall evenly over all of `u64`, however few of them are taken: multiples of the golden ratio. Unlike a fixed
/// cycle, they do not fall in step with callers that take turns.
#[derive(Debug, Default)]
pub(crate) struct Draws(AtomicU64);

impl Draws {
    pub(crate) fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed).wrapping_mul(GOLDEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(rollout: &Rollout, draws: &Draws, reads: usize) -> usize {
        (0..reads).filter(|_| rollout.admits(|| draws.next())).count()
    }

    #[test]
    fn the_share_is_kept_over_any_run_of_reads() {
        for percent in [0.0, 0.5, 1.0, 10.0, 33.3, 50.0, 99.0, 100.0] {
            let (rollout, draws) = (Rollout::default().percent(percent), Draws::default());
            for _ in 0..20 {
                let (wanted, got) = (percent * 10.0, admitted(&rollout, &draws, 1000) as f64);
                let off = if percent == 0.0 || percent == 100.0 { 0.0 } else { 2.0 };
                assert!((got - wanted).abs() <= off, "{percent} %: {got} of 1000");
            }
        }
    }

    #[test]
    fn each_of_two_callers_that_take_turns_has_its_share() {
        let (rollout, draws) = (Rollout::default().percent(50.0), Draws::default());
        let mut got = [0, 0];
        (0..2000).for_each(|read| got[read % 2] += usize::from(rollout.admits(|| draws.next())));
        assert!(got.iter().all(|got| (490..=510).contains(got)), "{got:?}");
    }

    #[test]
    fn what_was_admitted_stays_so_when_the_share_grows() {
        let draws = Draws::default();
        for draw in std::iter::repeat_with(|| draws.next()).take(1000) {
            let admits = |percent| Rollout::default().percent(percent).admits(|| draw);
            assert!(!admits(1.0) || admits(10.0));
            assert!(!admits(10.0) || admits(100.0));
        }
    }

    #[test]
    fn an_empty_list_allows_all_and_another_one_what_it_names() {
        assert!(Rollout::default().allows(None, None) && Rollout::default().allows(Some("rooms.list"), None));
        let rollout = Rollout::default().allow(["messages.list", "rooms.*"]);
        for (site, allowed) in [
            (None, false),
            (Some("messages.list"), true),
            (Some("messages.list.old"), false),
            (Some("messages"), false),
            (Some("rooms.list"), true),
            (Some("roomsize"), false),
        ] {
            assert_eq!(rollout.allows(site, Some("messages.list")), allowed, "{site:?}");
        }
        let of_service = Rollout::default().allow(["service:chat", "rooms.list"]);
        for (site, service, allowed) in [
            (None, Some("chat"), true),
            (Some("users.list"), Some("chat"), true),
            (Some("rooms.list"), Some("mail"), true),
            (Some("users.list"), Some("mail"), false),
            (Some("service:chat"), None, false),
            (None, None, false),
        ] {
            assert_eq!(of_service.allows(site, service), allowed, "{site:?} in {service:?}");
        }
    }

    #[test]
    fn all_faults_are_told_at_once_and_no_value_is_repeated() {
        let faults = |rollout: Rollout| rollout.faults().map(|(of, _)| of).collect::<Vec<_>>();
        for percent in [-1.0, 100.1, f64::NAN, f64::INFINITY] {
            let rollout = Rollout::default().percent(percent).shadow_percent(percent).allow(["pass word"]);
            assert!(rollout.faults().all(|(_, unusable)| !format!("{unusable:?}").contains("pass word")));
            assert_eq!(faults(rollout), ["percent", "allow", "shadow_percent"]);
        }
        for entry in ["", "a*b", "**", "service:", "service:*", "services:a"] {
            assert_eq!(faults(Rollout::default().allow([entry])), ["allow"], "{entry}");
        }
        assert!(faults(Rollout::default().percent(0.0).allow(["a.b", "c-d/*", "*", "service:a"])).is_empty());
    }
}
