//! What can go wrong in a request, and how the API says so: `{"error": "..."}` with a fitting status.

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel_replicas::{Error as RouterError, Retry};
use serde_json::json;

#[derive(Debug)]
pub enum ApiError {
    /// The request is at fault.
    Refused(StatusCode, String),
    /// No node can serve right now; trying again may help.
    Unavailable(&'static str),
    /// The node that served was lost meanwhile. Another one may do what only reads.
    Lost,
    /// What the client has seen is not of this database. Without its token it can be served.
    InvalidToken,
    /// Our fault. The cause is for the log, not for the client.
    Internal,
}

/// After how many seconds to try again when no node can serve. Health checks run several times a second.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

impl ApiError {
    pub const STARTING: Self = Self::Unavailable("starting: waiting for the database");
    const NO_PRIMARY: Self = Self::Unavailable("no primary takes writes right now");

    pub fn refused(status: StatusCode, message: impl Into<String>) -> Self {
        Self::Refused(status, message.into())
    }

    pub fn not_found(message: &str) -> Self {
        Self::refused(StatusCode::NOT_FOUND, message)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let answer = |status, message: &str| (status, Json(json!({ "error": message }))).into_response();
        let unavailable = |message| {
            let mut response = answer(StatusCode::SERVICE_UNAVAILABLE, message);
            response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
            response
        };
        match self {
            Self::Refused(status, message) => answer(status, &message),
            Self::Unavailable(message) => unavailable(message),
            Self::Lost => unavailable("the database node was lost, try again"),
            Self::InvalidToken => {
                unavailable("the causal token is not of this database, try again without it")
            }
            Self::Internal => answer(StatusCode::INTERNAL_SERVER_ERROR, "internal error"),
        }
    }
}

/// After which errors a read is worth a second run, on another node.
impl Retry for ApiError {
    fn is_retryable(&self) -> bool {
        matches!(self, Self::Lost)
    }
}

/// The router had no connection to give, or lost its node.
impl From<RouterError> for ApiError {
    fn from(error: RouterError) -> Self {
        tracing::warn!(%error, "the router could not serve");
        match error {
            // A promotion that has not been noticed here yet is no reason to forget what the client has seen.
            _ if error.is_invalid_token() && !error.is_unavailable() => Self::InvalidToken,
            RouterError::Lost { .. } => Self::Lost,
            RouterError::NoPrimary { .. } => Self::NO_PRIMARY,
            _ => Self::Unavailable("no database node can serve this right now"),
        }
    }
}

/// A query failed.
impl From<DieselError> for ApiError {
    fn from(error: DieselError) -> Self {
        use DatabaseErrorKind::{ForeignKeyViolation, ReadOnlyTransaction, UniqueViolation};

        match &error {
            DieselError::DatabaseError(kind @ (UniqueViolation | ForeignKeyViolation), info) => {
                if let Some((status, message)) = info.constraint_name().and_then(violated) {
                    return Self::refused(status, message);
                }
                tracing::error!(%error, ?kind, "unexpected constraint");
                Self::Internal
            }
            error if error.is_retryable() => {
                tracing::warn!(%error, "lost the node in a query");
                Self::Lost
            }
            // Demoted since the checkout.
            DieselError::DatabaseError(ReadOnlyTransaction, _) => {
                tracing::warn!(%error, "the primary takes no writes any more");
                Self::NO_PRIMARY
            }
            error => {
                tracing::error!(%error, "query failed");
                Self::Internal
            }
        }
    }
}

/// The constraints that a client can run into.
fn violated(constraint: &str) -> Option<(StatusCode, &'static str)> {
    Some(match constraint {
        "users_name_key" => (StatusCode::CONFLICT, "this name is taken"),
        "rooms_name_key" => (StatusCode::CONFLICT, "there is a room of this name already"),
        "messages_room_id_fkey" | "read_markers_room_id_fkey" => (StatusCode::NOT_FOUND, "no such room"),
        "messages_author_id_fkey" => (StatusCode::UNPROCESSABLE_ENTITY, "no user has this author_id"),
        "read_markers_user_id_fkey" => (StatusCode::UNPROCESSABLE_ENTITY, "no user has this user_id"),
        "read_markers_message_id_fkey" => {
            (StatusCode::UNPROCESSABLE_ENTITY, "no message of this room has this message_id")
        }
        _ => return None,
    })
}

impl From<JsonRejection> for ApiError {
    fn from(rejection: JsonRejection) -> Self {
        Self::refused(rejection.status(), rejection.body_text())
    }
}

impl From<PathRejection> for ApiError {
    fn from(rejection: PathRejection) -> Self {
        Self::refused(rejection.status(), rejection.body_text())
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        Self::refused(rejection.status(), rejection.body_text())
    }
}
