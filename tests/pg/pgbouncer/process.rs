//! The process, and which programs there are. The tests of `doctor` have it as well.

use crate::support::until_async;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

/// One in transaction mode before one node. It ends with the test.
pub struct PgBouncer {
    port: u16,
    directory: PathBuf,
    _process: Child,
}

impl PgBouncer {
    /// Before the server on this port.
    pub async fn start(program: &Path, upstream: u16, settings: &str) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port_here = free.local_addr().unwrap().port();
        drop(free);
        let directory = std::env::temp_dir().join(format!("diesel-replicas-pgbouncer-{port_here}"));
        std::fs::create_dir_all(&directory).unwrap();
        let user = if is_root() { "user = nobody" } else { "" };
        let file = directory.join("pgbouncer.ini");
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

    pub fn url(&self) -> String {
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
pub fn programs(insists: bool, wanted: impl Fn((u32, u32)) -> bool) -> Vec<PathBuf> {
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

pub fn is_ci() -> bool {
    std::env::var_os("CI").is_some_and(|ci| !ci.is_empty() && ci != "false")
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
