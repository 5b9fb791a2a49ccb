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

/// Commits the open transaction, and says where the log stands then. `prepared`: this connection has done so before.
///
/// # Errors
///
/// Diesel's, as it commits; and one if the server rolled back because a statement had failed, which Diesel takes for success.
pub(crate) async fn commit(pg: &mut AsyncPgConnection, prepared: bool) -> QueryResult<Written> {
    if !prepared && let Err(error) = setting(pg).await {
        // What broke the transaction says more than that it cannot be rolled back.
        let _ = AnsiTransactionManager::rollback_transaction(pg).await;
        return Err(if Cause::of(&error) == Cause::Node { error } else { rolled_back() });
    }
    let mut committing = Committing { pg, setting: Ok(String::new()), position: None };
    AnsiTransactionManager::commit_transaction(&mut committing).await?;
    let Committing { setting, position, .. } = committing;
    let setting = setting.map_err(|_| rolled_back())?;
    Ok(position.map(|position| written(position, &setting)).unwrap_or_default())
}

/// Where the log stands for a session that has nothing written and not committed; for another one, `None`.
pub(crate) async fn position(pg: &AsyncPgConnection) -> QueryResult<Option<Written>> {
    let mut conn = pg;
    let uncommitted = select(pg_current_xact_id_if_assigned().is_not_null()).get_result::<bool>(&mut conn);
    let (uncommitted, (setting, position)) = join(uncommitted, join(setting(pg), ask_position(pg))).await;
    let written = written(position?, &setting?);
    Ok((!uncommitted?).then_some(written))
}

/// What was flushed, what was inserted, and the name of the file that this goes to.
type Position = (PgLsn, PgLsn, String);

/// A commit that was not waited for is not flushed yet, only inserted.
fn written((flushed, inserted, file): Position, synchronous_commit: &str) -> Written {
    let lsn = match synchronous_commit {
        "off" => Lsn::new(inserted.0).before_page_header(),
        _ => Lsn::new(flushed.0),
    };
    // The first eight digits of a file's name.
    let timeline = file.get(..8).and_then(|digits| u32::from_str_radix(digits, 16).ok());
    Written { timeline, lsn: Some(lsn) }
}

async fn setting(pg: &AsyncPgConnection) -> QueryResult<String> {
    let mut pg = pg;
    select(current_setting("synchronous_commit")).get_result(&mut pg).await
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

#[diesel::declare_sql_function]
extern "SQL" {
    fn current_setting(name: diesel::sql_types::Text) -> diesel::sql_types::Text;
    fn pg_current_wal_lsn() -> diesel::pg::sql_types::PgLsn;
    fn pg_current_wal_insert_lsn() -> diesel::pg::sql_types::PgLsn;
    fn pg_walfile_name(lsn: diesel::pg::sql_types::PgLsn) -> diesel::sql_types::Text;
    /// Of a type that Diesel does not have, and that nobody reads.
    fn pg_current_xact_id_if_assigned() -> diesel::sql_types::Nullable<diesel::sql_types::BigInt>;
}

/// The connection as the transaction manager sees it while it commits: it sends more than it is told to.
struct Committing<'a> {
    pg: &'a mut AsyncPgConnection,
    setting: QueryResult<String>,
    position: Option<Position>,
}

impl SimpleAsyncConnection for Committing<'_> {
    async fn batch_execute(&mut self, query: &str) -> QueryResult<()> {
        if query != "COMMIT" {
            return self.pg.batch_execute(query).await;
        }
        let pg = &*self.pg;
        let mut conn = pg;
        // Sent in this order, each by its first poll.
        let all = join3(setting(pg), conn.batch_execute(query), ask_position(pg));
        let (setting, committed, position) = all.await;
        self.setting = setting;
        self.position = position.ok();
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
