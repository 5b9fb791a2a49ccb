//! One connection for asking how far a node has come.

use super::Position;
use super::commits::{Committing, Visible};
use crate::endpoint::Endpoint;
use crate::error::{Chain, Millis};
use crate::lsn::Lsn;
use crate::pool::{Access, ConnectError, Dialed};
use futures_util::future::{join, try_join};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_postgres::types::PgLsn;
use tokio_postgres::{Client, Error, SimpleQueryMessage, Statement};
use tracing::debug;

/// Any role may ask this, from version 14 on, and a promotion cannot come between its parts. Functions that fail on one kind of
/// node stand in a branch of `CASE`, which is evaluated on demand.
const QUESTION: &str = "SELECT in_recovery, \
     (extract(epoch FROM pg_catalog.pg_postmaster_start_time()) * 1000000)::bigint, \
     CASE WHEN in_recovery THEN pg_catalog.pg_last_wal_replay_lsn() ELSE pg_catalog.pg_current_wal_lsn() END, \
     CASE WHEN NOT in_recovery THEN pg_catalog.pg_current_wal_insert_lsn() END \
     FROM pg_catalog.pg_is_in_recovery() AS in_recovery";

/// Sent before the next one.
const FLUSHED: &str = "SELECT pg_catalog.pg_current_wal_flush_lsn()";

/// The transactions that may be committing: not those of which it shows that they wait for their client, a lock, or what is read
/// or written before a record is flushed. Any role may ask, but of other roles' sessions only those of `pg_read_all_stats` are told
/// more than that there is a transaction: these then may wait for a synchronous replica, where there are any.
const COMMITTING: &str = "SELECT backend_xid::text::bigint, \
     CASE WHEN state IS NULL OR state = 'disabled' \
     THEN pg_catalog.current_setting('synchronous_standby_names') <> '' \
     ELSE wait_event IS NOT DISTINCT FROM 'SyncRep' END \
     FROM pg_catalog.pg_stat_get_activity(NULL) \
     WHERE backend_xid IS NOT NULL AND (state IS NULL OR state NOT LIKE 'idle%') \
     AND (wait_event_type IS NULL OR wait_event_type NOT IN ('Client', 'Lock', 'Timeout', 'IO') \
     OR wait_event ILIKE 'slru%')";

/// How long a connection may take to be ready, and an answer to come. A node that is frozen, or gone without a word, never
/// answers.
const LIMIT: Duration = Duration::from_millis(500);

/// The first version whose servers wait for a position themselves.
const WAITS_SINCE: u32 = 19;

/// An open connection.
#[derive(Debug)]
pub(super) struct Session {
    client: Client,
    /// A prepared statement: answered in two thirds of the time.
    question: Statement,
    /// Prepared when they are needed.
    commits: Option<(Statement, Statement)>,
    can_wait: bool,
    /// Drives the connection; dropping the set ends it, however silent the node is.
    _connection: JoinSet<()>,
}

/// What a primary says of its commits.
#[derive(Debug)]
pub(super) struct Told {
    /// What is visible when none of these commits any more.
    pub(super) then: Visible,
    pub(super) committing: Vec<Committing>,
}

/// Why a node's position is not known.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("{0}")]
    Connect(#[from] ConnectError),
    #[error("{0}")]
    Asked(#[from] Error),
    #[error("it does not tell its position")]
    Untold,
    #[error("no answer within {}", Millis(*.0))]
    TimedOut(Duration),
}

impl Session {
    /// # Cancel safety
    ///
    /// A dropped call closes what it had opened.
    pub(super) async fn open(endpoint: &Endpoint) -> Result<Self, Failure> {
        within(LIMIT, async {
            let Dialed { client, connection, .. } = endpoint.connect_raw(Access::ReadWrite).await?;
            let can_wait = connection.parameter("server_version").is_some_and(waits);
            let mut driver = JoinSet::new();
            // What goes wrong on the connection shows in the client's answers.
            driver.spawn(async move {
                let _ = connection.await;
            });
            let question = client.prepare(QUESTION).await?;
            Ok(Self { client, question, commits: None, can_wait, _connection: driver })
        })
        .await
    }

    pub(super) async fn ask(&self) -> Result<Position, Failure> {
        within(LIMIT, self.query()).await
    }

    /// Whether the server can wait by itself until it has replayed something.
    pub(super) fn can_wait(&self) -> bool {
        self.can_wait
    }

    /// Asks when the server has replayed this, or has waited for it for so long. The question is sent along with the wait, so
    /// the answer takes no further round trip.
    pub(super) async fn ask_after(&mut self, lsn: Lsn, at_most: Duration) -> Result<Position, Failure> {
        let wait = format!(
            "WAIT FOR LSN '{lsn}' WITH (MODE 'standby_replay', TIMEOUT '{}ms', NO_THROW)",
            at_most.as_millis()
        );
        let both = async { Ok(join(self.client.simple_query(&wait), self.query()).await) };
        let (waited, position) = within(LIMIT + at_most, both).await?;
        let position = position?;
        // Whatever else it says, it may say again without having waited.
        self.can_wait = match waited.as_deref().ok().and_then(first_value) {
            Some("success") => position.lsn >= lsn,
            Some("timeout") => true,
            _ => false,
        };
        Ok(position)
    }

    /// Asks also who may be committing, with the same round trip; `None` if the server does not say.
    pub(super) async fn ask_who_commits(&mut self) -> Result<(Position, Option<Told>), Failure> {
        let both = async {
            if self.commits.is_none() {
                let prepared = (self.client.prepare(FLUSHED).await?, self.client.prepare(COMMITTING).await?);
                self.commits = Some(prepared);
            }
            Ok(join(self.query(), self.query_commits()).await)
        };
        let (position, told) = within(LIMIT, both).await?;
        let told =
            told.inspect_err(|error| debug!(error = %Chain(error), "a node does not tell who commits"));
        Ok((position?, told.ok().flatten()))
    }

    async fn query_commits(&self) -> Result<Option<Told>, Error> {
        let Some((flushed, committing)) = &self.commits else { return Ok(None) };
        let asked_at = Instant::now();
        let flushed = self.client.query_one(flushed, &[]);
        let (flushed, committing) = try_join(flushed, self.client.query(committing, &[])).await?;
        let then = Visible { flushed: Lsn::new(flushed.try_get::<_, PgLsn>(0)?.into()), asked_at };
        let committing = committing
            .iter()
            .map(|row| Ok::<_, Error>(Committing { xid: row.try_get(0)?, held: row.try_get(1)? }));
        Ok(Some(Told { then, committing: committing.collect::<Result<_, _>>()? }))
    }

    async fn query(&self) -> Result<Position, Failure> {
        let asked_at = Instant::now();
        let row = self.client.query_one(&self.question, &[]).await?;
        let lsn = |column| Ok::<_, Error>(row.try_get::<_, Option<PgLsn>>(column)?.map(u64::from));
        let told = lsn(2)?.ok_or(Failure::Untold)?;
        Ok(Position {
            in_recovery: row.try_get(0)?,
            started: row.try_get(1)?,
            lsn: Lsn::new(told),
            inserted: lsn(3)?.map_or(Lsn::new(told), |inserted| Lsn::new(inserted).before_page_header()),
            visible: None,
            asked_at,
        })
    }
}

async fn within<T>(limit: Duration, asking: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    timeout(limit, asking).await.unwrap_or(Err(Failure::TimedOut(limit)))
}

fn first_value(messages: &[SimpleQueryMessage]) -> Option<&str> {
    messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    })
}

/// `19.0`, `19rc1 (Debian 19~rc1-1)`.
pub(super) fn waits(version: &str) -> bool {
    let digits = version.split(|c: char| !c.is_ascii_digit()).next();
    digits.and_then(|major| major.parse::<u32>().ok()).is_some_and(|major| major >= WAITS_SINCE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_wait_from_version_19_on() {
        for (version, waits_itself) in [
            ("19.0", true),
            ("19rc1 (Debian 19~rc1-1)", true),
            ("20devel", true),
            ("18.6 (Debian 18.6-3)", false),
            ("9.6.24", false),
            ("", false),
            ("unknown", false),
        ] {
            assert_eq!(waits(version), waits_itself, "{version}");
        }
    }
}
