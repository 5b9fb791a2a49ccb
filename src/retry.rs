//! Which failed reads may be tried again, and how many.

mod budget;

pub(crate) use budget::Retries;
pub use budget::RetryBudget;

use crate::error::Error;
use crate::failure::Cause;
use diesel::result::{DatabaseErrorInformation, DatabaseErrorKind, Error as QueryError};

/// Tells the errors after which [`Router::with_read`](crate::Router::with_read) may run its closure once more on another node
/// from those that would only come again.
///
/// Implemented for Diesel's error, for [`Error`] and for boxed errors that hold one of them. For an error type of
/// your own:
///
/// ```
/// use diesel_replicas::Retry;
///
/// #[derive(Debug)]
/// enum ApiError {
///     NotFound,
///     Database(diesel::result::Error),
///     Router(diesel_replicas::Error),
/// }
///
/// impl From<diesel_replicas::Error> for ApiError {
///     fn from(error: diesel_replicas::Error) -> Self {
///         Self::Router(error)
///     }
/// }
///
/// impl Retry for ApiError {
///     fn is_retryable(&self) -> bool {
///         match self {
///             Self::NotFound => false,
///             Self::Database(error) => error.is_retryable(),
///             Self::Router(error) => error.is_retryable(),
///         }
///     }
/// }
/// ```
pub trait Retry {
    /// Whether the error is the node's doing: a lost connection, a recovery conflict, an expired cached plan, a node that shuts
    /// down. Never for an error of the query's own, such as a row that was not found.
    fn is_retryable(&self) -> bool;
}

impl Retry for QueryError {
    fn is_retryable(&self) -> bool {
        matches!(Cause::of(self), Cause::Node | Cause::RecoveryConflict | Cause::StalePlan)
    }
}

impl Retry for Error {
    /// A node that [stopped to answer](Self::Lost). What gave no connection has been through all nodes already.
    fn is_retryable(&self) -> bool {
        matches!(self, Self::Lost { .. })
    }
}

impl Retry for Box<dyn std::error::Error + Send + Sync> {
    fn is_retryable(&self) -> bool {
        let query = self.downcast_ref().is_some_and(QueryError::is_retryable);
        query || self.downcast_ref().is_some_and(Error::is_retryable)
    }
}

/// So that a closure whose error is Diesel's alone can be run by the router: it becomes a command that could not be sent, with the
/// text of the error.
impl From<Error> for QueryError {
    fn from(error: Error) -> Self {
        Self::DatabaseError(DatabaseErrorKind::UnableToSendCommand, Box::new(NotSent(error.to_string())))
    }
}

struct NotSent(String);

impl DatabaseErrorInformation for NotSent {
    fn message(&self) -> &str {
        &self.0
    }

    fn details(&self) -> Option<&str> {
        None
    }

    fn hint(&self) -> Option<&str> {
        None
    }

    fn table_name(&self) -> Option<&str> {
        None
    }

    fn column_name(&self) -> Option<&str> {
        None
    }

    fn constraint_name(&self) -> Option<&str> {
        None
    }

    fn statement_position(&self) -> Option<i32> {
        None
    }
}
