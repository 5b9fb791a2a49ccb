//! Just enough of an HTTP client: one connection a request.

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{HeaderMap, Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::net::SocketAddr;
use tokio::net::TcpStream;

/// What the service answered.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("no JSON ({error}): {:?}", self.text))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("a header in ASCII"))
    }

    /// The node that served, of an answer that used the database.
    pub fn served_by(&self) -> &str {
        self.header("x-served-by").unwrap_or_else(|| panic!("no x-served-by: {self:?}"))
    }

    /// The body of an answer that must have this status.
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        self.json()
    }
}

/// A body and what it says it is.
pub struct Body {
    pub kind: Option<&'static str>,
    pub bytes: Vec<u8>,
}

impl Body {
    pub fn none() -> Self {
        Self { kind: None, bytes: Vec::new() }
    }

    pub fn json(text: impl Into<Vec<u8>>) -> Self {
        Self { kind: Some("application/json"), bytes: text.into() }
    }
}

/// Sends a request with these headers and reads the whole answer.
pub async fn send(
    to: SocketAddr,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: Body,
) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(to).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);

    let mut request = Request::builder().method(method).uri(path).header(HOST, to.to_string());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    if let Some(kind) = body.kind {
        request = request.header(CONTENT_TYPE, kind);
    }
    let answer = sender.send_request(request.body(Full::new(Bytes::from(body.bytes)))?).await?;
    let (head, body) = answer.into_parts();
    let bytes = body.collect().await?.to_bytes();
    Ok(Answer { status: head.status, headers: head.headers, text: String::from_utf8(bytes.to_vec())? })
}
