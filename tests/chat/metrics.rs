//! What Prometheus is told.

use std::collections::HashMap;

use pg_cluster::Cluster;

use crate::service::{Service, name_of};
use crate::until;

const DOCUMENTED: &str = include_str!("../../docs/metrics.md");

/// The names and kinds of the documented metrics, as Prometheus calls them.
fn documented() -> Vec<(String, String)> {
    let rows = DOCUMENTED.lines().filter_map(|line| {
        let mut cells = line.trim_matches('|').split('|').map(str::trim);
        let name = cells.next()?.strip_prefix('`')?.strip_suffix('`')?;
        let is_metric = ["diesel_replicas.", "db.client."].iter().any(|prefix| name.starts_with(prefix));
        is_metric.then_some((name.replace('.', "_"), cells.next()?.to_owned()))
    });
    let named = rows.map(|(name, kind)| {
        let unit = match kind.as_str() {
            "histogram" => "_seconds",
            "counter" => "_total",
            _ => "",
        };
        (format!("{}{unit}", name.strip_suffix(unit).unwrap_or(&name)), kind)
    });
    named.collect()
}

/// Every series with its value.
async fn series(service: &Service) -> HashMap<String, f64> {
    let answer = service.get("/metrics").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let lines =
        answer.text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' '));
    lines.map(|(series, value)| (series.to_owned(), value.parse().expect("a number"))).collect()
}

/// The values of the series of a name that have these labels.
fn values(series: &HashMap<String, f64>, name: &str, labels: &[(&str, &str)]) -> Vec<f64> {
    let is_it = |series: &str| {
        let (found, rest) = series.split_once('{').unwrap_or((series, ""));
        found == name && labels.iter().all(|(key, value)| rest.contains(&format!("{key}=\"{value}\"")))
    };
    series.iter().filter(|(series, _)| is_it(series)).map(|(_, value)| *value).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_documented_metric_is_there_for_each_node() {
    let cluster = Cluster::builder().replicas(2).start().await.expect("a cluster");
    let service = Service::on(&cluster).await;
    let nodes: Vec<_> = cluster.nodes().iter().map(name_of).collect();
    let documented = documented();
    assert!(documented.len() > 20, "{documented:?}");
    service.create_room("general").await;
    service.replicated(&cluster).await;
    for _ in 0..4 {
        service.get("/api/rooms").await.expect(200);
    }

    let of_all =
        ["serving_replicas", "has_primary", "split_brain"].map(|name| format!("diesel_replicas_{name}"));
    for (name, kind) in &documented {
        let name = if kind == "histogram" { format!("{name}_count") } else { name.clone() };
        if of_all.contains(&name) {
            until(&format!("{name} is there"), async || {
                !values(&series(&service).await, &name, &[]).is_empty()
            })
            .await;
            continue;
        }
        for node in &nodes {
            let is_there = async || !values(&series(&service).await, &name, &[("node", node)]).is_empty();
            until(&format!("{name} of {node} is there"), is_there).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_not_happened_is_told_as_zero_and_what_has_is_counted() {
    let cluster = Cluster::builder().replicas(1).start().await.expect("a cluster");
    let service = Service::on(&cluster).await;
    let [primary, replica] = [0, 1].map(|index| name_of(&cluster.nodes()[index]));
    let reads = ("access", "read");
    let value = async |name: &str, labels: &[(&str, &str)]| values(&series(&service).await, name, labels);
    until("the reads of the replica are told", async || {
        !value("diesel_replicas_handles_total", &[("node", &replica), reads]).await.is_empty()
    })
    .await;
    for node in [&primary, &replica] {
        for name in ["fallbacks", "retries", "ejections"] {
            assert_eq!(
                value(&format!("diesel_replicas_{name}_total"), &[("node", node)]).await,
                [0.0],
                "{name}"
            );
        }
    }
    assert_eq!(value("diesel_replicas_handles_total", &[("node", &replica), reads]).await, [0.0]);
    assert_eq!(
        value("db_client_connection_wait_time_seconds_count", &[("node", &replica), reads]).await,
        [0.0]
    );

    service.replicated(&cluster).await;
    for _ in 0..3 {
        service.get("/api/rooms").await.expect(200);
    }
    for name in ["diesel_replicas_handles_total", "db_client_connection_wait_time_seconds_count"] {
        until(&format!("{name} has counted"), async || {
            value(name, &[("node", &replica), reads]).await == [3.0]
        })
        .await;
    }
    assert_eq!(value("diesel_replicas_serving_replicas", &[]).await, [1.0]);
    assert_eq!(value("diesel_replicas_has_primary", &[]).await, [1.0]);
    let buckets = value("db_client_connection_wait_time_seconds_bucket", &[("node", &replica), reads]).await;
    assert_eq!(buckets.len(), 17, "from 100 µs to 10 s, and beyond");
}
