//! What a statement does to the database: the values of [`Statement::Effect`](crate::Statement::Effect).
//!
//! A query type of your own names the effect of the query that it wraps, or [`Read`]. The other types exist to be
//! named by the compiler when it refuses a statement on a read-only handle, and are spelled as it should say them.
//!
//! Each family of effects ([`Does`], [`Select`], [`RawSql`], [`SqlLiteral`]) passes the question whether it is
//! [accepted](IsRead) on to a trait of its own. The compiler reports the innermost bound that does not hold, so
//! every family has a message of its own.

use std::marker::PhantomData;

/// Reads, and takes no row locks.
pub type Read = Does<SELECT>;

/// Does what `Kind` names.
#[derive(Debug)]
pub struct Does<Kind>(PhantomData<Kind>);

/// A `SELECT` that ends in the locking clause `Lock`, or in none.
#[derive(Debug)]
pub struct Select<Lock>(PhantomData<Lock>);

/// SQL that was handed over as text.
#[derive(Debug)]
pub struct RawSql<Declaration>(PhantomData<Declaration>);

/// A whole query written with [`sql`](diesel::dsl::sql).
#[derive(Debug)]
pub struct SqlLiteral<Declaration>(PhantomData<Declaration>);

/// Reads.
#[derive(Debug)]
pub enum SELECT {}

/// Inserts, in whatever form: values, a select, with `ON CONFLICT`, with `RETURNING`.
#[derive(Debug)]
pub enum INSERT {}

/// Updates, with `RETURNING` or without.
#[derive(Debug)]
pub enum UPDATE {}

/// Deletes, with `RETURNING` or without.
#[derive(Debug)]
pub enum DELETE {}

/// Nobody has said what the text does.
#[derive(Debug)]
pub enum Undeclared {}

/// Somebody has [said](crate::AssertReadOnlyDsl) that the text only reads.
#[derive(Debug)]
pub enum Declared {}

/// The effects that a read-only handle accepts.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an effect that a read-only connection accepts",
    note = "a query type of your own: `type Effect = diesel_replicas::effect::Read`"
)]
pub trait IsRead {}

impl<Kind: AllowedOnReadConn> IsRead for Does<Kind> {}
impl<Lock: NoRowLock> IsRead for Select<Lock> {}
impl<Declaration: DeclaredReadOnly> IsRead for RawSql<Declaration> {}
impl<Declaration: PartOfAQuery> IsRead for SqlLiteral<Declaration> {}

/// The kinds of statement that a read-only handle accepts: [`SELECT`] alone.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not allowed on a read-only connection",
    label = "writes: needs a `WriteConn`",
    note = "ask the router for one: `router.write().await?`"
)]
pub trait AllowedOnReadConn {}

impl AllowedOnReadConn for SELECT {}

/// The absence of a locking clause.
#[diagnostic::on_unimplemented(
    message = "`SELECT ... FOR UPDATE/SHARE` is not allowed on a read-only connection",
    label = "locks rows: needs a `WriteConn`",
    note = "ask the router for one: `router.write().await?`"
)]
pub trait NoRowLock {}

/// A declaration that text only reads: [`Declared`] alone.
#[diagnostic::on_unimplemented(
    message = "raw SQL is not allowed on a read-only connection unless it is declared to only read",
    label = "may write",
    note = "if it only reads, add `.assert_read_only()` to the query, before or after its binds",
    note = "if it writes, ask the router for a `WriteConn`: `router.write().await?`"
)]
pub trait DeclaredReadOnly {}

impl DeclaredReadOnly for Declared {}

/// The use of a literal as a part of a query. Nothing implements it: a literal inside a query does not count.
#[diagnostic::on_unimplemented(
    message = "a whole query written with `sql` is not allowed on a read-only connection",
    label = "may write",
    note = "if it only reads, write it as `diesel::sql_query(..).assert_read_only()`, or make the literal a part of \
            a query, as in `diesel::select(sql::<..>(..))`",
    note = "if it writes, ask the router for a `WriteConn`: `router.write().await?`"
)]
pub trait PartOfAQuery {}
