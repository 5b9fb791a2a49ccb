//! Reads that run on a replica as well, to see whether they could move there.

use super::checkout::Deadline;
use super::wanted::Wanted;
use super::{ReadRequest, Router, Shared};
use crate::conn::ReadConn;
use crate::error::Error;
use crate::retry::Retry;
use crate::rollout::Outcome;
use crate::topology::Node;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};
use tracing::warn;

/// A read that takes longer beside the one that counted is given up.
const LONGEST: Duration = Duration::from_secs(1);

/// The future of a [shadowed read](Router::with_shadowed_read): `Box::pin` of an `async move` block.
pub type Reading<'a, R, E> = Pin<Box<dyn Future<Output = Result<R, E>> + Send + 'a>>;

impl ReadRequest<'_> {
    /// Runs the closure as [`run`](Self::run) does, and a share of the calls that the primary served on a replica as well: see
    /// [`Router::with_shadowed_read`].
    ///
    /// # Errors
    ///
    /// As [`Router::with_read`].
    ///
    /// # Cancel safety
    ///
    /// As [`Router::with_shadowed_read`].
    pub async fn run_shadowed<R, E, F>(self, read: F) -> Result<R, E>
    where
        F: for<'r> Fn(&'r mut ReadConn) -> Reading<'r, R, E> + Send + Sync + 'static,
        R: Clone + PartialEq + Send + 'static,
        E: From<Error> + Retry + 'static,
    {
        let mut served = None;
        let result = self.run_seen(async |conn| read(conn).await, &mut served).await;
        if let (Ok(value), Some(node)) = (&result, served) {
            self.router.shadow(read, value, &node, self.site);
        }
        result
    }
}

impl Router {
    /// Runs the closure as [`with_read`](Self::with_read) does. Where the primary served it, and the
    /// [rollout](crate::Rollout::shadow_percent) has this call among its share, the closure then runs once more on a replica that has all
    /// that the primary had shown, and the results are compared: [`Status::shadow`](crate::Status::shadow) counts what came of it, and a
    /// difference is logged, without the results.
    ///
    /// The caller has its result before that begins: neither slowness nor a failure on the replica reaches it. At most four
    /// such reads run at a time, for a second at most; others are skipped.
    ///
    /// Results that differ are compared with the primary's once more: if that has changed too, somebody has written meanwhile.
    ///
    /// # Example
    ///
    /// The closure outlives the call, so it owns what it needs, and its future is boxed:
    ///
    /// ```no_run
    /// use diesel::prelude::*;
    /// use diesel_replicas::{Router, RunQueryDsl};
    /// # diesel::table! { rooms (id) { id -> Integer, name -> Text, } }
    ///
    /// async fn name(router: &Router, id: i32) -> QueryResult<String> {
    ///     router
    ///         .with_shadowed_read(move |conn| {
    ///             Box::pin(async move { rooms::table.find(id).select(rooms::name).first(conn).await })
    ///         })
    ///         .await
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`with_read`](Self::with_read).
    ///
    /// # Cancel safety
    ///
    /// As [`with_read`](Self::with_read); a call that was dropped runs on no replica. What runs there keeps the router alive.
    pub async fn with_shadowed_read<R, E, F>(&self, read: F) -> Result<R, E>
    where
        F: for<'r> Fn(&'r mut ReadConn) -> Reading<'r, R, E> + Send + Sync + 'static,
        R: Clone + PartialEq + Send + 'static,
        E: From<Error> + Retry + 'static,
    {
        self.read().run_shadowed(read).await
    }

    fn shadow<R, E, F>(&self, read: F, value: &R, served: &Node, site: Option<&str>)
    where
        F: for<'r> Fn(&'r mut ReadConn) -> Reading<'r, R, E> + Send + Sync + 'static,
        E: 'static,
        R: Clone + PartialEq + Send + 'static,
    {
        let shared = &self.shared;
        let topology = shared.topology.load_full();
        let on_primary = topology.primary().is_ok_and(|primary| primary.node.id == served.id);
        if !on_primary || !topology.settings.read_replicas_enabled || !shared.rollout.shadows() {
            return;
        }
        let Some(slot) = shared.rollout.shadows.enter() else { return };
        let (shared, value, site) = (Arc::clone(shared), value.clone(), site.map(str::to_owned));
        tokio::spawn(async move {
            let compared = timeout(LONGEST, shared.compare(&read, value, site.as_deref())).await;
            slot.end(compared.unwrap_or(Outcome::TimedOut));
        });
    }
}

impl Shared {
    async fn compare<R, E, F>(&self, read: &F, value: R, site: Option<&str>) -> Outcome
    where
        F: for<'r> Fn(&'r mut ReadConn) -> Reading<'r, R, E>,
        R: PartialEq,
    {
        let deadline = Deadline::after(LONGEST);
        let topology = self.topology.load_full();
        let Some(token) = self.token_of_now(&topology, deadline.at).await else { return Outcome::Skipped };
        let wanted = Wanted { after: Some(token), ..Wanted::default() };
        let Ok((node, lease)) = self.read_fresh(wanted, None, None, deadline).await else {
            return Outcome::Skipped;
        };
        if topology.primary().is_ok_and(|primary| primary.node.id == node.id) {
            return Outcome::Skipped;
        }
        let mut conn = ReadConn::new(lease, None);
        let Some(other) = read(&mut conn).await.ok() else { return Outcome::Failed };
        drop(conn);
        if other == value {
            return Outcome::Equal;
        }
        let Ok((_, lease)) = self.on_primary(deadline, |primary| &primary.node.reads).await else {
            return Outcome::Skipped;
        };
        let mut conn = ReadConn::new(lease, None);
        match read(&mut conn).await.ok() {
            None => Outcome::Failed,
            Some(again) if again != value => Outcome::Changed,
            Some(_) => {
                if self.rollout.shadows.may_tell(Instant::now()) {
                    warn!(node = &*node.name, site, "a replica reads something else than the primary");
                }
                Outcome::Different
            }
        }
    }
}
