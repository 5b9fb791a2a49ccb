//! Extractors for axum.

mod rejection;

pub use rejection::Rejection;

use crate::conn::{Causal, Eventual, Latest, ReadConn, WriteConn};
use crate::error::Error;
use crate::router::{Router, Session};
use axum_core::extract::{FromRef, FromRequestParts};
use http::request::Parts;
use tracing::debug;

impl<S: Sync> FromRequestParts<S> for Session {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Rejection> {
        session(parts).cloned().ok_or_else(Rejection::without_layer)
    }
}

impl<S: Sync> FromRequestParts<S> for ReadConn<Eventual>
where
    Router: FromRef<S>,
{
    type Rejection = Rejection;

    async fn from_request_parts(_: &mut Parts, state: &S) -> Result<Self, Rejection> {
        Ok(Router::from_ref(state).read().await?)
    }
}

impl<S: Sync> FromRequestParts<S> for ReadConn<Causal> {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Rejection> {
        let session = session(parts).ok_or_else(Rejection::without_layer)?;
        match session.read().await {
            Err(error) if is_hopeless(&error) => {
                debug!(%error, "a causal token was forgotten");
                session.forget();
                Ok(session.read().await?)
            }
            answer => Ok(answer?),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for ReadConn<Latest>
where
    Router: FromRef<S>,
{
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Rejection> {
        Ok(match session(parts) {
            Some(session) => session.read().latest().await?,
            None => Router::from_ref(state).read().latest().await?,
        })
    }
}

impl<S: Sync> FromRequestParts<S> for WriteConn
where
    Router: FromRef<S>,
{
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Rejection> {
        Ok(match session(parts) {
            Some(session) => session.write().await?,
            None => Router::from_ref(state).write().await?,
        })
    }
}

fn session(parts: &Parts) -> Option<&Session> {
    parts.extensions.get()
}

/// The token will not become valid by itself.
fn is_hopeless(error: &Error) -> bool {
    error.is_invalid_token() && !error.is_unavailable()
}
