//! The verbs.

use diesel::AsChangeset;
use diesel::associations::{HasTable, Identifiable};
use diesel::dsl::{Limit, Update};
use diesel::query_builder::IntoUpdateTarget;
use diesel::query_dsl::methods::LimitDsl;
use diesel_async::methods::{ExecuteDsl, LoadQuery};
use diesel_async::return_futures::{GetResult, LoadFuture};
use diesel_async::{AsyncConnectionCore, UpdateAndFetchResults};
use futures_util::future::BoxFuture;

use super::effect::IsRead;
use super::target::{Permits, Target, Token};
use diesel::QueryResult;

/// The verbs of [`diesel_async::RunQueryDsl`], for handles that may be read-only.
///
/// Import it *instead of* diesel-async's. It works on diesel-async's own connections as well, so a module can switch
/// before the connections that it is given do. The futures are those of diesel-async, none is boxed.
///
/// On a read-only handle a verb compiles if the statement only reads; the message of the compiler names what it does
/// instead. All messages are explained in [`compiler_messages`](crate::compiler_messages).
///
/// # Errors
///
/// Every future resolves to what Diesel says of the query; a write that the types could not see is
/// [`DatabaseErrorKind::ReadOnlyTransaction`](diesel::result::DatabaseErrorKind::ReadOnlyTransaction) on a read-only
/// handle.
///
/// # Cancel safety
///
/// A future that is dropped leaves its query running on the server until the handle goes back to its pool, which
/// cancels it.
pub trait RunQueryDsl<Conn: ?Sized>: Sized {
    /// Runs the statement and returns how many rows it affected.
    fn execute<'conn, 'query>(
        self,
        conn: &'conn mut Conn,
    ) -> <Conn::Raw as AsyncConnectionCore>::ExecuteFuture<'conn, 'query>
    where
        Conn: Target<Mode: Permits<Self, Effect: IsRead>>,
        Self: ExecuteDsl<Conn::Raw> + 'query,
    {
        ExecuteDsl::execute(self, conn.__raw(Token(())))
    }

    /// Runs the query and returns its rows.
    fn load<'query, 'conn, U>(self, conn: &'conn mut Conn) -> LoadFuture<'conn, 'query, Self, Conn::Raw, U>
    where
        U: Send,
        Conn: Target<Mode: Permits<Self, Effect: IsRead>>,
        Self: LoadQuery<'query, Conn::Raw, U> + 'query,
    {
        diesel_async::RunQueryDsl::load(self, conn.__raw(Token(())))
    }

    /// Runs the query and returns a stream of its rows, for results that should not be in memory all at once.
    fn load_stream<'conn, 'query, U>(self, conn: &'conn mut Conn) -> Self::LoadFuture<'conn>
    where
        U: 'conn,
        Conn: Target<Mode: Permits<Self, Effect: IsRead>>,
        Conn::Raw: 'conn,
        Self: LoadQuery<'query, Conn::Raw, U> + 'query,
    {
        diesel_async::RunQueryDsl::load_stream(self, conn.__raw(Token(())))
    }

    /// Runs the query and returns its first row, or [`NotFound`](diesel::result::Error::NotFound). It puts no limit
    /// on the query: see [`first`](Self::first).
    fn get_result<'query, 'conn, U>(
        self,
        conn: &'conn mut Conn,
    ) -> GetResult<'conn, 'query, Self, Conn::Raw, U>
    where
        U: Send + 'conn,
        Conn: Target<Mode: Permits<Self, Effect: IsRead>>,
        Self: LoadQuery<'query, Conn::Raw, U> + 'query,
    {
        diesel_async::RunQueryDsl::get_result(self, conn.__raw(Token(())))
    }

    /// Runs the query and returns its rows: [`load`](Self::load) by the name that reads better after `returning`.
    fn get_results<'query, 'conn, U>(
        self,
        conn: &'conn mut Conn,
    ) -> LoadFuture<'conn, 'query, Self, Conn::Raw, U>
    where
        U: Send,
        Conn: Target<Mode: Permits<Self, Effect: IsRead>>,
        Self: LoadQuery<'query, Conn::Raw, U> + 'query,
    {
        diesel_async::RunQueryDsl::get_results(self, conn.__raw(Token(())))
    }

    /// Runs the query with `LIMIT 1` and returns the row, or [`NotFound`](diesel::result::Error::NotFound).
    fn first<'query, 'conn, U>(
        self,
        conn: &'conn mut Conn,
    ) -> GetResult<'conn, 'query, Limit<Self>, Conn::Raw, U>
    where
        U: Send + 'conn,
        Conn: Target<Mode: Permits<Limit<Self>, Effect: IsRead>>,
        Self: LimitDsl,
        Limit<Self>: LoadQuery<'query, Conn::Raw, U> + Send + 'query,
    {
        diesel_async::RunQueryDsl::first(self, conn.__raw(Token(())))
    }
}

impl<T, Conn: ?Sized> RunQueryDsl<Conn> for T {}

/// [`diesel_async::SaveChangesDsl`], for handles that may be read-only: on those it does not compile, since it is an
/// `UPDATE`.
pub trait SaveChangesDsl<Conn: ?Sized>: Sized {
    /// Writes the changed fields of a record and returns the record as it is now.
    ///
    /// # Errors
    ///
    /// What Diesel says of the update, [`NotFound`](diesel::result::Error::NotFound) if there is no such row.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the update may have happened or not.
    fn save_changes<'changes, 'conn, T>(self, conn: &'conn mut Conn) -> BoxFuture<'changes, QueryResult<T>>
    where
        Self: Copy
            + AsChangeset<Target = <Self as HasTable>::Table>
            + IntoUpdateTarget
            + Identifiable
            + 'changes,
        Conn: Target<Mode: Permits<Update<Self, Self>, Effect: IsRead>>,
        Conn::Raw: UpdateAndFetchResults<Self, T> + 'changes,
        'conn: 'changes,
    {
        conn.__raw(Token(())).update_and_fetch(self)
    }
}

impl<T, Conn: ?Sized> SaveChangesDsl<Conn> for T where
    T: Copy + AsChangeset<Target = <T as HasTable>::Table> + IntoUpdateTarget
{
}
