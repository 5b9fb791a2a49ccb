//! A connection to the service that is kept open, as a browser does.

use crate::http::Answer;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// More than the service takes for a request, which is ten seconds.
const LIMIT: Duration = Duration::from_secs(15);

pub type Failure = Box<dyn std::error::Error + Send + Sync>;

pub struct Connection {
    to: SocketAddr,
    sender: SendRequest<Full<Bytes>>,
}

impl Connection {
    pub async fn open(to: SocketAddr) -> Result<Self, Failure> {
        let stream = TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self { to, sender })
    }

    pub fn leads_to(&self, address: SocketAddr) -> bool {
        self.to == address && !self.sender.is_closed()
    }

    /// Sends a request with this header and reads the whole answer. After an error the connection is of no use.
    pub async fn send(
        &mut self,
        method: Method,
        path: &str,
        header: Option<(&str, &str)>,
        body: Option<String>,
    ) -> Result<Answer, Failure> {
        let mut request = Request::builder().method(method).uri(path).header(HOST, self.to.to_string());
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let request = request.body(Full::new(Bytes::from(body.unwrap_or_default())))?;
        let answer = async {
            self.sender.ready().await?;
            let (head, body) = self.sender.send_request(request).await?.into_parts();
            let bytes = body.collect().await?.to_bytes();
            Ok::<_, Failure>((head, String::from_utf8(bytes.to_vec())?))
        };
        let (head, text) =
            timeout(LIMIT, answer).await.map_err(|_| format!("no answer within {LIMIT:?}"))??;
        Ok(Answer { status: head.status, headers: head.headers, text })
    }
}
