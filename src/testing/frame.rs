//! Messages of PostgreSQL's protocol: a type byte, a length, a body.
//!
//! Source: PostgreSQL documentation, "Message Formats" of the frontend/backend protocol.

use std::io;
use tokio::io::{AsyncRead, AsyncReadExt};

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) body: Vec<u8>,
}

/// Longer than anything that PostgreSQL sends or takes.
const LONGEST: usize = 1 << 30;

impl Frame {
    pub(super) fn new(kind: u8, body: impl Into<Vec<u8>>) -> Self {
        Self { kind, body: body.into() }
    }

    pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Self> {
        let kind = stream.read_u8().await?;
        Ok(Self { kind, body: Self::read_body(stream).await? })
    }

    /// A message without a type byte: the first one of a client.
    pub(super) async fn read_body(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
        let length = stream.read_u32().await? as usize;
        let length = length.checked_sub(4).filter(|length| *length <= LONGEST);
        let length = length.ok_or_else(|| io::Error::other("a message of an impossible length"))?;
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        Ok(body)
    }

    pub(super) fn append_to(&self, bytes: &mut Vec<u8>) {
        bytes.push(self.kind);
        // Bodies are bounded where they are read, and are made of such.
        bytes.extend((self.body.len() as u32 + 4).to_be_bytes());
        bytes.extend(&self.body);
    }

    pub(super) fn reader(&self) -> Reader<'_> {
        Reader(&self.body)
    }

    pub(super) fn query(sql: &str) -> Self {
        Self::new(b'Q', text(sql))
    }

    /// Of the unnamed statement.
    pub(super) fn parse(sql: &str, types: &[u32]) -> Self {
        let mut body = [text(""), text(sql)].concat();
        body.extend((types.len() as u16).to_be_bytes());
        body.extend(types.iter().flat_map(|oid| oid.to_be_bytes()));
        Self::new(b'P', body)
    }

    pub(super) fn describe_statement(name: &str) -> Self {
        Self::new(b'D', [b"S".to_vec(), text(name)].concat())
    }

    /// Of the unnamed portal, to its end.
    pub(super) fn execute() -> Self {
        Self::new(b'E', [text(""), vec![0; 4]].concat())
    }

    pub(super) fn sync() -> Self {
        Self::new(b'S', [])
    }

    pub(super) fn ready(status: u8) -> Self {
        Self::new(b'Z', [status])
    }

    pub(super) fn complete(tag: &str) -> Self {
        Self::new(b'C', text(tag))
    }

    pub(super) fn error(code: &str, message: &str) -> Self {
        Self::refusal("ERROR", code, message)
    }

    pub(super) fn fatal(code: &str, message: &str) -> Self {
        Self::refusal("FATAL", code, message)
    }

    fn refusal(severity: &str, code: &str, message: &str) -> Self {
        let fields = [(b'S', severity), (b'V', severity), (b'C', code), (b'M', message)];
        let mut body: Vec<u8> =
            fields.iter().flat_map(|(field, value)| [vec![*field], text(value)].concat()).collect();
        body.push(0);
        Self::new(b'E', body)
    }

    pub(super) fn parameter(name: &str, value: &str) -> Self {
        Self::new(b'S', [text(name), text(value)].concat())
    }

    /// The code and the message of an error.
    pub(super) fn explanation(&self) -> String {
        let mut reader = self.reader();
        let (mut code, mut message) = (String::new(), String::new());
        while let Some(field) = reader.byte().filter(|field| *field != 0) {
            let value = reader.text().unwrap_or_default().to_owned();
            match field {
                b'C' => code = value,
                b'M' => message = value,
                _ => {}
            }
        }
        format!("{message} (SQLSTATE {code})")
    }
}

/// With the zero behind it.
pub(super) fn text(text: &str) -> Vec<u8> {
    // A zero in it would end it.
    let mut bytes: Vec<u8> = text.bytes().filter(|byte| *byte != 0).collect();
    bytes.push(0);
    bytes
}

/// Takes a body apart, from its beginning.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn byte(&mut self) -> Option<u8> {
        self.bytes(1).map(|bytes| bytes[0])
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.bytes(2)?.try_into().ok().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.bytes(4)?.try_into().ok().map(u32::from_be_bytes)
    }

    pub(super) fn text(&mut self) -> Option<&'a str> {
        let end = self.0.iter().position(|byte| *byte == 0)?;
        let text = std::str::from_utf8(&self.0[..end]).ok()?;
        self.0 = &self.0[end + 1..];
        Some(text)
    }

    pub(super) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(bytes)
    }

    pub(super) fn rest(self) -> &'a [u8] {
        self.0
    }
}
