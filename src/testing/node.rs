//! What a node of a test database is, and what it says of itself.
//!
//! All nodes are one server. Where the router asks a server about itself, the functions that it asks with are replaced in the text of
//! its question, so that each node gives its own answer.

use super::stage::Stage;
use std::borrow::Cow;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    Primary,
    /// Counted from 1.
    Replica(usize),
}

impl Node {
    pub(super) fn name(self) -> String {
        match self {
            Self::Primary => "primary".to_owned(),
            Self::Replica(number) => format!("replica-{number}"),
        }
    }

    /// The commands that make [`questions`](Self::questions) answerable: run before them.
    pub(super) fn answers(self, stage: &Stage) -> String {
        let lsn = match self {
            Self::Primary => stage.written(),
            Self::Replica(_) => stage.replayed(),
        };
        let replay = if stage.paused().is_some() { "paused" } else { "not paused" };
        let behind_ms = stage.behind_ms();
        format!(
            "SET diesel_replicas.lsn TO '{lsn}'; SET diesel_replicas.replay TO '{replay}'; \
             SET diesel_replicas.behind_ms TO '{behind_ms}'"
        )
    }

    /// The monitor's question, as this node answers it, and with what only a test can know.
    pub(super) fn probe(self, sql: &str) -> String {
        let behind = "nullif(pg_catalog.current_setting('diesel_replicas.behind_ms'), '0') AS behind_ms";
        let from = " FROM pg_catalog.pg_is_in_recovery()";
        let sql = match self {
            Self::Replica(_) => Cow::Owned(sql.replace(from, &format!(", {behind}{from}"))),
            Self::Primary => Cow::Borrowed(sql),
        };
        self.questions(&sql).into_owned()
    }

    /// The router's question about this node, as this node answers it.
    pub(super) fn questions(self, sql: &str) -> Cow<'_, str> {
        let sql = replace(sql, &COMMON);
        match self {
            Self::Primary => sql,
            Self::Replica(number) => {
                let started = format!(
                    "(pg_catalog.pg_postmaster_start_time() OPERATOR(pg_catalog.+) pg_catalog.make_interval(secs => {number}))"
                );
                let sql = replace(&sql, &STANDBY).replace("pg_catalog.pg_postmaster_start_time()", &started);
                Cow::Owned(sql)
            }
        }
    }
}

/// Questions of handles, about the commits in the one transaction.
pub(super) fn of_commits(sql: &str) -> Cow<'_, str> {
    replace(sql, &COMMON)
}

const LSN: &str = "pg_catalog.current_setting('diesel_replicas.lsn')::pg_catalog.pg_lsn";

/// What the transaction that is never committed would show otherwise.
const COMMON: [(&str, &str); 5] = [
    ("pg_catalog.pg_current_wal_lsn()", LSN),
    ("pg_catalog.pg_current_wal_insert_lsn()", LSN),
    ("pg_catalog.pg_current_wal_flush_lsn()", LSN),
    (
        "pg_catalog.pg_current_xact_id_if_assigned()",
        "nullif(pg_catalog.current_setting('diesel_replicas.written'), '')",
    ),
    // No process has this number: nobody is committing.
    ("pg_catalog.pg_stat_get_activity(NULL)", "pg_catalog.pg_stat_get_activity(0)"),
];

const STANDBY: [(&str, &str); 5] = [
    ("pg_catalog.pg_is_in_recovery()", "pg_catalog.booleq(true, true)"),
    ("pg_catalog.pg_last_wal_replay_lsn()", LSN),
    (
        "(pg_catalog.pg_stat_get_wal_receiver()).received_tli",
        "(pg_catalog.pg_control_checkpoint()).timeline_id",
    ),
    ("(pg_catalog.pg_stat_get_wal_receiver()).pid", "1"),
    ("pg_catalog.pg_get_wal_replay_pause_state()", "pg_catalog.current_setting('diesel_replicas.replay')"),
];

fn replace<'a>(sql: &'a str, with: &[(&str, &str)]) -> Cow<'a, str> {
    let mut sql = Cow::Borrowed(sql);
    for (function, answer) in with {
        if sql.contains(function) {
            sql = Cow::Owned(sql.replace(function, answer));
        }
    }
    sql
}
