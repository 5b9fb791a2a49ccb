//! What can be found.

use std::fmt;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Worth knowing; nothing has to be done.
    Note,
    /// It works, and less well than it could, or not for long.
    Warning,
    /// Something does not work.
    Problem,
}

/// One thing that was found. No text of it has a final stop, or more than one line.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What was looked at.
    pub check: Check,
    /// The nodes that it is about; none where it is about the configuration.
    pub nodes: Vec<String>,
    /// What is.
    pub found: String,
    /// Why that matters; empty where all is well.
    pub why: String,
    /// What to do; empty where all is well.
    pub action: String,
}

impl Finding {
    pub(super) fn ok(check: Check, found: impl Into<String>) -> Self {
        let found = found.into();
        Self {
            severity: Severity::Ok,
            check,
            nodes: vec![],
            found,
            why: String::new(),
            action: String::new(),
        }
    }

    pub(super) fn note(check: Check, found: impl Into<String>) -> Self {
        Self { severity: Severity::Note, ..Self::ok(check, found) }
    }

    pub(super) fn warning(check: Check, found: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::ok(check, found) }
    }

    pub(super) fn problem(check: Check, found: impl Into<String>) -> Self {
        Self { severity: Severity::Problem, ..Self::ok(check, found) }
    }

    /// Of other nodes.
    pub(super) fn says_the_same(&self, other: &Self) -> bool {
        let nodes = other.nodes.clone();
        Self { nodes, ..self.clone() } == *other
    }

    pub(super) fn on<'a>(self, nodes: impl IntoIterator<Item = &'a str>) -> Self {
        Self { nodes: nodes.into_iter().map(str::to_owned).collect(), ..self }
    }

    pub(super) fn why(self, why: impl Into<String>) -> Self {
        Self { why: why.into(), ..self }
    }

    pub(super) fn action(self, action: impl Into<String>) -> Self {
        Self { action: action.into(), ..self }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Problem => "problem",
        })
    }
}

macro_rules! checks {
    ($($(#[$doc:meta])* $check:ident = $name:literal,)*) => {
        /// What was looked at. `Display` is its name in the report for programs.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Check {
            $($(#[$doc])* $check,)*
        }

        impl Check {
            /// Every one of them.
            pub const ALL: &'static [Self] = &[$(Self::$check),*];
        }

        impl fmt::Display for Check {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(match self {
                    $(Self::$check => $name,)*
                })
            }
        }
    };
}

checks! {
    /// Whether replicas are used, and which.
    Configuration = "configuration",
    /// Whether sources of nodes answer.
    Discovery = "discovery",
    /// Whether the node answers.
    Reachable = "reachable",
    /// What stands between the router and the server.
    Pooler = "pooler",
    /// Whether exactly one node takes writes, and it is the one that is listed as the primary.
    Writable = "writable",
    /// Whether all nodes are of one cluster.
    Cluster = "cluster",
    /// Whether a server is listed twice.
    Duplicate = "duplicate",
    /// Whether standbys follow the primary's timeline.
    Timeline = "timeline",
    /// Versions of servers.
    Version = "version",
    /// How far replicas are behind.
    Lag = "lag",
    /// Whether a replica replays.
    Replay = "replay",
    /// Whether a replica receives.
    Receiver = "receiver",
    /// What becomes of queries that are in the way of the replay.
    Conflicts = "conflicts",
    /// Replication slots that hold log back.
    Slots = "slots",
    /// What the role may do.
    Privileges = "privileges",
    /// What the role is told.
    Statistics = "statistics",
    /// What the server does not do.
    Functions = "functions",
    /// Whether connections are encrypted.
    Encryption = "encryption",
    /// Whether the server has connections enough for the pools.
    Connections = "connections",
}
