//! Nodes that go away, and come back, under the service.

use std::cell::Cell;
use std::time::{Duration, Instant};

use pg_cluster::{Cluster, Node};
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
    service.create_room("general").await;
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
#[derive(Debug, Default, Clone, Copy)]
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

/// Clients at work: what each of them saw so far.
#[derive(Default)]
struct Load {
    readers: [Cell<Seen>; 4],
    writer: Cell<Seen>,
    is_over: Cell<bool>,
}

impl Load {
    /// Waits until each client has been answered once more, to something that it asked after this was called.
    async fn until_answered(&self) {
        let requests = || self.clients().map(|seen| seen.get().requests).collect::<Vec<_>>();
        let before = requests();
        // What is under way now may have been asked before.
        let answered = || requests().iter().zip(&before).all(|(now, before)| *now >= before + 2);
        until("each client is answered", async || answered()).await;
    }

    fn clients(&self) -> impl Iterator<Item = &Cell<Seen>> {
        self.readers.iter().chain([&self.writer])
    }
}

/// Four clients that read and one that writes while `fault` happens: what those who read saw, and the one who wrote. Every
/// request is answered, with what it asks for or with "unavailable".
async fn under_load(service: &Service, room: i64, user: i64, fault: impl AsyncFnOnce(&Load)) -> (Seen, Seen) {
    let load = Load::default();
    let path = format!("/api/rooms/{room}/messages");
    let client = async |seen: &Cell<Seen>, writes: bool| {
        while !load.is_over.get() {
            let started = Instant::now();
            let answer = if writes {
                service.post(&path, json!({ "author_id": user, "body": "load" })).await
            } else {
                service.get(&path).await
            };
            let unavailable = match answer.status.as_u16() {
                200 | 201 => 0,
                503 => {
                    assert_unavailable(&answer);
                    1
                }
                other => panic!("{other}: {}", answer.text),
            };
            seen.set(seen.get().and(Seen { requests: 1, unavailable, longest: started.elapsed() }));
        }
    };
    let fault = async {
        fault(&load).await;
        load.is_over.set(true);
    };
    let [one, two, three, four] = &load.readers;
    tokio::join!(
        client(one, false),
        client(two, false),
        client(three, false),
        client(four, false),
        client(&load.writer, true),
        fault
    );
    let reads = load.readers.iter().map(Cell::get).fold(Seen::default(), Seen::and);
    (reads, load.writer.get())
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_are_killed_frozen_or_paused_cost_no_read() {
    let cluster = Cluster::builder().replicas(2).start().await.expect("a cluster");
    let service = Service::on(&cluster).await;
    let (ada, room) = (service.create_user("Ada").await, service.create_room("general").await);
    service.replicated(&cluster).await;
    let replica = cluster.replica(0);
    let name = name_of(replica);
    for fault in ["kill", "freeze", "pause"] {
        let (reads, writes) = under_load(&service, room, ada, async |load| {
            let until_healthy = async |wanted: bool| {
                let is_healthy = async || service.node(&name).await["health"] == "healthy";
                until(&format!("it is healthy: {wanted}"), async || is_healthy().await == wanted).await;
            };
            load.until_answered().await;
            match fault {
                "kill" => replica.kill().await,
                "freeze" => replica.freeze().await,
                _ => replica.pause_replay().await,
            }
            .expect("the replica fails");
            until_healthy(false).await;
            load.until_answered().await;
            match fault {
                "kill" => replica.start().await,
                "freeze" => replica.thaw().await,
                _ => replica.resume_replay().await,
            }
            .expect("the replica is back");
            until_healthy(true).await;
        })
        .await;
        println!("{fault}: reads {reads:?}, writes {writes:?}");
        assert_eq!((reads.unavailable, writes.unavailable), (0, 0), "{fault}");
        assert!(reads.longest < Duration::from_secs(2), "{fault}: {reads:?}");
        assert!(writes.longest < Duration::from_secs(2), "{fault}: {writes:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_is_lost_with_its_replica_is_answered_by_another_one() {
    let cluster = Cluster::builder().replicas(2).start().await.expect("a cluster");
    let mut command = command_on(&cluster);
    // Neither lag nor an earlier fault is to change whose turn it is.
    command.env("DB_REPLICA_LAG_THRESHOLD_MS", "60000").env("DB_SLOW_START_MS", "0");
    let service = Service::start(command).await;
    service.ready().await;
    service.create_room("general").await;
    service.replicated(&cluster).await;
    let (lost, other) = (cluster.replica(0), cluster.replica(1));

    for fault in ["kill", "stop_fast", "freeze"] {
        // What is locked on the primary is locked on the replica that replays it, and not on the one that does not.
        other.pause_replay().await.expect("replay pauses");
        let lock = lock_rooms(cluster.primary()).await;
        let locked = "SELECT EXISTS (SELECT FROM pg_locks WHERE relation = 'rooms'::regclass AND mode = 'AccessExclusiveLock')";
        until("the replica has the lock", async || {
            lost.sql(locked).await.expect("it answers").as_deref() == Some("t")
        })
        .await;

        let read = async || service.get("/api/rooms").await;
        let strike = async {
            let in_flight = async || service.node(&name_of(lost)).await["in_flight"] == 1;
            until("a read hangs on the replica", in_flight).await;
            match fault {
                "kill" => lost.kill().await,
                "stop_fast" => lost.stop_fast().await,
                _ => lost.freeze().await,
            }
            .expect("the replica is lost");
        };
        // In turn: one of two goes to the replica.
        let (one, two, ()) = tokio::join!(read(), read(), strike);
        for answer in [one, two] {
            assert_eq!(answer.expect(200)[0]["name"], "general", "{fault}");
            assert_eq!(answer.served_by(), name_of(other), "{fault}");
        }

        let serves = async |wanted: bool| service.node(&name_of(lost)).await["serves_reads"] == wanted;
        until("it is out", async || serves(false).await).await;
        match fault {
            "freeze" => lost.thaw().await,
            _ => lost.start().await,
        }
        .expect("the replica is back");
        lock.batch_execute("COMMIT").await.expect("the lock is given back");
        other.resume_replay().await.expect("replay resumes");
        service.replicated(&cluster).await;
        until("it serves again", async || serves(true).await).await;
    }
}

/// Nobody can read the rooms on this primary for as long as the client lives.
async fn lock_rooms(primary: &Node) -> tokio_postgres::Client {
    let (client, connection) =
        tokio_postgres::connect(&primary.url(), tokio_postgres::NoTls).await.expect("the primary answers");
    tokio::spawn(connection);
    client.batch_execute("BEGIN; LOCK TABLE rooms").await.expect("the lock is free");
    // The replicas hear of the lock with the next commit.
    primary.sql("SELECT pg_logical_emit_message(true, 'chat', '')").await.expect("a commit");
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_follow_a_promotion_and_no_read_fails() {
    let cluster = Cluster::builder().replicas(2).start().await.expect("a cluster");
    let service = Service::on(&cluster).await;
    let (ada, room) = (service.create_user("Ada").await, service.create_room("general").await);
    service.replicated(&cluster).await;
    let [old, promoted, other] = cluster.nodes() else { panic!("three nodes") };
    let post = async || service.post("/api/rooms", json!({ "name": "a room" })).await;

    let promotion = async |load: &Load| {
        load.until_answered().await;
        old.kill().await.expect("the primary dies");
        until("nobody takes writes", async || !service.status().await["no_primary"].is_null()).await;
        let answer = post().await;
        assert_unavailable(&answer);
        assert_eq!(answer.json()["error"], "no primary takes writes right now");
        assert_eq!(answer.header("x-served-by"), None, "nobody was asked");
        until("the client that writes is told", async || load.writer.get().unavailable > 0).await;

        promoted.promote().await.expect("the replica is promoted");
        let started = Instant::now();
        until("writes work again", async || post().await.status != 503).await;
        println!("writes work {:?} after the promotion", started.elapsed());
        assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
        other.follow(promoted).await.expect("the other replica follows");
        until_serves(&service, other, 2).await;
        load.until_answered().await;
    };
    let (reads, writes) = under_load(&service, room, ada, promotion).await;
    println!("promotion: reads {reads:?}, writes {writes:?}");
    assert_eq!(reads.unavailable, 0, "{reads:?}");
    assert!(reads.longest < Duration::from_secs(2), "{reads:?}");

    assert_eq!(post().await.served_by(), name_of(promoted));
    let status = service.status().await;
    assert!(status["no_primary"].is_null(), "{status}");
    let node = service.node(&name_of(promoted)).await;
    assert_eq!((&node["role"], &node["timeline"]), (&json!("primary"), &json!(2)), "{node}");
    assert_eq!((&node["serves_writes"], &node["serves_reads"]), (&json!(true), &json!(false)), "{node}");
    let node = service.node(&name_of(old)).await;
    assert_eq!((&node["health"], &node["serves_writes"]), (&json!("unreachable"), &json!(false)), "{node}");

    old.follow(promoted).await.expect("the old primary follows");
    until_serves(&service, old, 2).await;
}

/// Waits until a node is a replica on this timeline that serves reads.
async fn until_serves(service: &Service, node: &Node, timeline: u32) {
    let name = name_of(node);
    until(&format!("{name} serves reads"), async || {
        let node = service.node(&name).await;
        node["role"] == "replica" && node["serves_reads"] == true && node["timeline"] == timeline
    })
    .await;
}
