//! Settings that change while the service runs.

use std::path::PathBuf;

use pg_cluster::Cluster;

use crate::service::{Service, command, name_of};
use crate::until;

/// A file that is gone with its test.
struct File(PathBuf);

impl File {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("chat-test-{}-{name}.env", std::process::id())))
    }

    fn write(&self, lines: &[String]) {
        std::fs::write(&self.0, lines.join("\n")).expect("a file for temporary things can be written");
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // It may not be there.
        let _ = std::fs::remove_file(&self.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_variables_is_read_again_at_sighup_and_a_wrong_one_changes_nothing() {
    let cluster = Cluster::builder().replicas(1).start().await.expect("a cluster");
    let (file, replica) = (File::new("reload"), name_of(cluster.replica(0)));
    let [primary, replicas] =
        [("DATABASE_URL", cluster.primary()), ("DB_READ_REPLICA_URLS", cluster.replica(0))]
            .map(|(name, node)| format!("{name}={}", node.url()));
    let switch = |value: &str| format!("DB_READ_REPLICAS_ENABLED={value}");
    file.write(&["# the nodes".into(), String::new(), primary.clone(), replicas.clone()]);
    let mut command = command();
    command.env("CHAT_ENV_FILE", &file.0).env("DATABASE_URL", "postgres://nobody@127.0.0.1:1/none");
    let service = Service::start(command).await;
    service.ready().await;
    assert_eq!(service.nodes().await.len(), 1, "the file comes before the environment");

    file.write(&[primary.clone(), replicas.clone(), switch("true")]);
    service.signal("-HUP").await;
    until("the replica is there", async || service.nodes().await.len() == 2).await;
    until("it serves", async || service.node(&replica).await["serves_reads"] == true).await;

    for (wrong, told) in [
        (switch("perhaps"), "DB_READ_REPLICAS_ENABLED"),
        ("nonsense".into(), "line 3: `NAME=value` is wanted"),
    ] {
        file.write(&[primary.clone(), replicas.clone(), wrong]);
        service.signal("-HUP").await;
        until("it says what is wrong", async || service.output().contains(told)).await;
        assert_eq!(service.nodes().await.len(), 2);
    }

    file.write(&[primary, replicas, switch("false")]);
    service.signal("-HUP").await;
    until("the replica is gone", async || service.nodes().await.len() == 1).await;
}
