//! What can happen.

use super::super::fixture::ms;
use super::world::{Fault, OUR_SERVERS, SERVERS, Tells};
use crate::health::{Ejection, HealthPolicy, LagBytes, UnverifiedLag};
use crate::lsn::Lsn;
use proptest::prelude::*;

/// Which servers there are entries of, and what is asked for.
#[derive(Debug, Clone)]
pub(super) struct Setup {
    pub(super) tells: Tells,
    pub(super) policy: u8,
    pub(super) primary: usize,
    pub(super) replicas: Vec<usize>,
    /// The configured primary does not run at first.
    pub(super) primary_down: bool,
    /// All have been probed before anything happens.
    pub(super) settled: bool,
}

/// Servers by their number; nodes by a number that is taken modulo how many there are.
#[derive(Debug, Clone)]
pub(super) enum Op {
    /// Everybody is probed, in this order, after a while.
    Round(u8),
    /// The question and the answer travel for so many milliseconds.
    Probe(u8, u64, u64),
    Wait(u64),
    Fail(usize, Fault),
    Heal(usize),
    Restart(usize),
    /// It replays so many milliseconds late, or not at all.
    Replay(usize, Option<u64>),
    Idle(usize, bool),
    /// Whether on the next timeline.
    Promote(usize, bool),
    Follow(usize, usize),
    /// So many calls more are answered, and so many then fail.
    Traffic(u8, u64, u32),
    Add(usize),
    Drain(u8),
    Remove(u8),
    /// A name leads to another server.
    Move(u8, usize),
    ListAsPrimary(u8),
    Policy(u8),
}

pub(super) fn setup() -> impl Strategy<Value = Setup> {
    let tells = prop_oneof![4 => Just(Tells::All), 1 => Just(Tells::NoTimeline), 1 => Just(Tells::NoSystem)];
    let primary = prop_oneof![4 => Just(0), 1 => 0..OUR_SERVERS];
    let replicas = prop_oneof![
        2 => Just(vec![1, 2]),
        2 => Just(vec![1, 2, 3]),
        3 => prop::collection::vec(0..SERVERS, 0..5),
        1 => prop::collection::vec(OUR_SERVERS..SERVERS, 2..4),
    ];
    let (primary_down, settled) = (prop::bool::weighted(0.2), prop::bool::weighted(0.7));
    (tells, 0..POLICIES, primary, replicas, primary_down, settled).prop_map(
        |(tells, policy, primary, replicas, primary_down, settled)| Setup {
            tells,
            policy,
            primary,
            replicas,
            primary_down,
            settled,
        },
    )
}

/// By a kind and its details: a strategy for each kind would take longer to choose than all of it takes to happen.
impl From<&(u8, u32)> for Op {
    fn from((kind, details): &(u8, u32)) -> Self {
        let [node, a, b, c] = details.to_le_bytes();
        let among = |n: usize, byte: u8| usize::from(byte) % n;
        // Now and then of another cluster.
        let server = |byte: u8| among(if byte < 230 { OUR_SERVERS } else { SERVERS }, byte);
        let wait = |most: u64| u64::from(u16::from_le_bytes([a, b])) % most;
        match kind {
            0..60 => Self::Round(node),
            60..120 => Self::Probe(node, u64::from(a) / 4, u64::from(b) / 4),
            120..145 => Self::Wait(wait(400)),
            145..153 => Self::Wait(wait(8000)),
            153..168 => {
                let faults = [Fault::Down, Fault::Frozen, Fault::CutOff, Fault::Full];
                Self::Fail(server(node), faults[among(faults.len(), a)])
            }
            168..182 => Self::Heal(server(node)),
            182..186 => Self::Restart(server(node)),
            186..195 => Self::Replay(server(node), [Some(0), Some(wait(4000)), None][among(3, c)]),
            195..198 => Self::Idle(server(node), a % 2 == 0),
            198..206 => Self::Promote(server(node), a % 4 != 0),
            206..216 => Self::Follow(server(node), server(a)),
            216..234 => Self::Traffic(node, u64::from(a) % 8 * u64::from(c % 2), u32::from(b) % 8),
            234..238 => Self::Add(server(a)),
            238..241 => Self::Drain(node),
            241..244 => Self::Remove(node),
            244..248 => Self::Move(node, server(a)),
            248..252 => Self::ListAsPrimary(node),
            252.. => Self::Policy(node % POLICIES),
        }
    }
}

const POLICIES: u8 = 8;

pub(super) fn policy(n: u8) -> HealthPolicy {
    let bytes = |bytes: u64| Lsn::new(0).bytes_behind(Lsn::new(bytes));
    let default = HealthPolicy::default();
    let short = Ejection::default().duration(ms(700)).max_duration(ms(2000)).min_samples(5).window(ms(3000));
    match n {
        0 | 1 => default,
        2 => HealthPolicy { unverified_lag: UnverifiedLag::Exclude, ejection: short, ..default },
        3 => HealthPolicy { unverified_lag: UnverifiedLag::Serve, ..default },
        4 => HealthPolicy { min_replicas: 1, lag_hard_limit: ms(2000), ejection: short, ..default },
        5 => HealthPolicy { min_replicas: 2, ejection: short.max_share(1.0), ..default },
        6 => {
            let limits = LagBytes { threshold: bytes(80), recovery: bytes(40) };
            HealthPolicy { lag_bytes: Some(limits), ..default }
        }
        _ => HealthPolicy { ejection: Ejection::off(), ..HealthPolicy::with_lag_threshold(ms(600)) },
    }
}
