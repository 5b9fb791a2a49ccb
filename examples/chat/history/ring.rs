//! Looks at the nodes, of which the latest are kept.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use diesel_replicas::HealthState;

/// What a look saw of one node.
#[derive(Debug, Clone)]
pub struct Look {
    pub name: String,
    pub lag: Option<Duration>,
    /// Reads given to it so far.
    pub reads: u64,
    pub health: HealthState,
}

/// The latest looks, and the nodes that they saw. It has room for so many of each, whatever comes and goes.
#[derive(Debug)]
pub struct Ring {
    looks: usize,
    nodes: usize,
    times: VecDeque<Instant>,
    tracks: Vec<Track>,
}

/// A node over time.
#[derive(Debug)]
pub struct Track {
    pub name: String,
    /// One for each look; `None` where the node was not there.
    pub points: VecDeque<Option<Point>>,
    counted: Option<u64>,
}

/// A node at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    pub lag: Option<Duration>,
    /// Reads given to it since the look before.
    pub reads: u64,
    pub health: HealthState,
}

impl Ring {
    pub fn new(looks: usize, nodes: usize) -> Self {
        Self { looks, nodes, times: VecDeque::new(), tracks: Vec::new() }
    }

    /// Takes in a look at all the nodes.
    pub fn push(&mut self, now: Instant, nodes: impl IntoIterator<Item = Look>) {
        if self.times.len() == self.looks {
            self.forget_oldest();
        }
        self.times.push_back(now);
        for track in &mut self.tracks {
            track.points.push_back(None);
        }
        for node in nodes {
            self.note(node);
        }
    }

    /// When the looks were taken, the oldest first.
    pub fn times(&self) -> impl Iterator<Item = Instant> {
        self.times.iter().copied()
    }

    /// The nodes in the order in which they came.
    pub fn tracks(&self) -> &[Track] {
        &self.tracks
    }

    fn forget_oldest(&mut self) {
        self.times.pop_front();
        for track in &mut self.tracks {
            track.points.pop_front();
        }
        self.tracks.retain(|track| track.points.iter().any(Option::is_some));
    }

    /// Notes what the look at hand saw of a node, if there is room for the node.
    fn note(&mut self, look: Look) {
        let known = self.tracks.iter().position(|track| track.name == look.name);
        if known.is_none() && self.tracks.len() == self.nodes {
            return;
        }
        let index = known.unwrap_or_else(|| {
            let points = VecDeque::from(vec![None; self.times.len()]);
            self.tracks.push(Track { name: look.name.clone(), points, counted: None });
            self.tracks.len() - 1
        });
        self.tracks[index].note(&look);
    }
}

impl Track {
    fn note(&mut self, look: &Look) {
        let reads = match self.counted.replace(look.reads) {
            // Those of before are of no known time.
            None => 0,
            // A node that was removed and added again counts anew.
            Some(before) => look.reads.checked_sub(before).unwrap_or(look.reads),
        };
        if let Some(latest) = self.points.back_mut() {
            *latest = Some(Point { lag: look.lag, reads, health: look.health });
        }
    }
}
