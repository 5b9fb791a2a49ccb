//! A cluster as a stranger has it, and the chat service on it.

use crate::runbook;
use crate::service::{Service, command, name_of};
use crate::shell::{Shell, is_root};
use pg_cluster::{Backend, Cluster, ClusterBuilder, Node};
use std::collections::BTreeMap;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What the variables of each server begin with, and what the service calls it. The last two are yet to be.
pub const SERVERS: [(&str, &str); 5] =
    [("PRIMARY", "db-1"), ("REPLICA", "db-2"), ("OTHER", "db-3"), ("NEW", "db-4"), ("NEW_REPLICA", "db-5")];

pub struct Stage {
    pub cluster: Cluster,
    pub service: Service,
    pub shell: Shell,
}

impl Stage {
    /// A primary and two replicas, and the service on them; `None` where that cannot be had and nobody insists.
    pub async fn set() -> Option<Self> {
        let needed = ["bash", "curl"].into_iter().chain(is_root().then_some("setpriv"));
        let missing = { needed }.find(|program| !is_there(program));
        if let Some(program) = missing {
            left_out(&format!("{program} is not installed"));
            return None;
        }
        let cluster = start(Cluster::builder().replicas(2)).await?;
        let shell = shell_on(&cluster).await;
        with_slots(&cluster).await;
        cluster.primary().sql("CREATE DATABASE chat").await.unwrap();
        let lsn = cluster.primary().position().await.unwrap().lsn;
        for replica in cluster.replicas() {
            cluster.wait_replayed(replica, lsn).await.unwrap();
        }
        let service = serve(&shell).await;
        let mut stage = Self { cluster, service, shell };
        let pid = stage.service.pid().to_string();
        stage.shell.variables.insert("SERVICE_PID".into(), pid);
        stage.shell.variables.insert("SERVICE".into(), format!("http://{}", stage.service.address()));
        Some(stage)
    }

    pub fn variable(&self, name: &str) -> &str {
        self.shell.variables.get(name).unwrap_or_else(|| panic!("there is no ${name}"))
    }
}

/// A server that a runbook has made with `initdb` has shared memory in the system's keeping, which it gives back if it is stopped.
impl Drop for Stage {
    fn drop(&mut self) {
        for data in ["NEW_PGDATA", "NEW_REPLICA_PGDATA"].map(|name| self.variable(name)) {
            if Path::new(data).join("postmaster.pid").exists() {
                self.shell.run_at_last(&format!("pg_ctl -D '{data}' -m immediate -w stop >/dev/null"));
            }
        }
    }
}

/// Servers whose programs can be run here, which those in containers are not.
async fn start(builder: ClusterBuilder) -> Option<Cluster> {
    let builder = builder
        // The commits that were acknowledged survive the loss of one server.
        .setting("synchronous_standby_names", "ANY 1 (*)")
        .setting("wal_level", "logical")
        .setting("wal_log_hints", "on")
        // What holds back replay does so until somebody ends it.
        .setting("max_standby_streaming_delay", "-1");
    let local = builder.clone().backend(Backend::Local).start().await;
    let started = match local {
        Err(pg_cluster::Error::NothingToRun { .. }) => builder.backend(Backend::Wheel).start().await,
        started => started,
    };
    match started {
        Ok(cluster) => Some(cluster),
        Err(error @ (pg_cluster::Error::NothingToRun { .. } | pg_cluster::Error::Unavailable { .. })) => {
            left_out(&error.to_string());
            None
        }
        Err(error) => panic!("{error}"),
    }
}

async fn shell_on(cluster: &Cluster) -> Shell {
    let mut variables = BTreeMap::new();
    let ask = async |node: &Node, sql: &str| PathBuf::from(node.sql(sql).await.unwrap().unwrap());
    let directory = ask(cluster.primary(), "SHOW data_directory").await.parent().unwrap().to_owned();
    let owner = std::fs::metadata(&directory).unwrap();
    for (index, (server, name)) in SERVERS.into_iter().enumerate() {
        let (host, port, data) = match cluster.nodes().get(index) {
            Some(node) => {
                let place = name_of(node);
                let (host, port) = place.rsplit_once(':').unwrap();
                (host.to_owned(), port.parse().unwrap(), ask(node, "SHOW data_directory").await)
            }
            None => ("127.0.0.1".to_owned(), free_port(), directory.join(name)),
        };
        // Servers that are started by hand write to it as well.
        if let Ok(log) = std::fs::File::open(data.with_extension("log")) {
            std::os::unix::fs::fchown(log, Some(owner.uid()), Some(owner.gid())).unwrap();
        }
        let url = format!("postgres://postgres@{host}:{port}/chat");
        variables.extend([
            (format!("{server}_NODE"), name.to_owned()),
            (format!("{server}_APP"), format!("{url}?node_name={name}")),
            (format!("{server}_PGDATA"), data.display().to_string()),
            (format!("{server}_SLOT"), name.replace('-', "_")),
            (format!("{server}_PORT"), port.to_string()),
            (server.to_owned(), url),
        ]);
    }
    variables.insert("SERVICE_ENV".into(), directory.join("chat.env").display().to_string());
    let bin = "SELECT setting FROM pg_config WHERE name = 'BINDIR'";
    let programs = ask(cluster.primary(), bin).await;
    let mut shell =
        Shell { directory, programs: programs.clone(), functions: runbook::functions(), variables };
    shell.use_libraries_of(&programs);
    shell
}

/// As most clusters have it: each replica streams through a slot, and each server knows its port by itself.
async fn with_slots(cluster: &Cluster) {
    for (node, (_, name)) in cluster.nodes().iter().zip(SERVERS) {
        let port = name_of(node).rsplit_once(':').unwrap().1.to_owned();
        node.sql(&format!("ALTER SYSTEM SET port = {port}")).await.unwrap();
        node.sql(&format!("ALTER SYSTEM SET cluster_name = '{name}'")).await.unwrap();
    }
    for (node, (_, name)) in cluster.replicas().iter().zip(&SERVERS[1..]) {
        let slot = name.replace('-', "_");
        let create = format!("SELECT pg_create_physical_replication_slot('{slot}')");
        cluster.primary().sql(&create).await.unwrap();
        node.sql(&format!("ALTER SYSTEM SET primary_slot_name = '{slot}'")).await.unwrap();
        node.sql("SELECT pg_reload_conf()").await.unwrap();
        let active = format!("SELECT active FROM pg_replication_slots WHERE slot_name = '{slot}'");
        crate::until("the slot is used", async || {
            cluster.primary().sql(&active).await.unwrap().as_deref() == Some("t")
        })
        .await;
    }
}

async fn serve(shell: &Shell) -> Service {
    let file = Path::new(&shell.variables["SERVICE_ENV"]);
    let [primary, replica, other] =
        ["PRIMARY_APP", "REPLICA_APP", "OTHER_APP"].map(|url| &shell.variables[url]);
    let settings = format!(
        "DATABASE_URL={primary}\n\
         DB_READ_REPLICA_URLS={replica},{other}\n\
         DB_READ_REPLICAS_ENABLED=true\n\
         DB_READ_REPLICAS_PERCENT=100\n\
         DB_SHADOW_PERCENT=0\n"
    );
    shell.write(file, &settings).await;
    let mut command = command();
    command.env("CHAT_ENV_FILE", file);
    let service = Service::start(command).await;
    service.ready().await;
    service
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

/// Says that a test was not run.
///
/// # Panics
///
/// In CI, where a test that is silently left out proves nothing.
pub fn left_out(why: &str) {
    let is_ci = std::env::var_os("CI").is_some_and(|ci| !ci.is_empty() && ci != "false");
    assert!(!is_ci, "{why}");
    // Past the test harness, which shows nothing of what a passing test prints.
    let _ = writeln!(std::io::stderr(), "\nSKIPPED, a runbook is not run: {why}");
}
