//! Several reads at a time.

use diesel_async::AsyncPgConnection;
use std::fmt;

use super::read::ReadConn;
use super::reader::Reader;
use super::write::WriteConn;
use crate::query::{ReadOnly, Target, Token};

/// A handle for several reads at a time on one connection: the queries are sent one after the other without waiting
/// for the answers in between.
///
/// It is `Copy`. Every read in flight takes a copy of its own:
///
/// ```no_run
/// use diesel::prelude::*;
/// use diesel_replicas::{Pipeline, ReadConn, RunQueryDsl};
/// # diesel::table! { rooms (id) { id -> BigInt, name -> Text, } }
/// # diesel::table! { users (id) { id -> BigInt, name -> Text, } }
///
/// async fn count_rooms(mut conn: Pipeline<'_>) -> QueryResult<i64> {
///     rooms::table.count().get_result(&mut conn).await
/// }
///
/// async fn count_users(mut conn: Pipeline<'_>) -> QueryResult<i64> {
///     users::table.count().get_result(&mut conn).await
/// }
///
/// # async fn example(conn: ReadConn) -> QueryResult<()> {
/// let pipeline = conn.pipeline();
/// let (rooms, users) = tokio::try_join!(count_rooms(pipeline), count_users(pipeline))?;
/// # Ok(()) }
/// ```
///
/// A function written for diesel-async as `mut conn: &AsyncPgConnection` turns read-only when that type becomes
/// `Pipeline<'_>`; its body stays as it is, and its callers convert with `.into()`.
#[derive(Clone, Copy)]
pub struct Pipeline<'a> {
    pg: &'a AsyncPgConnection,
}

impl<'a> From<&'a ReadConn> for Pipeline<'a> {
    fn from(conn: &'a ReadConn) -> Self {
        Self { pg: conn.raw() }
    }
}

impl<'a> From<&'a WriteConn> for Pipeline<'a> {
    fn from(conn: &'a WriteConn) -> Self {
        Self { pg: conn }
    }
}

impl<'a> From<&'a AsyncPgConnection> for Pipeline<'a> {
    fn from(pg: &'a AsyncPgConnection) -> Self {
        Self { pg }
    }
}

impl<'a> From<&'a Reader> for Pipeline<'a> {
    fn from(conn: &'a Reader) -> Self {
        Self { pg: conn.__pg(Token(())) }
    }
}

// The raw connection is `&AsyncPgConnection`, which diesel-async can use by shared reference: its futures borrow from
// the connection, not from this handle's field, so that several of them can live at once.
impl<'a> Target for Pipeline<'a> {
    type Mode = ReadOnly;
    type Raw = &'a AsyncPgConnection;

    fn __raw(&mut self, _: Token) -> &mut &'a AsyncPgConnection {
        &mut self.pg
    }
}

impl fmt::Debug for Pipeline<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipeline").finish_non_exhaustive()
    }
}
