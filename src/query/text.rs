//! The commands that raw SQL may not begin with, even if it is asserted to only read.
//!
//! A read-only session refuses what writes to tables. It does not refuse what changes the session itself, which the
//! next user of the pooled connection would inherit, nor a few commands of maintenance and administration. Those are
//! recognised by the word that they begin with, and never sent. Only the first command of a text counts: text is sent
//! as a prepared statement, and the server refuses to prepare more than one command at a time.

use std::fmt;

/// What raw SQL on a read-only handle may not begin with, and why.
const REFUSED: &[(&str, Reason)] = &[
    ("ABORT", Reason::Transaction),
    // The other forms of ALTER fail in a read-only session, ALTER SYSTEM does not.
    ("ALTER", Reason::Fence),
    ("ANALYZE", Reason::Fence),
    ("BEGIN", Reason::Transaction),
    // A procedure can commit, and go on in a transaction that may write.
    ("CALL", Reason::Fence),
    ("CHECKPOINT", Reason::Fence),
    ("CLOSE", Reason::Session),
    ("CLUSTER", Reason::Fence),
    ("COMMIT", Reason::Transaction),
    // It changes the protocol, and with PROGRAM it runs anything on the server.
    ("COPY", Reason::Fence),
    // Diesel relies on the statements that it has prepared, as with DISCARD.
    ("DEALLOCATE", Reason::Session),
    ("DECLARE", Reason::Session),
    ("DISCARD", Reason::Session),
    // A block can commit as a procedure can, and change the session.
    ("DO", Reason::Fence),
    ("END", Reason::Transaction),
    ("EXECUTE", Reason::Session),
    ("LISTEN", Reason::Session),
    ("LOAD", Reason::Session),
    ("LOCK", Reason::Fence),
    ("NOTIFY", Reason::Fence),
    // A prepared statement, or PREPARE TRANSACTION.
    ("PREPARE", Reason::Session),
    ("REINDEX", Reason::Fence),
    ("RELEASE", Reason::Transaction),
    ("RESET", Reason::Session),
    ("ROLLBACK", Reason::Transaction),
    ("SAVEPOINT", Reason::Transaction),
    ("SET", Reason::Session),
    ("START", Reason::Transaction),
    ("UNLISTEN", Reason::Session),
    ("VACUUM", Reason::Fence),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    /// It begins or ends a transaction, or a part of one.
    Transaction,
    /// It changes the session, which the next user of the connection inherits.
    Session,
    /// It has an effect that a read-only session does not stop.
    Fence,
}

/// A command that is not sent from a read-only handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RefusedCommand {
    word: &'static str,
    reason: Reason,
}

impl fmt::Display for RefusedCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let does = match self.reason {
            Reason::Transaction => "controls the transaction; use `snapshot()` for a read transaction",
            Reason::Session => {
                "changes the session for whoever uses the connection next; run it on a `WriteConn`"
            }
            Reason::Fence => "has effects that a read-only session does not stop; run it on a `WriteConn`",
        };
        write!(f, "`{}` was not sent from a read-only handle: it {does}", self.word)
    }
}

impl std::error::Error for RefusedCommand {}

/// The command that `sql` begins with, if it is one of those that are not sent.
pub(super) fn refused_command(sql: &str) -> Option<RefusedCommand> {
    let first = first_word(sql)?;
    let (word, reason) = REFUSED.iter().find(|(word, _)| word.eq_ignore_ascii_case(first))?;
    Some(RefusedCommand { word, reason: *reason })
}

/// The keyword that a text begins with, after what PostgreSQL skips: white space, comments, and empty commands.
fn first_word(sql: &str) -> Option<&str> {
    let mut rest = sql;
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\n', '\r', '\x0b', '\x0c', ';']);
        if let Some(comment) = rest.strip_prefix("--") {
            rest = &comment[comment.find(['\n', '\r'])?..];
        } else if let Some(comment) = rest.strip_prefix("/*") {
            rest = after_block_comment(comment)?;
        } else {
            break;
        }
    }
    // An identifier goes on with digits, `$` and everything outside of ASCII: `SET1` is not `SET`.
    let in_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '$' || !c.is_ascii();
    let word = &rest[..rest.find(|c| !in_word(c)).unwrap_or(rest.len())];
    (!word.is_empty()).then_some(word)
}

/// What follows the comment whose beginning has been read. Block comments nest in PostgreSQL.
fn after_block_comment(mut rest: &str) -> Option<&str> {
    let mut depth = 1;
    while depth > 0 {
        rest = &rest[rest.find(['/', '*'])?..];
        if let Some(inner) = rest.strip_prefix("/*") {
            depth += 1;
            rest = inner;
        } else if let Some(outer) = rest.strip_prefix("*/") {
            depth -= 1;
            rest = outer;
        } else {
            rest = &rest[1..];
        }
    }
    Some(rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn refuses(sql: &str, word: &str) {
        assert_eq!(refused_command(sql).map(|c| c.word), Some(word), "{sql:?}");
    }

    #[track_caller]
    fn sends(sql: &str) {
        assert_eq!(refused_command(sql), None, "{sql:?}");
    }

    #[test]
    fn commands_are_found_in_any_case_and_behind_anything_that_is_skipped() {
        refuses("SET x = 1", "SET");
        refuses("set x = 1", "SET");
        refuses("\n\t rEsEt ALL", "RESET");
        refuses(";; COMMIT", "COMMIT");
        refuses("--one\n--two\rBEGIN", "BEGIN");
        refuses("/* a */ROLLBACK", "ROLLBACK");
        refuses("/* a /* nested */ SELECT */ ABORT", "ABORT");
        refuses("/**/-- x\n;/***/ DO $$BEGIN END$$", "DO");
        refuses("/*/ still a comment */LOCK", "LOCK");
        refuses("END", "END");
    }

    #[test]
    fn reads_are_sent() {
        sends("SELECT 1");
        sends("(SELECT 1)");
        sends("WITH a AS (SELECT 1) TABLE a");
        sends("VALUES (1)");
        sends("SHOW transaction_read_only");
        sends("EXPLAIN SELECT 1");
        sends("FETCH ALL FROM c");
    }

    #[test]
    fn words_inside_are_of_no_account() {
        sends("SELECT 'x'; COMMIT");
        sends("/* SET */ SELECT 1");
        sends("-- SET\nSELECT 1");
        sends("\"SET\"");
    }

    #[test]
    fn longer_words_are_other_words() {
        sends("SETS");
        sends("SET1");
        sends("SET_x");
        sends("SETé");
        sends("DO$$BEGIN END$$");
    }

    #[test]
    fn text_without_a_command_is_left_to_the_server() {
        sends("");
        sends(" ; ");
        sends("-- no end");
        sends("/* no /* end */");
        sends("$1");
    }

    #[test]
    fn the_message_says_what_to_do() {
        let message = |sql| refused_command(sql).map(|c| c.to_string()).unwrap();

        assert_eq!(
            message("begin"),
            "`BEGIN` was not sent from a read-only handle: it controls the transaction; use `snapshot()` for a read \
             transaction"
        );
        assert_eq!(
            message("SET a = b"),
            "`SET` was not sent from a read-only handle: it changes the session for whoever uses the connection \
             next; run it on a `WriteConn`"
        );
    }

    fn skipped() -> impl Strategy<Value = String> {
        let block = "[a-z '$]{0,8}".prop_map(|text| format!("/*{text}*/"));
        let nested = block.prop_recursive(3, 8, 3, |inner| {
            prop::collection::vec(inner, 0..3).prop_map(|inner| format!("/*{}*/", inner.concat()))
        });
        let line = "[A-Za-z /*;']{0,12}".prop_map(|text| format!("--{text}\n"));
        let blank = "[ \t\n\r\x0b\x0c;]{1,4}";
        prop::collection::vec(prop_oneof![nested, line, blank], 0..6).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn what_is_skipped_hides_no_command(
            skipped in skipped(),
            (word, _) in prop::sample::select(REFUSED),
            upper in any::<bool>(),
            end in "([ ;(/'\"\n-].*)?",
        ) {
            let word = if upper { word.to_owned() } else { word.to_ascii_lowercase() };
            let sql = format!("{skipped}{word}{end}");
            prop_assert_eq!(refused_command(&sql).map(|c| c.word), Some(&*word.to_ascii_uppercase()));
        }

        #[test]
        fn what_is_skipped_does_not_make_a_command(skipped in skipped(), rest in "(SELECT|with|VALUES|\\()[ -~]*") {
            prop_assert_eq!(refused_command(&format!("{skipped}{rest}")), None);
        }

        #[test]
        fn any_text_is_scanned_without_panic(sql in any::<String>(), marks in "[-/*;\r\n SET]{0,40}") {
            refused_command(&sql);
            refused_command(&marks);
            refused_command(&(marks + &sql));
        }
    }
}
