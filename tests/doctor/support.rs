//! The program as scripts run it, and what it says.

use pg_cluster::{Cluster, ClusterBuilder, Node};
use serde_json::Value;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tokio::task::spawn_blocking;

/// In every URL, and in no output.
pub const SECRET: &str = "hunter2";

/// The service's role, and one for the replicas' URLs, as a careful administrator makes them.
const ROLES: &str = "CREATE TABLE notes (body text); \
     CREATE ROLE app LOGIN IN ROLE pg_monitor; GRANT SELECT, INSERT, UPDATE, DELETE ON notes TO app; \
     CREATE ROLE reader LOGIN IN ROLE pg_monitor; GRANT SELECT ON notes TO reader; \
     CREATE ROLE nobody LOGIN";

/// What the program says.
pub struct Answer {
    pub status: i32,
    pub out: String,
    pub err: String,
}

/// A cluster of which nothing bad can be said, unless it is made.
pub async fn cluster(replicas: usize) -> Cluster {
    with_roles(Cluster::builder().replicas(replicas)).await
}

/// The same, as this builder has it.
pub async fn with_roles(builder: ClusterBuilder) -> Cluster {
    let builder = builder
        .setting("hot_standby_feedback", "on")
        .setting("max_standby_streaming_delay", "1s")
        .setting("max_slot_wal_keep_size", "1GB");
    let cluster = builder.start().await.unwrap();
    cluster.primary().sql(ROLES).await.unwrap();
    let written = cluster.primary().position().await.unwrap().lsn;
    for replica in cluster.replicas() {
        cluster.wait_replayed(replica, written).await.unwrap();
    }
    cluster
}

/// A node's URL as this role, under the name that the cluster has for it.
pub fn url(node: &Node, role: &str) -> String {
    let url = node.url().replace("postgres@", &format!("{role}:{SECRET}@"));
    format!("{url}?node_name={}", node.name())
}

/// What the environment of a service has, for the cluster's nodes as they were at first.
pub fn environment(cluster: &Cluster) -> Vec<(String, String)> {
    listing(url(cluster.primary(), "app"), cluster.replicas().iter().map(|node| url(node, "reader")))
}

pub fn listing(primary: String, replicas: impl IntoIterator<Item = String>) -> Vec<(String, String)> {
    let replicas: Vec<_> = replicas.into_iter().collect();
    let vars = [
        ("DATABASE_URL", primary),
        ("DB_READ_REPLICA_URLS", replicas.join(",")),
        ("DB_READ_REPLICAS_ENABLED", "true".to_owned()),
    ];
    vars.map(|(name, value)| (name.to_owned(), value)).to_vec()
}

/// Runs the program with these variables and no others. Whatever it says, it never says the password.
pub async fn run(arguments: &[&str], environment: Vec<(String, String)>) -> Answer {
    let mut command = Command::new(env!("CARGO_BIN_EXE_diesel-replicas"));
    command.args(arguments).env_clear().envs(environment).stdin(Stdio::null());
    let output = spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let answer =
        Answer { status: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) };
    assert!(!answer.out.contains(SECRET) && !answer.err.contains(SECRET), "{}{}", answer.out, answer.err);
    answer
}

/// The report for programs, with the exit status that goes with it.
pub struct Told {
    pub status: i32,
    pub json: Value,
}

pub async fn doctor(environment: Vec<(String, String)>) -> Told {
    let Answer { status, out, err } = run(&["doctor", "--json"], environment).await;
    assert_eq!(err, "");
    Told { status, json: serde_json::from_str(&out).unwrap() }
}

impl Told {
    pub fn findings(&self) -> &[Value] {
        self.json["findings"].as_array().unwrap()
    }

    /// Those that are warnings or worse, as `severity check node`.
    pub fn bad(&self) -> Vec<String> {
        let bad = |finding: &&Value| finding["severity"] == "warning" || finding["severity"] == "problem";
        let text = |finding: &Value| {
            let word = |name: &str| finding[name].as_str().unwrap().to_owned();
            format!("{} {} {}", word("severity"), word("check"), finding["nodes"][0].as_str().unwrap_or("-"))
        };
        self.findings().iter().filter(bad).map(text).collect()
    }

    /// The one finding of this check that is more than ok.
    pub fn only(&self, check: &str) -> &Value {
        let told = |finding: &&Value| finding["check"] == check && finding["severity"] != "ok";
        let mut told = self.findings().iter().filter(told);
        match (told.next(), told.next()) {
            (Some(finding), None) => finding,
            _ => panic!("not one {check}: {:#}", self.json),
        }
    }

    pub fn node(&self, name: &str) -> &Value {
        let nodes = self.json["nodes"].as_array().unwrap();
        nodes.iter().find(|node| node["name"] == name).unwrap()
    }
}

/// Whether a text of a finding contains these words.
pub fn says(finding: &Value, part: &str, words: &str) -> bool {
    finding[part].as_str().unwrap().contains(words)
}

/// Waits until the condition holds; panics, with what was waited for, when it does not in time.
pub async fn until_async(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds().await {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
