//! Passwords that do not stand in the URL, and change.

use crate::support::{self, notes, until};
use diesel::prelude::*;
use diesel_replicas::{
    Error, HealthState, Login, NodeConfig, PasswordProvider, Providing, Router, RouterBuilder, RunQueryDsl,
};
use pg_cluster::{Cluster, Node};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const TO_RULES: &str = "TO PROGRAM 'cat > pg_hba.conf'";

/// A cluster that asks the role `app` for a password.
async fn cluster() -> Cluster {
    let cluster = support::cluster(1).await;
    set_password(&cluster, "first").await;
    let rules = "local all all trust\nhost all app all scram-sha-256\nhost all all all trust\nhost replication all all trust\n";
    for node in [cluster.primary(), cluster.replica(0)] {
        node.sql(&format!("COPY (SELECT unnest(string_to_array(E'{rules}', E'\\n'))) {TO_RULES}"))
            .await
            .unwrap();
        node.sql("SELECT pg_reload_conf()").await.unwrap();
    }
    cluster
}

async fn set_password(cluster: &Cluster, password: &str) {
    let create = "DO $$ BEGIN CREATE ROLE app LOGIN; GRANT ALL ON notes TO app; EXCEPTION WHEN duplicate_object THEN END $$";
    cluster.primary().sql(&format!("{create}; ALTER ROLE app PASSWORD '{password}'")).await.unwrap();
    let written = cluster.primary().position().await.unwrap().lsn;
    cluster.wait_replayed(cluster.replica(0), written).await.unwrap();
}

fn url(node: &Node) -> String {
    node.url().replace("//postgres@", "//app@")
}

fn builder(cluster: &Cluster) -> RouterBuilder {
    let node = |node: &Node| NodeConfig::new(url(node)).name(node.name());
    Router::builder().primary(node(cluster.primary())).replica(node(cluster.replica(0)))
}

async fn reads(router: &Router) -> Result<i64, String> {
    let mut conn = router.read().await.map_err(|error| format!("{error:?}"))?;
    notes::table.count().get_result(&mut conn).await.map_err(|error| error.to_string())
}

/// What is asked for a password, and what it says.
#[derive(Debug, Default, Clone)]
struct Vault {
    password: Arc<Mutex<Option<&'static str>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Vault {
    fn set(&self, password: Option<&'static str>) {
        *self.password.lock().unwrap() = password;
    }
}

impl PasswordProvider for Vault {
    fn password<'a>(&'a self, login: Login<'a>) -> Providing<'a> {
        let of = format!("{}@{}:{}/{}", login.user, login.host, login.port, login.database);
        self.asked.lock().unwrap().push(of);
        let password = *self.password.lock().unwrap();
        Box::pin(async move { password.map(str::to_owned).ok_or_else(|| "the vault is sealed".into()) })
    }
}

#[tokio::test]
async fn a_provider_is_asked_for_every_connection_and_may_rotate() {
    let cluster = cluster().await;
    let vault = Vault::default();
    vault.set(Some("first"));
    let router = support::ready(builder(&cluster).password_provider(vault.clone())).await;
    let mut held = router.read().await.unwrap();
    assert_eq!(held.node(), cluster.replica(0).name());

    set_password(&cluster, "second").await;
    let wrong = router.read().await.unwrap_err();
    assert!(format!("{wrong:?}").contains("password authentication failed"), "{wrong:?}");
    vault.set(Some("second"));
    assert_eq!(reads(&router).await, Ok(1));
    assert_eq!(notes::table.count().get_result::<i64>(&mut held).await.unwrap(), 1, "it lives on");
    // The monitor as well.
    for node in [cluster.primary(), cluster.replica(0)] {
        node.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")
            .await
            .unwrap();
    }
    until("the monitor is back", || {
        router.status().nodes.iter().all(|node| node.health == HealthState::Healthy)
    })
    .await;
    let asked = vault.asked.lock().unwrap().clone();
    let of = |node: &Node| url(node).trim_start_matches("postgres://").to_owned();
    assert!(asked.contains(&of(cluster.primary())) && asked.contains(&of(cluster.replica(0))), "{asked:?}");
}

#[tokio::test]
async fn a_provider_that_fails_or_hangs_is_an_error_with_its_text_and_in_time() {
    #[derive(Debug)]
    struct Silent;
    impl PasswordProvider for Silent {
        fn password<'a>(&'a self, _: Login<'a>) -> Providing<'a> {
            Box::pin(std::future::pending())
        }
    }
    let cluster = cluster().await;
    let without =
        Router::builder().primary(url(cluster.primary())).connect_timeout(Duration::from_millis(300));
    let sealed = without.clone().password_provider(Vault::default()).build().await.unwrap();
    let error = format!("{:?}", sealed.read().await.unwrap_err());
    assert!(error.contains("the vault is sealed"), "{error}");
    let silent = without.password_provider(Silent).build().await.unwrap();
    let error = silent.read().await.unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error:?}");
}

#[cfg(unix)]
#[tokio::test]
async fn a_password_file_is_read_anew_for_every_connection() {
    use std::os::unix::fs::PermissionsExt;
    let cluster = cluster().await;
    let path = std::env::temp_dir().join(format!("diesel-replicas-passfile-{}", std::process::id()));
    let write = |password: &str| {
        std::fs::write(&path, format!("*:*:postgres:app:{password}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    };
    write("first");
    let with_file =
        |node: &Node| NodeConfig::new(format!("{}?passfile={}", url(node), path.display())).name(node.name());
    let builder =
        Router::builder().primary(with_file(cluster.primary())).replica(with_file(cluster.replica(0)));
    let router = support::ready(builder).await;
    let held = router.read().await.unwrap();
    set_password(&cluster, "second").await;
    write("second");
    let second = router.read().await.unwrap();
    std::fs::remove_file(&path).unwrap();
    let third = router.read().await.unwrap_err().to_string();
    assert!(third.contains("cannot be read") && third.contains("passfile"), "{third}");
    drop((held, second));
}
