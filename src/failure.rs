//! Why a query failed, and so whether the node is to blame and whether another one would do better.

use diesel::result::{DatabaseErrorKind, Error};

/// Why a query failed, as far as it matters to what is done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The node's own: it is gone, shuts down or starts up, or its storage fails.
    Node,
    /// A standby had to replay what the query stood in the way of. The connection stays usable.
    RecoveryConflict,
    /// The type of a result is not what it was when this connection prepared the statement. Its statement stays as it is, so the
    /// connection will fail it every time.
    StalePlan,
    /// A write where none is allowed: on a standby, in a read-only session or transaction.
    ReadOnly,
    /// Anything else: the statement's, the caller's settings', Diesel's. Another node would do no better.
    Caller,
}

impl Cause {
    /// Whether the same query may well succeed on another node.
    pub(crate) fn is_of_the_node(self) -> bool {
        matches!(self, Self::Node | Self::RecoveryConflict | Self::StalePlan)
    }

    /// The cause of an error that Diesel returned.
    ///
    /// Diesel's errors have no SQLSTATE. Where their kind does not tell, the server's text does, if the server speaks English: it is
    /// translated under another `lc_messages`, and then this is [`Caller`](Self::Caller).
    pub(crate) fn of(error: &Error) -> Self {
        let (kind, text) = match error {
            Error::DatabaseError(kind, information) => (kind, information.message()),
            Error::RollbackErrorOnCommit { commit_error, .. } => return Self::of(commit_error),
            _ => return Self::Caller,
        };
        let begins = |beginnings: &[&str]| beginnings.iter().any(|beginning| text.starts_with(beginning));
        match kind {
            DatabaseErrorKind::ClosedConnection => Self::Node,
            // Diesel's kind for whatever did not come from the server.
            DatabaseErrorKind::UnableToSendCommand if begins(NEVER_SENT) => Self::Caller,
            DatabaseErrorKind::UnableToSendCommand => Self::Node,
            DatabaseErrorKind::SerializationFailure if begins(&["could not serialize access"]) => {
                Self::Caller
            }
            DatabaseErrorKind::SerializationFailure => Self::RecoveryConflict,
            DatabaseErrorKind::ReadOnlyTransaction => Self::ReadOnly,
            DatabaseErrorKind::Unknown if begins(GOING_DOWN) => Self::Node,
            // A deadlock between the query and what is replayed.
            DatabaseErrorKind::Unknown if begins(&["canceling statement due to conflict with recovery"]) => {
                Self::RecoveryConflict
            }
            DatabaseErrorKind::Unknown if begins(&["cached plan must not change result type"]) => {
                Self::StalePlan
            }
            _ => Self::Caller,
        }
    }

    /// The cause of an error as the server sends it: its SQLSTATE, and the routine that raised it. Neither is translated.
    ///
    /// Source: PostgreSQL documentation, "PostgreSQL Error Codes".
    pub(crate) fn of_server(code: &[u8], routine: &[u8]) -> Self {
        match code {
            // admin_shutdown, crash_shutdown, cannot_connect_now.
            b"57P01" | b"57P02" | b"57P03" => Self::Node,
            // system_error, io_error, data_corrupted, index_corrupted.
            b"58000" | b"58030" | b"XX001" | b"XX002" => Self::Node,
            b"40001" => Self::RecoveryConflict,
            // deadlock_detected: between the query and what is replayed.
            b"40P01" if routine == b"CheckRecoveryConflictDeadlock" => Self::RecoveryConflict,
            b"25006" => Self::ReadOnly,
            // feature_not_supported, the code of much else.
            b"0A000" if routine == b"RevalidateCachedQuery" => Self::StalePlan,
            _ => Self::Caller,
        }
    }
}

/// tokio-postgres's texts for what the caller gave it and could not be put into a message.
const NEVER_SENT: &[&str] = &["error serializing parameter", "error encoding message to server", "expected "];

const GOING_DOWN: &[&str] = &[
    "terminating connection due to administrator command",
    "terminating connection due to immediate shutdown command",
    "terminating connection because of crash of another server process",
    "the database system is ",
];

#[cfg(test)]
mod tests {
    use super::*;
    use DatabaseErrorKind::*;

    fn database(kind: DatabaseErrorKind, text: &str) -> Error {
        Error::DatabaseError(kind, Box::new(text.to_owned()))
    }

    #[test]
    fn diesels_errors_are_told_apart() {
        for (kind, text, cause) in [
            (ClosedConnection, "", Cause::Node),
            (UnableToSendCommand, "connection closed", Cause::Node),
            (UnableToSendCommand, "channel closed", Cause::Node),
            (UnableToSendCommand, "error communicating with the server", Cause::Node),
            (UnableToSendCommand, "unexpected message from server", Cause::Node),
            (UnableToSendCommand, "error parsing response from server", Cause::Node),
            (UnableToSendCommand, "error encoding message to server", Cause::Caller),
            (UnableToSendCommand, "error serializing parameter 1", Cause::Caller),
            (UnableToSendCommand, "expected 2 parameters but got 1", Cause::Caller),
            (Unknown, "terminating connection due to administrator command", Cause::Node),
            (Unknown, "terminating connection due to immediate shutdown command", Cause::Node),
            (Unknown, "terminating connection because of crash of another server process", Cause::Node),
            (Unknown, "the database system is starting up", Cause::Node),
            (Unknown, "the database system is shutting down", Cause::Node),
            (Unknown, "the database system is in recovery mode", Cause::Node),
            (Unknown, "the database system is not yet accepting connections", Cause::Node),
            (Unknown, "terminating connection due to idle-in-transaction timeout", Cause::Caller),
            (Unknown, "terminating connection due to conflict with recovery", Cause::Caller),
            (Unknown, "canceling statement due to statement timeout", Cause::Caller),
            (Unknown, "canceling statement due to user request", Cause::Caller),
            (Unknown, "sorry, too many clients already", Cause::Caller),
            (Unknown, "deadlock detected", Cause::Caller),
            (Unknown, "canceling statement due to conflict with recovery", Cause::RecoveryConflict),
            (Unknown, "cached plan must not change result type", Cause::StalePlan),
            (Unknown, "cannot use serializable mode in a hot standby", Cause::Caller),
            (
                SerializationFailure,
                "canceling statement due to conflict with recovery",
                Cause::RecoveryConflict,
            ),
            (
                SerializationFailure,
                "breche Anfrage ab wegen Konflikt mit Wiederherstellung",
                Cause::RecoveryConflict,
            ),
            (SerializationFailure, "could not serialize access due to concurrent update", Cause::Caller),
            (
                SerializationFailure,
                "could not serialize access due to read/write dependencies among transactions",
                Cause::Caller,
            ),
            (ReadOnlyTransaction, "cannot execute INSERT in a read-only transaction", Cause::ReadOnly),
            (UniqueViolation, "the database system is fine", Cause::Caller),
            (ForeignKeyViolation, "", Cause::Caller),
            (NotNullViolation, "", Cause::Caller),
            (CheckViolation, "", Cause::Caller),
        ] {
            assert_eq!(Cause::of(&database(kind, text)), cause, "{text}");
        }
        for error in [
            Error::NotFound,
            Error::RollbackTransaction,
            Error::AlreadyInTransaction,
            Error::BrokenTransactionManager,
            Error::DeserializationError("the database system is text".into()),
        ] {
            assert_eq!(Cause::of(&error), Cause::Caller, "{error}");
        }
    }

    #[test]
    fn a_commit_that_failed_counts_for_more_than_the_rollback_after_it() {
        let failed = |commit, rollback| Error::RollbackErrorOnCommit {
            commit_error: Box::new(commit),
            rollback_error: Box::new(rollback),
        };
        let lost = || database(UnableToSendCommand, "connection closed");
        assert_eq!(Cause::of(&failed(lost(), Error::BrokenTransactionManager)), Cause::Node);
        assert_eq!(Cause::of(&failed(Error::NotFound, lost())), Cause::Caller);
    }

    #[test]
    fn the_servers_codes_are_told_apart() {
        for (code, routine, cause) in [
            ("57P01", "ProcessInterrupts", Cause::Node),
            ("57P02", "quickdie", Cause::Node),
            ("57P03", "ProcessStartupPacket", Cause::Node),
            ("58030", "mdread", Cause::Node),
            ("58000", "", Cause::Node),
            ("XX001", "mdread", Cause::Node),
            ("XX002", "_bt_checkpage", Cause::Node),
            ("40001", "ProcessInterrupts", Cause::RecoveryConflict),
            ("25006", "PreventCommandIfReadOnly", Cause::ReadOnly),
            ("0A000", "RevalidateCachedQuery", Cause::StalePlan),
            ("0A000", "check_XactIsoLevel", Cause::Caller),
            ("0A000", "RevalidateCachedQueryAndMore", Cause::Caller),
            ("57014", "ProcessInterrupts", Cause::Caller),
            ("57P04", "ProcessInterrupts", Cause::Caller),
            ("57P05", "ProcessInterrupts", Cause::Caller),
            ("25P03", "ProcessInterrupts", Cause::Caller),
            ("53300", "InitProcess", Cause::Caller),
            ("53100", "mdextend", Cause::Caller),
            ("58P01", "pg_read_file", Cause::Caller),
            ("23505", "_bt_check_unique", Cause::Caller),
            ("40P01", "DeadLockReport", Cause::Caller),
            ("40P01", "CheckRecoveryConflictDeadlock", Cause::RecoveryConflict),
            ("XX000", "", Cause::Caller),
            ("", "", Cause::Caller),
            ("57P011", "", Cause::Caller),
        ] {
            assert_eq!(Cause::of_server(code.as_bytes(), routine.as_bytes()), cause, "{code} {routine}");
        }
    }
}
