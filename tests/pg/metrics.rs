//! What a recorder is told, seen through a real one.

use crate::support::{self, notes, until, until_async, until_health};
use diesel::prelude::*;
use diesel_replicas::{Ejection, HealthState, NodeConfig, Router, RunQueryDsl};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use pg_cluster::{Cluster, Node};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;
use std::time::Duration;

diesel::define_sql_function! {
    /// Sleeps on the server.
    fn pg_sleep(seconds: diesel::sql_types::Double) -> diesel::sql_types::Bool;
}

async fn read_once(router: &Router) {
    let mut conn = router.read().await.unwrap();
    notes::table.count().get_result::<i64>(&mut conn).await.unwrap();
}

async fn write_once(router: &Router) {
    let mut conn = router.write().await.unwrap();
    diesel::insert_into(notes::table).values(notes::body.eq("more")).execute(&mut conn).await.unwrap();
}

/// A recorder of this test's own thread, on which its routers run.
fn recorder() -> (PrometheusHandle, impl Drop) {
    let recorder = PrometheusBuilder::new().with_recommended_naming(true).set_buckets(&[0.001, 1.0]).unwrap();
    // It is there as long as the process, as one that a service installs.
    let recorder: &'static _ = Box::leak(Box::new(recorder.build_recorder()));
    (recorder.handle(), metrics::set_default_local_recorder(recorder))
}

/// All values of now, by name and labels: `name` or `name{key="value",..}`, as Prometheus has them.
struct Scrape(Vec<(String, BTreeMap<String, String>, f64)>);

impl Scrape {
    fn of(handle: &PrometheusHandle) -> Self {
        let text = handle.render();
        let line = |line: &str| {
            let (series, value) = line.rsplit_once(' ')?;
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            let labels = labels.strip_suffix('}')?.split(',').filter(|label| !label.is_empty());
            let label = |label: &str| {
                let (key, value) = label.split_once('=')?;
                Some((key.to_owned(), value.trim_matches('"').to_owned()))
            };
            Some((name.to_owned(), labels.filter_map(label).collect(), value.parse().ok()?))
        };
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        Self(lines.map(|text| line(text).unwrap_or_else(|| panic!("{text}"))).collect())
    }

    /// The one value of the series with these labels, whatever others it has.
    fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let found: Vec<_> = self.matching(name, labels).collect();
        assert_eq!(found.len(), 1, "{name} {labels:?}: {found:?}");
        found[0]
    }

    fn matching(&self, name: &str, labels: &[(&str, &str)]) -> impl Iterator<Item = f64> {
        let is = move |(this, its, _): &&(String, BTreeMap<String, String>, f64)| {
            this == name && labels.iter().all(|(key, value)| its.get(*key).is_some_and(|its| its == value))
        };
        self.0.iter().filter(is).map(|(.., value)| *value)
    }
}

/// Waits until the recorder has been told so.
async fn until_told(handle: &PrometheusHandle, name: &str, labels: &[(&str, &str)], expected: f64) {
    let told = || Scrape::of(handle).matching(name, labels).collect::<Vec<_>>() == [expected];
    until(&format!("{name} {labels:?} is {expected}"), told).await;
}

/// The rows of the table in the docs: name as Prometheus has it, kind, labels.
fn documented() -> Vec<(String, String, BTreeSet<String>)> {
    let rows = include_str!("../../docs/metrics.md").lines().filter_map(|line| {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [name, kind @ ("gauge" | "counter" | "histogram"), labels, _] = *cells else { return None };
        let bare = |text: &str| text.trim_matches('`').replace('.', "_");
        let mut name = bare(name);
        match kind {
            "counter" if !name.ends_with("_total") => name += "_total",
            "histogram" if !name.ends_with("_seconds") => name += "_seconds",
            _ => {}
        }
        let labels = labels.split(", ").filter(|label| *label != "none").map(bare).collect();
        Some((name, kind.to_owned(), labels))
    });
    rows.collect()
}

#[tokio::test]
async fn every_documented_metric_is_there_for_every_node_and_nothing_else() {
    let (handle, _recorder) = recorder();
    let cluster = support::cluster(1).await;
    let router = support::router(&cluster).await;
    // Histograms are there once something was measured.
    drop(router.read().await.unwrap());
    drop(router.write().await.unwrap());
    until_told(&handle, "diesel_replicas_serving_replicas", &[], 1.0).await;
    read_once(&router).await;
    until_told(
        &handle,
        "diesel_replicas_handles_total",
        &[("access", "read"), ("node", cluster.replica(0).name())],
        2.0,
    )
    .await;

    let scrape = Scrape::of(&handle);
    let kinds = handle.render();
    let documented = documented();
    assert_eq!(documented.len(), 26);
    for (name, kind, labels) in &documented {
        assert!(kinds.lines().any(|line| line == format!("# TYPE {name} {kind}")), "{name} {kind}\n{kinds}");
        let series = if kind == "histogram" { format!("{name}_count") } else { name.clone() };
        let its = scrape.0.iter().filter(|(this, ..)| *this == series);
        let keys: BTreeSet<BTreeSet<String>> = its.map(|(_, its, _)| its.keys().cloned().collect()).collect();
        assert_eq!(keys, BTreeSet::from([labels.clone()]), "{name}");
        if labels.contains("node") && kind != "histogram" {
            for node in cluster.nodes() {
                assert_ne!(
                    scrape.matching(&series, &[("node", node.name())]).count(),
                    0,
                    "{name} {}",
                    node.name()
                );
            }
        }
        // On a machine that is busy a probe may be late.
        let may_have_grown = ["diesel_replicas_handles_total", "diesel_replicas_probe_failures_total"];
        if *kind == "counter" && !may_have_grown.contains(&&**name) {
            assert!(scrape.matching(&series, &[]).all(|value| value == 0.0), "{name} is idle");
        }
    }
    let names: BTreeSet<_> = documented.iter().map(|(name, ..)| name.as_str()).collect();
    for (name, ..) in &scrape.0 {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
        assert!(names.contains(name.as_str()) || base.is_some_and(|base| names.contains(base)), "{name}");
    }
}

#[tokio::test]
async fn handles_connections_and_times_are_those_of_their_pool() {
    let (handle, _recorder) = recorder();
    let cluster = support::cluster(1).await;
    let (primary, replica) = (cluster.primary().name(), cluster.replica(0).name());
    let router = support::ready(support::builder(&cluster).pool_size(2)).await;
    let read = [("node", replica), ("access", "read")];
    let write = [("node", primary), ("access", "write")];
    let count = "db_client_connection_count";
    let with =
        |pool: [(&'static str, _); 2], state| [pool[0], pool[1], ("db_client_connection_state", state)];

    let held = [router.read().await.unwrap(), router.read().await.unwrap()];
    until_told(&handle, count, &with(read, "used"), 2.0).await;
    until_told(&handle, "diesel_replicas_handles_total", &read, 2.0).await;
    let waits = tokio::spawn({
        let router = router.clone();
        async move { router.read().timeout(support::PATIENCE).await.map(drop) }
    });
    until_told(&handle, "db_client_connection_pending_requests", &read, 1.0).await;
    let timeout = Duration::from_millis(200);
    assert!(router.read().timeout(timeout).await.is_err(), "the pool is exhausted");
    until_told(&handle, "db_client_connection_timeouts_total", &read, 1.0).await;
    drop(held);
    waits.await.unwrap().unwrap();
    until_told(&handle, count, &with(read, "idle"), 2.0).await;
    until_told(&handle, "db_client_connection_pending_requests", &read, 0.0).await;

    write_once(&router).await;
    until_told(&handle, count, &with(write, "idle"), 1.0).await;
    let scrape = Scrape::of(&handle);
    for (name, read_times, write_times) in [
        ("db_client_connection_create_time_seconds_count", 2.0, 1.0),
        ("db_client_connection_wait_time_seconds_count", 3.0, 1.0),
        ("db_client_connection_use_time_seconds_count", 3.0, 1.0),
    ] {
        assert_eq!(scrape.value(name, &read), read_times, "{name}");
        assert_eq!(scrape.value(name, &write), write_times, "{name}");
    }
    let waited = scrape.value("db_client_connection_wait_time_seconds_sum", &read);
    assert!(waited > timeout.as_secs_f64(), "one has waited for longer than the other's timeout: {waited} s");
    assert_eq!(scrape.value("db_client_operation_duration_seconds_count", &write), 1.0);
    assert_eq!(scrape.value("db_client_connection_max", &read), 2.0);
    assert_eq!(scrape.value("db_client_connection_max", &[("node", replica), ("access", "write")]), 0.0);
    assert_eq!(scrape.value("db_client_connection_max", &[("node", primary), ("access", "read")]), 2.0);
}

#[tokio::test]
async fn a_replica_that_dies_is_told_with_its_reason_and_reads_that_fall_back_are_counted() {
    let (handle, _recorder) = recorder();
    let cluster = support::cluster(1).await;
    let router = support::router(&cluster).await;
    let (primary, replica) = (cluster.primary().name(), cluster.replica(0).name());
    let lag = "diesel_replicas_lag_seconds";
    until_told(&handle, "diesel_replicas_health", &[("node", replica), ("health", "healthy")], 1.0).await;
    let healthy = Scrape::of(&handle);
    assert!((0.0..1.0).contains(&healthy.value(lag, &[("node", replica)])));
    assert_eq!(healthy.value(lag, &[("node", primary)]), 0.0);
    assert_eq!(
        healthy.value("diesel_replicas_health_reason", &[("node", replica), ("reason", "fresh")]),
        1.0
    );

    let used = router.read().await.unwrap();
    cluster.replica(0).kill().await.unwrap();
    until_health(&router, replica, HealthState::Unreachable).await;
    drop(used);
    until_told(&handle, "diesel_replicas_health_reason", &[("node", replica), ("reason", "failed")], 1.0)
        .await;
    read_once(&router).await;
    until_told(&handle, "diesel_replicas_fallbacks_total", &[("node", primary)], 1.0).await;
    let dead = Scrape::of(&handle);
    assert!(dead.value(lag, &[("node", replica)]).is_nan(), "unknown is not zero");
    for (name, labels, expected) in [
        ("diesel_replicas_health", [("node", replica), ("health", "healthy")].as_slice(), 0.0),
        ("diesel_replicas_health", &[("node", replica), ("health", "unreachable")], 1.0),
        ("diesel_replicas_serves_reads", &[("node", replica)], 0.0),
        ("diesel_replicas_serving_replicas", &[], 0.0),
        ("diesel_replicas_has_primary", &[], 1.0),
    ] {
        assert_eq!(dead.value(name, labels), expected, "{name} {labels:?}");
    }
    assert!(
        dead.value("diesel_replicas_probe_failures_total", &[("node", replica), ("kind", "failed")]) > 0.0
    );

    router.remove_replica(replica).await.unwrap();
    let gone = Scrape::of(&handle);
    assert!(gone.matching("diesel_replicas_health", &[("node", replica)]).all(|value| value == 0.0));
    assert!(gone.matching("diesel_replicas_role", &[("node", replica)]).all(|value| value == 0.0));
    assert!(gone.value(lag, &[("node", replica)]).is_nan());
}

#[tokio::test]
async fn a_promotion_beside_a_living_primary_is_a_split_brain_and_a_change_of_role() {
    let (handle, _recorder) = recorder();
    let cluster = support::cluster(1).await;
    let router = support::router(&cluster).await;
    let (primary, replica) = (cluster.primary().name(), cluster.replica(0).name());
    until_told(&handle, "diesel_replicas_serves_writes", &[("node", primary)], 1.0).await;
    assert_eq!(Scrape::of(&handle).value("diesel_replicas_split_brain", &[]), 0.0);
    cluster.replica(0).promote().await.unwrap();
    until_told(&handle, "diesel_replicas_split_brain", &[], 1.0).await;
    until_told(&handle, "diesel_replicas_serves_writes", &[("node", replica)], 1.0).await;
    let split = Scrape::of(&handle);
    assert_eq!(split.value("diesel_replicas_serves_writes", &[("node", primary)]), 0.0);
    assert_eq!(
        split.value("diesel_replicas_health_reason", &[("node", primary), ("reason", "deposed")]),
        1.0
    );
    assert_eq!(split.value("diesel_replicas_role_changes_total", &[("node", replica)]), 1.0);
    assert_eq!(split.value("db_client_connection_max", &[("node", primary), ("access", "write")]), 0.0);
    cluster.primary().kill().await.unwrap();
    until_told(&handle, "diesel_replicas_split_brain", &[], 0.0).await;

    router.shutdown().await;
    assert!(Scrape::of(&handle).value("diesel_replicas_has_primary", &[]).is_nan());
    assert_eq!(Scrape::of(&handle).value("diesel_replicas_serves_writes", &[("node", replica)]), 0.0);
}

#[tokio::test]
async fn a_recorder_that_is_installed_later_is_told_from_the_next_round_on() {
    let cluster = support::cluster(1).await;
    let router = support::router(&cluster).await;
    read_once(&router).await;
    let (handle, _recorder) = recorder();
    until_told(&handle, "diesel_replicas_serving_replicas", &[], 1.0).await;
    read_once(&router).await;
    let read = [("node", cluster.replica(0).name()), ("access", "read")];
    assert_eq!(Scrape::of(&handle).value("db_client_connection_use_time_seconds_count", &read), 1.0);
    assert!(handle.render().contains("# HELP diesel_replicas_lag_seconds How far"));
}

#[tokio::test]
async fn a_node_that_takes_the_place_of_another_under_its_name_is_told_in_its_stead() {
    let (handle, _recorder) = recorder();
    let cluster = support::cluster(2).await;
    let [primary, first, second] = [cluster.primary(), cluster.replica(0), cluster.replica(1)];
    let builder = |url: String| {
        let primary = NodeConfig::new(primary.url()).name("a");
        Router::builder().primary(primary).replica(NodeConfig::new(url).name("b"))
    };
    let router = support::ready(builder(first.url())).await;
    let healthy = [("node", "b"), ("health", "healthy")];
    until_told(&handle, "diesel_replicas_health", &healthy, 1.0).await;

    let held = router.read().await.unwrap();
    router.reload(builder(second.url()).config().unwrap()).await.unwrap();
    until("the new one serves beside the old one", || {
        let nodes = router.status().nodes;
        nodes.len() == 3 && nodes.iter().filter(|node| node.serves_reads).count() == 1
    })
    .await;
    read_once(&router).await;
    let read = [("node", "b"), ("access", "read")];
    until_told(&handle, "diesel_replicas_handles_total", &read, 2.0).await;
    assert_eq!(Scrape::of(&handle).value("diesel_replicas_health", &healthy), 1.0);
    // That of the old one is used.
    let idle = [read[0], read[1], ("db_client_connection_state", "idle")];
    until_told(&handle, "db_client_connection_count", &idle, 1.0).await;

    drop(held);
    until("the old one is gone", || router.status().nodes.len() == 2).await;
    assert_eq!(Scrape::of(&handle).value("diesel_replicas_health", &healthy), 1.0, "the new one stays");
}

#[tokio::test]
async fn the_one_pool_of_a_router_without_replicas_is_that_for_writes() {
    let (handle, _recorder) = recorder();
    let cluster = support::cluster(0).await;
    let router = support::ready(support::builder(&cluster).read_replicas_enabled(false)).await;
    let name = cluster.primary().name();
    read_once(&router).await;
    write_once(&router).await;
    let [read, write] = ["read", "write"].map(|access| [("node", name), ("access", access)]);
    until_told(&handle, "diesel_replicas_handles_total", &write, 1.0).await;
    let scrape = Scrape::of(&handle);
    assert_eq!(scrape.value("diesel_replicas_handles_total", &read), 1.0);
    assert_eq!(scrape.value("diesel_replicas_fallbacks_total", &[]), 0.0);
    assert_eq!(scrape.value("db_client_connection_max", &write), 10.0);
    assert_eq!(scrape.value("db_client_connection_max", &read), 0.0);
    for name in
        ["db_client_connection_wait_time", "db_client_connection_use_time", "db_client_operation_duration"]
    {
        let count = format!("{name}_seconds_count");
        assert_eq!(scrape.value(&count, &write), 2.0, "{name}");
        assert_eq!(scrape.matching(&count, &read).sum::<f64>(), 0.0, "{name}");
    }
}

#[tokio::test]
async fn a_call_that_is_lost_is_counted_with_the_retry_and_the_ejection_that_follow() {
    let (handle, _recorder) = recorder();
    let cluster = support::cluster(2).await;
    let ejection = Ejection::default().consecutive_failures(1);
    let router = support::ready(support::builder(&cluster).ejection(ejection)).await;
    // What a round has not seen before says nothing of how the node does now.
    until_told(&handle, "diesel_replicas_serving_replicas", &[], 2.0).await;
    let lost = OnceLock::new();

    let read = router.with_read(async |conn| {
        let node = conn.node().to_owned();
        if *lost.get_or_init(|| node.clone()) == node {
            diesel::select(pg_sleep(60.0)).execute(conn).await?;
        }
        QueryResult::Ok(node)
    });
    let end = "SELECT count(pg_terminate_backend(pid))::text FROM pg_stat_activity \
               WHERE query LIKE '%pg_sleep%' AND pid <> pg_backend_pid()";
    let ends = until_async("the call is ended", async || {
        let Some(name) = lost.get() else { return false };
        let node = cluster.replicas().iter().find(|node| node.name() == name).unwrap();
        node.sql(end).await.unwrap().as_deref() == Some("1")
    });
    let (served, ()) = tokio::join!(read, ends);
    let (served, lost) = (served.unwrap(), lost.get().unwrap());
    assert_ne!(served, *lost);

    let counts = |node| {
        let node = ("node", node);
        [
            ("diesel_replicas_failures_total", vec![node, ("kind", "lost")]),
            ("diesel_replicas_retries_total", vec![node]),
            ("diesel_replicas_ejections_total", vec![node]),
        ]
    };
    for (name, labels) in counts(lost) {
        until_told(&handle, name, &labels, 1.0).await;
    }
    for (name, labels) in counts(&served) {
        assert_eq!(Scrape::of(&handle).value(name, &labels), 0.0, "{name}");
    }
}

#[tokio::test]
async fn an_attempt_to_connect_that_is_refused_is_a_failure_of_its_kind() {
    let (handle, _recorder) = recorder();
    let cluster = support::cluster(1).await;
    let [primary, replica] = [cluster.primary(), cluster.replica(0)];
    primary.sql("CREATE ROLE app LOGIN; GRANT SELECT ON notes TO app").await.unwrap();
    let as_app = |node: &Node| NodeConfig::new(node.url().replace("postgres@", "app@")).name(node.name());
    let builder = Router::builder().primary(as_app(primary)).replica(as_app(replica));
    let router = support::ready(builder).await;
    // The connections that are open stay so: the monitor goes on.
    primary.sql("ALTER ROLE app NOLOGIN").await.unwrap();
    let written = primary.position().await.unwrap().lsn;
    cluster.wait_replayed(replica, written).await.unwrap();
    assert!(router.read().await.is_err());
    for node in [primary, replica] {
        let connect = [("node", node.name()), ("kind", "connect")];
        until_told(&handle, "diesel_replicas_failures_total", &connect, 1.0).await;
    }
}

#[tokio::test]
async fn a_query_that_is_cancelled_for_what_is_replayed_is_a_conflict_and_no_loss() {
    let (handle, _recorder) = recorder();
    let builder = Cluster::builder().replicas(1).setting("max_standby_streaming_delay", "0");
    let cluster = support::with_notes(builder).await;
    let router = support::router(&cluster).await;
    let [primary, replica] = [cluster.primary(), cluster.replica(0)];
    let read = router.with_read(async |conn| {
        if conn.node() == replica.name() {
            notes::table.select(pg_sleep(60.0)).execute(conn).await?;
        }
        QueryResult::Ok(conn.node().to_owned())
    });
    let conflict = async {
        let asked = "SELECT count(*)::text FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
        until_async("it sleeps", async || replica.sql(asked).await.unwrap().as_deref() == Some("1")).await;
        primary.sql("ALTER TABLE notes ADD COLUMN more int").await.unwrap();
    };
    let (served, ()) = tokio::join!(read, conflict);
    assert_eq!(served.unwrap(), primary.name());
    let failures = |kind| [("node", replica.name()), ("kind", kind)];
    until_told(&handle, "diesel_replicas_failures_total", &failures("recovery_conflict"), 1.0).await;
    until_told(&handle, "diesel_replicas_retries_total", &[("node", replica.name())], 1.0).await;
    assert_eq!(Scrape::of(&handle).value("diesel_replicas_failures_total", &failures("lost")), 0.0);
}
