//! The watch: rounds of probes, and what is made of them.

mod membership;

use super::backoff::Backoff;
use super::command::Command;
use super::probe::Prober;
use super::report;
use super::{Inbox, Monitor};
use crate::alerts::Alerts;
use crate::config::NodeSpec;
use crate::error::Error;
use crate::event::{Announcer, Event};
use crate::fleet::{Change, Fleet, Listed, NoPrimary, NodeId, Role, View, Writer};
use crate::freshness::History;
use crate::health::{HealthState, Transition};
use crate::observation::{Observation, ProbeFailure};
use crate::pool::Access;
use crate::topology::{Latest, Listing, Node, Origin, Primary, Seen, Settings, Topology};
use crate::traffic::Traffic;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use rand::RngExt;
use std::mem;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, OwnedMutexGuard, oneshot};
use tokio::time::{Instant, sleep_until, timeout};

/// How long the others are kept waiting for the primary's answer, which makes their lag's bound tight.
const PRIMARY_FIRST: Duration = Duration::from_millis(50);

/// How long what a probe has shown waits to be published together with what others show, when nothing follows from it. A topology
/// is made of all nodes: to make one for each answer is work that grows with the square of their number.
const TOGETHER: Duration = Duration::from_millis(5);

pub(super) struct Rounds {
    topology: Arc<Latest>,
    alarm: Arc<Notify>,
    settings: Arc<Settings>,
    fleet: Fleet,
    watched: Vec<Watched>,
    inbox: OwnedMutexGuard<Inbox>,
    /// What has changed since the topology was published.
    changes: Vec<Change>,
    alerts: Alerts,
    announcer: Announcer,
    /// As published last.
    primary: Result<Arc<Primary>, NoPrimary>,
    /// What the primary writes, or wrote when it answered last.
    history: Option<History>,
    running: FuturesUnordered<BoxFuture<'static, Done>>,
    /// When the next round starts.
    next: Instant,
    /// When this round's other probes start at the latest.
    others: Option<Instant>,
    /// When what has been learned is published at the latest.
    unpublished: Option<Instant>,
}

struct Watched {
    node: Arc<Node>,
    listing: Listing,
    /// When the server started that answered last.
    started: Option<i64>,
    /// Away while a probe is under way.
    prober: Option<Box<Prober>>,
    backoff: Backoff,
    /// Those who wait for the node to be gone, if it is being removed.
    leaving: Option<Vec<oneshot::Sender<Result<usize, Error>>>>,
}

enum Done {
    Probed {
        id: NodeId,
        prober: Box<Prober>,
        result: Result<Observation, ProbeFailure>,
    },
    /// A node that was being removed has no handle out any more, after so many had to be cut.
    Drained {
        id: NodeId,
        cut: usize,
    },
}

impl Rounds {
    /// Begins with the nodes and the settings of the latest topology, knowing nothing of them.
    pub(super) fn new(
        Monitor { topology, alarm, announcer, .. }: &Monitor,
        inbox: OwnedMutexGuard<Inbox>,
    ) -> Self {
        let latest = topology.load();
        let mut this = Self {
            topology: Arc::clone(topology),
            alarm: Arc::clone(alarm),
            settings: Arc::clone(&latest.settings),
            fleet: Fleet::new(latest.settings.health.clone()),
            watched: vec![],
            inbox,
            changes: vec![],
            alerts: Alerts::default(),
            announcer: announcer.clone(),
            primary: Err(NoPrimary::NotYetKnown),
            history: None,
            running: FuturesUnordered::new(),
            next: Instant::now(),
            others: None,
            unpublished: None,
        };
        for seen in latest.nodes() {
            this.watch(Arc::clone(&seen.node), seen.listing.clone());
        }
        let draining = latest.nodes().iter().filter(|seen| seen.view.health == HealthState::Draining);
        for seen in draining {
            this.drain(seen.node.id);
        }
        this
    }

    pub(super) async fn run(mut self) {
        let alarm = Arc::clone(&self.alarm);
        loop {
            let (others, unpublished) = (self.others, self.unpublished);
            let alone = self.watched.iter().filter_map(|watched| watched.backoff.due()).min();
            tokio::select! {
                Some(done) = self.running.next() => match done {
                    Done::Probed { id, prober, result } => self.judge(id, prober, result),
                    Done::Drained { id, cut } => self.remove(id, cut),
                },
                Some(command) = self.inbox.commands.recv() => self.apply(command),
                () = alarm.notified() => self.look_at_suspects(),
                () = sleep_until(alone.unwrap_or(self.next)), if alone.is_some() => self.probe_alone(),
                () = sleep_until(unpublished.unwrap_or(self.next)), if unpublished.is_some() => self.publish(),
                () = sleep_until(others.unwrap_or(self.next)), if others.is_some() => self.probe_others(),
                () = sleep_until(self.next) => self.start_round(),
            }
        }
    }

    fn start_round(&mut self) {
        let now = Instant::now();
        let interval = self.settings.probe_interval;
        // Services that start together would otherwise probe together for ever.
        self.next = now + interval.mul_f64(rand::rng().random_range(0.9..=1.1));
        self.others = Some(now + PRIMARY_FIRST);
        self.judge_traffic(now);
        #[cfg(feature = "metrics")]
        crate::metrics::publish(&self.topology.load(), self.fleet.is_split());
        match self.first().filter(|first| self.joins_round(*first)) {
            Some(first) => self.probe(first),
            None => self.probe_others(),
        }
    }

    /// The node whose position is the measure of all others.
    fn first(&self) -> Option<NodeId> {
        match &self.primary {
            Ok(primary) => Some(primary.node.id),
            Err(_) => self.watched.first().map(|watched| watched.node.id),
        }
    }

    fn probe_others(&mut self) {
        self.others = None;
        let first = self.first();
        let ids: Vec<_> = self.watched.iter().map(|watched| watched.node.id).collect();
        for id in ids.into_iter().filter(|id| Some(*id) != first) {
            if self.joins_round(id) {
                self.probe(id);
            }
        }
    }

    /// Nodes that fail are probed by themselves, less and less often, and suspects at once.
    fn probe_alone(&mut self) {
        let now = Instant::now();
        let due = self.watched.iter().filter(|watched| watched.backoff.due().is_some_and(|due| due <= now));
        for id in due.map(|watched| watched.node.id).collect::<Vec<_>>() {
            self.probe(id);
        }
    }

    fn joins_round(&self, id: NodeId) -> bool {
        self.watched.iter().any(|watched| watched.node.id == id && watched.backoff.joins_rounds())
    }

    /// Starts a probe, unless the node still owes the answer to one.
    fn probe(&mut self, id: NodeId) {
        let Some(watched) = self.watched.iter_mut().find(|watched| watched.node.id == id) else { return };
        let Some(mut prober) = watched.prober.take() else { return };
        watched.backoff.began(Instant::now());
        let limit = self.settings.probe_timeout;
        // A pooler that does not let read-only sessions through is told of where it keeps a replica from serving, and in nobody's way else.
        let serves_reads_alone = self.fleet.role(id) == Some(Role::Replica) && !watched.node.pools.common;
        let access = if serves_reads_alone { Access::ReadOnly } else { Access::ReadWrite };
        let probe = async move {
            let result = prober.probe(access, limit).await;
            Done::Probed { id, prober, result }
        };
        self.running.push(probe.boxed());
    }

    fn judge(&mut self, id: NodeId, prober: Box<Prober>, result: Result<Observation, ProbeFailure>) {
        // It may have been removed meanwhile.
        let Some(watched) = self.watched.iter_mut().find(|watched| watched.node.id == id) else { return };
        #[cfg(feature = "metrics")]
        crate::metrics::probed(&watched.node.name, &result);
        let now = Instant::now();
        let answered = result.is_ok();
        if let Ok(seen) = &result {
            let started = seen.identity.started;
            if watched.started.replace(started).is_some_and(|before| before != started) {
                watched.node.reads.expire(seen.asked_at);
                let primary = self.primary.iter().find(|primary| primary.node.id == id);
                primary.into_iter().for_each(|primary| primary.writes.expire(seen.asked_at));
            }
            seen.position().into_iter().for_each(|position| watched.node.replay.learned(position));
        }
        self.changes.extend(self.fleet.probed(now, id, result));
        // Its address may lead to the right server by now; the connection never will.
        let foreign = self.fleet.is_foreign(id);
        watched.prober =
            Some(if foreign { Box::new(Prober::new(watched.node.endpoint.clone())) } else { prober });
        watched.backoff.ended(now, answered && !foreign, &mut rand::rng());
        if self.changes.iter().any(|change| matches!(change, Change::Writer { from: Some(_), .. })) {
            // The primary before stays no longer than its source lists it.
            self.list_found();
        }
        if self.first() == Some(id) && self.others.is_some() {
            self.probe_others();
        }
        if self.changes.is_empty() {
            self.unpublished.get_or_insert(now + TOGETHER);
        } else {
            self.publish_resized();
        }
    }

    /// Nodes that have failed somebody are probed at once, and judged by what they did.
    fn look_at_suspects(&mut self) {
        let now = Instant::now();
        for watched in self.watched.iter_mut().filter(|watched| watched.node.traffic.take_suspicion()) {
            watched.backoff.suspect(now);
        }
        self.judge_traffic(now);
    }

    fn judge_traffic(&mut self, now: Instant) {
        for watched in &self.watched {
            self.changes.extend(self.fleet.traffic(now, watched.node.id, watched.node.traffic.tally()));
        }
        if !self.changes.is_empty() {
            self.publish();
        }
    }

    /// Publishes what is so now, and tells of what has changed.
    fn publish(&mut self) {
        self.unpublished = None;
        for change in mem::take(&mut self.changes) {
            self.welcome(&change);
            self.tell(report::event(change, |id| self.describe(id)));
        }
        let view = self.fleet.view();
        for alert in self.alerts.update(Instant::now(), &self.settings.alerts, &view.nodes) {
            self.tell(report::event_of_alert(alert, |id| self.describe(id).0));
        }
        self.appoint(view.writer);
        self.follow(&view);
        let seen = self.watched.iter().zip(view.nodes).map(|(watched, view)| {
            debug_assert_eq!(watched.node.id, view.id, "nodes are added, sorted and removed in both");
            Seen { node: Arc::clone(&watched.node), listing: watched.listing.clone(), view }
        });
        let (settings, primary) = (Arc::clone(&self.settings), self.primary.clone());
        let topology = Topology::new(seen.collect(), primary, settings, self.history, Instant::now());
        let now = topology.serving();
        let before = self.topology.publish(topology);
        if let Ok(old) = before.primary()
            && !self.primary.as_ref().is_ok_and(|new| Arc::ptr_eq(old, new))
        {
            old.writes.close();
        }
        if let Some(event) = report::event_of_serving(before.serving(), now) {
            self.tell(event);
        }
    }

    fn tell(&self, event: Event) {
        report::log(&event);
        #[cfg(feature = "metrics")]
        crate::metrics::saw(&event);
        self.announcer.tell(event);
    }

    /// How a node did before it left says nothing of it when it is back.
    fn welcome(&self, change: &Change) {
        let Change::Health(id, Transition { from, to: HealthState::Healthy, .. }) = change else { return };
        let watched = self.watched.iter().find(|watched| watched.node.id == *id);
        if let Some(watched) = watched.filter(|_| *from != HealthState::Healthy) {
            watched.node.traffic.returned();
        }
    }

    /// Begins a term for the node that takes the writes, unless its term goes on.
    fn appoint(&mut self, writer: Writer) {
        let goes_on = |primary: &Arc<Primary>| {
            let node = self
                .watched
                .iter()
                .map(|watched| &watched.node)
                .find(|node| Arc::ptr_eq(node, &primary.node));
            node.is_some_and(|node| writer == Writer::Node(node.id))
        };
        if self.primary.as_ref().is_ok_and(goes_on) {
            return;
        }
        if let Ok(primary) = &self.primary
            && primary.node.pools.common
        {
            // Its pool ends with the term; what is read from then on needs another.
            let ended = self.watched.iter_mut().find(|watched| Arc::ptr_eq(&watched.node, &primary.node));
            ended
                .into_iter()
                .for_each(|watched| watched.node = Arc::new(watched.node.reopened(watched.node.pools)));
        }
        self.primary = match writer {
            Writer::Nobody(why) => Err(why),
            Writer::Node(id) => {
                let Some(watched) = self.watched.iter().find(|watched| watched.node.id == id) else { return };
                Ok(Arc::new(Primary::new(Arc::clone(&watched.node))))
            }
        };
    }

    /// Takes note of the history that the node writes which takes the writes.
    fn follow(&mut self, view: &View) {
        let Writer::Node(id) = view.writer else { return };
        let writer = view.nodes.iter().find(|node| node.id == id);
        let Some(seen) = writer.and_then(|node| node.seen.as_ref()) else { return };
        let (system, timeline) = (seen.identity.system, seen.timeline);
        let goes_on = |known: &History| (known.system, known.timeline) == (system, timeline);
        if !self.history.as_ref().is_some_and(goes_on) {
            self.history = Some(History { system, timeline, since: seen.lsn });
        }
    }

    fn describe(&self, id: NodeId) -> (Arc<str>, Role) {
        let watched = self.watched.iter().find(|watched| watched.node.id == id);
        let name = watched.map_or_else(|| "a removed node".into(), |watched| Arc::clone(&watched.node.name));
        (name, self.fleet.role(id).unwrap_or(Role::Replica))
    }
}
