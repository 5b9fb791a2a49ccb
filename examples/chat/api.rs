//! The HTTP side: routes, and what holds for all of them.
//!
//! | request | answer |
//! |---|---|
//! | `POST /api/users {"name"}` | 201 and the user; 409 when the name is taken |
//! | `GET /api/users?name=` | up to 100 users, or the one of that name |
//! | `POST /api/rooms {"name"}` | 201 and the room; 409 when there is one of that name |
//! | `GET /api/rooms?user_id=` | up to 500 rooms with message count, last message and, for a user, unread count |
//! | `POST /api/rooms/{id}/messages {"author_id", "body", "client_key"?}` | 201 and the message; 200 when it was sent before |
//! | `GET /api/rooms/{id}/messages?before=&limit=` | messages older than `before`, newest first |
//! | `GET /api/rooms/{id}/search?q=&before=&limit=` | those with words that begin with each of the terms |
//! | `PUT /api/rooms/{id}/read {"user_id", "message_id"}` | how far the user has read now |
//! | `GET /api/totals` | how many users, rooms and messages there are, or were a moment ago |
//! | `GET /api/status` | the nodes of the database: roles, health, lag and work ([`status`]) |
//! | `GET /api/history` | their last five minutes: lag, reads and health, second by second ([`history`]) |
//! | `GET /metrics` | what the router measures, for Prometheus ([`crate::metrics`]) |
//! | `GET /healthz` | 200 as long as the process lives |
//!
//! `limit` is 1 to 100 (50). A request has at most 64 KiB and 10 seconds. The lengths of texts: [`crate::text`].
//!
//! Who writes sees it in the next read, and never less than before, whichever node answers. For that, answers carry a causal token
//! in the header `x-causal-token` whenever there is a new one: the client sends the greatest text that it was given along with each
//! request. An answer with a smaller text than the request had, or with none, says that the service has dropped that one, and so
//! should the client. Clients that keep cookies need to do nothing: after a write, the cookie `causal_token` holds the token for
//! an hour.

mod history;
mod messages;
mod rooms;
mod status;
mod totals;
mod users;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use diesel_replicas::tower::{CausalCookie, CausalLayer};
use diesel_replicas::{Router, TokenKeys};

use crate::error::ApiError;
use crate::history::History;
use crate::metrics::Metrics;
use crate::{db, page};

/// What all requests share.
#[derive(Clone)]
pub struct App {
    pub router: Router,
    pub migrated: Migrated,
    pub history: History,
    pub metrics: Metrics,
}

/// Whether the schema stands.
#[derive(Debug, Clone, Default)]
pub struct Migrated(Arc<AtomicBool>);

impl Migrated {
    pub fn done(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub fn is_done(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// No request takes longer. The router gives up on a checkout before that; this ends a query that a node never answers.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest message fits even with every character written as an escape of twelve bytes.
const MAX_BODY: usize = 64 * 1024;

pub fn service(app: App, keys: TokenKeys) -> axum::Router {
    let causal = CausalLayer::signed(&app.router, keys)
        .monotonic_reads(true)
        // Over plain HTTP, browsers give no other one back.
        .cookie(CausalCookie::default().secure(false));
    axum::Router::new()
        .route("/api/users", post(users::create).get(users::list))
        .route("/api/rooms", post(rooms::create).get(rooms::list))
        .route("/api/rooms/{id}/messages", post(messages::post).get(messages::history))
        .route("/api/rooms/{id}/search", get(messages::search))
        .route("/api/rooms/{id}/read", put(rooms::mark_read))
        .route("/api/totals", get(totals::count))
        .route("/api/status", get(status::database))
        .route("/api/history", get(history::nodes))
        .route("/metrics", get(async |State(app): State<App>| app.metrics.render()))
        .route("/healthz", get(status::healthz))
        .merge(page::routes())
        .fallback(async || ApiError::not_found("no such page"))
        .method_not_allowed_fallback(async || {
            ApiError::refused(StatusCode::METHOD_NOT_ALLOWED, "this method is not allowed here")
        })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn(end_in_time))
        .layer(middleware::from_fn(db::name_node))
        .layer(causal)
        .with_state(app)
}

/// Dropping a handler drops its connection, whose query the router then cancels.
async fn end_in_time(request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    match tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            tracing::warn!(path, "request timed out");
            ApiError::Unavailable("this took too long, try again").into_response()
        }
    }
}
