//! The response when a handler's argument cannot be had.

use crate::error::Error;
use axum_core::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header::RETRY_AFTER};
use std::fmt;
use tracing::{error, warn};

/// Why a handler got no connection: 503 with `Retry-After` when the same request may succeed a moment later, else 500. The text for the
/// client names no node; the reason has been logged.
#[derive(Debug)]
pub struct Rejection(Option<Error>);

/// Probes run several times a second.
const A_SECOND: HeaderValue = HeaderValue::from_static("1");

impl Rejection {
    /// Logs it, too.
    pub(super) fn without_layer() -> Self {
        error!(
            "no causal session for this request: put `diesel_replicas::tower::CausalLayer` around the routes"
        );
        Self(None)
    }

    /// What the router said; `None` if the request has no session, because there is no layer to give it one.
    pub fn error(&self) -> Option<&Error> {
        self.0.as_ref()
    }

    /// The status of the response.
    pub fn status(&self) -> StatusCode {
        match self.is_unavailable() {
            true => StatusCode::SERVICE_UNAVAILABLE,
            false => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The text of the response.
    pub fn body_text(&self) -> &'static str {
        match self.is_unavailable() {
            true => "the database is not available right now, try again",
            false => "internal error",
        }
    }

    fn is_unavailable(&self) -> bool {
        self.0.as_ref().is_some_and(Error::is_unavailable)
    }
}

/// Logs it, too.
impl From<Error> for Rejection {
    fn from(error: Error) -> Self {
        let rejection = Self(Some(error));
        match rejection.is_unavailable() {
            true => warn!(
                error = rejection.0.as_ref().map(tracing::field::display),
                "no connection for a request"
            ),
            false => error!(
                error = rejection.0.as_ref().map(tracing::field::display),
                "no connection for a request"
            ),
        }
        rejection
    }
}

impl IntoResponse for Rejection {
    fn into_response(self) -> Response {
        let mut response = (self.status(), self.body_text()).into_response();
        if self.is_unavailable() {
            response.headers_mut().insert(RETRY_AFTER, A_SECOND);
        }
        response
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.body_text())
    }
}

impl std::error::Error for Rejection {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.as_ref().map(|error| error as _)
    }
}
