//! How to route: the environment, and a file of variables that may change while the service runs.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use diesel_replicas::{Config, Router, RouterBuilder};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Where the settings come from.
pub struct Settings {
    file: Option<File>,
}

struct File {
    path: PathBuf,
    /// Says that the file has changed.
    changed: Signal,
}

impl Settings {
    /// From now on SIGHUP ends the service no more, if there is a file.
    pub fn from_env() -> std::io::Result<Self> {
        let path = std::env::var_os("CHAT_ENV_FILE").filter(|path| !path.is_empty());
        let file = match path {
            Some(path) => Some(File { path: path.into(), changed: signal(SignalKind::hangup())? }),
            None => None,
        };
        Ok(Self { file })
    }

    /// `None` if they name no database.
    pub fn config(&self) -> Result<Option<Config>, Box<dyn Error>> {
        let mut variables: BTreeMap<OsString, OsString> = std::env::vars_os().collect();
        if let Some(file) = &self.file {
            variables.extend(read(&file.path)?);
        }
        let has_database = variables.get(OsStr::new("DATABASE_URL")).is_some_and(|url| !url.is_empty());
        let builder = has_database.then(|| RouterBuilder::from_vars(variables));
        Ok(builder.map(RouterBuilder::config).transpose()?)
    }

    /// Reads them again at each SIGHUP, and hands them to the router. Those that are wrong change nothing.
    pub async fn follow(&mut self, router: &Router) -> Infallible {
        loop {
            match &mut self.file {
                Some(file) => file.changed.recv().await,
                None => std::future::pending().await,
            };
            match self.reload(router).await {
                Ok(()) => tracing::info!("settings reloaded"),
                Err(error) => tracing::error!(%error, "settings not reloaded: those before stay"),
            }
        }
    }

    async fn reload(&self, router: &Router) -> Result<(), Box<dyn Error>> {
        let config = self.config()?.ok_or("DATABASE_URL is not set")?;
        Ok(router.reload(config).await?)
    }
}

/// Lines of `NAME=value`. Empty ones, and those that begin with `#`, say nothing.
fn read(path: &Path) -> Result<Vec<(OsString, OsString)>, String> {
    let place = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("cannot read CHAT_ENV_FILE, {place}: {error}"))?;
    let lines = text
        .lines()
        .map(str::trim)
        .enumerate()
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|(number, line)| match line.split_once('=') {
            Some((name, value)) => Ok((name.into(), value.into())),
            None => Err(format!("CHAT_ENV_FILE, {place}, line {}: `NAME=value` is wanted", number + 1)),
        })
        .collect()
}
