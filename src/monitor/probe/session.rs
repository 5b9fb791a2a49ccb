//! One connection of the monitor's, and what it asks. The only file with monitoring SQL.

use crate::channel::Channel;
use crate::endpoint::Endpoint;
use crate::error::Chain;
use crate::limitation::Limitation;
use crate::lsn::Lsn;
use crate::observation::{Identity, Observation, ProbeFailure, Receiver, Standby};
use crate::pool::{Access, ConnectError, Dialed};
use futures_util::future::join_all;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error, SimpleQueryMessage, Socket};
use tracing::debug;

/// What every server tells every role.
const ALWAYS: &str = "in_recovery::text, \
     (extract(epoch FROM pg_catalog.pg_postmaster_start_time()) * 1000000)::bigint AS started, \
     pg_catalog.current_setting('server_version_num') AS version";

/// A column that a server may decline to fill: an administrator revokes functions, a managed service does not support them.
#[derive(Debug)]
pub(crate) struct Optional {
    /// What it needs.
    function: &'static str,
    sql: &'static str,
}

const fn optional(function: &'static str, sql: &'static str) -> Optional {
    Optional { function, sql }
}

/// A role without privileges may call them all; only the received timeline is hidden from it. Functions that fail on one kind of
/// node stand in a branch of `CASE`, which is evaluated on demand. The position comes before the timelines, which only grow.
const OPTIONAL: &[Optional] = &[
    optional("pg_control_system", "(pg_catalog.pg_control_system()).system_identifier AS system"),
    optional(
        "pg_current_wal_lsn",
        "CASE WHEN NOT in_recovery THEN pg_catalog.pg_current_wal_lsn() END AS written",
    ),
    optional(
        "pg_current_wal_insert_lsn",
        "CASE WHEN NOT in_recovery THEN pg_catalog.pg_current_wal_insert_lsn() END AS inserted",
    ),
    // The control file tells a new timeline only after a checkpoint.
    optional(
        "pg_walfile_name",
        "CASE WHEN NOT in_recovery THEN \
             ('x' || pg_catalog.left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 8))::bit(32)::bigint \
         END AS written_timeline",
    ),
    optional(
        "pg_last_wal_replay_lsn",
        "CASE WHEN in_recovery THEN pg_catalog.pg_last_wal_replay_lsn() END AS replayed",
    ),
    // What it is to receive next: whatever has been replayed is in its history.
    optional(
        "pg_stat_get_wal_receiver",
        "CASE WHEN in_recovery THEN (pg_catalog.pg_stat_get_wal_receiver()).received_tli END AS received_timeline",
    ),
    optional(
        "pg_control_checkpoint",
        "CASE WHEN in_recovery THEN (pg_catalog.pg_control_checkpoint()).timeline_id END AS checkpoint_timeline",
    ),
    // Zero while there is none.
    optional(
        "pg_control_recovery",
        "CASE WHEN in_recovery THEN nullif((pg_catalog.pg_control_recovery()).min_recovery_end_timeline, 0) \
         END AS recovery_timeline",
    ),
    optional(
        "pg_get_wal_replay_pause_state",
        "CASE WHEN in_recovery THEN (pg_catalog.pg_get_wal_replay_pause_state() = 'paused')::text END AS replay_paused",
    ),
    // The process is there for everybody to see from when it has connected until it ends.
    optional(
        "pg_stat_get_wal_receiver",
        "CASE WHEN in_recovery THEN ((pg_catalog.pg_stat_get_wal_receiver()).pid IS NOT NULL)::text END AS receiving",
    ),
    optional("pg_has_role", "pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE')::text AS sees_statistics"),
];

/// Where a standby does not tell how far it has replayed: Amazon Aurora's standbys share the storage of their primary, and say how
/// far they are behind in it. Its functions stand in no catalog, so whether they are there shows in the answer.
///
/// Source: Aurora user guide, "aurora_replica_status".
const AURORA: &Optional = &optional(
    "aurora_replica_status",
    "CASE WHEN in_recovery THEN (SELECT greatest(ceil(status.replica_lag_in_msec), 0)::bigint FROM aurora_replica_status() AS status \
         WHERE status.server_id = aurora_db_instance_identifier()) END AS reported_ms",
);

/// The columns that are asked for.
pub(crate) type Columns = Vec<&'static Optional>;

/// What the question is called on the server once it is kept there: to parse and plan it anew takes twice as long as all the rest.
///
/// By a command, for a pooler that hands its clients around among connections must not take it for one of theirs.
const KEPT: &str = "diesel_replicas_probe";

/// What a session has learned of its server.
#[derive(Debug, Clone)]
pub(super) struct Learned {
    columns: Columns,
    /// Nothing has shown that the server, or what stands before it, does not keep a question.
    keeps: bool,
}

impl Learned {
    fn nothing() -> Self {
        Self { columns: OPTIONAL.iter().collect(), keeps: true }
    }
}

/// An open connection, which knows what its server declines to tell.
#[derive(Debug)]
pub(crate) struct Session {
    client: Client,
    access: Access,
    learned: Learned,
    /// The question is kept on the server.
    is_kept: bool,
    /// How often it has been answered.
    answers: u32,
    /// Why it is not encrypted, where that was preferred.
    plain: Option<Arc<str>>,
    /// Drives the connection; dropping the set ends it, however silent the node is.
    _connection: JoinSet<()>,
}

struct Answer {
    messages: Vec<SimpleQueryMessage>,
    asked_at: Instant,
    answered_at: Instant,
}

impl Session {
    pub(super) async fn open(endpoint: &Endpoint, access: Access) -> Result<Self, ProbeFailure> {
        Self::knowing(endpoint, access, Learned::nothing()).await
    }

    /// With what an earlier session to the same address has learned.
    pub(super) async fn knowing(
        endpoint: &Endpoint,
        access: Access,
        learned: Learned,
    ) -> Result<Self, ProbeFailure> {
        let dialed = endpoint.connect_raw(access).await.map_err(refusal)?;
        Ok(Self::over(dialed, access, learned))
    }

    /// On a connection that was made for this access, and asks for all that there is.
    #[cfg(feature = "cli")]
    pub(crate) fn on(dialed: Dialed<Channel<Socket>>, access: Access) -> Self {
        Self::over(dialed, access, Learned::nothing())
    }

    fn over(dialed: Dialed<Channel<Socket>>, access: Access, learned: Learned) -> Self {
        let Dialed { client, connection, plain, .. } = dialed;
        let mut driver = JoinSet::new();
        // What goes wrong on the connection shows in the client's answers.
        driver.spawn(async move {
            let _ = connection.await;
        });
        Self { client, access, learned, is_kept: false, answers: 0, plain, _connection: driver }
    }

    /// For questions of others.
    #[cfg(feature = "cli")]
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn learned(&self) -> &Learned {
        &self.learned
    }

    pub(crate) fn access(&self) -> Access {
        self.access
    }

    pub(super) fn answers(&self) -> u32 {
        self.answers
    }

    /// Asks in a single statement, so that a promotion cannot come between its parts, and once again when the server answers with
    /// an error: without what it declines to tell.
    ///
    /// An error may also pass: a standby that is promoted just then has no state of its replay to tell any more.
    pub(crate) async fn ask(&mut self) -> Result<Observation, ProbeFailure> {
        let keeps = self.answers > 0 && self.learned.keeps;
        let mut answer = if keeps { self.query_kept().await } else { self.query().await };
        if keeps && is_of_the_server(&answer) {
            (self.learned.keeps, self.is_kept) = (false, false);
            answer = self.query().await;
        }
        if is_of_the_server(&answer) {
            self.leave_out_what_is_refused().await;
            self.look_for_aurora().await;
            answer = self.query().await;
        }
        let Answer { messages, asked_at, answered_at } = answer.map_err(failed)?;
        let told = messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        let row = Row(|column: &str| told.and_then(|row| row.try_get(column).ok().flatten()));
        let observation = row.observation(asked_at, answered_at).map_err(ProbeFailure::Failed)?;
        self.answers = self.answers.saturating_add(1);
        Ok(Observation { limitations: self.limitations(&row), ..observation })
    }

    fn limitations<'r>(&self, row: &Row<impl Fn(&str) -> Option<&'r str>>) -> Vec<Limitation> {
        let asked = |column: &&Optional| self.learned.columns.iter().any(|asked| asked.sql == column.sql);
        let mut withheld: Vec<_> =
            OPTIONAL.iter().filter(|column| !asked(column)).map(|column| column.function).collect();
        withheld.dedup();
        let mut limitations = vec![];
        limitations.extend(self.plain.clone().map(Limitation::Unencrypted));
        limitations.extend((!withheld.is_empty()).then_some(Limitation::Withheld(withheld)));
        limitations.extend(row.0("reported_ms").map(|_| Limitation::LagReported));
        limitations
            .extend((row.0("sees_statistics") == Some("false")).then_some(Limitation::StatisticsHidden));
        limitations
    }

    async fn query(&self) -> Result<Answer, Error> {
        self.run(&statement(&self.learned.columns)).await
    }

    /// The same, and from the second time on without telling the server what the question is.
    async fn query_kept(&mut self) -> Result<Answer, Error> {
        if self.is_kept {
            return self.run(&format!("EXECUTE {KEPT}")).await;
        }
        let statement = statement(&self.learned.columns);
        let answer = self.run(&format!("PREPARE {KEPT} AS {statement}; EXECUTE {KEPT}")).await?;
        self.is_kept = true;
        Ok(answer)
    }

    async fn run(&self, sql: &str) -> Result<Answer, Error> {
        let asked_at = Instant::now();
        let messages = self.client.simple_query(sql).await?;
        Ok(Answer { messages, asked_at, answered_at: Instant::now() })
    }

    /// Asks for each column alone, all in one round trip.
    async fn leave_out_what_is_refused(&mut self) {
        let client = &self.client;
        let alone = |column: &&'static Optional| {
            let statement = statement(&[column]);
            async move { client.simple_query(&statement).await }
        };
        let mut answers = join_all(self.learned.columns.iter().map(alone)).await.into_iter();
        self.learned.columns.retain(|column| match answers.next() {
            Some(Err(error)) if is_refusal(&error) => {
                debug!(column = column.function, error = %Chain(&error), "the server declines to tell the monitor");
                false
            }
            _ => true,
        });
    }

    async fn look_for_aurora(&mut self) {
        let tells = |function| self.learned.columns.iter().any(|column| column.function == function);
        if tells("pg_last_wal_replay_lsn") || tells(AURORA.function) {
            return;
        }
        if self.client.simple_query(&statement(&[AURORA])).await.is_ok() {
            self.learned.columns.push(AURORA);
        }
    }
}

fn is_of_the_server(answer: &Result<Answer, Error>) -> bool {
    answer.as_ref().is_err_and(|error| error.as_db_error().is_some())
}

fn statement(columns: &[&Optional]) -> String {
    let columns: String = columns.iter().flat_map(|column| [", ", column.sql]).collect();
    format!("SELECT {ALWAYS}{columns} FROM pg_catalog.pg_is_in_recovery() AS in_recovery")
}

/// Whether the same question would meet the same answer: no such function or no right to it, not supported here (0A000), or not
/// with these settings (55000).
fn is_refusal(error: &Error) -> bool {
    let refused = |code: &SqlState| {
        let code = code.code();
        code.starts_with("42") || code == "0A000" || code == "55000"
    };
    error.code().is_some_and(refused)
}

fn refusal(error: ConnectError) -> ProbeFailure {
    let text = Chain(&error).to_string().into();
    match error {
        ConnectError::Server(error) if error.code() == Some(&SqlState::TOO_MANY_CONNECTIONS) => {
            ProbeFailure::Full(text)
        }
        _ => ProbeFailure::Failed(text),
    }
}

fn failed(error: Error) -> ProbeFailure {
    ProbeFailure::Failed(Chain(&error).to_string().into())
}

/// The columns of one row by name. One that is NULL and one that was not asked for are the same.
struct Row<F>(F);

impl<'r, F: Fn(&str) -> Option<&'r str>> Row<F> {
    fn observation(&self, asked_at: Instant, answered_at: Instant) -> Result<Observation, Arc<str>> {
        let timelines = [
            self.optional("written_timeline")?,
            self.optional("received_timeline")?,
            self.optional("checkpoint_timeline")?,
            self.optional("recovery_timeline")?,
        ];
        let receiver = |receiving| if receiving { Receiver::Streaming } else { Receiver::Stopped };
        let written: Option<Lsn> = self.optional("written")?;
        Ok(Observation {
            in_recovery: self.always("in_recovery")?,
            lsn: written.or(self.optional("replayed")?),
            inserted: self.optional("inserted")?,
            identity: Identity {
                // Its text has a sign.
                system: self.optional("system")?.map(i64::cast_unsigned),
                started: self.always("started")?,
            },
            // On a standby each is one that it has followed, and the newest wins.
            timeline: timelines.into_iter().flatten().max(),
            version: self.always("version")?,
            standby: Standby {
                replay_paused: self.optional("replay_paused")?,
                receiver: self.optional("receiving")?.map(receiver),
                behind: self.optional("behind_ms")?.map(Duration::from_millis),
                reported: self.optional("reported_ms")?.map(Duration::from_millis),
            },
            limitations: vec![],
            asked_at,
            answered_at,
        })
    }

    fn always<T: FromStr>(&self, column: &str) -> Result<T, Arc<str>> {
        self.optional(column)?.ok_or_else(|| format!("the probe's query returned no `{column}`").into())
    }

    fn optional<T: FromStr>(&self, column: &str) -> Result<Option<T>, Arc<str>> {
        let Some(text) = self.0(column) else { return Ok(None) };
        let value = text.parse();
        value.map(Some).map_err(|_| format!("the probe's query returned `{text}` as `{column}`").into())
    }
}

#[cfg(test)]
pub(super) const COLUMNS: usize = OPTIONAL.len();

#[cfg(test)]
mod tests {
    use super::*;
    use pg_cluster::{Cluster, Node};
    use tokio::time::sleep;

    /// A user without privileges, and one who may see what the WAL receiver does.
    const ROLES: &str =
        "CREATE ROLE nobody LOGIN; CREATE ROLE watcher LOGIN; GRANT pg_read_all_stats TO watcher";

    async fn cluster(replicas: usize) -> Cluster {
        let cluster = Cluster::builder().replicas(replicas).start().await.expect("a cluster");
        run(&cluster, ROLES).await;
        cluster
    }

    /// Runs it on the primary, and waits until it is everywhere.
    async fn run(cluster: &Cluster, sql: &str) {
        let primary = cluster.primary();
        primary.sql(sql).await.expect(sql);
        let written = primary.position().await.expect("the primary answers").lsn;
        for replica in cluster.replicas() {
            cluster.wait_replayed(replica, written).await.expect("the replica follows");
        }
    }

    async fn session(node: &Node, role: &str) -> Session {
        let url = node.url().replace("postgres@", &format!("{role}@"));
        Session::open(&Endpoint::parse(&url).expect("valid"), Access::ReadOnly)
            .await
            .expect("the node lets everybody in")
    }

    async fn ask(session: &mut Session) -> Observation {
        session.ask().await.expect("the node answers")
    }

    /// Asks until the answer is as wanted.
    async fn ask_until(session: &mut Session, wanted: impl Fn(&Observation) -> bool) -> Observation {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let observation = ask(session).await;
            if wanted(&observation) {
                return observation;
            }
            assert!(Instant::now() < deadline, "{observation:?}");
            sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn any_role_sees_what_a_node_is_and_how_far_it_has_come() {
        let cluster = cluster(1).await;
        let written = cluster.primary().position().await.expect("it answers").lsn;
        for role in ["postgres", "watcher", "nobody"] {
            let before = Instant::now();
            let primary = ask(&mut session(cluster.primary(), role).await).await;
            let replica = ask(&mut session(cluster.replica(0), role).await).await;
            assert!(!primary.in_recovery && replica.in_recovery, "{role}");
            for observation in [&primary, &replica] {
                assert!(observation.lsn.is_some_and(|lsn| lsn.get() >= written.into()), "{observation:?}");
                assert_eq!(observation.timeline, Some(1), "{role}");
                assert_eq!(observation.version / 10_000, major(&cluster).await);
                assert!(before <= observation.asked_at && observation.asked_at <= observation.answered_at);
            }
            assert!(primary.identity.system.is_some());
            assert_eq!(primary.identity.system, replica.identity.system);
            assert_ne!(primary.identity.started, replica.identity.started);
            assert_eq!(primary.standby, Standby::default());
            let streams = Standby {
                replay_paused: Some(false),
                receiver: Some(Receiver::Streaming),
                behind: None,
                reported: None,
            };
            assert_eq!(replica.standby, streams, "{role}");
            let hidden = if role == "nobody" { &[Limitation::StatisticsHidden][..] } else { &[] };
            for observation in [&primary, &replica] {
                let limitations: Vec<_> =
                    observation.limitations.iter().filter(|one| !is_plain(one)).collect();
                assert_eq!(limitations, hidden.iter().collect::<Vec<_>>(), "{role}");
            }
        }
    }

    /// Where TLS is preferred, the servers here do without.
    fn is_plain(limitation: &Limitation) -> bool {
        matches!(limitation, Limitation::Unencrypted(_))
    }

    async fn major(cluster: &Cluster) -> u32 {
        let version =
            cluster.primary().sql("SELECT current_setting('server_version_num')::int / 10000").await;
        version.expect("it answers").and_then(|version| version.parse().ok()).expect("a number")
    }

    #[tokio::test]
    async fn the_question_is_kept_on_the_server_from_the_second_answer_on() {
        let cluster = cluster(1).await;
        for node in cluster.nodes() {
            let mut session = session(node, "nobody").await;
            let first = ask(&mut session).await;
            for asked in 0..3 {
                assert_eq!(plans(&session).await, asked, "a kept question is planned once, and then run");
                let seen = ask(&mut session).await;
                assert_eq!((seen.in_recovery, seen.identity), (first.in_recovery, first.identity));
                assert!(seen.lsn >= first.lsn && seen.timeline == first.timeline, "{seen:?}");
            }
        }
    }

    #[tokio::test]
    async fn a_question_that_is_not_kept_is_asked_in_full() {
        let cluster = cluster(0).await;
        let mut session = session(cluster.primary(), "nobody").await;
        ask(&mut session).await;
        ask(&mut session).await;
        // As behind a pooler that has changed the connection.
        session.client.simple_query("DEALLOCATE ALL").await.expect("it answers");
        for _ in 0..2 {
            let seen = ask(&mut session).await;
            assert_eq!(seen.limitations.iter().filter(|one| !is_plain(one)).count(), 1, "{seen:?}");
            assert_eq!(plans(&session).await, 0, "nor is it tried again");
        }
        assert!(!session.learned().keeps);
    }

    /// How often the question that is kept has been run.
    async fn plans(session: &Session) -> u64 {
        let sql = "SELECT sum(generic_plans + custom_plans) AS plans FROM pg_prepared_statements";
        let messages = session.client.simple_query(sql).await.expect("it answers");
        let plans = messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get("plans"),
            _ => None,
        });
        plans.map_or(0, |plans| plans.parse().expect("a number"))
    }

    #[tokio::test]
    async fn a_standby_tells_that_it_is_paused_cut_off_and_promoted() {
        let cluster = cluster(1).await;
        let replica = cluster.replica(0);
        let mut session = session(replica, "nobody").await;
        let before = ask(&mut session).await;

        replica.pause_replay().await.expect("it pauses");
        assert_eq!(ask(&mut session).await.standby.replay_paused, Some(true));
        replica.resume_replay().await.expect("it goes on");
        replica.cut_receiver().await.expect("it is cut off");
        let cut = ask(&mut session).await;
        assert_eq!(
            cut.standby,
            Standby {
                replay_paused: Some(false),
                receiver: Some(Receiver::Stopped),
                behind: None,
                reported: None
            }
        );

        replica.promote().await.expect("it becomes a primary");
        let promoted = ask(&mut session).await;
        assert!(!promoted.in_recovery);
        assert_eq!(promoted.timeline, Some(2), "not only after its next checkpoint");
        assert_eq!(promoted.standby, Standby::default());
        assert_eq!(promoted.identity, before.identity);
        assert!(promoted.lsn >= before.lsn);
    }

    #[tokio::test]
    async fn the_timeline_of_a_standby_is_one_that_it_follows() {
        let cluster = cluster(2).await;
        let [primary, promoted, other] = cluster.nodes() else { panic!("as many as asked for") };
        let mut watcher = session(other, "watcher").await;
        let mut nobody = session(other, "nobody").await;

        promoted.promote().await.expect("it becomes a primary");
        primary.sql("CREATE TABLE only_here ()").await.expect("the old primary lives");
        let old = primary.position().await.expect("it answers").lsn.into();
        for session in [&mut watcher, &mut nobody] {
            let seen = ask_until(session, |seen| seen.lsn.is_some_and(|lsn| lsn.get() >= old)).await;
            assert_eq!(seen.timeline, Some(1), "it follows the old primary");
        }
    }

    #[tokio::test]
    async fn a_new_timeline_of_a_standby_is_seen_by_those_with_the_right_to_and_later_by_others() {
        let cluster = cluster(2).await;
        let [_, promoted, other] = cluster.nodes() else { panic!("as many as asked for") };
        let mut watcher = session(other, "watcher").await;
        let mut nobody = session(other, "nobody").await;

        promoted.promote().await.expect("it becomes a primary");
        other.follow(promoted).await.expect("it follows the new primary");
        ask_until(&mut watcher, |seen| seen.timeline == Some(2)).await;
        // The control file says up to where a standby has to replay again after a crash, anew when something is flushed:
        // dropping a table does that.
        promoted.sql("CREATE TABLE short_lived (); DROP TABLE short_lived").await.expect("it is writable");
        ask_until(&mut nobody, |seen| seen.timeline == Some(2)).await;
    }

    /// Makes the server refuse a function in some way.
    #[derive(Debug, Clone, Copy)]
    enum Refusal {
        NoRight,
        Missing,
        /// As managed services do it.
        Raises(&'static str),
    }

    impl Refusal {
        fn sql(self, function: &str, result: &str) -> String {
            let hide = format!("ALTER FUNCTION pg_catalog.{function}() RENAME TO hidden_{function}");
            match self {
                Self::NoRight => format!("REVOKE EXECUTE ON FUNCTION pg_catalog.{function}() FROM PUBLIC"),
                Self::Missing => hide,
                Self::Raises(code) => format!(
                    "{hide}; CREATE FUNCTION pg_catalog.{function}() RETURNS {result} LANGUAGE plpgsql AS \
                     $$ BEGIN RAISE EXCEPTION 'not here' USING ERRCODE = '{code}'; END $$"
                ),
            }
        }
    }

    fn withheld(seen: &Observation) -> Vec<&'static str> {
        let functions = seen.limitations.iter().filter_map(|limitation| match limitation {
            Limitation::Withheld(functions) => Some(functions.clone()),
            _ => None,
        });
        functions.flatten().collect()
    }

    #[tokio::test]
    async fn what_a_server_refuses_is_unknown_and_the_rest_is_told() {
        const REFUSED: [(&str, &str); 3] = [
            ("pg_last_wal_replay_lsn", "pg_lsn"),
            ("pg_current_wal_lsn", "pg_lsn"),
            ("pg_get_wal_replay_pause_state", "text"),
        ];
        for refusal in
            [Refusal::NoRight, Refusal::Missing, Refusal::Raises("0A000"), Refusal::Raises("55000")]
        {
            let cluster = cluster(1).await;
            let [primary, replica] = cluster.nodes() else { panic!("as many as asked for") };
            let (mut old_primary, mut old_replica) =
                (session(primary, "nobody").await, session(replica, "nobody").await);
            // A question that is kept goes on with a function that has another name by now.
            let asked = if let Refusal::NoRight = refusal { 2 } else { 1 };
            for _ in 0..asked {
                assert!(
                    ask(&mut old_primary).await.lsn.is_some() && ask(&mut old_replica).await.lsn.is_some()
                );
            }
            let sql = REFUSED.map(|(function, result)| refusal.sql(function, result)).join("; ");
            primary.sql(&sql).await.expect("a superuser may");
            let deadline = Instant::now() + Duration::from_secs(20);
            while ask(&mut session(replica, "nobody").await).await.lsn.is_some() {
                assert!(Instant::now() < deadline, "{refusal:?}: it does not get to the replica");
            }

            let (new_primary, new_replica) =
                (session(primary, "nobody").await, session(replica, "nobody").await);
            for mut session in [old_primary, new_primary] {
                let seen = ask(&mut session).await;
                assert!(!seen.in_recovery && seen.identity.system.is_some());
                assert_eq!((seen.lsn, seen.timeline), (None, None), "{refusal:?}");
                let withheld = withheld(&seen);
                assert!(withheld.contains(&"pg_current_wal_lsn"), "{refusal:?}: {withheld:?}");
                assert!(session.learned.columns.len() < COLUMNS, "it is remembered");
            }
            for mut session in [old_replica, new_replica] {
                let seen = ask(&mut session).await;
                assert!(seen.in_recovery && seen.identity.system.is_some());
                assert_eq!((seen.lsn, seen.timeline), (None, Some(1)), "{refusal:?}");
                let withheld = withheld(&seen);
                assert!(withheld.contains(&"pg_last_wal_replay_lsn"), "{refusal:?}: {withheld:?}");
                let standby = Standby {
                    replay_paused: None,
                    receiver: Some(Receiver::Streaming),
                    behind: None,
                    reported: None,
                };
                assert_eq!(seen.standby, standby, "{refusal:?}");
                assert!(session.learned.columns.len() < COLUMNS, "it is remembered");
            }
        }
    }

    #[test]
    fn a_row_says_nothing_where_a_server_does_and_nothing_that_it_does_not() {
        let now = Instant::now();
        let read = |columns: &[(&str, &'static str)]| {
            let told = |name: &str| columns.iter().find(|(column, _)| *column == name).map(|(_, text)| *text);
            Row(told).observation(now, now)
        };
        let always = [("in_recovery", "true"), ("started", "1795523972399019"), ("version", "140000")];
        let bare = Observation {
            in_recovery: true,
            lsn: None,
            inserted: None,
            identity: Identity { system: None, started: 1_795_523_972_399_019 },
            timeline: None,
            version: 140_000,
            standby: Standby::default(),
            limitations: vec![],
            asked_at: now,
            answered_at: now,
        };
        assert_eq!(read(&always), Ok(bare.clone()));

        let more = [
            ("replayed", "0/10"),
            ("system", "-1"),
            ("checkpoint_timeline", "3"),
            ("recovery_timeline", "4"),
        ];
        let full = Observation {
            lsn: Some(Lsn::new(16)),
            identity: Identity { system: Some(u64::MAX), ..bare.identity },
            timeline: Some(4),
            ..bare
        };
        assert_eq!(read(&[&always[..], &more].concat()), Ok(full));

        for (column, text, problem) in [
            ("in_recovery", "f", "the probe's query returned `f` as `in_recovery`"),
            ("written", "12", "the probe's query returned `12` as `written`"),
            ("received_timeline", "-1", "the probe's query returned `-1` as `received_timeline`"),
        ] {
            let wrong = [&[(column, text)][..], &always].concat();
            assert_eq!(read(&wrong).expect_err(column).as_ref(), problem);
        }
        assert_eq!(
            read(&always[1..]).expect_err("too little").as_ref(),
            "the probe's query returned no `in_recovery`"
        );
    }
}
