//! A session with the server, message by message.

use super::frame::Frame;
use crate::channel::{Channel, Protect, Protection};
use crate::endpoint::Endpoint;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_postgres::config::Host;
use tokio_postgres::{CancelToken, NoTls};

pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send + Sync {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + Sync> Stream for T {}

pub(super) struct Backend {
    stream: BufReader<Box<dyn Stream>>,
}

/// What a session says of itself at its start, and how it is interrupted.
pub(super) struct Greeting {
    pub(super) parameters: Vec<(&'static str, String)>,
    pub(super) cancel: Cancel,
}

#[derive(Clone)]
pub(super) struct Cancel {
    token: CancelToken,
    protect: Protect,
}

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("{}", .0.explanation())]
    Refused(Frame),
    #[error("the session with the test database was lost: {0}")]
    Lost(#[from] io::Error),
}

/// Those that clients go by.
const PARAMETERS: [&str; 10] = [
    "server_version",
    "server_encoding",
    "client_encoding",
    "application_name",
    "is_superuser",
    "session_authorization",
    "DateStyle",
    "IntervalStyle",
    "integer_datetimes",
    "standard_conforming_strings",
];

impl Backend {
    pub(super) async fn connect(
        endpoint: &Endpoint,
    ) -> Result<(Self, Greeting), Box<dyn std::error::Error + Send + Sync>> {
        let (stream, protect) = dial(endpoint).await?;
        let mut stream: Box<dyn Stream> = Box::new(stream);
        let mut config = endpoint.login().await?;
        if config.get_application_name().is_none() {
            config.application_name("diesel-replicas test");
        }
        // The client ends with the handshake; never driven, it says nothing more.
        let (client, connection) = config.connect_raw(&mut stream, NoTls).await?;
        let parameter = |name| connection.parameter(name).map(|value| (name, value.to_owned()));
        let parameters = PARAMETERS.into_iter().filter_map(parameter).collect();
        let cancel = Cancel { token: client.cancel_token(), protect: protect.again() };
        let greeting = Greeting { parameters, cancel };
        drop((client, connection));
        Ok((Self { stream: BufReader::new(stream) }, greeting))
    }

    pub(super) async fn send(&mut self, frames: &[Frame]) -> io::Result<()> {
        let mut bytes = Vec::new();
        for frame in frames {
            frame.append_to(&mut bytes);
        }
        self.stream.write_all(&bytes).await?;
        self.stream.flush().await
    }

    /// # Cancel safety
    ///
    /// None: what has been read of a message is lost.
    pub(super) async fn receive(&mut self) -> io::Result<Frame> {
        Frame::read(&mut self.stream).await
    }

    /// Runs commands, and gives the first column of all rows.
    pub(super) async fn batch(&mut self, sql: &str) -> Result<Vec<Option<String>>, Failure> {
        let messages = self.exchange(&[Frame::query(sql)]).await?;
        let rows = messages.iter().filter(|message| message.kind == b'D');
        Ok(rows.map(first_column).collect())
    }

    /// Sends a sequence that the server answers with one `ReadyForQuery`, and gives what comes before that.
    pub(super) async fn exchange(&mut self, frames: &[Frame]) -> Result<Vec<Frame>, Failure> {
        self.send(frames).await?;
        let (mut messages, mut refusal) = (Vec::new(), None);
        loop {
            let frame = self.receive().await?;
            match frame.kind {
                b'Z' => return refusal.map_or(Ok(messages), |refusal| Err(Failure::Refused(refusal))),
                b'E' => refusal = refusal.or(Some(frame)),
                _ => messages.push(frame),
            }
        }
    }

    pub(super) async fn close(&mut self) {
        // It ends either way.
        let _ = self.send(&[Frame::new(b'X', [])]).await;
    }
}

fn first_column(row: &Frame) -> Option<String> {
    let mut reader = row.reader();
    reader.u16().filter(|columns| *columns > 0)?;
    let length = reader.u32().filter(|length| *length != u32::MAX)?;
    let value = reader.bytes(length as usize)?;
    Some(String::from_utf8_lossy(value).into_owned())
}

impl Cancel {
    /// Asks the server to interrupt what the session runs. Ends when the server has told the session's process.
    pub(super) async fn ask(&self, endpoint: &Endpoint) {
        // An interruption that fails lets the statement end by itself.
        let _ = self.try_ask(endpoint).await;
    }

    async fn try_ask(&self, endpoint: &Endpoint) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let stream = dial_plain(endpoint).await?;
        let mut stream = self.protect.clone().channel(stream).await?;
        self.token.cancel_query_raw(&mut stream, NoTls).await?;
        // The server closes the connection then.
        stream.read_to_end(&mut Vec::new()).await?;
        Ok(())
    }
}

/// With the first protection that the endpoint wants: a test database is not where another one is looked for.
async fn dial(
    endpoint: &Endpoint,
) -> Result<(Channel<Box<dyn Stream>>, Protect), Box<dyn std::error::Error + Send + Sync>> {
    let protection = endpoint.attempts().await?.protections.into_iter().next().unwrap_or(Protection::Plain);
    let protect = Protect::new(protection);
    let stream = dial_plain(endpoint).await?;
    Ok((protect.clone().channel(stream).await?, protect))
}

async fn dial_plain(endpoint: &Endpoint) -> io::Result<Box<dyn Stream>> {
    let (config, port) = (&endpoint.config, endpoint.port());
    if let [address] = config.get_hostaddrs() {
        return tcp(TcpStream::connect((*address, port)).await?);
    }
    match config.get_hosts() {
        [Host::Tcp(name), ..] => tcp(TcpStream::connect((name.as_str(), port)).await?),
        #[cfg(unix)]
        [Host::Unix(directory), ..] => {
            let socket = directory.join(format!(".s.PGSQL.{port}"));
            Ok(Box::new(tokio::net::UnixStream::connect(socket).await?))
        }
        [] => Err(io::Error::other("the URL names no host")),
    }
}

fn tcp(stream: TcpStream) -> io::Result<Box<dyn Stream>> {
    stream.set_nodelay(true)?;
    Ok(Box::new(stream))
}
