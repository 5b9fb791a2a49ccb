//! The service as a process.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::Method;
use pg_cluster::Cluster;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};

use crate::http::{Answer, Body, send};
use crate::until;

/// A running service. Dropping it ends it.
pub struct Service {
    child: Child,
    address: SocketAddr,
    output: Output,
}

impl Service {
    /// On the primary and the replicas of `cluster`, ready to serve.
    pub async fn on(cluster: &Cluster) -> Self {
        let service = Self::start(command_on(cluster)).await;
        service.ready().await;
        service
    }

    /// Returns as soon as it listens.
    pub async fn start(command: Command) -> Self {
        let (child, output) = spawn(command);
        until("the service listens", async || output.address().is_some()).await;
        let address = output.address().expect("waited for above");
        Self { child, address, output }
    }

    /// Waits until the schema stands and every node is known to be healthy.
    pub async fn ready(&self) {
        until("the schema stands", async || self.get("/healthz").await.json()["ready"] == true).await;
        until("every node is healthy", async || {
            self.nodes().await.iter().all(|node| node["health"] == "healthy")
        })
        .await;
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn pid(&self) -> u32 {
        self.child.id().expect("it has not been waited for")
    }

    pub fn output(&self) -> String {
        self.output.text()
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.get_with(path, &[]).await
    }

    /// With headers of one's own.
    pub async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send_with(Method::GET, path, headers, Body::none()).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(Method::POST, path, Body::json(body.to_string())).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.send(Method::PUT, path, Body::json(body.to_string())).await
    }

    pub async fn send(&self, method: Method, path: &str, body: Body) -> Answer {
        self.send_with(method, path, &[], body).await
    }

    /// No request may hang: the service answers within its own limit of ten seconds, and some for a slow machine.
    async fn send_with(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Body) -> Answer {
        tokio::time::timeout(Duration::from_secs(15), send(self.address, method, path, headers, body))
            .await
            .unwrap_or_else(|_| panic!("no answer in time to {path}"))
            .unwrap_or_else(|error| panic!("{path}: {error}\n{}", self.output()))
    }

    pub async fn create_user(&self, name: &str) -> i64 {
        id_of(&self.post("/api/users", json!({ "name": name })).await.expect(201))
    }

    pub async fn create_room(&self, name: &str) -> i64 {
        id_of(&self.post("/api/rooms", json!({ "name": name })).await.expect(201))
    }

    pub async fn say(&self, room: i64, author: i64, body: &str) -> i64 {
        let message = json!({ "author_id": author, "body": body });
        id_of(&self.post(&format!("/api/rooms/{room}/messages"), message).await.expect(201))
    }

    pub async fn status(&self) -> Value {
        self.get("/api/status").await.expect(200)
    }

    /// The nodes of `/api/status`.
    pub async fn nodes(&self) -> Vec<Value> {
        match self.status().await["nodes"].take() {
            Value::Array(nodes) => nodes,
            other => panic!("no list of nodes: {other}"),
        }
    }

    /// The node of this name in `/api/status`.
    pub async fn node(&self, name: &str) -> Value {
        self.nodes().await.into_iter().find(|node| node["name"] == name).expect("a node of this name")
    }

    /// Waits until the replicas have what the primary has.
    pub async fn replicated(&self, cluster: &Cluster) {
        let lsn = cluster.primary().position().await.expect("the primary's position").lsn;
        for replica in cluster.replicas() {
            cluster.wait_replayed(replica, lsn).await.expect("the replica catches up");
        }
    }

    pub async fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.pid().to_string()]).status().await;
        assert!(status.expect("kill runs").success());
    }

    pub async fn ended(&mut self) -> ExitStatus {
        ended(&mut self.child).await
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the service at {} said:\n{}", self.address, self.output());
        }
    }
}

pub async fn ended(child: &mut Child) -> ExitStatus {
    tokio::time::timeout(Duration::from_secs(20), child.wait())
        .await
        .expect("the service ends in time")
        .expect("it can be waited for")
}

pub fn id_of(row: &Value) -> i64 {
    row["id"].as_i64().unwrap_or_else(|| panic!("no id: {row}"))
}

/// `host:port` of a node, which is its name unless it was given one.
pub fn name_of(node: &pg_cluster::Node) -> String {
    let url = node.url();
    let after_user = url.rsplit_once('@').expect("a URL with a user").1;
    after_user.split('/').next().expect("split yields one piece at least").to_owned()
}

/// The service with none of our own settings, on a free port.
pub fn command() -> Command {
    let mut command = Command::new(example());
    for (name, _) in std::env::vars() {
        let is_ours = ["DB_", "CHAT_"].iter().any(|prefix| name.starts_with(prefix));
        if is_ours || name == "DATABASE_URL" || name == "RUST_LOG" {
            command.env_remove(name);
        }
    }
    command.env("CHAT_ADDR", "127.0.0.1:0");
    command
}

pub fn command_on(cluster: &Cluster) -> Command {
    let replicas: Vec<String> = cluster.replicas().iter().map(pg_cluster::Node::url).collect();
    let mut command = command();
    command
        .env("DATABASE_URL", cluster.primary().url())
        .env("DB_READ_REPLICA_URLS", replicas.join(","))
        .env("DB_READ_REPLICAS_ENABLED", "true");
    command
}

/// `target/<profile>/examples/chat`, seen from `target/<profile>/deps/chat-<hash>`.
fn example() -> PathBuf {
    let test = std::env::current_exe().expect("the path of this test");
    let profile = test.ancestors().nth(2).expect("tests are in <profile>/deps");
    let example = profile.join("examples/chat");
    assert!(example.exists(), "{} is missing: run `cargo build --example chat`", example.display());
    example
}

/// Starts the service and gathers what it says.
pub fn spawn(mut command: Command) -> (Child, Output) {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the service starts");
    let output = Output::default();
    output.gather(child.stdout.take().expect("piped above"));
    output.gather(child.stderr.take().expect("piped above"));
    (child, output)
}

/// What the service has said so far.
#[derive(Clone, Default)]
pub struct Output(Arc<Mutex<String>>);

impl Output {
    pub fn text(&self) -> String {
        self.0.lock().expect("nobody panics while holding it").clone()
    }

    fn gather(&self, from: impl AsyncRead + Unpin + Send + 'static) {
        let output = self.clone();
        tokio::spawn(async move {
            let mut lines = BufReader::new(from).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let mut text = output.0.lock().expect("nobody panics while holding it");
                text.push_str(&line);
                text.push('\n');
            }
        });
    }

    fn address(&self) -> Option<SocketAddr> {
        let text = self.text();
        let line = text.lines().find_map(|line| line.strip_prefix("chat on http://"))?;
        Some(line.parse().expect("an address"))
    }
}
