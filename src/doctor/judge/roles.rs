//! What the nodes are, beside what the configuration takes them for.

use super::super::facts::{Facts, Node, Server};
use super::super::finding::{Check, Finding};
use super::list;
use crate::fleet::Role;

/// The first version whose servers tell all that the router asks.
const OLDEST: u32 = 14;

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![];
    findings.extend(configuration(facts));
    findings.extend(writable(facts));
    findings.extend(cluster(facts));
    findings.extend(duplicates(facts));
    findings.extend(timelines(facts));
    findings.extend(versions(facts));
    findings
}

fn configuration(facts: &Facts) -> Option<Finding> {
    let service = &facts.service;
    let enabled = service.variable("READ_REPLICAS_ENABLED");
    let has_replicas = facts.nodes.iter().any(|node| node.listed == Role::Replica);
    let primary = facts.nodes.first().map(|node| &*node.name);
    match (service.replicas_enabled, has_replicas || service.discovers) {
        (true, true) => None,
        (false, false) => None,
        (false, true) => Some(
            Finding::note(Check::Configuration, format!("replicas are listed, and {enabled} is off"))
                .on(facts.nodes.iter().filter(|node| node.listed == Role::Replica).map(|node| &*node.name))
                .why("all reads go to the primary, and no service connects to a replica")
                .action(format!("set {enabled}=true when this report has no more problems")),
        ),
        (true, false) => Some(
            Finding::note(Check::Configuration, format!("{enabled} is on, and no replica is listed"))
                .on(primary)
                .why("the primary serves all reads")
                .action(format!("list replicas in {}", service.urls(Role::Replica))),
        ),
    }
}

fn writable(facts: &Facts) -> Option<Finding> {
    let ours: Vec<_> = facts.servers().filter(|(_, server)| facts.is_ours(server)).collect();
    let ours = distinct(&ours);
    let writers: Vec<_> = ours.iter().filter(|(_, server)| server.is_writable()).copied().collect();
    let names: Vec<_> = writers.iter().map(|(node, _)| &*node.name).collect();
    match (&writers[..], facts.nodes.first()) {
        ([], Some(listed)) => Some(
            Finding::problem(Check::Writable, "no node that answers is writable")
                .on([&*listed.name])
                .why("writes fail, and nobody can tell how far replicas are behind")
                .action("bring the primary back, or promote a replica: `SELECT pg_promote()` on it"),
        ),
        ([(node, _)], _) if node.listed == Role::Primary => {
            Some(Finding::ok(Check::Writable, format!("{} is the only writable node, as listed", node.name)))
        }
        ([(node, _)], Some(listed)) => Some(
            Finding::warning(Check::Writable, format!("{} is the primary, and {} is listed as such", node.name, listed.name))
                .on([&*node.name, &*listed.name])
                .why(
                    "a service follows a promotion by itself; one that starts while the listed primary is down does not know whether to \
                     trust the other",
                )
                .action(format!(
                    "put {} into {}, and {} with the replicas once it follows",
                    node.name,
                    facts.service.urls(Role::Primary),
                    listed.name
                )),
        ),
        (several, _) => {
            let newest = several.iter().filter_map(|(_, server)| server.seen.timeline).max();
            let leading: Vec<_> = several.iter().filter(|(_, server)| server.seen.timeline == newest).collect();
            let (why, action) = match (&leading[..], newest) {
                ([(leader, _)], Some(timeline)) => (
                    format!(
                        "writes go to {} on timeline {timeline}; what others write to the old primary since then is lost to the cluster",
                        leader.name
                    ),
                    format!("stop the others, save what they alone have, and rebuild them as standbys of {}: pg_rewind, or pg_basebackup", leader.name),
                ),
                _ => (
                    "nobody can tell which is right: writes fail until one of them is gone".to_owned(),
                    "stop the wrong one, save what it alone has, and rebuild it as a standby: pg_rewind, or pg_basebackup".to_owned(),
                ),
            };
            let found = format!("{} are writable", list(&names));
            Some(Finding::problem(Check::Writable, found).on(names).why(why).action(action))
        }
    }
}

/// Each server once, however often it is listed.
fn distinct<'a>(servers: &[(&'a Node, &'a Server)]) -> Vec<(&'a Node, &'a Server)> {
    let mut seen = vec![];
    let first = |(_, server): &(&Node, &Server)| {
        let new = !seen.contains(&server.seen.identity);
        seen.push(server.seen.identity);
        new
    };
    servers.iter().copied().filter(first).collect()
}

fn cluster(facts: &Facts) -> Vec<Finding> {
    let Some(ours) = facts.system() else { return vec![] };
    let strangers: Vec<_> = facts.servers().filter(|(_, server)| !facts.is_ours(server)).collect();
    if strangers.is_empty() {
        if facts.servers().any(|(_, server)| server.seen.identity.system.is_none()) {
            return vec![];
        }
        let found = format!("all that answer are of one cluster, {ours}");
        return vec![Finding::ok(Check::Cluster, found)];
    }
    let theirs = |server: &Server| server.seen.identity.system.unwrap_or_default();
    let finding = |(node, server): (&Node, &Server)| {
        let found = format!(
            "is of another cluster: its system identifier is {}, that of the others {ours}",
            theirs(server)
        );
        Finding::problem(Check::Cluster, found)
            .on([&*node.name])
            .why("it holds other data: the router refuses it")
            .action(format!(
                "correct its URL in {}, or rebuild it from the primary with pg_basebackup",
                facts.service.urls(node.listed)
            ))
    };
    strangers.into_iter().map(finding).collect()
}

fn duplicates(facts: &Facts) -> Vec<Finding> {
    let servers: Vec<_> = facts.servers().collect();
    let twin = |i: usize| {
        let identity = servers[i].1.seen.identity;
        servers[..i].iter().find(|(_, earlier)| earlier.seen.identity == identity)
    };
    let finding = |(i, (node, _)): (usize, &(&Node, &Server))| {
        let (first, _) = twin(i)?;
        Some(
            Finding::problem(Check::Duplicate, format!("is the same server as {}", first.name))
                .on([&*node.name, &*first.name])
                .why("two entries would give it a double share and look like a spare: the router refuses the second one")
                .action(format!("take one of the two out, or correct its host and port in {}", facts.service.urls(node.listed))),
        )
    };
    servers.iter().enumerate().filter_map(finding).collect()
}

fn timelines(facts: &Facts) -> Vec<Finding> {
    let Some((primary, writer)) = facts.primary() else { return vec![] };
    let Some(newest) = writer.seen.timeline else { return vec![] };
    let astray: Vec<_> = facts
        .standbys()
        .filter_map(|(node, server)| {
            Some((node, server.seen.timeline.filter(|timeline| *timeline != newest)?))
        })
        .collect();
    if astray.is_empty() {
        if facts.standbys().any(|(_, server)| server.seen.timeline.is_none()) {
            return vec![];
        }
        return vec![Finding::ok(
            Check::Timeline,
            format!("{} writes timeline {newest}, and nobody follows another one", primary.name),
        )];
    }
    let finding = |(node, timeline): (&Node, u32)| {
        let found = format!("is on timeline {timeline}, and {} writes {newest}", primary.name);
        Finding::warning(Check::Timeline, found)
            .on([&*node.name])
            .why("it is not known to follow the primary, so it serves no reads")
            .action(
                "let its `primary_conninfo` lead to the primary, with `recovery_target_timeline = latest`; a role without pg_read_all_stats \
                 sees the switch after a checkpoint",
            )
    };
    astray.into_iter().map(finding).collect()
}

fn versions(facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![];
    for (node, server) in facts.servers().filter(|(_, server)| server.seen.version / 10_000 < OLDEST) {
        findings.push(
            Finding::warning(Check::Version, format!("runs PostgreSQL {}", shown_version(server.seen.version)))
                .on([&*node.name])
                .why("servers before version 14 do not tell whether a session is read-only, and the router is not tested with them")
                .action("upgrade it"),
        );
    }
    let versions = |of: fn(u32) -> u32| {
        let mut all: Vec<_> = facts.servers().map(|(_, server)| of(server.seen.version)).collect();
        all.sort_unstable();
        all.dedup();
        all
    };
    let (majors, full) = (versions(|version| version / 10_000), versions(|version| version));
    let names = || facts.servers().map(|(node, _)| &*node.name);
    let texts: Vec<_> = full.iter().map(|version| shown_version(*version)).collect();
    let texts = list(&texts.iter().map(String::as_str).collect::<Vec<_>>());
    match (&majors[..], &full[..]) {
        ([_], [version]) if findings.is_empty() => {
            findings.push(Finding::ok(Check::Version, format!("PostgreSQL {}", shown_version(*version))));
        }
        ([_], [_, _, ..]) => findings.push(
            Finding::note(Check::Version, format!("the nodes run PostgreSQL {texts}"))
                .on(names())
                .why("replicas and primary should have the same fixes; it is usual in the middle of an update")
                .action("update the older ones, the replicas first"),
        ),
        ([_, _, ..], _) => findings.push(
            Finding::warning(Check::Version, format!("the nodes run PostgreSQL {texts}"))
                .on(names())
                .why("a standby cannot stream from another major version: these are not one cluster, or not PostgreSQL's replication")
                .action("rebuild those that are behind from the primary"),
        ),
        _ => {}
    }
    findings
}

/// `15.18`, `9.6.24`.
pub(in crate::doctor) fn shown_version(version: u32) -> String {
    if version >= 100_000 {
        format!("{}.{}", version / 10_000, version % 10_000)
    } else {
        format!("{}.{}.{}", version / 10_000, version / 100 % 100, version % 100)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::facts::{Cause, Silent, fixture::healthy};
    use super::super::super::finding::{Check, Severity};
    use super::super::tests::{bad, has, only};
    use super::shown_version;

    #[test]
    fn replicas_that_are_off_or_not_there_are_worth_a_note() {
        let mut facts = healthy();
        facts.service.replicas_enabled = false;
        let finding = only(&facts, Check::Configuration);
        assert_eq!((finding.severity, finding.nodes.len()), (Severity::Note, 2));
        let mut facts = healthy();
        facts.nodes.truncate(1);
        assert_eq!(only(&facts, Check::Configuration).nodes, ["a"]);
        facts.service.replicas_enabled = false;
        assert!(!has(&facts, Check::Configuration));
    }

    #[test]
    fn a_primary_that_has_become_a_standby_is_told_with_who_took_over() {
        let mut facts = healthy();
        facts.server("a").seen.in_recovery = true;
        facts.server("b").seen.in_recovery = false;
        let finding = only(&facts, Check::Writable);
        assert_eq!((finding.severity, finding.nodes), (Severity::Warning, vec!["b".into(), "a".into()]));
        facts.server("b").seen.in_recovery = true;
        let finding = only(&facts, Check::Writable);
        assert_eq!((finding.severity, finding.nodes), (Severity::Problem, vec!["a".into()]));
    }

    #[test]
    fn of_two_writable_nodes_the_higher_timeline_leads_and_on_one_timeline_nobody() {
        let mut facts = healthy();
        facts.server("b").seen.in_recovery = false;
        let finding = only(&facts, Check::Writable);
        assert_eq!(finding.severity, Severity::Problem);
        assert!(finding.found.contains("a and b") && finding.why.contains("writes fail"), "{finding:?}");
        facts.server("b").seen.timeline = Some(2);
        let finding = only(&facts, Check::Writable);
        assert!(finding.why.contains("writes go to b on timeline 2"), "{finding:?}");
    }

    #[test]
    fn a_server_that_is_listed_twice_is_not_two_writable_ones() {
        let mut facts = healthy();
        *facts.server("b") = facts.server("a").clone();
        assert_eq!(bad(&facts), [(Severity::Problem, Check::Duplicate)]);
        assert_eq!(only(&facts, Check::Duplicate).nodes, ["b", "a"]);
    }

    #[test]
    fn a_node_of_another_cluster_is_a_problem_and_nothing_else_of_it_counts() {
        let mut facts = healthy();
        let stranger = facts.server("c");
        stranger.seen.identity.system = Some(8);
        stranger.seen.in_recovery = false;
        stranger.seen.timeline = Some(9);
        assert_eq!(bad(&facts), [(Severity::Problem, Check::Cluster)]);
        assert_eq!(only(&facts, Check::Cluster).nodes, ["c"]);
    }

    #[test]
    fn servers_that_do_not_tell_their_cluster_are_taken_at_their_word() {
        let mut facts = healthy();
        facts.server("c").seen.identity.system = None;
        facts.server("c").seen.timeline = None;
        assert!(bad(&facts).is_empty());
        let judged = super::super::judge(&facts);
        let silent = |check| judged.iter().all(|finding| finding.check != check);
        assert!(silent(Check::Cluster) && silent(Check::Timeline), "nor called well: {judged:#?}");
    }

    #[test]
    fn a_standby_on_another_timeline_is_a_warning() {
        let mut facts = healthy();
        facts.server("a").seen.timeline = Some(2);
        facts.server("b").seen.timeline = Some(2);
        let finding = only(&facts, Check::Timeline);
        assert_eq!((finding.severity, finding.nodes), (Severity::Warning, vec!["c".into()]));
        facts.node("a").answer = Err(Silent { cause: Cause::Network, text: "refused".into() });
        assert!(!has(&facts, Check::Timeline), "there is nothing to compare with");
    }

    #[test]
    fn versions_that_differ_or_are_old_are_told() {
        let mut facts = healthy();
        facts.server("c").seen.version = 150_017;
        assert_eq!(only(&facts, Check::Version).severity, Severity::Note);
        facts.server("c").seen.version = 160_001;
        assert_eq!(only(&facts, Check::Version).severity, Severity::Warning);
        let mut facts = healthy();
        for name in ["a", "b", "c"] {
            facts.server(name).seen.version = 130_001;
        }
        assert_eq!(bad(&facts), [(Severity::Warning, Check::Version)]);
        assert_eq!(only(&facts, Check::Version).nodes, ["a", "b", "c"]);
    }

    #[test]
    fn versions_are_shown_as_people_know_them() {
        assert_eq!((shown_version(150_018), shown_version(90_624)), ("15.18".into(), "9.6.24".into()));
    }
}
