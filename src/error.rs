//! What can go wrong between a request and a connection.

use crate::config::ConfigError;
use crate::pool::ConnectError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Why the router gave no connection.
///
/// What fails later, in a query, is Diesel's [`diesel::result::Error`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration is wrong; every fault is in the text, with its key and what is wanted.
    #[error(transparent)]
    Config(#[from] ConfigError),

    /// No replica may serve reads, and nobody may in their place: the fallback policy keeps them off the primary, or there is none.
    #[error("no replica can serve reads, and the fallback policy has nobody to serve them instead ({nodes})")]
    #[non_exhaustive]
    NoEligibleNode {
        /// Each node's name and health, for people.
        nodes: String,
    },

    /// Every connection of the node's pool stayed in use until the deadline.
    #[error(
        "all connections to `{node}` stayed in use for {}: hold them for less time, or raise the pool size",
        Millis(*.waited)
    )]
    #[non_exhaustive]
    PoolExhausted {
        /// The node's name.
        node: String,
        /// How long the call waited.
        waited: Duration,
    },

    /// The node refused the connection, or closed it before it was ready.
    #[error("cannot connect to `{node}`: {cause}")]
    #[non_exhaustive]
    Connect {
        /// The node's name.
        node: String,
        /// What the node, or the network, said.
        #[source]
        cause: ConnectFailure,
    },

    /// The node did not answer in time.
    #[error("`{node}` did not answer within {}", Millis(*.waited))]
    #[non_exhaustive]
    TimedOut {
        /// The node's name.
        node: String,
        /// How long the call waited.
        waited: Duration,
    },

    /// No replica is as fresh as the read asked for, and the fallback policy keeps it off the primary.
    #[error(
        "no replica was fresh enough after {}, and the fallback policy keeps the read off the primary ({nodes})",
        Millis(*.waited)
    )]
    #[non_exhaustive]
    NotFreshEnough {
        /// How long the call waited.
        waited: Duration,
        /// Each node's name and health, for people.
        nodes: String,
    },

    /// The token cannot be followed here.
    #[error(transparent)]
    InvalidToken(#[from] InvalidToken),

    /// No node takes writes, and none did within two probe intervals.
    #[error("no node takes writes: {why} ({nodes})")]
    #[non_exhaustive]
    NoPrimary {
        /// What keeps the router from sending writes anywhere, for people.
        why: String,
        /// Each node's name and health, for people.
        nodes: String,
    },

    /// The node stopped to answer, or to be the primary, while a closure of [`Router::with_read`](crate::Router::with_read) or
    /// [`Router::with_write`](crate::Router::with_write) ran on it. What a write did is not known.
    #[error(
        "`{node}` was lost while work was under way: it does not answer, or must not take writes any more"
    )]
    #[non_exhaustive]
    Lost {
        /// The node's name.
        node: String,
    },

    /// The router knows no node of this name.
    #[error("there is no node `{node}`")]
    #[non_exhaustive]
    UnknownNode {
        /// The name that was asked for.
        node: String,
    },

    /// There is a node of this name already.
    #[error("there is a node `{node}` already: remove it first, or give the new one another name")]
    #[non_exhaustive]
    NodeExists {
        /// The name that was to be added.
        node: String,
    },

    /// The node takes the writes: it cannot be removed before another one does.
    #[error("`{node}` is the primary: promote another node first, or reload a configuration without it")]
    #[non_exhaustive]
    IsPrimary {
        /// The name that was to be removed.
        node: String,
    },

    /// [`Router::shutdown`](crate::Router::shutdown) was called.
    #[error("the router has been shut down")]
    ShutDown,
}

impl Error {
    /// The configuration is wrong: nothing will change until it does.
    pub fn is_config(&self) -> bool {
        matches!(self, Self::Config(_))
    }

    /// The token does not belong here: forget it, and read without one.
    pub fn is_invalid_token(&self) -> bool {
        matches!(self, Self::InvalidToken(_))
    }

    /// No node could serve at that moment: the same call may succeed later. A web service answers 503.
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Config(_) | Self::UnknownNode { .. } | Self::NodeExists { .. } | Self::IsPrimary { .. } => {
                false
            }
            Self::InvalidToken(why) => matches!(why, InvalidToken::NewerTimeline { .. }),
            Self::NotFreshEnough { .. }
            | Self::NoEligibleNode { .. }
            | Self::PoolExhausted { .. }
            | Self::Connect { .. }
            | Self::TimedOut { .. }
            | Self::NoPrimary { .. }
            | Self::Lost { .. }
            | Self::ShutDown => true,
        }
    }

    pub(crate) fn unknown_node(name: &str) -> Self {
        Self::UnknownNode { node: name.to_owned() }
    }
}

/// Why a [`CausalToken`](crate::CausalToken) cannot be followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidToken {
    /// Its system identifier is not that of the cluster: the service has moved to another database since, or the token was made up.
    #[error("the token is of another cluster: forget it, and read without one")]
    OtherCluster,

    /// No node is known to be on its timeline: a promotion has not been noticed here yet, or the token was made up.
    #[error(
        "the token is of timeline {timeline}, and no primary is known to be on it yet: try again, or read without it"
    )]
    #[non_exhaustive]
    NewerTimeline {
        /// The token's timeline.
        timeline: u32,
    },

    /// The primary itself has not written that far: the token was made up, or the log that it stands for is lost.
    #[error("the token is ahead of the primary: forget it, and read without one")]
    Ahead,
}

/// Why a connection could not be made; its [`source`](std::error::Error::source) has the details.
#[derive(Debug, Clone)]
pub struct ConnectFailure(pub(crate) Arc<ConnectError>);

impl fmt::Display for ConnectFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Chain(self.0.as_ref()).fmt(f)
    }
}

impl std::error::Error for ConnectFailure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

/// An error with all its causes on one line.
pub(crate) struct Chain<'a>(pub(crate) &'a dyn std::error::Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = self.0.to_string();
        f.write_str(&shown)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            let text = error.to_string();
            // Several crates repeat their source in their own text.
            if !shown.contains(&text) {
                write!(f, ": {text}")?;
                shown = text;
            }
            cause = error.source();
        }
        Ok(())
    }
}

/// A duration in whole milliseconds, as messages show it.
pub(crate) struct Millis(pub(crate) Duration);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.0.as_millis())
    }
}
