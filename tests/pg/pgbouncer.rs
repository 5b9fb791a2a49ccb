//! PgBouncer between the router and a node.

use crate::proxy::port;
use crate::support::{self, notes, until, until_async};
use diesel::prelude::*;
use diesel_replicas::{AssertReadOnlyDsl, HealthState, NodeConfig, Router, RunQueryDsl};
use pg_cluster::Node;
use std::io::Write;
use std::path::{Path, PathBuf};
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
    async fn start(program: &Path, before: &Node, settings: &str) -> Self {
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
        Self { port: port_here, directory, _process: process }
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

/// All that are there and wanted, those in `PGBOUNCER` and the installed one; it says so if there is none.
///
/// # Panics
///
/// When there is none and somebody `insists`.
fn programs(insists: bool, wanted: impl Fn((u32, u32)) -> bool) -> Vec<PathBuf> {
    let named = std::env::var_os("PGBOUNCER").unwrap_or_default();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let installed =
        std::env::split_paths(&path).chain(["/usr/sbin".into()]).map(|directory| directory.join("pgbouncer"));
    let installed = installed.into_iter().find(|program| program.is_file());
    let all = std::env::split_paths(&named).chain(installed);
    let wanted: Vec<_> = all.filter(|program| version(program).is_some_and(&wanted)).collect();
    if wanted.is_empty() {
        let missing = "no such PgBouncer found: install it (Debian: apt install pgbouncer), or name those that are there in PGBOUNCER";
        assert!(!insists, "{missing}");
        // Past the test harness, which shows nothing of what a passing test prints.
        let _ = writeln!(std::io::stderr(), "\nSKIPPED, not tested behind PgBouncer: {missing}");
    }
    wanted
}

fn is_ci() -> bool {
    std::env::var_os("CI").is_some_and(|ci| !ci.is_empty() && ci != "false")
}

fn has_named() -> bool {
    std::env::var_os("PGBOUNCER").is_some_and(|named| !named.is_empty())
}

/// The first two numbers.
fn version(program: &Path) -> Option<(u32, u32)> {
    let told = std::process::Command::new(program).arg("--version").output().ok()?;
    let told = String::from_utf8(told.stdout).ok()?;
    let mut numbers = told.split_whitespace().nth(1)?.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(unix)]
fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

#[tokio::test]
async fn one_that_refuses_options_is_named_with_its_remedy_and_reads_go_elsewhere() {
    for program in programs(is_ci(), |_| true) {
        is_named_with_its_remedy(&program).await;
    }
}

async fn is_named_with_its_remedy(program: &Path) {
    let cluster = support::cluster(1).await;
    let before = PgBouncer::start(program, cluster.replica(0), "").await;
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
    for program in programs(is_ci(), |_| true) {
        let before =
            PgBouncer::start(&program, cluster.primary(), "ignore_startup_parameters = options").await;
        let router = Router::builder().primary(before.url()).build().await.unwrap();
        let error = router.read().await.unwrap_err().to_string();
        assert!(error.contains("ignore_startup_parameters"), "{error}");
    }
}

/// Before a service is rolled out, what stands between it and its database need not change.
#[tokio::test]
async fn any_will_do_while_replicas_are_off() {
    for program in programs(is_ci(), |_| true) {
        does_while_replicas_are_off(&program).await;
    }
}

async fn does_while_replicas_are_off(program: &Path) {
    let cluster = support::cluster(1).await;
    let before = PgBouncer::start(program, cluster.primary(), "").await;
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

/// Version 1.21 and later, with the settings that `docs/managed.md` asks for.
#[tokio::test]
async fn one_that_passes_options_on_serves_reads_and_writes() {
    const SETTINGS: &str =
        "track_extra_parameters = default_transaction_read_only\nmax_prepared_statements = 100";
    for program in programs(has_named(), |version| version >= (1, 21)) {
        serves(&program, SETTINGS).await;
    }
}

async fn serves(program: &Path, settings: &str) {
    let cluster = support::cluster(1).await;
    let primary = PgBouncer::start(program, cluster.primary(), settings).await;
    let replica = PgBouncer::start(program, cluster.replica(0), settings).await;
    let builder = Router::builder().primary(NodeConfig::new(primary.url()).name("primary"));
    let router = support::ready(builder.replica(NodeConfig::new(replica.url()).name("replica"))).await;
    let mut read = router.read().await.unwrap();
    assert_eq!(read.node(), "replica");
    for _ in 0..3 {
        assert_eq!(notes::table.count().get_result::<i64>(&mut read).await.unwrap(), 1);
    }
    let writing = diesel::sql_query("INSERT INTO notes (body) VALUES ('no')").assert_read_only();
    let mut latest = router.read().latest().await.unwrap();
    let refused = writing.execute(&mut latest).await.unwrap_err().to_string();
    assert!(refused.contains("read-only transaction"), "{refused}");
    drop((read, latest));
    // Sessions for writes take turns with those on the same server connections.
    for round in 2..7 {
        let write = router.with_write(async |conn| {
            diesel::insert_into(notes::table).values(notes::body.eq("more")).execute(conn).await
        });
        let (written, token): (usize, _) = write.await.unwrap();
        assert_eq!(written, 1);
        let mut conn = router.read().after(&token).await.unwrap();
        assert_eq!(conn.node(), "replica");
        assert_eq!(notes::table.count().get_result::<i64>(&mut conn).await.unwrap(), round);
        let mut conn = router.read().latest().await.unwrap();
        assert_eq!(notes::table.count().get_result::<i64>(&mut conn).await.unwrap(), round);
    }
    assert!(router.status().nodes.iter().all(|node| node.failed == 0), "{:?}", router.status().nodes);
}
