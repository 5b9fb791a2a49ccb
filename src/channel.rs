//! What the bytes of a connection go through: TLS, or plain text.
//!
//! tokio-postgres asks servers for TLS by itself, but would then leave plain connections without the hook that the
//! [tap](crate::pool) needs. So it is told that TLS is required and begins at once, and [`Protect`] is the hook: it asks the server
//! here, and gives a [`Channel`] of either kind. No connection over TCP gets past it.

#[cfg(feature = "tls")]
mod binding;
#[cfg(feature = "tls")]
mod error;
#[cfg(feature = "tls")]
mod files;
#[cfg(feature = "tls")]
mod handshake;
#[cfg(feature = "tls")]
mod verifier;

#[cfg(feature = "tls")]
pub(crate) use error::TlsError;

use crate::endpoint::Tls;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};

/// Without the feature nothing can fail: what asks for TLS is refused with its URL.
#[cfg(not(feature = "tls"))]
pub(crate) type TlsError = std::convert::Infallible;

/// How one attempt to connect is protected.
#[derive(Clone)]
pub(crate) enum Protection {
    Plain,
    /// With TLS or not at all.
    #[cfg(feature = "tls")]
    Tls(Arc<handshake::Handshake>),
    /// With TLS if the server has it.
    #[cfg(feature = "tls")]
    Offered(Arc<handshake::Handshake>),
}

/// What is tried, one after the other, to connect to a host.
pub(crate) struct Attempts {
    pub(crate) protections: Vec<Protection>,
    /// Why TLS is not among them, where it is preferred.
    pub(crate) unavailable: Option<TlsError>,
}

impl Attempts {
    pub(crate) fn plain() -> Self {
        Self { protections: vec![Protection::Plain], unavailable: None }
    }

    /// # Errors
    ///
    /// Where TLS is asked for, or files for it are named, and it cannot be set up.
    #[cfg(feature = "tls")]
    pub(crate) async fn with(tls: &Tls, host: &str) -> Result<Self, TlsError> {
        use crate::endpoint::Mode;
        if tls.mode == Mode::Disable {
            return Ok(Self::plain());
        }
        let handshake = match handshake::Handshake::prepare(tls, host).await {
            Ok(handshake) => Arc::new(handshake),
            Err(error) if tls.mode < Mode::Require && !tls.names_files() => {
                return Ok(Self { unavailable: Some(error), ..Self::plain() });
            }
            Err(error) => return Err(error),
        };
        let protections = match tls.mode {
            Mode::Disable => vec![Protection::Plain],
            Mode::Allow => vec![Protection::Plain, Protection::Tls(handshake)],
            Mode::Prefer => vec![Protection::Offered(handshake), Protection::Plain],
            Mode::Require | Mode::VerifyCa | Mode::VerifyFull => vec![Protection::Tls(handshake)],
        };
        Ok(Self { protections, unavailable: None })
    }

    #[cfg(not(feature = "tls"))]
    pub(crate) async fn with(_: &Tls, _: &str) -> Result<Self, TlsError> {
        Ok(Self::plain())
    }
}

impl Protection {
    pub(crate) fn is_plain(&self) -> bool {
        matches!(self, Self::Plain)
    }

    /// The server may have refused a client's certificate behind the handshake: with TLS 1.3 it sees it last.
    #[cfg(feature = "tls")]
    pub(crate) fn refusal(&self, error: &(dyn std::error::Error + 'static)) -> Option<TlsError> {
        match self {
            Self::Plain => None,
            Self::Tls(handshake) | Self::Offered(handshake) => handshake.refusal(error),
        }
    }

    #[cfg(not(feature = "tls"))]
    pub(crate) fn refusal(&self, _: &(dyn std::error::Error + 'static)) -> Option<TlsError> {
        None
    }
}

/// Protects what a connection, or a request to cancel, goes through.
#[derive(Clone)]
pub(crate) struct Protect {
    protection: Protection,
    /// Of the last channel, once there is one.
    outcome: Arc<AtomicU8>,
}

mod outcome {
    pub(super) const NONE: u8 = 0;
    pub(super) const PLAIN: u8 = 1;
    /// Without the feature nothing compares with it.
    pub(super) const ENCRYPTED: u8 = 2;
}

impl Protect {
    pub(crate) fn new(protection: Protection) -> Self {
        Self { protection, outcome: Arc::new(AtomicU8::new(outcome::NONE)) }
    }

    #[cfg(feature = "tls")]
    pub(crate) fn is_encrypted(&self) -> bool {
        self.outcome.load(Ordering::Acquire) == outcome::ENCRYPTED
    }

    /// Whether the last channel is in plain text.
    pub(crate) fn is_plain(&self) -> bool {
        self.outcome.load(Ordering::Acquire) == outcome::PLAIN
    }

    /// For more connections to the same server, as well protected as the last.
    pub(crate) fn again(&self) -> Self {
        match &self.protection {
            #[cfg(feature = "tls")]
            Protection::Offered(handshake) if self.is_encrypted() => {
                Self::new(Protection::Tls(Arc::clone(handshake)))
            }
            #[cfg(feature = "tls")]
            Protection::Offered(_) => Self::new(Protection::Plain),
            protection => Self::new(protection.clone()),
        }
    }

    pub(crate) async fn channel<S>(self, stream: S) -> Result<Channel<S>, TlsError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.outcome.store(outcome::NONE, Ordering::Release);
        let channel = match &self.protection {
            Protection::Plain => Channel::Plain(stream),
            #[cfg(feature = "tls")]
            Protection::Tls(handshake) => handshake.with(stream, false).await?,
            #[cfg(feature = "tls")]
            Protection::Offered(handshake) => handshake.with(stream, true).await?,
        };
        let is_plain = matches!(channel, Channel::Plain(_));
        self.outcome.store(if is_plain { outcome::PLAIN } else { outcome::ENCRYPTED }, Ordering::Release);
        Ok(channel)
    }
}

/// A stream, encrypted or not.
pub(crate) enum Channel<S> {
    Plain(S),
    #[cfg(feature = "tls")]
    Tls(Box<tokio_rustls::client::TlsStream<S>>),
}

macro_rules! delegate {
    ($this:ident, $stream:ident => $call:expr) => {
        match $this.get_mut() {
            Channel::Plain(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
            #[cfg(feature = "tls")]
            Channel::Tls(stream) => {
                let $stream = Pin::new(&mut **stream);
                $call
            }
        }
    };
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Channel<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        delegate!(self, stream => stream.poll_read(cx, buf))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Channel<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        delegate!(self, stream => stream.poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, stream => stream.poll_shutdown(cx))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Channel<S> {
    fn channel_binding(&self) -> ChannelBinding {
        match self {
            Self::Plain(_) => ChannelBinding::none(),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => binding::of(stream.get_ref().1),
        }
    }
}

/// A [`Channel`] to be.
type Protecting<S> = Pin<Box<dyn Future<Output = Result<Channel<S>, TlsError>> + Send>>;

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> MakeTlsConnect<S> for Protect {
    type Stream = Channel<S>;
    type TlsConnect = Self;
    type Error = TlsError;

    /// The name is that which [`Attempts::with`] was given.
    fn make_tls_connect(&mut self, _: &str) -> Result<Self, TlsError> {
        Ok(self.clone())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> TlsConnect<S> for Protect {
    type Stream = Channel<S>;
    type Error = TlsError;
    type Future = Protecting<S>;

    fn connect(self, stream: S) -> Protecting<S> {
        Box::pin(self.channel(stream))
    }
}
