//! Who takes the writes, and what that makes of everybody else.
//!
//! PostgreSQL raises the timeline at each promotion, so that of two nodes that both take writes the one on the higher timeline
//! was promoted last. Nothing else is trusted: on one timeline nobody can tell two writable nodes apart, and writes to both
//! would be lost in part.

use super::{NodeId, Role};
use crate::health::Reason;
use crate::observation::{Identity, Observation};
use std::sync::Arc;
use std::{fmt, mem};
use tokio::time::Instant;

/// Where writes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writer {
    Node(NodeId),
    Nobody(NoPrimary),
}

/// Why writes go nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoPrimary {
    /// Not every node has been asked yet.
    NotYetKnown,
    /// No node that answers is writable.
    NobodyWritable,
    /// The only node that is writable is on an older timeline than the cluster has reached: it was deposed.
    Deposed,
    /// Several nodes are writable on one timeline, or another one than the primary is writable on its timeline.
    SplitBrain,
    /// The configured primary has never answered, so nothing shows that the node that is writable is of its cluster.
    Unconfirmed,
}

impl fmt::Display for NoPrimary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotYetKnown => "not every node has been asked yet",
            Self::NobodyWritable => "no node that answers is writable",
            Self::Deposed => "the only writable node is on an older timeline than the primary was",
            Self::SplitBrain => "split brain: more than one node has been writable on one timeline",
            Self::Unconfirmed => {
                "the configured primary has never answered, and nothing else shows that the writable node is of its cluster"
            }
        })
    }
}

/// One node, as far as it matters here.
#[derive(Debug)]
pub(super) struct Candidate<'a> {
    pub(super) id: NodeId,
    pub(super) name: &'a Arc<str>,
    /// What the configuration takes it for.
    pub(super) listed: Role,
    pub(super) probed: bool,
    /// Its latest answer, if it still holds.
    pub(super) seen: Option<&'a Observation>,
    /// When the server process that gave it had answered for the first time.
    pub(super) since: Option<Instant>,
    /// It is being removed.
    pub(super) leaves: bool,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Standing {
    /// It does not answer.
    Silent,
    /// It is not known yet which cluster this is, or, of one that is writable, who the primary is; or it takes no new writes.
    Undecided,
    Primary,
    /// It follows the primary, as far as is known.
    Standby,
    /// A standby that is not known to follow the primary.
    Astray(Reason),
    /// It must not serve.
    Refused(Reason),
}

/// What came out.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Of each candidate, in their order.
    pub(super) standings: Vec<Standing>,
    /// All that are writable, of this cluster.
    pub(super) writable: Vec<NodeId>,
}

/// What has been decided so far.
#[derive(Debug)]
pub(super) struct Election {
    cluster: Cluster,
    /// The latest primary that there was.
    term: Option<Term>,
    reached: Reached,
    writer: Writer,
}

/// Which cluster this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cluster {
    /// Not every node has been asked yet, of those that there were first.
    Unknown,
    /// At most one server says which cluster it is of, and it is not the configured primary.
    Unconfirmed,
    /// Servers of several clusters answer, and none of them is the configured primary.
    Disputed,
    /// The system identifier of its servers; `None` where they do not tell it.
    Known(Option<u64>),
}

/// A node takes the writes, in one history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Term {
    pub(super) node: NodeId,
    pub(super) timeline: Option<u32>,
}

/// The highest timeline on which a node of the cluster was writable. Whoever leaves, what was promoted stays promoted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Reached {
    /// Of which cluster.
    system: Option<u64>,
    timeline: Option<u32>,
}

impl Default for Election {
    fn default() -> Self {
        let writer = Writer::Nobody(NoPrimary::NotYetKnown);
        Self { cluster: Cluster::Unknown, term: None, reached: Reached::default(), writer }
    }
}

impl Election {
    pub(super) fn writer(&self) -> Writer {
        self.writer
    }

    /// That of the node that takes the writes, or took them last.
    pub(super) fn term(&self) -> Option<Term> {
        self.term
    }

    /// The node does not matter any more. If it was the primary, another one may be on its timeline.
    pub(super) fn forget(&mut self, id: NodeId) {
        self.term.take_if(|term| term.node == id);
    }

    /// Under the name of one node another one is listed: the same server, reached in another way, for all that is known. If it was
    /// the primary, it is so still, and no older one is.
    pub(super) fn succeed(&mut self, old: NodeId, new: NodeId) {
        if let Some(term) = self.term.as_mut().filter(|term| term.node == old) {
            term.node = new;
        }
    }

    /// Nobody is left who knows which cluster this was. Should the next one be the same, it goes on where it was.
    pub(super) fn forget_cluster(&mut self) {
        let Self { writer, reached, .. } = *self;
        let reached = if reached.system.is_some() { reached } else { Reached::default() };
        *self = Self { writer, reached, ..Self::default() };
    }

    /// Whether nothing shows that the server is of another cluster.
    pub(super) fn is_ours(&self, server: Identity) -> bool {
        self.mismatch(server).is_none()
    }

    pub(super) fn hold(&mut self, all: &[Candidate<'_>]) -> Outcome {
        self.cluster = self.identify(all);
        let mut standings: Vec<_> = all.iter().map(|candidate| self.belongs(candidate, all)).collect();
        let writable: Vec<_> = all
            .iter()
            .zip(&standings)
            .filter(|(candidate, standing)| **standing == Standing::Undecided && !candidate.leaves)
            .filter_map(|(candidate, _)| Some((candidate.id, candidate.seen?.timeline)))
            .collect();
        if let Cluster::Known(system) = self.cluster {
            let newest = writable.iter().filter_map(|(_, timeline)| *timeline).max();
            self.reached = Reached { system, timeline: self.reached().max(newest) };
        }
        match self.choose(all, &writable) {
            Ok((node, timeline)) => {
                self.term = Some(Term { node, timeline });
                self.writer = Writer::Node(node);
            }
            Err(why) => self.writer = Writer::Nobody(why),
        }
        for (candidate, standing) in all.iter().zip(&mut standings) {
            let undecided = mem::replace(standing, Standing::Silent);
            *standing = self.rank(candidate, undecided);
        }
        let ours = writable.into_iter().filter(|_| matches!(self.cluster, Cluster::Known(_)));
        Outcome { standings, writable: ours.map(|(id, _)| id).collect() }
    }

    /// The configured primary says which cluster this is. Where it does not answer, at least two other servers that agree do: one
    /// alone might be a wrong entry, and so might two that are one server, seen before and after its restart.
    fn identify(&self, all: &[Candidate<'_>]) -> Cluster {
        if let Cluster::Known(_) = self.cluster {
            return self.cluster;
        }
        let listed = all.iter().filter(|candidate| candidate.listed == Role::Primary);
        let primary = listed.min_by_key(|candidate| candidate.leaves);
        if let Some(seen) = primary.and_then(|primary| primary.seen) {
            return Cluster::Known(seen.identity.system);
        }
        // One that is added later is no reason to trust the others for longer than what they answer.
        if self.cluster == Cluster::Unknown && !all.iter().all(|candidate| candidate.probed) {
            return Cluster::Unknown;
        }
        let system = |candidate: &Candidate<'_>| candidate.seen.and_then(|seen| seen.identity.system);
        let told: Vec<_> = all.iter().filter(|candidate| system(candidate).is_some()).collect();
        let Some(first) = told.first() else { return Cluster::Unconfirmed };
        if told.iter().any(|other| system(other) != system(first)) {
            Cluster::Disputed
        } else if told.iter().any(|one| told.iter().any(|other| one.runs_beside(other))) {
            Cluster::Known(system(first))
        } else {
            Cluster::Unconfirmed
        }
    }

    /// The timeline that this cluster has reached.
    fn reached(&self) -> Option<u32> {
        self.reached.timeline.filter(|_| self.cluster == Cluster::Known(self.reached.system))
    }

    /// The system identifier of a server of another cluster, and that of this one.
    fn mismatch(&self, server: Identity) -> Option<(u64, u64)> {
        match (self.cluster, server.system) {
            (Cluster::Known(Some(expected)), Some(system)) if system != expected => Some((system, expected)),
            _ => None,
        }
    }

    /// Whether a node is one of this cluster that stands for itself: `Undecided` if so and writable.
    fn belongs(&self, candidate: &Candidate<'_>, all: &[Candidate<'_>]) -> Standing {
        let Some(seen) = candidate.seen else { return Standing::Silent };
        if let Some((system, expected)) = self.mismatch(seen.identity) {
            return Standing::Refused(Reason::ForeignCluster { system, expected });
        }
        let same = |other: &&Candidate<'_>| {
            !other.leaves && other.seen.is_some_and(|other| other.identity == seen.identity)
        };
        let entries = || all.iter().filter(same).filter(|_| !candidate.leaves);
        // Of several entries of one server that one stands which writes went to, else the first.
        let known = self.term.and_then(|term| entries().find(|entry| entry.id == term.node));
        let listed = || entries().find(|entry| entry.listed == Role::Primary);
        match known.or_else(listed).or_else(|| entries().next()) {
            Some(entry) if entry.id != candidate.id => {
                Standing::Refused(Reason::Duplicate { of: Arc::clone(entry.name) })
            }
            _ if seen.in_recovery => Standing::Standby,
            _ => Standing::Undecided,
        }
    }

    fn choose(
        &self,
        all: &[Candidate<'_>],
        writable: &[(NodeId, Option<u32>)],
    ) -> Result<(NodeId, Option<u32>), NoPrimary> {
        // One that has not been asked may have been promoted.
        if self.term.is_none() && !all.iter().all(|candidate| candidate.probed) {
            return Err(NoPrimary::NotYetKnown);
        }
        let newest = writable.iter().map(|(_, timeline)| *timeline).max();
        let unasked = |term: Term| all.iter().any(|candidate| candidate.id == term.node && !candidate.probed);
        let nobody = match self.term {
            Some(term) if unasked(term) => NoPrimary::NotYetKnown,
            _ => NoPrimary::NobodyWritable,
        };
        let newest = newest.ok_or(nobody)?;
        if !matches!(self.cluster, Cluster::Known(_)) {
            return Err(NoPrimary::Unconfirmed);
        }
        let mut on_it = writable.iter().filter(|(_, timeline)| *timeline == newest);
        let (Some(&(node, timeline)), None) = (on_it.next(), on_it.next()) else {
            return Err(NoPrimary::SplitBrain);
        };
        match self.term {
            _ if timeline < self.reached() => Err(NoPrimary::Deposed),
            // Where timelines are not told, the service in front of the nodes sees to it that one of them is writable.
            Some(term) if timeline == term.timeline && node != term.node && timeline.is_some() => {
                Err(NoPrimary::SplitBrain)
            }
            _ => Ok((node, timeline)),
        }
    }

    /// What a node is, now that it is decided who takes the writes.
    fn rank(&self, candidate: &Candidate<'_>, standing: Standing) -> Standing {
        let timeline = candidate.seen.and_then(|seen| seen.timeline);
        let reached = self.reached();
        match (standing, self.writer) {
            (Standing::Undecided, Writer::Node(node)) if node == candidate.id => Standing::Primary,
            (Standing::Undecided, Writer::Nobody(NoPrimary::NotYetKnown)) => Standing::Undecided,
            (Standing::Undecided, Writer::Nobody(NoPrimary::Unconfirmed)) => {
                Standing::Refused(Reason::Unconfirmed)
            }
            // What it has begun it may end, unless another one was promoted.
            (Standing::Undecided, _) if candidate.leaves && timeline >= reached => Standing::Undecided,
            (Standing::Undecided, _) => Standing::Refused(match (timeline, reached) {
                (Some(timeline), Some(primary)) if timeline < primary => {
                    Reason::Deposed { timeline, primary }
                }
                _ => Reason::SplitBrain { timeline: timeline.unwrap_or_default() },
            }),
            (Standing::Standby, _) if self.cluster == Cluster::Unknown => Standing::Undecided,
            (Standing::Standby, _) if self.cluster == Cluster::Disputed => {
                Standing::Refused(Reason::Unconfirmed)
            }
            (Standing::Standby, _) => match (timeline, self.term.map_or(reached, |term| term.timeline)) {
                (Some(follows), Some(primary)) if follows != primary => {
                    Standing::Astray(Reason::OtherTimeline { follows, primary })
                }
                _ => Standing::Standby,
            },
            (standing, _) => standing,
        }
    }
}

impl Candidate<'_> {
    /// Whether these are two servers: of one that is restarted no process answers any more once the next one has answered.
    fn runs_beside(&self, other: &Self) -> bool {
        let identity = |candidate: &Self| candidate.seen.map(|seen| seen.identity);
        let outlasts = |one: &Self, other: &Self| {
            one.seen.zip(other.since).is_some_and(|(seen, since)| seen.asked_at > since)
        };
        identity(self) != identity(other) && outlasts(self, other) && outlasts(other, self)
    }
}

impl Standing {
    pub(super) fn is_same_kind(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Astray(a), Self::Astray(b)) | (Self::Refused(a), Self::Refused(b)) => {
                mem::discriminant(a) == mem::discriminant(b)
            }
            _ => mem::discriminant(self) == mem::discriminant(other),
        }
    }

    pub(super) fn is_bad(&self) -> bool {
        matches!(self, Self::Astray(_) | Self::Refused(_))
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Answer, primary, standby};
    use super::*;
    use std::time::Duration;

    /// A node by its name, whose id is its number here; by default configured as a replica, probed and silent.
    #[derive(Clone)]
    struct Node {
        name: Arc<str>,
        listed: Role,
        probed: bool,
        seen: Option<Observation>,
        since: Instant,
        leaves: bool,
    }

    /// The node of this name, with its latest answer, which is not the first one of its process.
    fn node(name: &str, seen: impl Into<Option<Answer>>) -> Node {
        let started = name.bytes().map(i64::from).sum();
        let since = Instant::now();
        let seen = seen.into().map(|seen| seen.observed(since + Duration::from_secs(1), started));
        Node { name: name.into(), listed: Role::Replica, probed: true, seen, since, leaves: false }
    }

    impl Node {
        fn listed_primary(self) -> Self {
            Self { listed: Role::Primary, ..self }
        }

        fn not_probed(self) -> Self {
            Self { probed: false, seen: None, ..self }
        }

        fn leaves(self) -> Self {
            Self { leaves: true, ..self }
        }

        /// Its process has answered after all others, and had not before.
        fn first_seen(self) -> Self {
            let since = self.since + Duration::from_secs(2);
            let seen = self.seen.map(|seen| Observation { asked_at: since, answered_at: since, ..seen });
            Self { seen, since, ..self }
        }
    }

    /// Who takes the writes, by name, or why nobody; and what the nodes are.
    type Result<'a> = (std::result::Result<&'a str, NoPrimary>, Vec<Standing>);

    fn hold<'a>(election: &mut Election, nodes: &'a [Node]) -> Result<'a> {
        let outcome = election.hold(&candidates(nodes));
        let writer = match election.writer() {
            Writer::Node(writer) => {
                Ok(&*nodes.iter().find(|node| id(&node.name) == writer).expect("one of them").name)
            }
            Writer::Nobody(why) => Err(why),
        };
        (writer, outcome.standings)
    }

    fn candidates(nodes: &[Node]) -> Vec<Candidate<'_>> {
        fn candidate(node: &Node) -> Candidate<'_> {
            let Node { listed, probed, leaves, .. } = *node;
            let (seen, since) = (node.seen.as_ref(), Some(node.since));
            Candidate { id: id(&node.name), name: &node.name, listed, probed, seen, since, leaves }
        }
        nodes.iter().map(candidate).collect()
    }

    fn id(name: &str) -> NodeId {
        NodeId(name.bytes().map(u64::from).sum())
    }

    /// An election that was won by `a` on timeline 2.
    fn term() -> Election {
        let mut election = Election::default();
        let nodes = [node("a", primary().timeline(2)).listed_primary()];
        assert_eq!(hold(&mut election, &nodes).0, Ok("a"));
        election
    }

    fn other_timeline(follows: u32, primary: u32) -> Standing {
        Standing::Astray(Reason::OtherTimeline { follows, primary })
    }

    fn deposed(timeline: u32, primary: u32) -> Standing {
        Standing::Refused(Reason::Deposed { timeline, primary })
    }

    fn split(timeline: u32) -> Standing {
        Standing::Refused(Reason::SplitBrain { timeline })
    }

    fn foreign(system: u64) -> Standing {
        Standing::Refused(Reason::ForeignCluster { system, expected: 7 })
    }

    fn duplicate(of: &str) -> Standing {
        Standing::Refused(Reason::Duplicate { of: of.into() })
    }

    const UNCONFIRMED: Standing = Standing::Refused(Reason::Unconfirmed);

    #[test]
    fn the_first_primary_is_the_one_node_that_is_writable_on_the_highest_timeline() {
        use Standing::*;
        let a = |seen| node("a", seen).listed_primary();
        let b = |seen| node("b", seen);
        let c = |seen| node("c", seen);
        let table: Vec<(&str, Vec<Node>, Result<'_>)> = vec![
            (
                "as configured",
                vec![a(primary()), b(standby()), c(standby())],
                (Ok("a"), vec![Primary, Standby, Standby]),
            ),
            ("alone", vec![a(primary())], (Ok("a"), vec![Primary])),
            (
                "not all have been asked",
                vec![a(primary()), b(standby()), node("c", None).not_probed()],
                (Err(NoPrimary::NotYetKnown), vec![Undecided, Standby, Silent]),
            ),
            (
                "one that was asked is silent",
                vec![a(primary()), b(standby()), node("c", None)],
                (Ok("a"), vec![Primary, Standby, Silent]),
            ),
            (
                "configured the wrong way round",
                vec![a(standby()), b(primary())],
                (Ok("b"), vec![Standby, Primary]),
            ),
            (
                "promoted before the start, the old primary dead",
                vec![node("a", None).listed_primary(), b(primary().timeline(2)), c(standby().timeline(2))],
                (Ok("b"), vec![Silent, Primary, Standby]),
            ),
            (
                "promoted before the start, the old primary alive",
                vec![a(primary()), b(primary().timeline(2)), c(standby())],
                (Ok("b"), vec![deposed(1, 2), Primary, other_timeline(1, 2)]),
            ),
            (
                "two on one timeline",
                vec![a(primary()), b(primary()), c(standby())],
                (Err(NoPrimary::SplitBrain), vec![split(1), split(1), Standby]),
            ),
            (
                "two on the highest timeline",
                vec![a(primary()), b(primary().timeline(2)), c(primary().timeline(2))],
                (Err(NoPrimary::SplitBrain), vec![deposed(1, 2), split(2), split(2)]),
            ),
            (
                "standbys alone",
                vec![a(standby()), b(standby())],
                (Err(NoPrimary::NobodyWritable), vec![Standby, Standby]),
            ),
            (
                "nobody answers",
                vec![node("a", None).listed_primary(), node("b", None)],
                (Err(NoPrimary::NobodyWritable), vec![Silent, Silent]),
            ),
            (
                "a node that leaves takes no writes",
                vec![a(primary()).leaves(), b(standby())],
                (Err(NoPrimary::NobodyWritable), vec![Undecided, Standby]),
            ),
            (
                "nor does it keep what it has when another one was promoted",
                vec![a(primary()).leaves(), b(primary().timeline(2))],
                (Ok("b"), vec![deposed(1, 2), Primary]),
            ),
            (
                "where timelines are not told, one that is writable is the primary",
                vec![a(standby().untold_timeline()), b(primary().untold_timeline())],
                (Ok("b"), vec![Standby, Primary]),
            ),
            (
                "where timelines are not told, two are too many",
                vec![a(primary().untold_timeline()), b(primary().untold_timeline())],
                (Err(NoPrimary::SplitBrain), vec![split(0), split(0)]),
            ),
            (
                "a timeline that is told is above one that is not",
                vec![a(primary().untold_timeline()), b(primary())],
                (Ok("b"), vec![split(0), Primary]),
            ),
        ];
        for (name, nodes, expected) in table {
            assert_eq!(hold(&mut Election::default(), &nodes), expected, "{name}");
        }
    }

    #[test]
    fn after_a_first_term_only_a_higher_timeline_moves_writes() {
        use Standing::*;
        let a = |seen: Option<Answer>| node("a", seen).listed_primary();
        let b = |seen| node("b", seen);
        let c = |seen| node("c", seen);
        let silent = || a(None);
        let on = |timeline| primary().timeline(timeline);
        let following = |timeline| standby().timeline(timeline);
        let table: Vec<(&str, Vec<Node>, Result<'_>)> = vec![
            (
                "the primary is silent",
                vec![silent(), b(following(2))],
                (Err(NoPrimary::NobodyWritable), vec![Silent, Standby]),
            ),
            ("promoted, it is silent", vec![silent(), b(on(3))], (Ok("b"), vec![Silent, Primary])),
            (
                "promoted, it follows the old timeline",
                vec![a(Some(following(2))), b(on(3))],
                (Ok("b"), vec![other_timeline(2, 3), Primary]),
            ),
            (
                "promoted, it follows the new primary",
                vec![a(Some(following(3))), b(on(3))],
                (Ok("b"), vec![Standby, Primary]),
            ),
            (
                "promoted, it is still writable",
                vec![a(Some(on(2))), b(on(3)), c(following(2))],
                (Ok("b"), vec![deposed(2, 3), Primary, other_timeline(2, 3)]),
            ),
            (
                "promoted twice",
                vec![a(Some(on(2))), b(on(3)), c(on(4))],
                (Ok("c"), vec![deposed(2, 4), deposed(3, 4), Primary]),
            ),
            (
                "promoted, and nobody has asked one that was added",
                vec![silent(), b(on(3)), node("c", None).not_probed()],
                (Ok("b"), vec![Silent, Primary, Silent]),
            ),
            (
                "another one on its timeline",
                vec![a(Some(on(2))), b(on(2))],
                (Err(NoPrimary::SplitBrain), vec![split(2), split(2)]),
            ),
            (
                "another one alone on its timeline",
                vec![silent(), b(on(2)), c(following(2))],
                (Err(NoPrimary::SplitBrain), vec![Silent, split(2), Standby]),
            ),
            (
                "another one on an older timeline",
                vec![a(Some(on(2))), b(on(1))],
                (Ok("a"), vec![Primary, deposed(1, 2)]),
            ),
            (
                "another one alone on an older timeline",
                vec![silent(), b(on(1)), c(following(1))],
                (Err(NoPrimary::Deposed), vec![Silent, deposed(1, 2), other_timeline(1, 2)]),
            ),
            (
                "itself on an older timeline, as from a backup",
                vec![a(Some(on(1)))],
                (Err(NoPrimary::Deposed), vec![deposed(1, 2)]),
            ),
            (
                "another one that does not tell its timeline",
                vec![silent(), b(primary().untold_timeline())],
                (Err(NoPrimary::Deposed), vec![Silent, split(0)]),
            ),
            (
                "standbys that do not tell theirs",
                vec![a(Some(on(2))), b(standby().untold_timeline())],
                (Ok("a"), vec![Primary, Standby]),
            ),
            (
                "a standby ahead of what is known",
                vec![a(Some(on(2))), b(following(3))],
                (Ok("a"), vec![Primary, other_timeline(3, 2)]),
            ),
        ];
        for (name, nodes, expected) in table {
            let mut election = term();
            assert_eq!(hold(&mut election, &nodes), expected, "{name}");
            let back = [a(Some(on(2))), b(following(2))];
            let moved = expected.0.is_ok_and(|writer| writer != "a");
            let then = if moved { Err(NoPrimary::Deposed) } else { Ok("a") };
            assert_eq!(hold(&mut election, &back).0, then, "{name}, and then as before");
        }
    }

    #[test]
    fn where_timelines_are_not_told_the_writable_node_takes_the_writes() {
        let mut election = Election::default();
        let untold = || primary().untold_timeline();
        for writer in ["a", "b", "a"] {
            let nodes = ["a", "b"].map(|name| match name == writer {
                true => node(name, untold()).listed_primary(),
                false => node(name, standby().untold_timeline()).listed_primary(),
            });
            assert_eq!(hold(&mut election, &nodes).0, Ok(writer));
        }
        let told = [node("a", standby()).listed_primary(), node("b", primary())];
        assert_eq!(hold(&mut election, &told).0, Ok("b"), "after an upgrade they may be");
    }

    #[test]
    fn a_primary_that_was_told_to_leave_is_followed_on_its_timeline_and_by_none_on_an_older_one() {
        let mut election = term();
        let nodes = |timeline| {
            let (b, c) = (primary().timeline(timeline), standby().timeline(1));
            [node("a", None).listed_primary(), node("b", b), node("c", c)]
        };
        election.forget(id("b"));
        assert_eq!(hold(&mut election, &nodes(2)).0, Err(NoPrimary::SplitBrain));
        election.forget(id("a"));
        let expected = vec![Standing::Silent, deposed(1, 2), other_timeline(1, 2)];
        assert_eq!(hold(&mut election, &nodes(1)), (Err(NoPrimary::Deposed), expected));
        let expected = vec![Standing::Silent, Standing::Primary, other_timeline(1, 2)];
        assert_eq!(hold(&mut election, &nodes(2)), (Ok("b"), expected));
    }

    #[test]
    fn a_timeline_on_which_nobody_could_take_the_writes_is_reached_all_the_same() {
        let a = |timeline| node("a", primary().timeline(timeline)).listed_primary();
        let [b, c] = ["b", "c"].map(|name| node(name, primary().timeline(3)));
        let mut election = term();
        assert_eq!(hold(&mut election, &[a(2), b, c]).0, Err(NoPrimary::SplitBrain));
        assert_eq!(hold(&mut election, &[a(2), node("b", None)]).0, Err(NoPrimary::Deposed));
        assert_eq!(hold(&mut election, &[a(3), node("b", None)]).0, Ok("a"));
    }

    #[test]
    fn a_cluster_that_is_forgotten_goes_on_where_it_was_and_another_one_begins() {
        let of =
            |system: u64, timeline| [node("a", primary().system(system).timeline(timeline)).listed_primary()];
        let begun = || {
            let mut election = Election::default();
            assert_eq!(hold(&mut election, &of(7, 3)).0, Ok("a"));
            election.forget_cluster();
            election
        };
        assert_eq!(hold(&mut begun(), &of(7, 2)).0, Err(NoPrimary::Deposed));
        assert_eq!(hold(&mut begun(), &of(7, 3)).0, Ok("a"));
        let mut election = begun();
        assert_eq!(hold(&mut election, &of(8, 2)).0, Ok("a"));
        election.forget_cluster();
        assert_eq!(hold(&mut election, &of(7, 2)).0, Ok("a"), "nor is more than one remembered");
        // Nobody knows yet which cluster a lone standby is of.
        let nodes = [node("a", None).listed_primary(), node("b", standby().timeline(2))];
        assert_eq!(hold(&mut begun(), &nodes).1, [Standing::Silent, Standing::Standby]);

        let untold = |timeline| [node("a", primary().untold_system().timeline(timeline)).listed_primary()];
        let mut election = Election::default();
        assert_eq!(hold(&mut election, &untold(3)).0, Ok("a"));
        assert_eq!(hold(&mut election, &untold(2)).0, Err(NoPrimary::Deposed));
        election.forget_cluster();
        assert_eq!(hold(&mut election, &untold(2)).0, Ok("a"), "which may be another one");
    }

    #[test]
    fn a_primary_that_is_listed_anew_is_the_primary_still() {
        let mut election = term();
        election.succeed(id("c"), id("d"));
        election.succeed(id("a"), id("b"));
        let old = || node("a", primary().timeline(2).started(5)).listed_primary().leaves();
        let new = || node("b", primary().timeline(2).started(5));
        let deposed = || node("c", primary().timeline(1));
        let unasked = [old(), new().not_probed(), node("c", standby().timeline(2))];
        assert_eq!(hold(&mut election, &unasked).0, Err(NoPrimary::NotYetKnown));
        let behind = [old(), new().not_probed(), deposed()];
        assert_eq!(hold(&mut election, &behind).0, Err(NoPrimary::Deposed));
        let silent = [old(), node("b", None), node("c", standby().timeline(2))];
        assert_eq!(hold(&mut election, &silent).0, Err(NoPrimary::NobodyWritable));
        assert_eq!(hold(&mut election, &[old(), new(), deposed()]).0, Ok("b"));
    }

    #[test]
    fn the_cluster_is_that_of_the_configured_primary_or_of_two_servers_that_agree() {
        use Standing::*;
        let a = |seen: Option<Answer>| node("a", seen).listed_primary();
        let silent = || a(None);
        let b = |seen| node("b", seen);
        let c = |seen| node("c", seen);
        let d = |seen| node("d", seen);
        let of = |system| standby().system(system);
        let table: Vec<(&str, Vec<Node>, Result<'_>)> = vec![
            (
                "the configured primary says so, in the minority and as a standby",
                vec![a(Some(of(7))), b(primary().system(8)), c(of(8))],
                (Err(NoPrimary::NobodyWritable), vec![Standby, foreign(8), foreign(8)]),
            ),
            (
                "it says so before the others were asked",
                vec![a(Some(primary())), b(of(8)), node("c", None).not_probed()],
                (Err(NoPrimary::NotYetKnown), vec![Undecided, foreign(8), Silent]),
            ),
            (
                "one that is being replaced says nothing",
                vec![a(Some(of(8))).leaves(), b(primary()).listed_primary(), c(standby())],
                (Ok("b"), vec![foreign(8), Primary, Standby]),
            ),
            (
                "two others agree",
                vec![silent(), b(primary().timeline(2)), c(standby().timeline(2))],
                (Ok("b"), vec![Silent, Primary, Standby]),
            ),
            (
                "one that is seen for the first time may be the other one, restarted",
                vec![silent(), b(primary()), c(standby()).first_seen()],
                (Err(NoPrimary::Unconfirmed), vec![Silent, UNCONFIRMED, Standby]),
            ),
            (
                "and so may the other one, restarted from it",
                vec![silent(), b(primary()).first_seen(), c(standby())],
                (Err(NoPrimary::Unconfirmed), vec![Silent, UNCONFIRMED, Standby]),
            ),
            (
                "two of three that agree have been seen beside each other",
                vec![silent(), b(primary()), c(standby()).first_seen(), d(standby())],
                (Ok("b"), vec![Silent, Primary, Standby, Standby]),
            ),
            (
                "two others agree, a third was not asked",
                vec![silent(), b(primary()), c(standby()), node("d", None).not_probed()],
                (Err(NoPrimary::NotYetKnown), vec![Silent, Undecided, Undecided, Silent]),
            ),
            (
                "one alone may be a wrong entry",
                vec![silent(), b(primary()), node("c", None)],
                (Err(NoPrimary::Unconfirmed), vec![Silent, UNCONFIRMED, Silent]),
            ),
            (
                "one that does not tell confirms nothing",
                vec![silent(), b(primary()), c(standby().untold_system())],
                (Err(NoPrimary::Unconfirmed), vec![Silent, UNCONFIRMED, Standby]),
            ),
            (
                "two entries of one server are one server",
                vec![silent(), b(primary().started(5)), c(primary().started(5))],
                (Err(NoPrimary::Unconfirmed), vec![Silent, UNCONFIRMED, duplicate("b")]),
            ),
            (
                "where nobody tells, all belong",
                vec![a(Some(primary().untold_system())), b(standby().untold_system())],
                (Ok("a"), vec![Primary, Standby]),
            ),
            (
                "one that does not tell belongs",
                vec![a(Some(primary())), b(standby().untold_system())],
                (Ok("a"), vec![Primary, Standby]),
            ),
            (
                "the others do not agree",
                vec![silent(), b(primary()), c(standby()), d(of(8))],
                (Err(NoPrimary::Unconfirmed), vec![Silent, UNCONFIRMED, UNCONFIRMED, UNCONFIRMED]),
            ),
        ];
        for (name, nodes, expected) in table {
            assert_eq!(hold(&mut Election::default(), &nodes), expected, "{name}");
        }
    }

    #[test]
    fn the_cluster_stays_what_it_is_until_it_is_forgotten() {
        let mut election = Election::default();
        let ours = [node("a", None).listed_primary(), node("b", primary()), node("c", standby())];
        assert_eq!(hold(&mut election, &ours).0, Ok("b"));
        let theirs = |system| primary().system(system).timeline(9);
        let nodes = [node("a", theirs(8)).listed_primary(), node("b", primary()), node("c", theirs(9))];
        let expected = (Ok("b"), vec![foreign(8), Standing::Primary, foreign(9)]);
        assert_eq!(hold(&mut election, &nodes), expected, "be it the configured primary");
        election.forget_cluster();
        assert_eq!(hold(&mut election, &nodes).0, Ok("a"));
    }

    #[test]
    fn of_several_entries_of_one_server_one_stands() {
        use Standing::*;
        let one = |seen: Answer| seen.started(5);
        let a = |seen: Answer| node("a", seen).listed_primary();
        let b = |seen: Answer| node("b", seen);
        let c = |seen: Answer| node("c", seen);
        let table: Vec<(&str, Vec<Node>, Result<'_>)> = vec![
            (
                "the primary's own, wherever it is",
                vec![b(one(primary())), a(one(primary()))],
                (Ok("a"), vec![duplicate("a"), Primary]),
            ),
            (
                "else the first",
                vec![a(primary()), c(one(standby())), b(one(standby()))],
                (Ok("a"), vec![Primary, Standby, duplicate("c")]),
            ),
            (
                "another one has it from there",
                vec![a(primary()), b(one(standby())), c(standby())],
                (Ok("a"), vec![Primary, Standby, Standby]),
            ),
            (
                "not one that leaves",
                vec![a(one(primary())).leaves(), b(one(primary()))],
                (Ok("b"), vec![Undecided, Primary]),
            ),
            (
                "servers of other clusters are others, started at the same time or not",
                vec![a(one(primary())), b(one(standby().system(8)))],
                (Ok("a"), vec![Primary, foreign(8)]),
            ),
            (
                "where the system is not told, the start alone tells",
                vec![a(one(primary().untold_system())), b(one(primary().untold_system()))],
                (Ok("a"), vec![Primary, duplicate("a")]),
            ),
        ];
        for (name, nodes, expected) in table {
            assert_eq!(hold(&mut Election::default(), &nodes), expected, "{name}");
        }
        let mut election = term();
        let nodes =
            [node("c", one(primary().timeline(2))).listed_primary(), node("a", one(primary().timeline(2)))];
        let expected = (Ok("a"), vec![duplicate("a"), Primary]);
        assert_eq!(hold(&mut election, &nodes), expected, "writes stay with the entry that they go to");
    }

    #[test]
    fn all_that_are_writable_are_told() {
        let writable = |nodes: &[Node]| Election::default().hold(&candidates(nodes)).writable;
        let nodes = [
            node("a", primary()).listed_primary(),
            node("b", primary().timeline(2)),
            node("c", standby()),
            node("d", primary().system(8)),
            node("e", primary().timeline(2)).leaves(),
            node("f", primary().timeline(2).started(98)),
        ];
        assert_eq!(writable(&nodes), [id("a"), id("b")]);
        let unknown =
            [node("a", None).listed_primary(), node("b", primary()), node("c", primary().system(8))];
        assert_eq!(writable(&unknown), [], "of different clusters, for all that is known");
    }

    #[test]
    fn standings_are_alike_by_their_kind_of_reason() {
        use Standing::*;
        let of_each_kind =
            [Silent, Undecided, Primary, Standby, other_timeline(1, 2), deposed(1, 2), split(1), foreign(8)];
        for (i, one) in of_each_kind.iter().enumerate() {
            for (j, other) in of_each_kind.iter().enumerate() {
                assert_eq!(one.is_same_kind(other), i == j, "{one:?}, {other:?}");
            }
            assert_eq!(one.is_bad(), i >= 4, "{one:?}");
        }
        assert!(other_timeline(1, 2).is_same_kind(&other_timeline(2, 3)));
        assert!(deposed(1, 2).is_same_kind(&deposed(2, 3)));
    }
}
