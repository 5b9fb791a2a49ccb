//! The database as a handler sees it.

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};

use axum::extract::{FromRequestParts, Request};
use axum::http::HeaderValue;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::Response;
use diesel_replicas::{ReadConn, Router, WriteConn};

use crate::api::App;
use crate::error::ApiError;

/// Hands a request its connections.
///
/// It is asked for a connection once the request has been read and checked, so that a slow client holds none.
pub struct Db {
    router: Router,
    migrated: bool,
    served_by: ServedBy,
}

impl Db {
    /// A connection to a healthy replica. What writes does not compile on it.
    pub async fn read(&self) -> Result<ReadConn, ApiError> {
        self.check_schema()?;
        let conn = self.router.read().await?;
        self.served_by.note(conn.node());
        Ok(conn)
    }

    /// A connection to the primary.
    pub async fn write(&self) -> Result<WriteConn, ApiError> {
        self.check_schema()?;
        let conn = self.router.write().await?;
        self.served_by.note(conn.node());
        Ok(conn)
    }

    fn check_schema(&self) -> Result<(), ApiError> {
        if self.migrated { Ok(()) } else { Err(ApiError::Unavailable("starting: waiting for the database")) }
    }
}

impl FromRequestParts<App> for Db {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Infallible> {
        let served_by = parts.extensions.get_or_insert_default::<ServedBy>().clone();
        Ok(Self { router: app.router.clone(), migrated: app.migrated.is_done(), served_by })
    }
}

/// The node that served a request, filled in when a connection is checked out.
#[derive(Debug, Default, Clone)]
struct ServedBy(Arc<OnceLock<HeaderValue>>);

impl ServedBy {
    fn note(&self, node: &str) {
        if let Ok(node) = HeaderValue::from_bytes(node.as_bytes()) {
            // A request takes one connection; were there more, the first would be named.
            self.0.get_or_init(|| node);
        }
    }
}

/// Names the node in `x-served-by` of every answer that used the database, be it an error.
pub async fn name_node(mut request: Request, next: Next) -> Response {
    let served_by = request.extensions_mut().get_or_insert_default::<ServedBy>().clone();
    let mut response = next.run(request).await;
    if let Some(node) = served_by.0.get() {
        response.headers_mut().insert("x-served-by", node.clone());
    }
    response
}
