//! Several reads at a time.

use diesel_async::AsyncPgConnection;
use std::fmt;
use std::marker::PhantomData;

use super::freshness::{AtLeast, Causal, Eventual, Freshness, Latest};
use super::read::ReadConn;
use super::reader::{Readable, ReadableCausal, ReadableLatest};
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
///
/// It is as [fresh](crate::Freshness) as the connection that it was made from. A fresher one turns into a staler one with `.into()`
/// as well.
pub struct Pipeline<'a, F = Eventual> {
    pg: &'a AsyncPgConnection,
    freshness: PhantomData<fn() -> F>,
}

impl<'a, F> Pipeline<'a, F> {
    pub(super) fn new(pg: &'a AsyncPgConnection) -> Self {
        Self { pg, freshness: PhantomData }
    }
}

impl<'a, F: Freshness, G: AtLeast<F>> From<&'a ReadConn<G>> for Pipeline<'a, F> {
    fn from(conn: &'a ReadConn<G>) -> Self {
        Self::new(conn.raw())
    }
}

impl<'a, F: Freshness> From<&'a WriteConn> for Pipeline<'a, F> {
    fn from(conn: &'a WriteConn) -> Self {
        Self::new(conn)
    }
}

impl<'a, F: Freshness> From<&'a AsyncPgConnection> for Pipeline<'a, F> {
    fn from(pg: &'a AsyncPgConnection) -> Self {
        Self::new(pg)
    }
}

macro_rules! from_readers {
    ($($reader:ty => $freshness:ty;)+) => {$(
        impl<'a, F: Freshness> From<&'a $reader> for Pipeline<'a, F>
        where
            $freshness: AtLeast<F>,
        {
            fn from(conn: &'a $reader) -> Self {
                Self::new(conn.__pg(Token(())))
            }
        }
    )+};
}

from_readers! {
    dyn Readable => Eventual;
    dyn ReadableCausal => Causal;
    dyn ReadableLatest => Latest;
}

macro_rules! conversions {
    ($($(#[$hidden:meta])? $from:ty => $to:ty;)+) => {$(
        $(#[$hidden])?
        impl<'a> From<Pipeline<'a, $from>> for Pipeline<'a, $to>
        where
            for<'used> $from: AtLeast<$to>,
        {
            fn from(pipeline: Pipeline<'a, $from>) -> Self {
                Self::new(pipeline.pg)
            }
        }
    )+};
}

// The hidden ones never apply: they lead the compiler to what `AtLeast` has to say. A bound with a `for` it checks where
// the conversion is used, and not here.
conversions! {
    #[doc(hidden)]
    Eventual => Causal;
    #[doc(hidden)]
    Eventual => Latest;
    Causal => Eventual;
    #[doc(hidden)]
    Causal => Latest;
    Latest => Eventual;
    Latest => Causal;
}

// Derived, they would ask the same of `F`.
impl<F> Clone for Pipeline<'_, F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F> Copy for Pipeline<'_, F> {}

// The raw connection is `&AsyncPgConnection`, which diesel-async can use by shared reference: its futures borrow from
// the connection, not from this handle's field, so that several of them can live at once.
impl<'a, F> Target for Pipeline<'a, F> {
    type Mode = ReadOnly;
    type Raw = &'a AsyncPgConnection;

    fn __raw(&mut self, _: Token) -> &mut &'a AsyncPgConnection {
        &mut self.pg
    }
}

impl<F> fmt::Debug for Pipeline<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipeline").finish_non_exhaustive()
    }
}
