//! A connection that is out, and what happens to it when it comes back.

use super::manager::{Pooled, discard};
use super::place::Place;
use super::wire::{CANCEL, GRACE, User, Wire};
use super::{Access, Opened, Shared};
use crate::failure::Cause;
use crate::metrics::Since;
use diesel_async::pooled_connection::PoolableConnection;
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::pin::pin;
use tokio::time::timeout;
use tokio_postgres::NoTls;
use tracing::Span;

/// A connection on loan from its pool.
///
/// Dropping it returns at once. A connection that is not idle then is settled in the background: it gets a moment to
/// finish, is cancelled on the server if it does not, and is closed unless it has become idle, outside a transaction, by
/// itself. Until that is decided it counts against the pool's size and is given to nobody.
pub(crate) struct Lease {
    loan: Option<Loan>,
    purpose: Access,
    /// Of a call that had to wait.
    began: Option<Since>,
    /// Since when somebody has it as a handle.
    lent: Option<Since>,
    /// Of the handle.
    span: Span,
}

struct Loan {
    pooled: Pooled,
    place: Place,
}

impl Lease {
    /// For a call that had to wait, and `began` then, or that had not.
    pub(super) fn new(pooled: Pooled, place: Place, purpose: Access, began: Option<Since>) -> Self {
        // The handle counts, not the connection: settling is nobody's query.
        place.shared().traffic.in_flight().begin();
        Self { loan: Some(Loan { pooled, place }), purpose, began, lent: None, span: Span::none() }
    }

    /// It is what was asked for, and becomes a handle.
    pub(crate) fn hand_out(&mut self) {
        let shared = self.shared();
        shared.traffic.handles(self.purpose == Access::ReadWrite).add();
        self.lent = Some(shared.usage().times.waited(self.began));
    }

    /// The span ends when the connection is given back.
    pub(crate) fn trace(&mut self, span: Span) {
        self.span = span;
    }

    /// The name of the node that the connection leads to.
    pub(crate) fn node(&self) -> &str {
        &self.shared().node
    }

    /// The cause of the last error that the server sent, in whatever language, since a call began.
    pub(crate) fn heard(&self) -> Option<Cause> {
        self.loan().pooled.record.heard()
    }

    /// How the connection began.
    pub(crate) fn opened(&self) -> Opened {
        self.loan().pooled.opened
    }

    /// The connection gets no other user.
    pub(crate) fn condemn(&self) {
        self.loan().pooled.record.condemn();
    }

    fn shared(&self) -> &Shared {
        self.loan().place.shared()
    }

    fn loan(&self) -> &Loan {
        self.loan.as_ref().expect(UNTIL_DROP)
    }
}

const UNTIL_DROP: &str = "the loan is taken out by drop alone";

impl Deref for Lease {
    type Target = AsyncPgConnection;

    fn deref(&self) -> &AsyncPgConnection {
        &self.loan().pooled.pg
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut AsyncPgConnection {
        &mut self.loan.as_mut().expect(UNTIL_DROP).pooled.pg
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(mut loan) = self.loan.take() else { return };
        loan.place.shared().traffic.in_flight().end();
        if let Some(lent) = self.lent {
            loan.place.shared().usage().times.used(lent);
        }
        let user = loan.place.shared().user();
        let connection = &mut **loan.pooled;
        connection.record.give_back();
        // A panic may have stopped anything half-way; it must be seen here, on the thread that panics.
        let unfit = std::thread::panicking() || connection.pg.is_broken();
        match &connection.wire {
            Some(wire) if wire.is_idle() && !unfit => wire.give_back(user),
            Some(wire) if wire.is_closed() => connection.record.condemn(),
            _ => {
                if unfit {
                    connection.record.condemn();
                }
                let runtime = loan.place.shared().runtime.clone();
                runtime.spawn(loan.settle(user));
                return;
            }
        }
        // bb8 starts a task only to keep a minimum of idle connections, of which these pools have none: no runtime is needed here.
        loan.end();
    }
}

impl Loan {
    /// Ends what is under way, and decides whether the connection can be used again.
    async fn settle(mut self, user: User) {
        let connection = &mut **self.pooled;
        let idle = match &connection.wire {
            Some(wire) => settle(wire).await,
            None => settle_untapped(&mut connection.pg).await,
        };
        match &connection.wire {
            Some(wire) if idle && !connection.record.is_unfit() => wire.give_back(user),
            _ if !idle => connection.record.condemn(),
            _ => {}
        }
        self.end();
    }

    /// The connection is back before the next in the queue is let in.
    fn end(self) {
        let Self { pooled, place } = self;
        if pooled.is_over() {
            discard(pooled);
        } else {
            place.give_back(pooled);
        }
    }
}

/// Whether the connection is idle and outside a transaction in the end.
async fn settle(wire: &Wire) -> bool {
    let idle = wire.is_settled().await;
    if !idle {
        // In an open transaction, what the last user left may still be queued.
        wire.flushed().await;
        wire.cancel().await;
    }
    idle
}

/// The same for a connection without a tap: whatever was sent before has ended once a round trip is made, and a
/// transaction that was left open has been ended by it. `BEGIN` is there because the server logs a warning for a
/// `ROLLBACK` outside a transaction.
async fn settle_untapped(pg: &mut AsyncPgConnection) -> bool {
    let token = pg.cancel_token();
    let mut round_trip = pin!(pg.batch_execute("BEGIN; ROLLBACK"));
    if let Ok(ended) = timeout(GRACE, &mut round_trip).await {
        return ended.is_ok();
    }
    let cancelled = async {
        let _ = token.cancel_query(NoTls).await;
        let _ = round_trip.await;
    };
    let _ = timeout(CANCEL, cancelled).await;
    false
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("node", &self.node()).finish_non_exhaustive()
    }
}
