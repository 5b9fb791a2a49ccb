//! A steady load of reads and writes, and what became of each call.
//!
//! Calls begin at a fixed rate, each in a task of its own, whether or not earlier ones have ended: so do requests to a service. A
//! call that hangs holds up no other one, and its wait is counted in full.

use crate::support::{notes, until};
use diesel::prelude::*;
use diesel_replicas::{Router, RunQueryDsl};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, interval, timeout};

/// One call each; every fifth is a write.
const PACE: Duration = Duration::from_millis(2);
const WRITES: u32 = 5;

/// From one look at the router's counters to the next.
const LOOK: Duration = Duration::from_millis(1);

/// No call may take longer, whatever happens: more than a request may wait for its connection.
const LIMIT: Duration = Duration::from_secs(10);

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Goes on until it is ended.
pub struct Load {
    log: Arc<Mutex<Log>>,
    stop: watch::Sender<bool>,
    calling: JoinHandle<()>,
    _looking: JoinSet<()>,
}

#[derive(Default)]
struct Log {
    calls: Vec<Call>,
    /// Of each node, when work was last sent to it, be it an attempt to connect that failed.
    sent: BTreeMap<String, Sent>,
}

#[derive(Clone, Copy)]
struct Sent {
    last: Instant,
    count: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Read,
    Write,
}

/// A call that has ended.
#[derive(Debug, Clone)]
pub struct Call {
    pub kind: Kind,
    /// When it was due.
    pub due: Instant,
    pub ended: Instant,
    /// Who served it, or the text of the error.
    pub result: Result<String, String>,
}

impl Load {
    pub fn start(router: &Router) -> Self {
        let log = Arc::new(Mutex::new(Log::default()));
        let (stop, stopped) = watch::channel(false);
        let calling = tokio::spawn(call(router.clone(), Arc::clone(&log), stopped));
        let mut looking = JoinSet::new();
        looking.spawn(look(router.clone(), Arc::clone(&log)));
        Self { log, stop, calling, _looking: looking }
    }

    /// Waits until the node has served so many more reads.
    pub async fn until_read_from(&self, node: &str, reads: usize) {
        let served = || {
            let by_it = |call: &&Call| call.kind == Kind::Read && call.result.as_deref() == Ok(node);
            self.log.lock().unwrap().calls.iter().filter(by_it).count()
        };
        let before = served();
        until(&format!("{node} serves reads"), || served() >= before + reads).await;
    }

    /// Waits until so many more calls have ended.
    pub async fn until_ended(&self, calls: usize) {
        let ended = || self.log.lock().unwrap().calls.len();
        let before = ended();
        until("calls end", || ended() >= before + calls).await;
    }

    /// When work was last sent to the node, be it an attempt to connect that failed.
    pub fn last_sent_to(&self, node: &str) -> Instant {
        self.log.lock().unwrap().sent[node].last
    }

    /// Waits until a write that was due after this instant has succeeded on this node, and says when the first such ended.
    pub async fn first_write_after(&self, instant: Instant, node: &str) -> Instant {
        let written = |call: &&Call| {
            call.kind == Kind::Write && call.ended > instant && call.result.as_deref() == Ok(node)
        };
        let first = || self.log.lock().unwrap().calls.iter().filter(written).map(|call| call.ended).min();
        until(&format!("{node} takes writes"), || first().is_some()).await;
        first().unwrap()
    }

    /// Starts no further call, and waits for those under way.
    pub async fn end(self) -> Report {
        self.stop.send_replace(true);
        self.calling.await.unwrap();
        Report { calls: std::mem::take(&mut self.log.lock().unwrap().calls) }
    }
}

async fn call(router: Router, log: Arc<Mutex<Log>>, mut stopped: watch::Receiver<bool>) {
    let mut calls = JoinSet::new();
    let mut pace = interval(PACE);
    for number in 0_u32.. {
        let due = tokio::select! {
            due = pace.tick() => due,
            _ = stopped.changed() => break,
        };
        let (router, log) = (router.clone(), Arc::clone(&log));
        let kind = if number % WRITES == 0 { Kind::Write } else { Kind::Read };
        calls.spawn(async move {
            let result = match kind {
                Kind::Read => {
                    timeout(LIMIT, read(&router, number)).await.map(|read| read.map_err(Failure::from))
                }
                Kind::Write => timeout(LIMIT, write(&router)).await,
            };
            let result = match result {
                Ok(result) => result.map_err(|error| error.to_string()),
                Err(_) => Err(format!("it hung for {LIMIT:?}")),
            };
            log.lock().unwrap().calls.push(Call { kind, due, ended: Instant::now(), result });
        });
    }
    while let Some(ended) = calls.join_next().await {
        ended.unwrap();
    }
}

/// One row, or a small list.
async fn read(router: &Router, number: u32) -> QueryResult<String> {
    router
        .with_read(async |conn| {
            let node = conn.node().to_owned();
            if number.is_multiple_of(2) {
                notes::table.find(1).first::<(i32, String)>(conn).await?;
            } else {
                notes::table.order(notes::id.desc()).limit(10).load::<(i32, String)>(conn).await?;
            }
            Ok(node)
        })
        .await
}

async fn write(router: &Router) -> Result<String, Failure> {
    let mut conn = router.write().await?;
    diesel::insert_into(notes::table).values(notes::body.eq("more")).execute(&mut conn).await?;
    Ok(conn.node().to_owned())
}

/// Watches the router's counters of what it sends to each node.
async fn look(router: Router, log: Arc<Mutex<Log>>) {
    let mut pace = interval(LOOK);
    loop {
        let last = pace.tick().await;
        let nodes = router.status().nodes;
        let mut log = log.lock().unwrap();
        for node in nodes {
            let count = node.reads + node.failed;
            let sent = log.sent.entry(node.name).or_insert(Sent { last, count });
            if sent.count != count {
                *sent = Sent { last, count };
            }
        }
    }
}

/// What became of all calls.
#[derive(Debug)]
pub struct Report {
    calls: Vec<Call>,
}

impl Report {
    pub fn calls(&self, kind: Kind) -> impl Iterator<Item = &Call> {
        self.calls.iter().filter(move |call| call.kind == kind)
    }

    pub fn failed(&self, kind: Kind) -> Vec<&Call> {
        self.calls(kind).filter(|call| call.result.is_err()).collect()
    }

    /// How many each node served.
    pub fn served(&self, kind: Kind) -> BTreeMap<&str, usize> {
        let mut served = BTreeMap::new();
        for node in self.calls(kind).filter_map(|call| call.result.as_deref().ok()) {
            *served.entry(node).or_default() += 1;
        }
        served
    }

    /// The latency that this share of the calls stayed within, failed ones included.
    fn latency(&self, kind: Kind, share: f64) -> Duration {
        let mut took: Vec<_> = self.calls(kind).map(|call| call.ended - call.due).collect();
        took.sort_unstable();
        let last = took.len().saturating_sub(1);
        took.get((last as f64 * share) as usize).copied().unwrap_or_default()
    }

    /// The longest time in which no such call succeeded.
    fn pause(&self, kind: Kind) -> Duration {
        let mut done: Vec<_> =
            self.calls(kind).filter(|call| call.result.is_ok()).map(|call| call.ended).collect();
        done.sort_unstable();
        done.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (kind, name) in [(Kind::Read, "reads"), (Kind::Write, "writes")] {
            let latency = |share| self.latency(kind, share);
            let (calls, failed) = (self.calls(kind).count(), self.failed(kind).len());
            let (median, p99, most) = (latency(0.5), latency(0.99), latency(1.0));
            let (pause, served) = (self.pause(kind), self.served(kind));
            write!(
                f,
                "\n  {calls} {name}, {failed} failed; median {median:.1?}, p99 {p99:.1?}, at most {most:.1?}; \
                 none succeeded for {pause:.1?}; {served:?}"
            )?;
            let mut texts = BTreeMap::<_, usize>::new();
            for call in self.failed(kind) {
                *texts.entry(call.result.as_ref().unwrap_err()).or_default() += 1;
            }
            for (text, times) in texts {
                write!(f, "\n    {times} times: {text}")?;
            }
        }
        Ok(())
    }
}
