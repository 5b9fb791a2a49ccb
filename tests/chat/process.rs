//! How the service begins and ends.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

use crate::service::{Service, command, ended, spawn};
use crate::until;

/// Runs the service, which must refuse to start, and returns what it said.
async fn refused(command: Command) -> String {
    let (mut child, output) = spawn(command);
    let pid = child.id().expect("it has not been waited for");
    let status = ended(&mut child).await;
    assert_eq!(status.code(), Some(1), "{}", output.text());
    until("it has said why", async || output.text().contains("chat: ")).await;
    until("nothing is left of it", async || directories_of(pid).is_empty()).await;
    output.text()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_address_is_refused() {
    let mut wrong = command();
    wrong.env("CHAT_ADDR", "localhost");
    let said = refused(wrong).await;
    assert!(said.contains(r#"CHAT_ADDR is "localhost", not a host and port"#), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_in_use_is_refused() {
    let taken = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    let mut wrong = command();
    wrong.env("CHAT_ADDR", &address);
    let said = refused(wrong).await;
    assert!(said.contains(&format!("cannot listen on {address}")), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_configuration_is_refused_without_telling_secrets() {
    let mut wrong = command();
    wrong
        .env("DATABASE_URL", "postgres://chat:s3cret@127.0.0.1:1/chat")
        .env("DB_LOAD_BALANCING", "guess")
        .env("DB_REPLICA_LAG_THRESHOLD_MS", "soon");
    let said = refused(wrong).await;
    assert!(said.contains("DB_LOAD_BALANCING") && said.contains("DB_REPLICA_LAG_THRESHOLD_MS"), "{said}");
    assert!(!said.contains("s3cret"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_token_key_is_refused_without_telling_it() {
    let mut wrong = command();
    wrong.env("CHAT_TOKEN_KEY", "s3cret");
    let said = refused(wrong).await;
    assert!(said.contains("CHAT_TOKEN_KEY: the key has fewer than 32 bytes"), "{said}");
    assert!(!said.contains("s3cret"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_brings_a_cluster_of_its_own_and_takes_it_away_again() {
    for signal in ["-INT", "-TERM", "-KILL"] {
        let mut service = Service::start(command()).await;
        service.ready().await;
        assert!(service.output().contains("DATABASE_URL is not set: starting a primary and two replicas"));
        assert!(service.output().contains("CHAT_TOKEN_KEY is not set"));
        let nodes = service.nodes().await;
        let roles: Vec<_> = nodes.iter().map(|node| node["role"].as_str().expect("a role")).collect();
        assert_eq!(roles, ["primary", "replica", "replica"]);
        let mut servers = Vec::new();
        for node in &nodes {
            let name = node["name"].as_str().expect("a name");
            assert!(service.output().contains(name), "{name} is not in what it said: {}", service.output());
            servers.push(Server::at(name).await);
        }
        service.create_room("general").await;

        let pid = service.pid();
        service.signal(signal).await;
        assert_eq!(service.ended().await.success(), signal != "-KILL");
        until("nothing is left of its cluster", async || directories_of(pid).is_empty()).await;
        for server in servers {
            server.gone().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_says_how_to_make_its_cluster_fail() {
    let service = Service::start(command()).await;
    service.ready().await;
    let said = service.output();
    let mut commands = said.lines().filter_map(|line| line.trim().strip_prefix("psql -c "));
    let mut next = async |word: &str| run(commands.next().expect("one more"), word).await;
    let nodes = async |what: &str, are: &dyn Fn(&[Value]) -> bool| {
        until(what, async || are(&service.nodes().await)).await;
    };
    let post = async |name: &str| service.post("/api/rooms", json!({ "name": name })).await;

    next("pause").await;
    // What it lacks is what makes it lag.
    post("general").await.expect(201);
    nodes("a replica lags", &|nodes| nodes[2]["health"] == "lagging").await;
    next("resume").await;
    nodes("it has caught up", &|nodes| nodes[2]["health"] == "healthy").await;

    next("kill").await;
    until("nobody takes writes", async || !service.status().await["no_primary"].is_null()).await;
    service.get("/api/rooms").await.expect(200);
    next("promote").await;
    nodes("writes have moved", &|nodes| nodes[1]["serves_writes"] == true).await;
    nodes("the other replica follows", &|nodes| {
        nodes[2]["timeline"] == 2 && nodes[2]["serves_reads"] == true
    })
    .await;
    assert_eq!(post("moved").await.expect(201)["name"], "moved");

    next("kill").await;
    nodes("no replica is left", &|nodes| nodes[2]["health"] == "unreachable").await;
    assert_eq!(service.get("/api/rooms").await.served_by(), service.nodes().await[1]["name"]);
    assert_eq!(commands.next(), None);
}

/// Does what psql would do with these arguments, which hold this word.
async fn run(arguments: &str, word: &str) {
    assert!(arguments.contains(word), "{arguments}");
    let (sql, url) = arguments.rsplit_once(' ').expect("a statement and a URL");
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.expect("it answers");
    tokio::spawn(connection);
    let without_quotes = &sql[1..sql.len() - 1];
    let result = client.batch_execute(without_quotes).await;
    // The server that is to die may do so before it answers.
    assert!(word == "kill" || result.is_ok(), "{sql}: {result:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn stopped_while_it_starts_it_leaves_nothing_behind() {
    let (mut child, output) = spawn(command());
    let pid = child.id().expect("it has not been waited for");
    until("it starts its cluster", async || output.text().contains("starting a primary")).await;
    let status = Command::new("kill").args(["-TERM", &pid.to_string()]).status().await;
    assert!(status.expect("kill runs").success());
    assert!(ended(&mut child).await.success(), "{}", output.text());
    until("nothing is left of its cluster", async || directories_of(pid).is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_waits_for_nobody() {
    let mut service = Service::start(command()).await;
    service.ready().await;
    let mut stalled = TcpStream::connect(service.address()).await.expect("a connection");
    let head = format!("POST /api/rooms HTTP/1.1\r\nhost: {}\r\ncontent-length: 99\r\n", service.address());
    stalled.write_all(head.as_bytes()).await.expect("half a request");
    stalled.write_all(b"content-type: application/json\r\n\r\n{").await.expect("half a request");
    service.post("/api/rooms", json!({ "name": "others are served" })).await.expect(201);

    let started = Instant::now();
    service.signal("-INT").await;
    until("it has heard", async || service.output().contains("stopping")).await;
    service.signal("-INT").await;
    assert!(service.ended().await.success());
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

/// A server of a cluster, and where to look for it.
struct Server {
    name: String,
    /// Its data, when it runs on this machine and not in a container.
    directory: Option<PathBuf>,
    pid: Option<String>,
}

impl Server {
    async fn at(name: &str) -> Self {
        let url = format!("postgres://postgres@{name}/postgres");
        let (client, connection) =
            tokio_postgres::connect(&url, tokio_postgres::NoTls).await.expect("the server answers");
        tokio::spawn(connection);
        let row = client.query_one("SHOW data_directory", &[]).await.expect("a superuser may ask");
        let directory = Some(PathBuf::from(row.get::<_, String>(0))).filter(|directory| directory.exists());
        let lock = directory.as_ref().map(|directory| directory.join("postmaster.pid"));
        let lock = lock.map(|lock| std::fs::read_to_string(lock).expect("the lock file of a running server"));
        let pid = lock.and_then(|lock| lock.lines().next().map(Into::into));
        Self { name: name.to_owned(), directory, pid }
    }

    async fn gone(&self) {
        assert!(TcpStream::connect(&self.name).await.is_err(), "{} still listens", self.name);
        if let Some(directory) = &self.directory {
            assert!(!directory.exists(), "{} is still there", directory.display());
        }
        let Some(pid) = &self.pid else { return };
        // When its parent was killed, it is for the system to reap it.
        until(&format!("process {pid} is gone"), async || {
            let alive = Command::new("kill").args(["-0", pid]).output().await.expect("kill runs");
            !alive.status.success()
        })
        .await;
    }
}

/// What a cluster that this process started keeps on this machine.
fn directories_of(pid: u32) -> Vec<PathBuf> {
    let prefix = format!("pg-cluster-{pid}-");
    [PathBuf::from("/dev/shm"), std::env::temp_dir()]
        .iter()
        .filter_map(|parent| std::fs::read_dir(parent).ok())
        .flatten()
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix)))
        .collect()
}
