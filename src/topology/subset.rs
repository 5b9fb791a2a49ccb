//! Which of many replicas one router reads from.
//!
//! Rendezvous hashing: each router has an order of its own of all replicas, and reads from the first of them that serve. It takes no
//! agreement between the routers, and nobody has to count them. A replica that leaves is replaced by the next in the order, one
//! that comes takes the place of one at most, and no other replica gains or loses a reader.

#[cfg(test)]
mod simulation;

use sha2::{Digest, Sha256};

/// How many replicas a router reads from, and which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Subset {
    pub(crate) size: usize,
    /// What its order is drawn by.
    pub(crate) seed: u64,
}

impl Subset {
    /// The seed for a key. It stays the same over versions of this crate, for a router that is to find its replicas again.
    pub(crate) fn seed(key: &str) -> u64 {
        let hash = Sha256::digest(key);
        let (first, _) = hash.split_first_chunk().expect("it has 32 bytes");
        u64::from_be_bytes(*first)
    }

    /// Those of the subset, and the others; each in the order in which they came.
    pub(super) fn split<T>(self, all: Vec<T>, name: impl Fn(&T) -> &str) -> (Vec<T>, Vec<T>) {
        if all.len() <= self.size {
            return (all, vec![]);
        }
        let rank = |one: &T| rank(self.seed, name(one));
        let mut ranks: Vec<_> = all.iter().map(rank).collect();
        ranks.sort_unstable();
        let first = ranks[self.size];
        all.into_iter().partition(|one| rank(one) < first)
    }

    /// What is left of it after those.
    pub(super) fn less(self, taken: usize) -> Self {
        Self { size: self.size.saturating_sub(taken), ..self }
    }
}

/// Where the node stands in the order of this seed: lower is earlier.
fn rank(seed: u64, name: &str) -> u64 {
    // FNV-1a, whose bits the finalizer of SplitMix64 then mixes, since names that differ by a digit are to be far apart.
    let hash =
        name.bytes().fold(seed, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{NodeConfig, RouterBuilder};
    use crate::fleet::{NoPrimary, Service};
    use crate::router::Router;
    use crate::topology::Topology;
    use proptest::{collection::btree_set, prelude::*};
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Arc;
    use tokio::time::Instant;

    fn split(seed: u64, size: usize, all: &[String]) -> [Vec<String>; 2] {
        let (first, others) = Subset { size, seed }.split(all.to_vec(), |name| name);
        [first, others]
    }

    fn subset(seed: u64, size: usize, all: &[String]) -> BTreeSet<String> {
        split(seed, size, all)[0].iter().cloned().collect()
    }

    proptest! {
        #[test]
        fn it_has_its_size_and_all_else_is_left_over_in_order(
            names in btree_set("[a-z0-9.:-]{1,20}", 0..60),
            size in 0..70_usize,
            seed: u64,
        ) {
            let all: Vec<_> = names.into_iter().collect();
            let [first, others] = split(seed, size, &all);
            prop_assert_eq!(first.len(), size.min(all.len()));
            prop_assert!(first.is_sorted() && others.is_sorted());
            let mut both = [first.clone(), others].concat();
            both.sort_unstable();
            prop_assert_eq!(both, all.clone());
            let backwards: Vec<_> = all.into_iter().rev().collect();
            prop_assert_eq!(subset(seed, size, &backwards), first.into_iter().collect::<BTreeSet<_>>());
        }

        #[test]
        fn who_leaves_is_replaced_by_one_and_who_stays_stays(
            names in btree_set("[a-z0-9.:-]{1,20}", 2..60),
            size in 1..60_usize,
            seed: u64,
            leaves: prop::sample::Index,
        ) {
            let all: Vec<_> = names.into_iter().collect();
            let gone = leaves.get(&all);
            let left: Vec<_> = all.iter().filter(|name| *name != gone).cloned().collect();
            let (before, after) = (subset(seed, size, &all), subset(seed, size, &left));
            let came = after.difference(&before).count();
            prop_assert!(before.iter().all(|name| name == gone || after.contains(name)));
            prop_assert_eq!(came, usize::from(before.contains(gone) && all.len() > size));
        }
    }

    #[test]
    fn every_replica_has_readers_and_none_has_many_more_than_others() {
        let by_port: Vec<_> = (0..50).map(|i| format!("10.0.0.7:{}", 5432 + i)).collect();
        let by_number: Vec<_> = (1..=50).map(|i| format!("replica-{i}")).collect();
        for names in [by_port, by_number] {
            for seeds in [0..1000, 1000..2000, u64::MAX - 1000..u64::MAX] {
                let mut readers = BTreeMap::new();
                for reader in seeds.flat_map(|seed| subset(seed, 10, &names)) {
                    *readers.entry(reader).or_insert(0) += 1;
                }
                // 200 on average, with a standard deviation of 13.
                assert_eq!(readers.len(), names.len());
                assert!(readers.values().all(|readers| (150..=250).contains(readers)), "{readers:?}");
            }
        }
    }

    /// What a router reads from, at first and in want of that, and what is spare; of a primary and the replicas `b` to `g`, of which
    /// those before `e` stand in the zone `east`.
    fn tiers(builder: RouterBuilder, serve: &str) -> [String; 3] {
        let zone = |name| if name < "e" { "east" } else { "west" };
        let node = |name| NodeConfig::new("postgres://app@127.0.0.1:1/chat").name(name).zone(zone(name));
        let builder = ["b", "c", "d", "e", "f", "g"]
            .into_iter()
            .fold(builder.primary(node("a")), |builder, name| builder.replica(node(name)));
        let unproven = Router::unproven(builder.config().expect("valid"), &Arc::default());
        let seen = unproven.nodes().iter().cloned().map(|mut seen| {
            if serve.contains(&*seen.node.name) {
                seen.view.serves = Service::Yes;
            }
            seen
        });
        let settings = Arc::clone(&unproven.settings);
        let topology =
            Topology::new(seen.collect(), Err(NoPrimary::NotYetKnown), settings, None, Instant::now());
        [topology.near(), topology.far(), topology.spare()].map(|tier| {
            let names: Vec<_> = tier.nodes().iter().map(|node| &*node.name).collect();
            names.join("")
        })
    }

    fn zoned(size: usize) -> RouterBuilder {
        RouterBuilder::default().zone("east").read_subset(size).read_subset_key("chat-0")
    }

    #[tokio::test]
    async fn it_is_of_the_own_zone_as_far_as_that_has_enough() {
        let all = "bcdefg";
        let [near, far, spare] = tiers(zoned(2), all);
        assert!(near.len() == 2 && near.chars().all(|name| "bcd".contains(name)), "{near} {far} {spare}");
        assert!(far.is_empty() && spare.len() == 4, "{near} {far} {spare}");

        let [near, far, spare] = tiers(zoned(4), all);
        assert_eq!(near, "bcd");
        assert!(far.len() == 1 && spare.len() == 2, "{near} {far} {spare}");
        assert_eq!(tiers(zoned(6), all), ["bcd", "efg", ""]);
        assert_eq!(tiers(zoned(9), all), ["bcd", "efg", ""]);
        assert_eq!(tiers(RouterBuilder::default().zone("east"), all), ["bcd", "efg", ""]);
    }

    #[tokio::test]
    async fn where_the_own_zone_has_too_few_it_is_of_all() {
        let drawn = |serve| tiers(zoned(3).min_zone_replicas(3), serve);
        assert_eq!(drawn("bcdefg")[0], "bcd");
        let [near, far, spare] = drawn("bcefg");
        assert_eq!((near.len(), &*far, spare.len()), (3, "", 2));
        let anywhere = RouterBuilder::default().read_subset(3).read_subset_key("chat-0");
        assert_eq!(tiers(anywhere, "bcefg"), [near, far, spare]);
    }

    /// A process that is deployed with another version of this crate finds the replicas that it had.
    #[test]
    fn a_key_draws_the_same_replicas_for_ever() {
        let all: Vec<_> = (1..=20).map(|i| format!("replica-{i}")).collect();
        let drawn = |key| subset(Subset::seed(key), 3, &all).into_iter().collect::<Vec<_>>().join(" ");
        let expected = ["replica-1 replica-12 replica-14", "replica-17 replica-18 replica-3"];
        assert_eq!([drawn("chat-0"), drawn("chat-1")], expected);
    }
}
