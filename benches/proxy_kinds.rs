//! How each proxy is set: to spread connections for reading over the replicas, as its manual advises for that, and with as
//! little else to do as it can have.
//!
//! - HAProxy forwards bytes (`mode tcp`), by round robin, and checks each server as PostgreSQL every second. It has a thread a
//!   processor, as it has by default.
//! - PgBouncer goes round its list of hosts. From 1.21 on it is in transaction mode, with prepared statements tracked; before,
//!   they do not get through that mode, so that it is in session mode, where it has the least to do. It reaches the servers by
//!   their Unix sockets, since its hosts share one port; that is faster than TCP.
//! - Pgpool-II balances by session in streaming replication mode, the primary with weight 0, with its connection cache. It
//!   keeps a process ready for each client.

use crate::CONNECTIONS;
use crate::proxy::{Proxy, free_port, installed, version};
use pg_cluster::{Cluster, Node};
use std::fmt::Write;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::{fs, io};

pub(crate) const KINDS: [Kind; 3] = [
    Kind { name: "HAProxy", program: "haproxy", package: "haproxy", least: 1.3, start: haproxy },
    Kind { name: "PgBouncer", program: "pgbouncer", package: "pgbouncer", least: 1.3, start: pgbouncer },
    Kind { name: "Pgpool-II", program: "pgpool", package: "pgpool2", least: 3.0, start: pgpool },
];

pub(crate) struct Kind {
    pub(crate) name: &'static str,
    program: &'static str,
    /// Of Debian.
    pub(crate) package: &'static str,
    /// How many times its throughput the router should have.
    pub(crate) least: f64,
    start: fn(&Path, &Stage, u16) -> io::Result<Proxy>,
}

impl Kind {
    /// The installed one, or the PgBouncer that is named, as for the tests.
    pub(crate) fn program(&self) -> Option<PathBuf> {
        let named = std::env::var_os("PGBOUNCER").filter(|_| self.program == "pgbouncer").unwrap_or_default();
        let named = std::env::split_paths(&named).find(|named| named.is_file());
        named.or_else(|| installed(self.program))
    }

    /// On some port.
    pub(crate) fn start(&self, program: &Path, stage: &Stage) -> io::Result<(Proxy, u16)> {
        let port = free_port()?;
        Ok(((self.start)(program, stage, port)?, port))
    }
}

/// What the proxies stand before.
pub(crate) struct Stage {
    pub(crate) cluster: Cluster,
    /// The data directories of the replicas.
    data: Vec<PathBuf>,
}

impl Stage {
    pub(crate) async fn of(cluster: Cluster) -> Self {
        let mut data = Vec::new();
        for replica in cluster.replicas() {
            let directory = replica.sql("SHOW data_directory").await.expect("the replica is up");
            data.push(directory.expect("it has one").into());
        }
        Self { cluster, data }
    }

    /// Makes a directory for each replica, in which its Unix socket alone is, under the port that all have.
    fn sockets(&self, below: &Path) -> io::Result<Vec<String>> {
        let link = |(replica, data): (&Node, &PathBuf)| {
            let directory = below.join(replica.name());
            fs::create_dir_all(&directory)?;
            let socket = data.join(format!(".s.PGSQL.{}", port(replica)));
            symlink(socket, directory.join(format!(".s.PGSQL.{SHARED_PORT}")))?;
            Ok(directory.display().to_string())
        };
        self.cluster.replicas().iter().zip(&self.data).map(link).collect()
    }
}

/// The port of all servers for PgBouncer.
const SHARED_PORT: u16 = 5432;

pub(crate) fn port(node: &Node) -> u16 {
    let url = node.url();
    let port = url.rsplit_once(':').and_then(|(_, rest)| rest.split('/').next());
    port.and_then(|port| port.parse().ok()).expect("the URL names a port")
}

fn haproxy(program: &Path, stage: &Stage, here: u16) -> io::Result<Proxy> {
    println!("{}", version(program, "-v"));
    let mut configuration = format!(
        "defaults\n mode tcp\n timeout connect 3s\n timeout client 1h\n timeout server 1h\n\
         listen replicas\n bind 127.0.0.1:{here}\n balance roundrobin\n option pgsql-check user postgres\n \
         default-server check inter 1s\n"
    );
    for replica in stage.cluster.replicas() {
        add(&mut configuration, format_args!(" server {} 127.0.0.1:{}", replica.name(), port(replica)));
    }
    let directory = Proxy::directory("haproxy")?;
    let file = configure(&directory, &configuration)?;
    Proxy::start(directory, program, &["-db", "-f", &file])
}

fn pgbouncer(program: &Path, stage: &Stage, here: u16) -> io::Result<Proxy> {
    let version = version(program, "--version");
    let numbers = version.split_whitespace().nth(1).unwrap_or_default();
    let mut numbers = numbers.split('.').map_while(|number| number.parse::<u32>().ok());
    let tracks_prepared_statements = (numbers.next(), numbers.next()) >= (Some(1), Some(21));
    let (mode, extra) = if tracks_prepared_statements {
        ("transaction", "max_prepared_statements = 100")
    } else {
        ("session", "")
    };
    println!("{version} in {mode} mode");
    let directory = Proxy::directory("pgbouncer")?;
    let hosts = stage.sockets(&directory)?.join(",");
    // It refuses to be root, and the sockets are open to their owner alone.
    let (we, owner) = (fs::metadata("/proc/self")?.uid(), fs::metadata(&stage.data[0])?.uid());
    let user = if owner == we { String::new() } else { format!("user = {}", user_name(owner)?) };
    let configuration = format!(
        "[databases]\npostgres = host={hosts} port={SHARED_PORT} user=postgres\n\
         [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {here}\nunix_socket_dir =\nauth_type = any\n\
         pool_mode = {mode}\n{extra}\ndefault_pool_size = {CONNECTIONS}\n{user}\n"
    );
    let file = configure(&directory, &configuration)?;
    Proxy::start(directory, program, &[&file])
}

fn pgpool(program: &Path, stage: &Stage, here: u16) -> io::Result<Proxy> {
    println!("{}", version(program, "--version"));
    let directory = Proxy::directory("pgpool")?;
    let (place, control) = (directory.display(), free_port()?);
    let mut configuration = format!(
        "listen_addresses = '127.0.0.1'\nport = {here}\npcp_port = {control}\nsocket_dir = '{place}'\n\
         pcp_socket_dir = '{place}'\npid_file_name = '{place}/pid'\nlogdir = '{place}'\n\
         backend_clustering_mode = 'streaming_replication'\nsr_check_user = 'postgres'\nload_balance_mode = on\n\
         num_init_children = {}\nmax_pool = 1\nconnection_cache = on\n",
        // Some are still busy with clients that have gone.
        CONNECTIONS + 8
    );
    for (i, node) in stage.cluster.nodes().iter().enumerate() {
        let (port, weight) = (port(node), usize::from(i > 0));
        add(&mut configuration, format_args!("backend_hostname{i} = '127.0.0.1'\nbackend_port{i} = {port}"));
        add(&mut configuration, format_args!("backend_weight{i} = {weight}"));
    }
    let file = configure(&directory, &configuration)?;
    Proxy::start(directory, program, &["-n", "-f", &file])
}

fn add(configuration: &mut String, lines: std::fmt::Arguments) {
    // Writing to a string does not fail.
    let _ = writeln!(configuration, "{lines}");
}

/// Writes the configuration of a proxy, and says where.
fn configure(directory: &Path, configuration: &str) -> io::Result<String> {
    let file = directory.join("configuration");
    fs::write(&file, configuration)?;
    Ok(file.display().to_string())
}

fn user_name(uid: u32) -> io::Result<String> {
    let users = fs::read_to_string("/etc/passwd")?;
    let mut fields = users.lines().map(|line| line.split(':'));
    let found = fields.find_map(|mut fields| {
        let name = fields.next()?;
        (fields.nth(1)? == uid.to_string()).then(|| name.to_owned())
    });
    found.ok_or_else(|| io::Error::other(format!("user {uid} has no name")))
}
