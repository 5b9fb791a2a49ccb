//! Reads and writes that belong together.

use super::{ReadFn, ReadRequest, Router, WriteRequest};
use crate::conn::{Causal, ReadConn, SendFn};
use crate::error::Error;
use crate::freshness::{CausalToken, History};
use crate::replay::Position;
use crate::retry::Retry;
use crate::topology::{Node, Topology};
use diesel::result::Error as QueryError;
use diesel_async::AsyncPgConnection;
use futures_util::future::join_all;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::time::{Instant, timeout_at};
use tracing::debug;

/// What one user does: every read sees what the session has written, and never less than what it has read before.
///
/// It carries a [`CausalToken`] forward: a write moves it to its commit, and a read to what its node had replayed. Cheap to clone; all
/// clones are the same session. One limit: PostgreSQL may show a commit of others on a replica a moment before it does on the primary,
/// with synchronous replication until a replica has answered. A read of the session that goes to the primary waits until it is shown
/// there, up to the [causal wait](crate::RouterBuilder::causal_wait) and for a commit that nobody answers for a second at most; a
/// [`write`](Self::write) and a read of the [latest](ReadRequest::latest) do not.
///
/// For a session that goes on elsewhere, in the next request or a background job, take its
/// [token](Self::token) along.
///
/// # Example
///
/// ```no_run
/// # use diesel::prelude::*;
/// # use diesel_replicas::{Router, RunQueryDsl};
/// # diesel::table! { rooms (id) { id -> Integer, name -> Text, } }
/// # async fn example(router: Router) -> QueryResult<()> {
/// let session = router.session();
/// session
///     .with_write(async |conn| {
///         diesel::insert_into(rooms::table).values(rooms::name.eq("lobby")).execute(conn).await
///     })
///     .await?;
/// // On a replica as a rule, and the lobby is there.
/// let names: Vec<String> =
///     session.with_read(async |conn| rooms::table.select(rooms::name).load(conn).await).await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Session {
    router: Router,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    token: Option<CausalToken>,
    /// The same, but for what was only read.
    of_writes: Option<CausalToken>,
    /// Whether it is within the share of a rollout.
    draw: Option<u64>,
    /// What was used since, of which it is not known how far it had come.
    uses: Vec<Use>,
}

/// The handles that the session was given to one node.
#[derive(Debug)]
struct Use {
    of: Used,
    /// Each handle that is out has a clone.
    out: Arc<()>,
    /// How many there were.
    handles: u64,
}

/// A node that the session had a connection to.
#[derive(Debug, Clone)]
struct Used {
    node: Arc<Node>,
    /// As it was known then.
    history: Option<History>,
    /// When its server started that was known then, which tells nothing of another one.
    started: Option<i64>,
    wrote: bool,
}

impl PartialEq for Used {
    fn eq(&self, other: &Self) -> bool {
        let parts = |used: &Self| (used.history, used.started, used.wrote);
        Arc::ptr_eq(&self.node, &other.node) && parts(self) == parts(other)
    }
}

impl Router {
    /// A session that has seen nothing yet.
    pub fn session(&self) -> Session {
        Session { router: self.clone(), state: Arc::default() }
    }

    /// Whether the token is known to be of another cluster than this router's.
    #[cfg(feature = "tower")]
    pub(crate) fn is_foreign(&self, token: &CausalToken) -> bool {
        let history = self.shared.topology.load().history;
        history.is_some_and(|history| history.target(token) == Err(crate::freshness::Mismatch::OtherCluster))
    }
}

impl Session {
    /// Carries on from this token as well: reads from now on see its commit.
    ///
    /// A token of another cluster takes the place of what the session had: it is known to be invalid when it is used.
    pub fn observe(&self, token: CausalToken) {
        self.state().observe(token);
    }

    /// Forgets all that it has seen: for a token that turned out to be [invalid](Error::is_invalid_token). What happens from now on
    /// counts as seen, also on connections that it has got before.
    pub fn forget(&self) {
        let mut state = self.state();
        state.uses.retain(Use::goes_on);
        (state.token, state.of_writes) = (None, None);
    }

    /// Asks for a connection to read from that shows all that this session has seen.
    pub fn read(&self) -> ReadRequest<'_, Causal> {
        ReadRequest::of_session(&self.router, self)
    }

    /// Asks for a connection to write with. All that is committed on it counts as seen.
    pub fn write(&self) -> WriteRequest<'_> {
        WriteRequest::of_session(&self.router, self)
    }

    /// Runs the closure on a connection that shows all that this session has seen: see [`Router::with_read`].
    ///
    /// # Errors
    ///
    /// As [`Router::with_read`].
    ///
    /// # Cancel safety
    ///
    /// As [`Router::with_read`].
    pub async fn with_read<R, E, F>(&self, read: F) -> Result<R, E>
    where
        for<'r> F: AsyncFn(&'r mut ReadConn<Causal>) -> Result<R, E>
            + ReadFn<&'r mut ReadConn<Causal>, Result<R, E>>,
        E: From<Error> + Retry,
    {
        self.read().run(read).await
    }

    /// Runs the closure in a transaction on the primary, once: see [`Router::with_write`]. Its commit counts as seen.
    ///
    /// # Errors
    ///
    /// As [`Router::with_write`].
    ///
    /// # Cancel safety
    ///
    /// As [`Router::with_write`]. A commit that the call was dropped under may not count as seen.
    pub async fn with_write<R, E, F>(&self, write: F) -> Result<R, E>
    where
        for<'r> F: AsyncFnOnce(&'r mut AsyncPgConnection) -> Result<R, E>
            + SendFn<&'r mut AsyncPgConnection, Result<R, E>>,
        E: From<Error> + From<QueryError>,
    {
        let (value, _) = self.write().run(write).await?;
        Ok(value)
    }

    /// All that this session has seen up to now; `None` if that is nothing.
    ///
    /// The nodes that it has used since are asked where they are, all sessions of a node with one question; without such, it asks nobody.
    /// A node that does not answer within the [probe timeout](crate::RouterBuilder::probe_timeout) holds it up no longer.
    ///
    /// # Cancel safety
    ///
    /// A dropped call changes nothing.
    pub async fn token(&self) -> Option<CausalToken> {
        self.resolve(true, None).await;
        self.state().token
    }

    /// The same, but for what was only read.
    pub async fn token_of_writes(&self) -> Option<CausalToken> {
        self.resolve(false, None).await;
        self.state().of_writes
    }

    /// The same as [`token`](Self::token), found out by then.
    pub(super) async fn token_by(&self, until: Instant) -> Option<CausalToken> {
        self.resolve(true, Some(until)).await;
        self.state().token
    }

    /// What is known, if nobody has to be asked for more.
    pub(crate) fn known(&self) -> Option<Option<CausalToken>> {
        let state = self.state();
        state.uses.is_empty().then_some(state.token)
    }

    /// The session's draw, once for all of its reads.
    pub(super) fn draw(&self, draw: impl FnOnce() -> u64) -> u64 {
        *self.state().draw.get_or_insert_with(draw)
    }

    /// The session gets a handle to this node, which has to keep what this returns.
    pub(super) fn uses(&self, node: &Arc<Node>, topology: &Topology, wrote: bool) -> Arc<()> {
        let seen = topology.seen(node).and_then(|seen| seen.view.seen.as_ref());
        let started = seen.map(|seen| seen.identity.started);
        let of = Used { node: Arc::clone(node), history: topology.history, started, wrote };
        let mut state = self.state();
        match state.uses.iter_mut().find(|known| known.of == of) {
            Some(known) => {
                known.handles += 1;
                Arc::clone(&known.out)
            }
            None => {
                let out = Arc::default();
                state.uses.push(Use { of, out: Arc::clone(&out), handles: 1 });
                out
            }
        }
    }

    /// Finds out what the nodes that were used had at most, which is what they have now.
    async fn resolve(&self, reads: bool, until: Option<Instant>) {
        let asked: Vec<_> = {
            let state = self.state();
            let asked = state.uses.iter().filter(|known| known.of.wrote || reads);
            // Through a handle that is out, more may be seen than there is now.
            asked.map(|known| (known.of.clone(), known.handles, !known.goes_on())).collect()
        };
        let asking = asked.into_iter().map(async |(used, handles, are_back)| {
            let (token, of_primary) = self.seen_on(&used, until).await;
            (used, handles, are_back, token, of_primary)
        });
        for (used, handles, are_back, token, of_primary) in join_all(asking).await {
            let mut state = self.state();
            if of_primary {
                state.catch_up(token);
            }
            match used.wrote {
                true => state.observe(token),
                false => state.token = Some(later(state.token, token)),
            }
            if are_back {
                state.uses.retain(|known| known.of != used || known.handles != handles);
            }
        }
    }

    /// A token of all that may have been seen on a node, and whether it is one of all that there is. When the node does not tell, the
    /// primary does, which is ahead of all others; and when nobody does, only the primary is known to have it.
    async fn seen_on(&self, used: &Used, until: Option<Instant>) -> (CausalToken, bool) {
        let Used { node, history, started, .. } = used;
        let topology = self.router.shared.topology.load_full();
        let primary = topology.primary().ok().map(|primary| &primary.node);
        let limit = topology.settings.probe_timeout;
        let ask = async |node: &Node| {
            // Some servers never tell.
            node.replay.latest()?;
            let now = Instant::now();
            let until = until.map_or(now + limit, |until| until.min(now + limit));
            timeout_at(until, node.replay.asked_after(now)).await.ok()
        };
        if let Some(position) = ask(node).await {
            if !position.in_recovery && primary.is_some_and(|primary| primary.id == node.id) {
                return (token(topology.history, Some(position)), true);
            }
            // One that has begun anew may have less than what was seen.
            if position.in_recovery && *started == Some(position.started) {
                return (token(history.or(topology.history), Some(position)), false);
            }
        }
        let position = match primary.filter(|primary| primary.id != node.id) {
            Some(primary) => {
                debug!(node = &*node.name, "does not say what a session has seen there: asking the primary");
                ask(primary).await.filter(|position| !position.in_recovery)
            }
            None => None,
        };
        match position {
            Some(position) => (token(topology.history, Some(position)), true),
            None => (token(history.or(topology.history), None), false),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is whole: a panic leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Use {
    /// Whether a handle is out.
    fn goes_on(&self) -> bool {
        Arc::strong_count(&self.out) > 1
    }
}

impl State {
    fn observe(&mut self, token: CausalToken) {
        for seen in [&mut self.token, &mut self.of_writes] {
            *seen = Some(later(*seen, token));
        }
    }

    /// The token is one of all that there is. That is also where a commit lies whose position was not known.
    fn catch_up(&mut self, token: CausalToken) {
        let is_covered = |before: &CausalToken| {
            before.lsn().is_none()
                && before.system() == token.system()
                && before.timeline() <= token.timeline()
        };
        for seen in [&mut self.token, &mut self.of_writes] {
            if seen.as_ref().is_some_and(is_covered) {
                *seen = Some(token);
            }
        }
    }
}

/// Of another cluster, the new one takes the place of what was before.
fn later(before: Option<CausalToken>, new: CausalToken) -> CausalToken {
    before.and_then(|before| before.merge(new).ok()).unwrap_or(new)
}

/// On a primary what is visible may have been inserted alone.
fn token(history: Option<History>, position: Option<Position>) -> CausalToken {
    let (system, timeline) = history.map_or((None, None), |history| (history.system, history.timeline));
    CausalToken::new(system, timeline, position.map(|position| position.inserted))
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("token", &self.state().token).finish_non_exhaustive()
    }
}
