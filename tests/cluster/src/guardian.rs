//! Nothing is left behind. A small shell process of its own process group holds the reading end of a pipe whose writing end only
//! we hold. However we end (return, panic, `exit`, Ctrl-C, `SIGKILL`), the kernel closes the pipe, and the guardian cleans up.

use std::{
    io::{BufRead, BufReader, ErrorKind},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
};

use crate::{Error, account::Account};

const LOCAL: &str = include_str!("guardian/local.sh");
const GROUPS: &str = include_str!("guardian/groups.sh");
#[cfg(feature = "containers")]
const CONTAINERS: &str = include_str!("guardian/containers.sh");

/// Dropping it sets it off without waiting for it.
#[derive(Debug)]
pub(crate) struct Guardian {
    process: Option<Child>,
}

impl Guardian {
    /// Makes `base`, a directory of the servers' account, and watches over it.
    ///
    /// The guardian runs as that account: it may then look at the servers' working directories and remove their files
    /// even where root is a root without privileges, as in a container.
    pub(crate) fn of_directory(base: &Path, account: Option<Account>, keep: bool) -> Result<Self, Error> {
        let mut command = Command::new("sh");
        command.args(["-c", LOCAL, "pg-cluster-guardian"]).arg(base).arg(if keep {
            "keep"
        } else {
            "remove"
        });
        if let Some(account) = account {
            account.run(&mut command);
        }
        Self::spawn(command, &format!("make the directory {}", base.display()))
    }

    /// Watches over the control groups of a cluster, which only the user that makes them may remove. They have to be empty for it,
    /// which is up to the guardian of the directory.
    pub(crate) fn of_groups(cluster: &Path) -> Result<Self, Error> {
        let mut command = Command::new("sh");
        command.args(["-c", GROUPS, "pg-cluster-guardian"]).arg(cluster);
        Self::spawn(command, "watch over control groups")
    }

    /// Watches over the containers and the network of a cluster. Blocks while it looks for a command that reaches the engine.
    #[cfg(feature = "containers")]
    pub(crate) fn of_containers(cluster: &str) -> Result<Self, Error> {
        let mut command = Command::new("sh");
        command.args(["-c", CONTAINERS, "pg-cluster-guardian", cluster]);
        Self::spawn(command, "list containers with `docker` or `podman`, which removing them takes")
    }

    /// Returns once the guardian has said that it is ready.
    fn spawn(mut command: Command, action: &str) -> Result<Self, Error> {
        let mut process = command
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(Error::io("start `sh` to clean up after the cluster"))?;
        let output = process.stdout.take();
        let guardian = Self { process: Some(process) };
        let mut word = String::new();
        if let Some(output) = output {
            BufReader::new(output).read_line(&mut word).map_err(Error::io(action))?;
        }
        if word.trim_end() == "ready" {
            Ok(guardian)
        } else {
            Err(Error::io(action)(ErrorKind::PermissionDenied.into()))
        }
    }

    /// Cleans up, and returns when that is done.
    pub(crate) fn dismiss(mut self) {
        if let Some(mut process) = self.process.take() {
            finish(&mut process);
        }
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            drop(process.stdin.take());
            // The thread only keeps the zombie away; where it cannot be started the cleaning goes on all the same.
            let _ = thread::Builder::new().spawn(move || finish(&mut process));
        }
    }
}

fn finish(process: &mut Child) {
    // `wait` closes the pipe first. It fails only when somebody else has waited for the process.
    let _ = process.wait();
}
