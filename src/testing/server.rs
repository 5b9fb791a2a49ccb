//! The nodes as servers: each listens on a port of its own, and serves whoever connects.

use super::client::{Client, Unit};
use super::frame::{Frame, Reader, text};
use super::node::Node;
use super::session::Session;
use super::stage::Stage;
use std::io;
use std::sync::Arc;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// The first messages of a client, by their codes.
///
/// Source: PostgreSQL documentation, "Message Formats": `StartupMessage`, `CancelRequest`, `SSLRequest`, `GSSENCRequest`.
const PROTOCOL: u16 = 3;
const CANCEL: u32 = 80_877_102;
const TLS: u32 = 80_877_103;
const GSSAPI: u32 = 80_877_104;

/// The name that the router's own questions come under.
const MONITOR: &str = "diesel-replicas monitor";

/// Serves until it is dropped, and all of its clients with it.
pub(super) async fn serve(listener: TcpListener, node: Node, stage: Arc<Stage>) {
    let mut clients = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    clients.spawn(welcome(stream, node, Arc::clone(&stage)));
                }
            }
            Some(_) = clients.join_next() => {}
        }
    }
}

async fn welcome(mut stream: TcpStream, node: Node, stage: Arc<Stage>) {
    // A client that breaks off has nobody who wants to know why.
    let Ok(Some(start)) = start(&mut stream, &stage).await else { return };
    let cancelled = Arc::new(Notify::new());
    let key = (rand::random::<u32>() >> 1, rand::random());
    stage.clients().insert(key, Arc::clone(&cancelled));
    if greet(&mut stream, node, &stage, &start, key).await.is_ok() {
        let client = Client::new(stream, cancelled);
        match start.application == MONITOR {
            true => answer(client, node, &stage).await,
            false => Session::new(Arc::clone(&stage), node, start.read_only, client).run().await,
        }
    }
    stage.clients().remove(&key);
}

/// What a client says that starts a session.
struct Start {
    application: String,
    read_only: bool,
}

/// `None` if it does not start one.
async fn start(stream: &mut TcpStream, stage: &Stage) -> io::Result<Option<Start>> {
    stream.set_nodelay(true)?;
    loop {
        let body = Frame::read_body(stream).await?;
        let mut reader = Reader(&body);
        match reader.u32() {
            Some(TLS | GSSAPI) => stream.write_all(b"N").await?,
            Some(CANCEL) => {
                let key = reader.u32().zip(reader.u32());
                let client = key.and_then(|key| stage.clients().get(&key).cloned());
                client.inspect(|client| client.notify_waiters());
                return Ok(None);
            }
            Some(version) if version >> 16 == u32::from(PROTOCOL) => {
                return Ok(Some(Start::read(reader)));
            }
            _ => return Ok(None),
        }
    }
}

impl Start {
    fn read(mut reader: Reader<'_>) -> Self {
        let mut start = Self { application: String::new(), read_only: false };
        while let Some(name) = reader.text().filter(|name| !name.is_empty()) {
            let value = reader.text().unwrap_or_default();
            match name {
                "application_name" => value.clone_into(&mut start.application),
                "options" => start.read_only = value.contains("default_transaction_read_only=on"),
                _ => {}
            }
        }
        start
    }
}

async fn greet(
    stream: &mut TcpStream,
    node: Node,
    stage: &Stage,
    start: &Start,
    (process, secret): (u32, u32),
) -> io::Result<()> {
    let mut said = Vec::new();
    // A password in clear text: it does not leave the machine.
    Frame::new(b'R', 3u32.to_be_bytes()).append_to(&mut said);
    stream.write_all(&said).await?;
    let password = Frame::read(stream).await?;
    said.clear();
    if password.kind != b'p' || password.body != text(&stage.password) {
        Frame::fatal("28P01", "password authentication failed").append_to(&mut said);
        stream.write_all(&said).await?;
        return Err(io::Error::other("a stranger"));
    }
    let on = |on| if on { "on" } else { "off" };
    Frame::new(b'R', [0; 4]).append_to(&mut said);
    for (name, value) in &stage.parameters {
        Frame::parameter(name, value).append_to(&mut said);
    }
    for (name, value) in [
        ("TimeZone", "UTC"),
        ("in_hot_standby", on(node != Node::Primary)),
        ("default_transaction_read_only", on(start.read_only)),
    ] {
        Frame::parameter(name, value).append_to(&mut said);
    }
    let key = [process.to_be_bytes(), secret.to_be_bytes()].concat();
    Frame::new(b'K', key).append_to(&mut said);
    Frame::ready(b'I').append_to(&mut said);
    stream.write_all(&said).await
}

/// Answers the router's questions about the node, on a session in no transaction.
async fn answer(mut client: Client, node: Node, stage: &Stage) {
    while let Some(unit) = client.next().await {
        let frames = match unit {
            Unit::Simple(sql) => vec![Frame::query(&node.probe(&sql))],
            Unit::Extended(mut frames) => {
                for frame in frames.iter_mut().filter(|frame| frame.kind == b'P') {
                    let mut reader = frame.reader();
                    if let Some((name, sql)) = reader.text().zip(reader.text()) {
                        frame.body =
                            [text(name), text(&node.questions(sql)), reader.rest().to_vec()].concat();
                    }
                }
                frames
            }
        };
        let mut observer = stage.observer().await;
        let answered = async {
            observer.batch(&node.answers(stage)).await?;
            observer.exchange(&frames).await
        };
        match answered.await {
            Ok(answers) => answers.into_iter().for_each(|answer| client.say(answer)),
            Err(super::backend::Failure::Refused(refusal)) => client.say(refusal),
            Err(super::backend::Failure::Lost(_)) => return,
        }
        client.say(Frame::ready(b'I'));
    }
}
