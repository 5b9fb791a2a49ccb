//! Nodes that go away, and come back, under the service.

use std::time::{Duration, Instant};

use pg_cluster::Cluster;
use serde_json::json;

use crate::http::Answer;
use crate::service::{Service, command_on, name_of};
use crate::until;

/// No node can serve: says so, and when to try again.
fn assert_unavailable(answer: &Answer) {
    answer.expect(503);
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert!(answer.json()["error"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn it_waits_for_a_database_that_is_not_there_yet() {
    let cluster = Cluster::builder().replicas(1).start().await.expect("a cluster");
    for node in cluster.nodes() {
        node.stop_immediate().await.expect("the node stops");
    }
    let service = Service::start(command_on(&cluster)).await;
    assert_eq!(service.get("/healthz").await.expect(200)["ready"], false);
    assert_unavailable(&service.get("/api/rooms").await);
    assert_unavailable(&service.post("/api/rooms", json!({ "name": "early" })).await);
    assert_eq!(service.get("/").await.status, 200);
    until("it says that it waits", async || service.output().contains("cannot migrate the database yet"))
        .await;

    for node in cluster.nodes() {
        node.start().await.expect("the node starts");
    }
    service.ready().await;
    service.create_room("early").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn those_that_start_at_once_do_not_migrate_at_once() {
    let cluster = Cluster::builder().start().await.expect("a cluster");
    let on = || Service::on(&cluster);
    let (one, two, three, four) = tokio::join!(on(), on(), on(), on());
    let room = one.create_room("general").await;
    for service in [one, two, three, four] {
        assert_eq!(service.get("/api/rooms").await.expect(200)[0]["id"], room);
        assert!(!service.output().contains("cannot migrate"), "{}", service.output());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_primary_reads_go_on_and_writes_are_unavailable() {
    let cluster = Cluster::builder().replicas(2).start().await.expect("a cluster");
    let service = Service::on(&cluster).await;
    service.create_room("general").await;
    service.replicated(&cluster).await;

    cluster.primary().kill().await.expect("the primary dies");
    let rooms = service.get("/api/rooms").await.expect(200);
    assert_eq!(rooms[0]["name"], "general");
    assert_unavailable(&service.post("/api/rooms", json!({ "name": "lost" })).await);
    assert_eq!(service.get("/healthz").await.status, 200);

    cluster.primary().start().await.expect("the primary starts");
    until("writes work again", async || {
        service.post("/api/rooms", json!({ "name": "back" })).await.status == 201
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_node_everything_is_unavailable_but_the_process_lives() {
    let cluster = Cluster::builder().replicas(2).start().await.expect("a cluster");
    let service = Service::on(&cluster).await;
    for node in cluster.nodes() {
        node.kill().await.expect("the node dies");
    }
    assert_unavailable(&service.get("/api/rooms").await);
    assert_unavailable(&service.post("/api/rooms", json!({ "name": "lost" })).await);
    service.get("/healthz").await.expect(200);
    until("no node is healthy", async || {
        service.nodes().await.iter().all(|node| node["health"] != "healthy")
    })
    .await;
    for node in service.nodes().await {
        assert!(node["reason"].is_string(), "{node}");
    }

    for node in cluster.nodes() {
        node.start().await.expect("the node starts");
    }
    service.ready().await;
    service.create_room("back").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_primary_hangs_no_request_for_ever() {
    let cluster = Cluster::builder().replicas(1).start().await.expect("a cluster");
    let service = Service::on(&cluster).await;
    cluster.primary().freeze().await.expect("the primary freezes");
    let started = Instant::now();
    let answer = service.post("/api/rooms", json!({ "name": "hangs" })).await;
    assert_unavailable(&answer);
    assert!(started.elapsed() < Duration::from_secs(12), "{:?}", started.elapsed());
    assert_eq!(answer.served_by(), name_of(cluster.primary()), "it was asked, and did not answer");
    service.get("/api/rooms").await.expect(200);

    cluster.primary().thaw().await.expect("the primary thaws");
    until("writes work again", async || {
        service.post("/api/rooms", json!({ "name": "back" })).await.status == 201
    })
    .await;
}

/// What clients saw.
#[derive(Debug, Default)]
struct Seen {
    requests: usize,
    unavailable: usize,
    longest: Duration,
}

impl Seen {
    fn and(self, other: Self) -> Self {
        Self {
            requests: self.requests + other.requests,
            unavailable: self.unavailable + other.unavailable,
            longest: self.longest.max(other.longest),
        }
    }
}

/// Four clients that read and one that writes while `fault` happens: what those who read saw, and the one who wrote. Every
/// request is answered, with what it asks for or with "unavailable".
async fn under_load(
    service: &Service,
    room: i64,
    user: i64,
    fault: impl Future<Output = ()>,
) -> (Seen, Seen) {
    let over = tokio::sync::watch::channel(false).0;
    let client = async |writes: bool| {
        let path = format!("/api/rooms/{room}/messages");
        let mut seen = Seen::default();
        while !*over.borrow() {
            let started = Instant::now();
            let answer = if writes {
                service.post(&path, json!({ "author_id": user, "body": "load" })).await
            } else {
                service.get(&path).await
            };
            seen.longest = seen.longest.max(started.elapsed());
            seen.requests += 1;
            match answer.status.as_u16() {
                200 | 201 => {}
                503 => {
                    assert_unavailable(&answer);
                    seen.unavailable += 1;
                }
                other => panic!("{other}: {}", answer.text),
            }
        }
        seen
    };
    let fault = async {
        fault.await;
        over.send_replace(true);
    };
    let (one, two, three, four, writer, ()) =
        tokio::join!(client(false), client(false), client(false), client(false), client(true), fault);
    (one.and(two).and(three).and(four), writer)
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_are_killed_frozen_or_paused_cost_no_more_than_the_reads_they_held() {
    let cluster = Cluster::builder().replicas(2).start().await.expect("a cluster");
    let service = Service::on(&cluster).await;
    let (ada, room) = (service.create_user("Ada").await, service.create_room("general").await);
    service.replicated(&cluster).await;
    let replica = cluster.replica(0);
    let name = name_of(replica);
    let until_healthy = async |wanted: bool| {
        until(&format!("that it is healthy is {wanted}"), async || {
            (service.node(&name).await["health"] == "healthy") == wanted
        })
        .await;
    };

    let killed = async {
        replica.kill().await.expect("the replica dies");
        until_healthy(false).await;
        replica.start().await.expect("the replica starts");
        until_healthy(true).await;
    };
    let (reads, writes) = under_load(&service, room, ada, killed).await;
    println!("killed: reads {reads:?}, writes {writes:?}");
    assert!(reads.unavailable <= 4, "one read of each client at most: {reads:?}");
    assert_eq!(writes.unavailable, 0, "the primary was there all the time");
    assert!(writes.longest < Duration::from_secs(2), "{writes:?}");

    let frozen = async {
        replica.freeze().await.expect("the replica freezes");
        until_healthy(false).await;
        replica.thaw().await.expect("the replica thaws");
        until_healthy(true).await;
    };
    let (reads, writes) = under_load(&service, room, ada, frozen).await;
    println!("frozen: reads {reads:?}, writes {writes:?}");
    assert!(reads.unavailable <= 4, "one read of each client at most: {reads:?}");
    assert_eq!(writes.unavailable, 0, "the primary was there all the time");
    assert!(reads.longest < Duration::from_secs(12), "{reads:?}");

    let paused = async {
        replica.pause_replay().await.expect("replay pauses");
        until_healthy(false).await;
        replica.resume_replay().await.expect("replay resumes");
        until_healthy(true).await;
    };
    let (reads, writes) = under_load(&service, room, ada, paused).await;
    println!("paused: reads {reads:?}, writes {writes:?}");
    assert_eq!((reads.unavailable, writes.unavailable), (0, 0), "a laggard answers all the same");
}
