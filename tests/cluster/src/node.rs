use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use rustix::process::Signal;
use tokio::time::{Instant, sleep, timeout_at};

use crate::{Error, Lsn, server::Server, session::Session};

/// How long a lever waits for its effect.
const PATIENCE: Duration = Duration::from_secs(30);

/// One server of a [`Cluster`](crate::Cluster): where it is, and the levers that make it lag, fail or change its role.
///
/// A handle: clones are of the same server. It ends with its cluster, not with its last handle.
///
/// Each lever returns when its effect is there, and fails with [`Error::Deadline`] when that takes longer than 30 seconds
/// (a minute for starting and stopping). A lever whose future is dropped may have had its effect or not.
#[derive(Debug, Clone)]
pub struct Node(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    server: Server,
    /// Whom it follows. Weak, so that two nodes that came to name each other do not keep each other alive.
    upstream: Mutex<Weak<Self>>,
}

/// How far a node has come.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Position {
    /// The node's name.
    pub node: String,
    /// What a primary has written, or what a standby has replayed.
    pub lsn: Lsn,
    /// The timeline that it writes or follows.
    pub timeline: u32,
    /// Whether it is a standby.
    pub in_recovery: bool,
}

/// The timeline of a primary is that of the file it writes; the control file would lag after a promotion.
const POSITION: &str = "\
    SELECT CASE WHEN pg_is_in_recovery() THEN concat_ws(' ', 'standby', pg_last_wal_replay_lsn(), greatest( \
        (SELECT received_tli FROM pg_stat_wal_receiver), \
        (SELECT min_recovery_end_timeline FROM pg_control_recovery()), \
        (SELECT timeline_id FROM pg_control_checkpoint()))) \
    ELSE concat_ws(' ', 'primary', pg_current_wal_lsn(), \
        ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int) END";

impl Position {
    fn parse(node: &str, text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        Some(Self {
            node: node.to_owned(),
            in_recovery: words.next()? == "standby",
            lsn: words.next()?.parse().ok()?,
            timeline: words.next()?.parse().ok()?,
        })
    }
}

impl Node {
    pub(crate) fn new(name: String, server: Server) -> Self {
        Self(Arc::new(Inner { name, server, upstream: Mutex::new(Weak::new()) }))
    }

    pub(crate) fn server(&self) -> &Server {
        &self.0.server
    }

    /// `primary`, `replica1`, `replica2`, ...: what it was at first. A node keeps its name when its role changes.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// `postgres://postgres@127.0.0.1:15432/postgres`: a superuser without a password.
    ///
    /// A local server keeps its port for good. A container may have another one after [`start`](Self::start): ask again then.
    #[must_use]
    pub fn url(&self) -> String {
        let (host, port) = self.0.server.address();
        format!("postgres://postgres@{host}:{port}/postgres")
    }

    /// Runs one or more SQL statements on a connection of their own and returns the first column of the last row as text;
    /// `None` when there is no row or the value is NULL.
    ///
    /// # Errors
    ///
    /// [`Error::Sql`] when the node cannot be reached or refuses, [`Error::NoAnswer`] after 30 seconds.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection; the server may still finish the statements.
    pub async fn sql(&self, statements: &str) -> Result<Option<String>, Error> {
        self.session().await?.ask(statements).await
    }

    /// Reads how far the node has come, and on which timeline.
    ///
    /// # Errors
    ///
    /// As [`sql`](Self::sql).
    pub async fn position(&self) -> Result<Position, Error> {
        let text = self.sql(POSITION).await?.unwrap_or_default();
        Position::parse(self.name(), &text)
            .ok_or_else(|| self.refused(format!("it told its position as `{text}`")))
    }

    /// Stops replaying WAL, exactly here; the receiver goes on receiving.
    ///
    /// # Errors
    ///
    /// As [`sql`](Self::sql), 55000 on a primary; [`Error::Deadline`].
    pub async fn pause_replay(&self) -> Result<(), Error> {
        self.sql("SELECT pg_wal_replay_pause()").await?;
        self.until("its replay is paused", "SELECT pg_get_wal_replay_pause_state() = 'paused'").await
    }

    /// Replays again after [`pause_replay`](Self::pause_replay).
    ///
    /// # Errors
    ///
    /// As [`pause_replay`](Self::pause_replay).
    pub async fn resume_replay(&self) -> Result<(), Error> {
        self.sql("SELECT pg_wal_replay_resume()").await?;
        self.until("its replay goes on", "SELECT pg_get_wal_replay_pause_state() = 'not paused'").await
    }

    /// Takes the WAL receiver away: nothing new arrives, what has arrived is replayed, and the node goes on serving.
    ///
    /// # Errors
    ///
    /// As [`sql`](Self::sql), [`Error::Deadline`].
    pub async fn cut_receiver(&self) -> Result<(), Error> {
        self.set("primary_conninfo", "").await?;
        self.until("it has no WAL receiver", "SELECT NOT EXISTS (SELECT FROM pg_stat_wal_receiver)").await
    }

    /// Gives the WAL receiver back after [`cut_receiver`](Self::cut_receiver), and returns when the node streams.
    ///
    /// # Errors
    ///
    /// As [`sql`](Self::sql), [`Error::Deadline`]; [`Error::Refused`] on a node that follows none.
    pub async fn reconnect_receiver(&self) -> Result<(), Error> {
        let upstream = self.upstream().upgrade().map(Self);
        let upstream = upstream.ok_or_else(|| self.refused("it follows no other node"))?;
        self.set("primary_conninfo", &self.conninfo(&upstream)).await?;
        self.until_streaming_from(&upstream).await
    }

    /// Holds every commit back until it is this old, in whole milliseconds; zero ends it.
    ///
    /// # Errors
    ///
    /// As [`sql`](Self::sql), [`Error::Deadline`].
    pub async fn apply_delay(&self, delay: Duration) -> Result<(), Error> {
        let millis = delay.as_millis();
        self.set("recovery_min_apply_delay", &millis.to_string()).await?;
        let shown = "SELECT setting::bigint FROM pg_settings WHERE name = 'recovery_min_apply_delay'";
        self.until("it has the new delay", &format!("SELECT ({shown}) = {millis}")).await
    }

    /// `kill -9` of all the server's processes, frozen or not (of its container). Does nothing when it does not run.
    ///
    /// # Errors
    ///
    /// When the operating system or the container engine refuses.
    pub async fn kill(&self) -> Result<(), Error> {
        self.0.server.kill().await
    }

    /// An immediate stop (`SIGQUIT`): connections are closed without a word, the next start recovers from WAL.
    ///
    /// # Errors
    ///
    /// [`Error::Deadline`] when it has not ended after a minute, as a frozen one has not.
    pub async fn stop_immediate(&self) -> Result<(), Error> {
        self.0.server.stop(Signal::QUIT).await
    }

    /// A fast stop (`SIGINT`): sessions are ended with 57P01, standbys receive everything first.
    ///
    /// # Errors
    ///
    /// As [`stop_immediate`](Self::stop_immediate).
    pub async fn stop_fast(&self) -> Result<(), Error> {
        self.0.server.stop(Signal::INT).await
    }

    /// Starts it again after a stop or a kill, with its data as they are, and returns when it accepts connections. Does
    /// nothing when it runs.
    ///
    /// # Errors
    ///
    /// [`Error::Start`] with the end of the server's log when it ends instead, [`Error::Deadline`] after a minute.
    pub async fn start(&self) -> Result<(), Error> {
        self.0.server.start().await
    }

    /// Stops all its processes where they are: connections hang, new ones are accepted by the kernel and get no answer.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when it does not run.
    pub async fn freeze(&self) -> Result<(), Error> {
        self.0.server.freeze().await
    }

    /// Lets it run on after [`freeze`](Self::freeze).
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when it does not run.
    pub async fn thaw(&self) -> Result<(), Error> {
        self.0.server.thaw().await
    }

    /// Makes a standby a primary on a new timeline. The old primary, if it lives, stays writable, and the other standbys
    /// go on following it until they are told to [`follow`](Self::follow) this one.
    ///
    /// # Errors
    ///
    /// As [`sql`](Self::sql), 55000 on a primary; [`Error::Deadline`].
    pub async fn promote(&self) -> Result<(), Error> {
        self.sql(&format!("SELECT pg_promote(true, {})", PATIENCE.as_secs() - 1)).await?;
        self.until("it has left recovery", "SELECT NOT pg_is_in_recovery()").await?;
        *self.upstream() = Weak::new();
        Ok(())
    }

    /// Makes the node a standby of `upstream`, and returns when it streams from it.
    ///
    /// A running standby whose WAL is part of `upstream`'s history is repointed, across a change of timeline too. Every other
    /// node, such as an old primary, running or not, loses its data and gets a copy of `upstream`'s.
    ///
    /// # Errors
    ///
    /// When copying or starting fails, or it does not stream in time.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: the node may be left stopped and without data. Calling it again repairs that.
    pub async fn follow(&self, upstream: &Self) -> Result<(), Error> {
        let conninfo = self.conninfo(upstream);
        if self.shares_history_with(upstream).await {
            self.set("primary_conninfo", &conninfo).await?;
        } else {
            self.0.server.start_as_copy_of(&upstream.0.server, &conninfo).await?;
        }
        self.set_upstream(upstream);
        self.until_streaming_from(upstream).await
    }

    /// Whether the node is a standby that has no WAL which `upstream` does not have. Anything unknown is a no.
    async fn shares_history_with(&self, upstream: &Self) -> bool {
        let Ok(session) = self.session().await else { return false };
        let Ok(Some(text)) = session.ask(POSITION).await else { return false };
        let Some(ours) = Position::parse(self.name(), &text) else { return false };
        let Ok(theirs) = upstream.position().await else { return false };
        if !ours.in_recovery || ours.timeline > theirs.timeline {
            return false;
        }
        let end = if ours.timeline == theirs.timeline {
            Some(theirs.lsn)
        } else {
            let file = format!("SELECT pg_read_file('pg_wal/{:08X}.history')", theirs.timeline);
            let history = upstream.sql(&file).await.ok().flatten().unwrap_or_default();
            end_of_timeline(&history, ours.timeline)
        };
        let received = "SELECT greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())";
        let Ok(Some(received)) = session.ask(received).await else { return false };
        received.parse::<Lsn>().is_ok_and(|received| end.is_some_and(|end| received <= end))
    }

    pub(crate) fn set_upstream(&self, upstream: &Self) {
        *self.upstream() = Arc::downgrade(&upstream.0);
    }

    fn upstream(&self) -> std::sync::MutexGuard<'_, Weak<Inner>> {
        // One assignment: a panic leaves nothing half done.
        self.0.upstream.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How this node connects to `upstream` for WAL.
    pub(crate) fn conninfo(&self, upstream: &Self) -> String {
        let (host, port) = upstream.0.server.address_for_nodes();
        format!("host={host} port={port} user=postgres application_name={}", self.name())
    }

    /// Both sides have to say so: `upstream` may not have noticed yet that an earlier connection is gone.
    pub(crate) async fn until_streaming_from(&self, upstream: &Self) -> Result<(), Error> {
        let (host, port) = upstream.0.server.address_for_nodes();
        let receiver = format!(
            "SELECT EXISTS (SELECT FROM pg_stat_wal_receiver \
             WHERE status = 'streaming' AND sender_host = '{host}' AND sender_port = {port})"
        );
        self.until(&format!("it receives WAL from {}", upstream.name()), &receiver).await?;
        let sender = format!(
            "SELECT EXISTS (SELECT FROM pg_stat_replication WHERE state = 'streaming' AND application_name = '{}')",
            self.name()
        );
        upstream.until(&format!("{} streams from it", self.name()), &sender).await
    }

    pub(crate) async fn until_replayed(&self, lsn: Lsn) -> Result<(), Error> {
        let reached = format!(
            "SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END >= '{lsn}'"
        );
        self.until(&format!("it has replayed {lsn}"), &reached).await
    }

    async fn set(&self, name: &str, value: &str) -> Result<(), Error> {
        // `ALTER SYSTEM` runs in no transaction block, and several statements in one message make one.
        let session = self.session().await?;
        let value = value.replace('\'', "''");
        session.ask(&format!("ALTER SYSTEM SET {name} = '{value}'")).await?;
        session.ask("SELECT pg_reload_conf()").await.map(drop)
    }

    async fn session(&self) -> Result<Session, Error> {
        let (host, port) = self.0.server.address();
        Session::open(self.name(), &host, port).await
    }

    /// Asks until the answer is true. A node that cannot be reached yet may be on its way.
    async fn until(&self, effect: &str, condition: &str) -> Result<(), Error> {
        let deadline = Instant::now() + PATIENCE;
        let mut pause = Duration::from_millis(1);
        let mut session = None;
        let mut last = "no answer".to_owned();
        loop {
            match timeout_at(deadline, self.ask_in(&mut session, condition)).await {
                Ok(Ok(answer)) if answer.as_deref() == Some("t") => return Ok(()),
                Ok(Ok(answer)) => last = format!("the answer is {}", answer.as_deref().unwrap_or("null")),
                Ok(Err(error)) => {
                    session = None;
                    last = error.to_string();
                }
                Err(_) => last.push_str(", then no answer"),
            }
            if Instant::now() + pause >= deadline {
                return Err(Error::Deadline {
                    node: self.name().to_owned(),
                    effect: effect.to_owned(),
                    waited: PATIENCE,
                    last,
                    log: self.0.server.log_tail().await,
                });
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }

    async fn ask_in(&self, session: &mut Option<Session>, statement: &str) -> Result<Option<String>, Error> {
        let open = match session.take() {
            Some(open) => open,
            None => self.session().await?,
        };
        let answer = open.ask(statement).await;
        *session = Some(open);
        answer
    }

    fn refused(&self, reason: impl Into<String>) -> Error {
        Error::Refused { node: self.name().to_owned(), reason: reason.into() }
    }
}

/// Where a timeline ended, as the history file of a later one tells: `1<tab>0/3000148<tab>reason`.
fn end_of_timeline(history: &str, timeline: u32) -> Option<Lsn> {
    history.lines().find_map(|line| {
        let mut fields = line.split_whitespace();
        (fields.next()?.parse() == Ok(timeline)).then(|| fields.next()?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_tells_where_each_timeline_ended() {
        let history = "1\t0/3000148\tno recovery target specified\n\n2\t1/A0\tno recovery target specified\n";
        assert_eq!(end_of_timeline(history, 1), "0/3000148".parse().ok());
        assert_eq!(end_of_timeline(history, 2), "1/A0".parse().ok());
        assert_eq!(end_of_timeline(history, 3), None);
    }

    #[test]
    fn a_position_needs_all_its_parts() {
        let position = Position::parse("replica1", "standby 0/16B3748 2").unwrap();
        assert_eq!((position.timeline, position.in_recovery), (2, true));
        assert_eq!(Position::parse("replica1", "standby 0/16B3748"), None);
        assert_eq!(Position::parse("replica1", ""), None);
    }
}
