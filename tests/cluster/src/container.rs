//! Servers in containers, one each, on a network of their own.
//!
//! testcontainers creates them; what it cannot do to them afterwards (a signal) goes to its engine's interface directly.

use std::{
    sync::{Arc, Mutex as StdMutex, PoisonError},
    time::Duration,
};

use futures_util::TryStreamExt;
use testcontainers::{
    GenericImage, ImageExt,
    bollard::{
        Docker,
        models::{ContainerInspectResponse, HostConfig, Mount, MountType, PortBinding},
        query_parameters::{KillContainerOptions, LogsOptions, RemoveContainerOptions},
    },
    core::{IntoContainerPort, client::docker_client_instance},
    runners::AsyncRunner,
};
use tokio::{
    sync::Mutex,
    time::{Instant, sleep, timeout},
};

use crate::{
    Error,
    cpu::CpuLimit,
    installation,
    server::StopMode,
    session::Session,
    settings::{self, Setting},
    template,
};

const START: &str = include_str!("container/start.sh");

/// The servers' port inside.
const PORT: u16 = 5432;

/// Where both the official images and Debian's packages let the user `postgres` write. A volume of its own spares the
/// image's layers; the engine gives it the directory's owner.
const VOLUME: &str = "/var/lib/postgresql";

/// How long a container may take to start or to end; a busy engine takes seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the containers of one cluster have in common.
#[derive(Debug)]
pub(crate) struct Fleet {
    /// The network, the beginning of each container's name, and the value of the label that the guardian looks for.
    pub(crate) name: String,
    pub(crate) image: ImageName,
    pub(crate) settings: Vec<Setting>,
    pub(crate) limit: Option<CpuLimit>,
}

/// Such as `postgres:18`.
#[derive(Debug, Clone)]
pub(crate) struct ImageName {
    pub(crate) name: String,
    pub(crate) tag: String,
}

impl ImageName {
    fn request(&self) -> GenericImage {
        GenericImage::new(self.name.as_str(), self.tag.as_str())
    }

    /// Makes sure that an engine answers and has the image; pulls the image only if it is missing.
    pub(crate) async fn make_available(&self) -> Result<(), Error> {
        let unavailable = |reason: String| Error::Unavailable { backend: "containers", reason };
        let engine = async {
            let engine = engine().await?;
            engine.ping().await.map_err(engine_error("reach the container engine"))?;
            Ok::<_, Error>(engine)
        };
        let engine = match timeout(Duration::from_secs(5), engine).await {
            Ok(Ok(engine)) => engine,
            Ok(Err(error)) => {
                return Err(unavailable(format!("no container engine answers: {}", chain(&error))));
            }
            Err(_) => return Err(unavailable("the container engine does not answer".to_owned())),
        };
        let image = format!("{}:{}", self.name, self.tag);
        if engine.inspect_image(&image).await.is_err() {
            let pulled = self.request().pull_image().await;
            if let Err(error) = pulled {
                return Err(unavailable(format!("the image {image} is not there, and {}", chain(&error))));
            }
        }
        Ok(())
    }
}

/// One server. Its levers wait for one another.
#[derive(Debug)]
pub(crate) struct ContainerServer {
    fleet: Arc<Fleet>,
    name: String,
    /// On this machine; another one after each start.
    port: StdMutex<u16>,
    lever: Mutex<()>,
}

impl ContainerServer {
    pub(crate) fn new(fleet: Arc<Fleet>, name: String) -> Self {
        Self { fleet, name, port: StdMutex::new(0), lever: Mutex::new(()) }
    }

    pub(crate) fn address(&self) -> (String, u16) {
        ("127.0.0.1".to_owned(), *self.port())
    }

    pub(crate) fn address_for_nodes(&self) -> (String, u16) {
        (self.container(), PORT)
    }

    fn container(&self) -> String {
        format!("{}-{}", self.fleet.name, self.name)
    }

    fn port(&self) -> std::sync::MutexGuard<'_, u16> {
        // One assignment: a panic leaves nothing half done.
        self.port.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces its container, if there is one, by a new one: a primary, or a standby that begins as a copy of its upstream.
    pub(crate) async fn create(&self, upstream: Option<&str>) -> Result<(), Error> {
        let _lever = self.lever.lock().await;
        let engine = engine().await?;
        if self.inspect(&engine).await.is_ok() {
            let options = RemoveContainerOptions { force: true, v: true, link: false };
            let removed = engine.remove_container(&self.container(), Some(options)).await;
            removed.map_err(self.failed("remove the container of"))?;
        }
        let standby = upstream.map(settings::standby_conf).unwrap_or_default();
        let conf = settings::postgresql_conf(&self.name, "*", &self.fleet.settings);
        let script = ["-c", START, "pg-cluster"].into_iter().chain(template::INITDB);
        let limit = self.fleet.limit;
        let request = self.fleet.image.request();
        let request = request.with_entrypoint("sh").with_exposed_port(PORT.tcp()).with_cmd(script);
        let request = request
            .with_user("postgres")
            .with_container_name(self.container())
            .with_network(&self.fleet.name)
            .with_label("pg-cluster", &self.fleet.name)
            .with_env_var("POSTGRESQL_CONF", conf)
            .with_env_var("UPSTREAM", upstream.unwrap_or_default())
            .with_env_var("STANDBY_CONF", standby)
            .with_host_config_modifier(move |config| {
                publish_here_only(config);
                if let Some(limit) = limit {
                    limit.of_container(config);
                }
            });
        let container = request.start().await.map_err(self.failed("create the container of"))?;
        // Dropped, it would remove the container, and panic outside of a runtime. The guardian removes it.
        std::mem::forget(container);
        self.until_up(&engine).await
    }

    pub(crate) async fn start(&self) -> Result<(), Error> {
        let _lever = self.lever.lock().await;
        let engine = engine().await?;
        if !self.is_running(&engine).await? {
            engine.start_container(&self.container(), None).await.map_err(self.failed("start"))?;
        }
        self.until_up(&engine).await
    }

    /// Waits until it answers, and learns its port.
    async fn until_up(&self, engine: &Docker) -> Result<(), Error> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let inspected = self.inspect(engine).await.map_err(self.failed("inspect"))?;
            if !is_running(&inspected) {
                return Err(Error::Start { node: self.name.clone(), log: self.log_tail().await });
            }
            if let Some(port) = published_port(&inspected) {
                *self.port() = port;
                if self.answers(port).await {
                    return Ok(());
                }
            }
            self.pause_until(deadline, "it accepts connections").await?;
        }
    }

    async fn answers(&self, port: u16) -> bool {
        // A paused container accepts connections and says nothing.
        let ask = async { Session::open(&self.name, "127.0.0.1", port).await?.ask("SELECT 1").await };
        matches!(timeout(Duration::from_secs(2), ask).await, Ok(Ok(_)))
    }

    pub(crate) async fn kill(&self) -> Result<(), Error> {
        self.end("SIGKILL").await
    }

    pub(crate) async fn stop(&self, mode: StopMode) -> Result<(), Error> {
        self.end(match mode {
            StopMode::Fast => "SIGINT",
            StopMode::Immediate => "SIGQUIT",
        })
        .await
    }

    async fn end(&self, signal: &str) -> Result<(), Error> {
        let _lever = self.lever.lock().await;
        let engine = engine().await?;
        if !self.is_running(&engine).await? {
            return Ok(());
        }
        let options = KillContainerOptions { signal: signal.to_owned() };
        engine.kill_container(&self.container(), Some(options)).await.map_err(self.failed("signal"))?;
        let deadline = Instant::now() + PATIENCE;
        while self.is_running(&engine).await? {
            self.pause_until(deadline, "it has ended").await?;
        }
        Ok(())
    }

    pub(crate) async fn freeze(&self) -> Result<(), Error> {
        let _lever = self.lever.lock().await;
        engine().await?.pause_container(&self.container()).await.map_err(self.failed("freeze"))
    }

    pub(crate) async fn thaw(&self) -> Result<(), Error> {
        let _lever = self.lever.lock().await;
        engine().await?.unpause_container(&self.container()).await.map_err(self.failed("thaw"))
    }

    /// The end of what the container printed; empty when it cannot be read.
    pub(crate) async fn log_tail(&self) -> String {
        let Ok(engine) = engine().await else { return String::new() };
        let options = LogsOptions { stdout: true, stderr: true, tail: "20".to_owned(), ..Default::default() };
        let lines: Vec<_> =
            engine.logs(&self.container(), Some(options)).try_collect().await.unwrap_or_default();
        let log: String = lines.iter().map(ToString::to_string).collect();
        installation::last_lines(&log, 20)
    }

    async fn inspect(
        &self,
        engine: &Docker,
    ) -> Result<ContainerInspectResponse, testcontainers::bollard::errors::Error> {
        engine.inspect_container(&self.container(), None).await
    }

    async fn is_running(&self, engine: &Docker) -> Result<bool, Error> {
        self.inspect(engine).await.map(|inspected| is_running(&inspected)).map_err(self.failed("inspect"))
    }

    async fn pause_until(&self, deadline: Instant, effect: &str) -> Result<(), Error> {
        if Instant::now() > deadline {
            return Err(Error::Deadline {
                node: self.name.clone(),
                effect: effect.to_owned(),
                waited: PATIENCE,
                last: "it has not".to_owned(),
                log: self.log_tail().await,
            });
        }
        sleep(Duration::from_millis(20)).await;
        Ok(())
    }

    fn failed<E: std::error::Error + Send + Sync + 'static>(&self, verb: &str) -> impl FnOnce(E) -> Error {
        engine_error(format!("{verb} {}", self.name))
    }
}

/// An engine that cannot ignores a limit, and only warns.
pub(crate) async fn check_that_cpu_can_be_limited() -> Result<(), Error> {
    let info = engine().await?.info().await.map_err(engine_error("ask the container engine what it can"))?;
    if info.cpu_cfs_quota == Some(false) {
        let reason = "the container engine has no quota for it (CpuCfsQuota of `docker info` is false)";
        return Err(Error::CpuLimit { reason: reason.to_owned() });
    }
    Ok(())
}

/// Nobody but this machine may reach a superuser without a password.
fn publish_here_only(config: &mut HostConfig) {
    let binding = PortBinding { host_ip: Some("127.0.0.1".to_owned()), host_port: Some(String::new()) };
    config.publish_all_ports = Some(false);
    config.port_bindings = Some([(format!("{PORT}/tcp"), Some(vec![binding]))].into());
    let volume =
        Mount { target: Some(VOLUME.to_owned()), typ: Some(MountType::VOLUME), ..Default::default() };
    config.mounts.get_or_insert_default().push(volume);
}

fn is_running(inspected: &ContainerInspectResponse) -> bool {
    inspected.state.as_ref().and_then(|state| state.running) == Some(true)
}

fn published_port(inspected: &ContainerInspectResponse) -> Option<u16> {
    let ports = inspected.network_settings.as_ref()?.ports.as_ref()?;
    ports.get(&format!("{PORT}/tcp"))?.as_ref()?.first()?.host_port.as_ref()?.parse().ok()
}

async fn engine() -> Result<Docker, Error> {
    docker_client_instance().await.map_err(engine_error("find the container engine"))
}

fn engine_error<E: std::error::Error + Send + Sync + 'static>(
    action: impl Into<String>,
) -> impl FnOnce(E) -> Error {
    let action = action.into();
    move |source| Error::Engine { action, source: Box::new(source) }
}

/// An error and what caused it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
