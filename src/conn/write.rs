//! The write handle.

use diesel_async::AsyncPgConnection;
use std::fmt;
use std::ops::{Deref, DerefMut};

use super::pipeline::Pipeline;
use super::read::ReadConn;
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
    read: ReadConn,
}

impl WriteConn {
    /// The lease must come from a pool of the primary whose sessions may write.
    pub(crate) fn new(lease: Lease) -> Self {
        Self { read: ReadConn::new(lease) }
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
    pub fn as_read(&mut self) -> &mut ReadConn {
        &mut self.read
    }

    /// Whether a statement of the open transaction has failed: see [`Lease::transaction_failed`].
    pub(crate) async fn transaction_failed(&self) -> Option<bool> {
        self.read.lease().transaction_failed().await
    }

    /// A handle for several reads at a time on this one connection.
    pub fn pipeline(&self) -> Pipeline<'_> {
        Pipeline::from(self)
    }
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
