//! The alert rules, where something happens.

use serde_json::Value;

use crate::programs::docs;
use crate::stage::Stage;
use crate::until;

/// The alerts of a name that fire, by the node that they are of.
async fn nodes_of(stage: &Stage, alert: &str) -> Vec<Value> {
    stage.prometheus.firing(alert).await.iter().map(|alert| alert["labels"]["node"].clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_stops_to_replay_is_told_until_it_has_caught_up() {
    let Some(stage) = Stage::set().await else { return };
    let [_, laggard, _] = stage.names();
    let fires = async |alert: &str| nodes_of(&stage, alert).await == [laggard.as_str()];

    stage.cluster.replica(0).pause_replay().await.expect("replay pauses");
    for alert in ["DieselReplicaLagWarning", "DieselReplicaLagCritical", "DieselReplicaUnhealthy"] {
        until(&format!("{alert} fires for it alone"), async || fires(alert).await).await;
    }
    let unhealthy = stage.prometheus.firing("DieselReplicaUnhealthy").await;
    let why = unhealthy[0]["annotations"]["description"].as_str().expect("a text");
    assert!(why.contains("the reason is behind."), "{why}");
    for alert in ["DieselNoPrimary", "DieselSplitBrain", "DieselReadsOnPrimary"] {
        assert_eq!(nodes_of(&stage, alert).await, Vec::<Value>::new(), "{alert}");
    }

    stage.cluster.replica(0).resume_replay().await.expect("replay resumes");
    until("nothing fires any more", async || !stage.prometheus.shows("ALERTS").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_primary_that_is_told_and_no_lag() {
    let Some(stage) = Stage::set().await else { return };
    stage.cluster.primary().kill().await.expect("the primary dies");
    until("it is told", async || stage.prometheus.firing("DieselNoPrimary").await.len() == 1).await;
    let bound_grows = async || stage.prometheus.shows("diesel_replicas_lag_seconds > 8").await;
    until("nobody can tell whether the replicas are fresh", bound_grows).await;
    for alert in ["DieselReplicaLagWarning", "DieselReplicaLagCritical"] {
        assert_eq!(nodes_of(&stage, alert).await, Vec::<Value>::new(), "{alert}");
    }

    stage.cluster.primary().start().await.expect("the primary starts");
    until("nothing fires any more", async || !stage.prometheus.shows("ALERTS").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_alert_says_how_bad_it_is_and_what_to_do() {
    let Some(stage) = Stage::set().await else { return };
    let rules = stage.prometheus.rules().await;
    assert_eq!(rules.len(), 6);
    for rule in rules {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let severity = text(&rule["labels"]["severity"]);
        assert!(["critical", "warning", "info"].contains(&severity.as_str()), "{rule}");
        for annotation in ["summary", "description"] {
            assert_ne!(text(&rule["annotations"][annotation]), "", "{annotation} of {rule}");
        }
        let runbook = text(&rule["annotations"]["runbook"]);
        let file = runbook.strip_prefix("docs/").unwrap_or_else(|| panic!("{runbook:?} of {rule}"));
        assert!(docs(file).is_file(), "{runbook} is missing");
    }
}
