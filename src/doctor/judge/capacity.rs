//! Whether servers have connections enough for what the pools of services may open.

use super::super::facts::{Facts, Node, Server, Usage};
use super::super::finding::{Check, Finding};
use super::list;
use crate::fleet::Role;

/// What a process keeps beside its pools: the monitor's connection, a second one when a probe gets no answer, and the one that waits
/// for replicas.
const BESIDE_POOLS: u64 = 3;

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![];
    let mut enough = vec![];
    for (node, server) in facts.servers().filter(|(_, server)| facts.is_ours(server)) {
        if let Some(room) = Room::of(server) {
            let need = Need::of(facts, node, server);
            let processes = room.connections / need.connections;
            match scarce(facts, node, &room, &need, processes) {
                Some(finding) => findings.push(finding),
                None => enough.push(format!("{} on {}", many(facts, server, &room, &need), node.name)),
            }
        }
        findings.extend(crowded(node, server));
    }
    if !enough.is_empty() {
        let enough: Vec<_> = enough.iter().map(String::as_str).collect();
        let found = "so many service processes can have all the connections that their pools may open";
        let subset = match subset(facts) {
            Some((size, replicas)) => format!(", where each reads from {size} of {replicas} replicas"),
            None => String::new(),
        };
        findings.push(Finding::ok(Check::Connections, format!("{found}: {}{subset}", list(&enough))));
    }
    findings
}

/// What there is for the service.
struct Room {
    connections: u64,
    /// What bounds it.
    by: &'static str,
}

impl Room {
    /// The narrowest of the bounds that are known.
    fn of(server: &Server) -> Option<Self> {
        let Usage { clients, routers, active: _ } = server.usage?;
        let others = clients.saturating_sub(routers);
        let all = server.settings.usable_connections().map(|all| all.saturating_sub(others));
        let account = server.account.as_ref();
        let bounds = [
            (all, "`max_connections`, without what is reserved and what others hold"),
            (account.and_then(|account| account.role_limit), "the connection limit of the role"),
            (account.and_then(|account| account.database_limit), "the connection limit of the database"),
        ];
        let bounds = bounds.into_iter().filter_map(|(bound, by)| Some(Self { connections: bound?, by }));
        bounds.min_by_key(|room| room.connections)
    }
}

/// What one process of the service may open.
struct Need {
    connections: u64,
    pools: u64,
}

impl Need {
    fn of(facts: &Facts, node: &Node, server: &Server) -> Self {
        // Without replicas reads and writes share one pool.
        let pools = match (server.role(), facts.service.replicas_enabled) {
            (Role::Primary, true) => 2,
            _ => 1,
        };
        Self { connections: pools * u64::from(node.pool_size) + BESIDE_POOLS, pools }
    }
}

/// From how many of how many replicas a process reads, if not from all.
fn subset(facts: &Facts) -> Option<(u64, u64)> {
    let replicas = facts.servers().filter(|(_, server)| server.role() == Role::Replica).count();
    let size = facts.service.read_subset.filter(|size| *size < replicas && facts.service.replicas_enabled)?;
    Some((size as u64, replicas as u64))
}

/// For how many processes there is room, of which not all read from a replica.
fn many(facts: &Facts, server: &Server, room: &Room, need: &Need) -> u64 {
    match subset(facts).filter(|_| server.role() == Role::Replica) {
        Some((size, replicas)) => {
            let pools = need.connections - BESIDE_POOLS;
            room.connections * replicas / (pools * size + BESIDE_POOLS * replicas)
        }
        None => room.connections / need.connections,
    }
}

fn scarce(facts: &Facts, node: &Node, room: &Room, need: &Need, processes: u64) -> Option<Finding> {
    let size = node.pool_size;
    let found = format!(
        "a service process may open {} connections ({} x {size} in pools, and {BESIDE_POOLS} for the monitor and for reads that wait); there is \
         room for {}, by {}",
        need.connections, need.pools, room.connections, room.by
    );
    let finding = match processes {
        0 => Finding::problem(Check::Connections, found)
            .why("under load even a single process is refused connections: requests fail with `too many clients`"),
        1 => Finding::warning(Check::Connections, found)
            .why("a second process, or the one that replaces the first during a deployment, is refused connections under load"),
        _ => return None,
    };
    let variable = facts.service.variable("POOL_SIZE");
    let action = format!("lower {variable} (now {size}), or raise that limit, or put a pooler between");
    Some(finding.on([&*node.name]).action(action))
}

fn crowded(node: &Node, server: &Server) -> Option<Finding> {
    let (Usage { clients, .. }, limit) = (server.usage?, server.settings.usable_connections()?);
    (clients * 10 >= limit * 9).then(|| {
        Finding::warning(
            Check::Connections,
            format!("{clients} of {limit} connections are in use at this moment"),
        )
        .on([&*node.name])
        .why("soon nobody gets a connection, monitors included")
        .action("see in pg_stat_activity who holds them; lower pool sizes, or raise `max_connections`")
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::facts::{Facts, Usage, fixture::healthy};
    use super::super::super::finding::{Check, Severity};
    use super::super::tests::{bad, has, only};

    fn with_pools(primary: u32, replica: u32) -> Facts {
        let mut facts = healthy();
        for (name, size) in [("a", primary), ("b", replica), ("c", replica)] {
            facts.node(name).pool_size = size;
        }
        facts
    }

    #[test]
    fn the_primary_has_two_pools_and_a_replica_one() {
        // Of 97: the primary needs 2 * 22 + 3 = 47, a replica 45 + 3 = 48.
        assert!(bad(&with_pools(22, 45)).is_empty());
        let finding = only(&with_pools(23, 45), Check::Connections);
        assert_eq!((finding.severity, &*finding.nodes), (Severity::Warning, &["a".to_owned()][..]));
        assert!(finding.found.contains("49 connections"), "{finding:?}");
        assert_eq!(only(&with_pools(48, 10), Check::Connections).severity, Severity::Problem);
        let finding = only(&with_pools(10, 46), Check::Connections);
        assert_eq!((finding.severity, finding.nodes), (Severity::Warning, vec!["b".into(), "c".into()]));
        assert_eq!(only(&with_pools(10, 95), Check::Connections).severity, Severity::Problem);
    }

    #[test]
    fn without_replicas_there_is_one_pool() {
        let mut facts = with_pools(45, 10);
        facts.service.replicas_enabled = false;
        assert!(bad(&facts).is_empty());
    }

    #[test]
    fn of_those_that_read_from_a_subset_more_have_room() {
        let told = |facts: &Facts| {
            let findings = super::judge(facts);
            let told = findings.iter().find(|finding| finding.severity == Severity::Ok);
            told.map(|finding| finding.found.clone()).expect("all is well")
        };
        let mut facts = with_pools(10, 10);
        assert!(told(&facts).ends_with(": 4 on a, 7 on b and 7 on c"), "{}", told(&facts));
        facts.service.read_subset = Some(1);
        let subset = ": 4 on a, 12 on b and 12 on c, where each reads from 1 of 2 replicas";
        assert!(told(&facts).ends_with(subset), "{}", told(&facts));
        facts.service.read_subset = Some(2);
        assert!(told(&facts).ends_with(": 4 on a, 7 on b and 7 on c"), "{}", told(&facts));
    }

    #[test]
    fn what_others_hold_is_not_there_for_the_service() {
        let mut facts = healthy();
        facts.server("a").usage = Some(Usage { clients: 60, routers: 0, active: 0 });
        let finding = only(&facts, Check::Connections);
        assert_eq!(finding.severity, Severity::Warning);
        assert!(finding.found.contains("room for 37"), "{finding:?}");
        facts.server("a").usage = Some(Usage { clients: 60, routers: 60, active: 0 });
        assert!(!has(&facts, Check::Connections));
    }

    #[test]
    fn the_narrowest_limit_counts() {
        let mut facts = healthy();
        facts.server("b").settings.reserved = Some(90);
        assert_eq!(only(&facts, Check::Connections).severity, Severity::Problem);
        let mut facts = healthy();
        facts.server("b").account.as_mut().expect("known").role_limit = Some(20);
        assert_eq!(only(&facts, Check::Connections).severity, Severity::Warning);
        facts.server("b").account.as_mut().expect("known").database_limit = Some(12);
        let finding = only(&facts, Check::Connections);
        assert_eq!(finding.severity, Severity::Problem);
        assert!(
            finding.found.ends_with("room for 12, by the connection limit of the database"),
            "{finding:?}"
        );
    }

    #[test]
    fn a_server_that_is_nearly_full_is_a_warning() {
        let mut facts = healthy();
        facts.server("c").usage = Some(Usage { clients: 88, routers: 88, active: 0 });
        assert!(only(&facts, Check::Connections).found.contains("88 of 97"));
    }
}
