//! Closures that the router runs on a connection: it sees what becomes of them.

use super::{ReadRequest, Router, WriteRequest};
use crate::conn::{Freshness, ReadConn, SendFn, WriteConn};
use crate::error::Error;
use crate::freshness::CausalToken;
use crate::retry::Retry;
use crate::topology::Node;
use diesel::result::Error as QueryError;
use diesel_async::{AnsiTransactionManager, AsyncPgConnection, TransactionManager};
use futures_util::FutureExt;
use std::sync::Arc;
use tokio::time::{Instant, timeout};
use tracing::{Instrument, debug};

impl<T: Freshness> ReadRequest<'_, T> {
    /// Runs the closure on the connection that was asked for, and if the node is lost under it once more on another one: see
    /// [`Router::with_read`]. No second run begins after the request's [timeout](Self::timeout).
    ///
    /// # Errors
    ///
    /// As [`Router::with_read`].
    ///
    /// # Cancel safety
    ///
    /// As [`Router::with_read`].
    pub async fn run<R, E, F>(self, read: F) -> Result<R, E>
    where
        for<'r> F: AsyncFn(&'r mut ReadConn<T>) -> Result<R, E> + ReadFn<&'r mut ReadConn<T>, Result<R, E>>,
        E: From<Error> + Retry,
    {
        self.run_seen(read, &mut None).await
    }

    /// The same; tells which node served it in the end.
    pub(super) async fn run_seen<R, E, F>(self, read: F, served: &mut Option<Arc<Node>>) -> Result<R, E>
    where
        for<'r> F: AsyncFn(&'r mut ReadConn<T>) -> Result<R, E> + ReadFn<&'r mut ReadConn<T>, Result<R, E>>,
        E: From<Error> + Retry,
    {
        let shared = &*self.router.shared;
        shared.retries.count_read();
        let mut spans = self.spans();
        let (request, mut wanted, deadline, mut taken) = {
            let topology = shared.topology.load();
            let request = self.decided(&topology);
            let known = request.known();
            let taken = known.map_or(Err(None), |wanted| shared.try_take(&topology, &wanted));
            let taken = taken.map(|(node, lease)| (Arc::clone(node), lease)).map_err(|first| first.cloned());
            (request, known, request.deadline(&topology), taken)
        };
        let mut lost: Option<Arc<Node>> = None;
        loop {
            let (node, lease) = match taken {
                Ok(taken) => taken,
                Err(first) => {
                    let take = async {
                        let wanted = match wanted {
                            Some(wanted) => wanted,
                            None => *wanted.insert(request.resolved(deadline).await),
                        };
                        shared.take(wanted, first, lost.as_deref(), deadline).await
                    };
                    // Boxed, so that a call for which a connection is there is small: to move it would take longer than all it does.
                    Box::pin(take.instrument(spans.request())).await?
                }
            };
            if let Some(lost) = &lost {
                lost.traffic.retries.add();
            }
            let mut conn = self.handle(spans, &node, &shared.topology.load(), lease);
            *served = Some(Arc::clone(&node));
            let (result, retryable) = tokio::select! {
                biased;
                // Boxed, so that the whole call is `Send` also where the error is a trait object.
                result = read(&mut conn).boxed() => {
                    // In another language than English the server's text tells nobody else.
                    let lost = |error: &E| error.is_retryable() || conn.lost_a_call();
                    let retryable = result.as_ref().is_err_and(lost);
                    (result, retryable)
                }
                // Nobody waits for TCP to notice that a host is frozen.
                () = shared.topology.lost(&node) => (Err(Error::Lost { node: node.name.to_string() }.into()), true),
            };
            if !retryable || lost.is_some() {
                return result;
            }
            let now = Instant::now();
            let budget = shared.topology.load().settings.retry_budget;
            if now >= deadline.at || !shared.retries.withdraw(budget, now) {
                return result;
            }
            debug!(node = &*node.name, "a read was lost: trying another node");
            drop(conn);
            lost = Some(node);
            taken = Err(None);
            spans = self.spans();
        }
    }
}

impl WriteRequest<'_> {
    /// Runs the closure in a transaction on the primary, once: see [`Router::with_write`].
    ///
    /// # Errors
    ///
    /// As [`Router::with_write`].
    ///
    /// # Cancel safety
    ///
    /// As [`Router::with_write`].
    pub async fn run<R, E, F>(self, write: F) -> Result<(R, CausalToken), E>
    where
        for<'r> F: AsyncFnOnce(&'r mut AsyncPgConnection) -> Result<R, E>
            + SendFn<&'r mut AsyncPgConnection, Result<R, E>>,
        E: From<Error> + From<QueryError>,
    {
        let shared = &*self.router.shared;
        let spans = self.spans();
        let (deadline, taken) = {
            let topology = shared.topology.load();
            let taken = shared.try_write(&topology).map(|(node, lease)| (Arc::clone(node), lease));
            (self.deadline(&topology), taken)
        };
        let (node, mut lease) = match taken {
            Some(taken) => taken,
            None => {
                let checkout = shared.on_primary(deadline, |primary| &primary.writes);
                Box::pin(checkout.instrument(spans.request())).await?
            }
        };
        spans.end(&node, &shared.topology.load(), &mut lease);
        let (history, limit) = {
            let topology = shared.topology.load();
            (topology.history, topology.settings.probe_timeout)
        };
        let mut conn = WriteConn::new(lease, history, None);
        let (result, lost) = tokio::select! {
            biased;
            result = transaction(&mut conn, write) => (result, conn.lost_a_call()),
            () = shared.topology.deposed(&node) => {
                (Err(Error::Lost { node: node.name.to_string() }.into()), true)
            }
        };
        drop(conn);
        if result.is_err() && lost {
            // It may have been committed.
            self.uses(&node, &shared.topology.load());
        }
        let (value, token) = result?;
        if let Some(token) = token {
            self.observe(token);
            return Ok((value, token));
        }
        let position = timeout(limit, node.replay.asked_after(Instant::now())).await.ok();
        let lsn = position.filter(|position| !position.in_recovery).map(|position| position.inserted);
        let (system, timeline) = history.map_or((None, None), |history| (history.system, history.timeline));
        let token = CausalToken::new(system, timeline, lsn);
        self.observe(token);
        Ok((value, token))
    }
}

impl Router {
    /// Runs the closure on a connection to read from, and once more on another node when the first one is lost under it: its
    /// connection breaks, it shuts down, it cancels the query because of what it replays, a plan that it has cached has expired, or
    /// the monitor finds that it does not answer, in which case the closure is abandoned there and then. That is safe because what
    /// it is given cannot write. Errors of the query's own are never tried again; for an error type of your own, [`Retry`] says
    /// which are which.
    ///
    /// The closure may run twice: it must not consume what it captures, nor change it. Write `async |conn| ..`, not
    /// `async move |conn| ..`, and let it return what it has found out.
    ///
    /// No second run begins later than the [checkout timeout](crate::RouterBuilder::checkout_timeout) after the call began.
    /// Retries have a [budget](crate::RouterBuilder::retry_budget), so that they do not multiply the load on what is left.
    ///
    /// # Example
    ///
    /// ```no_run
    /// use diesel::prelude::*;
    /// use diesel_replicas::{Router, RunQueryDsl};
    /// # diesel::table! { rooms (id) { id -> Integer, name -> Text, } }
    ///
    /// async fn names(router: &Router, prefix: &str) -> QueryResult<Vec<String>> {
    ///     let starts = format!("{prefix}%");
    ///     router
    ///         .with_read(async |conn| {
    ///             rooms::table.select(rooms::name).filter(rooms::name.like(&starts)).load(conn).await
    ///         })
    ///         .await
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// What the closure returns, of its last run; or an [`Error`], made into the closure's type, when there was no connection or
    /// the node stopped to answer ([`Error::Lost`]).
    ///
    /// # Cancel safety
    ///
    /// Dropping the call drops the closure's future; its connection is cleaned up in the background.
    pub async fn with_read<R, E, F>(&self, read: F) -> Result<R, E>
    where
        for<'r> F: AsyncFn(&'r mut ReadConn) -> Result<R, E> + ReadFn<&'r mut ReadConn, Result<R, E>>,
        E: From<Error> + Retry,
    {
        self.read().run(read).await
    }

    /// Runs the closure in a transaction on the primary, once: committed if it succeeds, rolled back if it fails. It is never
    /// run again, since whether a transaction was committed when its connection broke cannot be known.
    ///
    /// With the closure's value comes the commit's [token](CausalToken): a read [after](ReadRequest::after) it sees what was written.
    /// It is asked for along with the commit, and costs no round trip.
    ///
    /// # Example
    ///
    /// ```no_run
    /// use diesel::prelude::*;
    /// use diesel_replicas::{Router, RunQueryDsl};
    /// # diesel::table! { rooms (id) { id -> Integer, name -> Text, } }
    ///
    /// # async fn example(router: Router) -> QueryResult<()> {
    /// let (id, token) = router
    ///     .with_write(async |conn| {
    ///         let new = diesel::insert_into(rooms::table).values(rooms::name.eq("lobby"));
    ///         new.returning(rooms::id).get_result::<i32>(conn).await
    ///     })
    ///     .await?;
    /// let name: String = router
    ///     .read()
    ///     .after(&token)
    ///     .run(async |conn| rooms::table.find(id).select(rooms::name).get_result(conn).await)
    ///     .await?;
    /// assert_eq!(name, "lobby");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// What the closure returns; Diesel's error if the transaction cannot begin or end, or was rolled back because a statement in
    /// it had failed, or a transaction inside was left open, although the closure succeeded; or an [`Error`], made into the closure's type, when there was no connection or
    /// the node stopped to answer or to be the primary ([`Error::Lost`]). After an error at the commit, or
    /// `Lost`, the transaction may have been committed all the same.
    ///
    /// # Cancel safety
    ///
    /// Dropping the call before the commit rolls the transaction back, in the background; during the commit it may go either way.
    pub async fn with_write<R, E, F>(&self, write: F) -> Result<(R, CausalToken), E>
    where
        for<'r> F: AsyncFnOnce(&'r mut AsyncPgConnection) -> Result<R, E>
            + SendFn<&'r mut AsyncPgConnection, Result<R, E>>,
        E: From<Error> + From<QueryError>,
    {
        self.write().run(write).await
    }
}

async fn transaction<R, E, F>(conn: &mut WriteConn, write: F) -> Result<(R, Option<CausalToken>), E>
where
    for<'r> F: AsyncFnOnce(&'r mut AsyncPgConnection) -> Result<R, E>
        + SendFn<&'r mut AsyncPgConnection, Result<R, E>>,
    E: From<QueryError>,
{
    AnsiTransactionManager::begin_transaction(&mut **conn).await?;
    // Boxed, so that the whole call is `Send` also where the error is a trait object.
    match write(conn).boxed().await {
        Ok(value) => Ok((value, conn.commit().await?)),
        Err(error) => match AnsiTransactionManager::rollback_transaction(&mut **conn).await {
            // The first error is what broke the transaction, and says more.
            Ok(()) | Err(QueryError::BrokenTransactionManager) => Err(error),
            Err(rollback) => Err(rollback.into()),
        },
    }
}

/// An async closure that can be called more than once and whose future is `Send`.
///
/// Implemented for every such closure. `AsyncFn` alone has no stable way to ask that its future be `Send`.
pub trait ReadFn<T, R>: AsyncFn(T) -> R + Fn(T) -> <Self as ReadFn<T, R>>::Future + Send + Sync {
    /// The future that the closure returns.
    type Future: Future<Output = R> + Send;
}

impl<F, T, R, Fut> ReadFn<T, R> for F
where
    F: AsyncFn(T) -> R + Fn(T) -> Fut + Send + Sync,
    Fut: Future<Output = R> + Send,
{
    type Future = Fut;
}
