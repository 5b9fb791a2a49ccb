//! Checks a configuration against the servers that it names, and says what to do about what is found.
//!
//! The program `diesel-replicas` prints it: `diesel-replicas doctor`. In code:
//!
//! ```no_run
//! use diesel_replicas::{Config, doctor};
//!
//! # async fn example() -> Result<(), diesel_replicas::ConfigError> {
//! let report = doctor::examine(&Config::from_env()?).await;
//! println!("{report}");
//! assert!(report.severity() < doctor::Severity::Problem);
//! # Ok(()) }
//! ```
#![doc = ""]
#![doc = include_str!("../docs/doctor.md")]

mod ask;
mod facts;
mod finding;
mod json;
mod judge;
mod lag;
mod questions;
mod text;

pub(crate) use ask::open;
pub(crate) use facts::Usage;
pub use finding::{Check, Finding, Severity};
pub(crate) use questions::{Load, load};
pub(crate) use text::printable;

use crate::config::{Config, PREFIX};
use crate::fleet::Role;
use facts::{Facts, Link, Node};
use std::time::Duration;

/// What was found: [`Display`](std::fmt::Display) is for people, [`json`](Self::json) for programs. Neither shows a password.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Report {
    /// The nodes in the order of the configuration, then those that were discovered.
    pub nodes: Vec<Examined>,
    /// The worst first.
    pub findings: Vec<Finding>,
}

/// One node, as it was found.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Examined {
    /// The configured name, or `host:port`.
    pub name: String,
    /// What the configuration takes it for.
    pub listed: Role,
    /// What it is; `None` where it does not answer, as is all that follows.
    pub role: Option<Role>,
    /// The server's version, as in 150018 for 15.18.
    pub version: Option<u32>,
    /// The timeline, as far as the server tells.
    pub timeline: Option<u32>,
    /// How long a replica took at most to replay what the primary had written; `None` also where it had not within the time that
    /// was waited.
    pub lag: Option<Duration>,
    /// The role of the database that sessions run as.
    pub user: Option<String>,
    /// Whether connections are encrypted; `None` also for a Unix socket.
    pub encrypted: Option<bool>,
    /// The connections of clients that there were.
    pub connections: Option<u64>,
    /// The connections that there can be, for roles without privileges.
    pub max_connections: Option<u64>,
}

impl Report {
    /// That of the worst finding.
    pub fn severity(&self) -> Severity {
        self.findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Ok)
    }

    fn of(facts: &Facts) -> Self {
        Self { nodes: facts.nodes.iter().map(Examined::of).collect(), findings: judge::judge(facts) }
    }
}

impl Examined {
    fn of(node: &Node) -> Self {
        let server = node.answer.as_ref().ok();
        let usage = server.and_then(|server| server.usage);
        Self {
            name: node.name.clone(),
            listed: node.listed,
            role: server.map(facts::Server::role),
            version: server.map(|server| server.seen.version),
            timeline: server.and_then(|server| server.seen.timeline),
            lag: server.and_then(|server| server.replay.as_ref()?.time()),
            user: server.and_then(|server| Some(server.account.as_ref()?.role.clone())),
            encrypted: server.and_then(|server| match server.link {
                Link::Socket => None,
                Link::Plain => Some(false),
                Link::Encrypted => Some(true),
            }),
            connections: usage.map(|usage| usage.clients),
            max_connections: server.and_then(|server| server.settings.usable_connections()),
        }
    }
}

/// Asks every node of the configuration, replicas that are not enabled included, and judges the answers.
///
/// All nodes are asked at the same time, and every question has a limit: it takes a fraction of a second where all is well, and some
/// seconds where a node is silent; what the others say is reported all the same. Nothing is written.
///
/// # Cancel safety
///
/// A dropped call closes its connections.
pub async fn examine(config: &Config) -> Report {
    examine_prefixed(config, PREFIX).await
}

/// The same for a configuration from [variables with another prefix](crate::RouterBuilder::from_prefixed_env), whose names
/// are then those that findings tell.
///
/// # Cancel safety
///
/// As [`examine`].
pub async fn examine_prefixed(config: &Config, prefix: &str) -> Report {
    Report::of(&ask::facts(config, prefix).await)
}
