//! All nodes together: which one is the primary, which ones serve reads.
//!
//! A pure state machine. It takes what probes and traffic have shown, with the instant, and returns what has changed; it knows
//! no task, pool or clock. Roles are observed: the configuration only says which node was the primary when it was written.

mod election;
#[cfg(test)]
mod fixture;
mod roster;

pub(crate) use election::{NoPrimary, Writer};
pub(crate) use roster::{NodeView, Service, View};

use crate::health::{HealthPolicy, HealthState, Lag, LsnClock, NodeHealth, ProbeOutcome, Transition};
use crate::observation::{Observation, ProbeFailure};
use crate::traffic::Tally;
use election::{Candidate, Election, Standing, Term};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{fmt, mem};
use tokio::time::Instant;

/// Tells nodes apart for as long as a router lives; no two ever have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NodeId(u64);

impl NodeId {
    pub(crate) fn unique() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// What a node is to the router: as observed, and until it has answered as configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Role {
    /// Takes the writes.
    Primary,
    /// Serves reads while it is healthy.
    Replica,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Primary => "primary",
            Self::Replica => "replica",
        })
    }
}

/// A node as it is made known.
#[derive(Debug, Clone)]
pub(crate) struct Listed {
    pub(crate) id: NodeId,
    pub(crate) name: Arc<str>,
    /// What the configuration takes it for.
    pub(crate) role: Role,
}

/// What has changed; each change is told once.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Change {
    /// A node's health, or the kind of reason for it.
    Health(NodeId, Transition),
    /// A node turned out to be something else than it was taken for.
    Role {
        node: NodeId,
        from: Role,
        to: Role,
    },
    /// Writes go to this node from now on. `from` is the node that they went to before, if it is another one.
    Writer {
        node: NodeId,
        from: Option<NodeId>,
    },
    /// Writes go nowhere any more.
    NoWriter(NoPrimary),
    /// Several nodes are writable. If one of them is on a higher timeline than the others, writes go there.
    SplitBrain(Vec<NodeId>),
    SplitBrainEnded,
}

#[derive(Debug)]
pub(crate) struct Fleet {
    policy: HealthPolicy,
    /// In the order of the configuration.
    members: Vec<Member>,
    election: Election,
    /// The positions of the node that writes went to last, in the history of then.
    clock: LsnClock,
    term: Option<Term>,
    /// Whether several nodes are writable.
    split: bool,
}

#[derive(Debug)]
struct Member {
    listed: Listed,
    role: Role,
    /// A probe of it has ended, one way or the other.
    probed: bool,
    /// Its latest answer.
    seen: Option<Observation>,
    /// That answer still holds.
    present: bool,
    standing: Standing,
    health: NodeHealth,
    /// As its latest probe showed it.
    lag: Option<Lag>,
}

impl Fleet {
    pub(crate) fn new(policy: HealthPolicy) -> Self {
        Self {
            policy,
            members: vec![],
            election: Election::default(),
            clock: LsnClock::default(),
            term: None,
            split: false,
        }
    }

    /// Whatever is decided from now on is decided by this.
    pub(crate) fn set_policy(&mut self, policy: HealthPolicy) {
        self.policy = policy;
    }

    pub(crate) fn add(&mut self, node: Listed) {
        self.members.push(Member {
            role: node.role,
            listed: node,
            probed: false,
            seen: None,
            present: false,
            standing: Standing::Silent,
            health: NodeHealth::new(),
            lag: None,
        });
    }

    /// What the configuration takes the node for from now on.
    pub(crate) fn list_as(&mut self, id: NodeId, role: Role) {
        if let Some(index) = self.index(id) {
            self.members[index].listed.role = role;
        }
    }

    /// Puts the nodes into another order, that of the keys.
    pub(crate) fn sort_by_key(&mut self, key: impl Fn(NodeId) -> usize) {
        self.members.sort_by_key(|member| key(member.listed.id));
    }

    /// The node takes no new work from now on. If it is the primary, somebody has decided that another one is.
    pub(crate) fn drain(&mut self, now: Instant, id: NodeId) -> Vec<Change> {
        let mut changes = vec![];
        if let Some(index) = self.index(id) {
            let transition = self.members[index].health.drain(now);
            changes.extend(transition.map(|transition| Change::Health(id, transition)));
            self.election.forget(id);
            self.elect(now, None, &mut changes);
        }
        changes
    }

    /// Forgets the node; with the last one that has ever answered as one of the cluster, also which cluster this was.
    pub(crate) fn remove(&mut self, now: Instant, id: NodeId) -> Vec<Change> {
        let mut changes = vec![];
        self.members.retain(|member| member.listed.id != id);
        let mut seen = self.members.iter().filter_map(|member| member.seen.as_ref());
        if !seen.any(|seen| self.election.is_ours(seen.identity)) {
            self.election.forget_cluster();
        }
        self.elect(now, None, &mut changes);
        changes
    }

    /// Takes in the end of one probe.
    pub(crate) fn probed(
        &mut self,
        now: Instant,
        id: NodeId,
        result: Result<Observation, ProbeFailure>,
    ) -> Vec<Change> {
        let mut changes = vec![];
        let Some(index) = self.index(id) else { return changes };
        self.members[index].probed = true;
        match result {
            Ok(observation) => self.answered(now, index, observation, &mut changes),
            Err(failure) => self.failed(now, index, failure, &mut changes),
        }
        changes
    }

    /// Takes in the counts of a node's traffic.
    pub(crate) fn traffic(&mut self, now: Instant, id: NodeId, tally: Tally) -> Option<Change> {
        let index = self.index(id)?;
        let ejected = self.replicas().filter(|member| member.health.is_ejected()).count();
        let healthy = self.replicas().filter(|member| member.health.state() == HealthState::Healthy).count();
        let share = self.policy.ejection.max_share * self.replicas().count() as f64;
        let may_eject = ejected < share as usize && healthy > 1;
        let member = &mut self.members[index];
        if member.role != Role::Replica {
            return None;
        }
        let reason = member.health.judge_traffic(&self.policy, now, tally).filter(|_| may_eject)?;
        let transition = member.health.eject(&self.policy, now, reason);
        transition.map(|transition| Change::Health(id, transition))
    }

    fn index(&self, id: NodeId) -> Option<usize> {
        self.members.iter().position(|member| member.listed.id == id)
    }

    /// Those that could serve reads, were they healthy.
    fn replicas(&self) -> impl Iterator<Item = &Member> {
        let stays = |member: &&Member| member.health.state() != HealthState::Draining;
        self.members.iter().filter(|member| member.role == Role::Replica).filter(stays)
    }

    fn answered(&mut self, now: Instant, index: usize, observation: Observation, changes: &mut Vec<Change>) {
        // A server that has been restarted: what its other entries have shown is of the past.
        let past = self.members[index].seen.as_ref().map(|seen| seen.identity);
        let restarted = past.filter(|past| *past != observation.identity);
        for other in &mut self.members {
            let same = other.seen.as_ref().is_some_and(|seen| Some(seen.identity) == restarted);
            other.present &= !same;
        }
        let member = &mut self.members[index];
        let (asked_at, lsn) = (observation.asked_at, observation.lsn);
        member.seen = Some(observation);
        member.present = true;
        self.elect(now, Some(index), changes);
        if self.is_writer(index) {
            match lsn {
                Some(lsn) => self.clock.sample(asked_at, lsn),
                None => self.clock.missed(),
            }
        }
        self.judge(now, index, changes);
        self.pardon_the_last(now, index, changes);
    }

    fn failed(&mut self, now: Instant, index: usize, failure: ProbeFailure, changes: &mut Vec<Change>) {
        let is_writer = self.is_writer(index);
        let member = &mut self.members[index];
        let outcome = match failure {
            ProbeFailure::Failed(how) => ProbeOutcome::Failed(how),
            ProbeFailure::TimedOut { probes, after } => ProbeOutcome::TimedOut { probes, after },
            // It is alive, and its pools may well have connections: saturation is not sickness.
            ProbeFailure::Full(_) if is_writer => return self.clock.missed(),
            // Alive as well, but nobody can tell how far it is behind.
            ProbeFailure::Full(how) => ProbeOutcome::Full(how),
        };
        member.lag = None;
        let transition = member.health.observe(&self.policy, now, outcome);
        changes.extend(transition.map(|transition| Change::Health(member.listed.id, transition)));
        member.present &= member.health.answers();
        if is_writer {
            self.clock.missed();
        }
        self.elect(now, None, changes);
    }

    fn is_writer(&self, index: usize) -> bool {
        self.election.writer() == Writer::Node(self.members[index].listed.id)
    }

    /// Decides anew who takes the writes and what everybody else is, after the answer of `observed` or a change of the nodes.
    fn elect(&mut self, now: Instant, observed: Option<usize>, changes: &mut Vec<Change>) {
        let before = self.election.writer();
        let candidates: Vec<_> = self.members.iter().map(Member::candidate).collect();
        let outcome = self.election.hold(&candidates);
        if mem::replace(&mut self.split, outcome.writable.len() > 1) != self.split {
            changes.push(match self.split {
                true => Change::SplitBrain(outcome.writable),
                false => Change::SplitBrainEnded,
            });
        }

        let writer = self.election.writer();
        let last = self.term;
        if matches!(writer, Writer::Node(_)) && last != self.election.term() {
            // Positions of different histories cannot be compared.
            self.clock = LsnClock::default();
            self.term = self.election.term();
        }
        if writer != before {
            self.change_writer(writer, last.map(|term| term.node), observed, changes);
        }
        for (index, standing) in outcome.standings.into_iter().enumerate() {
            let member = &mut self.members[index];
            let role = match standing {
                Standing::Primary => Role::Primary,
                Standing::Standby | Standing::Astray(_) => Role::Replica,
                _ => member.role,
            };
            let from = mem::replace(&mut member.role, role);
            if from != role {
                changes.push(Change::Role { node: member.listed.id, from, to: role });
            }
            let fell = !member.standing.is_same_kind(&standing) && standing.is_bad();
            member.standing = standing;
            // What speaks against a node counts at once. What speaks for it counts with its next probe, unless it has waited for
            // nothing but to know who is the primary.
            let waits = writer != before && member.health.state() == HealthState::Unproven;
            if Some(index) != observed && (fell || waits) {
                self.judge(now, index, changes);
            }
        }
    }

    fn change_writer(
        &mut self,
        writer: Writer,
        last: Option<NodeId>,
        observed: Option<usize>,
        changes: &mut Vec<Change>,
    ) {
        let node = match writer {
            Writer::Node(node) => node,
            Writer::Nobody(why) => {
                self.clock.missed();
                return changes.push(Change::NoWriter(why));
            }
        };
        changes.push(Change::Writer { node, from: last.filter(|from| *from != node) });
        let index = self.index(node).filter(|index| Some(*index) != observed);
        let seen = index.and_then(|index| self.members[index].seen.as_ref());
        if let Some((asked_at, lsn)) = seen.and_then(|seen| Some((seen.asked_at, seen.lsn?))) {
            self.clock.sample(asked_at, lsn);
        }
    }

    /// Applies a node's latest answer, and what it makes of the node, to its health.
    fn judge(&mut self, now: Instant, index: usize, changes: &mut Vec<Change>) {
        let member = &mut self.members[index];
        member.lag = None;
        let Some(seen) = member.seen.as_ref().filter(|_| member.present) else { return };
        let outcome = match &member.standing {
            Standing::Silent | Standing::Undecided => return,
            Standing::Primary => ProbeOutcome::Primary,
            Standing::Standby => {
                let unknown = Lag::unknown(seen.answered_at);
                let lag = seen.lsn.map_or(unknown, |lsn| self.clock.lag(lsn, seen.answered_at));
                member.lag = Some(lag);
                ProbeOutcome::Standby(lag)
            }
            Standing::Astray(reason) => ProbeOutcome::Astray(reason.clone()),
            Standing::Refused(reason) => ProbeOutcome::Refused(reason.clone()),
        };
        let transition = member.health.observe(&self.policy, now, outcome);
        changes.extend(transition.map(|transition| Change::Health(member.listed.id, transition)));
    }

    /// Where no other replica serves, one good probe ends an ejection.
    fn pardon_the_last(&mut self, now: Instant, index: usize, changes: &mut Vec<Change>) {
        let serves = self.replicas().any(|member| member.health.state() == HealthState::Healthy);
        let member = &mut self.members[index];
        if !serves && member.health.state() == HealthState::Ejected {
            let transition = member.health.pardon(now);
            changes.extend(transition.map(|transition| Change::Health(member.listed.id, transition)));
        }
    }
}

impl Member {
    fn candidate(&self) -> Candidate<'_> {
        Candidate {
            id: self.listed.id,
            name: &self.listed.name,
            listed: self.listed.role,
            probed: self.probed,
            seen: self.seen.as_ref().filter(|_| self.present),
            leaves: self.health.state() == HealthState::Draining,
        }
    }
}
