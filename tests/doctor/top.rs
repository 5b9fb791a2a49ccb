//! `diesel-replicas top` in a real terminal, which tmux provides.

use crate::pgbouncer::is_ci;
use crate::support::{self, SECRET, environment, until_async};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A terminal of its own, in which the program runs. It ends with the test.
struct Terminal {
    /// The name of tmux's socket: nobody else's server has it.
    server: String,
    /// Where the program's process says who it is.
    process: PathBuf,
}

impl Terminal {
    /// `None` where there is no tmux, and says so.
    ///
    /// # Panics
    ///
    /// When there is none in CI.
    fn open(environment: &[(String, String)]) -> Option<Self> {
        if Command::new("tmux").arg("-V").output().is_err() {
            assert!(!is_ci(), "no tmux found: install it");
            // Past the test harness, which shows nothing of what a passing test prints.
            let _ = writeln!(std::io::stderr(), "\nSKIPPED, not tested in a terminal: no tmux found");
            return None;
        }
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let unique = NEXT.fetch_add(1, Ordering::Relaxed);
        let server = format!("diesel-replicas-{}-{unique}", std::process::id());
        let process = std::env::temp_dir().join(&server);
        let variables: String =
            environment.iter().map(|(name, value)| format!("{name}='{value}' ")).collect();
        let program = env!("CARGO_BIN_EXE_diesel-replicas");
        let script = format!(
            "echo before; {variables} sh -c 'echo $$ > {}; exec {program} top --every 0.2'; echo status $?; exec cat",
            process.display()
        );
        let terminal = Self { server, process };
        let opened =
            terminal.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", "120", "-y", "30", &script]);
        assert!(opened.status.success(), "{opened:?}");
        Some(terminal)
    }

    fn tmux(&self, arguments: &[&str]) -> Output {
        Command::new("tmux").args(["-L", &self.server]).args(arguments).output().unwrap()
    }

    fn shown(&self) -> String {
        let shown = String::from_utf8(self.tmux(&["capture-pane", "-p"]).stdout).unwrap();
        assert!(!shown.contains(SECRET), "{shown}");
        shown
    }

    async fn until(&self, what: &str, holds: impl Fn(&str) -> bool) {
        until_async(what, async || holds(&self.shown())).await;
    }

    fn press(&self, key: &str) {
        self.tmux(&["send-keys", key]);
    }

    /// Waits until the program has ended, and looks whether it has left the terminal as it was.
    async fn until_left(&self) {
        self.until("the program has ended well", |shown| shown.contains("status 0")).await;
        assert!(self.shown().starts_with("before\nstatus 0\n"), "{}", self.shown());
        let flags = self.tmux(&["display-message", "-p", "#{alternate_on} #{cursor_flag}"]).stdout;
        assert_eq!(String::from_utf8(flags).unwrap().trim(), "0 1", "the screen and the cursor");
        // Only a terminal that echoes shows it, and only one in lines gives it to `cat`, which repeats it.
        self.tmux(&["send-keys", "echoed", "Enter"]);
        self.until("the terminal echoes", |shown| shown.matches("echoed").count() == 2).await;
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
        let _ = std::fs::remove_file(&self.process);
    }
}

/// Whether a line begins with this node and has these words.
fn says(shown: &str, node: &str, words: &str) -> bool {
    shown.lines().any(|line| line.starts_with(node) && line.contains(words))
}

#[tokio::test]
async fn it_shows_what_becomes_of_the_nodes_and_leaves_the_terminal_as_it_was() {
    let cluster = support::cluster(2).await;
    let Some(terminal) = Terminal::open(&environment(&cluster)) else { return };
    terminal
        .until("all nodes are healthy", |shown| {
            let healthy = |node| says(shown, node, "healthy") && says(shown, node, "/97");
            ["primary", "replica1", "replica2"].into_iter().all(healthy)
        })
        .await;
    assert!(terminal.shown().contains("writes go to primary"));
    cluster.replica(0).freeze().await.unwrap();
    cluster.replica(1).pause_replay().await.unwrap();
    cluster.primary().sql("INSERT INTO notes VALUES ('new')").await.unwrap();
    terminal.until("one is frozen", |shown| says(shown, "replica1", "unreachable")).await;
    terminal.until("one lags", |shown| says(shown, "replica2", "lagging")).await;
    terminal.until("the doctor has found it", |shown| says(shown, "problem", "replay is paused")).await;
    terminal.press("q");
    terminal.until_left().await;
    cluster.replica(0).thaw().await.unwrap();
}

#[tokio::test]
async fn ctrl_c_and_a_request_to_end_end_it_as_well() {
    let cluster = support::cluster(0).await;
    for how in ["C-c", "TERM"] {
        let Some(terminal) = Terminal::open(&environment(&cluster)) else { return };
        terminal.until("it runs", |shown| says(shown, "primary", "healthy")).await;
        match how {
            "TERM" => {
                let process = std::fs::read_to_string(&terminal.process).unwrap();
                Command::new("kill").args(["-TERM", process.trim()]).status().unwrap();
            }
            key => terminal.press(key),
        }
        terminal.until_left().await;
    }
}

#[tokio::test]
async fn it_runs_without_any_server() {
    let nowhere = [("DATABASE_URL".to_owned(), format!("postgres://app:{SECRET}@127.0.0.1:1/chat"))];
    let Some(terminal) = Terminal::open(&nowhere) else { return };
    terminal.until("it says why", |shown| says(shown, "127.0.0.1:1", "Connection refused")).await;
    tokio::time::timeout(Duration::from_secs(20), async {
        terminal.press("q");
        terminal.until_left().await;
    })
    .await
    .unwrap();
}
