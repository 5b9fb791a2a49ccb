//! Replication slots: what they hold back fills the disk of the server that has them.

use super::super::facts::{Facts, Limit, Node, Slot};
use super::super::finding::{Check, Finding};
use crate::lsn::WalBytes;

/// Log that an active slot may hold back without a word: standbys are behind by this in a burst.
const LARGE: WalBytes = WalBytes::new(1 << 30);

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![];
    for (node, server) in facts.servers().filter(|(_, server)| facts.is_ours(server)) {
        let Some(slots) = &server.slots else { continue };
        let unlimited = server.settings.slot_limit == Some(Limit::Unlimited);
        let bad: Vec<_> = slots.iter().filter_map(|slot| judge_slot(node, slot, unlimited)).collect();
        if bad.is_empty() && unlimited && !slots.is_empty() {
            findings.push(unlimited_slots(node, slots.len()));
        }
        findings.extend(bad);
    }
    let mut told = facts.servers().map(|(_, server)| server.slots.is_some()).peekable();
    if findings.is_empty() && told.peek().is_some() && told.all(|told| told) {
        findings.push(Finding::ok(Check::Slots, "no replication slot holds much log back"));
    }
    findings
}

fn judge_slot(node: &Node, slot: &Slot, unlimited: bool) -> Option<Finding> {
    let Slot { name, active, lost, endangered, retained } = slot;
    let held = retained.filter(|bytes| bytes.get() > 0);
    let holds = held.map_or_else(String::new, |bytes| format!(", and holds {bytes} of log back"));
    let drop = format!("`SELECT pg_drop_replication_slot('{}')` on {}", name.replace('\'', "''"), node.name);
    let fills = "it keeps all log that is written from now on, until the disk is full and the server stops";
    let finding = if *lost {
        Finding::problem(
            Check::Slots,
            format!("its replication slot `{name}` is lost: log that its receiver needs was removed"),
        )
        .why("whoever uses it cannot go on from there, a standby without an archive never again")
        .action(format!("rebuild that standby or subscriber, and drop the slot: {drop}"))
    } else if !active {
        // Also one that has reserved nothing yet begins to as soon as it is used.
        let found = format!("its replication slot `{name}` is used by nobody{holds}");
        let why = if !unlimited {
            "it holds log back up to `max_slot_wal_keep_size`, and is lost from then on"
        } else if retained.is_some() {
            fills
        } else {
            "it holds nothing back yet, and will once it has been used"
        };
        let finding = match retained {
            None => Finding::note(Check::Slots, found),
            Some(bytes) if unlimited && *bytes > LARGE => Finding::problem(Check::Slots, found),
            Some(_) => Finding::warning(Check::Slots, found),
        };
        finding.why(why).action(format!(
            "start whoever used it, or drop it: {drop}{}",
            if unlimited { "; `max_slot_wal_keep_size` bounds what slots hold back" } else { "" }
        ))
    } else if *endangered {
        Finding::warning(Check::Slots, format!("its replication slot `{name}` is about to be lost{holds}"))
            .why("its receiver is further behind than `max_slot_wal_keep_size` allows")
            .action("see why the receiver is slow, or raise `max_slot_wal_keep_size`")
    } else if held.is_some_and(|bytes| bytes > LARGE) {
        Finding::warning(Check::Slots, format!("its replication slot `{name}` is behind{holds}"))
            .why(if unlimited { fills } else { "once that reaches `max_slot_wal_keep_size` the slot is lost" })
            .action("see why its receiver is slow or stuck: pg_stat_replication on the server, the log of the receiver")
    } else {
        return None;
    };
    Some(finding.on([&*node.name]))
}

fn unlimited_slots(node: &Node, slots: usize) -> Finding {
    let found = format!("replication slots in use: {slots}, and `max_slot_wal_keep_size` is -1");
    Finding::note(Check::Slots, found)
        .on([&*node.name])
        .why("should a receiver go away, its slot keeps log until the disk is full and the server stops")
        .action("set `max_slot_wal_keep_size` to what the disk can spare")
}

#[cfg(test)]
mod tests {
    use super::super::super::facts::{Facts, Limit, Slot, fixture::healthy};
    use super::super::super::finding::{Check, Severity};
    use super::super::tests::{has, only};
    use crate::lsn::WalBytes;

    fn slot() -> Slot {
        Slot {
            name: "old".into(),
            active: true,
            lost: false,
            endangered: false,
            retained: Some(WalBytes::new(100)),
        }
    }

    fn with(slot: Slot, limit: Limit) -> Facts {
        let mut facts = healthy();
        facts.server("a").slots = Some(vec![slot]);
        facts.server("a").settings.slot_limit = Some(limit);
        facts
    }

    const SOME: Limit = Limit::Bytes(WalBytes::new(1 << 40));
    const MUCH: Option<WalBytes> = Some(WalBytes::new(5 << 30));

    #[test]
    fn slots_are_judged_by_what_they_may_do() {
        use Severity::{Note, Ok, Problem, Warning};
        for (slot, limit, severity, words) in [
            (slot(), SOME, Ok, ""),
            (slot(), Limit::Unlimited, Note, "should a receiver go away"),
            (Slot { active: false, ..slot() }, Limit::Unlimited, Warning, "disk is full"),
            (Slot { active: false, ..slot() }, SOME, Warning, "max_slot_wal_keep_size"),
            (Slot { active: false, retained: MUCH, ..slot() }, Limit::Unlimited, Problem, "disk is full"),
            (Slot { active: false, retained: MUCH, ..slot() }, SOME, Warning, "max_slot_wal_keep_size"),
            (Slot { active: false, retained: None, ..slot() }, Limit::Unlimited, Note, "nothing back yet"),
            (Slot { retained: MUCH, ..slot() }, SOME, Warning, "the slot is lost"),
            (Slot { retained: MUCH, ..slot() }, Limit::Unlimited, Warning, "disk is full"),
            (Slot { endangered: true, ..slot() }, SOME, Warning, "further behind"),
            (Slot { lost: true, active: false, ..slot() }, SOME, Problem, "cannot go on"),
        ] {
            let facts = with(slot.clone(), limit);
            assert_eq!(has(&facts, Check::Slots), severity > Ok, "{slot:?}");
            if severity > Ok {
                let finding = only(&facts, Check::Slots);
                assert_eq!(
                    (finding.severity, &*finding.nodes),
                    (severity, &["a".to_owned()][..]),
                    "{finding:?}"
                );
                assert!(finding.why.contains(words), "{finding:?}");
            }
        }
    }

    #[test]
    fn the_command_to_drop_a_slot_is_sql() {
        let facts = with(Slot { active: false, ..slot() }, Limit::Unlimited);
        let finding = only(&facts, Check::Slots);
        assert!(finding.action.contains("pg_drop_replication_slot('old')"), "{finding:?}");
    }

    #[test]
    fn of_several_slots_each_bad_one_is_told() {
        let mut facts = healthy();
        facts.server("a").slots = Some(vec![Slot { active: false, ..slot() }, slot()]);
        assert!(only(&facts, Check::Slots).found.contains("`old` is used by nobody"));
    }
}
