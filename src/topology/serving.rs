//! The replicas that may serve a read.

use super::{Node, Seen};
use crate::balance::{Candidate, Chance, Roster, Strategy};
use std::borrow::Cow;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Replicas to pick from.
#[derive(Debug, Clone)]
pub(crate) struct Serving {
    nodes: Vec<Arc<Node>>,
    /// Parallel to `nodes`.
    entries: Vec<(Candidate, Instant)>,
    roster: Roster,
}

impl Serving {
    /// A node of weight 0 serves never, not even as the last one.
    pub(super) fn new<'a>(seen: impl Iterator<Item = &'a Seen>, slow_start: Duration, now: Instant) -> Self {
        let entry = |seen: &Seen| {
            let (name, traffic) = (Arc::clone(&seen.node.name), Arc::clone(&seen.node.traffic));
            let candidate = Candidate::counting(name, NonZeroU32::new(seen.listing.weight)?, traffic);
            // One that is kept in service although it lags was never away.
            let since = seen.view.healthy_since.or_else(|| now.checked_sub(slow_start));
            Some((Arc::clone(&seen.node), (candidate, since.unwrap_or(now))))
        };
        let (nodes, entries): (_, Vec<_>) = seen.filter_map(entry).unzip();
        let roster = Roster::new(entries.clone(), slow_start, now);
        Self { nodes, entries, roster }
    }

    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn nodes(&self) -> &[Arc<Node>] {
        &self.nodes
    }

    pub(crate) fn find(&self, node: &Node) -> Option<&Arc<Node>> {
        self.nodes.iter().find(|other| other.id == node.id)
    }

    /// The node that the strategy chooses; `None` when there is none to choose from.
    pub(crate) fn pick(&self, strategy: &dyn Strategy) -> Option<&Arc<Node>> {
        self.nodes.get(self.roster.pick(strategy, &mut Chance)?)
    }

    /// Those that satisfy the condition.
    pub(crate) fn only(&self, fit: impl Fn(&Node) -> bool) -> Cow<'_, Self> {
        if self.nodes.iter().all(|node| fit(node)) {
            Cow::Borrowed(self)
        } else {
            Cow::Owned(self.filter(fit))
        }
    }

    /// The others, for a request that found this one out of reach: it has no time for a slow start.
    pub(crate) fn without(&self, node: &Node) -> Self {
        self.filter(|other| other.id != node.id)
    }

    fn filter(&self, fit: impl Fn(&Node) -> bool) -> Self {
        let entries = self.entries.iter().cloned();
        let all = self.nodes.iter().cloned().zip(entries);
        let (nodes, entries): (_, Vec<_>) = all.filter(|(node, _)| fit(node)).unzip();
        let roster = Roster::new(entries.clone(), Duration::ZERO, Instant::now());
        Self { nodes, entries, roster }
    }
}
