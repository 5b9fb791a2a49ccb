//! Connections as arguments of axum's handlers: what a handler takes says what it does.
//!
//! | argument | is | needs |
//! |---|---|---|
//! | [`ReadConn`] | any healthy replica | the router in the state |
//! | [`ReadConn<Causal>`](Causal) | a node that has all that this client has written | the layer |
//! | [`ReadConn<Latest>`](Latest) | the primary, for reads | the router in the state |
//! | [`WriteConn`] | the primary | the router in the state |
//! | [`Session`] | what gives out connections like these when they are asked for | the layer |
//!
//! The layer is [`CausalLayer`](crate::tower::CausalLayer): it gives each request a session, whose token it carries to
//! the client and back. With it, what is written on a [`WriteConn`] counts as seen by the client, as does, where [reads
//! count](crate::tower::CausalLayer::monotonic_reads), what is read on a [`ReadConn<Causal>`](Causal) or
//! [`ReadConn<Latest>`](Latest). The router comes from the state by axum's `FromRef`.
//!
//! # Example
//!
//! ```no_run
//! use axum::http::StatusCode;
//! use axum::{Json, routing::get};
//! use diesel::prelude::*;
//! use diesel_replicas::tower::CausalLayer;
//! use diesel_replicas::{Causal, ReadConn, Reader, Router, RunQueryDsl, TokenKeys, WriteConn};
//!
//! diesel::table! {
//!     rooms (id) {
//!         id -> Integer,
//!         name -> Text,
//!     }
//! }
//!
//! // Any healthy replica will do.
//! async fn count(mut conn: ReadConn) -> Result<String, StatusCode> {
//!     let rooms: i64 = rooms::table.count().get_result(&mut conn).await.map_err(failed)?;
//!     Ok(rooms.to_string())
//! }
//!
//! // Who has created a room finds it here.
//! async fn list(mut conn: ReadConn<Causal>) -> Result<Json<Vec<String>>, StatusCode> {
//!     Ok(Json(names(&mut conn).await.map_err(failed)?))
//! }
//!
//! async fn names(conn: &mut Reader<Causal>) -> QueryResult<Vec<String>> {
//!     rooms::table.select(rooms::name).load(conn).await
//! }
//!
//! async fn create(mut conn: WriteConn, name: String) -> Result<StatusCode, StatusCode> {
//!     let new = diesel::insert_into(rooms::table).values(rooms::name.eq(name));
//!     new.execute(&mut conn).await.map_err(failed)?;
//!     Ok(StatusCode::CREATED)
//! }
//!
//! fn failed(error: diesel::result::Error) -> StatusCode {
//!     tracing::error!(%error, "query failed");
//!     StatusCode::INTERNAL_SERVER_ERROR
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let router = Router::from_env().await?;
//!     let keys = TokenKeys::new(std::env::var("TOKEN_KEY")?)?;
//!     let service = axum::Router::new()
//!         .route("/rooms", get(list).post(create))
//!         .route("/rooms/count", get(count))
//!         .layer(CausalLayer::signed(&router, keys))
//!         .with_state(router);
//!     let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
//!     axum::serve(listener, service).await?;
//!     Ok(())
//! }
//! ```
//!
//! # When to ask
//!
//! An argument is there before the request's body is: a handler that takes a large body holds its connection while a
//! slow client sends it. Such a handler takes the [`Session`] and asks that, which also gives it [`Session::with_read`]
//! and its second run when a node is lost, and [`Session::with_write`], whose token costs no question:
//!
//! ```
//! # use axum::Json;
//! # use diesel::prelude::*;
//! # use diesel_replicas::{RunQueryDsl, Session};
//! # use axum::http::StatusCode;
//! # diesel::table! { rooms (id) { id -> Integer, name -> Text, } }
//! # fn failed(_: diesel::result::Error) -> StatusCode { StatusCode::INTERNAL_SERVER_ERROR }
//! async fn create(session: Session, Json(names): Json<Vec<String>>) -> Result<StatusCode, StatusCode> {
//!     let names: Vec<_> = names.into_iter().map(|name| rooms::name.eq(name)).collect();
//!     let creating = session.with_write(async |conn| {
//!         diesel::insert_into(rooms::table).values(names).execute(conn).await
//!     });
//!     creating.await.map_err(failed)?;
//!     Ok(StatusCode::CREATED)
//! }
//! # fn route() -> axum::Router { axum::Router::new().route("/", axum::routing::post(create)) }
//! ```
//!
//! # When there is none
//!
//! The client gets a [`Rejection`]: 503 when the same request may succeed a moment later, else 500.

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
