//! The dashboard, as Grafana reads it.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use crate::programs::docs;
use crate::stage::Stage;
use crate::until;

fn dashboard() -> Value {
    let text = std::fs::read_to_string(docs("grafana/dashboard.json")).expect("the dashboard");
    serde_json::from_str(&text).expect("JSON")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("no list: {value}"))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

#[test]
fn every_panel_is_complete_and_has_a_place_of_its_own() {
    let dashboard = dashboard();
    assert!(dashboard["schemaVersion"].as_u64() >= Some(38), "of Grafana 10");
    assert!(dashboard["id"].is_null(), "it is to be given one where it is imported");
    let (mut ids, mut taken) = (HashSet::new(), HashMap::new());
    for panel in list(&dashboard["panels"]) {
        let title = text(&panel["title"]);
        assert!(ids.insert(panel["id"].as_u64().expect("a number")), "{title} has the id of another one");
        let [x, y, w, h] =
            ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().expect("a number"));
        assert!(x + w <= 24, "{title} sticks out");
        for place in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            assert_eq!(taken.insert(place, title), None, "{title} stands on another one");
        }
        if panel["type"] == "row" {
            continue;
        }
        assert_ne!(text(&panel["description"]), "", "{title}");
        assert_ne!(text(&panel["fieldConfig"]["defaults"]["unit"]), "", "{title}");
        let mut names = HashSet::new();
        for target in list(&panel["targets"]) {
            assert!(names.insert(text(&target["refId"])), "{title} has two queries of one name");
            assert_ne!(text(&target["legendFormat"]), "", "{title}");
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
        }
        assert_ne!(names.len(), 0, "{title} asks nothing");
    }
}

/// What a panel asks for, with the variables filled in.
fn queries(dashboard: &Value) -> Vec<(String, String)> {
    let panels = list(&dashboard["panels"]).iter().filter(|panel| panel["type"] != "row");
    let of_panel = |panel: &Value| {
        let title = text(&panel["title"]).to_owned();
        list(&panel["targets"])
            .iter()
            .map(move |target| (title.clone(), filled_in(target)))
            .collect::<Vec<_>>()
    };
    panels.flat_map(of_panel).collect()
}

fn filled_in(target: &Value) -> String {
    let values = [("$__rate_interval", "1m"), ("$job", "chat"), ("$instance", ".*"), ("$node", ".*")];
    let expression = values
        .iter()
        .fold(text(&target["expr"]).to_owned(), |expression, (name, value)| expression.replace(name, value));
    assert!(!expression.contains('$'), "a variable is left in {expression}");
    expression
}

#[tokio::test(flavor = "multi_thread")]
async fn every_panel_has_something_to_show() {
    let Some(stage) = Stage::set().await else { return };
    let dashboard = dashboard();
    for variable in list(&dashboard["templating"]["list"]) {
        // `label_values(metric, label)`
        if let Some(query) = variable["query"]["query"].as_str() {
            let (metric, label) =
                query.strip_prefix("label_values(").and_then(|q| q.rsplit_once(", ")).expect("so");
            let (metric, label) = (metric.replace("$job", "chat"), label.trim_end_matches(')'));
            let is_there = async || {
                stage.prometheus.query(&metric).await.iter().any(|sample| sample.labels[label].is_string())
            };
            until(&format!("there is a {label} to choose"), is_there).await;
        }
    }

    // A bad day: one replica lags, the other one dies, and comes back.
    stage.cluster.replica(0).pause_replay().await.expect("replay pauses");
    until("a replica lags", async || stage.prometheus.shows("diesel_replicas_serving_replicas == 1").await)
        .await;
    stage.cluster.replica(1).kill().await.expect("the replica dies");
    until("reads fall back", async || stage.prometheus.shows("diesel_replicas_fallbacks_total > 0").await)
        .await;
    stage.cluster.replica(1).start().await.expect("the replica starts");
    until("it serves", async || stage.prometheus.shows("diesel_replicas_serving_replicas == 1").await).await;
    for (title, query) in queries(&dashboard) {
        let is_known =
            async || stage.prometheus.query(&query).await.iter().any(|sample| !sample.value.is_nan());
        until(&format!("{title:?} shows {query}"), is_known).await;
    }
}
