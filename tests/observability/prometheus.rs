//! A Prometheus that watches one service.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hyper::Method;
use serde_json::Value;

use crate::http::{Body, send};
use crate::programs::docs;
use crate::until;

/// A running Prometheus. It ends with its owner, or with this process, however that ends, and takes its directory with it.
pub struct Prometheus {
    address: SocketAddr,
    directory: PathBuf,
    /// A shell that waits for its standard input to end.
    keeper: Child,
}

/// A value and its labels.
#[derive(Debug)]
pub struct Sample {
    pub labels: Value,
    pub value: f64,
}

const KEEP: &str = r#"trap '' INT TERM; directory=$0
"$@" >"$directory/log" 2>&1 & cat >/dev/null; kill -KILL $!; wait; rm -rf "$directory""#;

impl Prometheus {
    /// One that asks the service at `target`, as the job `chat`, and evaluates the rules of `docs`, both every second. What these wait
    /// for is cut to two seconds.
    pub async fn start(program: &Path, target: SocketAddr) -> Self {
        let address = free_address();
        let name = format!("chat-test-{}-prometheus-{}", std::process::id(), address.port());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir(&directory).expect("a new directory");
        let rules = std::fs::read_to_string(docs("prometheus/alerts.yml")).expect("the rules");
        std::fs::write(directory.join("alerts.yml"), hasty(&rules)).expect("a file");
        let config = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: [alerts.yml]\n\
             scrape_configs: [{{ job_name: chat, static_configs: [{{ targets: ['{target}'] }}] }}]\n"
        );
        std::fs::write(directory.join("prometheus.yml"), config).expect("a file");

        let mut command = Command::new("sh");
        command.args(["-c", KEEP]).arg(&directory).arg(program);
        command.arg(format!("--config.file={}", directory.join("prometheus.yml").display()));
        command.arg(format!("--storage.tsdb.path={}", directory.join("data").display()));
        command.arg(format!("--web.listen-address={address}"));
        let keeper = command.stdin(Stdio::piped()).spawn().expect("a shell");
        let prometheus = Self { address, directory, keeper };
        until("Prometheus is ready", async || prometheus.answer("/-/ready").await.is_some()).await;
        prometheus
    }

    /// What an expression gives now.
    pub async fn query(&self, expression: &str) -> Vec<Sample> {
        let answer = self.api(&format!("query?query={}", encoded(expression))).await;
        let result = &answer["data"]["result"];
        if answer["data"]["resultType"] == "scalar" {
            return vec![Sample { labels: Value::Null, value: number(&result[1]) }];
        }
        let samples = result.as_array().unwrap_or_else(|| panic!("{expression}: {answer}"));
        samples
            .iter()
            .map(|sample| Sample { labels: sample["metric"].clone(), value: number(&sample["value"][1]) })
            .collect()
    }

    /// Whether an expression gives anything now: a comparison, whether it holds anywhere.
    pub async fn shows(&self, expression: &str) -> bool {
        !self.query(expression).await.is_empty()
    }

    /// The alerts of this name that fire.
    pub async fn firing(&self, name: &str) -> Vec<Value> {
        let mut answer = self.api("alerts").await;
        let Value::Array(mut alerts) = answer["data"]["alerts"].take() else { panic!("no list: {answer}") };
        alerts.retain(|alert| alert["labels"]["alertname"] == name && alert["state"] == "firing");
        alerts
    }

    /// The rules, as it has understood them.
    pub async fn rules(&self) -> Vec<Value> {
        match self.api("rules").await["data"]["groups"][0]["rules"].take() {
            Value::Array(rules) => rules,
            other => panic!("no list: {other}"),
        }
    }

    async fn api(&self, call: &str) -> Value {
        let text = self.answer(&format!("/api/v1/{call}")).await.unwrap_or_else(|| panic!("{}", self.log()));
        let answer: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(answer["status"], "success", "{call}: {answer}");
        answer
    }

    /// The text of an answer that is no failure of the server's.
    async fn answer(&self, path: &str) -> Option<String> {
        let answer = send(self.address, Method::GET, path, &[], Body::none());
        let answer = tokio::time::timeout(Duration::from_secs(10), answer).await.ok()?.ok()?;
        (!answer.status.is_server_error()).then_some(answer.text)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("Prometheus said:\n{}", self.log());
        }
        drop(self.keeper.stdin.take());
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline && !matches!(self.keeper.try_wait(), Ok(Some(_))) {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn free_address() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address")
}

/// The rules with what they wait for cut to two seconds.
fn hasty(rules: &str) -> String {
    let waits = ["for:", "keep_firing_for:"];
    let cut = |line: &str| match line.split_once(':') {
        Some((key, _)) if waits.iter().any(|wait| line.trim_start().starts_with(wait)) => {
            format!("{key}: 2s")
        }
        _ => line.to_owned(),
    };
    rules.lines().map(cut).collect::<Vec<_>>().join("\n")
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

fn number(value: &Value) -> f64 {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no number: {value}"))
}
