//! What must hold.

use super::super::roster::View;
use super::super::*;
use super::driver::{Entry, Sim, is_ours};
use super::world::{Answer, OURS};
use crate::health::UnverifiedLag;
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use std::collections::BTreeSet;
use std::time::Duration;

/// What is counted, and must happen often enough.
pub(super) const KINDS: [&str; 30] = [
    "healthy",
    "lagging",
    "unreachable",
    "refused",
    "draining",
    "ejected",
    "a role",
    "a writer",
    "another writer",
    "no writer: not yet known",
    "no writer: nobody writable",
    "no writer: deposed",
    "no writer: split brain",
    "no writer: unconfirmed",
    "split brain",
    "split brain ended",
    "pardoned",
    "behind",
    "behind in bytes",
    "lag unknown",
    "lag unverified",
    "other timeline",
    "failed in a row",
    "error ratio",
    "of another cluster",
    "duplicate",
    "lag that was true",
    "observed",
    "kept in service",
    "recovered",
];

impl Sim {
    fn count(&mut self, what: &'static str) {
        debug_assert!(KINDS.contains(&what));
        *self.counts.entry(what).or_default() += 1;
    }

    /// Takes in what was told.
    pub(super) fn hear(&mut self, changes: &[Change]) -> TestCaseResult {
        self.hear_of(None, changes)
    }

    /// The same, told because of an answer. Each change is one, and begins where the one before has ended.
    pub(super) fn hear_of(&mut self, answered: Option<usize>, changes: &[Change]) -> TestCaseResult {
        for change in changes {
            if let Some(log) = &mut self.log {
                log.push(format!("    {change:?}"));
            }
            match change {
                Change::Health(id, transition) => self.hear_health(answered, *id, transition)?,
                Change::Role { node, from, to } => {
                    let entry = self.entries.iter_mut().find(|entry| entry.id == *node);
                    let entry =
                        entry.ok_or_else(|| TestCaseError::fail("the role of a node that is gone"))?;
                    prop_assert_eq!((*from, *to == *from), (entry.role, false));
                    entry.role = *to;
                    self.count("a role");
                }
                Change::Writer { node, from } => {
                    prop_assert_ne!(self.told.writer, Writer::Node(*node));
                    prop_assert_eq!(*from, self.told.wrote_to.filter(|other| other != node));
                    self.told.writer = Writer::Node(*node);
                    self.told.wrote_to = Some(*node);
                    self.steady = 0;
                    self.count(if from.is_some() { "another writer" } else { "a writer" });
                }
                Change::NoWriter(why) => {
                    prop_assert_ne!(self.told.writer, Writer::Nobody(*why));
                    self.told.writer = Writer::Nobody(*why);
                    self.steady = 0;
                    self.count(match why {
                        NoPrimary::NotYetKnown => "no writer: not yet known",
                        NoPrimary::NobodyWritable => "no writer: nobody writable",
                        NoPrimary::Deposed => "no writer: deposed",
                        NoPrimary::SplitBrain => "no writer: split brain",
                        NoPrimary::Unconfirmed => "no writer: unconfirmed",
                    });
                }
                Change::Limitation { .. } => {
                    return Err(TestCaseError::fail("the servers here have no limitations"));
                }
                Change::SplitBrain(nodes) => {
                    prop_assert!(!mem::replace(&mut self.told.split, true) && nodes.len() > 1);
                    self.count("split brain");
                }
                Change::SplitBrainEnded => {
                    prop_assert!(mem::take(&mut self.told.split));
                    self.count("split brain ended");
                }
            }
        }
        Ok(())
    }

    fn hear_health(
        &mut self,
        answered: Option<usize>,
        id: NodeId,
        transition: &Transition,
    ) -> TestCaseResult {
        let index = self.entries.iter().position(|entry| entry.id == id);
        let index = index.ok_or_else(|| TestCaseError::fail("the health of a node that is gone"))?;
        let entry = &mut self.entries[index];
        let Transition { from, to, reason } = transition;
        let kind = mem::discriminant(reason);
        prop_assert_eq!(*from, entry.health);
        prop_assert!((*to, kind) != (entry.health, entry.reason), "told twice");
        (entry.health, entry.reason) = (*to, kind);
        let pardoned = (*from, *to) == (HealthState::Ejected, HealthState::Healthy);
        if pardoned {
            prop_assert_eq!(answered, Some(index), "nothing has shown that it is any better");
        }
        match to {
            HealthState::Healthy => entry.ejected = false,
            HealthState::Ejected => entry.ejected = true,
            _ => {}
        }
        let kinds = [
            (pardoned, "pardoned"),
            (*to == HealthState::Healthy, "healthy"),
            (*to == HealthState::Lagging, "lagging"),
            (*to == HealthState::Unreachable, "unreachable"),
            (*to == HealthState::Refused, "refused"),
            (*to == HealthState::Draining, "draining"),
            (*to == HealthState::Ejected, "ejected"),
            (matches!(reason, Reason::Behind { .. }), "behind"),
            (matches!(reason, Reason::BehindBytes { .. }), "behind in bytes"),
            (matches!(reason, Reason::LagUnknown), "lag unknown"),
            (matches!(reason, Reason::LagUnverified), "lag unverified"),
            (matches!(reason, Reason::OtherTimeline { .. }), "other timeline"),
            (matches!(reason, Reason::FailedInARow { .. }), "failed in a row"),
            (matches!(reason, Reason::ErrorRatio { .. }), "error ratio"),
            (matches!(reason, Reason::ForeignCluster { .. }), "of another cluster"),
            (matches!(reason, Reason::Duplicate { .. }), "duplicate"),
        ];
        kinds.into_iter().filter(|(is, _)| *is).for_each(|(_, kind)| self.count(kind));
        Ok(())
    }

    /// Holds what the fleet makes of it all against what is true; `answered` has just given an answer.
    pub(super) fn check(&mut self, answered: Option<usize>) -> TestCaseResult {
        let view = self.fleet.view();
        let newest = self.writable(false).iter().filter_map(|(_, answer)| answer.seen.timeline).max();
        self.reached.1 = self.reached.1.max(newest);
        self.check_told(&view)?;
        match view.writer {
            Writer::Node(id) => self.check_writer(id)?,
            Writer::Nobody(_) => self.check_no_writer()?,
        }
        self.check_serving(&view)?;
        for (index, node) in view.nodes.iter().enumerate() {
            if node.lag != mem::replace(&mut self.entries[index].lag, node.lag) {
                self.check_lag(index, node)?;
            }
        }
        answered.map_or(Ok(()), |index| self.check_answered(index, &view.nodes[index]))
    }

    /// Whoever heard all that was told knows what is.
    fn check_told(&self, view: &View) -> TestCaseResult {
        prop_assert_eq!(view.writer, self.told.writer);
        prop_assert_eq!(view.nodes.len(), self.entries.len());
        for (node, entry) in view.nodes.iter().zip(&self.entries) {
            prop_assert_eq!((node.id, node.role, node.health), (entry.id, entry.role, entry.health));
            prop_assert_eq!(mem::discriminant(&node.reason), entry.reason);
            prop_assert_eq!(node.healthy_since.is_some(), entry.health == HealthState::Healthy);
            prop_assert_eq!(node.seen.as_ref(), entry.last.as_ref().map(|last| &last.seen));
            let gone = matches!(node.health, HealthState::Unreachable | HealthState::Draining);
            prop_assert!(gone || !self.is_gone(entry), "it does not answer");
            prop_assert_eq!(node.health == HealthState::Draining, entry.leaves);
            prop_assert!(entry.leaves || node.refused == (node.health == HealthState::Refused));
        }
        let (certain, possible) = (self.writable(true), self.writable(false));
        prop_assert!(!self.told.split || servers(&possible, None) > 1, "there is no split brain");
        prop_assert!(self.told.split || !self.known || servers(&certain, None) < 2, "there is a split brain");
        Ok(())
    }

    /// Writes go to a node that was writable when it was last asked, on a higher timeline than any before, or still on the same; if
    /// the one before has left, on the same at least.
    fn check_writer(&mut self, id: NodeId) -> TestCaseResult {
        let entry = self.entries.iter().find(|entry| entry.id == id);
        let entry = entry.ok_or_else(|| TestCaseError::fail("it is gone"))?;
        let last = entry.last.as_ref().ok_or_else(|| TestCaseError::fail("nothing is known of it"))?;
        prop_assert!(self.answers(entry) && !entry.leaves, "it is as good as gone");
        prop_assert_eq!((entry.role, entry.health), (Role::Primary, HealthState::Healthy));
        prop_assert!(is_ours(last) && !last.seen.in_recovery, "it takes no writes of ours");
        prop_assert!(servers(&self.writable(true), last.seen.timeline) <= 1, "it is not the only one");
        let term = Term { node: id, timeline: last.seen.timeline };
        if let Some(before) = self.term.filter(|before| *before != term) {
            prop_assert!(term.timeline.is_none() || term.timeline > before.timeline, "it was not promoted");
            self.steady = 0;
        }
        prop_assert!(term.timeline >= self.reached.0, "it was deposed");
        self.reached.0 = term.timeline;
        (self.term, self.history, self.known) = (Some(term), Some(last.history), true);
        Ok(())
    }

    /// A node that may take the writes takes them at the very probe that shows it.
    fn check_no_writer(&self) -> TestCaseResult {
        let certain = self.writable(true);
        let Some(timeline) = certain.iter().map(|(_, answer)| answer.seen.timeline).max() else {
            return Ok(());
        };
        let alone = servers(&self.writable(false), timeline) == 1;
        let decided = self.known && (self.term.is_some() || self.entries.iter().all(|entry| entry.probed));
        let may = self.term.is_none_or(|term| {
            let same = |(node, answer): &(NodeId, &Answer)| {
                term == Term { node: *node, timeline: answer.seen.timeline }
            };
            timeline.is_none() || timeline > term.timeline || certain.iter().any(same)
        });
        let may = may && timeline >= self.reached.1;
        prop_assert!(!(alone && decided && may), "nobody takes the writes that somebody could");
        Ok(())
    }

    fn check_serving(&mut self, view: &View) -> TestCaseResult {
        let with =
            |service| view.nodes.iter().zip(&self.entries).filter(move |(node, _)| node.serves == service);
        let healthy = with(Service::Yes).filter(|(node, _)| node.health == HealthState::Healthy).count();
        let all = with(Service::Yes).count();
        let laggards = view.nodes.iter().zip(&self.entries).filter(|(node, entry)| {
            let behind = matches!(node.reason, Reason::Behind { .. } | Reason::BehindBytes { .. });
            let lag = node.lag.and_then(|lag| lag.time());
            !entry.ejected && behind && lag.is_some_and(|lag| lag <= self.policy.lag_hard_limit)
        });
        let laggards = laggards.count();
        prop_assert_eq!(all, healthy.max(self.policy.min_replicas.min(healthy + laggards)));
        prop_assert_eq!(with(Service::AsLastResort).count(), usize::from(all == 0).min(laggards));
        for (node, entry) in with(Service::Yes).chain(with(Service::AsLastResort)) {
            self.check_service(view, node, entry)?;
        }
        if all > healthy {
            self.count("kept in service");
        }
        Ok(())
    }

    /// Reads go to a standby of the cluster that follows the primary, once a server.
    fn check_service(&self, view: &View, node: &NodeView, entry: &Entry) -> TestCaseResult {
        let last = entry.last.as_ref().ok_or_else(|| TestCaseError::fail("nothing is known of it"))?;
        prop_assert!(is_ours(last) || self.is_alone(last), "it is of another cluster");
        prop_assert!(!entry.leaves && !self.is_gone(entry), "it is as good as gone");
        prop_assert!(node.role == Role::Replica && last.seen.in_recovery, "it is writable");
        // If the primary has left, the one to be followed is at least as far.
        let left = (self.known && self.reached.0 == self.reached.1).then_some(self.reached.0).flatten();
        let (follows, primary) = (last.seen.timeline, self.term.map_or(left, |term| term.timeline));
        prop_assert!(follows.is_none() || primary.is_none() || follows == primary, "it is astray");
        let same = view.nodes.iter().zip(&self.entries).filter(|(other, entry)| {
            let seen = other.seen.as_ref().filter(|_| other.serves == Service::Yes && !entry.void);
            seen.is_some_and(|seen| seen.identity == last.seen.identity)
        });
        prop_assert!(entry.void || same.count() <= 1, "it serves twice");
        let lag = node.lag.and_then(|lag| lag.time());
        let kept = lag.is_some_and(|lag| lag <= self.policy.lag_hard_limit);
        prop_assert!(node.health == HealthState::Healthy || node.health == HealthState::Lagging && kept);
        if let (HealthState::Healthy, Some(shown)) = (node.health, node.lag) {
            let within = lag.is_some_and(|lag| lag <= self.policy.lag_threshold);
            let counts = shown.lacks_newer() || self.policy.unverified_lag == UnverifiedLag::Exclude;
            prop_assert!(within || !counts, "its lag is over the threshold that holds now");
        }
        Ok(())
    }

    /// A bound is never below what it bounds, and nobody is measured by the positions of another history.
    fn check_lag(&mut self, index: usize, node: &NodeView) -> TestCaseResult {
        let (Some(last), Some(history)) = (&self.entries[index].last, self.history) else { return Ok(()) };
        let Some(bound) = node.lag.and_then(|lag| lag.time()) else { return Ok(()) };
        if last.history == history {
            let lag = self.world.true_lag(last, history);
            prop_assert!(bound >= lag, "a bound of {:?} for {:?}", bound, lag);
            if lag > Duration::ZERO {
                self.count("lag that was true");
            }
        } else if let (Some(follows), Some(term)) = (last.seen.timeline, self.term) {
            prop_assert_eq!(Some(follows), term.timeline);
        }
        Ok(())
    }

    /// A replica serves only if it was within the threshold when it answered last, unless nobody could tell and that is allowed, or
    /// too few are left. Since it answers at most one probe less than all, no read is served by one that has been over the
    /// threshold for longer than two probes.
    fn check_answered(&mut self, index: usize, node: &NodeView) -> TestCaseResult {
        let entry = &self.entries[index];
        let last = entry.last.as_ref().ok_or_else(|| TestCaseError::fail("it has just answered"))?;
        if (node.health, node.role) != (HealthState::Healthy, Role::Replica) || entry.void {
            return Ok(());
        }
        let exclude = self.policy.unverified_lag == UnverifiedLag::Exclude;
        if exclude {
            let lag = node.lag.and_then(|lag| lag.time());
            prop_assert!(lag.is_some_and(|lag| lag <= self.policy.lag_threshold), "nobody knows its lag");
        }
        let age = last.seen.answered_at.saturating_duration_since(self.sampled_at);
        let observed = self.steady > 1 && age <= self.policy.lag_threshold;
        if self.history == Some(last.history) && (observed || exclude) {
            let lag = self.world.true_lag(last, last.history);
            prop_assert!(lag <= self.policy.lag_threshold, "it is {:?} behind", lag);
            self.count("observed");
        }
        Ok(())
    }

    pub(super) fn check_ejected(&mut self, index: usize, change: &Change) -> TestCaseResult {
        let Change::Health(id, Transition { from, to, .. }) = change else {
            return Err(TestCaseError::fail("traffic changes nothing but health"));
        };
        let of = (self.entries[index].id, HealthState::Healthy, HealthState::Ejected);
        prop_assert_eq!((*id, *from, *to), of);
        let replicas = self.entries.iter().filter(|entry| entry.role == Role::Replica && !entry.leaves);
        let share = self.policy.ejection.max_share * replicas.clone().count() as f64;
        prop_assert!(replicas.clone().filter(|entry| entry.ejected).count() as f64 <= share);
        let serves = |entry: &Entry| entry.health == HealthState::Healthy;
        prop_assert!(replicas.clone().any(serves), "the last one that served is ejected");
        Ok(())
    }

    pub(super) fn check_recovered(&mut self) -> TestCaseResult {
        let view = self.fleet.view();
        let Writer::Node(writer) = view.writer else { return Ok(()) };
        let writer = self.entries.iter().find(|entry| entry.id == writer).map(|entry| entry.server);
        let history = writer.map(|writer| self.world.servers[writer].history);
        for (number, server) in self.world.servers.iter().enumerate() {
            let entries = || self.entries.iter().zip(&view.nodes).filter(|(entry, _)| entry.server == number);
            let good = server.in_recovery && Some(server.history) == history && server.system == OURS;
            if good && entries().any(|(entry, _)| !entry.leaves) {
                let serving = entries().filter(|(_, node)| node.serves == Service::Yes).count();
                prop_assert_eq!(serving, 1, "server {} does not serve", number);
            }
        }
        self.count("recovered");
        Ok(())
    }

    /// What nodes of ours have shown that are writable. Where a server has several entries, one of them may know already what the
    /// others do not: whether to take only what they agree on.
    fn writable(&self, agreed: bool) -> Vec<(NodeId, &Answer)> {
        let there = self.entries.iter().filter(|entry| self.answers(entry) && !entry.leaves);
        let there = there.filter_map(|entry| Some((entry.id, entry.last.as_ref()?)));
        let there: Vec<_> = there.filter(|(_, last)| is_ours(last)).collect();
        let stands = |last: &Answer| {
            let mut same = there.iter().filter(|(_, other)| other.seen.identity == last.seen.identity);
            !last.seen.in_recovery && (!agreed || same.all(|(_, other)| !other.seen.in_recovery))
        };
        there.iter().copied().filter(|(_, last)| stands(last)).collect()
    }

    /// Of all that answer it is the only server, restarted or not, and it is not known which cluster this is: of other clusters than
    /// ours there is one server each.
    fn is_alone(&self, answer: &Answer) -> bool {
        let mut others = self.entries.iter().filter(|entry| self.answers(entry));
        let same = |other: &Answer| other.seen.identity.system == answer.seen.identity.system;
        !self.known && others.all(|other| other.last.as_ref().is_some_and(same))
    }
}

/// How many servers these are, on this timeline or a higher one.
fn servers(answers: &[(NodeId, &Answer)], timeline: Option<u32>) -> usize {
    let on_it = answers.iter().filter(|(_, answer)| answer.seen.timeline >= timeline);
    on_it.map(|(_, answer)| answer.seen.identity.started).collect::<BTreeSet<_>>().len()
}
