//! How a connection ends, or what is under way on it.

use super::{CANCEL, Cancel, STARTING, Wire, claim};
use crate::failure::Cause;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::timeout;

/// How long to wait for an answer to a request to cancel before it is made again.
const CANCEL_AGAIN: Duration = Duration::from_millis(100);

impl Wire {
    /// Asks the server to cancel what is under way, and waits for a second at most until that has been answered.
    ///
    /// The request travels on a connection of its own and takes effect at any time from then on, so the connection is fit
    /// for nobody afterwards. The server forgets a request that is there before the query has begun: it is repeated.
    pub(in crate::pool) async fn cancel(&self) {
        let Some(cancel) = self.cancel.get() else { return };
        let cancelled = async {
            while self.is_busy() {
                cancel.ask().await;
                if timeout(CANCEL_AGAIN, self.answered()).await.is_ok() {
                    return;
                }
            }
        };
        let _ = timeout(CANCEL, cancelled).await;
    }

    /// Ends the connection, if nobody uses it.
    pub(in crate::pool) fn end_if_free(&self, runtime: &Handle) {
        if self.take(claim::SPOILED) {
            self.hang_up();
            self.cancel_behind(runtime);
        }
    }

    /// Ends the connection, whoever uses it, and says whether it was open.
    pub(in crate::pool) fn sever(&self, runtime: &Handle) -> bool {
        let open = self.hang_up();
        if open {
            self.cancel_behind(runtime);
        }
        open
    }

    /// Has what is under way cancelled, in a task of its own: nobody will see an answer.
    fn cancel_behind(&self, runtime: &Handle) {
        if let (true, Some(cancel)) = (self.is_busy(), self.cancel.get().cloned()) {
            runtime.spawn(async move { timeout(CANCEL, cancel.ask()).await });
        }
    }

    /// Nobody is to have the connection any more, and whatever it holds on the server, such as the locks of a transaction, is
    /// to be let go now and not when the pool looks at it next. Says whether it was open.
    pub(super) fn hang_up(&self) -> bool {
        let open = self.close();
        self.task.wake();
        open
    }

    /// The server sent an error. How a start-up ends is for those to judge who dial.
    pub(in crate::pool) fn hear(&self, cause: Cause) {
        if self.status.load(Ordering::Acquire) != STARTING {
            self.record.hear(cause, self.is_busy() || self.record.calls() != 0);
        }
    }

    /// The peer is gone, and with it whatever it still had to answer.
    pub(in crate::pool) fn lost(&self) {
        if self.close() {
            self.hear(Cause::Node);
        }
    }

    /// The socket has been dropped: because its peer talks nonsense, if somebody still has the connection.
    pub(in crate::pool) fn dropped(&self) {
        if self.record.is_lent() {
            self.lost();
        } else {
            self.close();
        }
    }

    /// Says whether it was open.
    fn close(&self) -> bool {
        let closed = self.closed.swap(true, Ordering::AcqRel);
        self.changed.notify_waiters();
        !closed
    }
}

impl Cancel {
    /// Whether it works shows in the answer of the query itself.
    async fn ask(&self) {
        let _ = self.token.cancel_query(self.protect.clone()).await;
    }
}
