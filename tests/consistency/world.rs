//! What all windows and all faults share: the cluster, the services on it, and the rooms that are in use.

use crate::service::{Service, command_on, name_of};
use crate::until;
use pg_cluster::{Cluster, Node};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::{MutexGuard, RwLock};

/// Behind a round robin that the windows do themselves.
const SERVICES: usize = 2;

pub const REPLICAS: usize = 2;

/// In use at a time.
const ROOMS: usize = 6;

pub struct World {
    pub cluster: Cluster,
    pub started: Instant,
    /// The number of the node that is the primary. Held for writing while that changes, and for reading while a fault lasts.
    pub primary: RwLock<usize>,
    /// The name of that node, for whoever does not wait.
    primary_name: Mutex<String>,
    /// One for each node, held by whoever does something to it.
    nodes: [tokio::sync::Mutex<()>; REPLICAS + 1],
    services: Vec<tokio::sync::Mutex<Service>>,
    addresses: Mutex<Vec<SocketAddr>>,
    era: Mutex<Arc<Era>>,
}

/// Rooms that are used for a while: later ones take their place, so that lists and histories do not grow without end.
#[derive(Debug)]
pub struct Era {
    pub number: usize,
    rooms: Mutex<Vec<i64>>,
    to_be_founded: AtomicUsize,
}

impl World {
    pub async fn start() -> Self {
        // A commit is acknowledged, and visible on the primary, when a replica has it: so no promotion of the replica that has
        // the most loses anything that anybody was told.
        let nodes: Vec<_> = (1..=REPLICAS).map(|number| format!("replica{number}")).collect();
        let quorum = format!("ANY 1 (primary, {})", nodes.join(", "));
        let cluster = Cluster::builder()
            .replicas(REPLICAS)
            .setting("synchronous_standby_names", quorum)
            .start()
            .await
            .unwrap();
        let mut services = Vec::new();
        for _ in 0..SERVICES {
            services.push(serve(&cluster).await);
        }
        for service in &services {
            service.ready().await;
        }
        Self {
            started: Instant::now(),
            primary: RwLock::new(0),
            nodes: Default::default(),
            primary_name: Mutex::new(name_of(cluster.primary())),
            addresses: Mutex::new(services.iter().map(Service::address).collect()),
            services: services.into_iter().map(Into::into).collect(),
            era: Mutex::new(Arc::new(Era::new(0))),
            cluster,
        }
    }

    pub fn now(&self) -> Duration {
        self.started.elapsed()
    }

    pub fn node(&self, number: usize) -> &Node {
        &self.cluster.nodes()[number]
    }

    /// Whoever has this does something to the node, and nobody else does.
    pub async fn alone(&self, number: usize) -> MutexGuard<'_, ()> {
        self.nodes[number].lock().await
    }

    pub fn is_primary(&self, name: &str) -> bool {
        *self.primary_name.lock().unwrap() == name
    }

    pub fn names_primary(&self, node: &Node) {
        *self.primary_name.lock().unwrap() = name_of(node);
    }

    pub fn services(&self) -> Vec<SocketAddr> {
        self.addresses.lock().unwrap().clone()
    }

    pub fn service_of(&self, turn: usize) -> SocketAddr {
        self.addresses.lock().unwrap()[turn % SERVICES]
    }

    pub async fn create_user(&self, name: &str) -> i64 {
        self.services[0].lock().await.create_user(name).await
    }

    /// Whoever has this does something to the service, and nobody else does.
    pub async fn service(&self, turn: usize) -> MutexGuard<'_, Service> {
        self.services[turn % SERVICES].lock().await
    }

    /// Kills a service and starts another one in its place, which knows nothing but the key.
    pub async fn restart_service(&self, turn: usize) {
        let mut service = self.service(turn).await;
        service.signal("-KILL").await;
        service.ended().await;
        *service = serve(&self.cluster).await;
        self.addresses.lock().unwrap()[turn % SERVICES] = service.address();
        until("the schema stands", async || service.get("/healthz").await.json()["ready"] == true).await;
    }

    /// What the services have said.
    pub async fn outputs(&self) -> Vec<String> {
        let mut outputs = Vec::new();
        for service in &self.services {
            outputs.push(service.lock().await.output());
        }
        outputs
    }

    pub fn era(&self) -> Arc<Era> {
        Arc::clone(&self.era.lock().unwrap())
    }

    /// Begins the next era and returns the one before.
    pub fn next_era(&self) -> Arc<Era> {
        let mut era = self.era.lock().unwrap();
        let next = Arc::new(Era::new(era.number + 1));
        std::mem::replace(&mut era, next)
    }
}

async fn serve(cluster: &Cluster) -> Service {
    let mut command = command_on(cluster);
    command.env("CHAT_TOKEN_KEY", "not a secret, and as long as a key of the tokens has to be");
    command.env("RUST_LOG", std::env::var("RUST_LOG").unwrap_or_else(|_| "warn".to_owned()));
    Service::start(command).await
}

impl Era {
    fn new(number: usize) -> Self {
        Self { number, rooms: Mutex::default(), to_be_founded: AtomicUsize::new(ROOMS) }
    }

    pub fn rooms(&self) -> Vec<i64> {
        self.rooms.lock().unwrap().clone()
    }

    /// Whether the caller is to found a room.
    pub fn wants_room(&self) -> bool {
        self.to_be_founded
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
            .is_ok()
    }

    pub fn founded(&self, room: i64) {
        self.rooms.lock().unwrap().push(room);
    }

    /// The room that was to be founded was not, as far as is known.
    pub fn was_not_founded(&self) {
        self.to_be_founded.fetch_add(1, Ordering::Relaxed);
    }
}
