//! What stands between a poller and a node of any version: it makes it look like one that can wait, or falls silent.

use super::*;
use std::io;
use std::sync::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex as AsyncMutex, watch};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

/// What comes of `WAIT FOR LSN`.
#[derive(Debug, Clone, Copy)]
pub(super) enum Waits {
    /// What the documentation of version 19 says; such a server does it itself.
    AsDocumented,
    /// The server does not understand it.
    Garbled,
    /// This, at once.
    Says(&'static str),
}

pub(super) struct Proxy {
    pub(super) endpoint: Endpoint,
    stage: Arc<Stage>,
    /// How many connections have been made, and how many of them are silent.
    connections: watch::Sender<(usize, usize)>,
    _task: JoinSet<()>,
}

struct Stage {
    upstream: String,
    /// A way of its own to the node.
    client: Client,
    can_wait: bool,
    waits: Waits,
    told: Mutex<Vec<(Lsn, Duration)>>,
}

impl Proxy {
    pub(super) async fn before(node: &Node, waits: Waits) -> Self {
        let url = node.url();
        let upstream = url.split_once('@').unwrap().1.split('/').next().unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let here = listener.local_addr().unwrap().to_string();
        // It reads what passes.
        let readable = format!("{}?sslmode=disable", url.replace(&upstream, &here));
        let endpoint = Endpoint::parse(&readable).unwrap();
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
        let can_wait = session::waits(connection.parameter("server_version").unwrap());
        let mut task = JoinSet::new();
        task.spawn(async move { connection.await.unwrap_or_default() });
        let stage = Arc::new(Stage { upstream, client, can_wait, waits, told: Mutex::default() });
        let (connections, silent) = watch::channel((0, 0));
        let (counted, playing) = (connections.clone(), Arc::clone(&stage));
        task.spawn(async move {
            let mut forwarding = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                counted.send_modify(|(made, _)| *made += 1);
                forwarding.spawn(Arc::clone(&playing).forward(client, silent.clone()));
            }
        });
        Self { endpoint, stage, connections, _task: task }
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.borrow().0
    }

    /// Nothing passes any more on the connections that there are.
    pub(super) fn silence(&self) {
        self.connections.send_modify(|(made, silent)| *silent = *made);
    }

    /// What the server was told to wait for, and for how long.
    pub(super) fn told(&self) -> Vec<(Lsn, Duration)> {
        self.stage.told.lock().unwrap().clone()
    }
}

impl Stage {
    /// Until either side ends.
    async fn forward(self: Arc<Self>, client: TcpStream, mut silent: watch::Receiver<(usize, usize)>) {
        let this = silent.borrow_and_update().0;
        let server = TcpStream::connect(&self.upstream).await.unwrap();
        let (mut questions, to_client) = client.into_split();
        let (mut answers, mut to_server) = server.into_split();
        let to_client = AsyncMutex::new(to_client);
        let falls_silent = tokio::select! {
            _ = self.questions(&mut questions, &mut to_server, &to_client) => false,
            _ = self.answers(&mut answers, &to_client) => false,
            silent = silent.wait_for(|(_, silent)| *silent >= this) => silent.is_ok(),
        };
        if falls_silent {
            std::future::pending().await
        }
    }

    async fn questions(
        &self,
        from: &mut OwnedReadHalf,
        to: &mut OwnedWriteHalf,
        client: &AsyncMutex<OwnedWriteHalf>,
    ) -> io::Result<()> {
        let length = from.read_u32().await?;
        let mut start = vec![0; length as usize - 4];
        from.read_exact(&mut start).await?;
        to.write_all(&[&length.to_be_bytes()[..], &start].concat()).await?;
        loop {
            let (tag, body) = read(from).await?;
            let text = str::from_utf8(&body).ok().and_then(|text| text.strip_suffix('\0'));
            let wait = text.filter(|text| tag == b'Q' && text.starts_with("WAIT FOR"));
            let Some(wait) = wait else {
                to.write_all(&message(tag, &body)).await?;
                continue;
            };
            let (lsn, at_most) = self.note(wait);
            let status = match self.waits {
                Waits::AsDocumented if self.can_wait => {
                    to.write_all(&message(tag, &body)).await?;
                    continue;
                }
                Waits::AsDocumented => self.wait(lsn, at_most).await,
                Waits::Garbled => {
                    let garbled = wait.replace("WAIT FOR", "WAIT AND SEE") + "\0";
                    to.write_all(&message(tag, garbled.as_bytes())).await?;
                    continue;
                }
                Waits::Says(status) => status,
            };
            client.lock().await.write_all(&row(status)).await?;
        }
    }

    async fn answers(&self, from: &mut OwnedReadHalf, to: &AsyncMutex<OwnedWriteHalf>) -> io::Result<()> {
        const VERSION: &[u8] = b"server_version\0";
        loop {
            let (tag, mut body) = read(from).await?;
            if tag == b'S' && body.starts_with(VERSION) {
                body[VERSION.len()..][..2].copy_from_slice(b"19");
            }
            to.lock().await.write_all(&message(tag, &body)).await?;
        }
    }

    fn note(&self, statement: &str) -> (Lsn, Duration) {
        let quoted: Vec<_> = statement.split('\'').collect();
        let [_, lsn, _, "standby_replay", _, limit, _] = quoted[..] else { panic!("{statement}") };
        assert_eq!(
            statement,
            format!("WAIT FOR LSN '{lsn}' WITH (MODE 'standby_replay', TIMEOUT '{limit}', NO_THROW)")
        );
        let limit = Duration::from_millis(limit.strip_suffix("ms").unwrap().parse().unwrap());
        let told = (lsn.parse().unwrap(), limit);
        self.told.lock().unwrap().push(told);
        told
    }

    async fn wait(&self, lsn: Lsn, at_most: Duration) -> &'static str {
        let sql = format!(
            "SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() >= '{lsn}' END::text"
        );
        let waited = timeout(at_most, async {
            loop {
                let messages = self.client.simple_query(&sql).await.unwrap();
                let row = messages.iter().find_map(|message| match message {
                    SimpleQueryMessage::Row(row) => Some(row.get(0)),
                    _ => None,
                });
                match row.expect("one row") {
                    None => return "not in recovery",
                    Some("true") => return "success",
                    Some(_) => {}
                }
            }
        });
        waited.await.unwrap_or("timeout")
    }
}

async fn read(from: &mut OwnedReadHalf) -> io::Result<(u8, Vec<u8>)> {
    let tag = from.read_u8().await?;
    let mut body = vec![0; from.read_u32().await? as usize - 4];
    from.read_exact(&mut body).await?;
    Ok((tag, body))
}

fn row(value: &str) -> Vec<u8> {
    let names = [&[0, 1][..], b"status", &[0; 19]].concat();
    let values = [&[0, 1, 0, 0, 0, value.len() as u8][..], value.as_bytes()].concat();
    [message(b'T', &names), message(b'D', &values), message(b'C', b"WAIT\0"), message(b'Z', b"I")].concat()
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[tag], &(body.len() as u32 + 4).to_be_bytes()[..], body].concat()
}
