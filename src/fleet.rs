//! All nodes together: which one is the primary, which ones serve reads.
//!
//! A pure state machine. It takes what probes and traffic have shown, with the instant, and returns what has changed; it knows
//! no task, pool or clock. Roles are observed: the configuration only says which node was the primary when it was written.

mod election;
#[cfg(test)]
mod fixture;
mod roster;
#[cfg(test)]
mod sim;

pub(crate) use election::{NoPrimary, Writer};
pub(crate) use roster::{NodeView, Service, View};

use crate::health::{HealthPolicy, HealthState, Lag, LsnClock, NodeHealth, ProbeOutcome, Reason, Transition};
use crate::limitation::Limitation;
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
    /// Something that a node does not do or tell, or does again.
    Limitation {
        node: NodeId,
        limitation: Limitation,
        began: bool,
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
    /// When the server process that gave it had answered for the first time.
    since: Option<Instant>,
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

    /// Whether several nodes are writable.
    #[cfg(feature = "metrics")]
    pub(crate) fn is_split(&self) -> bool {
        self.split
    }

    /// Whatever is decided from now on is decided by this. A replica that may not serve by it leaves at once.
    pub(crate) fn set_policy(&mut self, now: Instant, policy: HealthPolicy) -> Vec<Change> {
        self.policy = policy;
        let mut changes = vec![];
        for member in self.members.iter_mut().filter(|member| member.role == Role::Replica) {
            // A probe that has failed since then is no reason to trust it more.
            let seen = member.seen.as_ref().filter(|_| member.present);
            let lag = member.lag.or_else(|| seen.map(|seen| lag(&self.clock, seen)));
            let lag = lag.unwrap_or_else(|| Lag::unknown(now));
            let transition = member.health.reconsider(&self.policy, now, lag);
            changes.extend(transition.map(|transition| Change::Health(member.listed.id, transition)));
        }
        changes
    }

    pub(crate) fn add(&mut self, node: Listed) {
        self.members.push(Member {
            role: node.role,
            listed: node,
            probed: false,
            seen: None,
            since: None,
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

    pub(crate) fn role(&self, id: NodeId) -> Option<Role> {
        self.index(id).map(|index| self.members[index].role)
    }

    /// The node that takes the writes, or took them last.
    pub(crate) fn last_writer(&self) -> Option<NodeId> {
        self.election.term().map(|term| term.node)
    }

    /// Whether the node has shown to be of another cluster.
    pub(crate) fn is_foreign(&self, id: NodeId) -> bool {
        let member = self.index(id).map(|index| &self.members[index]);
        member
            .is_some_and(|member| matches!(member.standing, Standing::Refused(Reason::ForeignCluster { .. })))
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

    /// The new node is listed in the place of the old one, which is to be drained.
    pub(crate) fn succeed(&mut self, old: NodeId, new: NodeId) {
        self.election.succeed(old, new);
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
        let counts = self.is_settled(index, &observation);
        let member = &mut self.members[index];
        let (asked_at, lsn) = (observation.asked_at, observation.lsn);
        if member.seen.as_ref().is_none_or(|seen| seen.identity != observation.identity) {
            member.since = Some(observation.answered_at);
        }
        member.tell_limitations(&observation, changes);
        member.seen = Some(observation);
        member.present = counts;
        member.health.answered();
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

    /// Whether the answer counts at once. It does not if it looks like that of a second primary, and may well be of the same one:
    /// restarted, and seen first through another entry than the one that writes go to.
    ///
    /// If that one shows a restart, that others have shown the server to be writable is of the past.
    fn is_settled(&mut self, index: usize, observation: &Observation) -> bool {
        let Some(term) = self.election.term() else { return true };
        let Member { listed: Listed { id, .. }, seen, .. } = &self.members[index];
        let (id, before) = (*id, seen.as_ref().map(|seen| seen.identity));
        let Some(before) = before.filter(|before| *before != observation.identity) else { return true };
        let mut others = self.members.iter_mut().filter(|other| {
            let seen = other.seen.as_ref().filter(|_| other.present);
            seen.is_some_and(|seen| seen.identity == before && !seen.in_recovery)
        });
        if id == term.node {
            others.for_each(|other| other.present = false);
            return true;
        }
        let alike = !observation.in_recovery
            && (observation.timeline, observation.identity.system) == (term.timeline, before.system);
        !(alike && others.any(|other| other.listed.id == term.node))
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
            // What speaks against a node counts at once. What speaks for it counts with its next probe, unless writes go to it, or
            // it has waited for nothing but to know where they go.
            let appointed = standing == Standing::Primary || member.health.state() == HealthState::Unproven;
            member.standing = standing;
            if Some(index) != observed && (fell || writer != before && appointed) {
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
            Standing::Silent => return,
            Standing::Undecided if seen.in_recovery || member.health.state() == HealthState::Unproven => {
                return;
            }
            // It was a standby that served.
            Standing::Undecided => ProbeOutcome::Astray(Reason::LagUnverified),
            Standing::Primary => ProbeOutcome::Primary,
            Standing::Standby => {
                let lag = lag(&self.clock, seen);
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

/// How far the standby that has answered so is behind.
fn lag(clock: &LsnClock, seen: &Observation) -> Lag {
    let unknown = Lag::unknown(seen.answered_at);
    let reported =
        seen.standby.reported.map_or(unknown, |lag| Lag::reported(seen.asked_at, seen.answered_at, lag));
    let lag = seen.lsn.map_or(reported, |lsn| clock.lag(lsn, seen.answered_at));
    seen.standby.behind.map_or(lag, |behind| lag.at_least(behind))
}

impl Member {
    /// What is new in the answer, and what was in the last one and is not in it.
    fn tell_limitations(&self, answer: &Observation, changes: &mut Vec<Change>) {
        let before = self.seen.as_ref().map_or(&[][..], |seen| &seen.limitations);
        let mut tell = |of: &[Limitation], without: &[Limitation], began| {
            let told = of.iter().filter(|limitation| !without.contains(limitation));
            changes.extend(told.map(|limitation| {
                let (node, limitation) = (self.listed.id, limitation.clone());
                Change::Limitation { node, limitation, began }
            }));
        };
        tell(before, &answer.limitations, false);
        tell(&answer.limitations, before, true);
    }

    fn candidate(&self) -> Candidate<'_> {
        Candidate {
            id: self.listed.id,
            name: &self.listed.name,
            listed: self.listed.role,
            probed: self.probed,
            seen: self.seen.as_ref().filter(|_| self.present),
            since: self.since,
            leaves: self.health.state() == HealthState::Draining,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::fixture::{Answer, Scene, ms, primary, standby};
    use super::*;
    use crate::health::{Ejection, UnverifiedLag};

    /// Nothing is told.
    const QUIET: [&str; 0] = [];

    fn new() -> Scene {
        Scene::new(HealthPolicy::default(), ["a", "b", "c"])
    }

    fn healthy() -> Scene {
        Scene::healthy(HealthPolicy::default())
    }

    #[test]
    fn the_first_round_finds_out_what_everybody_is() {
        let mut scene = new();
        assert_eq!(scene.nodes(), "a unproven primary, b unproven replica, c unproven replica");
        assert_eq!(scene.writer(), "not every node has been asked yet");
        assert_eq!(scene.answer("a", primary()), QUIET);
        assert_eq!(
            scene.answer("b", standby()),
            ["b: unproven to unproven: primary unobserved: lag unverified"]
        );
        assert_eq!(
            scene.refuse("c"),
            [
                "c: unproven to unreachable: connection refused",
                "writes to a",
                "a: unproven to healthy: answers and is writable",
                "b: unproven to healthy: lag of at most 0 ms",
            ]
        );
        assert_eq!(scene.nodes(), "a healthy primary, b healthy replica, c unreachable replica");
        assert_eq!(scene.serving(), "b");
    }

    #[test]
    fn a_promotion_moves_writes_at_the_very_probe_that_shows_it() {
        let on = |timeline: u32| primary().timeline(timeline);
        let promoted = [
            "writes to b instead of a",
            "b: a primary, not a replica",
            "c: healthy to lagging: not known to follow the primary to timeline 2: seen on 1 so far",
            "b: healthy to healthy: answers and is writable",
        ];

        let mut scene = healthy();
        scene.refuse("a");
        assert_eq!(scene.answer("b", on(2)), promoted, "the old primary is gone");
        assert_eq!((scene.writer(), scene.serving()), ("b".into(), "".into()));

        let mut scene = healthy();
        let told = [
            "no writes: no node that answers is writable",
            "a: a replica, not a primary",
            "a: healthy to healthy: lag of at most 0 ms",
        ];
        assert_eq!(scene.answer("a", standby()), told);
        let mut expected = promoted.to_vec();
        expected.insert(
            1,
            "a: healthy to lagging: not known to follow the primary to timeline 2: seen on 1 so far",
        );
        assert_eq!(scene.answer("b", on(2)), expected, "it is in recovery");

        let mut scene = healthy();
        let mut expected = promoted.to_vec();
        expected.insert(0, "split brain: a b");
        expected.insert(2, "a: healthy to refused: writable, but on timeline 1 while the primary is on 2");
        assert_eq!(scene.answer("b", on(2)), expected, "it is still writable");
        assert_eq!(scene.answer("a", on(1)), QUIET);
        assert_eq!(scene.answer("b", on(2)), QUIET);
        assert_eq!(
            scene.answer("c", standby().timeline(2)),
            ["c: lagging to lagging: lag of at most 0 ms is to be confirmed by the next probe"]
        );
        let told = ["split brain ended", "a: a replica, not a primary"];
        assert_eq!(scene.answer("a", standby().timeline(2)), told);
        assert_eq!(scene.answer("a", standby().timeline(2)), ["a: refused to healthy: lag of at most 0 ms"]);
        assert_eq!(scene.answer("c", standby().timeline(2)), ["c: lagging to healthy: lag of at most 0 ms"]);
        assert_eq!((scene.writer(), scene.serving()), ("b".into(), "a c".into()));
    }

    #[test]
    fn a_primary_that_is_gone_takes_writes_again_at_its_first_good_answer() {
        let mut scene = healthy();
        assert_eq!(scene.time_out("a"), QUIET, "one probe changes nothing");
        assert_eq!(scene.writer(), "a");
        let told = [
            "a: healthy to unreachable: 2 probes timed out after 500 ms",
            "no writes: no node that answers is writable",
        ];
        assert_eq!(scene.time_out("a"), told);
        assert_eq!(scene.serving(), "b c", "reads go on");
        assert_eq!(scene.time_out("a"), QUIET);
        let told = ["writes to a", "a: unreachable to healthy: answers and is writable"];
        assert_eq!(scene.answer("a", primary()), told);
        assert_eq!(scene.time_out("a"), QUIET, "one probe changes nothing now either");
    }

    #[test]
    fn writes_stay_where_they_were_or_go_nowhere() {
        let mut scene = healthy();
        let split = |timeline| format!("split brain: not the only writable node on timeline {timeline}");
        assert_eq!(
            scene.answer("b", primary()),
            [
                "split brain: a b".into(),
                "no writes: split brain: more than one node has been writable on one timeline".into(),
                format!("a: healthy to refused: {}", split(1)),
                format!("b: healthy to refused: {}", split(1)),
            ]
        );
        assert_eq!(scene.refuse("a")[1..], ["split brain ended"]);
        assert_eq!(scene.writer(), "split brain: more than one node has been writable on one timeline");
        assert_eq!(scene.refuse("b")[1..], ["no writes: no node that answers is writable"]);
        scene.answer("c", primary().timeline(2));
        assert_eq!(scene.writer(), "c");
        scene.refuse("c");
        scene.answer("a", primary());
        assert_eq!(scene.writer(), "the only writable node is on an older timeline than the primary was");
    }

    #[test]
    fn a_wrong_entry_is_told_once_and_handled_by_what_it_is() {
        let mut scene = new();
        assert_eq!(scene.answer("a", standby())[0], "a: a replica, not a primary");
        scene.answer("b", primary());
        assert_eq!(
            scene.answer("c", standby().system(8)),
            [
                "writes to b",
                "a: unproven to healthy: lag of at most 0 ms",
                "b: a primary, not a replica",
                "b: unproven to healthy: answers and is writable",
                "c: unproven to refused: of another cluster: its system identifier is 8, the primary's 7",
            ]
        );
        assert_eq!(scene.nodes(), "a healthy replica, b healthy primary, c refused replica");
        for _ in 0..3 {
            scene.wait(250);
            let told = ["b", "a", "c"].map(|name| match name {
                "b" => scene.answer(name, primary()),
                "a" => scene.answer(name, standby()),
                _ => scene.answer(name, standby().system(8)),
            });
            assert_eq!(told.concat(), QUIET);
        }
        assert_eq!(scene.serving(), "a");
    }

    #[test]
    fn a_server_that_is_listed_twice_serves_once() {
        let one = |seen: Answer, started| seen.started(started);
        let mut scene = new();
        scene.answer("a", one(primary(), 1));
        scene.answer("b", one(standby(), 2));
        let told = scene.answer("c", one(standby(), 2));
        assert_eq!(told.last().expect("more than one"), "c: unproven to refused: the same server as `b`");
        assert_eq!(scene.serving(), "b");

        // Restarted, and seen first through the other entry.
        assert_eq!(scene.answer("c", one(standby(), 3)), QUIET);
        assert_eq!(
            scene.answer("b", one(standby(), 3)),
            ["c: refused to refused: the same server as `b`"; 0]
        );
        assert_eq!(scene.serving(), "b");
    }

    #[test]
    fn a_primary_that_is_listed_twice_and_restarted_is_no_second_one() {
        let one = |started| primary().started(started);
        for order in [["a", "b"], ["b", "a"]] {
            let mut scene = Scene::new(HealthPolicy::default(), ["a", "b", "c"]);
            scene.answer("a", one(1));
            scene.answer("b", one(1));
            scene.answer("c", standby());
            assert_eq!(scene.writer(), "a");
            for name in order.into_iter().chain(order) {
                assert_eq!(scene.answer(name, one(2)), QUIET);
            }
            let split = "split brain: more than one node has been writable on one timeline";
            assert_eq!(scene.refuse("a")[1], format!("no writes: {split}"));
            assert_eq!(scene.answer("b", one(3)), QUIET);
            assert_eq!(scene.writer(), split, "on the word of the other entry alone");
        }
    }

    #[test]
    fn a_name_that_has_led_to_the_primary_may_lead_elsewhere() {
        let mut scene = healthy();
        scene.answer("b", primary().started(97));
        assert_eq!(scene.answer("a", primary().started(97)), QUIET);
        assert_eq!(scene.answer("b", standby().started(98)), QUIET, "writes go on");
        assert_eq!(scene.answer("b", standby().started(98)), ["b: refused to healthy: lag of at most 0 ms"]);
        assert_eq!(scene.writer(), "a");
    }

    #[test]
    fn each_limitation_is_told_when_it_begins_and_when_it_ends() {
        let mut scene = healthy();
        let hidden = standby().hiding_statistics();
        let text = Limitation::StatisticsHidden.to_string();
        assert_eq!(scene.answer("b", hidden), [format!("b: {text}")]);
        assert_eq!(scene.answer("b", hidden), [""; 0]);
        scene.refuse("b");
        assert_eq!(scene.answer("b", hidden), [""; 0], "it was the same before");
        assert_eq!(scene.answer("b", standby())[0], format!("b: no longer: {text}"));
    }

    #[test]
    fn lag_that_a_server_reports_counts_where_it_does_not_tell_its_position() {
        let mut scene = healthy();
        scene.answer("b", standby().reporting(ms(30)));
        assert_eq!(scene.lag("b"), Some(ms(30)));
        let changes = scene.answer("b", standby().reporting(ms(5000)));
        assert!(changes[0].starts_with("b: healthy to lagging: lag of at most 5000 ms"), "{changes:?}");
    }

    #[test]
    fn lag_is_judged_within_one_history_alone() {
        let on = |timeline: u32| primary().timeline(timeline);
        let mut scene = healthy();
        scene.answer("a", primary().at(5000));
        assert_eq!(scene.lag("b"), Some(ms(0)));

        // Promoted at an older position, and written to since.
        scene.wait(5000);
        scene.answer("b", on(2).at(4000));
        scene.wait(1500);
        scene.answer("b", on(2).at(6000));
        scene.answer("c", standby().timeline(2).at(5500));
        assert_eq!(scene.lag("c"), Some(ms(1500)), "5000 was reached on the old history");

        // The same node, promoted again with nobody looking.
        scene.wait(1500);
        scene.answer("b", on(4).at(6000));
        scene.answer("c", standby().timeline(4).at(5500));
        assert_eq!(scene.lag("c"), None, "nothing is known of this history");

        // Seen nowhere in between, and then somewhere else.
        scene.refuse("b");
        scene.refuse("b");
        scene.answer("a", on(5).at(6000));
        scene.answer("c", standby().timeline(5).at(5999));
        assert_eq!(scene.lag("c"), None);

        // The same history, after a while out of reach.
        scene.refuse("a");
        scene.wait(700);
        scene.answer("a", on(5).at(7000));
        scene.answer("c", standby().timeline(5).at(6500));
        assert_eq!(scene.lag("c"), Some(ms(700)));
    }

    #[test]
    fn a_standby_that_does_not_say_how_far_it_is_has_no_lag() {
        let mut scene = healthy();
        assert_eq!(
            scene.answer("b", standby().nowhere()),
            ["b: healthy to healthy: primary unobserved: lag unverified"]
        );
        assert_eq!((scene.lag("b"), scene.serving()), (None, "b c".into()));
    }

    #[test]
    fn a_primary_that_does_not_say_how_far_it_is_measures_nobody() {
        let mut scene = healthy();
        scene.wait(5000);
        scene.answer("a", primary().nowhere());
        scene.answer("b", standby().at(99));
        assert_eq!(scene.nodes(), "a healthy primary, b healthy replica, c healthy replica");
    }

    #[test]
    fn full_is_alive() {
        let mut scene = healthy();
        for _ in 0..3 {
            assert_eq!(scene.full("a"), QUIET, "saturation is not sickness");
        }
        assert_eq!(scene.full("b"), QUIET);
        assert_eq!(scene.full("b"), ["b: healthy to unreachable: too many clients"]);
        assert_eq!((scene.writer(), scene.serving()), ("a".into(), "c".into()));

        // While nobody could ask the primary, nobody fell behind for all that is known.
        scene.wait(5000);
        scene.full("a");
        scene.answer("a", primary().at(200));
        assert_eq!(
            scene.answer("c", standby().at(199)),
            ["c: healthy to healthy: primary unobserved: lag unverified"]
        );
    }

    #[test]
    fn traffic_ejects_a_replica_for_a_while() {
        let mut scene = healthy();
        assert_eq!(scene.eject("a"), QUIET, "nobody else could take the writes");
        assert_eq!(scene.eject("b"), ["b: healthy to ejected: failed 5 calls in a row"]);
        assert_eq!(scene.serving(), "c");
        assert_eq!(scene.eject("b"), QUIET);
        assert_eq!(scene.eject("c"), QUIET, "it is the last one, and half of two is one");
        assert_eq!(scene.round(primary(), standby()), QUIET);
        scene.wait(4750);
        assert_eq!(scene.round(primary(), standby()), ["b: ejected to healthy: lag of at most 0 ms"]);
        scene.wait(10_000);
        scene.eject("b");
        scene.wait(9_749);
        assert_eq!(scene.round(primary(), standby()), QUIET, "the second one lasts twice as long");
        assert_eq!(scene.round(primary(), standby()), ["b: ejected to healthy: lag of at most 0 ms"]);
    }

    #[test]
    fn a_share_of_the_replicas_at_most_is_ejected() {
        for (share, replicas, ejected) in [
            (0.5, 1, 0),
            (0.5, 2, 1),
            (0.5, 3, 1),
            (0.5, 4, 2),
            (1.0, 1, 0),
            (1.0, 3, 2),
            (0.3, 3, 0),
            (0.0, 9, 0),
        ] {
            let ejection = Ejection::default().max_share(share);
            let mut scene = Scene::new(HealthPolicy { ejection, ..Default::default() }, ["a"]);
            let names: Vec<_> = (0..replicas).map(|i| format!("r{i}")).collect();
            for name in &names {
                scene.add(name, Role::Replica);
            }
            scene.round(primary(), standby());
            let told: Vec<_> = names.iter().flat_map(|name| scene.eject(name)).collect();
            assert_eq!(told.len(), ejected, "{share} of {replicas}");
        }
        assert_eq!(Ejection::off().max_share, 0.0);
    }

    #[test]
    fn an_ejection_counts_whatever_else_is_wrong_with_the_node() {
        let mut scene = healthy();
        scene.add("d", Role::Replica);
        scene.add("e", Role::Replica);
        scene.round(primary(), standby());
        scene.eject("b");
        scene.eject("c");
        scene.wait(2000);
        scene.answer("a", primary().at(200));
        scene.answer("a", primary().at(200));
        scene.answer("b", standby());
        scene.answer("d", standby().at(200));
        assert_eq!(scene.eject("d"), QUIET, "half of four is two, and both are still ejected");
    }

    #[test]
    fn nodes_that_leave_are_no_replicas_any_more() {
        let mut scene = healthy();
        scene.drain("c");
        assert_eq!(scene.eject("b"), QUIET);
    }

    #[test]
    fn where_nobody_else_serves_one_good_probe_ends_an_ejection() {
        let mut scene = healthy();
        scene.eject("b");
        assert_eq!(scene.answer("b", standby()), QUIET, "`c` serves");
        scene.refuse("c");
        assert_eq!(scene.serving(), "");
        assert_eq!(scene.time_out("b"), QUIET);
        assert_eq!(scene.answer("b", standby()), ["b: ejected to healthy: lag of at most 0 ms"]);
        // A good probe of another one pardons nobody.
        scene.answer("c", standby());
        scene.answer("c", standby());
        scene.eject("b");
        scene.refuse("c");
        scene.answer("a", primary());
        assert_eq!(scene.serving(), "");
    }

    #[test]
    fn a_node_that_leaves_takes_no_new_work() {
        let mut scene = healthy();
        assert_eq!(scene.drain("b"), ["b: healthy to draining: being removed"]);
        assert_eq!(scene.drain("b"), QUIET);
        assert_eq!((scene.serving(), scene.answer("b", standby())), ("c".into(), vec![]));
        assert_eq!(scene.remove("b"), QUIET);
        assert_eq!(scene.nodes(), "a healthy primary, c healthy replica");
        assert_eq!(scene.answer("c", standby()), QUIET);

        // The primary, in the middle of a switch to another one on the same timeline.
        let told = ["a: healthy to draining: being removed", "no writes: no node that answers is writable"];
        assert_eq!(scene.drain("a"), told);
        assert_eq!(scene.answer("a", primary()), QUIET);
        assert_eq!(
            scene.answer("c", primary()),
            [
                "writes to c instead of a",
                "c: a primary, not a replica",
                "c: healthy to healthy: answers and is writable"
            ]
        );
        assert_eq!(scene.remove("a"), QUIET);
        assert_eq!(scene.writer(), "c");
    }

    #[test]
    fn what_happens_to_a_node_that_is_not_there_is_nothing() {
        let mut scene = healthy();
        scene.remove("c");
        for told in [
            scene.answer("c", primary().timeline(9)),
            scene.refuse("c"),
            scene.eject("c"),
            scene.drain("c"),
            scene.remove("c"),
        ] {
            assert_eq!(told, QUIET);
        }
        scene.fleet.list_as(scene.id("c"), Role::Primary);
        assert_eq!(scene.nodes(), "a healthy primary, b healthy replica");
    }

    #[test]
    fn a_node_that_is_added_later_serves_when_it_is_proven() {
        let mut scene = healthy();
        scene.add("d", Role::Replica);
        assert_eq!((scene.writer(), scene.serving()), ("a".into(), "b c".into()));
        assert_eq!(scene.answer("d", standby()), ["d: unproven to healthy: lag of at most 0 ms"]);
        assert_eq!(scene.serving(), "b c d");
    }

    #[test]
    fn the_last_of_a_cluster_takes_its_name_along() {
        let theirs = |answer: Answer| answer.system(8);
        let mut scene = Scene::new(HealthPolicy::default(), ["a", "b"]);
        scene.answer("a", primary());
        scene.answer("b", theirs(primary().timeline(4)));
        scene.fleet.list_as(scene.id("a"), Role::Replica);
        scene.fleet.list_as(scene.id("b"), Role::Primary);
        assert_eq!(scene.writer(), "a");
        scene.drain("a");
        assert_eq!(scene.writer(), "no node that answers is writable");
        assert_eq!(
            scene.remove("a"),
            [
                "writes to b instead of a",
                "b: a primary, not a replica",
                "b: refused to healthy: answers and is writable",
            ]
        );
    }

    #[test]
    fn a_cluster_never_goes_back_to_an_older_timeline_whoever_leaves() {
        let on = |timeline: u32| primary().timeline(timeline);
        let mut scene = healthy();
        scene.answer("b", on(3));
        assert_eq!(scene.writer(), "b");
        scene.drain("b");
        let deposed = "the only writable node is on an older timeline than the primary was";
        assert_eq!(scene.writer(), deposed);
        scene.remove("b");
        assert_eq!(scene.answer("a", on(1)), QUIET);
        scene.answer("c", on(2));
        assert_eq!(scene.writer(), deposed);

        // Others of the same cluster in the place of all.
        for (old, new) in [("a", "d"), ("c", "e")] {
            scene.add(new, Role::Replica);
            scene.drain(old);
            scene.remove(old);
        }
        scene.fleet.list_as(scene.id("d"), Role::Primary);
        scene.answer("d", on(2));
        scene.answer("e", standby().timeline(2));
        assert_eq!((scene.writer(), scene.serving()), (deposed.into(), "".into()));
        scene.answer("e", on(3));
        assert_eq!(scene.writer(), "e");
    }

    #[test]
    fn another_cluster_begins_with_any_timeline() {
        for (ours, theirs) in [(7, Some(8)), (7, None)] {
            let theirs = theirs.map_or(primary().untold_system(), |system| primary().system(system));
            let mut scene = Scene::new(HealthPolicy::default(), ["a"]);
            scene.answer("a", primary().system(ours).timeline(3));
            scene.add("b", Role::Primary);
            scene.drain("a");
            scene.remove("a");
            scene.answer("b", theirs);
            assert_eq!(scene.writer(), "b");
        }
        // One that does not tell which it is may be another one.
        let mut scene = Scene::new(HealthPolicy::default(), ["a"]);
        scene.answer("a", primary().untold_system().timeline(3));
        scene.add("b", Role::Primary);
        scene.drain("a");
        scene.remove("a");
        scene.answer("b", primary().untold_system());
        assert_eq!(scene.writer(), "b");
    }

    #[test]
    fn the_last_node_of_all_leaves_nothing_to_be_told() {
        let mut scene = Scene::new(HealthPolicy::default(), ["a"]);
        assert_eq!(scene.refuse("a")[1..], ["no writes: no node that answers is writable"]);
        scene.drain("a");
        assert_eq!(scene.remove("a"), QUIET);
    }

    #[test]
    fn no_standby_serves_before_it_is_known_which_cluster_this_is() {
        let unverified_lag = UnverifiedLag::Serve;
        let mut scene = Scene::new(HealthPolicy { unverified_lag, ..Default::default() }, ["a", "b", "c"]);
        assert_eq!(scene.answer("b", standby()), QUIET);
        assert_eq!(scene.answer("c", standby().system(8)), QUIET);
        let told = scene.refuse("a");
        let unconfirmed = "nothing shows that it is of this cluster: the configured primary has never answered, and others do not \
                           confirm it";
        assert!(told.contains(&format!("b: unproven to refused: {unconfirmed}")), "{told:?}");
        assert!(told.contains(&format!("c: unproven to refused: {unconfirmed}")), "{told:?}");

        // Alone, it may be of another cluster as well; but it has been asked for that it serves.
        let mut scene = Scene::new(HealthPolicy { unverified_lag, ..Default::default() }, ["a", "b", "c"]);
        scene.answer("b", standby());
        scene.refuse("c");
        assert_eq!(scene.serving(), "");
        scene.refuse("a");
        assert_eq!(scene.serving(), "b");
        scene.add("d", Role::Replica);
        scene.add("e", Role::Replica);
        scene.answer("b", standby());
        assert_eq!(scene.serving(), "b", "nor does it leave when there is somebody else to be asked");
        scene.answer("d", standby().system(8));
        assert_eq!(scene.serving(), "", "before `e` is asked as well");
    }

    #[test]
    fn one_server_before_and_after_its_restart_confirms_no_cluster() {
        let theirs = |started| primary().system(8).started(started);
        let unconfirmed = "the configured primary has never answered, and nothing else shows that the writable node is of its cluster";
        let mut scene = new();
        scene.refuse("a");
        // Restarted before each probe.
        for (started, name) in (1..).zip(["b", "c", "b", "c"]) {
            scene.wait(250);
            scene.answer(name, theirs(started));
            assert_ne!(scene.writer(), name);
        }
        assert_eq!(scene.writer(), unconfirmed);
        for name in ["b", "c", "b", "c"] {
            scene.wait(250);
            scene.answer(name, theirs(5));
            assert_eq!(scene.writer(), unconfirmed);
        }
        scene.answer("a", primary());
        assert_eq!(scene.writer(), "a");
    }

    #[test]
    fn two_servers_that_go_on_side_by_side_confirm_their_cluster() {
        let mut scene = new();
        let (b, c) = (primary().timeline(2), standby().timeline(2));
        scene.refuse("a");
        scene.answer("b", b);
        scene.wait(10);
        scene.answer("c", c);
        assert_eq!(scene.nodes(), "a unreachable primary, b refused replica, c unproven replica");
        scene.wait(10);
        assert_eq!(
            scene.answer("b", b),
            ["writes to b", "b: a primary, not a replica", "b: refused to healthy: answers and is writable",]
        );
        scene.answer("c", c);
        assert_eq!((scene.writer(), scene.serving()), ("b".into(), "c".into()));
    }

    #[test]
    fn a_standby_that_is_promoted_before_the_primary_is_known_serves_no_more() {
        let unverified_lag = UnverifiedLag::Serve;
        let mut scene = Scene::new(HealthPolicy { unverified_lag, ..Default::default() }, ["a", "b", "c"]);
        scene.answer("a", standby().timeline(2));
        scene.answer("b", standby());
        assert_eq!(scene.serving(), "a b");
        assert_eq!(
            scene.answer("b", primary().timeline(2)),
            ["b: healthy to lagging: primary unobserved: lag unverified"]
        );
        assert_eq!(scene.serving(), "a");
    }

    #[test]
    fn what_is_found_out_about_a_silent_node_is_no_answer_of_it() {
        let mut scene = healthy();
        scene.time_out("a");
        scene.answer("b", primary().timeline(2));
        let told = ["a: refused to unreachable: 2 probes timed out after 500 ms", "split brain ended"];
        assert_eq!(scene.time_out("a"), told);
    }

    #[test]
    fn an_answer_forgives_a_timeout_before_it_is_known_what_it_means() {
        let mut scene = new();
        scene.time_out("a");
        scene.answer("a", primary());
        scene.time_out("a");
        scene.answer("b", standby());
        scene.answer("c", standby());
        assert_eq!(scene.writer(), "a");
    }

    #[test]
    fn settings_may_change() {
        let mut scene = healthy();
        scene.wait(5000);
        scene.answer("a", primary().at(200));
        scene.answer("a", primary().at(200));
        let unverified_lag = UnverifiedLag::Exclude;
        let long = HealthPolicy { unverified_lag, ..HealthPolicy::with_lag_threshold(ms(6000)) };
        assert_eq!(scene.set_policy(long), QUIET);
        scene.answer("b", standby().at(150));
        scene.answer("c", standby().nowhere());
        assert_eq!(scene.serving(), "b");
    }

    #[test]
    fn a_replica_that_may_not_serve_by_other_settings_leaves_at_once() {
        let mut scene = healthy();
        scene.wait(700);
        scene.answer("a", primary().at(200));
        scene.answer("a", primary().at(200));
        scene.answer("b", standby());
        scene.answer("c", standby().at(200));
        assert_eq!((scene.lag("b"), scene.serving()), (Some(ms(700)), "b c".into()));
        let told = ["b: healthy to lagging: lag of at most 700 ms is over the threshold of 600 ms"];
        assert_eq!(scene.set_policy(HealthPolicy::with_lag_threshold(ms(600))), told);
        assert_eq!(
            (scene.nodes(), scene.serving()),
            ("a healthy primary, b lagging replica, c healthy replica".into(), "c".into())
        );
        for _ in 0..3 {
            assert_eq!(
                scene.set_policy(HealthPolicy::default()),
                QUIET,
                "nothing has shown that it is any better"
            );
        }
        assert_eq!(scene.answer("b", standby().at(200)), QUIET);
        assert_eq!(scene.answer("b", standby().at(200)), ["b: lagging to healthy: lag of at most 0 ms"]);
    }

    #[test]
    fn a_replica_whose_lag_nobody_knows_leaves_when_that_is_asked_for() {
        let exclude = || HealthPolicy { unverified_lag: UnverifiedLag::Exclude, ..Default::default() };
        let mut scene = healthy();
        scene.answer("b", standby().nowhere());
        scene.time_out("c");
        assert_eq!((scene.lag("c"), scene.serving()), (None, "b c".into()));
        assert_eq!(
            scene.set_policy(exclude()),
            ["b: healthy to lagging: primary unobserved: lag unverified"]
        );
        assert_eq!(scene.serving(), "c", "its last answer still holds");

        // Nobody knows even which cluster this is.
        let unverified_lag = UnverifiedLag::Serve;
        let mut scene = Scene::new(HealthPolicy { unverified_lag, ..Default::default() }, ["a", "b"]);
        scene.refuse("a");
        scene.answer("b", standby());
        assert_eq!(scene.serving(), "b");
        assert_eq!(
            scene.set_policy(exclude()),
            ["b: healthy to lagging: primary unobserved: lag unverified"]
        );
        assert_eq!(scene.serving(), "");
    }

    #[test]
    fn other_settings_end_no_ejection() {
        let mut scene = healthy();
        scene.eject("b");
        scene.wait(60_000);
        assert_eq!(scene.set_policy(HealthPolicy::with_lag_threshold(ms(600))), QUIET);
        assert_eq!(scene.serving(), "c");
    }

    #[test]
    fn nodes_are_seen_in_the_order_that_was_asked_for() {
        let mut scene = healthy();
        let order = ["c", "a", "b"].map(|name| scene.id(name));
        scene.fleet.sort_by_key(|id| order.iter().position(|other| *other == id).expect("one of them"));
        assert_eq!(scene.nodes(), "c healthy replica, a healthy primary, b healthy replica");
        assert_eq!(scene.fleet.view().nodes.iter().map(|node| node.id).collect::<Vec<_>>(), order);
    }
}
