//! A fleet in the world.

use super::super::fixture::ms;
use super::super::*;
use super::Counts;
use super::schedule::{Op, Setup, policy};
use super::world::{Answer, Fault, OUR_SERVERS, OURS, Tells, World};
use crate::health::Ejection;
use proptest::test_runner::TestCaseResult;
use std::time::Duration;

/// A probe is given up after this time.
const LIMIT: Duration = ms(500);

/// Rounds of probes within which everything is as it should be once nothing is the matter any more; one more if a name leads
/// elsewhere than it did, whose first answer may not count.
const ROUNDS_TO_RECOVER: u32 = 3;

pub(super) struct Sim {
    pub(super) world: World,
    pub(super) fleet: Fleet,
    pub(super) policy: HealthPolicy,
    tells: Tells,
    /// In the fleet's order.
    pub(super) entries: Vec<Entry>,
    probes: Vec<Probe>,
    added: u64,
    moved: bool,
    pub(super) told: Told,
    /// The node that writes went to last and its timeline, unless it has left.
    pub(super) term: Option<Term>,
    /// The highest timeline of all that took the writes, and of all that were seen to be writable.
    pub(super) reached: (Option<u32>, Option<u32>),
    /// The one that was written last.
    pub(super) history: Option<usize>,
    /// It is settled which cluster this is.
    pub(super) known: bool,
    /// Answers in a row of the node that takes the writes, and when the last of them was asked for.
    pub(super) steady: u32,
    pub(super) sampled_at: Instant,
    pub(super) counts: Counts,
    pub(super) log: Option<Vec<String>>,
}

/// What is so, to whoever has heard of all changes.
pub(super) struct Told {
    pub(super) writer: Writer,
    pub(super) wrote_to: Option<NodeId>,
    pub(super) split: bool,
}

/// An entry of the configuration.
pub(super) struct Entry {
    pub(super) id: NodeId,
    pub(super) server: usize,
    listed: Role,
    pub(super) leaves: bool,
    pub(super) probed: bool,
    pub(super) last: Option<Answer>,
    /// Its last answer does not count: it is of a server that was restarted since, or may have been.
    pub(super) void: bool,
    /// Probes since then that had no answer.
    pub(super) silent: u32,
    pub(super) refused: bool,
    tally: Tally,
    /// What was told of it.
    pub(super) health: HealthState,
    pub(super) reason: mem::Discriminant<Reason>,
    pub(super) role: Role,
    pub(super) ejected: bool,
    /// As it was seen last.
    pub(super) lag: Option<Lag>,
}

/// A probe under way.
struct Probe {
    id: NodeId,
    server: usize,
    asked_at: Instant,
    /// When it reaches the server; or, with what came of it, when that is known here.
    at: Instant,
    back: Duration,
    result: Option<Result<Answer, ProbeFailure>>,
}

impl Sim {
    pub(super) fn new(setup: &Setup) -> Self {
        let mut world = World::new(setup.tells);
        if setup.primary_down {
            world.fail(setup.primary, Fault::Down);
        }
        let policy = policy(setup.policy);
        let mut sim = Self {
            fleet: Fleet::new(policy.clone()),
            policy,
            tells: setup.tells,
            entries: vec![],
            probes: vec![],
            added: 0,
            moved: false,
            told: Told { writer: Writer::Nobody(NoPrimary::NotYetKnown), wrote_to: None, split: false },
            term: None,
            reached: (None, None),
            history: None,
            known: false,
            steady: 0,
            sampled_at: world.now,
            counts: Counts::new(),
            log: None,
            world,
        };
        sim.list(setup.primary, Role::Primary);
        for server in &setup.replicas {
            sim.list(*server, Role::Replica);
        }
        sim
    }

    /// One that keeps a log.
    pub(super) fn telling(setup: &Setup) -> Self {
        Self { log: Some(vec![]), ..Self::new(setup) }
    }

    pub(super) fn settle(&mut self) -> TestCaseResult {
        (0..3).try_for_each(|_| self.run(&Op::Round(0)))
    }

    pub(super) fn run(&mut self, op: &Op) -> TestCaseResult {
        if let Some(log) = &mut self.log {
            log.push(format!("{op:?}"));
        }
        match *op {
            Op::Round(order) => return self.round(order.into()),
            Op::Probe(node, there, back) => self.probe(self.index(node), ms(there), ms(back)),
            Op::Wait(millis) => return self.pass(ms(millis)),
            Op::Fail(server, fault) => self.world.fail(server, fault),
            Op::Heal(server) => self.world.heal(server),
            Op::Restart(server) => self.world.restart(server),
            Op::Replay(server, after) => self.world.replay(server, after.map(ms)),
            Op::Idle(server, idle) => self.world.idle(server, idle),
            Op::Promote(server, raise) => self.world.promote(server, raise),
            Op::Follow(server, other) => self.world.follow(server, other),
            Op::Traffic(node, answered, failed) => return self.traffic(self.index(node), answered, failed),
            Op::Add(server) => return self.add(server),
            Op::Drain(node) => return self.drain(self.index(node)),
            Op::Remove(node) => return self.remove(self.index(node)),
            Op::Move(node, server) => self.move_to(self.index(node), server),
            Op::ListAsPrimary(node) => return self.list_as_primary(self.index(node)),
            Op::Policy(n) => return self.set_policy(policy(n)),
        }
        Ok(())
    }

    /// Once nothing is the matter, all that can serve does.
    pub(super) fn recover(&mut self) -> TestCaseResult {
        self.world.heal_all();
        self.pass(Ejection::default().max_duration)?;
        for round in 0..ROUNDS_TO_RECOVER + u32::from(self.moved) {
            self.run(&Op::Round(round as u8))?;
            self.pass(ms(10))?;
        }
        self.check_recovered()
    }

    /// There need not be any.
    fn index(&self, node: u8) -> usize {
        usize::from(node) % self.entries.len().max(1)
    }

    fn add(&mut self, server: usize) -> TestCaseResult {
        self.list(server, Role::Replica);
        self.check(None)
    }

    fn list(&mut self, server: usize, role: Role) {
        // Without system identifiers nobody could tell that a server of another cluster is one.
        if self.tells == Tells::NoSystem && server >= OUR_SERVERS {
            return;
        }
        let id = NodeId(self.added);
        self.added += 1;
        self.fleet.add(Listed { id, name: "n".into(), role });
        self.entries.push(Entry {
            id,
            server,
            listed: role,
            leaves: false,
            probed: false,
            last: None,
            void: false,
            silent: 0,
            refused: false,
            tally: Tally::default(),
            health: HealthState::Unproven,
            reason: mem::discriminant(&Reason::NotProbed),
            role,
            ejected: false,
            lag: None,
        });
    }

    fn round(&mut self, order: usize) -> TestCaseResult {
        self.pass(ms(250))?;
        let n = self.entries.len();
        for i in 0..n {
            let i = if order.is_multiple_of(2) { i } else { n - 1 - i };
            self.probe((i + order) % n, ms(1), ms(1));
        }
        Ok(())
    }

    fn probe(&mut self, index: usize, there: Duration, back: Duration) {
        let Some(&Entry { id, server, .. }) = self.entries.get(index) else { return };
        if self.probes.iter().all(|probe| probe.id != id) {
            let (asked_at, at) = (self.world.now, self.world.now + there);
            self.probes.push(Probe { id, server, asked_at, at, back, result: None });
        }
    }

    /// Lets so much time pass, with what is under way.
    fn pass(&mut self, time: Duration) -> TestCaseResult {
        let then = self.world.now + time;
        while let Some(next) = (0..self.probes.len()).min_by_key(|i| self.probes[*i].at)
            && self.probes[next].at <= then
        {
            self.world.pass_until(self.probes[next].at);
            let probe = &mut self.probes[next];
            match probe.result.take() {
                None => {
                    let result = self.world.ask(probe.server, probe.asked_at);
                    probe.at = match result {
                        Err(ProbeFailure::TimedOut { .. }) => probe.asked_at + LIMIT,
                        _ => probe.at + probe.back,
                    };
                    probe.result = Some(result);
                }
                Some(result) => {
                    let id = self.probes.remove(next).id;
                    self.arrive(id, result)?;
                }
            }
        }
        self.world.pass_until(then);
        Ok(())
    }

    fn arrive(&mut self, id: NodeId, mut result: Result<Answer, ProbeFailure>) -> TestCaseResult {
        let now = self.world.now;
        if let Ok(answer) = &mut result {
            answer.seen.answered_at = now;
        }
        let changes = self.fleet.probed(now, id, result.clone().map(|answer| answer.seen));
        let Some(index) = self.entries.iter().position(|entry| entry.id == id) else {
            return self.hear(&changes);
        };
        let wrote = self.told.writer == Writer::Node(id);
        let entry = &mut self.entries[index];
        entry.probed = true;
        let answered = result.is_ok().then_some(index);
        match &result {
            Ok(answer) => self.answered(index, answer),
            Err(ProbeFailure::Failed(_)) => entry.refused = true,
            Err(ProbeFailure::Full(_)) if wrote => {}
            Err(_) => entry.silent += 1,
        }
        self.hear_of(answered, &changes)?;
        if self.told.writer == Writer::Node(id) {
            self.steady = if result.is_ok() { self.steady + 1 } else { 0 };
            self.sampled_at = result.map_or(self.sampled_at, |answer| answer.seen.asked_at);
        }
        self.check(answered)
    }

    fn answered(&mut self, index: usize, answer: &Answer) {
        let entry = &mut self.entries[index];
        (entry.silent, entry.refused, entry.void) = (0, false, false);
        self.known |= entry.listed == Role::Primary;
        let (id, before) = (entry.id, entry.last.replace(answer.clone()));
        // Restarted, or another one.
        let before =
            before.map(|before| before.seen.identity).filter(|before| *before != answer.seen.identity);
        let (Some(before), Some(term)) = (before, self.term) else { return };
        let shows_before = |other: &Entry| {
            let last = other.last.as_ref().filter(|_| self.answers(other)).map(|last| &last.seen);
            last.is_some_and(|seen| seen.identity == before && !seen.in_recovery)
        };
        let siblings = (0..self.entries.len()).filter(|other| shows_before(&self.entries[*other]));
        let siblings: Vec<_> = siblings.collect();
        if id == term.node {
            siblings.into_iter().for_each(|other| self.entries[other].void = true);
        } else if !answer.seen.in_recovery
            && (answer.seen.timeline, answer.seen.identity.system) == (term.timeline, before.system)
        {
            self.entries[index].void = siblings.into_iter().any(|other| self.entries[other].id == term.node);
        }
    }

    fn traffic(&mut self, index: usize, answered: u64, failed: u32) -> TestCaseResult {
        let Some(entry) = self.entries.get_mut(index) else { return Ok(()) };
        entry.tally.answered += answered;
        entry.tally.failed += u64::from(failed);
        entry.tally.failed_in_a_row = failed + if answered == 0 { entry.tally.failed_in_a_row } else { 0 };
        let change = self.fleet.traffic(self.world.now, entry.id, entry.tally);
        self.hear(change.as_slice())?;
        change.map_or(Ok(()), |change| self.check_ejected(index, &change))?;
        self.check(None)
    }

    fn drain(&mut self, index: usize) -> TestCaseResult {
        let Some(entry) = self.entries.get_mut(index) else { return Ok(()) };
        entry.leaves = true;
        let id = entry.id;
        self.term.take_if(|term| term.node == id);
        let changes = self.fleet.drain(self.world.now, id);
        self.hear(&changes)?;
        self.check(None)
    }

    /// Nodes are removed after they were drained.
    fn remove(&mut self, index: usize) -> TestCaseResult {
        let Some(entry) = self.entries.get(index).filter(|entry| entry.leaves) else { return Ok(()) };
        let id = entry.id;
        self.entries.remove(index);
        if !self.entries.iter().filter_map(|entry| entry.last.as_ref()).any(is_ours) {
            (self.known, self.term) = (false, None);
            if self.tells == Tells::NoSystem {
                self.reached = (None, None);
            }
        }
        let changes = self.fleet.remove(self.world.now, id);
        self.hear(&changes)?;
        self.check(None)
    }

    fn move_to(&mut self, index: usize, server: usize) {
        let Some(entry) = self.entries.get_mut(index) else { return };
        if server < OUR_SERVERS || entry.listed == Role::Replica && self.tells != Tells::NoSystem {
            entry.server = server;
            self.moved = true;
        }
    }

    /// Since the configured primary says which cluster this is, it is one of ours.
    fn list_as_primary(&mut self, index: usize) -> TestCaseResult {
        let Some(entry) = self.entries.get(index) else { return Ok(()) };
        let probed = self.probes.iter().find(|probe| probe.id == entry.id);
        let ours = entry.server < OUR_SERVERS
            && probed.is_none_or(|probe| probe.server < OUR_SERVERS)
            && entry.last.as_ref().is_none_or(is_ours);
        if entry.leaves || !ours {
            return Ok(());
        }
        let id = entry.id;
        for entry in &mut self.entries {
            entry.listed = if entry.id == id { Role::Primary } else { Role::Replica };
            self.fleet.list_as(entry.id, entry.listed);
        }
        self.entries.sort_by_key(|entry| entry.id != id);
        self.fleet.sort_by_key(|other| usize::from(other != id));
        self.check(None)
    }

    fn set_policy(&mut self, policy: HealthPolicy) -> TestCaseResult {
        self.policy = policy;
        let changes = self.fleet.set_policy(self.world.now, self.policy.clone());
        self.hear(&changes)?;
        self.check(None)
    }

    /// Whether its last answer holds.
    pub(super) fn answers(&self, entry: &Entry) -> bool {
        entry.last.is_some() && !entry.void && !self.is_gone(entry)
    }

    pub(super) fn is_gone(&self, entry: &Entry) -> bool {
        entry.refused || entry.silent >= self.policy.timeouts_to_unreachable
    }
}

/// Whether nothing shows that it is not.
pub(super) fn is_ours(answer: &Answer) -> bool {
    answer.seen.identity.system.is_none_or(|system| system == OURS)
}
