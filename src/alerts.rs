//! What lasts too long or goes too far: a replica's lag over a threshold, a replica that is not healthy.
//!
//! A pure state machine over what is published of the nodes. Each alert is told once when it begins and once when it ends.

use crate::fleet::{NodeId, NodeView, Role};
use crate::health::{HealthState, Reason};
use std::time::Duration;
use tokio::time::Instant;

/// When there is an alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AlertPolicy {
    /// Lag over this is a warning.
    pub(crate) lag_warning: Duration,
    /// Lag over this is critical.
    pub(crate) lag_critical: Duration,
    /// A replica that has not been healthy for so long is a warning.
    pub(crate) unhealthy_after: Duration,
}

/// What has begun or ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Alert {
    Lag { node: NodeId, level: Level, lag: Duration, threshold: Duration },
    LagEnded { node: NodeId, threshold: Duration },
    Unhealthy { node: NodeId, time: Duration, health: HealthState, reason: Reason },
    UnhealthyEnded { node: NodeId },
}

/// How bad a lag is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    Warning,
    Critical,
}

/// The alerts that go on.
#[derive(Debug, Default)]
pub(crate) struct Alerts {
    nodes: Vec<Watch>,
}

/// What is known of one replica.
#[derive(Debug)]
struct Watch {
    node: NodeId,
    /// The thresholds that its lag is over: of a warning, of a critical alert.
    over: [Option<Duration>; 2],
    unhealthy_since: Option<Instant>,
    /// It has been told to be unhealthy.
    told: bool,
}

impl Alerts {
    /// Takes in what is so at this moment.
    pub(crate) fn update(&mut self, now: Instant, policy: &AlertPolicy, views: &[NodeView]) -> Vec<Alert> {
        let mut alerts = vec![];
        let is_replica =
            |view: &&NodeView| view.role == Role::Replica && view.health != HealthState::Draining;
        self.nodes.retain(|watch| {
            let stays = views.iter().filter(is_replica).any(|view| view.id == watch.node);
            if !stays {
                watch.end(&mut alerts);
            }
            stays
        });
        for view in views.iter().filter(is_replica) {
            let index = self.nodes.iter().position(|watch| watch.node == view.id).unwrap_or_else(|| {
                self.nodes.push(Watch { node: view.id, over: [None; 2], unhealthy_since: None, told: false });
                self.nodes.len() - 1
            });
            self.nodes[index].see(now, policy, view, &mut alerts);
        }
        alerts
    }
}

impl Watch {
    fn see(&mut self, now: Instant, policy: &AlertPolicy, view: &NodeView, alerts: &mut Vec<Alert>) {
        let node = self.node;
        // A bound that says nothing against the replica is no alert; nor does silence end one.
        let lag = view.lag.and_then(|lag| lag.time().map(|time| (time, lag.lacks_newer())));
        let thresholds = [(Level::Warning, policy.lag_warning), (Level::Critical, policy.lag_critical)];
        for (over, (level, threshold)) in self.over.iter_mut().zip(thresholds) {
            match (*over, lag) {
                (None, Some((lag, true))) if lag > threshold => {
                    *over = Some(threshold);
                    alerts.push(Alert::Lag { node, level, lag, threshold });
                }
                (Some(before), Some((lag, _))) if lag <= threshold / 2 => {
                    *over = None;
                    alerts.push(Alert::LagEnded { node, threshold: before });
                }
                _ => {}
            }
        }
        if view.health == HealthState::Healthy {
            self.unhealthy_since = None;
            if std::mem::take(&mut self.told) {
                alerts.push(Alert::UnhealthyEnded { node });
            }
            return;
        }
        let time = now.saturating_duration_since(*self.unhealthy_since.get_or_insert(now));
        if time >= policy.unhealthy_after && !self.told {
            self.told = true;
            let (health, reason) = (view.health, view.reason.clone());
            alerts.push(Alert::Unhealthy { node, time, health, reason });
        }
    }

    /// The node is no replica any more.
    fn end(&self, alerts: &mut Vec<Alert>) {
        let node = self.node;
        alerts.extend(
            self.over.iter().flatten().map(|threshold| Alert::LagEnded { node, threshold: *threshold }),
        );
        alerts.extend(self.told.then_some(Alert::UnhealthyEnded { node }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Lag;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    const POLICY: AlertPolicy =
        AlertPolicy { lag_warning: ms(1000), lag_critical: ms(5000), unhealthy_after: ms(120_000) };

    struct Scene {
        now: Instant,
        alerts: Alerts,
        view: NodeView,
    }

    impl Scene {
        fn new() -> Self {
            let view = NodeView::unproven(NodeId::unique(), Role::Replica);
            Self { now: Instant::now(), alerts: Alerts::default(), view }
        }

        /// After so long, with this health and lag: what is told.
        fn after(&mut self, wait: Duration, health: HealthState, lag: Option<Duration>) -> Vec<Alert> {
            self.now += wait;
            self.view.health = health;
            self.view.lag = lag.map(|lag| Lag::reported(self.now, self.now, lag));
            self.alerts.update(self.now, &POLICY, std::slice::from_ref(&self.view))
        }

        fn lag(&self, level: Level, lag: u64) -> Alert {
            let threshold = if level == Level::Warning { POLICY.lag_warning } else { POLICY.lag_critical };
            Alert::Lag { node: self.view.id, level, lag: ms(lag), threshold }
        }

        fn ended(&self, threshold: Duration) -> Alert {
            Alert::LagEnded { node: self.view.id, threshold }
        }
    }

    #[test]
    fn each_threshold_of_lag_is_told_once_and_ends_at_its_half() {
        use HealthState::{Healthy, Lagging};
        let mut scene = Scene::new();
        let tick = ms(250);
        assert_eq!(scene.after(tick, Healthy, Some(ms(1000))), []);
        assert_eq!(scene.after(tick, Lagging, Some(ms(1001))), [scene.lag(Level::Warning, 1001)]);
        assert_eq!(scene.after(tick, Lagging, Some(ms(4000))), []);
        assert_eq!(scene.after(tick, Lagging, Some(ms(5001))), [scene.lag(Level::Critical, 5001)]);
        assert_eq!(scene.after(tick, Lagging, None), [], "silence ends nothing");
        assert_eq!(scene.after(tick, Lagging, Some(ms(2501))), []);
        assert_eq!(scene.after(tick, Lagging, Some(ms(2500))), [scene.ended(POLICY.lag_critical)]);
        assert_eq!(scene.after(tick, Healthy, Some(ms(0))), [scene.ended(POLICY.lag_warning)]);
        let both = [scene.lag(Level::Warning, 6000), scene.lag(Level::Critical, 6000)];
        assert_eq!(scene.after(tick, Lagging, Some(ms(6000))), both);
    }

    #[test]
    fn a_replica_that_stays_unhealthy_is_told_once() {
        use HealthState::{Healthy, Lagging, Unreachable};
        let mut scene = Scene::new();
        let node = scene.view.id;
        assert_eq!(scene.after(ms(0), Healthy, None), []);
        assert_eq!(scene.after(ms(1), Unreachable, None), []);
        assert_eq!(scene.after(ms(119_999), Lagging, None), [], "whatever is wrong with it");
        let reason = scene.view.reason.clone();
        let told = Alert::Unhealthy { node, time: ms(120_000), health: Unreachable, reason };
        assert_eq!(scene.after(ms(1), Unreachable, None), [told]);
        assert_eq!(scene.after(ms(120_000), Unreachable, None), []);
        assert_eq!(scene.after(ms(1), Healthy, None), [Alert::UnhealthyEnded { node }]);
        assert_eq!(scene.after(ms(119_999), Unreachable, None), []);
        assert_eq!(scene.after(ms(1), Healthy, None), [], "it was back in time");
    }

    #[test]
    fn what_goes_on_ends_with_the_replica() {
        let mut scene = Scene::new();
        let node = scene.view.id;
        scene.after(ms(0), HealthState::Lagging, Some(ms(1001)));
        scene.after(ms(120_000), HealthState::Lagging, Some(ms(1001)));
        scene.view.role = Role::Primary;
        let ended = [scene.ended(POLICY.lag_warning), Alert::UnhealthyEnded { node }];
        assert_eq!(scene.after(ms(1), HealthState::Healthy, None), ended);
        assert_eq!(
            scene.after(ms(1), HealthState::Unreachable, None),
            [],
            "the primary's health is told otherwise"
        );
    }
}
