//! What the tests of this module hear from servers that do not exist.

use super::{Change, Fleet, Listed, NodeId, Role, Service, Writer};
use crate::health::HealthPolicy;
use crate::limitation::Limitation;
use crate::lsn::Lsn;
use crate::observation::{Identity, Observation, ProbeFailure, Standby};
use crate::traffic::Tally;
use std::time::Duration;
use tokio::time::Instant;

pub(super) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A writable node's answer: of cluster 7, on timeline 1, at 100.
pub(super) fn primary() -> Answer {
    Answer {
        in_recovery: false,
        lsn: Some(100),
        system: Some(7),
        started: None,
        timeline: Some(1),
        reported: None,
        hides_statistics: false,
    }
}

/// A standby's answer: of the same cluster and timeline, at the same position.
pub(super) fn standby() -> Answer {
    Answer { in_recovery: true, ..primary() }
}

/// An answer to be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answer {
    in_recovery: bool,
    lsn: Option<u64>,
    system: Option<u64>,
    started: Option<i64>,
    timeline: Option<u32>,
    reported: Option<Duration>,
    hides_statistics: bool,
}

impl Answer {
    pub(super) fn at(self, lsn: u64) -> Self {
        Self { lsn: Some(lsn), ..self }
    }

    pub(super) fn nowhere(self) -> Self {
        Self { lsn: None, ..self }
    }

    pub(super) fn system(self, system: u64) -> Self {
        Self { system: Some(system), ..self }
    }

    pub(super) fn untold_system(self) -> Self {
        Self { system: None, ..self }
    }

    pub(super) fn timeline(self, timeline: u32) -> Self {
        Self { timeline: Some(timeline), ..self }
    }

    pub(super) fn untold_timeline(self) -> Self {
        Self { timeline: None, ..self }
    }

    /// Without a position; with what the server says of its lag.
    pub(super) fn reporting(self, lag: Duration) -> Self {
        Self { reported: Some(lag), ..self.nowhere() }
    }

    pub(super) fn hiding_statistics(self) -> Self {
        Self { hides_statistics: true, ..self }
    }

    /// Of the server process that started then; otherwise each node has its own.
    pub(super) fn started(self, started: i64) -> Self {
        Self { started: Some(started), ..self }
    }

    /// As given within no time at this moment, by the process that started then unless it is another one.
    pub(super) fn observed(self, now: Instant, started: i64) -> Observation {
        let Self { in_recovery, lsn, system, timeline, reported, .. } = self;
        Observation {
            in_recovery,
            lsn: lsn.map(Lsn::new),
            inserted: None,
            identity: Identity { system, started: self.started.unwrap_or(started) },
            timeline,
            version: 150_018,
            standby: Standby { reported, ..Standby::default() },
            limitations: self.hides_statistics.then_some(Limitation::StatisticsHidden).into_iter().collect(),
            asked_at: now,
            answered_at: now,
        }
    }
}

/// A fleet on virtual time whose nodes have names, and whose changes read as lines of text.
pub(super) struct Scene {
    pub(super) now: Instant,
    pub(super) fleet: Fleet,
    names: Vec<String>,
}

impl Scene {
    /// The first node is configured as the primary.
    pub(super) fn new<const N: usize>(policy: HealthPolicy, names: [&str; N]) -> Self {
        let mut scene = Self { now: Instant::now(), fleet: Fleet::new(policy), names: vec![] };
        for (i, name) in names.into_iter().enumerate() {
            scene.add(name, if i == 0 { Role::Primary } else { Role::Replica });
        }
        scene
    }

    /// A primary and two replicas, `a`, `b` and `c`, all healthy.
    pub(super) fn healthy(policy: HealthPolicy) -> Self {
        let mut scene = Self::new(policy, ["a", "b", "c"]);
        scene.answer("a", primary());
        scene.answer("b", standby());
        scene.answer("c", standby());
        scene.round(primary(), standby());
        assert_eq!((scene.writer(), scene.serving()), ("a".into(), "b c".into()));
        scene
    }

    pub(super) fn add(&mut self, name: &str, role: Role) {
        self.names.push(name.into());
        let id = NodeId(self.names.len() as u64);
        self.fleet.add(Listed { id, name: name.into(), role });
    }

    pub(super) fn wait(&mut self, millis: u64) {
        self.now += ms(millis);
    }

    /// The first node answers so, and all the others so.
    pub(super) fn round(&mut self, first: Answer, others: Answer) -> Vec<String> {
        self.wait(250);
        let names = self.names.clone();
        let answers = names.iter().enumerate().map(|(i, name)| (name, if i == 0 { first } else { others }));
        answers.flat_map(|(name, answer)| self.answer(name, answer)).collect()
    }

    pub(super) fn answer(&mut self, name: &str, answer: Answer) -> Vec<String> {
        let started = name.bytes().map(i64::from).sum();
        self.probed(name, Ok(answer.observed(self.now, started)))
    }

    pub(super) fn refuse(&mut self, name: &str) -> Vec<String> {
        self.probed(name, Err(ProbeFailure::Failed("connection refused".into())))
    }

    pub(super) fn time_out(&mut self, name: &str) -> Vec<String> {
        self.probed(name, Err(ProbeFailure::TimedOut { probes: 1, after: ms(500) }))
    }

    pub(super) fn full(&mut self, name: &str) -> Vec<String> {
        self.probed(name, Err(ProbeFailure::Full("too many clients".into())))
    }

    fn probed(&mut self, name: &str, result: Result<Observation, ProbeFailure>) -> Vec<String> {
        let changes = self.fleet.probed(self.now, self.id(name), result);
        self.told(&changes)
    }

    /// So many calls of the node have failed in a row since the beginning.
    pub(super) fn failures(&mut self, name: &str, n: u32) -> Vec<String> {
        let tally = Tally { answered: 0, failed: n.into(), failed_in_a_row: n };
        let change = self.fleet.traffic(self.now, self.id(name), tally);
        self.told(change.as_slice())
    }

    /// Its traffic gets it ejected, if that is up to its traffic.
    pub(super) fn eject(&mut self, name: &str) -> Vec<String> {
        self.failures(name, 0);
        self.failures(name, 5)
    }

    pub(super) fn drain(&mut self, name: &str) -> Vec<String> {
        let changes = self.fleet.drain(self.now, self.id(name));
        self.told(&changes)
    }

    pub(super) fn remove(&mut self, name: &str) -> Vec<String> {
        let changes = self.fleet.remove(self.now, self.id(name));
        self.told(&changes)
    }

    pub(super) fn set_policy(&mut self, policy: HealthPolicy) -> Vec<String> {
        let changes = self.fleet.set_policy(self.now, policy);
        self.told(&changes)
    }

    /// Where writes go, or why they go nowhere.
    pub(super) fn writer(&self) -> String {
        match self.fleet.view().writer {
            Writer::Node(id) => self.name(id).into(),
            Writer::Nobody(why) => why.to_string(),
        }
    }

    /// The nodes that serve reads, and in brackets the last resort.
    pub(super) fn serving(&self) -> String {
        let view = self.fleet.view();
        let serving = view.nodes.iter().filter_map(|node| match node.serves {
            Service::Yes => Some(self.name(node.id).into()),
            Service::AsLastResort => Some(format!("({})", self.name(node.id))),
            Service::No => None,
        });
        serving.collect::<Vec<String>>().join(" ")
    }

    /// Each node's role and health.
    pub(super) fn nodes(&self) -> String {
        let view = self.fleet.view();
        let nodes =
            view.nodes.iter().map(|node| format!("{} {} {}", self.name(node.id), node.health, node.role));
        nodes.collect::<Vec<_>>().join(", ")
    }

    pub(super) fn lag(&self, name: &str) -> Option<Duration> {
        let id = self.id(name);
        let view = self.fleet.view();
        view.nodes.iter().find(|node| node.id == id).expect("not removed").lag?.time()
    }

    pub(super) fn id(&self, name: &str) -> NodeId {
        let index = self.names.iter().rposition(|other| other == name);
        NodeId(index.expect("a node of the scene") as u64 + 1)
    }

    fn name(&self, id: NodeId) -> &str {
        &self.names[id.0 as usize - 1]
    }

    fn told(&self, changes: &[Change]) -> Vec<String> {
        let names = |ids: &[NodeId]| ids.iter().map(|id| self.name(*id)).collect::<Vec<_>>().join(" ");
        let told = |change: &Change| match change {
            Change::Health(id, t) => format!("{}: {} to {}: {}", self.name(*id), t.from, t.to, t.reason),
            Change::Role { node, from, to } => format!("{}: a {to}, not a {from}", self.name(*node)),
            Change::Limitation { node, limitation, began: true } => {
                format!("{}: {limitation}", self.name(*node))
            }
            Change::Limitation { node, limitation, began: false } => {
                format!("{}: no longer: {limitation}", self.name(*node))
            }
            Change::Writer { node, from: None } => format!("writes to {}", self.name(*node)),
            Change::Writer { node, from: Some(from) } => {
                format!("writes to {} instead of {}", self.name(*node), self.name(*from))
            }
            Change::NoWriter(why) => format!("no writes: {why}"),
            Change::SplitBrain(nodes) => format!("split brain: {}", names(nodes)),
            Change::SplitBrainEnded => "split brain ended".into(),
        };
        changes.iter().map(told).collect()
    }
}
