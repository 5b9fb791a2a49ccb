//! The read handle.

use diesel_async::AsyncPgConnection;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use super::freshness::{Eventual, Freshness};
use super::pipeline::Pipeline;
use super::snapshot::Snapshot;
use crate::failure::Cause;
use crate::pool::Lease;
use crate::query::{ReadOnly, Target, Token};

/// A connection on which only reads compile.
///
/// ```no_run
/// # use diesel::prelude::*;
/// # use diesel_replicas::{ReadConn, RunQueryDsl};
/// # diesel::table! { rooms (id) { id -> BigInt, name -> Text, } }
/// # async fn example(mut conn: ReadConn) -> QueryResult<()> {
/// let names: Vec<String> = rooms::table.select(rooms::name).load(&mut conn).await?;
/// # Ok(()) }
/// ```
///
/// An insert, an update, a delete, a select that locks rows, and raw SQL that has not been
/// [asserted](crate::AssertReadOnlyDsl) to only read do not compile:
///
/// ```compile_fail,E0277
/// # use diesel::prelude::*;
/// # use diesel_replicas::{ReadConn, RunQueryDsl};
/// # diesel::table! { rooms (id) { id -> BigInt, name -> Text, } }
/// # async fn example(mut conn: ReadConn) -> QueryResult<()> {
/// // error[E0277]: `INSERT` is not allowed on a read-only connection
/// diesel::insert_into(rooms::table).values(rooms::name.eq("lobby")).execute(&mut conn).await?;
/// # Ok(()) }
/// ```
///
/// There is no way to the connection behind it. For several reads of one state use a [snapshot](Self::snapshot),
/// for several reads at a time a [pipeline](Self::pipeline). Functions that only read should take a
/// [`Reader`](crate::Reader), to which a `&mut ReadConn` coerces.
///
/// `F` says how fresh what it reads is: [`Eventual`], unless the request asked for [more](crate::ReadRequest).
// No `Deref`, `DerefMut` or `AsMut` to the connection: diesel-async takes everything that has `DerefMut` to a
// connection for a connection, and `&AsyncPgConnection` for one too; each would let writes through.
pub struct ReadConn<F = Eventual> {
    lease: Lease,
    /// Shows whoever has the others that this handle is out.
    _out: Option<Arc<()>>,
    freshness: PhantomData<fn() -> F>,
}

impl<F> ReadConn<F> {
    /// The pool must have made the session of `lease` read-only on the server, except for [`WriteConn::as_read`].
    ///
    /// [`WriteConn::as_read`]: crate::WriteConn::as_read
    pub(crate) fn new(mut lease: Lease, out: Option<Arc<()>>) -> Self {
        lease.hand_out();
        Self { lease, _out: out, freshness: PhantomData }
    }

    /// The name of the node that serves this connection.
    pub fn node(&self) -> &str {
        self.lease.node()
    }

    /// Whether the last call was lost for a cause that another node need not have.
    pub(crate) fn lost_a_call(&self) -> bool {
        self.lease.heard().is_some_and(Cause::is_of_the_node)
    }

    pub(super) fn raw(&self) -> &AsyncPgConnection {
        &self.lease
    }

    pub(super) fn raw_mut(&mut self) -> &mut AsyncPgConnection {
        &mut self.lease
    }
}

impl<F: Freshness> ReadConn<F> {
    /// A handle for several reads at a time on this one connection.
    pub fn pipeline(&self) -> Pipeline<'_, F> {
        Pipeline::new(self.raw())
    }

    /// A transaction that sees one state of the database throughout.
    pub fn snapshot(&mut self) -> Snapshot<'_, F> {
        Snapshot::new(self)
    }
}

impl<F> Target for ReadConn<F> {
    type Mode = ReadOnly;
    type Raw = AsyncPgConnection;

    fn __raw(&mut self, _: Token) -> &mut AsyncPgConnection {
        self.raw_mut()
    }
}

// For `&mut conn` where `conn` is a `&mut ReadConn` already, which diesel-async allows for its connections.
impl<F> Target for &mut ReadConn<F> {
    type Mode = ReadOnly;
    type Raw = AsyncPgConnection;

    fn __raw(&mut self, _: Token) -> &mut AsyncPgConnection {
        self.raw_mut()
    }
}

impl<F> fmt::Debug for ReadConn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadConn").field("node", &self.node()).finish_non_exhaustive()
    }
}
