//! Nothing is left behind, however the process that started a cluster ends.
//!
//! Each test runs this program again as a child of its own, which starts a cluster and ends in one certain way.

#![allow(clippy::unwrap_used)]

use std::{
    env,
    io::{BufRead, BufReader},
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use pg_cluster::{Cluster, Error};
use rustix::process::{Pid, Signal, kill_process_group};

/// How the child ends.
const END: &str = "PG_CLUSTER_TEST_END";

/// What the child tells of its cluster, so that it can be looked for when the child is gone.
const FACTS: &str = "cluster: ";

#[test]
fn a_dropped_cluster_is_removed() {
    let (left, status) = run("return", None);
    assert!(status.success(), "{status}");
    left.assert_nothing();
}

#[test]
fn a_panic_leaves_nothing() {
    let (left, status) = run("panic", None);
    assert_eq!(status.code(), Some(101), "{status}");
    left.assert_nothing();
}

#[test]
fn the_end_of_the_process_leaves_nothing_of_a_leaked_cluster() {
    let (left, status) = run("exit", None);
    assert_eq!(status.code(), Some(3), "{status}");
    left.assert_nothing();
}

#[test]
fn an_interrupted_process_leaves_nothing() {
    let (left, status) = run("wait", Some(Signal::INT));
    assert_eq!(status.signal(), Some(2), "{status}");
    left.assert_nothing();
}

#[test]
fn a_terminated_process_leaves_nothing() {
    let (left, status) = run("wait", Some(Signal::TERM));
    assert_eq!(status.signal(), Some(15), "{status}");
    left.assert_nothing();
}

/// With one node frozen and the other killed, which need more than a signal to be removed.
#[test]
fn a_killed_process_leaves_nothing() {
    let (left, status) = run("frozen", Some(Signal::KILL));
    assert_eq!(status.signal(), Some(9), "{status}");
    left.assert_nothing();
}

/// Runs the child to its end. A signal goes to its whole process group, as a terminal's does on Ctrl-C.
fn run(end: &str, signal: Option<Signal>) -> (Left, ExitStatus) {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "child", "--ignored", "--nocapture"])
        .env(END, end)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap();
    let facts = read_facts(&mut child);
    let left = Left::of(&facts);
    left.assert_runs();
    if let Some(signal) = signal {
        kill_process_group(Pid::from_child(&child), signal).unwrap();
    } else {
        drop(child.stdin.take());
    }
    let status = child.wait().unwrap();
    (left, status)
}

fn read_facts(child: &mut Child) -> String {
    let output = BufReader::new(child.stdout.as_mut().unwrap());
    let line = output.lines().map(Result::unwrap).find(|line| line.contains(FACTS));
    line.expect("the child starts a cluster").split_once(FACTS).unwrap().1.to_owned()
}

/// What there would be if something were left.
enum Left {
    Processes { base: PathBuf },
    Containers { cluster: String, volumes: Vec<String> },
}

impl Left {
    fn of(facts: &str) -> Self {
        let (directory, conninfo) = facts.split_once(' ').unwrap();
        let host = conninfo.split(' ').find_map(|word| word.strip_prefix("host=")).unwrap();
        match host.strip_suffix("-primary") {
            Some(cluster) => {
                let containers = engine(&["ps", "--quiet", "--all", "--filter", &format!("name={cluster}")]);
                let volume = "{{range .Mounts}}{{.Name}} {{end}}";
                let volumes = containers.iter().flat_map(|id| engine(&["inspect", "--format", volume, id]));
                Self::Containers { cluster: cluster.to_owned(), volumes: volumes.collect() }
            }
            None => Self::Processes { base: Path::new(directory).parent().unwrap().to_owned() },
        }
    }

    fn all(&self) -> Vec<String> {
        match self {
            Self::Processes { base } => {
                let inside = |path: &PathBuf| path.to_string_lossy().starts_with(&*base.to_string_lossy());
                let processes = Path::new("/proc").read_dir().unwrap().flatten();
                let directories = processes.filter_map(|entry| entry.path().join("cwd").read_link().ok());
                let processes =
                    directories.filter(inside).map(|path| format!("process in {}", path.display()));
                let directory = base.exists().then(|| base.display().to_string());
                processes.chain(directory).chain(control_groups(base)).collect()
            }
            Self::Containers { cluster, volumes } => {
                let mut left = engine(&["ps", "--quiet", "--all", "--filter", &format!("name={cluster}")]);
                left.extend(engine(&["network", "ls", "--quiet", "--filter", &format!("name={cluster}")]));
                let there = engine(&["volume", "ls", "--quiet"]);
                left.extend(volumes.iter().filter(|volume| there.contains(volume)).cloned());
                left
            }
        }
    }

    fn assert_runs(&self) {
        let all = self.all();
        // Two nodes of several processes each and a directory, or two containers, their volumes and a network.
        assert!(all.len() >= 5, "{all:?}");
    }

    fn assert_nothing(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.all().is_empty() {
            assert!(Instant::now() < deadline, "{:?}", self.all());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Those of the cluster have the name of its directory.
fn control_groups(base: &Path) -> Vec<String> {
    let mut find = Command::new("find");
    find.args(["/sys/fs/cgroup", "-type", "d", "-name"]).arg(base.file_name().unwrap());
    // Groups of others that go while it looks, or no groups at all, make it fail.
    let found = String::from_utf8(find.stderr(Stdio::null()).output().unwrap().stdout).unwrap();
    found.lines().map(str::to_owned).collect()
}

fn engine(args: &[&str]) -> Vec<String> {
    let output =
        Command::new("docker").args(args).output().or_else(|_| Command::new("podman").args(args).output());
    let output = String::from_utf8(output.unwrap().stdout).unwrap();
    output.split_whitespace().map(str::to_owned).collect()
}

/// Not a test: the process that the tests above start.
#[test]
#[ignore = "run by the other tests"]
fn child() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let end = env::var(END).expect("the other tests say how to end");
    let cluster = runtime.block_on(async {
        let builder = Cluster::builder().replicas(1);
        let cluster = match builder.clone().cpu_limit(0.5).start().await {
            // Then there are no control groups to leave behind.
            Err(Error::CpuLimit { .. }) => builder.start().await.unwrap(),
            started => started.unwrap(),
        };
        if end == "frozen" {
            cluster.primary().freeze().await.unwrap();
        }
        let replica = cluster.replica(0);
        let facts = "SELECT current_setting('data_directory') || ' ' || current_setting('primary_conninfo')";
        println!("{FACTS}{}", replica.sql(facts).await.unwrap().unwrap());
        if end == "frozen" {
            replica.kill().await.unwrap();
        }
        cluster
    });
    // Until the test has seen that the cluster is there.
    std::io::stdin().read_line(&mut String::new()).unwrap();
    match end.as_str() {
        // Outside of a runtime.
        "return" => drop(cluster),
        "panic" => panic!("on purpose"),
        "exit" => {
            std::mem::forget(cluster);
            std::process::exit(3);
        }
        end => panic!("ending by {end} is up to the test"),
    }
}
