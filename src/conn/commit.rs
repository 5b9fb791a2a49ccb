//! A commit that learns its position in the log.
//!
//! The position can only be asked for after the commit: an earlier one lies before the commit's own record. It is sent right behind
//! `COMMIT` without waiting for the answer, so it costs no round trip; and what the session's `synchronous_commit` is right before,
//! since a transaction may have set its own.

use crate::failure::Cause;
use crate::lsn::Lsn;
use diesel::connection::{CacheSize, Instrumentation};
use diesel::data_types::PgLsn;
use diesel::prelude::*;
use diesel::query_builder::{AsQuery, QueryFragment, QueryId};
use diesel::result::{DatabaseErrorKind, Error};
use diesel::select;
use diesel_async::{
    AnsiTransactionManager, AsyncConnection, AsyncConnectionCore, AsyncPgConnection, RunQueryDsl,
    SimpleAsyncConnection, TransactionManager,
};
use futures_util::future::{join, join3};

/// Where the log stands, as far as the server tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Written {
    pub(crate) timeline: Option<u32>,
    pub(crate) lsn: Option<Lsn>,
}

/// Commits the open transaction, and says where the log stands then; `None` if the connection was lost before that was known.
///
/// # Errors
///
/// Diesel's, as it commits; and one if the server rolled back because a statement had failed, or if a transaction inside was left
/// open, both of which Diesel takes for success.
pub(crate) async fn commit(pg: &mut AsyncPgConnection) -> QueryResult<Option<Written>> {
    let mut committing = Committing { pg, answers: None };
    AnsiTransactionManager::commit_transaction(&mut committing).await?;
    let Answers { state, position } = committing.answers.ok_or_else(left_open)?;
    let state = state.map_err(|_| rolled_back())?;
    match position {
        Ok(position) => Ok(Some(written(position, state.waits_for_commit()))),
        Err(error) if Cause::of(&error) == Cause::Node => Ok(None),
        Err(_) => Ok(Some(Written::default())),
    }
}

/// Where the log stands for a session that has nothing written and not committed; for another one, `None`.
pub(crate) async fn position(pg: &AsyncPgConnection) -> QueryResult<Option<Written>> {
    let (state, position) = join(state(pg), ask_position(pg)).await;
    let State { synchronous_commit, has_written } = state?;
    let written = written(position?, synchronous_commit != "off");
    Ok((!has_written).then_some(written))
}

/// What a session says of itself.
struct State {
    synchronous_commit: String,
    /// In the transaction that is open.
    has_written: bool,
}

impl State {
    /// Whether the commit of the transaction is written to the log before it is answered. Where nothing is written, this may have
    /// been asked behind the commit, and what the transaction had set is not known.
    fn waits_for_commit(&self) -> bool {
        self.has_written && self.synchronous_commit != "off"
    }
}

/// What was flushed, what was inserted, and the name of the file that this goes to.
type Position = (PgLsn, PgLsn, String);

/// A commit that was not `waited` for is not flushed yet, only inserted.
fn written((flushed, inserted, file): Position, waited: bool) -> Written {
    let lsn = if waited { Lsn::new(flushed.0) } else { Lsn::new(inserted.0).before_page_header() };
    // The first eight digits of a file's name.
    let timeline = file.get(..8).and_then(|digits| u32::from_str_radix(digits, 16).ok());
    Written { timeline, lsn: Some(lsn) }
}

async fn state(pg: &AsyncPgConnection) -> QueryResult<State> {
    let mut pg = pg;
    let has_written = pg_current_xact_id_if_assigned().is_not_null();
    let state = select((current_setting("synchronous_commit"), has_written)).get_result(&mut pg).await;
    state.map(|(synchronous_commit, has_written)| State { synchronous_commit, has_written })
}

async fn ask_position(pg: &AsyncPgConnection) -> QueryResult<Position> {
    let mut pg = pg;
    let flushed = pg_current_wal_lsn();
    select((flushed, pg_current_wal_insert_lsn(), pg_walfile_name(flushed))).get_result(&mut pg).await
}

fn rolled_back() -> Error {
    let text =
        "a statement in the transaction failed, and its error was not returned: all of it was rolled back";
    Error::DatabaseError(DatabaseErrorKind::Unknown, Box::new(text.to_owned()))
}

fn left_open() -> Error {
    let text = "a transaction inside of it was begun and not ended: none of it was committed";
    Error::DatabaseError(DatabaseErrorKind::Unknown, Box::new(text.to_owned()))
}

// A session's `search_path` may lead to functions of the same names.
#[diesel::declare_sql_function]
extern "SQL" {
    #[sql_name = "pg_catalog.current_setting"]
    fn current_setting(name: diesel::sql_types::Text) -> diesel::sql_types::Text;
    #[sql_name = "pg_catalog.pg_current_wal_lsn"]
    fn pg_current_wal_lsn() -> diesel::pg::sql_types::PgLsn;
    #[sql_name = "pg_catalog.pg_current_wal_insert_lsn"]
    fn pg_current_wal_insert_lsn() -> diesel::pg::sql_types::PgLsn;
    #[sql_name = "pg_catalog.pg_walfile_name"]
    fn pg_walfile_name(lsn: diesel::pg::sql_types::PgLsn) -> diesel::sql_types::Text;
    /// Of a type that Diesel does not have, and that nobody reads.
    #[sql_name = "pg_catalog.pg_current_xact_id_if_assigned"]
    fn pg_current_xact_id_if_assigned() -> diesel::sql_types::Nullable<diesel::sql_types::BigInt>;
}

/// The connection as the transaction manager sees it while it commits: it sends more than it is told to.
struct Committing<'a> {
    pg: &'a mut AsyncPgConnection,
    /// None before it has committed.
    answers: Option<Answers>,
}

struct Answers {
    state: QueryResult<State>,
    position: QueryResult<Position>,
}

impl SimpleAsyncConnection for Committing<'_> {
    async fn batch_execute(&mut self, query: &str) -> QueryResult<()> {
        if query != "COMMIT" {
            return self.pg.batch_execute(query).await;
        }
        let pg = &*self.pg;
        let mut conn = pg;
        // Sent in this order, each by its first poll. A statement that is not prepared yet is only prepared by it: that fails as well
        // if the transaction has.
        let all = join3(state(pg), conn.batch_execute(query), ask_position(pg));
        let (state, committed, position) = all.await;
        self.answers = Some(Answers { state, position });
        committed
    }
}

impl AsyncConnectionCore for Committing<'_> {
    type ExecuteFuture<'conn, 'query> =
        <AsyncPgConnection as AsyncConnectionCore>::ExecuteFuture<'conn, 'query>;
    type LoadFuture<'conn, 'query> = <AsyncPgConnection as AsyncConnectionCore>::LoadFuture<'conn, 'query>;
    type Stream<'conn, 'query> = <AsyncPgConnection as AsyncConnectionCore>::Stream<'conn, 'query>;
    type Row<'conn, 'query> = <AsyncPgConnection as AsyncConnectionCore>::Row<'conn, 'query>;
    type Backend = diesel::pg::Pg;

    fn load<'conn, 'query, T>(&'conn mut self, source: T) -> Self::LoadFuture<'conn, 'query>
    where
        T: AsQuery + 'query,
        T::Query: QueryFragment<Self::Backend> + QueryId + 'query,
    {
        AsyncConnectionCore::load(self.pg, source)
    }

    fn execute_returning_count<'conn, 'query, T>(
        &'conn mut self,
        source: T,
    ) -> Self::ExecuteFuture<'conn, 'query>
    where
        T: QueryFragment<Self::Backend> + QueryId + 'query,
    {
        self.pg.execute_returning_count(source)
    }
}

impl AsyncConnection for Committing<'_> {
    type TransactionManager = AnsiTransactionManager;

    async fn establish(_: &str) -> ConnectionResult<Self> {
        Err(ConnectionError::BadConnection("a commit needs an open transaction".into()))
    }

    fn transaction_state(&mut self) -> &mut AnsiTransactionManager {
        self.pg.transaction_state()
    }

    fn instrumentation(&mut self) -> &mut dyn Instrumentation {
        AsyncConnection::instrumentation(self.pg)
    }

    fn set_instrumentation(&mut self, instrumentation: impl Instrumentation) {
        self.pg.set_instrumentation(instrumentation);
    }

    fn set_prepared_statement_cache_size(&mut self, size: CacheSize) {
        self.pg.set_prepared_statement_cache_size(size);
    }
}
