//! PgBouncer between the router and a node.

use crate::proxy::port;
use crate::support::{self, notes, until, until_async};
use diesel::prelude::*;
use diesel_replicas::{HealthState, NodeConfig, Router, RunQueryDsl};
use pg_cluster::Node;
use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

/// One in transaction mode before one node. It ends with the test.
struct PgBouncer {
    port: u16,
    directory: PathBuf,
    _process: Child,
}

impl PgBouncer {
    /// Unless it is not installed and nobody insists.
    ///
    /// # Panics
    ///
    /// In CI, when it is not there.
    async fn start(before: &Node, settings: &str) -> Option<Self> {
        let Some(program) = installed() else {
            let missing = "no PgBouncer found: install it (Debian: apt install pgbouncer)";
            assert!(std::env::var_os("CI").is_none_or(|ci| ci.is_empty() || ci == "false"), "{missing}");
            // Past the test harness, which shows nothing of what a passing test prints.
            let _ = writeln!(std::io::stderr(), "\nSKIPPED, nothing is tested behind PgBouncer: {missing}");
            return None;
        };
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port_here = free.local_addr().unwrap().port();
        drop(free);
        let directory = std::env::temp_dir().join(format!("diesel-replicas-pgbouncer-{port_here}"));
        std::fs::create_dir_all(&directory).unwrap();
        let user = if is_root() { "user = nobody" } else { "" };
        let (upstream, file) = (port(&before.url()), directory.join("pgbouncer.ini"));
        let text = format!(
            "[databases]\npostgres = host=127.0.0.1 port={upstream} user=postgres\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port_here}\nunix_socket_dir =\nauth_type = any\n\
             pool_mode = transaction\n{user}\n{settings}\n"
        );
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new(program);
        command
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        let process = command.spawn().unwrap();
        until_async("PgBouncer listens", async || TcpStream::connect(("127.0.0.1", port_here)).await.is_ok())
            .await;
        Some(Self { port: port_here, directory, _process: process })
    }

    fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn installed() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut directories = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
    directories.find_map(|directory| Some(directory.join("pgbouncer")).filter(|program| program.is_file()))
}

#[cfg(unix)]
fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

#[tokio::test]
async fn one_that_refuses_options_is_named_with_its_remedy_and_reads_go_elsewhere() {
    let cluster = support::cluster(1).await;
    let Some(before) = PgBouncer::start(cluster.replica(0), "").await else { return };
    let builder = Router::builder().primary(NodeConfig::new(cluster.primary().url()).name("primary"));
    let router = builder.replica(NodeConfig::new(before.url()).name("pooled")).build().await.unwrap();
    let remedy = "track_extra_parameters = default_transaction_read_only";
    until("the node says why", || support::status(&router, "pooled").reason.to_string().contains(remedy))
        .await;
    assert_ne!(support::status(&router, "pooled").health, HealthState::Healthy);
    let mut conn = router.read().await.unwrap();
    assert_eq!(conn.node(), "primary");
    assert_eq!(notes::table.count().get_result::<i64>(&mut conn).await.unwrap(), 1);

    let alone = Router::builder().primary(before.url()).build().await.unwrap();
    let error = alone.read().await.unwrap_err().to_string();
    assert!(error.contains(remedy), "{error}");
}

#[tokio::test]
async fn one_that_drops_options_serves_no_reads() {
    let cluster = support::cluster(0).await;
    let before = PgBouncer::start(cluster.primary(), "ignore_startup_parameters = options").await;
    let Some(before) = before else { return };
    let router = Router::builder().primary(before.url()).build().await.unwrap();
    let error = router.read().await.unwrap_err().to_string();
    assert!(error.contains("ignore_startup_parameters"), "{error}");
}

/// Before a service is rolled out, what stands between it and its database need not change.
#[tokio::test]
async fn any_will_do_while_replicas_are_off() {
    let cluster = support::cluster(1).await;
    let Some(before) = PgBouncer::start(cluster.primary(), "").await else { return };
    let builder = Router::builder().primary(before.url()).replica(cluster.replica(0).url());
    let router = support::ready(builder.clone().read_replicas_enabled(false)).await;
    let mut conn = router.read().await.unwrap();
    assert_eq!(notes::table.count().get_result::<i64>(&mut conn).await.unwrap(), 1);
    drop(conn);
    let mut conn = router.write().await.unwrap();
    let row = diesel::insert_into(notes::table).values(notes::body.eq("second"));
    assert_eq!(row.execute(&mut conn).await.unwrap(), 1);
    drop(conn);
    // Switched on, it keeps read-only sessions from the primary alone.
    router.reload(builder.config().unwrap()).await.unwrap();
    until("the replica serves", || router.status().nodes[1].health == HealthState::Healthy).await;
    assert_ne!(router.read().await.unwrap().node(), router.status().nodes[0].name);
    router.write().await.unwrap();
    let refused = router.read().latest().await.unwrap_err().to_string();
    assert!(refused.contains("track_extra_parameters"), "{refused}");
}
