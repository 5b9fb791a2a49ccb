//! Nodes that come and go while the service runs.

use super::*;
use crate::pool::Pool;

impl Rounds {
    pub(super) fn apply(&mut self, command: Command) {
        // Whoever asked may have gone: then nobody is told.
        match command {
            Command::Add(spec, reply) => drop(reply.send(self.add_configured(spec))),
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
                self.publish();
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
        self.publish();
        Ok(())
    }

    fn removable(&self, name: &str) -> Result<NodeId, Error> {
        let watched = self.watched.iter().find(|watched| &*watched.node.name == name);
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
        let pools_change = self.settings.pools != settings.pools;
        self.settings = settings;
        self.fleet.set_policy(self.settings.health.clone());
        let closing = if pools_change { self.reopen_pools() } else { vec![] };
        let mut order = vec![];
        for (i, spec) in nodes.into_iter().enumerate() {
            let role = if i == 0 { Role::Primary } else { Role::Replica };
            order.push(self.list(spec, Origin::Configuration, role));
        }
        let gone = self.watched.iter().filter(|watched| {
            watched.listing.by == Origin::Configuration && !order.contains(&watched.node.id)
        });
        let gone: Vec<_> = gone.map(|watched| watched.node.id).collect();
        for id in gone {
            self.drain(id);
        }
        self.list_found();
        let place = |id: NodeId| order.iter().position(|other| *other == id).unwrap_or(usize::MAX);
        self.watched.sort_by_key(|watched| place(watched.node.id));
        self.fleet.sort_by_key(place);
        self.publish();
        // Whoever finds one closed finds the new one published.
        for pool in closing {
            pool.close();
        }
    }

    /// New pools in the place of the old ones, which are returned.
    fn reopen_pools(&mut self) -> Vec<Pool> {
        let pools = self.settings.pools;
        let mut old = vec![];
        for watched in self.watched.iter_mut().filter(|watched| watched.leaving.is_none()) {
            let Node { id, name, endpoint, traffic, reads } = &*watched.node;
            let (name, traffic) = (Arc::clone(name), Arc::clone(traffic));
            let reopened = Arc::new(Node::new(*id, name, endpoint.clone(), pools, traffic));
            old.push(reads.clone());
            watched.node = reopened;
        }
        old
    }

    /// Lists what was found, as long as replicas are wanted. A name that the configuration has, or an earlier source, stays theirs.
    fn list_found(&mut self) {
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
        // A primary lists its standbys and never itself, be it one of them that was promoted.
        let primary = self.primary.as_ref().ok().map(|primary| primary.node.id);
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
        let NodeSpec { name, endpoint, weight, zone } = spec;
        let listing = Listing { by, role, weight, zone };
        let there =
            self.watched.iter_mut().find(|watched| watched.leaving.is_none() && watched.node.name == name);
        match there {
            Some(watched) if watched.node.endpoint == endpoint => {
                watched.listing = listing;
                self.fleet.list_as(watched.node.id, role);
                return watched.node.id;
            }
            Some(other) => {
                let id = other.node.id;
                self.drain(id);
            }
            None => {}
        }
        let id = NodeId::unique();
        let traffic = Arc::new(Traffic::new(Arc::clone(&self.alarm)));
        self.watch(Arc::new(Node::new(id, name, endpoint, self.settings.pools, traffic)), listing);
        self.probe(id);
        id
    }

    pub(super) fn watch(&mut self, node: Arc<Node>, listing: Listing) {
        self.fleet.add(Listed { id: node.id, name: Arc::clone(&node.name), role: listing.role });
        let prober = Some(Prober::new(node.endpoint.clone()));
        let Settings { probe_interval, probe_backoff, .. } = *self.settings;
        let backoff = Backoff::new(probe_interval, probe_backoff, Instant::now());
        self.watched.push(Watched { node, listing, prober, backoff, leaving: None });
    }

    /// Begins to remove a node: no new handles from the next topology on, and the end when those that are out are back, or cut.
    pub(super) fn drain(&mut self, id: NodeId) {
        let Some(watched) = self.watched.iter_mut().find(|watched| watched.node.id == id) else { return };
        if watched.leaving.is_some() {
            return;
        }
        watched.leaving = Some(vec![]);
        let reads = watched.node.reads.clone();
        let patience = self.settings.drain_timeout;
        let drained = async move {
            reads.close();
            let cut = match timeout(patience, reads.drained()).await {
                Ok(()) => 0,
                Err(_) => reads.cut(),
            };
            Done::Drained { id, cut }
        };
        self.running.push(drained.boxed());
        self.changes.extend(self.fleet.drain(Instant::now(), id));
    }

    pub(super) fn remove(&mut self, id: NodeId, cut: usize) {
        let Some(index) = self.watched.iter().position(|watched| watched.node.id == id) else { return };
        let watched = self.watched.remove(index);
        self.changes.extend(self.fleet.remove(Instant::now(), id));
        self.publish();
        for reply in watched.leaving.into_iter().flatten() {
            drop(reply.send(Ok(cut)));
        }
    }
}
