//! The replicas that may serve a read.

use super::{Node, Seen};
use crate::balance::{Candidate, Candidates, Strategy};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Replicas to pick from.
#[derive(Debug, Clone)]
pub(crate) struct Serving {
    nodes: Vec<Arc<Node>>,
    /// Parallel to `nodes`; `None` when there are none.
    candidates: Option<Candidates>,
}

impl Serving {
    /// A node of weight 0 serves never, not even as the last one.
    pub(super) fn new<'a>(seen: impl Iterator<Item = &'a Seen>, _: Duration, _: Instant) -> Self {
        let weighted = |seen: &Seen| {
            let weight = NonZeroU32::new(seen.listing.weight)?;
            let node = Arc::clone(&seen.node);
            Some((
                Arc::clone(&node),
                Candidate::counting(Arc::clone(&node.name), weight, Arc::clone(&node.traffic)),
            ))
        };
        let (nodes, candidates): (_, Vec<_>) = seen.filter_map(weighted).unzip();
        Self { nodes, candidates: Candidates::new(candidates) }
    }

    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn find(&self, node: &Node) -> Option<&Arc<Node>> {
        self.nodes.iter().find(|other| other.id == node.id)
    }

    /// The node that the strategy chooses; `None` when there is none to choose from.
    pub(crate) fn pick(&self, strategy: &dyn Strategy) -> Option<&Arc<Node>> {
        let index = self.candidates.as_ref()?.pick(strategy, &mut rand::rng());
        self.nodes.get(index)
    }

    /// The others, for a request that found this one out of reach.
    pub(crate) fn without(&self, node: &Node) -> Self {
        let (nodes, candidates): (_, Vec<_>) = self
            .nodes
            .iter()
            .zip(self.candidates.iter().flat_map(|candidates| candidates.iter()))
            .filter(|(other, _)| other.id != node.id)
            .map(|(node, candidate)| (Arc::clone(node), candidate.clone()))
            .unzip();
        Self { nodes, candidates: Candidates::new(candidates) }
    }
}
