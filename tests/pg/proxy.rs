//! A TCP proxy that can fall silent, as a network does that swallows packets.

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

pub struct Proxy {
    port: u16,
    silent: watch::Sender<bool>,
    _task: JoinSet<()>,
}

impl Proxy {
    /// Listens on a port of its own and forwards to the given one on this machine.
    pub async fn start(upstream: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (silent, silenced) = watch::channel(false);
        let mut task = JoinSet::new();
        task.spawn(async move {
            // Held for good: whoever has connected while it was silent waits for ever.
            let mut swallowed = Vec::new();
            let mut forwarding = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                if *silenced.borrow() {
                    swallowed.push(client);
                } else {
                    forwarding.spawn(forward(client, upstream, silenced.clone()));
                }
            }
        });
        Self { port, silent, _task: task }
    }

    /// From now on every byte is swallowed, on open connections and on new ones.
    pub fn fall_silent(&self) {
        self.silent.send_replace(true);
    }

    /// New connections are forwarded again; those that were open stay silent.
    pub fn heal(&self) {
        self.silent.send_replace(false);
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

async fn forward(mut client: TcpStream, upstream: u16, mut silenced: watch::Receiver<bool>) {
    let mut server = TcpStream::connect(("127.0.0.1", upstream)).await.unwrap();
    let falls_silent = async {
        let _ = silenced.wait_for(|silent| *silent).await.map(|_| ());
    };
    let copying = tokio::io::copy_bidirectional(&mut client, &mut server);
    tokio::select! {
        _ = copying => {}
        () = falls_silent => {
            let _held = (client, server);
            std::future::pending::<()>().await;
        }
    }
}
