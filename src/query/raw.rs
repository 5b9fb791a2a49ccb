//! Raw SQL, and the assertion that it only reads.

use diesel::QueryResult;
use diesel::pg::{Pg, PgQueryBuilder};
use diesel::query_builder::{AstPass, Query, QueryBuilder, QueryFragment, QueryId};
use diesel::result::Error;
use diesel::serialize::ToSql;
use diesel::sql_types::{HasSqlType, Untyped};
use std::fmt;
use std::marker::PhantomData;

use super::effect;
use super::statement::Statement;
use super::text::{self, RefusedCommand};

/// Declares that raw SQL only reads.
///
/// ```
/// use diesel::sql_query;
/// use diesel::sql_types::{BigInt, Text};
/// use diesel_replicas::AssertReadOnlyDsl;
///
/// // after the binds
/// let query = sql_query("SELECT * FROM messages WHERE room_id = $1")
///     .bind::<BigInt, _>(7)
///     .assert_read_only();
///
/// // or before them
/// let query = sql_query("SELECT * FROM messages WHERE room_id = $1 AND body LIKE $2")
///     .assert_read_only()
///     .bind::<BigInt, _>(7)
///     .bind::<Text, _>("%replica%");
/// ```
///
/// Each bind changes the type of the query. To bind in a loop, box the query, and assert at the end.
pub trait AssertReadOnlyDsl: Sized {
    /// Declares that this SQL only reads, so that it runs on a read-only handle.
    ///
    /// If it writes after all, the server refuses it, since the session of a read-only handle is read-only there as
    /// well. Text that begins with a command that could change the session itself (`SET`, `BEGIN`, `LISTEN`, ...), or
    /// with one that works in a read-only session all the same (`VACUUM`, `CLUSTER`, `ALTER SYSTEM`, ...), fails with
    /// [`QueryBuilderError`](diesel::result::Error::QueryBuilderError) before anything is sent.
    fn assert_read_only(self) -> AssertReadOnly<Self>
    where
        Self: RawSql + QueryFragment<Pg>,
    {
        // A query that cannot be built fails with its own error when it is run.
        let refused = text_of(&self).ok().and_then(|text| text::refused_command(&text));
        AssertReadOnly { query: self, refused }
    }
}

impl<Q> AssertReadOnlyDsl for Q {}

/// Raw SQL: [`sql_query`](diesel::sql_query), boxed or not, with binds or without.
///
/// What the query builder makes is not: its type says already what it does, and no assertion changes that.
#[diagnostic::on_unimplemented(
    message = "only raw SQL can be asserted to only read",
    label = "not raw SQL: its type says already what it does",
    note = "a query that reads needs no assertion, and one that writes needs a `WriteConn`: `router.write().await?`"
)]
pub trait RawSql: Query {}

// Raw queries are those whose rows have no type. One of these types, the one that `.bind()` returns, has no public
// name, and this covers it.
#[diagnostic::do_not_recommend]
impl<Q: Query<SqlType: Untypedness>> RawSql for Q {}

/// The type of the rows of raw SQL, for which Diesel has one name.
#[diagnostic::on_unimplemented(
    message = "only raw SQL can be asserted to only read",
    label = "not raw SQL: its type says already what it does",
    note = "a query that reads needs no assertion, and one that writes needs a `WriteConn`: `router.write().await?`"
)]
#[expect(unnameable_types, reason = "a detail of `RawSql`")]
pub trait Untypedness {}

impl Untypedness for Untyped {}

fn text_of<Q: QueryFragment<Pg>>(query: &Q) -> QueryResult<String> {
    let mut builder = PgQueryBuilder::new();
    query.to_sql(&mut builder, &Pg)?;
    Ok(builder.finish())
}

/// Raw SQL that was [asserted](AssertReadOnlyDsl::assert_read_only) to only read.
#[derive(Clone, Copy)]
#[must_use = "queries are only executed when calling `load`, `get_result` or similar"]
pub struct AssertReadOnly<Q> {
    query: Q,
    /// Found once, when the text is asserted: binds do not change it. Reported when the query is built, which is
    /// where Diesel reports what is wrong with a query, and before anything is sent.
    refused: Option<RefusedCommand>,
}

impl<Q> AssertReadOnly<Q> {
    /// Binds the value of the next placeholder, as [`SqlQuery::bind`](diesel::query_builder::SqlQuery::bind) does.
    pub fn bind<ST, V>(self, value: V) -> AssertReadOnly<WithBind<Q, V, ST>> {
        let query = WithBind { query: self.query, value, sql_type: PhantomData };
        AssertReadOnly { query, refused: self.refused }
    }
}

impl<Q> fmt::Debug for AssertReadOnly<Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A boxed query has no `Debug`; `diesel::debug_query` shows the text and the binds.
        f.debug_struct("AssertReadOnly").field("refused", &self.refused).finish_non_exhaustive()
    }
}

#[diagnostic::do_not_recommend]
impl<Q> Statement for AssertReadOnly<Q> {
    type Effect = effect::RawSql<effect::Declared>;
}

impl<Q: Query> Query for AssertReadOnly<Q> {
    type SqlType = Q::SqlType;
}

// The text is not part of the type, so the type cannot stand for it in the cache of prepared statements.
impl<Q> QueryId for AssertReadOnly<Q> {
    type QueryId = ();

    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<Q: QueryFragment<Pg>> QueryFragment<Pg> for AssertReadOnly<Q> {
    fn walk_ast<'b>(&'b self, pass: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        match self.refused {
            Some(command) => Err(Error::QueryBuilderError(Box::new(command))),
            None => self.query.walk_ast(pass),
        }
    }
}

/// Raw SQL with a value bound to its next placeholder.
#[derive(Debug, Clone, Copy)]
#[must_use = "queries are only executed when calling `load`, `get_result` or similar"]
pub struct WithBind<Q, V, ST> {
    query: Q,
    value: V,
    sql_type: PhantomData<ST>,
}

impl<Q: Query, V, ST> Query for WithBind<Q, V, ST> {
    type SqlType = Q::SqlType;
}

impl<Q, V, ST> QueryFragment<Pg> for WithBind<Q, V, ST>
where
    Q: QueryFragment<Pg>,
    V: ToSql<ST, Pg>,
    Pg: HasSqlType<ST>,
{
    fn walk_ast<'b>(&'b self, mut pass: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        self.query.walk_ast(pass.reborrow())?;
        // The placeholder itself is in the text already.
        pass.push_bind_param_value_only(&self.value)
    }
}

#[cfg(test)]
mod tests {
    use diesel::sql_types::{Integer, Text};
    use diesel::{debug_query, sql_query};

    use super::*;

    fn sql_of<Q: QueryFragment<Pg>>(query: &Q) -> String {
        debug_query::<Pg, _>(query).to_string()
    }

    #[test]
    fn binds_before_and_after_the_assertion_come_in_order() {
        let query = sql_query("SELECT $1, $2, $3")
            .bind::<Integer, _>(1)
            .assert_read_only()
            .bind::<Integer, _>(2)
            .bind::<Text, _>("three");

        assert_eq!(sql_of(&query), r#"SELECT $1, $2, $3 -- binds: [1, 2, "three"]"#);
    }

    #[test]
    fn the_binds_of_a_boxed_query_are_kept() {
        let mut query = sql_query("SELECT $1").into_boxed().bind::<Integer, _>(1);
        for (n, value) in [(2, 20), (3, 30)] {
            query = query.sql(format!(", ${n}")).bind::<Integer, _>(value);
        }

        assert_eq!(sql_of(&query.assert_read_only()), "SELECT $1, $2, $3 -- binds: [1, 20, 30]");
    }

    #[test]
    fn a_session_command_does_not_become_a_query() {
        let query = sql_query("SET statement_timeout = $1").assert_read_only().bind::<Integer, _>(1);
        let mut builder = PgQueryBuilder::new();

        let error = query.to_sql(&mut builder, &Pg).unwrap_err();

        assert!(matches!(error, Error::QueryBuilderError(_)), "{error:?}");
        assert!(error.to_string().starts_with("`SET` "), "{error}");
        assert_eq!(builder.finish(), "");
    }
}
