//! A TCP proxy that does what networks do to a server: swallow, refuse, cut off.

use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use tokio::io::{self, AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

pub struct Proxy {
    port: u16,
    way: watch::Sender<Way>,
    cut: Cut,
    upstream: Arc<AtomicU16>,
    _task: JoinSet<()>,
}

/// What becomes of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Open,
    /// Nothing passes, on connections old and new.
    Silent,
    /// Connections that are open go on, new ones are accepted and get no answer.
    SilentToNew,
    /// Connections that were open are closed, and nobody listens.
    Shut,
}

/// How many more bytes of answers pass before the connection that they are on is cut; once.
type Cut = Arc<Mutex<Option<usize>>>;

impl Proxy {
    /// Listens on a port of its own and forwards to the given one on this machine.
    pub async fn start(upstream: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (way, ways) = watch::channel(Way::Open);
        let (cut, upstream) = (Cut::default(), Arc::new(AtomicU16::new(upstream)));
        let mut task = JoinSet::new();
        task.spawn(run(listener, Arc::clone(&upstream), ways, Arc::clone(&cut)));
        Self { port, way, cut, upstream, _task: task }
    }

    /// From now on every byte is swallowed, on open connections and on new ones.
    pub fn fall_silent(&self) {
        self.way.send_replace(Way::Silent);
    }

    /// From now on new connections are accepted and get no answer; those that are open go on.
    pub fn fall_silent_to_new(&self) {
        self.way.send_replace(Way::SilentToNew);
    }

    /// Closes all connections and refuses new ones.
    pub fn refuse(&self) {
        self.way.send_replace(Way::Shut);
    }

    /// Closes all connections, and forwards new ones to another port once it is [healed](Self::heal).
    pub fn lead_to(&self, upstream: u16) {
        self.refuse();
        self.upstream.store(upstream, Relaxed);
    }

    /// Forwards new connections to another port; those that are open go on.
    pub fn lead_new_to(&self, upstream: u16) {
        self.upstream.store(upstream, Relaxed);
    }

    /// Lets so many more bytes of answers pass, over all connections, and closes the one that the next byte is on.
    pub fn cut_after(&self, bytes: usize) {
        *self.cut.lock().unwrap() = Some(bytes);
    }

    /// Whether what [`cut_after`](Self::cut_after) asked for has happened.
    pub fn has_cut(&self) -> bool {
        self.cut.lock().unwrap().is_none()
    }

    /// New connections are forwarded again; those that were silent stay so.
    pub fn heal(&self) {
        self.way.send_replace(Way::Open);
    }

    /// The URL with the proxy's port in the place of the node's.
    pub fn url(&self, node: &str) -> String {
        node.replace(&format!(":{}/", port(node)), &format!(":{}/", self.port))
    }
}

/// The port in a node's URL.
pub fn port(url: &str) -> u16 {
    let after = url.rsplit_once(':').unwrap().1;
    after.split('/').next().unwrap().parse().unwrap()
}

async fn run(mut listener: TcpListener, upstream: Arc<AtomicU16>, mut ways: watch::Receiver<Way>, cut: Cut) {
    let address = listener.local_addr().unwrap();
    // Held for good: whoever has connected while it was silent waits for ever.
    let mut swallowed = Vec::new();
    let mut forwarding = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => Some(accepted.unwrap().0),
            () = until(&mut ways, |way| way == Way::Shut) => None,
        };
        let Some(client) = accepted else {
            drop(listener);
            until(&mut ways, |way| way != Way::Shut).await;
            listener = TcpListener::bind(address).await.unwrap();
            continue;
        };
        let way = *ways.borrow();
        match way {
            Way::Shut => {}
            Way::Open => {
                let upstream = upstream.load(Relaxed);
                forwarding.spawn(forward(client, upstream, ways.clone(), Arc::clone(&cut)));
            }
            _ => swallowed.push(client),
        }
    }
}

async fn forward(client: TcpStream, upstream: u16, mut ways: watch::Receiver<Way>, cut: Cut) {
    let server = TcpStream::connect(("127.0.0.1", upstream)).await.unwrap();
    let (mut questions, mut to_client) = client.into_split();
    let (mut answers, mut to_server) = server.into_split();
    tokio::select! {
        _ = io::copy(&mut questions, &mut to_server) => {}
        _ = pass(&mut answers, &mut to_client, &cut) => {}
        () = until(&mut ways, |way| matches!(way, Way::Silent | Way::Shut)) => {
            until(&mut ways, |way| way == Way::Shut).await;
        }
    }
}

/// Waits until the way is such; for good where the proxy is gone.
async fn until(ways: &mut watch::Receiver<Way>, is_such: impl Fn(Way) -> bool) {
    if ways.wait_for(|way| is_such(*way)).await.is_err() {
        std::future::pending().await
    }
}

/// Passes answers on until either side ends, or they are cut off.
async fn pass(answers: &mut OwnedReadHalf, client: &mut OwnedWriteHalf, cut: &Cut) -> io::Result<()> {
    let mut buffer = vec![0; 4096];
    loop {
        let read = answers.read(&mut buffer).await?;
        let passes = {
            let mut cut = cut.lock().unwrap();
            let passes = cut.map_or(read, |left| left.min(read));
            *cut = cut.filter(|left| *left >= read).map(|left| left - read);
            passes
        };
        client.write_all(&buffer[..passes]).await?;
        if read == 0 || passes < read {
            return Ok(());
        }
    }
}
