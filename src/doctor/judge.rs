//! What the facts mean. Pure: it asks nobody and knows no clock.

mod access;
mod capacity;
mod lag;
mod reach;
mod replication;
mod roles;
mod slots;

pub(super) use roles::shown_version;

use super::facts::Facts;
use super::finding::Finding;
use std::cmp::Reverse;

/// The worst first, and among equals those that others follow from. What is found on several nodes is told once.
pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let all = [
        reach::judge(facts),
        roles::judge(facts),
        replication::judge(facts),
        lag::judge(facts),
        slots::judge(facts),
        access::judge(facts),
        capacity::judge(facts),
    ]
    .concat();
    let mut findings: Vec<Finding> = vec![];
    for finding in all {
        match findings.iter_mut().find(|other| other.says_the_same(&finding)) {
            Some(other) => other.nodes.extend(finding.nodes),
            None => findings.push(finding),
        }
    }
    findings.sort_by_key(|finding| Reverse(finding.severity));
    findings
}

/// `a`, `a and b`, `a, b and c`.
fn list(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [names @ .., last] => format!("{} and {last}", names.join(", ")),
    }
}

/// Helpers of the judges' tests.
#[cfg(test)]
mod tests {
    use super::super::facts::{Cause, Facts, Silent, fixture::healthy};
    use super::super::finding::{Check, Finding, Severity};
    use super::{judge, list};

    /// Those that are more than notes, in their order.
    pub(super) fn bad(facts: &Facts) -> Vec<(Severity, Check)> {
        let bad = judge(facts).into_iter().filter(|finding| finding.severity > Severity::Note);
        bad.map(|finding| (finding.severity, finding.check)).collect()
    }

    /// The one finding of this check that is not ok.
    pub(super) fn only(facts: &Facts, check: Check) -> Finding {
        let all = judge(facts);
        let mut found =
            all.iter().filter(|finding| finding.check == check && finding.severity > Severity::Ok);
        match (found.next(), found.next()) {
            (Some(finding), None) => finding.clone(),
            _ => panic!("not one {check}: {all:#?}"),
        }
    }

    /// What is there but ok.
    pub(super) fn has(facts: &Facts, check: Check) -> bool {
        judge(facts).iter().any(|finding| finding.check == check && finding.severity > Severity::Ok)
    }

    #[test]
    fn nothing_is_said_against_a_healthy_cluster() {
        let findings = judge(&healthy());
        assert!(findings.iter().all(|finding| finding.severity == Severity::Ok), "{findings:#?}");
        assert!(findings.len() > 5);
    }

    #[test]
    fn the_worst_comes_first_and_every_finding_says_why_and_what_to_do() {
        let mut facts = healthy();
        facts.server("b").seen.standby.replay_paused = Some(true);
        facts.server("b").account.as_mut().expect("known").superuser = true;
        facts.server("c").seen.timeline = Some(2);
        let findings = judge(&facts);
        assert!(findings.is_sorted_by_key(|finding| std::cmp::Reverse(finding.severity)));
        for finding in &findings {
            let well = finding.severity == Severity::Ok;
            assert_eq!(finding.why.is_empty(), well, "{finding:?}");
            assert_eq!(finding.action.is_empty(), well, "{finding:?}");
            assert!(well || !finding.nodes.is_empty(), "{finding:?}");
        }
    }

    #[test]
    fn what_is_found_on_several_nodes_is_told_once() {
        let mut facts = healthy();
        for name in ["b", "c"] {
            facts.server(name).seen.standby.replay_paused = Some(true);
        }
        assert_eq!(only(&facts, Check::Replay).nodes, ["b", "c"]);
    }

    #[test]
    fn where_nobody_answers_nothing_is_called_well() {
        let mut facts = healthy();
        for node in &mut facts.nodes {
            node.answer = Err(Silent { cause: Cause::Network, text: "refused".into() });
        }
        let findings = judge(&facts);
        assert!(findings.iter().all(|finding| finding.severity == Severity::Problem), "{findings:#?}");
    }

    #[test]
    fn names_are_listed_as_people_do() {
        assert_eq!(list(&["a"]), "a");
        assert_eq!(list(&["a", "b", "c"]), "a, b and c");
    }
}
