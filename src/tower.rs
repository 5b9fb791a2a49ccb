//! Read-your-writes from one HTTP request of a client to its next.
//!
//! Who posts a message and reloads the page may be served by a replica that does not have it yet. [`CausalLayer`]
//! prevents that: a response to a write takes the commit's [token](crate::CausalToken) along, the client brings it with
//! its next request, and reads of that request's [`Session`](crate::Session) go to a node that has the commit.
//! Everybody else is served by any healthy replica.
//!
//! A complete example is in [`axum`](crate::axum), whose handlers get their connections as arguments. Other frameworks
//! on tower find the session in the request's extensions:
//!
//! ```
//! use diesel_replicas::{Router, Session, TokenKeys, tower::CausalLayer};
//! use http::{Request, Response};
//! use std::convert::Infallible;
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! async fn handle(request: Request<()>) -> Result<Response<()>, Infallible> {
//!     let session = request.extensions().get::<Session>().expect("the layer gives each request one");
//!     // session.with_read(..), session.with_write(..)
//!     # assert!(session.token().await.is_none());
//!     Ok(Response::new(()))
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let key = diesel_replicas::rand::random::<[u8; 32]>();
//! # let router = Router::builder().primary("postgres://app@127.0.0.1:1/chat").build().await?;
//! let layer = CausalLayer::signed(&router, TokenKeys::new(key)?);
//! let service = layer.layer(service_fn(handle));
//! # service.oneshot(Request::new(())).await?;
//! # Ok(()) }
//! ```
//!
//! # Header and cookie
//!
//! A token travels in the header [`x-causal-token`](HEADER) and in the [cookie](CausalCookie) `causal_token`; a request
//! may bring it in either, or in both, and then the later one counts. Browsers need nothing but the cookie. It moves
//! with writes only: a late answer to a read in one window would take the place of the newer token that a write in
//! another window has set.
//!
//! A client that keeps tokens by itself can do better, since of two texts the greater is the later token's. It sends
//! the text that it holds as header, and goes by this rule when the answer arrives, here in JavaScript:
//!
//! ```js
//! const got = response.headers.get("x-causal-token"); // a page of another origin: `Access-Control-Expose-Headers`
//! if (got !== null && (held === sent || got > held)) held = got;
//! ```
//!
//! Where nothing else has arrived in the meantime it takes what the answer says, be it less: then what it sent is of no
//! use any more, which an empty header says as well. With [`monotonic_reads`](CausalLayer::monotonic_reads) the header
//! also moves with what is only read, so that such a client never sees less than it has seen, with the
//! [limit of a session](crate::Session).
//!
//! # What a client cannot do
//!
//! A text that is no token, was made up, or is of another cluster is ignored, and taken back: its cookie is removed.
//! With [signed](CausalLayer::signed) tokens a client can only bring what was given out here.
//!
//! Such a token can turn out to be ahead of the primary, when a failover has lost what it stands for. The
//! [extractors](crate::axum) then [forget](crate::Session::forget) it and read without. One of a promotion that has not
//! been noticed here is kept, and the response is a 503: read without it, the client's own write might be missing. A
//! handler that asks its session by hand tells the two apart: both are
//! [`is_invalid_token`](crate::Error::is_invalid_token), and the second one alone is
//! [`is_unavailable`](crate::Error::is_unavailable).
//!
//! After restoring an old backup, sign with a new key and do not accept the old one: that voids all tokens from before.
//!
//! # What is covered
//!
//! What is committed and read by way of the request's session until the response's head is there, also when the
//! response is an error. Not covered is what happens
//!
//! * on connections that were asked of the [`Router`] directly;
//! * while the body is streamed, or in a task that goes on by itself;
//! * in a handler that a layer around this one has dropped. Put this layer outside of those that answer in a handler's
//!   place, such as a timeout or one that catches panics: with `axum::Router::layer`, add it after them;
//! * when the answers to two writes of one browser overtake each other: its cookie is what arrived last. The rule above
//!   has no such gap.

mod cookie;
mod exchange;

pub use cookie::{CausalCookie, InvalidCookie, SameSite};

use crate::freshness::TokenKeys;
use crate::router::Router;
use exchange::{Exchange, Form};
use futures_util::future::BoxFuture;
use http::{HeaderName, Request, Response};
use std::sync::Arc;
use std::task::{Context, Poll};
use tower_layer::Layer;
use tower_service::Service;

/// The header that tokens travel in, unless [another one](CausalLayer::header) is chosen: `x-causal-token`.
pub const HEADER: HeaderName = HeaderName::from_static("x-causal-token");

/// Gives each request a [`Session`](crate::Session) that carries on from the token that the request brings, and its
/// response the token that the client's next request should bring: see the [module](self).
///
/// A request that does not use its session costs nothing but the reading of what it brings. To know the token of a
/// commit costs nothing after [`Session::with_write`](crate::Session::with_write), and after other uses a question to
/// the node, which all responses that wait for it share.
#[derive(Debug, Clone)]
pub struct CausalLayer {
    exchange: Exchange,
}

impl CausalLayer {
    /// For clients that cannot be trusted, such as browsers: tokens are signed, and all others are ignored. All
    /// instances of a service need the same keys.
    #[must_use]
    pub fn signed(router: &Router, keys: TokenKeys) -> Self {
        Self::new(router, Form::Signed(keys))
    }

    /// For clients that can be trusted, such as services of one's own: they can make up a token of the far future,
    /// which costs the primary a question for every read that has to follow it.
    ///
    /// A token without a [position](crate::CausalToken::lsn), which stands for all that there is, is neither taken nor
    /// given out.
    #[must_use]
    pub fn unsigned(router: &Router) -> Self {
        Self::new(router, Form::Unsigned)
    }

    fn new(router: &Router, form: Form) -> Self {
        let exchange = Exchange {
            router: router.clone(),
            form,
            header: Some(HEADER),
            cookie: Some(CausalCookie::default()),
            monotonic_reads: false,
        };
        Self { exchange }
    }

    /// The name of the header to read and to send, [`HEADER`] by default.
    #[must_use]
    pub fn header(mut self, name: HeaderName) -> Self {
        self.exchange.header = Some(name);
        self
    }

    /// Neither reads nor sends a header: for browsers alone.
    #[must_use]
    pub fn without_header(mut self) -> Self {
        self.exchange.header = None;
        self
    }

    /// The name and the attributes of the cookie to read and to send, those of [`CausalCookie::default`] by default.
    #[must_use]
    pub fn cookie(mut self, cookie: CausalCookie) -> Self {
        self.exchange.cookie = Some(cookie);
        self
    }

    /// Neither reads nor sends a cookie: for clients that keep the header.
    #[must_use]
    pub fn without_cookie(mut self) -> Self {
        self.exchange.cookie = None;
        self
    }

    /// Whether the header moves with reads as well: a client that brings it then never sees less than it has seen
    /// before. Off by default, since each response to a request that reads then waits for the node to say where it is.
    ///
    /// It counts what was read by way of the session: not on a [`ReadConn<Eventual>`](crate::ReadConn).
    #[must_use]
    pub fn monotonic_reads(mut self, on: bool) -> Self {
        self.exchange.monotonic_reads = on;
        self
    }
}

impl<S> Layer<S> for CausalLayer {
    type Service = CausalService<S>;

    fn layer(&self, inner: S) -> CausalService<S> {
        CausalService { inner, exchange: Arc::new(self.exchange.clone()) }
    }
}

/// A service with a [`CausalLayer`] around it.
#[derive(Debug, Clone)]
pub struct CausalService<S> {
    inner: S,
    exchange: Arc<Exchange>,
}

impl<S, B, R> Service<Request<B>> for CausalService<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    R: Send,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let exchange = Arc::clone(&self.exchange);
        let (session, brought) = exchange.begin(request.headers());
        request.extensions_mut().insert(session.clone());
        // Not in the future: it is this service, not a clone, that was asked whether it is ready.
        let response = self.inner.call(request);
        Box::pin(async move {
            let mut response = response.await?;
            exchange.end(&session, brought, response.headers_mut()).await;
            Ok(response)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::Session;
    use http::StatusCode;
    use std::convert::Infallible;
    use std::future::{Ready, ready};
    use tower::ServiceExt;

    /// Wants to be asked before each call whether it is ready; its clones were not.
    #[derive(Default)]
    struct Careful {
        is_ready: bool,
        asked: usize,
    }

    impl Clone for Careful {
        fn clone(&self) -> Self {
            Self::default()
        }
    }

    /// What it takes and gives is no body of any crate.
    impl Service<Request<&'static str>> for Careful {
        type Response = Response<usize>;
        type Error = Infallible;
        type Future = Ready<Result<Response<usize>, Infallible>>;

        fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            self.asked += 1;
            self.is_ready = self.asked > 1;
            if self.is_ready {
                return Poll::Ready(Ok(()));
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        }

        fn call(&mut self, request: Request<&'static str>) -> Self::Future {
            assert!(std::mem::take(&mut self.is_ready), "called unasked");
            assert!(request.extensions().get::<Session>().is_some());
            ready(Ok(Response::new(request.body().len())))
        }
    }

    fn router() -> Router {
        let builder = Router::builder().primary("postgres://app@127.0.0.1:1/chat");
        Router::new(builder.config().unwrap())
    }

    #[tokio::test]
    async fn a_service_is_asked_whether_it_is_ready_and_called_itself() {
        let mut service = CausalLayer::unsigned(&router()).layer(Careful::default());
        for _ in 0..2 {
            let response = service.ready().await.unwrap().call(Request::new("four")).await.unwrap();
            assert_eq!((response.status(), *response.body()), (StatusCode::OK, 4));
            assert!(response.headers().is_empty());
        }
        assert_eq!(service.clone().inner.asked, 0);
    }

    #[tokio::test]
    async fn no_key_is_shown() {
        let layer = CausalLayer::signed(&router(), TokenKeys::new([b'k'; 32]).unwrap());
        let shown = format!("{:?}", layer.layer(()));
        assert!(
            shown.contains("x-causal-token") && !shown.contains("kkk") && !shown.contains("107"),
            "{shown}"
        );
    }
}
