//! The response when a handler's argument cannot be had.

use crate::error::Error;
use axum_core::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header::RETRY_AFTER};
use std::fmt;
use tracing::{error, warn};

/// Why a handler got no connection: as a response 503 with `Retry-After` when the same request may succeed a moment
/// later, else 500.
///
/// The response says nothing of nodes; the reason is logged when this is made. A handler that asks its
/// [`Session`](crate::Session) for connections can return it as well: an [`Error`] turns into one.
#[derive(Debug)]
pub struct Rejection(Option<Error>);

/// Probes run several times a second.
const A_SECOND: HeaderValue = HeaderValue::from_static("1");

impl Rejection {
    /// Logs what to do.
    pub(super) fn without_layer() -> Self {
        error!(
            "no causal session for this request: put `diesel_replicas::tower::CausalLayer` around the routes"
        );
        Self(None)
    }

    /// What the router said; `None` when there was no [`CausalLayer`](crate::tower::CausalLayer) to give the request a
    /// session.
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

/// Logs the error.
impl From<Error> for Rejection {
    fn from(error: Error) -> Self {
        match error.is_unavailable() {
            true => warn!(%error, "no connection for a request"),
            false => error!(%error, "no connection for a request"),
        }
        Self(Some(error))
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(text)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn who_forgot_the_layer_is_told_which() {
        let log = Log::default();
        let writer = log.clone();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        let rejection = tracing::subscriber::with_default(subscriber, Rejection::without_layer);
        assert_eq!(rejection.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        assert!(log.contains("ERROR") && log.contains("`diesel_replicas::tower::CausalLayer`"), "{log}");
    }

    #[test]
    fn a_response_says_nothing_of_nodes() {
        let lost = || Error::Lost { node: "db-1.internal".to_owned() };
        let unknown = || Error::UnknownNode { node: "db-1.internal".to_owned() };
        for (error, status) in
            [(lost(), StatusCode::SERVICE_UNAVAILABLE), (unknown(), StatusCode::INTERNAL_SERVER_ERROR)]
        {
            let rejection = Rejection::from(error);
            assert!(!rejection.to_string().contains("db-1"));
            assert!(rejection.error().is_some_and(|error| error.to_string().contains("db-1")));
            let response = rejection.into_response();
            assert_eq!(response.status(), status);
            let retries = response.headers().contains_key(RETRY_AFTER);
            assert_eq!(retries, status == StatusCode::SERVICE_UNAVAILABLE);
        }
    }
}
