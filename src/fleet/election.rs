//! Who takes the writes, and what that makes of everybody else.
//!
//! PostgreSQL raises the timeline at each promotion, so that of two nodes that both take writes the one on the higher timeline
//! was promoted last. Nothing else is trusted: on one timeline nobody can tell two writable nodes apart, and writes to both
//! would be lost in part.

use super::{NodeId, Role};
use crate::health::Reason;
use crate::observation::Observation;
use std::sync::Arc;
use std::{fmt, mem};

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
    /// The only node that is writable is on an older timeline than the primary was: it was deposed.
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
    /// It is being removed.
    pub(super) leaves: bool,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Standing {
    /// It does not answer.
    Silent,
    /// It answers, and it is not known yet who the primary is.
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
    writer: Writer,
}

/// Which cluster this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cluster {
    Unknown,
    /// Servers of several clusters answer, and nothing shows which of them is the one.
    Disputed,
    /// The system identifier of its servers; `None` where they do not tell it.
    Known(Option<u64>),
}

#[derive(Debug, Clone, Copy)]
struct Term {
    node: NodeId,
    timeline: Option<u32>,
}

impl Default for Election {
    fn default() -> Self {
        Self { cluster: Cluster::Unknown, term: None, writer: Writer::Nobody(NoPrimary::NotYetKnown) }
    }
}

impl Election {
    pub(super) fn writer(&self) -> Writer {
        self.writer
    }

    /// The node does not matter any more, be it that it was the primary.
    pub(super) fn forget(&mut self, id: NodeId) {
        self.term.take_if(|term| term.node == id);
    }

    /// Nobody is left who knows which cluster this was.
    pub(super) fn forget_cluster(&mut self) {
        *self = Self::default();
    }

    pub(super) fn hold(&mut self, all: &[Candidate<'_>]) -> Outcome {
        self.identify(all);
        let mut standings: Vec<_> = all.iter().map(|candidate| self.belongs(candidate, all)).collect();
        let writable: Vec<_> = all
            .iter()
            .zip(&standings)
            .filter(|(candidate, standing)| **standing == Standing::Undecided && !candidate.leaves)
            .filter_map(|(candidate, _)| Some((candidate.id, candidate.seen?.timeline)))
            .collect();
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
    /// alone might be a wrong entry.
    fn identify(&mut self, all: &[Candidate<'_>]) {
        if let Cluster::Known(_) = self.cluster {
            return;
        }
        let primary = all.iter().find(|candidate| candidate.listed == Role::Primary);
        if let Some(seen) = primary.and_then(|primary| primary.seen) {
            self.cluster = Cluster::Known(seen.identity.system);
            return;
        }
        self.cluster = Cluster::Unknown;
        let servers = all.iter().filter_map(|candidate| Some(candidate.seen?.identity));
        let mut servers = servers.filter(|server| server.system.is_some());
        let Some(first) = servers.next() else { return };
        let others: Vec<_> = servers.collect();
        if others.iter().any(|other| other.system != first.system) {
            self.cluster = Cluster::Disputed;
        } else if others.iter().any(|other| *other != first) && all.iter().all(|candidate| candidate.probed) {
            self.cluster = Cluster::Known(first.system);
        }
    }

    /// Whether a node is one of this cluster that stands for itself: `Undecided` if so and writable.
    fn belongs(&self, candidate: &Candidate<'_>, all: &[Candidate<'_>]) -> Standing {
        let Some(seen) = candidate.seen else { return Standing::Silent };
        if let (Cluster::Known(Some(expected)), Some(system)) = (self.cluster, seen.identity.system)
            && system != expected
        {
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
        let newest = newest.ok_or(NoPrimary::NobodyWritable)?;
        if !matches!(self.cluster, Cluster::Known(_)) {
            return Err(NoPrimary::Unconfirmed);
        }
        let mut on_it = writable.iter().filter(|(_, timeline)| *timeline == newest);
        let (Some(&(node, timeline)), None) = (on_it.next(), on_it.next()) else {
            return Err(NoPrimary::SplitBrain);
        };
        match self.term {
            Some(term) if timeline < term.timeline => Err(NoPrimary::Deposed),
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
        let primary = self.term.and_then(|term| term.timeline);
        match (standing, self.writer) {
            (Standing::Undecided, Writer::Node(node)) if node == candidate.id => Standing::Primary,
            (Standing::Undecided, Writer::Nobody(NoPrimary::NotYetKnown)) => Standing::Undecided,
            (Standing::Undecided, Writer::Nobody(NoPrimary::Unconfirmed)) => {
                Standing::Refused(Reason::Unconfirmed)
            }
            (Standing::Undecided, _) => Standing::Refused(match (timeline, primary) {
                (Some(timeline), Some(primary)) if timeline < primary => {
                    Reason::Deposed { timeline, primary }
                }
                _ => Reason::SplitBrain { timeline: timeline.unwrap_or_default() },
            }),
            (Standing::Standby, Writer::Nobody(NoPrimary::NotYetKnown)) => Standing::Undecided,
            (Standing::Standby, _) if self.cluster == Cluster::Disputed => {
                Standing::Refused(Reason::Unconfirmed)
            }
            (Standing::Standby, _) => match (timeline, primary) {
                (Some(follows), Some(primary)) if follows != primary => {
                    Standing::Astray(Reason::OtherTimeline { follows, primary })
                }
                _ => Standing::Standby,
            },
            (standing, _) => standing,
        }
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
