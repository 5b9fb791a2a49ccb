//! One interface over the backends: what is done to a server from outside, not by SQL.

use std::process::Child;

#[cfg(feature = "containers")]
use crate::container::ContainerServer;
use crate::{Error, local::LocalServer};

#[derive(Debug)]
pub(crate) enum Server {
    Local(LocalServer),
    #[cfg(feature = "containers")]
    Container(ContainerServer),
}

/// How PostgreSQL is told to end.
#[derive(Debug, Clone, Copy)]
pub(crate) enum StopMode {
    Fast,
    Immediate,
}

/// The same call on whichever backend.
macro_rules! each {
    ($self:expr, $server:ident => $call:expr) => {
        match $self {
            Server::Local($server) => $call,
            #[cfg(feature = "containers")]
            Server::Container($server) => $call,
        }
    };
}

impl Server {
    /// Where clients reach it.
    pub(crate) fn address(&self) -> (String, u16) {
        each!(self, server => server.address())
    }

    /// Where the other nodes of the cluster reach it.
    pub(crate) fn address_for_nodes(&self) -> (String, u16) {
        match self {
            Self::Local(server) => server.address(),
            #[cfg(feature = "containers")]
            Self::Container(server) => server.address_for_nodes(),
        }
    }

    pub(crate) async fn start(&self) -> Result<(), Error> {
        each!(self, server => server.start().await)
    }

    pub(crate) async fn kill(&self) -> Result<(), Error> {
        each!(self, server => server.kill().await)
    }

    pub(crate) async fn stop(&self, mode: StopMode) -> Result<(), Error> {
        each!(self, server => server.stop(mode).await)
    }

    pub(crate) async fn freeze(&self) -> Result<(), Error> {
        each!(self, server => server.freeze().await)
    }

    pub(crate) async fn thaw(&self) -> Result<(), Error> {
        each!(self, server => server.thaw().await)
    }

    /// Starts it for the first time, with empty databases or, when there is whom to follow, as the standby of a node that has
    /// just begun.
    pub(crate) async fn create(&self, upstream: Option<&str>) -> Result<(), Error> {
        each!(self, server => server.create(upstream).await)
    }

    /// Replaces its data, if it has any, by a copy of those that the connection string leads to, and starts it as a standby.
    pub(crate) async fn recreate(&self, upstream: &str) -> Result<(), Error> {
        match self {
            Self::Local(server) => server.recreate(upstream).await,
            #[cfg(feature = "containers")]
            Self::Container(server) => server.create(Some(upstream)).await,
        }
    }

    pub(crate) async fn log_tail(&self) -> String {
        each!(self, server => server.log_tail().await)
    }

    /// The process that somebody has to wait for at the end.
    pub(crate) fn take_process(&self) -> Option<Child> {
        match self {
            Self::Local(server) => server.take_process(),
            #[cfg(feature = "containers")]
            Self::Container(_) => None,
        }
    }
}
