//! The database as a handler sees it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::{FromRequestParts, Request};
use axum::http::HeaderValue;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::Response;
use diesel_replicas::axum::Rejection;
use diesel_replicas::{Causal, ReadConn, ReadFn, Session, WriteConn};

use crate::api::App;
use crate::error::ApiError;

/// Hands a request its connections, to nodes that show all that its client has seen and written before.
///
/// It is asked for a connection once the request has been read and checked, so that a slow client holds none.
pub struct Db {
    session: Session,
    migrated: bool,
    served_by: ServedBy,
}

impl Db {
    /// Runs `read` on a replica as a rule, and once more on another node if the first one is lost under it. What writes does not
    /// compile in it.
    pub async fn read<R, F>(&self, read: F) -> Result<R, ApiError>
    where
        for<'r> F: AsyncFn(&'r mut ReadConn<Causal>) -> Result<R, ApiError>
            + ReadFn<&'r mut ReadConn<Causal>, Result<R, ApiError>>,
    {
        self.check_schema()?;
        let attempt = async || {
            self.session
                .with_read(async |conn| {
                    self.served_by.note(conn.node());
                    read(conn).await
                })
                .await
        };
        match attempt().await {
            // What the client has seen is nowhere to be had: it is served like one that has seen nothing.
            Err(ApiError::InvalidToken) => {
                self.session.forget();
                attempt().await
            }
            outcome => outcome,
        }
    }

    /// A connection to the primary. What is committed on it is in the client's next read.
    pub async fn write(&self) -> Result<WriteConn, ApiError> {
        self.check_schema()?;
        let conn = self.session.write().await?;
        self.served_by.note(conn.node());
        Ok(conn)
    }

    fn check_schema(&self) -> Result<(), ApiError> {
        if self.migrated { Ok(()) } else { Err(ApiError::STARTING) }
    }
}

impl FromRequestParts<App> for Db {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Rejection> {
        let served_by = parts.extensions.get_or_insert_default::<ServedBy>().clone();
        let session = Session::from_request_parts(parts, app).await?;
        Ok(Self { session, migrated: app.migrated.is_done(), served_by })
    }
}

/// The node that served a request, filled in when a connection is checked out; of several attempts the last one's.
#[derive(Debug, Default, Clone)]
struct ServedBy(Arc<Mutex<Option<HeaderValue>>>);

impl ServedBy {
    fn note(&self, node: &str) {
        *self.node() = HeaderValue::from_bytes(node.as_bytes()).ok();
    }

    fn node(&self) -> MutexGuard<'_, Option<HeaderValue>> {
        // One assignment: a panic leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Names the node in `x-served-by` of every answer that used the database, be it an error.
pub async fn name_node(mut request: Request, next: Next) -> Response {
    let served_by = request.extensions_mut().get_or_insert_default::<ServedBy>().clone();
    let mut response = next.run(request).await;
    if let Some(node) = served_by.node().take() {
        response.headers_mut().insert("x-served-by", node);
    }
    response
}
