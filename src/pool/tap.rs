//! What a connection is doing, read off the protocol itself.
//!
//! Diesel's futures can be dropped at any point, and a raw `BEGIN` is text like any other, so no wrapper of calls
//! can tell whether a returned connection is fit for its next user. The protocol can: every `Query` and `Sync` that
//! the client sends is answered by one `ReadyForQuery`, whose only byte is the transaction status. [`Tap`] sits
//! between tokio-postgres and the socket and reads frame headers alone; [`Wire`] is what it has seen.
//!
//! Source: PostgreSQL documentation, "Message Flow" and "Message Formats" of the frontend/backend protocol.

use futures_util::task::AtomicWaker;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_postgres::CancelToken;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};

const IDLE: u8 = b'I';

/// How long what is under way may take to end by itself: the last frames of a finished statement are often still to come
/// when its caller has moved on.
pub(super) const GRACE: Duration = Duration::from_millis(20);

/// How long the server may take to cancel a query, up to the frame that says so.
pub(super) const CANCEL: Duration = Duration::from_secs(1);

/// What is known of one connection.
///
/// Written by the connection's own task alone (it both reads and writes the socket), read by everybody.
pub(crate) struct Wire {
    /// `Query` and `Sync` sent, less `ReadyForQuery` received.
    unanswered: AtomicU32,
    /// The transaction status of the last `ReadyForQuery`: `I`dle, in a `T`ransaction, in a failed one (`E`).
    status: AtomicU8,
    closed: AtomicBool,
    claim: AtomicU8,
    /// Set when a connection goes back to its pool, cleared once its task has sent all that was queued by then.
    unswept: AtomicBool,
    /// The connection's task.
    task: AtomicWaker,
    /// Signalled whenever any of the above may have changed for somebody who waits.
    changed: Notify,
    cancel: OnceLock<CancelToken>,
}

/// Who may use the connection. A request to cancel is not tied to a query: it must not be sent to a connection that may
/// have a new user, and whoever has been sent one must never get another.
mod claim {
    pub(super) const FREE: u8 = 0;
    pub(super) const LENT: u8 = 1;
    pub(super) const SPOILED: u8 = 2;
}

impl Wire {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            // The start-up message is answered by a `ReadyForQuery` as well.
            unanswered: AtomicU32::new(1),
            status: AtomicU8::new(0),
            closed: AtomicBool::new(false),
            claim: AtomicU8::new(claim::FREE),
            unswept: AtomicBool::new(false),
            task: AtomicWaker::new(),
            changed: Notify::new(),
            cancel: OnceLock::new(),
        })
    }

    /// Learns how the connection's queries are cancelled.
    pub(super) fn connected(&self, cancel: CancelToken) {
        // A connection connects once, so there is nothing to replace.
        let _ = self.cancel.set(cancel);
    }

    /// The socket is gone.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Something that was sent has not been answered in full.
    pub(super) fn is_busy(&self) -> bool {
        self.unanswered.load(Ordering::Acquire) != 0
    }

    /// Open, with nothing under way and outside a transaction.
    pub(super) fn is_idle(&self) -> bool {
        !self.is_closed() && !self.is_busy() && self.status.load(Ordering::Acquire) == IDLE
    }

    /// Claims the connection for a user, if it is fit for one.
    ///
    /// Decided at once, unless the connection was given back within the last few microseconds.
    pub(super) async fn lend(&self) -> bool {
        self.wait_until(|wire| !wire.unswept.load(Ordering::Acquire)).await;
        self.is_settled().await && self.take(claim::LENT)
    }

    /// Takes the connection back from its user, without waiting for anything.
    ///
    /// A query whose future was polled once and dropped sits in a channel between Diesel and the connection's task and has
    /// not touched the wire yet. So the task is woken to send what is queued, and what comes to light then is cancelled:
    /// nobody waits for it any more.
    pub(super) fn give_back(&self) {
        self.claim.store(claim::FREE, Ordering::Release);
        self.unswept.store(true, Ordering::Release);
        self.task.wake();
    }

    /// Whether the connection is idle, or will be within a moment.
    pub(super) async fn is_settled(&self) -> bool {
        let _ = timeout(GRACE, self.answered()).await;
        self.is_idle()
    }

    /// Asks the server to cancel what is under way, and waits for a second at most until that has been answered.
    ///
    /// The request travels on a connection of its own and takes effect at any time from then on, so the connection is fit
    /// for nobody afterwards.
    pub(super) async fn cancel(&self) {
        let Some(token) = self.cancel.get() else { return };
        let cancelled = async {
            // Whether it worked shows in the answer of the query itself.
            let _ = token.cancel_query(PlainTap(Self::new())).await;
            self.answered().await;
        };
        let _ = timeout(CANCEL, cancelled).await;
    }

    /// Waits until every request has been answered, or the connection is closed.
    pub(super) async fn answered(&self) {
        self.wait_until(|wire| !wire.is_busy()).await;
    }

    async fn wait_until(&self, done: impl Fn(&Self) -> bool) {
        while !(done(self) || self.is_closed()) {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if done(self) || self.is_closed() {
                return;
            }
            changed.await;
        }
    }

    fn take(&self, claim: u8) -> bool {
        self.claim.compare_exchange(claim::FREE, claim, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    fn request_sent(&self) {
        self.unanswered.fetch_add(1, Ordering::AcqRel);
    }

    fn ready_for_query(&self, status: u8) {
        self.status.store(status, Ordering::Release);
        if self.unanswered.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.changed.notify_waiters();
        }
    }

    /// The connection's task has sent whatever was queued.
    fn sent_all(self: &Arc<Self>) {
        if !self.unswept.load(Ordering::Acquire) {
            return;
        }
        if self.is_busy() {
            let this = Arc::clone(self);
            tokio::spawn(async move {
                if !this.is_settled().await && this.take(claim::SPOILED) {
                    this.cancel().await;
                }
            });
        }
        self.unswept.store(false, Ordering::Release);
        self.changed.notify_waiters();
    }

    /// The peer takes no more bytes. Of a connection that is in use this says nothing; of one that was given back it
    /// says that something is queued which its next user did not ask for, and it stays busy for good.
    fn stuck(self: &Arc<Self>) {
        if self.unswept.load(Ordering::Acquire) {
            self.request_sent();
            self.sent_all();
        }
    }

    fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.changed.notify_waiters();
    }
}

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
        this.wire.task.register(cx.waker());
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
