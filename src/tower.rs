//! Read-your-writes from one HTTP request of a client to its next.

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

/// The header that tokens travel in, unless [another one](CausalLayer::header) is chosen.
pub const HEADER: HeaderName = HeaderName::from_static("x-causal-token");

/// Gives each request a [`Session`](crate::Session) that carries on from the token that it brings, and its response the token that the
/// next one should bring.
#[derive(Debug, Clone)]
pub struct CausalLayer {
    exchange: Exchange,
}

impl CausalLayer {
    /// For clients that cannot be trusted, such as browsers: tokens are signed, and others are ignored.
    #[must_use]
    pub fn signed(router: &Router, keys: TokenKeys) -> Self {
        Self::new(router, Form::Signed(keys))
    }

    /// For clients that can be trusted, such as services of one's own: whoever can send requests can send any token.
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

    /// The name of the header, instead of [`HEADER`].
    #[must_use]
    pub fn header(mut self, name: HeaderName) -> Self {
        self.exchange.header = Some(name);
        self
    }

    /// Neither reads nor sends a header.
    #[must_use]
    pub fn without_header(mut self) -> Self {
        self.exchange.header = None;
        self
    }

    /// The cookie, instead of [`CausalCookie::default`].
    #[must_use]
    pub fn cookie(mut self, cookie: CausalCookie) -> Self {
        self.exchange.cookie = Some(cookie);
        self
    }

    /// Neither reads nor sends a cookie.
    #[must_use]
    pub fn without_cookie(mut self) -> Self {
        self.exchange.cookie = None;
        self
    }

    /// Whether the header is also sent after requests that only read. Off by default.
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

/// What a [`CausalLayer`] makes of a service.
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
        // No await before this call: it is of the service that was asked whether it is ready.
        let response = self.inner.call(request);
        Box::pin(async move {
            let mut response = response.await?;
            exchange.end(&session, brought, response.headers_mut()).await;
            Ok(response)
        })
    }
}
