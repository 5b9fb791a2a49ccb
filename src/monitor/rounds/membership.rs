//! Nodes that come and go while the service runs.

use super::*;
use crate::pool::Pool;
use crate::replay::Replay;
use futures_util::future::join_all;

impl Rounds {
    pub(super) fn apply(&mut self, command: Command) {
        // Whoever asked may have gone: then nobody is told.
        match command {
            Command::Add(spec, reply) => drop(reply.send(self.add_configured(*spec))),
            Command::Remove(name, reply) => match self.removable(&name) {
                Ok(id) => {
                    self.drain(id);
                    let watched = self.watched.iter_mut().find(|watched| watched.node.id == id);
                    if let Some(waiting) = watched.and_then(|watched| watched.leaving.as_mut()) {
                        waiting.push(reply);
                    }
                    self.publish();
                }
                Err(error) => drop(reply.send(Err(error))),
            },
            Command::SetWeight(name, weight, reply) => drop(reply.send(self.set_weight(&name, weight))),
            Command::Reload { nodes, settings, reply } => {
                self.reload(nodes, settings);
                drop(reply.send(Ok(())));
            }
            Command::Discovered { source, nodes } => {
                self.inbox.found.insert(source, nodes);
                self.list_found();
                self.publish_resized();
            }
        }
    }

    fn add_configured(&mut self, spec: NodeSpec) -> Result<(), Error> {
        if let Some(there) = self.stays(&spec.name) {
            // A node that was found stays when the source that found it loses it.
            if there.listing.by == Origin::Configuration || there.node.endpoint != spec.endpoint {
                return Err(Error::NodeExists { node: spec.name.to_string() });
            }
        }
        self.list(spec, Origin::Configuration, Role::Replica);
        self.publish_resized();
        Ok(())
    }

    fn removable(&self, name: &str) -> Result<NodeId, Error> {
        // Of one that was removed and added again, the new one is meant.
        let leaving = || self.watched.iter().find(|watched| &*watched.node.name == name);
        let watched = self.stays(name).or_else(leaving);
        let id = watched.map(|watched| watched.node.id).ok_or_else(|| Error::unknown_node(name))?;
        match &self.primary {
            Ok(primary) if primary.node.id == id => Err(Error::IsPrimary { node: name.to_owned() }),
            _ => Ok(id),
        }
    }

    fn set_weight(&mut self, name: &str, weight: u32) -> Result<(), Error> {
        let watched =
            self.watched.iter_mut().find(|watched| watched.leaving.is_none() && &*watched.node.name == name);
        watched.ok_or_else(|| Error::unknown_node(name))?.listing.weight = weight;
        self.publish();
        Ok(())
    }

    /// Makes the difference in one step: whoever asks for a connection sees either what was or what is.
    fn reload(&mut self, nodes: Vec<NodeSpec>, settings: Arc<Settings>) {
        self.settings = settings;
        self.changes.extend(self.fleet.set_policy(Instant::now(), self.settings.health.clone()));
        self.keep_time();
        let mut order = vec![];
        for (i, spec) in nodes.into_iter().enumerate() {
            let role = if i == 0 { Role::Primary } else { Role::Replica };
            order.push(self.list(spec, Origin::Configuration, role));
        }
        // To do without replicas is not to do without one that is the primary by now.
        let promoted = self.fleet.last_writer().filter(|_| !self.settings.read_replicas_enabled);
        let gone = self.watched.iter().filter(|watched| {
            let (id, Listing { by, role, .. }) = (watched.node.id, &watched.listing);
            let stays = order.contains(&id) || (*role == Role::Replica && Some(id) == promoted);
            *by == Origin::Configuration && !stays
        });
        let gone: Vec<_> = gone.map(|watched| watched.node.id).collect();
        for id in gone {
            self.drain(id);
        }
        self.list_found();
        let place = |id: NodeId| order.iter().position(|other| *other == id).unwrap_or(usize::MAX);
        self.watched.sort_by_key(|watched| place(watched.node.id));
        self.fleet.sort_by_key(place);
        self.publish_resized();
    }

    /// Publishes, with new pools for the nodes that are listed with others than they have.
    pub(super) fn publish_resized(&mut self) {
        let replaced = self.reopen_pools();
        self.publish();
        // Whoever finds one closed finds the new one published.
        for pool in replaced {
            pool.close();
        }
    }

    /// No probe is further off than these settings have it.
    fn keep_time(&mut self) {
        let Settings { probe_interval, probe_backoff, .. } = *self.settings;
        let now = Instant::now();
        self.next = self.next.min(now + probe_interval);
        for watched in &mut self.watched {
            watched.backoff.set(probe_interval, probe_backoff, now);
        }
    }

    /// Returns the pools in whose place there are new ones. Nodes that are being removed wait for the handles of those they have.
    fn reopen_pools(&mut self) -> Vec<Pool> {
        let mut old = vec![];
        for watched in self.watched.iter_mut().filter(|watched| watched.leaving.is_none()) {
            let wanted = self.settings.pools.sized(watched.listing.pool_size);
            if watched.node.pools == wanted {
                continue;
            }
            let reopened = Arc::new(watched.node.reopened(wanted));
            old.push(mem::replace(&mut watched.node, reopened).reads.clone());
        }
        old
    }

    /// Lists what was found, as long as replicas are wanted. A name that the configuration has, or an earlier source, stays theirs.
    pub(super) fn list_found(&mut self) {
        let enabled = self.settings.read_replicas_enabled;
        let mut listed = vec![];
        for (source, nodes) in self.inbox.found.clone() {
            let by = Origin::Discovery(source);
            for spec in nodes.into_iter().filter(|_| enabled) {
                if self.stays(&spec.name).is_none_or(|there| there.listing.by == by) {
                    listed.push(self.list(spec, by, Role::Replica));
                }
            }
        }
        let lost = self.watched.iter().filter(|watched| watched.listing.by != Origin::Configuration);
        // A primary lists its standbys and never itself, be it one of them that was promoted. While it does not answer, it is also
        // what tells a primary that was deposed before from one.
        let primary = self.fleet.last_writer();
        let lost =
            lost.map(|watched| watched.node.id).filter(|id| !listed.contains(id) && Some(*id) != primary);
        for id in lost.collect::<Vec<_>>() {
            self.drain(id);
        }
    }

    /// The node of this name that is not being removed.
    fn stays(&self, name: &str) -> Option<&Watched> {
        self.watched.iter().find(|watched| watched.leaving.is_none() && &*watched.node.name == name)
    }

    /// Sees to it that the node is there as it is listed. Under its name another server may have been meant so far.
    fn list(&mut self, spec: NodeSpec, by: Origin, role: Role) -> NodeId {
        let NodeSpec { name, endpoint, weight, zone, pool_size } = spec;
        let listing = Listing { by, role, weight, zone, pool_size };
        let there =
            self.watched.iter_mut().find(|watched| watched.leaving.is_none() && watched.node.name == name);
        let replaced = match there {
            Some(watched) if watched.node.endpoint == endpoint => {
                watched.listing = listing;
                self.fleet.list_as(watched.node.id, role);
                return watched.node.id;
            }
            other => other.map(|other| other.node.id),
        };
        let id = NodeId::unique();
        let traffic = Arc::new(Traffic::new(Arc::clone(&self.alarm)));
        let replay = Arc::new(Replay::new(endpoint.clone()));
        let pools = self.settings.pools.sized(pool_size);
        self.watch(Arc::new(Node::new(id, name, endpoint, pools, traffic, replay)), listing);
        if let Some(old) = replaced {
            self.fleet.succeed(old, id);
            self.drain(old);
        }
        self.probe(id);
        id
    }

    pub(super) fn watch(&mut self, node: Arc<Node>, listing: Listing) {
        self.fleet.add(Listed { id: node.id, name: Arc::clone(&node.name), role: listing.role });
        let prober = Some(Box::new(Prober::new(node.endpoint.clone())));
        let Settings { probe_interval, probe_backoff, .. } = *self.settings;
        let backoff = Backoff::new(probe_interval, probe_backoff, Instant::now());
        self.watched.push(Watched { node, listing, started: None, prober, backoff, leaving: None });
    }

    /// Begins to remove a node: no new handles from the next topology on, and the end when those that are out are back, or cut.
    pub(super) fn drain(&mut self, id: NodeId) {
        let Some(watched) = self.watched.iter_mut().find(|watched| watched.node.id == id) else { return };
        if watched.leaving.is_some() {
            return;
        }
        watched.leaving = Some(vec![]);
        let writes = self.primary.as_ref().ok().filter(|primary| primary.node.id == id);
        let writes = writes.map(|primary| primary.writes.clone());
        let pools: Vec<_> = writes.into_iter().chain([watched.node.reads.clone()]).collect();
        let patience = self.settings.drain_timeout;
        let drained = async move {
            pools.iter().for_each(Pool::close);
            let cut = match timeout(patience, join_all(pools.iter().map(Pool::drained))).await {
                Ok(_) => 0,
                Err(_) => pools.iter().map(Pool::cut).sum(),
            };
            Done::Drained { id, cut }
        };
        self.running.push(drained.boxed());
        self.changes.extend(self.fleet.drain(Instant::now(), id));
    }

    pub(super) fn remove(&mut self, id: NodeId, cut: usize) {
        let Some(index) = self.watched.iter().position(|watched| watched.node.id == id) else { return };
        let watched = self.watched.remove(index);
        #[cfg(feature = "metrics")]
        {
            let is_replaced = self.watched.iter().any(|other| other.node.name == watched.node.name);
            crate::metrics::forget(&watched.node, is_replaced);
        }
        self.changes.extend(self.fleet.remove(Instant::now(), id));
        self.publish();
        for reply in watched.leaving.into_iter().flatten() {
            drop(reply.send(Ok(cut)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, RouterBuilder};
    use crate::fleet::Service;
    use crate::health::UnverifiedLag;
    use crate::monitor::Monitor;
    use crate::observation::{Identity, Standby};
    use crate::router::{Router, parts};
    use tokio::sync::{Mutex, mpsc};
    use tokio::time::{advance, pause, sleep};

    /// A primary `a` and the replicas `b` and `c`, which nobody ever connects to.
    fn builder() -> RouterBuilder {
        ["b", "c"].iter().fold(primary(), |builder, name| builder.replica(node(name)))
    }

    fn primary() -> RouterBuilder {
        Router::builder().primary(node("a"))
    }

    fn node(name: &str) -> crate::NodeConfig {
        crate::NodeConfig::new("postgres://app@127.0.0.1:1/chat").name(name)
    }

    fn spec(name: &str) -> NodeSpec {
        node(name).check().expect("valid")
    }

    fn monitor(builder: RouterBuilder) -> Monitor {
        let topology = Router::unproven(builder.config().expect("valid"), &Arc::default());
        let (_, told) = mpsc::unbounded_channel();
        Monitor {
            topology: Arc::new(Latest::new(topology)),
            alarm: Arc::default(),
            inbox: Arc::new(Mutex::new(Inbox::new(told))),
            announcer: Announcer::new(),
        }
    }

    async fn rounds(monitor: &Monitor) -> Rounds {
        Rounds::new(monitor, Arc::clone(&monitor.inbox).lock_owned().await)
    }

    /// Every node has answered, as a server of its own.
    async fn healthy(builder: RouterBuilder) -> Rounds {
        pause();
        let mut rounds = rounds(&monitor(builder)).await;
        for name in names(&rounds) {
            answer(&mut rounds, &name, name == "a", 1);
        }
        rounds
    }

    fn answer(rounds: &mut Rounds, name: &str, writable: bool, timeline: u32) {
        let (id, answer) = answer_of(rounds, name, writable, timeline);
        rounds.changes.extend(rounds.fleet.probed(answer.answered_at, id, Ok(answer)));
        rounds.publish();
    }

    fn answer_of(rounds: &Rounds, name: &str, writable: bool, timeline: u32) -> (NodeId, Observation) {
        let watched =
            rounds.watched.iter().find(|watched| watched.leaving.is_none() && &*watched.node.name == name);
        let id = watched.expect("it stays").node.id;
        let now = Instant::now();
        let answer = Observation {
            in_recovery: !writable,
            lsn: Some(crate::Lsn::new(100)),
            inserted: None,
            identity: Identity { system: Some(1), started: name.as_bytes()[0].into() },
            timeline: Some(timeline),
            version: 150_018,
            standby: Standby::default(),
            limitations: vec![],
            asked_at: now,
            answered_at: now,
        };
        (id, answer)
    }

    fn fail(rounds: &mut Rounds, name: &str) {
        let watched = rounds.watched.iter().find(|watched| &*watched.node.name == name);
        let id = watched.expect("it is there").node.id;
        let failure = ProbeFailure::Failed("refused".into());
        rounds.changes.extend(rounds.fleet.probed(Instant::now(), id, Err(failure)));
        rounds.publish();
    }

    fn remove(rounds: &mut Rounds, name: &str) -> oneshot::Receiver<Result<usize, Error>> {
        let (reply, answer) = oneshot::channel();
        rounds.apply(Command::Remove(name.into(), reply));
        answer
    }

    fn reload(rounds: &mut Rounds, config: Config) {
        let (nodes, settings) = parts(config);
        rounds.apply(Command::Reload { nodes, settings: Arc::new(settings), reply: oneshot::channel().0 });
    }

    fn writer(rounds: &Rounds) -> Result<String, NoPrimary> {
        let primary = rounds.primary.as_ref().map_err(|why| *why);
        primary.map(|primary| primary.node.name.to_string())
    }

    /// As if no handle of theirs was out any more.
    fn remove_those_that_leave(rounds: &mut Rounds) {
        let leaving = rounds.watched.iter().filter(|watched| watched.leaving.is_some());
        for id in leaving.map(|watched| watched.node.id).collect::<Vec<_>>() {
            rounds.remove(id, 0);
        }
    }

    fn names(rounds: &Rounds) -> Vec<String> {
        rounds.watched.iter().map(|watched| watched.node.name.to_string()).collect()
    }

    /// The nodes that stay.
    fn staying(rounds: &Rounds) -> Vec<String> {
        let stay = rounds.watched.iter().filter(|watched| watched.leaving.is_none());
        stay.map(|watched| watched.node.name.to_string()).collect()
    }

    #[tokio::test]
    async fn what_changes_nothing_is_published_together_and_what_changes_something_at_once() {
        let mut rounds = healthy(builder()).await;
        let topology = Arc::clone(&rounds.topology);
        let (mut before, now) = (topology.load_full(), Instant::now());
        let is_published = |before: &mut Arc<Topology>| {
            let latest = topology.load_full();
            !Arc::ptr_eq(&mem::replace(before, Arc::clone(&latest)), &latest)
        };
        let judge = |rounds: &mut Rounds, name: &str, refused: bool| {
            let (id, answer) = answer_of(rounds, name, false, 1);
            let prober = Box::new(Prober::new(spec(name).endpoint));
            let result = if refused { Err(ProbeFailure::Failed("refused".into())) } else { Ok(answer) };
            rounds.judge(id, prober, result);
        };
        judge(&mut rounds, "b", false);
        advance(TOGETHER / 2).await;
        judge(&mut rounds, "c", false);
        assert!(!is_published(&mut before));
        assert_eq!(rounds.unpublished, Some(now + TOGETHER), "the first one waits no longer for the second");
        judge(&mut rounds, "c", true);
        assert!(is_published(&mut before) && rounds.unpublished.is_none());

        judge(&mut rounds, "b", false);
        rounds.next = now + 1000 * TOGETHER;
        let running = tokio::spawn(rounds.run());
        sleep(TOGETHER / 2).await;
        assert!(!is_published(&mut before));
        sleep(TOGETHER).await;
        assert!(is_published(&mut before));
        running.abort();
    }

    #[tokio::test]
    async fn of_a_node_that_was_removed_and_added_again_the_new_one_is_removed() {
        let mut rounds = healthy(builder()).await;
        let _first = remove(&mut rounds, "b");
        assert_eq!(staying(&rounds), ["a", "c"]);
        rounds.apply(Command::Add(Box::new(spec("b")), oneshot::channel().0));
        assert_eq!(staying(&rounds), ["a", "c", "b"]);
        let _second = remove(&mut rounds, "b");
        assert_eq!(staying(&rounds), ["a", "c"]);
    }

    #[tokio::test]
    async fn a_node_that_is_removed_with_other_pool_settings_waits_for_the_handles_of_its_own_pool() {
        let mut rounds = healthy(builder()).await;
        let before = rounds.topology.load_full();
        let config = primary().replica(node("b")).pool_size(3).config().expect("valid");
        reload(&mut rounds, config);
        let now = rounds.topology.load_full();
        let kept = now.nodes().iter().map(|seen| {
            let old = before.nodes().iter().find(|old| old.node.id == seen.node.id).expect("the same nodes");
            (&*seen.node.name, Arc::ptr_eq(&old.node, &seen.node))
        });
        assert_eq!(kept.collect::<Vec<_>>(), [("a", false), ("b", false), ("c", true)]);
    }

    #[tokio::test]
    async fn other_intervals_hold_from_now_on() {
        const HOUR: Duration = Duration::from_secs(3600);
        let rare = builder().probe_interval(HOUR).lag_threshold(4 * HOUR);
        let mut rounds = healthy(rare).await;
        rounds.start_round();
        reload(&mut rounds, builder().config().expect("valid"));
        assert!(rounds.next <= Instant::now() + Duration::from_millis(250));
    }

    #[tokio::test]
    async fn a_replica_that_may_not_serve_by_other_settings_leaves_with_the_reload() {
        let mut rounds = healthy(builder()).await;
        fail(&mut rounds, "a");
        advance(Duration::from_secs(2)).await;
        answer(&mut rounds, "b", false, 1);
        let serves = |rounds: &Rounds, i: usize| {
            let topology = rounds.topology.load();
            topology.serving_node(&rounds.watched[i].node).is_some()
        };
        assert!(serves(&rounds, 1), "nobody can tell whether it lags");
        reload(&mut rounds, builder().unverified_lag(UnverifiedLag::Exclude).config().expect("valid"));
        assert!(!serves(&rounds, 1) && serves(&rounds, 2));
    }

    #[tokio::test]
    async fn a_panic_forgets_neither_who_is_being_removed_nor_what_was_found() {
        let monitor = monitor(builder());
        let mut before = rounds(&monitor).await;
        for (source, name) in ["d", "e"].into_iter().enumerate() {
            before.apply(Command::Discovered { source, nodes: vec![spec(name)] });
        }
        let _removed = remove(&mut before, "b");
        drop(before);
        monitor.forget();
        assert_eq!(monitor.topology.load().serving(), 0);

        let mut after = rounds(&monitor).await;
        assert_eq!(staying(&after), ["a", "c", "d", "e"]);
        after.apply(Command::Discovered { source: 0, nodes: vec![] });
        assert_eq!(staying(&after), ["a", "c", "e"]);
    }

    /// A router that reads from the only node that is listed, before anybody knows what it is.
    #[tokio::test]
    async fn nobody_reads_from_a_node_that_is_being_removed_before_it_was_probed() {
        let mut rounds = rounds(&monitor(builder())).await;
        let fallback = |rounds: &Rounds| rounds.topology.load().fallback().map(|node| node.name.to_string());
        assert_eq!(fallback(&rounds).as_deref(), Some("a"));
        let _removed = remove(&mut rounds, "a");
        assert_eq!(fallback(&rounds).as_deref(), Some("b"));
    }

    /// A source that asks the deposed primary does not know the new one.
    #[tokio::test]
    async fn a_primary_that_does_not_answer_is_not_lost_to_one_that_was_deposed() {
        let mut rounds = healthy(primary()).await;
        rounds.apply(Command::Discovered { source: 0, nodes: vec![spec("d")] });
        answer(&mut rounds, "d", false, 1);
        fail(&mut rounds, "a");
        answer(&mut rounds, "d", true, 2);
        assert_eq!(writer(&rounds).as_deref(), Ok("d"));
        fail(&mut rounds, "d");
        rounds.apply(Command::Discovered { source: 0, nodes: vec![] });
        answer(&mut rounds, "a", true, 1);
        assert_eq!(writer(&rounds), Err(NoPrimary::Deposed));
        assert_eq!(staying(&rounds), ["a", "d"]);
    }

    #[tokio::test]
    async fn a_primary_with_another_url_leaves_the_writes_to_no_older_one() {
        let mut rounds = healthy(builder()).await;
        answer(&mut rounds, "b", true, 2);
        let writer = |rounds: &Rounds| {
            let primary = rounds.primary.as_ref().map_err(|why| *why)?;
            Ok((primary.node.name.to_string(), primary.node.endpoint.port()))
        };
        assert_eq!(writer(&rounds), Ok(("b".to_owned(), 1)));

        let moved = crate::NodeConfig::new("postgres://app@127.0.0.1:2/chat").name("b");
        reload(&mut rounds, primary().replica(moved).replica(node("c")).config().expect("valid"));
        assert_eq!(writer(&rounds), Err(NoPrimary::Deposed), "`a` was deposed by `b`");
        answer(&mut rounds, "a", true, 1);
        assert_eq!(writer(&rounds), Err(NoPrimary::Deposed));
        answer(&mut rounds, "b", true, 2);
        assert_eq!(writer(&rounds), Ok(("b".to_owned(), 2)));
    }

    #[tokio::test]
    async fn a_reload_without_the_primary_leaves_the_writes_to_no_older_one() {
        let mut rounds = healthy(builder()).await;
        answer(&mut rounds, "b", true, 2);
        assert_eq!(writer(&rounds).as_deref(), Ok("b"));
        reload(&mut rounds, primary().replica(node("c")).config().expect("valid"));
        remove_those_that_leave(&mut rounds);
        assert_eq!(names(&rounds), ["a", "c"]);
        for _ in 0..3 {
            answer(&mut rounds, "a", true, 1);
            assert_eq!(writer(&rounds), Err(NoPrimary::Deposed));
        }
        answer(&mut rounds, "c", true, 2);
        assert_eq!(writer(&rounds).as_deref(), Ok("c"));
    }

    #[tokio::test]
    async fn a_reload_with_others_alone_leaves_the_writes_to_no_older_one() {
        let mut rounds = healthy(builder()).await;
        answer(&mut rounds, "b", true, 2);
        reload(&mut rounds, Router::builder().primary(node("x")).replica(node("y")).config().expect("valid"));
        remove_those_that_leave(&mut rounds);
        answer(&mut rounds, "x", true, 1);
        answer(&mut rounds, "y", false, 1);
        assert_eq!(writer(&rounds), Err(NoPrimary::Deposed));
        answer(&mut rounds, "y", true, 2);
        assert_eq!(writer(&rounds).as_deref(), Ok("y"));
    }

    #[tokio::test]
    async fn a_primary_with_another_url_is_waited_for_and_read_from() {
        for builder in [builder as fn() -> RouterBuilder, primary] {
            let mut rounds = healthy(builder()).await;
            let at =
                |name: &str| crate::NodeConfig::new("postgres://app:rotated@127.0.0.1:1/chat").name(name);
            let others = names(&rounds).into_iter().skip(1);
            let config =
                others.fold(Router::builder().primary(at("a")), |config, name| config.replica(at(&name)));
            reload(&mut rounds, config.config().expect("valid"));
            assert!(matches!(rounds.primary, Err(NoPrimary::NotYetKnown)));
            let fallback = rounds.topology.load().fallback().map(|node| node.id);
            assert_eq!(fallback, rounds.watched.first().map(|watched| watched.node.id));
            answer(&mut rounds, "a", true, 1);
            assert!(rounds.primary.is_ok());
            tokio::time::resume();
        }
    }

    #[tokio::test]
    async fn a_node_that_stops_to_answer_while_it_is_being_removed_is_lost() {
        let mut rounds = healthy(builder()).await;
        let topology = Arc::clone(&rounds.topology);
        let node = Arc::clone(&rounds.watched[1].node);
        let _removed = remove(&mut rounds, "b");
        assert_eq!(topology.lost(&node).now_or_never(), None, "its handles can be used");
        let lost = tokio::spawn(async move { topology.lost(&node).await });
        tokio::task::yield_now().await;
        fail(&mut rounds, "b");
        timeout(Duration::from_secs(1), lost).await.expect("at once").expect("no panic");
    }

    #[tokio::test]
    async fn writes_on_a_primary_that_is_being_removed_may_end_until_another_one_is_promoted() {
        let mut rounds = healthy(builder()).await;
        let topology = Arc::clone(&rounds.topology);
        let old = Arc::clone(&rounds.watched[0].node);
        reload(&mut rounds, Router::builder().primary(node("b")).replica(node("c")).config().expect("valid"));
        assert_eq!(topology.deposed(&old).now_or_never(), None);
        answer(&mut rounds, "b", true, 1);
        assert_eq!(
            topology.deposed(&old).now_or_never(),
            None,
            "it was made the primary on the same timeline"
        );
        let deposed = tokio::spawn({
            let topology = Arc::clone(&topology);
            async move { topology.deposed(&old).await }
        });
        tokio::task::yield_now().await;
        answer(&mut rounds, "c", true, 2);
        timeout(Duration::from_secs(1), deposed).await.expect("at once").expect("no panic");
    }

    #[tokio::test]
    async fn a_weight_of_0_is_told_to_those_that_wait() {
        let mut rounds = healthy(builder()).await;
        let topology = Arc::clone(&rounds.topology);
        let node = Arc::clone(&rounds.watched[1].node);
        assert_eq!(rounds.fleet.view().nodes[1].serves, Service::Yes);
        let left = tokio::spawn(async move { topology.left_service(&node).await });
        tokio::task::yield_now().await;
        rounds.apply(Command::SetWeight("b".into(), 0, oneshot::channel().0));
        timeout(Duration::from_secs(1), left).await.expect("at once").expect("no panic");
    }
}
