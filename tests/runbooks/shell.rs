//! The shell of the person on call.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

/// No block may take longer.
const PATIENCE: Duration = Duration::from_secs(100);

/// Where commands run: as the account of the servers, with the variables and the functions of the index.
pub struct Shell {
    pub directory: PathBuf,
    /// Where PostgreSQL's programs are.
    pub programs: PathBuf,
    pub functions: String,
    pub variables: BTreeMap<String, String>,
}

impl Shell {
    /// What the commands print, on both outputs.
    ///
    /// # Panics
    ///
    /// When one fails, or they do not end.
    pub async fn run(&self, place: &str, commands: &str) -> String {
        let mut bash = Command::from(self.bash(&format!("exec 2>&1\n{commands}")));
        bash.kill_on_drop(true);
        let output = tokio::time::timeout(PATIENCE, bash.output()).await;
        let output = output.unwrap_or_else(|_| panic!("{place} does not end:\n{commands}")).unwrap();
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let said = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            panic!("{place}: {}\n{commands}\nprinted:\n{printed}{said}\n{}", output.status, self.logs());
        }
        printed
    }

    /// The end of what each server logged.
    fn logs(&self) -> String {
        let files = std::fs::read_dir(&self.directory).unwrap().map(|file| file.unwrap().path());
        let logs = files.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
        let ends = logs.map(|path| {
            let log = std::fs::read(&path).unwrap_or_default();
            let log = String::from_utf8_lossy(&log);
            let lines: Vec<_> = log.lines().collect();
            format!("{}:\n{}\n", path.display(), lines[lines.len().saturating_sub(15)..].join("\n"))
        });
        ends.collect()
    }

    /// An installation that is not the system's may have its own libraries. Its servers would take the system's libpq, which may be
    /// older than they need; other programs do with a newer one.
    pub fn use_libraries_of(&mut self, programs: &Path) {
        let libraries = programs.with_file_name("lib");
        if libraries.join("libpq.so.5").exists() {
            self.variables.insert("LD_LIBRARY_PATH".into(), libraries.display().to_string());
        }
    }

    /// Asks a server, as a person would.
    pub async fn ask(&self, url: &str, sql: &str) -> String {
        self.run("a question", &format!("psql -XqAt -v ON_ERROR_STOP=1 '{url}' <<'END'\n{sql}\nEND")).await
    }

    /// Writes a file that the account may change.
    pub async fn write(&self, path: &Path, text: &str) {
        self.run("a file", &format!("cat >'{}' <<'END'\n{text}END", path.display())).await;
    }

    /// Runs commands where nobody can wait for them in another way. That they fail is as well.
    pub fn run_at_last(&self, commands: &str) {
        let _ = self.bash(commands).status();
    }

    fn bash(&self, commands: &str) -> std::process::Command {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = self.account();
        command
            .args(["bash", "-euo", "pipefail", "-c", &format!("{}\n{commands}", self.functions)])
            .env_clear()
            .envs(&self.variables)
            .env("PATH", format!("{}:{path}", self.programs.display()))
            .env("LC_ALL", "C")
            .env("HOME", &self.directory)
            .current_dir(&self.directory)
            .stdin(Stdio::null());
        command
    }

    /// Root may not run servers; who owns them may. To tell the service something, that account gets what `sudo` would give it.
    fn account(&self) -> std::process::Command {
        if !is_root() {
            return std::process::Command::new("env");
        }
        let owner = std::fs::metadata(&self.directory).unwrap();
        let mut command = std::process::Command::new("setpriv");
        command.args([format!("--reuid={}", owner.uid()), format!("--regid={}", owner.gid())]);
        command.args(["--clear-groups", "--inh-caps=+kill", "--ambient-caps=+kill"]);
        command
    }
}

pub fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}
