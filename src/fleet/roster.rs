//! What the state of all nodes means for requests.

use super::{Fleet, Member, NodeId, Role, Writer};
use crate::health::{HealthState, Lag, Reason};
use crate::observation::Observation;
use std::time::Duration;
use tokio::time::Instant;

/// All nodes at one moment.
#[derive(Debug, Clone)]
pub(crate) struct View {
    /// In the order of the configuration.
    pub(crate) nodes: Vec<NodeView>,
    pub(crate) writer: Writer,
}

/// One node at one moment.
#[derive(Debug, Clone)]
pub(crate) struct NodeView {
    pub(crate) id: NodeId,
    pub(crate) role: Role,
    pub(crate) health: HealthState,
    pub(crate) reason: Reason,
    pub(crate) lag: Option<Lag>,
    pub(crate) serves: Service,
    /// When it last became healthy, if it is.
    pub(crate) healthy_since: Option<Instant>,
    /// Its latest answer, if it has ever given one.
    pub(crate) seen: Option<Observation>,
}

/// Whether a node may serve reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    Yes,
    /// Where nobody else may, and the fallback policy asks for the least lagging one.
    AsLastResort,
    No,
}

impl NodeView {
    /// A node of which nothing is known yet.
    pub(crate) fn unproven(id: NodeId, role: Role) -> Self {
        Self {
            id,
            role,
            health: HealthState::Unproven,
            reason: Reason::NotProbed,
            lag: None,
            serves: Service::No,
            healthy_since: None,
            seen: None,
        }
    }
}

impl Fleet {
    pub(crate) fn view(&self) -> View {
        let mut nodes: Vec<_> = self.members.iter().map(Member::view).collect();
        let serving = nodes.iter().filter(|node| node.serves == Service::Yes).count();
        let missing = self.policy.min_replicas.saturating_sub(serving);
        for (i, index) in self.laggards().into_iter().enumerate() {
            if i < missing {
                nodes[index].serves = Service::Yes;
            } else if serving == 0 && i == 0 {
                nodes[index].serves = Service::AsLastResort;
            }
        }
        View { nodes, writer: self.election.writer() }
    }

    /// The replicas that are out for a lag that is known and below the hard limit, the least lagging first.
    fn laggards(&self) -> Vec<usize> {
        let lag = |member: &Member| -> Option<Duration> {
            let measured =
                matches!(member.health.reason(), Reason::Behind { .. } | Reason::BehindBytes { .. });
            let time = member.lag?.time()?;
            (measured && time <= self.policy.lag_hard_limit).then_some(time)
        };
        let mut laggards: Vec<_> = self
            .members
            .iter()
            .enumerate()
            .filter(|(_, member)| {
                member.health.state() == HealthState::Lagging && !member.health.is_ejected()
            })
            .filter_map(|(index, member)| Some((lag(member)?, index)))
            .collect();
        laggards.sort_unstable();
        laggards.into_iter().map(|(_, index)| index).collect()
    }
}

impl Member {
    fn view(&self) -> NodeView {
        let health = self.health.state();
        let serves = self.role == Role::Replica && health == HealthState::Healthy;
        NodeView {
            id: self.listed.id,
            role: self.role,
            health,
            reason: self.health.reason().clone(),
            lag: self.lag,
            serves: if serves { Service::Yes } else { Service::No },
            healthy_since: self.health.healthy_since(),
            seen: self.seen.clone(),
        }
    }
}
