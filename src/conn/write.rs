//! The write handle.

use diesel::QueryResult;
use diesel::result::{DatabaseErrorKind, Error};
use diesel_async::AsyncPgConnection;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use super::commit::{self, Written};
use super::freshness::Latest;
use super::pipeline::Pipeline;
use super::read::ReadConn;
use crate::freshness::{CausalToken, History};
use crate::pool::Lease;

/// A connection to the primary, for every statement.
///
/// A query that is dropped with its handle is cancelled by itself. A [`cancel_token`](AsyncPgConnection::cancel_token) of
/// one's own does not work with `NoTls`: on TCP this crate listens to the protocol in the place where TLS would be.
///
/// It derefs to [`AsyncPgConnection`], so that code that took a pooled connection takes this one as it is:
///
/// ```no_run
/// use diesel::prelude::*;
/// use diesel_async::{AsyncConnection, AsyncPgConnection};
/// use diesel_replicas::{RunQueryDsl, WriteConn};
/// # diesel::table! { rooms (id) { id -> BigInt, name -> Text, } }
///
/// async fn create(conn: &mut AsyncPgConnection, name: &str) -> QueryResult<i64> {
///     diesel::insert_into(rooms::table).values(rooms::name.eq(name)).returning(rooms::id).get_result(conn).await
/// }
///
/// # async fn example(mut conn: WriteConn) -> QueryResult<()> {
/// let (first, second) = conn
///     .transaction(async |conn| {
///         let first = create(conn, "lobby").await?;
///         let second = create(conn, "attic").await?;
///         diesel::result::QueryResult::Ok((first, second))
///     })
///     .await?;
/// # Ok(()) }
/// ```
pub struct WriteConn {
    /// Kept as a read handle, so that it can be lent out as one.
    read: ReadConn<Latest>,
    /// The system identifier of the cluster, where it is known.
    system: Option<u64>,
}

impl WriteConn {
    /// The lease must come from a pool of the primary whose sessions may write.
    pub(crate) fn new(lease: Lease, history: Option<History>, session: Option<Arc<()>>) -> Self {
        Self { read: ReadConn::new(lease, session), system: history.and_then(|history| history.system) }
    }

    /// The name of the node that serves this connection.
    pub fn node(&self) -> &str {
        self.read.node()
    }

    /// This connection as one on which only reads compile.
    ///
    /// The session stays one that may write: what the types cannot see, such as a function that writes, is not
    /// stopped by the server here as it is on a handle from `router.read()`. Inside a
    /// [snapshot](ReadConn::snapshot) it is.
    pub fn as_read(&mut self) -> &mut ReadConn<Latest> {
        &mut self.read
    }

    /// A token of all that has been committed up to now, on this connection and on every other one: a read
    /// [after](crate::ReadRequest::after) it sees that. Costs a round trip, which [`Router::with_write`](crate::Router::with_write)
    /// saves.
    ///
    /// What was committed under `SET LOCAL synchronous_commit = off` is covered once the server has written it to its log, some
    /// 200 ms later; set for the session, it is covered at once.
    ///
    /// # Errors
    ///
    /// Diesel's, if the server cannot be asked or does not tell; and one if a transaction is open that has written something: there is
    /// no token of a commit before the commit.
    ///
    /// # Cancel safety
    ///
    /// A dropped call changes nothing.
    pub async fn causal_token(&mut self) -> QueryResult<CausalToken> {
        let Written { timeline, lsn } = commit::position(self).await?.ok_or_else(uncommitted)?;
        Ok(CausalToken::new(self.system, timeline, lsn))
    }

    /// Commits the transaction that is open, and returns its token as far as the server tells where it is.
    pub(crate) async fn commit(&mut self) -> QueryResult<CausalToken> {
        let prepared = self.lease().commits();
        let Written { timeline, lsn } = commit::commit(self, prepared).await?;
        Ok(CausalToken::new(self.system, timeline, lsn))
    }

    fn lease(&self) -> &Lease {
        self.read.lease()
    }

    /// A handle for several reads at a time on this one connection.
    pub fn pipeline(&self) -> Pipeline<'_, Latest> {
        Pipeline::from(self)
    }
}

fn uncommitted() -> Error {
    let text = "a transaction with writes is open: ask for its token once it has been committed";
    Error::DatabaseError(DatabaseErrorKind::Unknown, Box::new(text.to_owned()))
}

impl Deref for WriteConn {
    type Target = AsyncPgConnection;

    fn deref(&self) -> &AsyncPgConnection {
        self.read.raw()
    }
}

impl DerefMut for WriteConn {
    fn deref_mut(&mut self) -> &mut AsyncPgConnection {
        self.read.raw_mut()
    }
}

impl fmt::Debug for WriteConn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteConn").field("node", &self.node()).finish_non_exhaustive()
    }
}
