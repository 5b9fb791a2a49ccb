//! Reads a connection's protocol as it passes by.
//!
//! [`Tap`] sits between tokio-postgres and the socket, in the place of TLS, and reads frame headers alone: every `Query`
//! and `Sync` that the client sends is answered by one `ReadyForQuery`, whose only byte is the transaction status.
//!
//! Source: PostgreSQL documentation, "Message Flow" and "Message Formats" of the frontend/backend protocol.

use super::wire::Wire;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};

/// Follows one direction of a connection, whatever pieces its bytes come in.
///
/// A frame is a type byte (absent in the client's first message), a length of four bytes that counts itself, a body.
#[derive(Debug)]
struct Frames {
    head: [u8; 5],
    have: usize,
    need: usize,
    /// The type of the frame that is being read, until it has been reported.
    kind: Option<u8>,
    /// What is still to come of its body.
    body: usize,
}

impl Frames {
    const TYPED: usize = 5;
    const UNTYPED: usize = 4;

    fn from_server() -> Self {
        Self { head: [0; 5], have: 0, need: Self::TYPED, kind: None, body: 0 }
    }

    fn from_client() -> Self {
        Self { need: Self::UNTYPED, ..Self::from_server() }
    }

    /// Calls `seen` with the type of each typed frame and the first byte of its body, 0 when it has none.
    fn feed(&mut self, mut bytes: &[u8], mut seen: impl FnMut(u8, u8)) {
        while let Some(&first) = bytes.first() {
            if self.body > 0 {
                if let Some(kind) = self.kind.take() {
                    seen(kind, first);
                }
                let skipped = self.body.min(bytes.len());
                self.body -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            let taken = (self.need - self.have).min(bytes.len());
            self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have == self.need {
                let length = &self.head[self.need - 4..self.need];
                let length = length.iter().fold(0, |length, &byte| length << 8 | usize::from(byte));
                self.body = length.saturating_sub(4);
                self.kind = (self.need == Self::TYPED).then_some(self.head[0]);
                if self.body == 0
                    && let Some(kind) = self.kind.take()
                {
                    seen(kind, 0);
                }
                self.have = 0;
                self.need = Self::TYPED;
            }
        }
    }
}

/// A stream that reports to its [`Wire`] what passes through it.
pub(crate) struct Tap<S> {
    stream: S,
    wire: Arc<Wire>,
    sent: Frames,
    received: Frames,
}

impl<S> Tap<S> {
    fn new(stream: S, wire: Arc<Wire>) -> Self {
        Self { stream, wire, sent: Frames::from_client(), received: Frames::from_server() }
    }
}

impl<S> Drop for Tap<S> {
    fn drop(&mut self) {
        self.wire.close();
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Tap<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.wire.polled_by(cx.waker());
        let before = buf.filled().len();
        let read = ready!(Pin::new(&mut this.stream).poll_read(cx, buf));
        let bytes = &buf.filled()[before..];
        if read.is_err() || bytes.is_empty() {
            this.wire.close();
        }
        let wire = &this.wire;
        this.received.feed(bytes, |kind, first| {
            if kind == b'Z' {
                wire.ready_for_query(first);
            }
        });
        Poll::Ready(read)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Tap<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, bytes);
        match &written {
            Poll::Ready(Ok(written)) => {
                let wire = &this.wire;
                this.sent.feed(&bytes[..*written], |kind, _| {
                    if kind == b'Q' || kind == b'S' {
                        wire.request_sent();
                    }
                });
            }
            Poll::Ready(Err(_)) => this.wire.close(),
            Poll::Pending => this.wire.stuck(),
        }
        written
    }

    /// tokio-postgres flushes at the end of every turn of the connection's task, after it has taken all requests
    /// out of its queue.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.stream).poll_flush(cx);
        this.wire.sent_all();
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

/// Puts a [`Tap`] into a connection without TLS, in the place where tokio-postgres would put TLS.
///
/// It encrypts nothing, so it must meet nothing but endpoints that ask for no TLS: see
/// [`Endpoint::connect`](super::connect::Endpoint::connect).
#[derive(Clone)]
pub(super) struct PlainTap(pub(super) Arc<Wire>);

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> MakeTlsConnect<S> for PlainTap {
    type Stream = Tap<S>;
    type TlsConnect = Self;
    type Error = io::Error;

    fn make_tls_connect(&mut self, _domain: &str) -> io::Result<Self> {
        Ok(self.clone())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> TlsConnect<S> for PlainTap {
    type Stream = Tap<S>;
    type Error = io::Error;
    type Future = std::future::Ready<io::Result<Tap<S>>>;

    fn connect(self, stream: S) -> Self::Future {
        std::future::ready(Ok(Tap::new(stream, self.0)))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Tap<S> {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}
