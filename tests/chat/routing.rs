//! Who serves what, as `x-served-by` and `/api/status` tell.

use std::collections::BTreeSet;

use pg_cluster::Cluster;
use serde_json::{Value, json};

use crate::service::{Service, command, command_on, name_of};
use crate::until;

#[tokio::test(flavor = "multi_thread")]
async fn replicas_serve_the_reads_and_the_primary_the_writes() {
    let cluster = Cluster::builder().replicas(2).start().await.expect("a cluster");
    let service = Service::on(&cluster).await;
    let primary = name_of(cluster.primary());
    let replicas: BTreeSet<String> = cluster.replicas().iter().map(name_of).collect();

    let user = service.post("/api/users", json!({ "name": "Ada" })).await;
    let room = service.post("/api/rooms", json!({ "name": "general" })).await;
    assert_eq!(user.served_by(), primary);
    assert_eq!(room.served_by(), primary);
    let (user, room) = (user.expect(201)["id"].clone(), room.expect(201)["id"].clone());
    let messages = format!("/api/rooms/{room}/messages");
    let message = service.post(&messages, json!({ "author_id": user, "body": "hello" })).await;
    assert_eq!(message.served_by(), primary);
    let marker = json!({ "user_id": user, "message_id": message.expect(201)["id"] });
    assert_eq!(service.put(&format!("/api/rooms/{room}/read"), marker).await.served_by(), primary);
    // An error that the database gave is an answer of the database.
    let taken = service.post("/api/users", json!({ "name": "Ada" })).await;
    taken.expect(409);
    assert_eq!(taken.served_by(), primary);
    service.replicated(&cluster).await;

    let reads = ["/api/users", "/api/rooms", &messages, &format!("/api/rooms/{room}/search?q=hello")];
    for path in reads {
        let mut served = BTreeSet::new();
        for _ in 0..6 {
            let answer = service.get(path).await;
            answer.expect(200);
            served.insert(answer.served_by().to_owned());
        }
        assert_eq!(served, replicas, "{path}");
    }
    let missing = service.get("/api/rooms/999/messages").await;
    missing.expect(404);
    assert!(replicas.contains(missing.served_by()));

    for path in ["/", "/healthz", "/api/status"] {
        assert_eq!(service.get(path).await.header("x-served-by"), None, "{path} asks no node");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn status_tells_of_every_node() {
    let cluster = Cluster::builder().replicas(2).start().await.expect("a cluster");
    let service = Service::on(&cluster).await;
    let status = service.status().await;
    assert!(status["no_primary"].is_null(), "{status}");
    let before = service.nodes().await;
    let names: Vec<_> = before.iter().map(|node| node["name"].as_str().expect("a name")).collect();
    assert_eq!(names, cluster.nodes().iter().map(name_of).collect::<Vec<_>>());
    let roles: Vec<_> = before.iter().map(|node| node["role"].as_str().expect("a role")).collect();
    assert_eq!(roles, ["primary", "replica", "replica"]);
    let version = cluster.primary().sql("SELECT split_part(current_setting('server_version'), ' ', 1)").await;
    let version = version.expect("the server answers").expect("a version");
    for node in &before {
        let keys: BTreeSet<_> = node.as_object().expect("an object").keys().map(String::as_str).collect();
        let wanted = "name role health reason serves_reads serves_writes spare lag_ms lag_bytes timeline version \
                      replay_paused receiver limitations weight zone in_flight reads writes answered failed";
        assert_eq!(keys, wanted.split_whitespace().collect::<BTreeSet<_>>());
        assert!(node["reason"].is_string(), "{node}");
        assert_eq!(node["version"], version, "{node}");
        let common = json!({ "health": "healthy", "spare": false, "timeline": 1, "weight": 1, "zone": null, "in_flight": 0, "failed": 0 });
        assert_has(node, &common);
    }
    let writes_only = json!({
        "serves_reads": false, "serves_writes": true, "lag_ms": null, "lag_bytes": null, "replay_paused": null, "receiver": null,
    });
    assert_has(&before[0], &writes_only);
    let reads_only = json!({
        "serves_reads": true, "serves_writes": false, "replay_paused": false, "receiver": "streaming", "writes": 0,
    });
    for replica in &before[1..] {
        assert_has(replica, &reads_only);
        assert!(replica["lag_ms"].is_u64() && replica["lag_bytes"].is_u64(), "{replica}");
    }

    for number in 0..3 {
        service.create_room(&format!("room {number}")).await;
    }
    for _ in 0..10 {
        service.get("/api/rooms").await.expect(200);
    }
    let after = service.nodes().await;
    let counted = |counter: &str, node: usize| {
        let count = |nodes: &[Value]| nodes[node][counter].as_u64().expect("a number");
        count(&after) - count(&before)
    };
    assert_eq!([counted("writes", 0), counted("writes", 1), counted("writes", 2)], [3, 0, 0]);
    assert_eq!([counted("reads", 0), counted("reads", 1), counted("reads", 2)], [0, 5, 5]);
    for node in 0..3 {
        assert!(counted("answered", node) >= counted("reads", node) + counted("writes", node), "{after:?}");
    }
}

/// Checks those fields of a node that are named.
fn assert_has(node: &Value, wanted: &Value) {
    for (field, value) in wanted.as_object().expect("fields") {
        assert_eq!(&node[field], value, "{field} of {node}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lagging_replica_gets_no_reads_until_it_has_caught_up() {
    let cluster = Cluster::builder().replicas(2).start().await.expect("a cluster");
    let service = Service::on(&cluster).await;
    let (ada, room) = (service.create_user("Ada").await, service.create_room("general").await);
    let laggard = name_of(cluster.replica(0));
    let fresh = name_of(cluster.replica(1));

    cluster.replica(0).pause_replay().await.expect("replay pauses");
    service.say(room, ada, "the last that both replicas could have").await;
    until("the replica counts as lagging", async || {
        service.say(room, ada, "tick").await;
        service.node(&laggard).await["health"] != "healthy"
    })
    .await;
    let node = service.node(&laggard).await;
    assert!(node["reason"].as_str().is_some_and(|reason| reason.contains("lag")), "{node}");
    assert!(node["lag_ms"].as_u64().is_some_and(|lag| lag >= 1000), "{node}");
    assert!(node["lag_bytes"].as_u64().is_some_and(|lag| lag > 0), "{node}");

    let path = format!("/api/rooms/{room}/messages?limit=1");
    for _ in 0..20 {
        let answer = service.get(&path).await;
        answer.expect(200);
        assert_eq!(answer.served_by(), fresh);
    }

    cluster.replica(0).resume_replay().await.expect("replay resumes");
    until("the replica is healthy again", async || service.node(&laggard).await["health"] == "healthy").await;
    until("it serves again", async || service.get(&path).await.served_by() == laggard).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_replicas_the_primary_serves_everything() {
    let cluster = Cluster::builder().replicas(1).start().await.expect("a cluster");
    let primary = name_of(cluster.primary());

    let mut alone = command();
    alone.env("DATABASE_URL", cluster.primary().url());
    let mut disabled = command_on(&cluster);
    disabled.env("DB_READ_REPLICAS_ENABLED", "false");
    for command in [alone, disabled] {
        let service = Service::start(command).await;
        service.ready().await;
        assert_eq!(service.get("/api/rooms").await.served_by(), primary);
    }
}
