//! A proxy that ends with this process, however this process ends.

use std::io;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Runs a program until standard input ends, which it does when whoever holds the other end of the pipe ends. Then everything
/// in the process group is killed, which is what the program has started as well, and the directory is removed.
const GUARDED: &str = r#"
directory=$1
shift
"$@" </dev/null >"$directory/log" 2>&1 &
cat >/dev/null
rm -rf "$directory"
kill -KILL 0
"#;

pub(crate) struct Proxy {
    process: Child,
    directory: PathBuf,
}

impl Proxy {
    /// A directory for a proxy's files, which is removed when it ends.
    pub(crate) fn directory(name: &str) -> io::Result<PathBuf> {
        let directory = std::env::temp_dir().join(format!("diesel-replicas-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&directory)?;
        Ok(directory)
    }

    pub(crate) fn start(directory: PathBuf, program: &Path, arguments: &[&str]) -> io::Result<Self> {
        let mut command = Command::new("sh");
        command.args(["-c", GUARDED, "sh"]).arg(&directory).arg(program).args(arguments);
        // Ctrl-C is for us.
        let process = command.process_group(0).stdin(Stdio::piped()).spawn()?;
        Ok(Self { process, directory })
    }

    /// What it has said so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        // Fails only when somebody else has waited for it.
        let _ = self.process.wait();
    }
}

/// In one of the directories for programs.
pub(crate) fn installed(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
    directories.map(|directory| directory.join(program)).find(|program| program.is_file())
}

/// The first line of what a program says of itself.
pub(crate) fn version(program: &Path, argument: &str) -> String {
    let output = Command::new(program).arg(argument).output();
    let text = output.map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
    String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_owned()
}

/// A port that nobody listens on.
pub(crate) fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
