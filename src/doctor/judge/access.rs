//! Who connects, what they may do and are told, and who can listen.

use super::super::facts::{Facts, Link, Node, Server};
use super::super::finding::{Check, Finding};
use super::list;
use crate::endpoint::Mode;
use crate::fleet::Role;
use crate::limitation::Limitation;

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![];
    for (node, server) in facts.servers() {
        findings.extend(untold(node, server));
        findings.extend(privileges(facts, node, server));
        for limitation in &server.seen.limitations {
            findings.extend(limited(facts, node, server, limitation));
        }
        findings.extend(encryption(node, server));
    }
    let checks = [
        (Check::Privileges, "no role has more rights than it needs"),
        (Check::Statistics, "every role is told what the router asks"),
        (Check::Functions, "every server has the functions that the router asks"),
        (Check::Encryption, "every connection is encrypted, or stays on this machine"),
    ];
    let all_told = facts.servers().all(|(_, server)| server.untold().is_empty());
    for (check, found) in checks {
        if all_told
            && facts.servers().next().is_some()
            && findings.iter().all(|finding| finding.check != check)
        {
            findings.push(Finding::ok(check, found));
        }
    }
    findings
}

/// What is not known is not well.
fn untold(node: &Node, server: &Server) -> Option<Finding> {
    let untold = server.untold();
    (!untold.is_empty()).then(|| {
        Finding::note(Check::Functions, format!("does not say what was asked of its {}", list(&untold)))
            .on([&*node.name])
            .why("what depends on that was not checked")
            .action("run this again; if that does not help, the server's log says what it refuses")
    })
}

fn privileges(facts: &Facts, node: &Node, server: &Server) -> Option<Finding> {
    let account = server.account.as_ref()?;
    let role = &account.role;
    let barrier = format!(
        "`CREATE ROLE reader LOGIN`, `GRANT SELECT` on the tables to it, and its name in {}; where a replica may be promoted and take \
         writes, its URL needs the role that writes",
        facts.service.urls(Role::Replica)
    );
    let finding = if account.superuser {
        Finding::warning(Check::Privileges, format!("the service connects as the superuser `{role}`"))
            .why("a flaw in the service is one of the whole server, and no fence keeps a read from writing")
            .action(match node.listed {
                Role::Primary => {
                    "connect as a role that owns nothing and may do what the service does".to_owned()
                }
                Role::Replica => barrier,
            })
    } else if account.writes && node.listed == Role::Replica {
        Finding::note(Check::Privileges, format!("reads run as `{role}`, which may write"))
            .why("read-only sessions stop writes, but not a session that makes itself writable on the primary: SELECT alone is the hard barrier")
            .action(barrier)
    } else {
        return None;
    };
    Some(finding.on([&*node.name]))
}

fn limited(facts: &Facts, node: &Node, server: &Server, limitation: &Limitation) -> Option<Finding> {
    let role = server.account.as_ref().map_or(&node.user, |account| &account.role);
    let finding = match limitation {
        // Told with all else that is to be said of encryption, and of what stands before the server.
        Limitation::Unencrypted(_) | Limitation::SeveralServers => return None,
        Limitation::StatisticsHidden => {
            Finding::note(Check::Statistics, format!("`{role}` is no member of pg_read_all_stats"))
                .why(
                    "the router does without: a standby's switch to a new timeline is seen when it flushes next, and a session's read that \
                     falls back to the primary may wait for a transaction of others",
                )
                .action(format!("`GRANT pg_monitor TO {role}`, if that matters"))
        }
        Limitation::Withheld(_) if is_aurora(facts) => Finding::note(Check::Functions, limitation.to_string())
            .why("Amazon Aurora has its own replication: lag is what it reports, and what has to see a write is read on the writer")
            .action("nothing; docs/managed.md tells more"),
        Limitation::Withheld(functions) => {
            let action = if functions.iter().all(|function| function.starts_with("pg_")) {
                format!("`GRANT EXECUTE ON FUNCTION .. TO {role}`; a managed service may not have them, and docs/managed.md says what that means")
            } else {
                "docs/managed.md says what that means".to_owned()
            };
            Finding::warning(Check::Functions, limitation.to_string())
                .why(missing(facts, functions))
                .action(action)
        }
        Limitation::LagReported => Finding::note(Check::Functions, limitation.to_string())
            .why("reads that have to see a write go to the writer, since no reader says how far it has come")
            .action("nothing; give each reader's own endpoint, not the cluster's reader endpoint"),
    };
    Some(finding.on([&*node.name]))
}

fn is_aurora(facts: &Facts) -> bool {
    facts.servers().any(|(_, server)| server.seen.limitations.contains(&Limitation::LagReported))
}

/// What goes without these functions, the gravest alone.
fn missing(facts: &Facts, functions: &[&str]) -> String {
    let lacks = |function| functions.contains(&function);
    if lacks("pg_current_wal_lsn") {
        "nobody can tell the lag of any replica, and what has to see a write is read on the primary"
            .to_owned()
    } else if lacks("pg_last_wal_replay_lsn") {
        format!(
            "nobody can tell its lag: it serves reads with {}=serve alone",
            facts.service.variable("UNVERIFIED_LAG")
        )
    } else if lacks("pg_control_system") {
        "a server of another cluster is not told from one of this".to_owned()
    } else if ["pg_walfile_name", "pg_stat_get_wal_receiver", "pg_control_checkpoint", "pg_control_recovery"]
        .map(lacks)
        .contains(&true)
    {
        "timelines are not told apart, and so a deposed primary is not after a promotion".to_owned()
    } else {
        "the router does without".to_owned()
    }
}

fn encryption(node: &Node, server: &Server) -> Option<Finding> {
    let Node { mode, local, .. } = node;
    let verify = "`sslmode=verify-full` with `sslrootcert` in its URL";
    let finding = match (server.link, server.sees_tls) {
        (Link::Socket, _) => return None,
        (Link::Plain, Some(true)) => Finding::note(
            Check::Encryption,
            "a pooler encrypts its own way to the server, and not the way to it",
        )
        .why("whoever can listen between the service and the pooler reads everything")
        .action("give the pooler TLS for clients, unless it runs beside the service"),
        (Link::Plain, _) => {
            let plain = |limitation: &Limitation| match limitation {
                Limitation::Unencrypted(why) => Some(format!(": {why}")),
                _ => None,
            };
            let how = server.seen.limitations.iter().find_map(plain);
            let found = format!(
                "connections are in plain text{}",
                how.unwrap_or_else(|| ", as `sslmode=disable` asks".to_owned())
            );
            let finding = if *local {
                Finding::note(Check::Encryption, found)
            } else {
                Finding::warning(Check::Encryption, found)
            };
            let why = if *local {
                "it does no harm on one machine, and would between two"
            } else {
                "whoever can listen between reads everything, and whoever stands between can answer in the server's place"
            };
            finding.why(why).action(format!("switch `ssl` on in the server, and set {verify}"))
        }
        (Link::Encrypted, _) if *mode < Mode::VerifyCa => {
            let found = "connections are encrypted, and nobody looks at the server's certificate";
            Finding::note(Check::Encryption, found)
                .why("whoever stands between can answer in the server's place")
                .action(format!("set {verify}"))
        }
        (Link::Encrypted, Some(false)) => {
            Finding::note(Check::Encryption, "a pooler ends the encryption before the server")
                .why("the rest of the way is in plain text")
                .action("give the pooler TLS for its way to the server, unless it runs beside it")
        }
        (Link::Encrypted, _) => return None,
    };
    Some(finding.on([&*node.name]))
}

#[cfg(test)]
mod tests {
    use super::super::super::facts::{Facts, Link, fixture::healthy};
    use super::super::super::finding::{Check, Severity};
    use super::super::tests::{bad, has, only};
    use crate::endpoint::Mode;
    use crate::limitation::Limitation;

    #[test]
    fn a_superuser_is_a_warning_and_a_role_that_writes_a_note_where_it_reads() {
        for (node, superuser, writes, severity) in [
            ("a", true, true, Severity::Warning),
            ("b", true, true, Severity::Warning),
            ("b", false, true, Severity::Note),
        ] {
            let mut facts = healthy();
            let account = facts.server(node).account.as_mut().expect("known");
            (account.superuser, account.writes) = (superuser, writes);
            let finding = only(&facts, Check::Privileges);
            assert_eq!((finding.severity, &*finding.nodes), (severity, &[node.to_owned()][..]));
        }
        assert!(!has(&healthy(), Check::Privileges), "the primary's role has to write");
    }

    #[test]
    fn what_is_hidden_or_withheld_is_told_with_what_goes_without_it() {
        let mut facts = healthy();
        facts.limit("b", Limitation::StatisticsHidden);
        let finding = only(&facts, Check::Statistics);
        assert_eq!(finding.severity, Severity::Note);
        assert!(finding.action.contains("GRANT pg_monitor TO app"));
        for (function, words) in [
            ("pg_current_wal_lsn", "lag of any replica"),
            ("pg_last_wal_replay_lsn", "its lag"),
            ("pg_control_system", "another cluster"),
            ("pg_walfile_name", "timelines"),
            ("pg_get_wal_replay_pause_state", "does without"),
        ] {
            let mut facts = healthy();
            facts.limit("b", Limitation::Withheld(vec![function]));
            let finding = only(&facts, Check::Functions);
            assert!(finding.why.contains(words), "{finding:?}");
        }
        let mut facts = healthy();
        facts.limit("b", Limitation::LagReported);
        assert_eq!(only(&facts, Check::Functions).severity, Severity::Note);
        facts.limit("a", Limitation::Withheld(vec!["pg_current_wal_lsn"]));
        facts.limit("b", Limitation::Withheld(vec!["pg_last_wal_replay_lsn"]));
        assert_eq!(bad(&facts), [], "all of it is as Aurora is");
    }

    #[test]
    fn what_is_not_known_is_not_called_well() {
        let mut facts = healthy();
        let server = facts.server("b");
        (server.account, server.usage, server.slots) = (None, None, None);
        let finding = only(&facts, Check::Functions);
        assert!(finding.found.ends_with("its role, connections and replication slots"), "{finding:?}");
        let judged = super::super::judge(&facts);
        for check in [Check::Privileges, Check::Statistics, Check::Slots] {
            assert!(judged.iter().all(|finding| finding.check != check), "{judged:#?}");
        }
    }

    fn with(link: Link, sees_tls: bool, mode: Mode, local: bool) -> Facts {
        let mut facts = healthy();
        let node = facts.node("b");
        (node.mode, node.local) = (mode, local);
        let server = facts.server("b");
        (server.link, server.sees_tls) = (link, Some(sees_tls));
        facts
    }

    #[test]
    fn plain_text_is_a_warning_but_on_one_machine() {
        for (mode, local, severity) in [
            (Mode::Prefer, false, Severity::Warning),
            (Mode::Disable, false, Severity::Warning),
            (Mode::Prefer, true, Severity::Note),
        ] {
            let mut facts = with(Link::Plain, false, mode, local);
            if mode == Mode::Prefer {
                facts.limit("b", Limitation::Unencrypted("the server has no TLS".into()));
            }
            let finding = only(&facts, Check::Encryption);
            assert_eq!(finding.severity, severity);
            let how = if mode == Mode::Prefer { "the server has no TLS" } else { "sslmode=disable" };
            assert!(finding.found.contains(how), "{finding:?}");
        }
    }

    #[test]
    fn encryption_that_ends_early_or_that_nobody_verifies_is_worth_a_note() {
        for (link, sees_tls, mode, words) in [
            (Link::Encrypted, true, Mode::Require, "certificate"),
            (Link::Encrypted, false, Mode::VerifyFull, "ends the encryption"),
            (Link::Plain, true, Mode::Disable, "its own way"),
        ] {
            let finding = only(&with(link, sees_tls, mode, false), Check::Encryption);
            assert_eq!(finding.severity, Severity::Note);
            assert!(finding.found.contains(words), "{finding:?}");
        }
        for facts in [
            with(Link::Encrypted, true, Mode::VerifyCa, false),
            with(Link::Socket, false, Mode::Prefer, true),
        ] {
            assert!(!has(&facts, Check::Encryption));
        }
    }
}
