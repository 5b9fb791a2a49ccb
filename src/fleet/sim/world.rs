//! What is true: servers that write, replay, fail, are promoted and come back, on virtual time.

use super::super::fixture::ms;
use crate::lsn::Lsn;
use crate::observation::{Identity, Observation, ProbeFailure, Standby};
use std::time::Duration;
use tokio::time::Instant;

/// The system identifier of the cluster that the router is meant for.
pub(super) const OURS: u64 = 1;

/// The servers of it; the others are each of a cluster of its own.
pub(super) const OUR_SERVERS: usize = 4;

pub(super) const SERVERS: usize = OUR_SERVERS + 2;

/// What is the matter with a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// No process.
    Down,
    /// The processes are stopped.
    Frozen,
    /// It goes on, out of our reach.
    CutOff,
    /// All connections are taken.
    Full,
}

/// What servers tell of themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tells {
    All,
    NoTimeline,
    NoSystem,
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) now: Instant,
    pub(super) servers: Vec<Server>,
    /// Every promotion begins one.
    histories: Vec<History>,
    tells: Tells,
    processes: i64,
}

#[derive(Debug, Clone)]
pub(super) struct Server {
    pub(super) system: u64,
    pub(super) in_recovery: bool,
    /// The one that it writes or follows.
    pub(super) history: usize,
    /// Written or replayed up to here.
    position: u64,
    /// How late it replays; `None` while replay is paused.
    replays_after: Option<Duration>,
    fault: Option<Fault>,
    /// Nobody writes to it.
    idle: bool,
    started: i64,
}

#[derive(Debug, Clone)]
struct History {
    timeline: u32,
    /// When what was committed, up to which position; with what it has in common with the history before.
    commits: Vec<(Instant, u64)>,
}

/// A server's answer and what was so when it gave it.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) seen: Observation,
    pub(super) history: usize,
    pub(super) position: u64,
    pub(super) given_at: Instant,
}

impl World {
    /// A primary and three standbys of it; a lone primary and a lone standby of other clusters.
    pub(super) fn new(tells: Tells) -> Self {
        let server = |n: usize| Server {
            system: if n < OUR_SERVERS { OURS } else { n as u64 },
            in_recovery: n != 0 && n != OUR_SERVERS,
            history: n.saturating_sub(OUR_SERVERS - 1),
            position: 0,
            replays_after: Some(Duration::ZERO),
            fault: None,
            idle: false,
            started: n as i64 + 1,
        };
        let history = |n: usize| History { timeline: if n == 0 { 1 } else { 9 }, commits: vec![] };
        Self {
            now: Instant::now(),
            servers: (0..SERVERS).map(server).collect(),
            histories: (0..=SERVERS - OUR_SERVERS).map(history).collect(),
            tells,
            processes: SERVERS as i64,
        }
    }

    /// Lets the time pass: primaries are written to, standbys replay.
    pub(super) fn pass_until(&mut self, then: Instant) {
        let halfway = self.now + (then - self.now) / 2;
        for server in &mut self.servers {
            let runs = !matches!(server.fault, Some(Fault::Down | Fault::Frozen));
            if runs && !server.in_recovery && !server.idle {
                server.position += 10;
                self.histories[server.history].commits.push((halfway, server.position));
            }
        }
        self.now = then;
        for server in &mut self.servers {
            let runs = !matches!(server.fault, Some(Fault::Down | Fault::Frozen));
            if let Some(late) = server.replays_after.filter(|_| runs && server.in_recovery) {
                let commits = &self.histories[server.history].commits;
                let replayed = commits.partition_point(|(at, _)| *at + late <= then);
                let position = commits[..replayed].last().map_or(0, |(_, position)| *position);
                server.position = server.position.max(position);
            }
        }
    }

    /// What becomes of a question that reaches the server now.
    pub(super) fn ask(&self, server: usize, asked_at: Instant) -> Result<Answer, ProbeFailure> {
        let Server { system, in_recovery, history, position, fault, started, .. } = self.servers[server];
        match fault {
            Some(Fault::Down) => return Err(ProbeFailure::Failed("connection refused".into())),
            Some(Fault::Full) => return Err(ProbeFailure::Full("too many clients".into())),
            Some(Fault::Frozen | Fault::CutOff) => {
                return Err(ProbeFailure::TimedOut { probes: 1, after: ms(500) });
            }
            None => {}
        }
        let seen = Observation {
            in_recovery,
            lsn: Some(Lsn::new(position)),
            inserted: None,
            identity: Identity { system: Some(system).filter(|_| self.tells != Tells::NoSystem), started },
            timeline: Some(self.timeline(history)).filter(|_| self.tells != Tells::NoTimeline),
            version: 150_018,
            standby: Standby::default(),
            limitations: vec![],
            asked_at,
            answered_at: self.now,
        };
        Ok(Answer { seen, history, position, given_at: self.now })
    }

    fn timeline(&self, history: usize) -> u32 {
        self.histories[history].timeline
    }

    /// How long the oldest commit of the history had been missing that the answer did not cover.
    pub(super) fn true_lag(&self, answer: &Answer, history: usize) -> Duration {
        let commits = &self.histories[history].commits;
        let missing = commits.partition_point(|(_, position)| *position <= answer.position);
        let missing_since = commits.get(missing).map(|(at, _)| *at);
        missing_since.map_or(Duration::ZERO, |at| answer.given_at.saturating_duration_since(at))
    }

    pub(super) fn fail(&mut self, server: usize, fault: Fault) {
        self.servers[server].fault = Some(fault);
    }

    pub(super) fn heal(&mut self, server: usize) {
        if self.servers[server].fault.take() == Some(Fault::Down) {
            self.restart(server);
        }
    }

    pub(super) fn restart(&mut self, server: usize) {
        self.processes += 1;
        self.servers[server].started = self.processes;
        self.servers[server].fault = None;
    }

    pub(super) fn replay(&mut self, server: usize, after: Option<Duration>) {
        self.servers[server].replays_after = after;
    }

    pub(super) fn idle(&mut self, server: usize, idle: bool) {
        self.servers[server].idle = idle;
    }

    /// Makes a standby writable: on the next timeline, or on the same one if somebody has gone about it the wrong way.
    pub(super) fn promote(&mut self, server: usize, raise: bool) {
        let Server { in_recovery: true, history, position, fault: None | Some(Fault::CutOff), .. } =
            self.servers[server]
        else {
            return;
        };
        let History { timeline, commits } = &self.histories[history];
        let known = commits.partition_point(|(_, other)| *other <= position);
        let begun = History { timeline: timeline + u32::from(raise), commits: commits[..known].to_vec() };
        self.servers[server].history = self.histories.len();
        self.servers[server].in_recovery = false;
        self.histories.push(begun);
        if !raise {
            self.restart(server);
        }
    }

    /// Starts the server anew as a standby of the history that the other one writes or follows.
    pub(super) fn follow(&mut self, server: usize, other: usize) {
        if self.servers[server].system == self.servers[other].system {
            self.restart(server);
            let history = self.servers[other].history;
            // Rewound to what it has in common with it, and that is read anew.
            let position =
                if history == self.servers[server].history { self.servers[server].position } else { 0 };
            let server = &mut self.servers[server];
            (server.in_recovery, server.history, server.position) = (true, history, position);
        }
    }

    /// Nothing is the matter with anybody any more, and of our servers there is one primary at the head.
    pub(super) fn heal_all(&mut self) {
        for server in 0..SERVERS {
            self.heal(server);
            self.replay(server, Some(Duration::ZERO));
            self.idle(server, false);
        }
        let timeline = |world: &Self, server: &usize| world.timeline(world.servers[*server].history);
        let writable = (0..OUR_SERVERS).filter(|server| !self.servers[*server].in_recovery);
        let Some(head) = writable.max_by_key(|server| timeline(self, server)) else {
            return self.promote(0, true);
        };
        let rivals = (0..OUR_SERVERS).filter(|other| {
            *other != head
                && !self.servers[*other].in_recovery
                && timeline(self, other) == timeline(self, &head)
        });
        for rival in rivals.collect::<Vec<_>>() {
            self.follow(rival, head);
        }
    }
}
