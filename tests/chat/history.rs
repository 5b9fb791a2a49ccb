//! What the service remembers of the last minutes.

use std::time::{Duration, Instant};

use diesel_replicas::HealthState;
use pg_cluster::Cluster;
use serde_json::Value;

use crate::ring::{Look, Point, Ring};
use crate::service::{Service, name_of};
use crate::until;

/// What a list of a node in `/api/history` has, the oldest first.
async fn list(service: &Service, node: &str, field: &str) -> Vec<Value> {
    let past = service.get("/api/history").await.expect(200);
    let nodes = past["nodes"].as_array().expect("a list of nodes");
    let node = nodes.iter().find(|of| of["name"] == node).expect("a node of this name");
    node[field].as_array().expect("a list").clone()
}

async fn latest(service: &Service, node: &str, field: &str) -> Value {
    list(service, node, field).await.pop().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_tells_lag_and_health_second_by_second() {
    let cluster = Cluster::builder().replicas(2).start().await.expect("a cluster");
    let service = Service::on(&cluster).await;
    let (ada, room) = (service.create_user("Ada").await, service.create_room("general").await);
    let [primary, laggard, other] = [0, 1, 2].map(|index| name_of(&cluster.nodes()[index]));
    until("all were seen to be healthy", async || {
        latest(&service, &laggard, "health").await == "healthy"
            && latest(&service, &other, "health").await == "healthy"
    })
    .await;

    cluster.replica(0).pause_replay().await.expect("replay pauses");
    service.say(room, ada, "a message that the replica lacks").await;
    let lag = async |node: &str| latest(&service, node, "lag_ms").await.as_u64();
    until("its lag passes the threshold", async || lag(&laggard).await > Some(1000)).await;
    until("it is out", async || latest(&service, &laggard, "health").await == "lagging").await;
    assert!(lag(&other).await.is_some_and(|ms| ms < 1000), "{:?}", lag(&other).await);
    let lags = list(&service, &laggard, "lag_ms").await;
    assert!(lags.iter().any(|ms| ms.as_u64() < Some(1000)), "it was less before: {lags:?}");

    cluster.replica(0).resume_replay().await.expect("replay resumes");
    until("its lag is small again", async || lag(&laggard).await.is_some_and(|ms| ms < 1000)).await;
    cluster.replica(0).kill().await.expect("the replica dies");
    until("it is gone", async || latest(&service, &laggard, "health").await == "unreachable").await;
    assert_eq!(lag(&laggard).await, None, "what is unknown is not zero");
    let lags = list(&service, &primary, "lag_ms").await;
    assert!(lags.iter().all(Value::is_null), "a primary is not behind: {lags:?}");

    let past = service.get("/api/history").await.expect(200);
    let ages: Vec<_> = past["ages_ms"].as_array().expect("a list").iter().filter_map(Value::as_u64).collect();
    assert!(ages.is_sorted_by(|older, newer| older > newer), "{ages:?}");
    for node in past["nodes"].as_array().expect("a list") {
        for field in ["lag_ms", "reads", "health"] {
            assert_eq!(node[field].as_array().map(Vec::len), Some(ages.len()), "{field} of {node}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_counts_each_read_once() {
    let cluster = Cluster::builder().replicas(2).start().await.expect("a cluster");
    let service = Service::on(&cluster).await;
    let replicas: Vec<_> = cluster.replicas().iter().map(name_of).collect();
    until("all were seen", async || {
        let past = service.get("/api/history").await.expect(200);
        past["nodes"].as_array().is_some_and(|nodes| nodes.len() == 3)
    })
    .await;

    service.replicated(&cluster).await;
    let told = async |node: &str| -> u64 {
        list(&service, node, "reads").await.iter().filter_map(Value::as_u64).sum()
    };
    let before = [told(&replicas[0]).await, told(&replicas[1]).await];
    for _ in 0..20 {
        service.get("/api/rooms").await.expect(200);
    }
    until("they are told", async || {
        told(&replicas[0]).await + told(&replicas[1]).await >= before[0] + before[1] + 20
    })
    .await;
    for (replica, before) in replicas.iter().zip(before) {
        assert_eq!(told(replica).await - before, 10, "{replica} served every other one");
    }
}

fn look(name: &str, reads: u64) -> Look {
    Look { name: name.to_owned(), lag: Some(Duration::from_millis(3)), reads, health: HealthState::Healthy }
}

fn reads(ring: &Ring, name: &str) -> Vec<Option<u64>> {
    let track = ring.tracks().iter().find(|track| track.name == name).expect("a node of this name");
    track.points.iter().map(|point| point.map(|Point { reads, .. }| reads)).collect()
}

fn names(ring: &Ring) -> Vec<&str> {
    ring.tracks().iter().map(|track| track.name.as_str()).collect()
}

#[test]
fn a_ring_keeps_the_latest_looks() {
    let (mut ring, start) = (Ring::new(3, 9), Instant::now());
    let at = |second| start + Duration::from_secs(second);
    for second in 0..5 {
        ring.push(at(second), [look("a", 10 * second * second)]);
    }
    assert_eq!(ring.times().collect::<Vec<_>>(), [at(2), at(3), at(4)]);
    assert_eq!(reads(&ring, "a"), [Some(30), Some(50), Some(70)]);
}

#[test]
fn nodes_that_come_and_go_leave_gaps_and_then_nothing() {
    let (mut ring, now) = (Ring::new(4, 9), Instant::now());
    ring.push(now, [look("a", 7), look("b", 0)]);
    ring.push(now, [look("a", 9)]);
    ring.push(now, [look("a", 9), look("b", 5), look("c", 100)]);
    assert_eq!(reads(&ring, "a"), [Some(0), Some(2), Some(0)]);
    assert_eq!(reads(&ring, "b"), [Some(0), None, Some(5)]);
    assert_eq!(reads(&ring, "c"), [None, None, Some(0)], "of when the others are is not known");

    // Added again, it counts anew.
    ring.push(now, [look("b", 2)]);
    assert_eq!(reads(&ring, "b"), [Some(0), None, Some(5), Some(2)]);
    for _ in 0..2 {
        ring.push(now, [look("b", 2)]);
    }
    assert_eq!(names(&ring), ["a", "b", "c"]);
    ring.push(now, [look("b", 2)]);
    assert_eq!(names(&ring), ["b"]);
}

#[test]
fn a_ring_has_room_for_so_many_nodes() {
    let (mut ring, now) = (Ring::new(2, 2), Instant::now());
    ring.push(now, ["a", "b", "c"].map(|name| look(name, 0)));
    assert_eq!(names(&ring), ["a", "b"]);
    ring.push(now, ["b", "c"].map(|name| look(name, 0)));
    ring.push(now, ["b", "c"].map(|name| look(name, 0)));
    assert_eq!(names(&ring), ["b", "c"], "there is room once another one is forgotten");
}
