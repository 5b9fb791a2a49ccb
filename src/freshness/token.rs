//! What a read has to be at least as new as.

use crate::lsn::Lsn;
use std::cmp::Ordering;

/// An unknown position. No log gets there.
const UNKNOWN: u64 = u64::MAX;

/// At least as new as this commit: where a cluster's log stood just after it.
///
/// A read after a token sees what was committed before the token was taken, whichever node serves it. Tokens come from
/// commits, and from the text of a token: it can go to a browser and come back, or be stored with a job for later.
///
/// # Text
///
/// `1-<system>-<timeline>-<lsn>`, each in lowercase hexadecimal digits of a fixed width: 44 characters that need no
/// escaping in URLs, headers and cookies. `1` is the version of the form. One token has one text.
/// [`TokenKeys`](crate::TokenKeys) sign it for clients that cannot be trusted.
///
/// Of two texts from one cluster the greater is that of the later token, signed or not. So a client that cannot parse
/// them may keep the greatest it has seen, as JavaScript in several windows has to. (Some servers do not tell their
/// timeline. Their texts have zeros in its place, and are in order among themselves alone.)
///
/// # Order
///
/// A token is greater than another one if it is of the same cluster and later. Those of different clusters are in no
/// order, nor are those of which only one has a timeline.
///
/// # Example
///
/// ```
/// use diesel_replicas::CausalToken;
///
/// let earlier: CausalToken = "1-6b3f1c0de5a90c41-00000001-00000000016b3748".parse()?;
/// let later: CausalToken = "1-6b3f1c0de5a90c41-00000001-00000000016c0000".parse()?;
/// assert!(earlier < later);
/// assert_eq!(later.merge(earlier)?, later);
/// assert_eq!(later.timeline(), Some(1));
/// assert_eq!(later.to_string(), "1-6b3f1c0de5a90c41-00000001-00000000016c0000");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CausalToken {
    /// 0, which no cluster has, when the server does not tell it.
    pub(super) system: u64,
    /// 0, which no cluster has, when the server does not tell it.
    pub(super) timeline: u32,
    /// [`UNKNOWN`], or a position.
    pub(super) lsn: Lsn,
}

impl CausalToken {
    /// Without a position when the connection was lost between the answer to a COMMIT and the position's.
    pub(crate) const fn new(system: Option<u64>, timeline: Option<u32>, lsn: Option<Lsn>) -> Self {
        // `unwrap_or` is not const.
        Self {
            system: match system {
                Some(system) => system,
                None => 0,
            },
            timeline: match timeline {
                Some(timeline) => timeline,
                None => 0,
            },
            lsn: match lsn {
                Some(lsn) => lsn,
                None => Lsn::new(UNKNOWN),
            },
        }
    }

    /// The system identifier of the cluster, which a server and its copies share; `None` when the server does not tell
    /// it.
    pub fn system(self) -> Option<u64> {
        (self.system != 0).then_some(self.system)
    }

    /// The timeline of the commit, one more after each promotion; `None` when the server does not tell it.
    pub fn timeline(self) -> Option<u32> {
        (self.timeline != 0).then_some(self.timeline)
    }

    /// A position at or after the commit's; `None` when it is not known. Then only the primary is known to be new
    /// enough.
    pub fn lsn(self) -> Option<Lsn> {
        (self.lsn.get() != UNKNOWN).then_some(self.lsn)
    }

    /// A token for a read that has to be as new as both: the later one.
    ///
    /// If only one of them has a timeline, nobody knows which is later: they merge into one without timeline and
    /// position, for which only the primary will do.
    ///
    /// # Errors
    ///
    /// The tokens are of different clusters, or only one of them says of which.
    pub fn merge(self, other: Self) -> Result<Self, DifferentClusters> {
        match self.partial_cmp(&other) {
            Some(Ordering::Less) => Ok(other),
            Some(_) => Ok(self),
            None if self.system == other.system => Ok(Self::new(self.system(), None, None)),
            None => Err(DifferentClusters),
        }
    }
}

impl PartialOrd for CausalToken {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        let comparable =
            self.system == other.system && self.timeline().is_some() == other.timeline().is_some();
        // A higher timeline covers a lower one, even from a lower position: a promotion starts it at a position of the
        // lower one. What the lower one has past there did not survive, and the token was taken at or after there.
        comparable.then(|| (self.timeline, self.lsn).cmp(&(other.timeline, other.lsn)))
    }
}

/// The tokens are of different clusters, or only one of them says of which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the tokens are not known to be of one cluster: keep one for each, or drop the one of a cluster that is gone"
)]
pub struct DifferentClusters;

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Tokens that often have parts in common.
    pub(in super::super) fn tokens() -> impl Strategy<Value = CausalToken> {
        let system = prop_oneof![0..3u64, any::<u64>()];
        let timeline = prop_oneof![0..4u32, any::<u32>()];
        let lsn = prop_oneof![0..4u64, any::<u64>(), Just(UNKNOWN)];
        (system, timeline, lsn).prop_map(|(system, timeline, lsn)| CausalToken {
            system,
            timeline,
            lsn: Lsn::new(lsn),
        })
    }

    const fn token(system: u64, timeline: u32, lsn: u64) -> CausalToken {
        CausalToken::new(Some(system), Some(timeline), Some(Lsn::new(lsn)))
    }

    proptest! {
        #[test]
        fn merging_does_not_depend_on_who_asks(a in tokens(), b in tokens()) {
            prop_assert_eq!(a.merge(b), b.merge(a));
            prop_assert_eq!(a.merge(b).is_ok(), a.system == b.system);
        }

        #[test]
        fn merging_does_not_depend_on_the_order(a in tokens(), b in tokens(), c in tokens()) {
            let (b, c) = (CausalToken { system: a.system, ..b }, CausalToken { system: a.system, ..c });
            prop_assert_eq!(a.merge(b).unwrap().merge(c), a.merge(b.merge(c).unwrap()));
        }

        #[test]
        fn merging_again_changes_nothing(a in tokens(), b in tokens()) {
            prop_assert_eq!(a.merge(a), Ok(a));
            let b = CausalToken { system: a.system, ..b };
            let both = a.merge(b).unwrap();
            prop_assert_eq!(both.merge(a), Ok(both));
            prop_assert_eq!(both.merge(b), Ok(both));
        }

        #[test]
        fn what_was_merged_is_not_below_either(a in tokens(), b in tokens()) {
            let b = CausalToken { system: a.system, ..b };
            let both = a.merge(b).unwrap();
            for one in [a, b] {
                prop_assert!(both >= one || both.lsn().is_none(), "{both:?} is below {one:?}");
            }
        }

        #[test]
        fn parts_are_what_they_were(system: Option<u64>, timeline: Option<u32>, lsn: Option<u64>) {
            let lsn = lsn.map(Lsn::new);
            let token = CausalToken::new(system, timeline, lsn);
            prop_assert_eq!(token.system(), system.filter(|&system| system != 0));
            prop_assert_eq!(token.timeline(), timeline.filter(|&timeline| timeline != 0));
            prop_assert_eq!(token.lsn(), lsn.filter(|lsn| lsn.get() != u64::MAX));
        }

        #[test]
        fn equal_are_those_that_are_neither_before_nor_after(a in tokens(), b in tokens()) {
            prop_assert_eq!(a.partial_cmp(&b) == Some(Ordering::Equal), a == b);
        }
    }

    #[test]
    fn the_later_commit_wins() {
        let (earlier, later) = (token(7, 1, 100), token(7, 1, 101));
        assert!(earlier < later);
        assert_eq!(earlier.merge(later), Ok(later));
    }

    #[test]
    fn a_commit_after_a_promotion_wins_over_a_higher_position_before() {
        let (before, after) = (token(7, 1, 500), token(7, 2, 200));
        assert!(before < after);
        assert_eq!(before.merge(after), Ok(after));
    }

    #[test]
    fn an_unknown_position_is_past_those_of_its_timeline_only() {
        let unknown = CausalToken::new(Some(7), Some(2), None);
        assert_eq!(unknown.merge(token(7, 2, 500)), Ok(unknown));
        assert_eq!(unknown.merge(token(7, 3, 600)), Ok(token(7, 3, 600)));
    }

    #[test]
    fn clusters_do_not_mix() {
        for (one, other) in [(7, 8), (0, 7)] {
            let (one, other) = (token(one, 1, 100), token(other, 1, 200));
            assert_eq!(one.partial_cmp(&other), None);
            assert_eq!(one.merge(other), Err(DifferentClusters));
        }
        let untold = |lsn| CausalToken::new(None, None, Some(Lsn::new(lsn)));
        assert_eq!(untold(100).merge(untold(200)), Ok(untold(200)));
    }

    #[test]
    fn only_the_primary_is_as_new_as_two_of_which_one_tells_no_timeline() {
        let (told, untold) = (token(7, 2, 100), CausalToken::new(Some(7), None, Some(Lsn::new(500))));
        assert_eq!(told.partial_cmp(&untold), None);
        assert_eq!(told.merge(untold), Ok(CausalToken::new(Some(7), None, None)));
    }
}
