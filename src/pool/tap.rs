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
use std::task::{Context, Poll};
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
        wire.begin();
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
        this.wire.turn_began(cx.waker());
        if this.wire.is_closed() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let before = buf.filled().len();
        let Poll::Ready(read) = Pin::new(&mut this.stream).poll_read(cx, buf) else {
            this.wire.delivered();
            return Poll::Pending;
        };
        this.wire.received();
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
        this.wire.turn_ended(cx.waker());
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

#[cfg(test)]
mod tests {
    use super::super::wire::User;
    use super::*;
    use futures_util::FutureExt;
    use proptest::prelude::*;
    use std::future::poll_fn;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Wake, Waker};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).expect("tests send little").to_be_bytes();
        [&[kind], &length[..], body].concat()
    }

    /// The client's first message, which has no type: its length, the protocol's version, parameters.
    fn startup(parameters: &[u8]) -> Vec<u8> {
        let length = u32::try_from(parameters.len() + 8).expect("tests send little").to_be_bytes();
        [&length[..], &[0, 3, 0, 0], parameters].concat()
    }

    fn ready(status: u8) -> Vec<u8> {
        frame(b'Z', &[status])
    }

    /// What `frames` tells when `bytes` arrive in pieces of these sizes, over and over.
    fn seen(mut frames: Frames, mut bytes: &[u8], pieces: &[usize]) -> Vec<(u8, u8)> {
        let mut seen = vec![];
        for size in pieces.iter().cycle() {
            let (piece, rest) = bytes.split_at((*size).min(bytes.len()));
            frames.feed(piece, |kind, first| seen.push((kind, first)));
            bytes = rest;
            if bytes.is_empty() {
                return seen;
            }
        }
        seen
    }

    fn frames() -> impl proptest::strategy::Strategy<Value = Vec<(u8, Vec<u8>)>> {
        let body = prop_oneof![
            2 => Just(vec![]),
            3 => prop::collection::vec(any::<u8>(), 1..6),
            1 => prop::collection::vec(any::<u8>(), 1..400),
        ];
        prop::collection::vec((any::<u8>(), body), 0..30)
    }

    proptest! {
        #[test]
        fn every_frame_is_seen_once_whatever_pieces_it_comes_in(
            frames in frames(),
            parameters in prop::collection::vec(any::<u8>(), 0..100),
            pieces in prop::collection::vec(1..50usize, 1..20),
        ) {
            let expected: Vec<_> =
                frames.iter().map(|(kind, body)| (*kind, body.first().copied().unwrap_or(0))).collect();
            let bytes: Vec<_> = frames.iter().flat_map(|(kind, body)| frame(*kind, body)).collect();
            prop_assert_eq!(&seen(Frames::from_server(), &bytes, &pieces), &expected);

            let bytes = [startup(&parameters), bytes].concat();
            prop_assert_eq!(&seen(Frames::from_client(), &bytes, &pieces), &expected);
        }

        /// A peer that speaks something else must not make anything overflow.
        #[test]
        fn any_bytes_are_taken(bytes in prop::collection::vec(any::<u8>(), 0..200), pieces in prop::collection::vec(1..20usize, 1..9)) {
            seen(Frames::from_server(), &bytes, &pieces);
            seen(Frames::from_client(), &bytes, &pieces);
        }
    }

    /// A tapped client and the server's end of the line.
    struct Line {
        wire: Arc<Wire>,
        client: Tap<DuplexStream>,
        server: DuplexStream,
    }

    impl Line {
        fn new() -> Self {
            let (client, server) = duplex(1024);
            let wire = Wire::new();
            Self { client: Tap::new(client, Arc::clone(&wire)), wire, server }
        }

        async fn open() -> Self {
            let mut line = Self::new();
            line.asks(&startup(b"user\0app\0\0")).await;
            line.asks(&frame(b'p', b"hunter2\0")).await;
            line.answers(&[frame(b'R', &[0; 4]), frame(b'S', b"TimeZone\0UTC\0"), ready(b'I')].concat())
                .await;
            assert!(line.wire.is_idle());
            assert!(line.wire.lend().await);
            line
        }

        async fn asks(&mut self, bytes: &[u8]) {
            self.client.write_all(bytes).await.expect("the server's end is open");
        }

        async fn answers(&mut self, bytes: &[u8]) {
            self.server.write_all(bytes).await.expect("the client's end is open");
            self.receives(bytes.len()).await;
            // As tokio-postgres does once it has handed on what it has.
            assert!(self.client.read(&mut [0; 8]).now_or_never().is_none(), "there is no more");
        }

        async fn receives(&mut self, length: usize) {
            self.client.read_exact(&mut vec![0; length]).await.expect("as much as was sent");
        }
    }

    /// A stream of rows that is kept and not read: tokio-postgres asks for no more bytes before it has handed these on.
    #[tokio::test(start_paused = true)]
    async fn an_answer_that_nobody_takes_keeps_the_connection_from_being_lent() {
        let mut line = Line::open().await;
        line.asks(&frame(b'Q', b"SELECT 1\0")).await;
        let answer = [frame(b'D', b"row"), ready(b'I')].concat();
        line.server.write_all(&answer).await.expect("the client's end is open");
        line.receives(answer.len()).await;
        assert!(!line.wire.is_busy() && !line.wire.is_idle(), "all is here, and not with those who asked");
        line.wire.give_back(User::Calls);
        assert!(!line.wire.lend().await);
        assert!(
            line.client.read(&mut [0; 8]).now_or_never().is_none(),
            "it is handed on, and there is no more"
        );
        assert!(line.wire.lend().await);
    }

    #[tokio::test]
    async fn a_connection_is_busy_until_the_last_answer_is_in() {
        let mut line = Line::new();
        assert!(line.wire.is_busy(), "the start-up is answered as well");
        line.asks(&startup(b"user\0app\0\0")).await;
        line.answers(&[frame(b'R', &[0; 4]), ready(b'I')].concat()).await;
        assert!(line.wire.is_idle());

        let extended = [frame(b'P', b"s\0SELECT 1\0\0\0"), frame(b'D', b"Ss\0"), frame(b'S', b"")].concat();
        let execute =
            [frame(b'B', b"\0s\0\0\0\0\0\0\0"), frame(b'E', b"\0\0\0\0\0"), frame(b'S', b"")].concat();
        line.asks(&[extended, execute, frame(b'Q', b"SELECT 2\0")].concat()).await;
        for answered in 0..3 {
            assert!(line.wire.is_busy(), "{answered} of 3 answered");
            line.answers(&[frame(b'1', b""), frame(b'D', b"ZZZ"), ready(b'I')].concat()).await;
        }
        assert!(line.wire.is_idle());

        // An error ends a statement like anything else; what counts is what comes after it.
        line.asks(&frame(b'Q', b"SELECT 1/0\0")).await;
        line.answers(&frame(b'E', b"SERROR\0\0")).await;
        assert!(line.wire.is_busy());
        line.answers(&ready(b'I')).await;
        assert!(line.wire.is_idle());

        for status in [b'T', b'E'] {
            line.asks(&frame(b'Q', b"BEGIN\0")).await;
            line.answers(&ready(status)).await;
            assert!(!line.wire.is_busy() && !line.wire.is_idle(), "in a transaction");
        }
        line.asks(&frame(b'Q', b"ROLLBACK\0")).await;
        line.answers(&ready(b'I')).await;
        assert!(line.wire.is_idle());

        line.asks(&frame(b'X', b"")).await;
        assert!(!line.wire.is_busy(), "the end is not answered");
        drop(line.server);
        assert_eq!(line.client.read(&mut [0; 8]).await.expect("the end is no error"), 0);
        assert!(line.wire.is_closed() && !line.wire.is_idle());
        line.client.read(&mut [0; 8]).await.expect_err("it has ended");
    }

    /// A host name with several addresses: the server at the first one accepts, says no and hangs up.
    #[tokio::test]
    async fn an_attempt_that_failed_does_not_count_against_the_next_one() {
        let wire = Wire::new();
        let (refused, mut server) = duplex(1024);
        let mut refused = PlainTap(Arc::clone(&wire)).connect(refused).await.expect("it encrypts nothing");
        refused.write_all(&startup(b"user\0app\0\0")).await.expect("the server's end is open");
        server.write_all(&frame(b'E', b"SFATAL\0\0")).await.expect("the client's end is open");
        drop((refused, server));
        assert!(wire.is_closed());

        let (client, server) = duplex(1024);
        let client = PlainTap(Arc::clone(&wire)).connect(client).await.expect("it encrypts nothing");
        let mut line = Line { wire, client, server };
        assert!(!line.wire.is_closed() && line.wire.is_busy());
        line.asks(&startup(b"user\0app\0\0")).await;
        line.answers(&ready(b'I')).await;
        assert!(line.wire.lend().await);
    }

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// One turn of the connection's task, as tokio-postgres takes it: read, write what is queued, flush. `between` happens
    /// after it has found its queue to be empty.
    fn turn(line: &mut Line, queued: &[u8], cx: &mut Context<'_>, between: impl FnOnce()) {
        let mut buf = [0; 64];
        assert!(Pin::new(&mut line.client).poll_read(cx, &mut ReadBuf::new(&mut buf)).is_pending());
        if !queued.is_empty() {
            let written = Pin::new(&mut line.client).poll_write(cx, queued);
            assert!(matches!(written, Poll::Ready(Ok(n)) if n == queued.len()));
        }
        between();
        assert!(Pin::new(&mut line.client).poll_flush(cx).is_ready());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_lent_again_only_after_a_turn_that_began_when_it_was_back() {
        let mut line = Line::open().await;
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&wakes));
        let cx = &mut Context::from_waker(&waker);
        let woken = || wakes.0.swap(0, Ordering::Relaxed);

        // The user queues a query, drops its future and the handle while the task is past its queue.
        let wire = Arc::clone(&line.wire);
        turn(&mut line, b"", cx, || wire.give_back(User::Anything));
        assert!(woken() > 0, "another turn is due");
        assert!(!line.wire.lend().await, "what is queued has not been sent yet");

        turn(&mut line, &frame(b'Q', b"SELECT pg_sleep(60)\0"), cx, || {});
        assert!(line.wire.is_busy());
        assert!(!line.wire.lend().await, "a leftover is under way");
        assert!(line.wire.is_closed() && woken() > 0, "its task is told to hang up");
        line.client.read(&mut [0; 8]).await.expect_err("it has ended");
    }

    #[tokio::test(start_paused = true)]
    async fn one_turn_is_enough_when_it_began_afterwards() {
        let mut line = Line::open().await;
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&wakes));
        let cx = &mut Context::from_waker(&waker);
        turn(&mut line, b"", cx, || {});

        line.wire.give_back(User::Anything);
        assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
        turn(&mut line, b"", cx, || {});
        assert_eq!(wakes.0.load(Ordering::Relaxed), 1, "no further turn is asked for");
        assert!(line.wire.lend().await);

        line.wire.give_back(User::Calls);
        assert_eq!(wakes.0.load(Ordering::Relaxed), 1, "all calls have ended: nothing can be queued");
        assert!(line.wire.lend().await);

        line.wire.call_began();
        line.wire.give_back(User::Calls);
        assert_eq!(wakes.0.load(Ordering::Relaxed), 2, "a call was dropped on its way");
    }

    /// The turn never comes: the runtime that drives the connection may be gone, or at a standstill.
    #[tokio::test(start_paused = true)]
    async fn a_connection_that_nobody_drives_is_not_waited_for() {
        let line = Line::open().await;
        line.wire.give_back(User::Anything);
        let lent = tokio::time::timeout(std::time::Duration::from_secs(2), line.wire.lend()).await;
        assert_eq!(lent, Ok(false));
    }

    /// The peer takes no more bytes: what is queued is not the next user's.
    #[tokio::test(start_paused = true)]
    async fn a_connection_that_is_stuck_is_never_lent_again() {
        let mut line = Line::open().await;
        let filler = [0; 2048];
        line.wire.give_back(User::Anything);
        poll_fn(|cx| {
            while Pin::new(&mut line.client).poll_write(cx, &filler).is_ready() {}
            Poll::Ready(())
        })
        .await;
        assert!(!line.wire.lend().await);
    }
}
