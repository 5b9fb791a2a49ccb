//! Whether nodes answer, and what stands before them.

use super::super::facts::{Cause, Facts, Node, Server, Silent};
use super::super::finding::{Check, Finding};
use crate::fleet::Role;

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![];
    for (source, how) in &facts.failed_sources {
        findings.push(
            Finding::warning(Check::Discovery, format!("the source of nodes {source} fails: {how}"))
                .why("a service that starts now does not know the replicas that it would find there")
                .action("see whether the name resolves here and where the service runs"),
        );
    }
    for node in &facts.nodes {
        match &node.answer {
            Err(silent) => findings.push(unreachable(facts, node, silent)),
            Ok(server) => findings.extend(pooler(facts, node, server)),
        }
    }
    if facts.nodes.iter().all(|node| node.answer.is_ok()) {
        let nodes = facts.nodes.len();
        let found =
            if nodes == 1 { "the node answers".to_owned() } else { format!("all {nodes} nodes answer") };
        findings.push(Finding::ok(Check::Reachable, found));
    }
    findings
}

fn unreachable(facts: &Facts, node: &Node, silent: &Silent) -> Finding {
    let why = match node.listed {
        Role::Primary => "without a primary writes fail, and nobody can tell how far replicas are behind",
        Role::Replica => "it serves no reads: the other nodes carry its share",
    };
    let urls = facts.service.urls(node.listed);
    let Node { user, .. } = node;
    let action = match silent.cause {
        Cause::Network => format!("start the server, or correct host and port of its URL in {urls}"),
        Cause::TimedOut => {
            "see whether the server is frozen or overloaded, and whether a firewall drops packets on the way".to_owned()
        }
        Cause::Login => format!(
            "correct role and password of its URL in {urls}, or let `{user}` in: `ALTER ROLE .. LOGIN PASSWORD ..`, and a line in \
             pg_hba.conf"
        ),
        Cause::NoDatabase => format!("correct the database of its URL in {urls}"),
        Cause::Full => "raise `max_connections` (or the limit of the role or database), lower the pool sizes of its clients, or end \
             sessions that are idle"
            .to_owned(),
        Cause::NotReady => "wait until it has started, and look into its log if it does not".to_owned(),
        Cause::Told => "do what the text says; docs/tls.md and docs/managed.md tell more".to_owned(),
        Cause::Other => "look into the server's log".to_owned(),
    };
    Finding::problem(Check::Reachable, format!("does not answer: {}", silent.text))
        .on([&*node.name])
        .why(why)
        .action(action)
}

fn pooler(facts: &Facts, node: &Node, server: &Server) -> Vec<Finding> {
    let mut findings = vec![];
    if let Some(how) = &server.refuses_reads {
        let (finding, why) = match node.listed {
            _ if !facts.service.replicas_enabled => (
                Finding::note(Check::Pooler, how),
                "it does no harm before replicas are enabled, and will keep reads off this node from then on",
            ),
            Role::Replica => (
                Finding::problem(Check::Pooler, how),
                "reads need sessions that are read-only on the server: this node serves none",
            ),
            Role::Primary => (
                Finding::warning(Check::Pooler, how),
                "reads need sessions that are read-only on the server: they cannot fall back to the primary",
            ),
        };
        findings.push(finding.on([&*node.name]).why(why).action(
            "set `track_extra_parameters = default_transaction_read_only` in PgBouncer 1.20 or later and take `options` out of \
             `ignore_startup_parameters`, or connect to the server itself",
        ));
    } else if server.pooled {
        findings.push(
            Finding::note(Check::Pooler, "a pooler in transaction mode stands before it: two connections met the same server process")
                .on([&*node.name])
                .why("prepared statements, which Diesel uses, need its help, and its limits of connections count beside the server's")
                .action("set `max_prepared_statements` above 0 in PgBouncer 1.21 or later; docs/managed.md tells more"),
        );
    }
    if server.several {
        findings.push(
            Finding::warning(Check::Pooler, "its address leads to several servers")
                .on([&*node.name])
                .why("lag and health are measured on one of them, and reads go to any")
                .action(format!(
                    "give each server a URL of its own, or set {} to a name that has all addresses",
                    facts.service.variable("READ_REPLICA_DNS")
                )),
        );
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::super::facts::{Cause, Silent, fixture::healthy};
    use super::super::super::finding::{Check, Severity};
    use super::super::tests::{bad, only};

    fn silent(cause: Cause) -> Silent {
        Silent { cause, text: "connection refused".into() }
    }

    #[test]
    fn a_node_that_does_not_answer_is_a_problem_and_the_others_are_judged() {
        let mut facts = healthy();
        facts.node("c").answer = Err(silent(Cause::Network));
        facts.server("b").seen.standby.replay_paused = Some(true);
        assert_eq!(bad(&facts), [(Severity::Problem, Check::Reachable), (Severity::Problem, Check::Replay)]);
        let finding = only(&facts, Check::Reachable);
        assert_eq!(finding.nodes, ["c"]);
        assert!(finding.found.contains("connection refused"));
        assert!(finding.action.contains("DB_READ_REPLICA_URLS"), "{}", finding.action);
    }

    #[test]
    fn what_to_do_depends_on_why_it_does_not_answer() {
        for (cause, words) in [
            (Cause::Network, "DATABASE_URL"),
            (Cause::TimedOut, "firewall"),
            (Cause::Login, "pg_hba.conf"),
            (Cause::NoDatabase, "database"),
            (Cause::Full, "max_connections"),
            (Cause::NotReady, "wait"),
            (Cause::Told, "text"),
            (Cause::Other, "log"),
        ] {
            let mut facts = healthy();
            facts.node("a").answer = Err(silent(cause));
            let action = only(&facts, Check::Reachable).action;
            assert!(action.contains(words), "{cause:?}: {action}");
        }
    }

    #[test]
    fn variables_have_their_prefix() {
        let mut facts = healthy();
        facts.service.prefix = "ORDERS_".into();
        facts.node("a").answer = Err(silent(Cause::Network));
        assert!(only(&facts, Check::Reachable).action.contains("ORDERS_URL"));
    }

    #[test]
    fn a_pooler_that_keeps_reads_away_is_as_bad_as_what_it_keeps_them_from() {
        for (node, enabled, severity) in
            [("b", true, Severity::Problem), ("a", true, Severity::Warning), ("a", false, Severity::Note)]
        {
            let mut facts = healthy();
            facts.service.replicas_enabled = enabled;
            facts.server(node).refuses_reads = Some("it refuses `options`".into());
            let finding = only(&facts, Check::Pooler);
            assert_eq!(finding.severity, severity);
            assert!(finding.action.contains("track_extra_parameters"));
        }
    }

    #[test]
    fn a_pooler_that_lets_all_through_is_worth_a_note_and_several_servers_a_warning() {
        let mut facts = healthy();
        facts.server("b").pooled = true;
        assert_eq!(only(&facts, Check::Pooler).severity, Severity::Note);
        facts.server("b").pooled = false;
        facts.server("b").several = true;
        assert_eq!(only(&facts, Check::Pooler).severity, Severity::Warning);
    }

    #[test]
    fn a_source_that_fails_is_a_warning() {
        let mut facts = healthy();
        facts.failed_sources = vec![("DnsDiscovery".into(), "no such name".into())];
        assert!(only(&facts, Check::Discovery).found.contains("no such name"));
    }
}
