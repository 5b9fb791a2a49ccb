//! One runbook, carried out.

use crate::runbook::Runbook;
use crate::service::Service;
use crate::shell::Shell;
use crate::stage::{SERVERS, Stage};
use crate::traffic::Traffic;
use crate::until;
use pg_cluster::{Cluster, Node};
use serde_json::Value;
use std::time::Instant;

/// A cluster, the service on it, its clients, and the runbook.
pub struct Scene {
    pub stage: Stage,
    pub traffic: Traffic,
    runbook: Runbook,
    /// Whether the runbook has to do without a primary for a while.
    pub writes_wait: bool,
    /// What the runbook has found of acknowledged writes that are not in the database any more.
    pub found: String,
}

/// Has a test set the stage, and carry out the runbook; then checks what holds for all of them.
pub async fn perform(name: &'static str, play: impl AsyncFnOnce(&mut Scene)) {
    let Some(stage) = Stage::set().await else { return };
    let (user, room) = (stage.service.create_user("Ada").await, stage.service.create_room("general").await);
    stage.service.replicated(&stage.cluster).await;
    let traffic = Traffic::start(stage.service.address(), room, user);
    let mut scene =
        Scene { stage, traffic, runbook: Runbook::open(name), writes_wait: false, found: String::new() };
    scene.traffic.goes_on().await;

    play(&mut scene).await;

    scene.traffic.goes_on().await;
    let Scene { stage, traffic, runbook, writes_wait, found } = scene;
    runbook.finish(&stage.service.output());
    let outcome = traffic.stop().await;
    println!(
        "{name}: {} reads, {} writes, {} refused",
        outcome.reads,
        outcome.acknowledged.len(),
        outcome.refused
    );
    assert_eq!(outcome.failed_reads, [""; 0], "of {} reads", outcome.reads);
    assert_eq!(outcome.failed_writes, [""; 0], "of {} writes", outcome.acknowledged.len());
    assert!(writes_wait || outcome.refused == 0, "{} writes were refused", outcome.refused);
    let writer = stage.writer().await;
    let bodies = stage.shell.ask(&writer, "SELECT body FROM messages").await;
    let there: std::collections::HashSet<&str> = bodies.lines().collect();
    let is_found = |body: &str| found.contains(&format!(r#""body":"{body}""#));
    let lost: Vec<_> =
        outcome.acknowledged.iter().filter(|body| !there.contains(&***body) && !is_found(body)).collect();
    assert!(lost.is_empty(), "acknowledged, and not on {writer}: {lost:?}");
}

impl Scene {
    /// Leaves the rest of the runbook out.
    pub fn give_up(&mut self) {
        self.runbook.give_up();
    }

    /// Runs the commands of a section, and returns what they print.
    pub async fn run(&mut self, section: &str) -> String {
        let mut all = String::new();
        for block in self.runbook.section(section) {
            let (place, started) = (self.runbook.place(&block), Instant::now());
            let printed = self.stage.shell.run(&place, &block.commands).await;
            println!("{place}, {:?}:\n{}\n{printed}", started.elapsed(), block.commands);
            if let Some(line) = block.misses(&printed) {
                panic!("{place}: does not print `{line}`, but\n{printed}");
            }
            all.push_str(&printed);
        }
        all
    }

    pub fn service(&self) -> &Service {
        &self.stage.service
    }

    pub fn cluster(&self) -> &Cluster {
        &self.stage.cluster
    }

    pub fn shell(&self) -> &Shell {
        &self.stage.shell
    }

    /// The server with these variables, as it was at first.
    pub fn server(&self, variable: &str) -> &Node {
        &self.cluster().nodes()[SERVERS.iter().position(|(server, _)| *server == variable).unwrap()]
    }

    /// What the service says of a node.
    pub async fn node(&self, name: &str) -> Value {
        self.service().node(name).await
    }

    /// Waits until a node serves reads, and has served one.
    pub async fn serves_reads(&self, name: &str) {
        let before = self.node(name).await["reads"].as_u64().unwrap();
        until(&format!("{name} serves reads"), async || {
            self.node(name).await["reads"].as_u64().unwrap() > before
        })
        .await;
    }

    /// Waits until the service says that a node has this.
    pub async fn until(&self, name: &str, field: &str, value: impl Into<Value>) {
        let value = value.into();
        until(&format!("{field} of {name} is {value}"), async || self.node(name).await[field] == value).await;
    }
}

impl Stage {
    /// The URL of the node that takes the writes.
    async fn writer(&self) -> String {
        let nodes = self.service.nodes().await;
        let writer =
            nodes.iter().find(|node| node["serves_writes"] == true).expect("somebody takes the writes");
        let names = self
            .shell
            .variables
            .iter()
            .filter_map(|(name, value)| Some((name.strip_suffix("_NODE")?, value)));
        let (server, _) = { names }.find(|(_, name)| writer["name"] == ***name).expect("one of ours");
        self.variable(server).to_owned()
    }
}
