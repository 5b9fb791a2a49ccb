//! What goes wrong and when, as the seed has it.

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use std::fmt;
use std::time::Duration;

/// What can happen to a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// It stops to replay.
    Pause,
    /// It replays late.
    Delay(Duration),
    /// It receives nothing.
    Cut,
    /// All its processes stand still.
    Freeze,
    /// `kill -9`, and a restart: it comes back older than it was.
    Kill,
}

/// One fault of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Since the end of the one before.
    pub after: Duration,
    pub fault: Fault,
    pub lasts: Duration,
}

/// How a replica becomes the primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promotion {
    /// The primary is stopped, and its replicas have all of it.
    Planned,
    /// The primary is killed in mid-write.
    Failover,
}

impl Fault {
    /// Whether a node with it acknowledges what the primary sends.
    pub fn receives(self) -> bool {
        matches!(self, Self::Pause | Self::Delay(_))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pause => "replay paused",
            Self::Delay(_) => "apply delay",
            Self::Cut => "receiver cut",
            Self::Freeze => "frozen",
            Self::Kill => "killed and restarted",
        })
    }
}

/// The faults of one node, without end. Each kind comes once before one comes again, but for the lag that the node serves with,
/// which is what reads may see.
pub fn steps(seed: u64, node: usize) -> impl Iterator<Item = Step> + Send {
    let mut rng = stream(seed, node as u64);
    let mut kinds = Vec::new();
    std::iter::repeat_with(move || {
        if kinds.is_empty() {
            let delay = millis(&mut rng, 50..900);
            kinds =
                vec![Fault::Pause, Fault::Pause, Fault::Delay(delay), Fault::Cut, Fault::Freeze, Fault::Kill];
            kinds.shuffle(&mut rng);
        }
        let fault = kinds.pop().unwrap();
        let lasts = match fault {
            Fault::Pause | Fault::Kill => millis(&mut rng, 50..900),
            Fault::Delay(_) | Fault::Cut => millis(&mut rng, 200..1500),
            Fault::Freeze => millis(&mut rng, 50..1500),
        };
        Step { after: millis(&mut rng, 50..800), fault, lasts }
    })
}

/// What happens to the roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// Since the one before.
    pub after: Duration,
    pub promotion: Promotion,
    /// Whether one of the services stands still meanwhile, and knows nothing of it when it goes on.
    pub behind_the_back: bool,
}

/// The promotions, without end; their kinds take turns.
pub fn promotions(seed: u64, every: Duration) -> impl Iterator<Item = Turn> + Send {
    let mut rng = stream(seed, u64::MAX);
    let mut turn = rng.random_range(0..4);
    std::iter::repeat_with(move || {
        turn += 1;
        Turn {
            after: every.mul_f64(rng.random_range(0.8..1.2)),
            promotion: if turn % 2 == 0 { Promotion::Failover } else { Promotion::Planned },
            behind_the_back: turn % 4 < 2,
        }
    })
}

/// How long a service stands still, without end.
pub fn stalls(seed: u64) -> impl Iterator<Item = Duration> + Send {
    let mut rng = stream(seed, u64::MAX - 1);
    std::iter::repeat_with(move || millis(&mut rng, 100..1500))
}

/// Random numbers that depend on the seed and on what they are for.
pub fn stream(seed: u64, purpose: u64) -> StdRng {
    StdRng::seed_from_u64(seed ^ purpose.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

fn millis(rng: &mut StdRng, range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(rng.random_range(range))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_seed_decides() {
        let schedule = |seed, node| steps(seed, node).take(50).collect::<Vec<_>>();
        assert_eq!(schedule(1, 0), schedule(1, 0));
        assert_ne!(schedule(1, 0), schedule(1, 1));
        assert_ne!(schedule(1, 0), schedule(2, 0));
    }

    #[test]
    fn every_kind_comes_soon() {
        for seed in 0..20 {
            let kinds: BTreeSet<_> = steps(seed, 0).take(6).map(|step| step.fault.to_string()).collect();
            assert_eq!(kinds.len(), 5, "{kinds:?}");
            let turns = promotions(seed, Duration::from_secs(1)).take(4);
            let turns: BTreeSet<_> = turns.map(|turn| (turn.promotion, turn.behind_the_back)).collect();
            assert_eq!(turns.len(), 4);
        }
    }
}
