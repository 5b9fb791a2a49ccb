//! Servers as processes of this machine.

use std::{
    fs::{self, File},
    io,
    net::TcpListener,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::{Arc, OnceLock},
    time::Duration,
};

use rustix::process::Signal;
use tokio::{
    sync::Mutex,
    task,
    time::{Instant, sleep},
};

use crate::{
    Error,
    account::Account,
    cpu::Groups,
    installation::{self, Installation},
    processes,
    server::StopMode,
    settings::{self, Setting},
    template::Template,
};

const LOOPBACK: &str = "127.0.0.1";

/// How long a server may take to start or to end. Both take tens of milliseconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the servers of one cluster have in common.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) installation: Installation,
    pub(crate) account: Option<Account>,
    pub(crate) base: PathBuf,
    pub(crate) settings: Vec<Setting>,
    pub(crate) template: Template,
    /// With which the CPU is limited, if it is.
    pub(crate) groups: Option<Groups>,
}

/// One server. Its levers wait for one another: whoever holds the process holds the server.
#[derive(Debug)]
pub(crate) struct LocalServer {
    host: Arc<Host>,
    name: String,
    /// Chosen at the first start and kept from then on.
    port: OnceLock<u16>,
    postmaster: Mutex<Option<Child>>,
}

impl LocalServer {
    pub(crate) fn new(host: Arc<Host>, name: String) -> Self {
        Self { host, name, port: OnceLock::new(), postmaster: Mutex::new(None) }
    }

    /// Where clients and other nodes reach it; port 0 until it has started for the first time.
    pub(crate) fn address(&self) -> (String, u16) {
        (LOOPBACK.to_owned(), self.port.get().copied().unwrap_or(0))
    }

    fn data(&self) -> PathBuf {
        self.host.base.join(&self.name)
    }

    fn log(&self) -> PathBuf {
        self.host.base.join(format!("{}.log", self.name))
    }

    pub(crate) async fn log_tail(&self) -> String {
        let log = fs::read(self.log()).unwrap_or_default();
        installation::last_lines(&String::from_utf8_lossy(&log), 20)
    }

    /// Makes its data directory from the template and starts it, as a standby when there is whom to follow.
    pub(crate) async fn create(&self, upstream: Option<&str>) -> Result<(), Error> {
        let (host, data) = (Arc::clone(&self.host), self.data());
        blocking(move || host.template.copy_to(&data, host.account)).await?;
        self.configure()?;
        if let Some(upstream) = upstream {
            self.make_standby(upstream)?;
        }
        self.start().await
    }

    /// Replaces its data directory, if there is one, by a copy of its upstream's, and starts it as a standby.
    pub(crate) async fn recreate(&self, upstream: &str) -> Result<(), Error> {
        let mut postmaster = self.postmaster.lock().await;
        self.kill_process(&mut postmaster)?;
        let (host, data, source) = (Arc::clone(&self.host), self.data(), upstream.to_owned());
        blocking(move || {
            if data.exists() {
                release_segment(&host, &data);
                fs::remove_dir_all(&data).map_err(Error::io(format!("remove {}", data.display())))?;
            }
            let mut command = host.installation.command("pg_basebackup", host.account);
            command.args(["--no-sync", "--checkpoint=fast", "--wal-method=stream", "--dbname", &source]);
            command.arg("--pgdata").arg(&data);
            installation::run(command.current_dir(&host.base)).map(drop)
        })
        .await?;
        drop(postmaster);
        self.configure()?;
        self.make_standby(upstream)?;
        self.start().await
    }

    fn configure(&self) -> Result<(), Error> {
        let conf = settings::postgresql_conf(&self.name, LOOPBACK, &self.host.settings);
        self.write("postgresql.conf", &conf)
    }

    /// Makes it a standby from its next start on.
    fn make_standby(&self, primary_conninfo: &str) -> Result<(), Error> {
        self.write("standby.signal", "")?;
        self.write("postgresql.auto.conf", &settings::standby_conf(primary_conninfo))
    }

    fn write(&self, file: &str, text: &str) -> Result<(), Error> {
        let path = self.data().join(file);
        let give = |path: &Path| self.host.account.map_or(Ok(()), |account| account.give(path));
        fs::write(&path, text)
            .and_then(|()| give(&path))
            .map_err(Error::io(format!("write {}", path.display())))
    }

    /// Starts it, and returns when it accepts connections. Does nothing when it runs.
    pub(crate) async fn start(&self) -> Result<(), Error> {
        let mut postmaster = self.postmaster.lock().await;
        if is_running(&mut postmaster)? {
            return Ok(());
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            let port = self.port.get().copied().map_or_else(free_port, Ok)?;
            let logged = fs::metadata(self.log()).map_or(0, |log| log.len());
            let process = postmaster.insert(self.spawn(port)?);
            if let Some(groups) = &self.host.groups {
                groups.admit(&self.name, process.id())?;
            }
            if self.came_up(process, deadline).await? {
                // A second `set` would be of the same port.
                let _ = self.port.set(port);
                return Ok(());
            }
            *postmaster = None;
            if !self.port_was_taken(logged) || Instant::now() > deadline {
                return Err(Error::Start { node: self.name.clone(), log: self.log_tail().await });
            }
            // A new port is free at once; the one we had comes back when whoever took it lets go.
            sleep(Duration::from_millis(20)).await;
        }
    }

    fn spawn(&self, port: u16) -> Result<Child, Error> {
        let mut command = self.host.installation.command("postgres", self.host.account);
        let log = File::options().create(true).append(true).open(self.log());
        let log = log.and_then(|log| Ok((log.try_clone()?, log)));
        let (output, errors) = log.map_err(Error::io(format!("open {}", self.log().display())))?;
        command
            .arg("-D")
            .arg(self.data())
            .args(["-p", &port.to_string()])
            // The guardian knows the servers by this.
            .current_dir(self.data())
            // Ctrl-C is for us: the servers must outlive what we do on it.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .map_err(Error::io(format!("start postgres for {}", self.name)))
    }

    /// Whether it accepts connections, as its lock file tells; `false` when it has ended instead.
    async fn came_up(&self, process: &mut Child, deadline: Instant) -> Result<bool, Error> {
        let lock = self.data().join("postmaster.pid");
        let pid = process.id().to_string();
        loop {
            if process.try_wait().map_err(Error::io("wait for postgres"))?.is_some() {
                return Ok(false);
            }
            let text = fs::read_to_string(&lock).unwrap_or_default();
            let mut lines = text.lines();
            let ours = lines.next() == Some(&pid);
            // "standby" is a server with `hot_standby = off`, which never accepts any.
            if ours && lines.nth(6).is_some_and(|status| matches!(status.trim(), "ready" | "standby")) {
                return Ok(true);
            }
            if Instant::now() > deadline {
                return Err(self.missed("it accepts connections").await);
            }
            sleep(Duration::from_millis(2)).await;
        }
    }

    fn port_was_taken(&self, logged: u64) -> bool {
        let log = fs::read(self.log()).unwrap_or_default();
        let start = usize::try_from(logged).unwrap_or(0).min(log.len());
        String::from_utf8_lossy(&log[start..]).contains("could not create any TCP/IP sockets")
    }

    /// Kills all its processes at once, as a power failure would. Does nothing when it does not run.
    pub(crate) async fn kill(&self) -> Result<(), Error> {
        self.kill_process(&mut *self.postmaster.lock().await)
    }

    fn kill_process(&self, postmaster: &mut Option<Child>) -> Result<(), Error> {
        if let Some(process) = postmaster {
            processes::kill(process.id()).map_err(Error::io(format!("kill {}", self.name)))?;
            process.wait().map_err(Error::io("wait for postgres"))?;
            *postmaster = None;
        }
        Ok(())
    }

    /// Asks it to end, and returns when it has. Does nothing when it does not run.
    pub(crate) async fn stop(&self, mode: StopMode) -> Result<(), Error> {
        let signal = match mode {
            StopMode::Fast => Signal::INT,
            StopMode::Immediate => Signal::QUIT,
        };
        let mut postmaster = self.postmaster.lock().await;
        let Some(process) = postmaster.as_ref() else { return Ok(()) };
        processes::signal(process.id(), signal).map_err(Error::io(format!("stop {}", self.name)))?;
        let deadline = Instant::now() + PATIENCE;
        while is_running(&mut postmaster)? {
            if Instant::now() > deadline {
                return Err(self.missed("it has ended").await);
            }
            sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }

    pub(crate) async fn freeze(&self) -> Result<(), Error> {
        self.with_process("freeze", processes::freeze).await
    }

    pub(crate) async fn thaw(&self) -> Result<(), Error> {
        self.with_process("thaw", processes::thaw).await
    }

    async fn with_process(&self, verb: &str, act: impl Fn(u32) -> io::Result<()>) -> Result<(), Error> {
        let mut postmaster = self.postmaster.lock().await;
        if !is_running(&mut postmaster)? {
            return Err(Error::Refused {
                node: self.name.clone(),
                reason: format!("cannot {verb} it, it is not running"),
            });
        }
        let Some(process) = postmaster.as_ref() else { return Ok(()) };
        act(process.id()).map_err(Error::io(format!("{verb} {}", self.name)))
    }

    /// The process, for whoever waits for it at the end.
    pub(crate) fn take_process(&self) -> Option<Child> {
        self.postmaster.try_lock().ok()?.take()
    }

    async fn missed(&self, effect: &str) -> Error {
        Error::Deadline {
            node: self.name.clone(),
            effect: effect.to_owned(),
            waited: PATIENCE,
            last: "it has not".to_owned(),
            log: self.log_tail().await,
        }
    }
}

/// Forgets a process that has ended by itself.
fn is_running(postmaster: &mut Option<Child>) -> Result<bool, Error> {
    if let Some(process) = postmaster
        && process.try_wait().map_err(Error::io("wait for postgres"))?.is_some()
    {
        *postmaster = None;
    }
    Ok(postmaster.is_some())
}

/// A port nobody listens on, below those that systems give to outgoing connections: a server that was stopped finds its port
/// free again. Another process may still be quicker, so starting tries again with another one.
fn free_port() -> Result<u16, Error> {
    const FIRST: u64 = 15_000;
    const COUNT: u64 = 17_000;
    let mut refused = None;
    for _ in 0..100 {
        let Ok(port) = u16::try_from(FIRST + crate::storage::random() % COUNT) else { continue };
        match TcpListener::bind((LOOPBACK, port)) {
            Ok(_) => return Ok(port),
            Err(error) => refused = Some(error),
        }
    }
    Err(Error::io("find a free port")(refused.unwrap_or_else(|| io::ErrorKind::AddrInUse.into())))
}

/// Removes the System V segment that a killed postmaster left behind; line 7 of its lock file names it.
fn release_segment(host: &Host, data: &Path) {
    let lock = fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
    if let Some(id) = lock.lines().nth(6).and_then(|line| line.split_whitespace().last()) {
        let mut command = std::process::Command::new("ipcrm");
        if let Some(account) = host.account {
            account.run(&mut command);
        }
        // 56 bytes of shared memory are no reason to fail.
        let _ = command.args(["-m", id]).stderr(Stdio::null()).current_dir(&host.base).status();
    }
}

/// Runs what blocks on a thread where it may.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => Err(Error::io("finish, the runtime is shutting down")(io::Error::other(error))),
        },
    }
}
