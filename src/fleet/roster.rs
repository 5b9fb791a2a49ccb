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
    /// Nothing shows that it does not, be it that it is being removed.
    pub(crate) answers: bool,
    /// It must not do even what it has begun, be it that it is being removed.
    pub(crate) refused: bool,
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
            answers: true,
            refused: false,
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
            answers: self.health.answers(),
            refused: self.health.is_refused(),
            healthy_since: self.health.healthy_since(),
            seen: self.seen.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Scene, ms, primary, standby};
    use crate::health::{HealthPolicy, LagBytes, UnverifiedLag};
    use crate::lsn::Lsn;

    /// A fleet whose replicas `b`, `c` and `d` lag: `b` by 3 s, `c` by 2 s, and `d` by this much.
    fn lagging(policy: HealthPolicy, d: u64) -> Scene {
        let mut scene = Scene::new(policy, ["a", "b", "c", "d"]);
        scene.round(primary(), standby());
        // At 100 + n, n ms have passed.
        for passed in (100..=10_000).step_by(100) {
            scene.wait(100);
            scene.answer("a", primary().at(100 + passed));
        }
        let behind = |lag| standby().at(10_100 - lag);
        for (name, lag) in [("b", 3000), ("c", 2000), ("d", d)] {
            scene.answer(name, behind(lag));
            assert_eq!(scene.lag(name), Some(ms(lag)));
        }
        scene
    }

    fn at_least(min_replicas: usize) -> HealthPolicy {
        HealthPolicy { min_replicas, lag_hard_limit: ms(3000), ..Default::default() }
    }

    #[test]
    fn the_least_lagging_serve_while_too_few_do_and_one_is_the_last_resort() {
        for (min_replicas, d, serving) in [
            (0, 2100, "(c)"),
            (0, 1900, "(d)"),
            (0, 100, "d"),
            (1, 2100, "c"),
            (1, 100, "d"),
            (2, 100, "c d"),
            (2, 2100, "c d"),
            (3, 2100, "b c d"),
            (3, 3100, "b c"),
            (9, 3100, "b c"),
            (9, 3000, "b c d"),
        ] {
            assert_eq!(
                lagging(at_least(min_replicas), d).serving(),
                serving,
                "{min_replicas} at least, {d} ms"
            );
        }
        let mut none = at_least(0);
        none.lag_hard_limit = ms(1000);
        assert_eq!(lagging(none, 1100).serving(), "");
    }

    #[test]
    fn no_replica_serves_for_want_of_others_while_something_else_is_wrong() {
        let serving = |change: fn(&mut Scene)| {
            let mut scene = lagging(at_least(9), 2000);
            assert_eq!(scene.serving(), "b c d");
            change(&mut scene);
            scene.serving()
        };
        assert_eq!(serving(|scene| drop(scene.refuse("c"))), "b d");
        assert_eq!(serving(|scene| drop(scene.drain("c"))), "b d");
        assert_eq!(serving(|scene| drop(scene.answer("c", standby().system(8)))), "b d");
        assert_eq!(serving(|scene| drop(scene.answer("c", standby().timeline(2)))), "b d");
        assert_eq!(serving(|scene| drop(scene.answer("c", standby().nowhere()))), "b d");
        assert_eq!(serving(|scene| drop(scene.answer("c", standby().at(99)))), "b d", "its lag is not known");
        assert_eq!(serving(|scene| drop(scene.answer("c", primary()))), "b d");
        let back_and_ejected: fn(&mut Scene) = |scene| {
            scene.answer("c", standby().at(10_100));
            scene.answer("c", standby().at(10_100));
            scene.answer("d", standby().at(10_100));
            scene.answer("d", standby().at(10_100));
            scene.eject("c");
            scene.answer("c", standby().at(8100));
        };
        assert_eq!(serving(back_and_ejected), "b d", "ejected, though it lags");
    }

    #[test]
    fn lag_in_bytes_keeps_a_replica_in_service_as_well() {
        let bytes = |bytes: u64| Lsn::new(0).bytes_behind(Lsn::new(bytes));
        let limits = LagBytes { threshold: bytes(50), recovery: bytes(10) };
        let scene = lagging(HealthPolicy { lag_bytes: Some(limits), ..at_least(2) }, 100);
        assert_eq!(scene.serving(), "c d");
        let scene = lagging(HealthPolicy { lag_bytes: Some(limits), ..at_least(0) }, 100);
        assert_eq!(scene.serving(), "(d)");
    }

    #[test]
    fn a_lag_that_is_not_known_keeps_nobody_in_service() {
        let policy = HealthPolicy { unverified_lag: UnverifiedLag::Exclude, ..at_least(9) };
        let mut scene = Scene::new(policy, ["a", "b"]);
        scene.round(primary(), standby());
        scene.refuse("a");
        scene.wait(2000);
        scene.answer("b", standby());
        assert_eq!(
            (scene.nodes(), scene.serving()),
            ("a unreachable primary, b lagging replica".into(), "".into())
        );
    }
}
