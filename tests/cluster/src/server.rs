//! One interface over the backends: what is done to a server from outside, not by SQL.

use std::process::Child;

use rustix::process::Signal;

use crate::{Error, local::LocalServer};

#[derive(Debug)]
pub(crate) enum Server {
    Local(LocalServer),
}

impl Server {
    /// Where clients reach it.
    pub(crate) fn address(&self) -> (String, u16) {
        match self {
            Self::Local(server) => server.address(),
        }
    }

    /// Where the other nodes of the cluster reach it.
    pub(crate) fn address_for_nodes(&self) -> (String, u16) {
        match self {
            Self::Local(server) => server.address(),
        }
    }

    pub(crate) async fn start(&self) -> Result<(), Error> {
        match self {
            Self::Local(server) => server.start().await,
        }
    }

    pub(crate) async fn kill(&self) -> Result<(), Error> {
        match self {
            Self::Local(server) => server.kill().await,
        }
    }

    pub(crate) async fn stop(&self, signal: Signal) -> Result<(), Error> {
        match self {
            Self::Local(server) => server.stop(signal).await,
        }
    }

    pub(crate) async fn freeze(&self) -> Result<(), Error> {
        match self {
            Self::Local(server) => server.freeze().await,
        }
    }

    pub(crate) async fn thaw(&self) -> Result<(), Error> {
        match self {
            Self::Local(server) => server.thaw().await,
        }
    }

    /// Replaces its data by a copy of `source`'s and starts it as a standby.
    pub(crate) async fn start_as_copy_of(&self, source: &Self, primary_conninfo: &str) -> Result<(), Error> {
        match (self, source) {
            (Self::Local(server), Self::Local(source)) => {
                server.copy_from(source).await?;
                server.make_standby(primary_conninfo)?;
                server.start().await
            }
        }
    }

    pub(crate) async fn log_tail(&self) -> String {
        match self {
            Self::Local(server) => server.log_tail(),
        }
    }

    /// The process that somebody has to wait for at the end.
    pub(crate) fn take_process(&self) -> Option<Child> {
        match self {
            Self::Local(server) => server.take_process(),
        }
    }
}
