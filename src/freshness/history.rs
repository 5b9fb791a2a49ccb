//! Which history the cluster's log tells, and where a token stands in it.

use super::CausalToken;
use crate::lsn::Lsn;

/// What the primary writes, or wrote when it answered last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct History {
    /// The system identifier, where the server tells it.
    pub(crate) system: Option<u64>,
    /// Where the server tells it.
    pub(crate) timeline: Option<u32>,
    /// Where the primary was when it was first seen to write this timeline: at or past the point where the timeline began.
    pub(crate) since: Option<Lsn>,
}

/// What shows that a node of this history holds a token's commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// It has come this far.
    At(Lsn),
    /// It is the primary.
    Primary,
}

/// Why a token has no place in a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mismatch {
    OtherCluster,
    /// A promotion that is not known yet, or that never was.
    NewerTimeline(u32),
}

impl History {
    /// What a server does not tell matches everything.
    pub(crate) fn target(&self, token: &CausalToken) -> Result<Target, Mismatch> {
        let is_other = |(own, other)| own != other;
        if self.system.zip(token.system()).is_some_and(is_other) {
            return Err(Mismatch::OtherCluster);
        }
        let at = |lsn: Option<Lsn>| lsn.map_or(Target::Primary, Target::At);
        match (token.timeline(), self.timeline) {
            (Some(newer), Some(own)) if newer > own => Err(Mismatch::NewerTimeline(newer)),
            // What has survived of an older timeline lies before the point where this one began. A position past that is of what
            // is lost, or of this timeline: a router that did not know of the promotion yet has read on a node that followed it.
            (Some(older), Some(own)) if older < own => {
                let survived = |lsn: &Lsn| self.since.is_some_and(|since| *lsn <= since);
                Ok(at(token.lsn().filter(survived)))
            }
            _ => Ok(at(token.lsn())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history() -> History {
        History { system: Some(7), timeline: Some(3), since: Some(Lsn::new(500)) }
    }

    fn token(system: u64, timeline: u32, lsn: u64) -> CausalToken {
        CausalToken::new(Some(system), Some(timeline), Some(Lsn::new(lsn)))
    }

    fn at(lsn: u64) -> Result<Target, Mismatch> {
        Ok(Target::At(Lsn::new(lsn)))
    }

    #[test]
    fn a_token_of_the_same_history_is_reached_where_it_stands() {
        assert_eq!(history().target(&token(7, 3, 400)), at(400));
        assert_eq!(history().target(&token(7, 3, 9000)), at(9000));
    }

    #[test]
    fn of_an_older_timeline_only_what_lies_before_this_one_is_known_to_be_reached() {
        assert_eq!(history().target(&token(7, 2, 400)), at(400));
        assert_eq!(history().target(&token(7, 2, 500)), at(500));
        assert_eq!(history().target(&token(7, 2, 501)), Ok(Target::Primary));
        let lost = CausalToken::new(Some(7), Some(2), None);
        assert_eq!(history().target(&lost), Ok(Target::Primary));
        let unknown = History { since: None, ..history() };
        assert_eq!(unknown.target(&token(7, 2, 400)), Ok(Target::Primary));
        assert_eq!(unknown.target(&lost), Ok(Target::Primary));
    }

    #[test]
    fn a_newer_timeline_and_another_cluster_are_told_apart() {
        assert_eq!(history().target(&token(7, 4, 400)), Err(Mismatch::NewerTimeline(4)));
        assert_eq!(history().target(&token(8, 3, 400)), Err(Mismatch::OtherCluster));
        assert_eq!(history().target(&token(8, 4, 400)), Err(Mismatch::OtherCluster));
    }

    #[test]
    fn what_is_not_told_matches() {
        let bare = CausalToken::new(None, None, Some(Lsn::new(400)));
        assert_eq!(history().target(&bare), at(400));
        let silent = History { system: None, timeline: None, since: None };
        assert_eq!(silent.target(&token(8, 4, 400)), at(400));
    }

    #[test]
    fn a_commit_whose_position_is_not_known_is_on_the_primary() {
        assert_eq!(history().target(&CausalToken::new(Some(7), Some(3), None)), Ok(Target::Primary));
    }
}
