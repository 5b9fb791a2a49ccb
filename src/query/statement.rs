//! Which of Diesel's query types does what.

use diesel::QuerySource;
use diesel::backend::Backend;
use diesel::expression::{SqlLiteral, UncheckedBind};
use diesel::query_builder::{
    AsQuery, BoxedSelectStatement, BoxedSqlQuery, DeleteStatement, InsertStatement, SelectStatement,
    SqlQuery, UpdateStatement,
};
use diesel::query_dsl::positional_order_dsl::{IntoPositionalOrderExpr, OrderColumn, PositionalOrderDsl};

use super::effect::{self, DELETE, Does, INSERT, IsRead, Select, UPDATE, Undeclared};

/// A finished statement, and what it does to the database.
///
/// Implemented for everything that Diesel's query builder makes. A query type of your own says what it does in one
/// line, and then goes wherever a read is accepted:
///
/// ```
/// use diesel::pg::Pg;
/// use diesel::prelude::*;
/// use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
/// use diesel_replicas::Statement;
///
/// /// A query and the number of rows that it would have without its limit.
/// #[derive(QueryId)]
/// struct Counted<Q>(Q);
///
/// impl<Q: Query> Query for Counted<Q> {
///     type SqlType = (Q::SqlType, diesel::sql_types::BigInt);
/// }
///
/// impl<Q: QueryFragment<Pg>> QueryFragment<Pg> for Counted<Q> {
///     fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
///         out.push_sql("SELECT *, COUNT(*) OVER () FROM (");
///         self.0.walk_ast(out.reborrow())?;
///         out.push_sql(") t");
///         Ok(())
///     }
/// }
///
/// // It does what the query inside does.
/// impl<Q: Statement> Statement for Counted<Q> { type Effect = Q::Effect; }
/// ```
#[diagnostic::on_unimplemented(
    message = "raw SQL, or a query type that is not Diesel's own, is not allowed on a read-only connection unless it \
               is declared to only read",
    label = "may write",
    note = "raw SQL that only reads: add `.assert_read_only()` to the query, before or after its binds",
    note = "a query type of your own that only reads: implement `diesel_replicas::Statement` for it",
    note = "if it writes, ask the router for a `WriteConn`: `router.write().await?`"
)]
pub trait Statement {
    /// One of the types in [`effect`]: for a type of your own, the effect of the query that it wraps, or
    /// [`effect::Read`].
    type Effect;
}

/// Anything that becomes a statement that only reads: a table, an alias, a select, a union.
///
/// A bound for functions that take a query and run it on a [`Reader`](crate::Reader).
pub trait ReadOnlyQuery: AsQuery<Query: Statement<Effect: IsRead>> {}

// An insert, too, is `AsQuery`, and so is a table, of which a select is made: what counts is what comes out.
impl<T> ReadOnlyQuery for T where T: AsQuery<Query: Statement<Effect: IsRead>> {}

// None of these implementations is recommended by the compiler: to list them is no help to whoever ran raw SQL.
#[diagnostic::do_not_recommend]
impl<F, S, D, W, O, LOf, G, H, Lock> Statement for SelectStatement<F, S, D, W, O, LOf, G, H, Lock> {
    type Effect = Select<Lock>;
}

// A reference to a query is a query too. Only selects have this here: for all `&Q` it would overlap with the
// combinations below.
#[diagnostic::do_not_recommend]
impl<F, S, D, W, O, LOf, G, H, Lock> Statement for &SelectStatement<F, S, D, W, O, LOf, G, H, Lock> {
    type Effect = Select<Lock>;
}

/// Diesel keeps the type that means "no locking clause" private. It is the default of the ninth parameter, so a
/// select that leaves this parameter out has it, and this trait reads it off.
trait LockingClause {
    type Lock;
}

impl<F, S, D, W, O, LOf, G, H, Lock> LockingClause for SelectStatement<F, S, D, W, O, LOf, G, H, Lock> {
    type Lock = Lock;
}

type NoLock = <SelectStatement<(), (), (), (), (), (), (), ()> as LockingClause>::Lock;

// Recommended, it would be spelled as above.
#[diagnostic::do_not_recommend]
impl effect::NoRowLock for NoLock {}

// Only a select without a locking clause can be boxed, and a boxed one takes no locking clause.
#[diagnostic::do_not_recommend]
impl<ST, QS, DB, GB> Statement for BoxedSelectStatement<'_, ST, QS, DB, GB> {
    type Effect = effect::Read;
}

#[diagnostic::do_not_recommend]
impl<ST, QS, DB, GB> Statement for &BoxedSelectStatement<'_, ST, QS, DB, GB> {
    type Effect = effect::Read;
}

// UNION, INTERSECT and EXCEPT, nested, limited and ordered. Their type has no public name, but it is the only one
// with `PositionalOrderDsl`; and since the parameter of that trait is a type of this crate, no other crate can
// implement it later for one of the types above, so that this implementation does not overlap with theirs.
#[diagnostic::do_not_recommend]
impl<T: PositionalOrderDsl<CombinationProbe>> Statement for T {
    type Effect = effect::Read;
}

/// Never a value: only asked whether a query could be ordered by it.
#[derive(Debug)]
enum CombinationProbe {}

impl IntoPositionalOrderExpr for CombinationProbe {
    type Output = OrderColumn;

    fn into_positional_expr(self) -> OrderColumn {
        match self {}
    }
}

#[diagnostic::do_not_recommend]
impl<T: QuerySource, U, Op, Ret> Statement for InsertStatement<T, U, Op, Ret> {
    type Effect = Does<INSERT>;
}

#[diagnostic::do_not_recommend]
impl<T: QuerySource, U, V, Ret> Statement for UpdateStatement<T, U, V, Ret> {
    type Effect = Does<UPDATE>;
}

#[diagnostic::do_not_recommend]
impl<T: QuerySource, U, Ret> Statement for DeleteStatement<T, U, Ret> {
    type Effect = Does<DELETE>;
}

#[diagnostic::do_not_recommend]
impl<Inner> Statement for SqlQuery<Inner> {
    type Effect = effect::RawSql<Undeclared>;
}

#[diagnostic::do_not_recommend]
impl<DB: Backend, Q> Statement for BoxedSqlQuery<'_, DB, Q> {
    type Effect = effect::RawSql<Undeclared>;
}

#[diagnostic::do_not_recommend]
impl<ST, T> Statement for SqlLiteral<ST, T> {
    type Effect = effect::SqlLiteral<Undeclared>;
}

#[diagnostic::do_not_recommend]
impl<Q, V> Statement for UncheckedBind<Q, V> {
    type Effect = effect::SqlLiteral<Undeclared>;
}
