//! How far replicas are behind, by accident or on purpose.

use super::super::facts::{Facts, Node, Replay, Server};
use super::super::finding::{Check, Finding, Severity};
use crate::health::Millis;
use crate::limitation::Limitation;
use std::time::Duration;

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![];
    let mut fresh = vec![];
    for (node, server) in facts.standbys() {
        match (measured(server), &server.replay) {
            (Some(lag), _) if lag <= facts.service.lag_threshold => fresh.push((&*node.name, lag)),
            (Some(lag), _) => {
                let found = format!("it is behind by {} at most", Millis(lag));
                findings.push(lagging(facts, node, Finding::warning(Check::Lag, found)));
            }
            (None, Some(Replay::NotWithin(limit, bytes))) => {
                let found = format!(
                    "it still lacks {bytes} of what the primary had written {} before",
                    Millis(*limit)
                );
                findings.push(lagging(facts, node, Finding::problem(Check::Lag, found)));
            }
            // A function that is withheld is told as such.
            (None, Some(Replay::Untold)) if !withholds(server) => findings.push(untold(node)),
            (None, _) => {}
        }
        findings.extend(delayed(facts, node, server));
    }
    if let Some(lag) = fresh.iter().map(|(_, lag)| *lag).max() {
        let found = format!("behind by {} at most", Millis(lag));
        findings.push(Finding::ok(Check::Lag, found).on(fresh.into_iter().map(|(name, _)| name)));
    }
    findings
}

fn measured(server: &Server) -> Option<Duration> {
    server.seen.standby.reported.or_else(|| server.replay.as_ref()?.time())
}

fn lagging(facts: &Facts, node: &Node, finding: Finding) -> Finding {
    let threshold = Millis(facts.service.lag_threshold);
    let why = format!(
        "over {threshold} ({}) a replica serves no reads",
        facts.service.variable("REPLICA_LAG_THRESHOLD")
    );
    finding.on([&*node.name]).why(why).action(
        "see what holds the replay up: a long query on it (pg_stat_activity there), its disk, the network, a bulk load on the primary; or \
         raise the threshold if older data will do",
    )
}

fn withholds(server: &Server) -> bool {
    server.seen.limitations.iter().any(|limitation| match limitation {
        Limitation::Withheld(functions) => functions.contains(&"pg_last_wal_replay_lsn"),
        _ => false,
    })
}

fn untold(node: &Node) -> Finding {
    Finding::warning(Check::Lag, "it does not say how far it has replayed")
        .on([&*node.name])
        .why("nobody can tell its lag, so it serves no reads")
        .action("look into its log: a standby that has just started has no position yet")
}

fn delayed(facts: &Facts, node: &Node, server: &Server) -> Option<Finding> {
    let delay = server.settings.apply_delay.filter(|delay| !delay.is_zero())?;
    let over = delay > facts.service.lag_threshold;
    let severity = if over { Severity::Warning } else { Severity::Note };
    let found = format!("`recovery_min_apply_delay` holds every commit back for {}", Millis(delay));
    Some(
        Finding { severity, ..Finding::note(Check::Lag, found) }
            .on([&*node.name])
            .why(
                "it lags by this on purpose, as a spare copy before mistakes, and is of little use for reads",
            )
            .action(format!("take it out of {}, or set the delay to 0", facts.service.urls(node.listed))),
    )
}

#[cfg(test)]
mod tests {
    use super::super::super::facts::{Replay, fixture::healthy};
    use super::super::super::finding::{Check, Severity};
    use super::super::tests::{bad, has, only};
    use crate::limitation::Limitation;
    use crate::lsn::WalBytes;
    use std::time::Duration;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn lag_over_the_threshold_is_a_warning_and_no_end_to_it_a_problem() {
        let mut facts = healthy();
        for (replay, severity) in [
            (Replay::Within(ms(1000)), Severity::Ok),
            (Replay::Within(ms(1001)), Severity::Warning),
            (Replay::NotWithin(ms(5000), WalBytes::new(2048)), Severity::Problem),
            (Replay::Untold, Severity::Warning),
        ] {
            facts.server("b").replay = Some(replay.clone());
            assert_eq!(has(&facts, Check::Lag), severity > Severity::Ok, "{replay:?}");
            if severity > Severity::Ok {
                assert_eq!(only(&facts, Check::Lag).severity, severity, "{replay:?}");
            }
        }
        facts.server("b").replay = Some(Replay::Within(ms(1001)));
        facts.service.lag_threshold = ms(2000);
        assert!(!has(&facts, Check::Lag));
    }

    #[test]
    fn a_position_that_is_withheld_is_told_once() {
        let mut facts = healthy();
        facts.server("b").replay = Some(Replay::Untold);
        facts.limit("b", Limitation::Withheld(vec!["pg_last_wal_replay_lsn"]));
        assert_eq!(bad(&facts), [(Severity::Warning, Check::Functions)]);
    }

    #[test]
    fn lag_that_is_reported_counts_where_there_is_no_other() {
        let mut facts = healthy();
        facts.server("b").replay = Some(Replay::Untold);
        facts.server("b").seen.standby.reported = Some(ms(20));
        assert!(!has(&facts, Check::Lag));
        facts.server("b").seen.standby.reported = Some(ms(2000));
        assert_eq!(only(&facts, Check::Lag).severity, Severity::Warning);
    }

    #[test]
    fn a_delay_on_purpose_is_told() {
        let mut facts = healthy();
        facts.server("b").settings.apply_delay = Some(ms(500));
        assert_eq!(only(&facts, Check::Lag).severity, Severity::Note);
        facts.server("b").settings.apply_delay = Some(ms(60_000));
        assert_eq!(only(&facts, Check::Lag).severity, Severity::Warning);
    }
}
