//! Whether replicas receive and replay, and what becomes of queries in the way.

use super::super::facts::{Bound, Facts, Node, Server, Settings};
use super::super::finding::{Check, Finding};
use crate::health::Millis;
use crate::observation::Receiver;
use std::time::Duration;

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![];
    for (node, server) in facts.standbys() {
        findings.extend(paused(node, server));
        findings.extend(receiver(facts, node, server));
        findings.extend(conflicts(facts, node, server));
        findings.extend(silent_receiver(node, &server.settings));
    }
    findings
}

fn paused(node: &Node, server: &Server) -> Option<Finding> {
    (server.seen.standby.replay_paused == Some(true)).then(|| {
        Finding::problem(Check::Replay, "its replay is paused")
            .on([&*node.name])
            .why("its data grows older and log piles up: it serves no reads once something has been written")
            .action(
                "`SELECT pg_wal_replay_resume()` on it; if it paused by itself, its log says which setting is lower than the primary's",
            )
    })
}

fn receiver(facts: &Facts, node: &Node, server: &Server) -> Option<Finding> {
    // Without a primary there is nobody to receive from, and that is told.
    if server.seen.standby.receiver != Some(Receiver::Stopped) || facts.primary().is_none() {
        return None;
    }
    let found = "it receives no log: its WAL receiver is not streaming";
    // An archive may still feed it.
    Some(
        Finding::problem(Check::Receiver, found)
            .on([&*node.name])
            .why("what is written from now on does not reach it, unless an archive does, and then late")
            .action(
                "look into its log, and see that its `primary_conninfo` leads to the primary, that pg_hba.conf there lets `replication` in, \
                 and that `max_wal_senders` is not used up",
            ),
    )
}

/// The three ways to deal with queries that need what the primary has removed: each has its price.
fn conflicts(facts: &Facts, node: &Node, server: &Server) -> Option<Finding> {
    let Settings { feedback, streaming_delay, .. } = server.settings;
    let threshold = facts.service.lag_threshold;
    let cancelled = match server.conflicts {
        None | Some(0) => String::new(),
        Some(queries) => format!("; {queries} queries were cancelled so far"),
    };
    let feedback = feedback?;
    let shown = if feedback { "on" } else { "off" };
    let finding = match streaming_delay? {
        Bound::Unlimited => Finding::warning(
            Check::Conflicts,
            format!("`max_standby_streaming_delay` is -1, `hot_standby_feedback` is {shown}{cancelled}"),
        )
        .why("no query is cancelled for the replay's sake: one that is long, or idle in its transaction, makes the replica lag without end")
        .action(format!(
            "set it to what lag may be, {} or a little more, and `statement_timeout` for its queries",
            Millis(threshold)
        )),
        Bound::Within(delay) if delay > threshold => {
            let found = format!("`max_standby_streaming_delay` is {}, `hot_standby_feedback` is {shown}{cancelled}", Millis(delay));
            let why = format!(
                "the replay waits that long for a query in its way, and after {} of lag the replica serves no reads{}",
                Millis(threshold),
                if feedback { "" } else { "; the query is cancelled then" }
            );
            Finding::note(Check::Conflicts, found).why(why).action(format!(
                "to keep lag low set it to {}; {}",
                Millis(threshold),
                if feedback {
                    "queries are seldom in the way, since the primary keeps old rows for them"
                } else {
                    "to keep queries alive set `hot_standby_feedback = on`, at the price of old rows (bloat) on the primary"
                }
            ))
        }
        Bound::Within(delay) if !feedback => {
            let found = format!("`hot_standby_feedback` is off, `max_standby_streaming_delay` is {}{cancelled}", Millis(delay));
            Finding::note(Check::Conflicts, found)
                .why(format!(
                    "a query that needs rows which the primary has removed is cancelled after {}, and `with_read` runs it once more elsewhere",
                    Millis(delay)
                ))
                .action("nothing if queries are short; else `hot_standby_feedback = on`, at the price of old rows (bloat) on the primary")
        }
        Bound::Within(delay) => {
            let found = format!(
                "`hot_standby_feedback` is on, so queries are seldom cancelled and the primary keeps old rows for them; the replay waits {} at \
                 most{cancelled}",
                Millis(delay)
            );
            Finding::ok(Check::Conflicts, found)
        }
    };
    Some(finding.on([&*node.name]))
}

fn silent_receiver(node: &Node, settings: &Settings) -> Option<Finding> {
    (settings.status_interval? == Duration::ZERO).then(|| {
        let (told, why) = if settings.feedback == Some(true) {
            (
                "`wal_receiver_status_interval` is 0, so `hot_standby_feedback` is not sent",
                "the primary removes rows that queries here need, and does not know how far this replica is",
            )
        } else {
            (
                "`wal_receiver_status_interval` is 0, so the primary is not told how far this replica is",
                "its slot keeps log that is long replayed, and pg_stat_replication shows old positions",
            )
        };
        Finding::warning(Check::Receiver, told).on([&*node.name]).why(why).action(
            "`ALTER SYSTEM SET wal_receiver_status_interval = '1s'` and `SELECT pg_reload_conf()` on it",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::facts::{Bound, fixture::healthy};
    use super::super::super::finding::{Check, Finding, Severity};
    use super::super::tests::{bad, has, only};
    use crate::observation::Receiver;
    use std::time::Duration;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_replay_that_is_paused_and_a_receiver_that_has_stopped_are_problems() {
        let mut facts = healthy();
        facts.server("b").seen.standby.replay_paused = Some(true);
        facts.server("c").seen.standby.receiver = Some(Receiver::Stopped);
        assert_eq!(bad(&facts), [(Severity::Problem, Check::Replay), (Severity::Problem, Check::Receiver)]);
        assert!(only(&facts, Check::Replay).action.contains("pg_wal_replay_resume"));
        facts.server("b").seen.standby.replay_paused = None;
        facts.server("c").seen.standby.receiver = None;
        assert!(bad(&facts).is_empty(), "what is not told is not held against it");
        facts.server("c").seen.standby.receiver = Some(Receiver::Stopped);
        facts.server("a").seen.in_recovery = true;
        assert!(!has(&facts, Check::Receiver), "there is nobody to receive from");
    }

    /// What is said of one combination; the other replica has none of it.
    fn conflicts(feedback: bool, delay: Bound) -> Option<Finding> {
        let mut facts = healthy();
        facts.server("b").settings.feedback = Some(feedback);
        facts.server("b").settings.streaming_delay = Some(delay);
        has(&facts, Check::Conflicts).then(|| only(&facts, Check::Conflicts))
    }

    #[test]
    fn each_way_to_deal_with_conflicts_has_its_price() {
        for (feedback, delay, severity, words) in [
            (true, Bound::Unlimited, Severity::Warning, "lag without end"),
            (false, Bound::Unlimited, Severity::Warning, "lag without end"),
            (true, Bound::Within(ms(30_000)), Severity::Note, "waits that long"),
            (false, Bound::Within(ms(30_000)), Severity::Note, "cancelled then"),
            (false, Bound::Within(ms(500)), Severity::Note, "cancelled after 500 ms"),
        ] {
            let finding = conflicts(feedback, delay).unwrap_or_else(|| panic!("{feedback} {delay:?}"));
            assert_eq!(finding.severity, severity, "{finding:?}");
            assert!(finding.why.contains(words), "{finding:?}");
        }
        assert_eq!(conflicts(true, Bound::Within(ms(500))), None);
    }

    #[test]
    fn queries_that_were_cancelled_are_counted() {
        let mut facts = healthy();
        facts.server("b").settings.feedback = Some(false);
        facts.server("b").conflicts = Some(7);
        assert!(only(&facts, Check::Conflicts).found.contains("7 queries were cancelled"));
    }

    #[test]
    fn a_receiver_that_says_nothing_is_a_warning() {
        let mut facts = healthy();
        facts.server("b").settings.status_interval = Some(Duration::ZERO);
        assert!(only(&facts, Check::Receiver).found.contains("feedback` is not sent"));
        facts.server("b").settings.feedback = Some(false);
        assert!(only(&facts, Check::Receiver).why.contains("slot"));
    }
}
