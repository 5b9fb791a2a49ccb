//! A transaction that reads.

use diesel::result::Error;
use diesel_async::{AnsiTransactionManager, TransactionManager};
use futures_util::FutureExt;
use std::fmt;

use super::freshness::{Eventual, Freshness};
use super::read::ReadConn;

/// A transaction that reads one state of the database: what others commit while it runs is not seen.
///
/// ```no_run
/// use diesel::prelude::*;
/// use diesel_replicas::{ReadConn, RunQueryDsl};
/// # diesel::table! { rooms (id) { id -> BigInt, name -> Text, } }
///
/// # async fn example(mut conn: ReadConn) -> QueryResult<()> {
/// let (total, page) = conn
///     .snapshot()
///     .run(async |conn| {
///         let total: i64 = rooms::table.count().get_result(conn).await?;
///         let page: Vec<(i64, String)> = rooms::table.order(rooms::id).limit(20).load(conn).await?;
///         QueryResult::Ok((total, page))
///     })
///     .await?;
/// # Ok(()) }
/// ```
///
/// It is `REPEATABLE READ, READ ONLY`. That works on every node; [`serializable`](Self::serializable) does not.
#[must_use = "a snapshot is only taken when it is `run`"]
pub struct Snapshot<'a, F = Eventual> {
    conn: &'a mut ReadConn<F>,
    level: Level,
}

#[derive(Debug, Clone, Copy)]
enum Level {
    RepeatableRead,
    Serializable,
    SerializableDeferrable,
}

impl<'a, T: Freshness> Snapshot<'a, T> {
    pub(super) fn new(conn: &'a mut ReadConn<T>) -> Self {
        Self { conn, level: Level::RepeatableRead }
    }

    /// Makes the transaction `SERIALIZABLE`: what it reads is consistent with some order of the transactions that
    /// write, at the price that it may fail with a serialization error.
    ///
    /// A replica cannot do this ("cannot use serializable mode in a hot standby"): only on the primary.
    pub fn serializable(self) -> Self {
        Self { level: Level::Serializable, ..self }
    }

    /// Makes the transaction `SERIALIZABLE` and `DEFERRABLE`: it waits for a state that is safe to read, and then
    /// can neither fail with a serialization error nor make others fail. For long reports.
    ///
    /// As with [`serializable`](Self::serializable), only on the primary.
    pub fn deferrable(self) -> Self {
        Self { level: Level::SerializableDeferrable, ..self }
    }

    /// Runs the closure in the transaction, and ends the transaction whether the closure succeeds or fails.
    ///
    /// # Errors
    ///
    /// What the closure returns, or Diesel's error if the transaction cannot begin or end. It cannot begin inside
    /// of another ([`AlreadyInTransaction`](Error::AlreadyInTransaction)).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the transaction stays open on this connection, which will then begin no other one;
    /// drop the handle too. A connection that comes back with an open transaction is never handed out again.
    pub async fn run<R, E, F>(self, callback: F) -> Result<R, E>
    where
        for<'r> F:
            AsyncFnOnce(&'r mut ReadConn<T>) -> Result<R, E> + SendFn<&'r mut ReadConn<T>, Result<R, E>>,
        E: From<Error>,
    {
        let begin = match self.level {
            Level::RepeatableRead => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
            Level::Serializable => "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY",
            Level::SerializableDeferrable => "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE",
        };
        let conn = self.conn;
        AnsiTransactionManager::begin_transaction_sql(conn.raw_mut(), begin).await?;
        // Boxed, so that the whole call is `Send` also where the error is a trait object.
        match callback(&mut *conn).boxed().await {
            Ok(value) => {
                AnsiTransactionManager::commit_transaction(conn.raw_mut()).await?;
                Ok(value)
            }
            Err(error) => match AnsiTransactionManager::rollback_transaction(conn.raw_mut()).await {
                // The closure's error is what broke the transaction, and says more.
                Ok(()) | Err(Error::BrokenTransactionManager) => Err(error),
                Err(rollback) => Err(rollback.into()),
            },
        }
    }
}

impl<F> fmt::Debug for Snapshot<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("conn", &self.conn).field("level", &self.level).finish()
    }
}

/// An async closure that can be called once and whose future is `Send`.
///
/// Implemented for every such closure. `AsyncFnOnce` alone has no stable way to ask that its future be `Send`.
pub trait SendFn<T, R>: AsyncFnOnce(T) -> R + FnOnce(T) -> <Self as SendFn<T, R>>::Future + Send {
    /// The future that the closure returns.
    type Future: Future<Output = R> + Send;
}

impl<F, T, R, Fut> SendFn<T, R> for F
where
    F: AsyncFnOnce(T) -> R + FnOnce(T) -> Fut + Send,
    Fut: Future<Output = R> + Send,
{
    type Future = Fut;
}
