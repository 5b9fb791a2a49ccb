//! How much servers have to do, sampled on a connection of its own to each.

use crate::doctor::{Load, Usage, load, open};
use crate::endpoint::Endpoint;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// How long connecting, and an answer, may take.
const LIMIT: Duration = Duration::from_secs(2);

/// Servers count transactions in bursts: over a shorter time than this the rate would jump.
const WINDOW: Duration = Duration::from_secs(5);

/// What is shown of a server's work.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rates {
    pub(super) usage: Usage,
    pub(super) max_connections: Option<u64>,
    /// Transactions per second; not known before the second sample.
    pub(super) transactions: Option<f64>,
}

/// All nodes, by name.
pub(super) struct Loads {
    every: Duration,
    nodes: HashMap<String, Sampled>,
}

struct Sampled {
    endpoint: Endpoint,
    rates: watch::Receiver<Option<Rates>>,
    _sampling: JoinSet<()>,
}

impl Loads {
    pub(super) fn new(every: Duration) -> Self {
        Self { every, nodes: HashMap::new() }
    }

    /// Samples these nodes from now on, and no others.
    pub(super) fn follow(&mut self, nodes: Vec<(String, Endpoint)>) {
        self.nodes
            .retain(|name, sampled| nodes.iter().any(|node| node.0 == *name && node.1 == sampled.endpoint));
        for (name, endpoint) in nodes {
            let every = self.every;
            self.nodes.entry(name).or_insert_with(|| Sampled::start(endpoint, every));
        }
    }

    /// What is known of one at this moment.
    pub(super) fn of(&self, name: &str) -> Option<Rates> {
        *self.nodes.get(name)?.rates.borrow()
    }
}

impl Sampled {
    fn start(endpoint: Endpoint, every: Duration) -> Self {
        let (told, rates) = watch::channel(None);
        let mut sampling = JoinSet::new();
        let asked = endpoint.clone();
        sampling.spawn(async move {
            loop {
                sample(&asked, every, &told).await;
                told.send_replace(None);
                sleep(every.max(Duration::from_secs(1))).await;
            }
        });
        Self { endpoint, rates, _sampling: sampling }
    }
}

/// Until the node does not answer.
async fn sample(endpoint: &Endpoint, every: Duration, told: &watch::Sender<Option<Rates>>) {
    let Ok(opened) = open(endpoint, LIMIT).await else { return };
    let mut counted = Counted::default();
    loop {
        let asked = Instant::now();
        let Ok(Ok(load)) = timeout(LIMIT, load(opened.session.client())).await else { return };
        let Load { usage, max_connections, transactions } = load;
        let transactions = transactions.and_then(|transactions| counted.rate(asked, transactions));
        told.send_replace(Some(Rates { usage, max_connections, transactions }));
        sleep_until(asked + every).await;
    }
}

/// A count that grows, and when it was what.
#[derive(Debug, Default)]
struct Counted {
    samples: VecDeque<(Instant, u64)>,
}

impl Counted {
    /// By how much it grows in a second, over the window.
    fn rate(&mut self, now: Instant, count: u64) -> Option<f64> {
        // One sample at the far end of the window, or before it.
        while self.samples.get(1).is_some_and(|(at, _)| now - *at >= WINDOW) {
            self.samples.pop_front();
        }
        // Statistics may be reset, or the server be another one.
        if self.samples.back().is_some_and(|(_, before)| *before > count) {
            self.samples.clear();
        }
        let rate = self.samples.front().and_then(|(at, before)| {
            let passed = (now - *at).as_secs_f64();
            (passed > 0.0).then(|| (count - before) as f64 / passed)
        });
        self.samples.push_back((now, count));
        rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_that_of_the_last_seconds() {
        let (mut counted, start) = (Counted::default(), Instant::now());
        let second = |n| start + Duration::from_secs(n);
        assert_eq!(counted.rate(second(0), 100), None);
        assert_eq!(counted.rate(second(1), 110), Some(10.0));
        assert_eq!(counted.rate(second(2), 130), Some(15.0));
        for n in 3..=7 {
            counted.rate(second(n), 130);
        }
        assert_eq!(counted.rate(second(8), 130), Some(0.0), "what was before the window is forgotten");
        assert_eq!(counted.samples.len(), 6);
    }

    #[test]
    fn a_count_that_shrinks_begins_anew() {
        let (mut counted, start) = (Counted::default(), Instant::now());
        counted.rate(start, 100);
        assert_eq!(counted.rate(start + Duration::from_secs(1), 5), None);
        assert_eq!(counted.rate(start + Duration::from_secs(2), 7), Some(2.0));
    }
}
