//! Reads a connection's protocol as it passes by.
//!
//! [`Tap`] sits between tokio-postgres and the [channel](crate::channel), and reads frame headers: every `Query` and `Sync`
//! that the client sends is answered by one `ReadyForQuery`, whose only byte is the transaction status. Of what is in the frames
//! it reads errors alone: Diesel does not keep the SQLSTATE, nor hear of an error that comes after the first rows.
//!
//! Source: PostgreSQL documentation, "Message Flow" and "Message Formats" of the frontend/backend protocol.

use super::wire::Wire;
use crate::channel::{Channel, Protect, TlsError};
use crate::failure::Cause;
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
    /// The type of the frame that is being read.
    kind: Option<u8>,
    /// What is still to come of its body.
    body: usize,
    /// None of its body has been reported.
    begins: bool,
}

/// A part of a typed frame's body: all of it, unless it came in pieces.
#[derive(Debug)]
struct Piece<'a> {
    kind: u8,
    /// Whether this is the first piece of its frame.
    begins: bool,
    bytes: &'a [u8],
}

impl Frames {
    const TYPED: usize = 5;
    const UNTYPED: usize = 4;

    fn from_server() -> Self {
        Self { head: [0; 5], have: 0, need: Self::TYPED, kind: None, body: 0, begins: true }
    }

    fn from_client() -> Self {
        Self { need: Self::UNTYPED, ..Self::from_server() }
    }

    /// Calls `seen` with every piece of every typed frame, and at least once a frame.
    fn feed(&mut self, mut bytes: &[u8], mut seen: impl FnMut(Piece<'_>)) {
        while !bytes.is_empty() {
            if self.body > 0 {
                let (piece, rest) = bytes.split_at(self.body.min(bytes.len()));
                if let Some(kind) = self.kind {
                    seen(Piece { kind, begins: self.begins, bytes: piece });
                }
                self.begins = false;
                self.body -= piece.len();
                bytes = rest;
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
                self.begins = true;
                if let (Some(kind), 0) = (self.kind, self.body) {
                    seen(Piece { kind, begins: true, bytes: &[] });
                }
                self.have = 0;
                self.need = Self::TYPED;
            }
        }
    }
}

/// Reads what an `ErrorResponse` says of its cause, whatever pieces it comes in: fields of a type byte and a text that ends with
/// a zero, and a zero after the last one.
#[derive(Debug, Default)]
struct ErrorFields {
    /// The type of the field that is being read.
    field: Option<u8>,
    code: Vec<u8>,
    routine: Vec<u8>,
}

/// So much of a field is kept: more than any that is known has.
const LONGEST_FIELD: usize = 64;

impl ErrorFields {
    /// The cause, when these bytes are the last.
    fn feed(&mut self, bytes: &[u8]) -> Option<Cause> {
        for &byte in bytes {
            match (self.field, byte) {
                (None, 0) => return Some(Cause::of_server(&self.code, &self.routine)),
                (None, field) => self.field = Some(field),
                (Some(_), 0) => self.field = None,
                (Some(b'C'), byte) if self.code.len() < LONGEST_FIELD => self.code.push(byte),
                (Some(b'R'), byte) if self.routine.len() < LONGEST_FIELD => self.routine.push(byte),
                _ => {}
            }
        }
        None
    }
}

/// A stream that reports to its [`Wire`] what passes through it.
pub(crate) struct Tap<S> {
    stream: S,
    wire: Arc<Wire>,
    sent: Frames,
    received: Frames,
    error: ErrorFields,
}

impl<S> Tap<S> {
    fn new(stream: S, wire: Arc<Wire>) -> Self {
        wire.begin();
        Self {
            stream,
            wire,
            sent: Frames::from_client(),
            received: Frames::from_server(),
            error: ErrorFields::default(),
        }
    }
}

impl<S> Drop for Tap<S> {
    fn drop(&mut self) {
        self.wire.dropped();
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Tap<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.wire.turn_began(cx.waker());
        if this.wire.is_closed() {
            return Poll::Ready(Err(hung_up()));
        }
        let before = buf.filled().len();
        let Poll::Ready(read) = Pin::new(&mut this.stream).poll_read(cx, buf) else {
            this.wire.delivered();
            return Poll::Pending;
        };
        this.wire.received();
        let bytes = &buf.filled()[before..];
        if read.is_err() || bytes.is_empty() {
            this.wire.lost();
        }
        let Self { wire, error, .. } = this;
        this.received.feed(bytes, |piece| match piece.kind {
            b'Z' => {
                if let Some(&status) = piece.bytes.first() {
                    wire.ready_for_query(status);
                }
            }
            b'E' => {
                if piece.begins {
                    *error = ErrorFields::default();
                }
                if let Some(cause) = error.feed(piece.bytes) {
                    wire.hear(cause);
                }
            }
            _ => {}
        });
        Poll::Ready(read)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Tap<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.wire.is_closed() {
            return Poll::Ready(Err(hung_up()));
        }
        let written = Pin::new(&mut this.stream).poll_write(cx, bytes);
        match &written {
            Poll::Ready(Ok(written)) => {
                let wire = &this.wire;
                this.sent.feed(&bytes[..*written], |piece| {
                    if piece.begins && matches!(piece.kind, b'Q' | b'S') {
                        wire.request_sent();
                    }
                });
            }
            Poll::Ready(Err(_)) => this.wire.lost(),
            Poll::Pending => this.wire.stuck(),
        }
        written
    }

    /// tokio-postgres flushes at the end of every turn of the connection's task, after it has taken all requests
    /// out of its queue.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // A turn reads nothing while rows are not taken.
        if this.wire.is_closed() {
            return Poll::Ready(Err(hung_up()));
        }
        let flushed = Pin::new(&mut this.stream).poll_flush(cx);
        this.wire.turn_ended(cx.waker());
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

fn hung_up() -> io::Error {
    io::ErrorKind::ConnectionAborted.into()
}

/// Puts a [`Tap`] around the channel of a connection.
#[derive(Clone)]
pub(super) struct Tapped {
    pub(super) protect: Protect,
    pub(super) wire: Arc<Wire>,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> MakeTlsConnect<S> for Tapped {
    type Stream = Tap<Channel<S>>;
    type TlsConnect = Self;
    type Error = TlsError;

    fn make_tls_connect(&mut self, _: &str) -> Result<Self, TlsError> {
        Ok(self.clone())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> TlsConnect<S> for Tapped {
    type Stream = Tap<Channel<S>>;
    type Error = TlsError;
    type Future = Pin<Box<dyn Future<Output = Result<Tap<Channel<S>>, TlsError>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        Box::pin(async move { Ok(Tap::new(self.protect.channel(stream).await?, self.wire)) })
    }
}

impl<S: TlsStream + Unpin> TlsStream for Tap<S> {
    fn channel_binding(&self) -> ChannelBinding {
        self.stream.channel_binding()
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::Record;
    use super::super::wire::User;
    use super::*;
    use crate::channel::Protection;
    use crate::traffic::Traffic;
    use futures_util::FutureExt;
    use proptest::prelude::*;
    use std::future::poll_fn;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Wake, Waker};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::runtime::Handle;

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

    /// What `frames` tells when `bytes` arrive in pieces of these sizes, over and over: each frame's type and body.
    fn seen(mut frames: Frames, mut bytes: &[u8], pieces: &[usize]) -> Vec<(u8, Vec<u8>)> {
        let mut seen: Vec<(u8, Vec<u8>)> = vec![];
        for size in pieces.iter().cycle() {
            let (piece, rest) = bytes.split_at((*size).min(bytes.len()));
            frames.feed(piece, |Piece { kind, begins, bytes }| match seen.last_mut() {
                Some((last, body)) if !begins => {
                    assert_eq!(*last, kind);
                    body.extend_from_slice(bytes);
                }
                _ => seen.push((kind, bytes.to_owned())),
            });
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
            let bytes: Vec<_> = frames.iter().flat_map(|(kind, body)| frame(*kind, body)).collect();
            prop_assert_eq!(&seen(Frames::from_server(), &bytes, &pieces), &frames);

            let bytes = [startup(&parameters), bytes].concat();
            prop_assert_eq!(&seen(Frames::from_client(), &bytes, &pieces), &frames);
        }

        #[test]
        fn the_cause_of_an_error_is_read_whatever_pieces_it_comes_in(
            size in 1..40usize,
            message in "[^\\x00]{0,40}",
            fields in prop::sample::subsequence(b"DHPpqWstcdnFL".to_vec(), 0..13),
        ) {
            for (code, routine, cause) in [
                ("57P01", "ProcessInterrupts", Cause::Node),
                ("0A000", "RevalidateCachedQuery", Cause::StalePlan),
                ("0A000", "check_XactIsoLevel", Cause::Caller),
            ] {
                let mut body = format!("SFATAL\0VFATAL\0C{code}\0M{message}\0").into_bytes();
                body.extend(fields.iter().flat_map(|field| [&[*field], message.as_bytes(), &[0]].concat()));
                body.extend(format!("R{routine}\0\0").into_bytes());
                let mut error = ErrorFields::default();
                let causes: Vec<_> = body.chunks(size).filter_map(|piece| error.feed(piece)).collect();
                prop_assert_eq!(causes, [cause]);
            }
        }

        /// A peer that speaks something else must not make anything overflow.
        #[test]
        fn any_bytes_are_taken(bytes in prop::collection::vec(any::<u8>(), 0..200), pieces in prop::collection::vec(1..20usize, 1..9)) {
            seen(Frames::from_server(), &bytes, &pieces);
            seen(Frames::from_client(), &bytes, &pieces);
            let mut error = ErrorFields::default();
            bytes.chunks(pieces[0]).for_each(|piece| {
                let _ = error.feed(piece);
            });
        }
    }

    #[test]
    fn fields_without_an_end_are_not_kept() {
        for field in [b'C', b'R'] {
            let mut error = ErrorFields::default();
            error.feed(&[field]);
            (0..100).for_each(|_| assert_eq!(error.feed(b"57P01"), None));
            assert!(error.code.len() + error.routine.len() <= LONGEST_FIELD);
            assert_eq!(error.feed(b"\0\0"), Some(Cause::Caller));
        }
    }

    fn error(code: &str) -> Vec<u8> {
        frame(b'E', format!("SERROR\0VERROR\0C{code}\0Mfehlgeschlagen\0Rroutine\0\0").as_bytes())
    }

    /// A tapped client and the server's end of the line.
    struct Line {
        wire: Arc<Wire>,
        record: Arc<Record>,
        traffic: Arc<Traffic>,
        client: Tap<Channel<DuplexStream>>,
        server: DuplexStream,
    }

    impl Line {
        fn new(writes: bool) -> Self {
            let (client, server) = duplex(1024);
            let traffic = Arc::<Traffic>::default();
            let record = Arc::new(Record::new(Arc::clone(&traffic), writes));
            let wire = Wire::new(Arc::clone(&record));
            let client = Tap::new(Channel::Plain(client), Arc::clone(&wire));
            Self { client, wire, record, traffic, server }
        }

        async fn open() -> Self {
            Self::open_for(true).await
        }

        async fn open_for(writes: bool) -> Self {
            let mut line = Self::new(writes);
            line.asks(&startup(b"user\0app\0\0")).await;
            line.asks(&frame(b'p', b"hunter2\0")).await;
            line.answers(&[frame(b'R', &[0; 4]), frame(b'S', b"TimeZone\0UTC\0"), ready(b'I')].concat())
                .await;
            assert!(line.wire.is_idle());
            assert!(line.wire.lend().await);
            line.record.lend();
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
        let mut line = Line::new(false);
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
        let mut first = Line::new(false);
        first.asks(&startup(b"user\0app\0\0")).await;
        first.server.write_all(&error("57P03")).await.expect("the client's end is open");
        let Line { wire, record, traffic, mut client, server } = first;
        drop(server);
        client.read_to_end(&mut vec![]).await.expect("the end is no error");
        drop(client);
        assert!(wire.is_closed());
        assert!(!traffic.take_suspicion(), "whoever dials judges that");

        let (client, server) = duplex(1024);
        let tapped = Tapped { protect: Protect::new(Protection::Plain), wire: Arc::clone(&wire) };
        let client = tapped.connect(client).await.expect("it encrypts nothing");
        let mut line = Line { wire, record, traffic, client, server };
        assert!(!line.wire.is_closed() && line.wire.is_busy());
        line.asks(&startup(b"user\0app\0\0")).await;
        line.answers(&ready(b'I')).await;
        assert!(line.wire.lend().await);
    }

    /// What a line's record passes on: failures, whether the node is suspected, whether the connection is unfit.
    fn heard(line: &Line) -> (u64, bool, bool) {
        (line.traffic.tally().failed, line.traffic.take_suspicion(), line.record.is_unfit())
    }

    #[tokio::test]
    async fn an_error_tells_of_the_node_whatever_its_language() {
        for (code, writes, lent, expected) in [
            ("57P01", true, true, (1, true, false)),
            ("57P02", false, true, (1, true, false)),
            ("58030", false, true, (1, true, false)),
            ("57P01", true, false, (0, true, false)),
            ("25006", true, true, (0, true, true)),
            ("25006", false, true, (0, false, false)),
            ("23505", true, true, (0, false, false)),
            ("57014", false, true, (0, false, false)),
            ("40001", false, true, (0, false, false)),
            ("53300", true, true, (0, false, false)),
        ] {
            let mut line = Line::open_for(writes).await;
            if !lent {
                line.record.give_back();
            }
            line.asks(&frame(b'Q', b"SELECT 1\0")).await;
            line.answers(&[frame(b'2', b""), error(code)].concat()).await;
            assert_eq!(heard(&line), expected, "{code}, writes: {writes}, lent: {lent}");
        }
    }

    #[derive(Debug, Clone, Copy)]
    enum End {
        /// The peer hangs up.
        Peer,
        /// It says first that it shuts down.
        ShutDown,
        /// tokio-postgres gives up on what it got, or is told that nobody needs the connection.
        Dropped,
        /// Its pool hangs up.
        Severed,
    }

    #[tokio::test]
    async fn a_loss_is_one_failure_if_somebody_waits_for_an_answer() {
        for (asked, lent, end, expected) in [
            (true, true, End::Peer, (1, true, false)),
            (true, true, End::ShutDown, (1, true, false)),
            (true, true, End::Dropped, (1, true, false)),
            (true, true, End::Severed, (0, false, false)),
            (false, true, End::Peer, (0, true, false)),
            (false, true, End::ShutDown, (0, true, false)),
            (true, false, End::Peer, (0, true, false)),
            (false, false, End::Peer, (0, true, false)),
            (false, false, End::Dropped, (0, false, false)),
        ] {
            let mut line = Line::open().await;
            if asked {
                line.asks(&[frame(b'Q', b"SELECT 1\0"), frame(b'Q', b"SELECT 2\0")].concat()).await;
                line.answers(&frame(b'D', b"row")).await;
            }
            if !lent {
                line.record.give_back();
            }
            match end {
                End::Peer => {}
                End::ShutDown => line.answers(&error("57P01")).await,
                End::Severed => assert!(line.wire.sever(&Handle::current()), "somebody had it"),
                End::Dropped => {
                    line.client = Tap::new(Channel::Plain(duplex(1).0), Wire::new(Arc::clone(&line.record)))
                }
            }
            line.server = duplex(1).1;
            assert_eq!(line.client.read(&mut [0; 8]).await.unwrap_or(0), 0);
            assert_eq!(heard(&line), expected, "asked: {asked}, lent: {lent}, {end:?}");
        }
    }

    /// tokio-postgres reads no more while it has rows that nobody takes.
    #[tokio::test]
    async fn a_severed_connection_ends_whether_or_not_anybody_reads() {
        let mut line = Line::open().await;
        assert!(line.wire.sever(&Handle::current()));
        line.client.flush().await.expect_err("it has ended");
        line.client.write_all(b"Q").await.expect_err("it has ended");
        line.client.read(&mut [0; 8]).await.expect_err("it has ended");
        assert!(!line.wire.sever(&Handle::current()), "once is enough");
    }

    #[tokio::test]
    async fn a_connection_is_ended_for_its_pool_only_while_nobody_has_it() {
        let line = Line::open().await;
        line.wire.end_if_free(&Handle::current());
        assert!(!line.wire.is_closed());
        line.wire.give_back(User::Calls);
        line.wire.end_if_free(&Handle::current());
        assert!(line.wire.is_closed());
        assert!(!line.wire.lend().await);
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

        line.record.call_began(true);
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
