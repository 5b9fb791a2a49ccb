//! What a connection is doing, and who may use it.
//!
//! Diesel's futures can be dropped at any point, and a raw `BEGIN` is text like any other, so no wrapper of calls can
//! tell whether a returned connection is fit for its next user. The protocol can: see [`tap`](super::tap).

mod ending;

use super::record::Record;
use crate::channel::Protect;
use futures_util::task::AtomicWaker;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Waker;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_postgres::CancelToken;

const IDLE: u8 = b'I';

/// No `ReadyForQuery` yet.
const STARTING: u8 = 0;

/// How long what is under way may take to end by itself: the last frames of a finished statement are often still to come
/// when its caller has moved on.
pub(super) const GRACE: Duration = Duration::from_millis(20);

/// How long the server may take to cancel a query, up to the frame that says so.
pub(super) const CANCEL: Duration = Duration::from_secs(1);

/// What is known of one connection.
///
/// What passes on the socket is written by the connection's own task alone, which both reads and writes it, and read by
/// everybody; the claim and the sweep are the pool's.
pub(crate) struct Wire {
    /// `Query` and `Sync` sent, less `ReadyForQuery` received.
    unanswered: AtomicU32,
    /// Bytes were read that have not all been handed on to those who asked: a stream of rows that is kept and not read holds
    /// up the answers of everybody behind it.
    undelivered: AtomicBool,
    /// The transaction status of the last `ReadyForQuery`: `I`dle, in a `T`ransaction, in a failed one (`E`).
    status: AtomicU8,
    closed: AtomicBool,
    claim: AtomicU8,
    record: Arc<Record>,
    /// Whether its task still has to send what was queued when the connection went back to its pool.
    sweep: AtomicU8,
    /// The connection's task.
    task: AtomicWaker,
    /// Signalled whenever any of the above may have changed for somebody who waits.
    changed: Notify,
    cancel: OnceLock<Cancel>,
}

/// How the connection's queries are cancelled: with its key, over a connection that is as well protected.
#[derive(Clone)]
struct Cancel {
    token: CancelToken,
    protect: Protect,
}

/// Who may use the connection. A request to cancel is not tied to a query: it must not be sent to a connection that may
/// have a new user, and whoever has been sent one must never get another.
mod claim {
    pub(super) const FREE: u8 = 0;
    pub(super) const LENT: u8 = 1;
    pub(super) const SPOILED: u8 = 2;
}

/// How far the task is with sending all that was queued when the connection went back. Only a turn of the task that began
/// afterwards is sure to send it: one that was under way may have looked into the queue already.
mod sweep {
    pub(super) const DONE: u8 = 0;
    pub(super) const ASKED: u8 = 1;
    /// A turn began, or will begin, after it was asked for.
    pub(super) const SEEN: u8 = 2;
}

/// What a connection is for somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fitness {
    /// It is lent.
    Fit,
    /// What its last user left behind may still have to be sent, answered or cancelled.
    Unsettled,
    Unfit,
}

/// What a user of a connection could do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum User {
    /// Nothing but Diesel's calls, each of which is [counted](super::calls).
    Calls,
    /// It had the connection itself, and may have replaced what counts the calls.
    Anything,
}

impl Wire {
    pub(super) fn new(record: Arc<Record>) -> Arc<Self> {
        Arc::new(Self {
            // The start-up message is answered by a `ReadyForQuery` as well.
            unanswered: AtomicU32::new(1),
            undelivered: AtomicBool::new(false),
            status: AtomicU8::new(STARTING),
            closed: AtomicBool::new(false),
            claim: AtomicU8::new(claim::FREE),
            record,
            sweep: AtomicU8::new(sweep::DONE),
            task: AtomicWaker::new(),
            changed: Notify::new(),
            cancel: OnceLock::new(),
        })
    }

    /// A new attempt to connect begins: a host name can have several addresses, of which the first ones may refuse.
    pub(super) fn begin(&self) {
        self.unanswered.store(1, Ordering::Release);
        self.undelivered.store(false, Ordering::Release);
        self.closed.store(false, Ordering::Release);
    }

    /// Learns how the connection's queries are cancelled.
    pub(super) fn connected(&self, token: CancelToken, protect: Protect) {
        // A connection connects once, so there is nothing to replace.
        let _ = self.cancel.set(Cancel { token, protect });
    }

    /// The socket is gone, or about to go.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Something that was sent has not been answered in full.
    pub(super) fn is_busy(&self) -> bool {
        self.unanswered.load(Ordering::Acquire) != 0
    }

    /// All answers are here, and with those who asked.
    pub(super) fn is_quiet(&self) -> bool {
        !self.is_busy() && !self.undelivered.load(Ordering::Acquire)
    }

    /// Open, with nothing under way and outside a transaction.
    pub(super) fn is_idle(&self) -> bool {
        !self.is_closed() && self.is_quiet() && self.status.load(Ordering::Acquire) == IDLE
    }

    /// Claims the connection for a user, if it is fit for one.
    pub(super) fn try_lend(&self) -> Fitness {
        if self.is_closed() {
            return Fitness::Unfit;
        }
        if !self.has_settled() {
            return Fitness::Unsettled;
        }
        let outside = self.status.load(Ordering::Acquire) == IDLE;
        if outside && self.take(claim::LENT) { Fitness::Fit } else { Fitness::Unfit }
    }

    /// The same, and waits for what the last user left behind.
    pub(super) async fn lend(&self) -> bool {
        if self.try_lend() == Fitness::Fit {
            return true;
        }
        let _ = timeout(GRACE + CANCEL, self.wait_until(Self::has_settled)).await;
        self.try_lend() == Fitness::Fit
    }

    fn has_settled(&self) -> bool {
        self.is_swept() && self.is_quiet()
    }

    /// Takes the connection back from its user, without waiting for anything.
    ///
    /// A query whose future was polled once and dropped sits in a channel between Diesel and the connection's task and has
    /// not touched the wire yet. Where that cannot be excluded the task is woken to send what is queued, and what comes to
    /// light then is cancelled: nobody waits for it any more.
    pub(super) fn give_back(&self, user: User) {
        self.claim.store(claim::FREE, Ordering::Release);
        if user == User::Anything || self.record.calls() != 0 {
            self.ask_to_sweep();
        }
    }

    fn ask_to_sweep(&self) {
        self.sweep.store(sweep::ASKED, Ordering::Release);
        self.task.wake();
    }

    /// A turn of the connection's task begins: it reads first.
    pub(super) fn turn_began(&self, task: &Waker) {
        self.task.register(task);
        if self.sweep.load(Ordering::Acquire) == sweep::ASKED {
            self.sweep.store(sweep::SEEN, Ordering::Release);
        }
    }

    /// Whether the connection is idle, or will be within a moment.
    pub(super) async fn is_settled(&self) -> bool {
        if !self.is_quiet() {
            let _ = timeout(GRACE, self.wait_until(Self::is_quiet)).await;
        }
        self.is_idle()
    }

    /// Waits until the connection's task has sent what is queued, or does not run.
    pub(super) async fn flushed(&self) {
        self.ask_to_sweep();
        let _ = timeout(GRACE, self.wait_until(Self::is_swept)).await;
    }

    /// Waits until every request has been answered, or the connection is closed.
    pub(super) async fn answered(&self) {
        self.wait_until(|wire| !wire.is_busy()).await;
    }

    async fn wait_until(&self, done: impl Fn(&Self) -> bool) {
        while !(done(self) || self.is_closed()) {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if done(self) || self.is_closed() {
                return;
            }
            changed.await;
        }
    }

    fn take(&self, claim: u8) -> bool {
        self.claim.compare_exchange(claim::FREE, claim, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    pub(super) fn request_sent(&self) {
        self.unanswered.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn ready_for_query(&self, status: u8) {
        self.status.store(status, Ordering::Release);
        self.unanswered.fetch_sub(1, Ordering::AcqRel);
    }

    /// The connection's task has got bytes.
    pub(super) fn received(&self) {
        self.undelivered.store(true, Ordering::Release);
    }

    /// The connection's task asks for more and there is none. It asks only once it has handed on all that it had.
    pub(super) fn delivered(&self) {
        if self.undelivered.load(Ordering::Acquire) {
            self.undelivered.store(false, Ordering::Release);
            self.changed.notify_waiters();
        }
    }

    /// A turn of the connection's task ends: it has sent whatever was queued when it looked.
    pub(super) fn turn_ended(self: &Arc<Self>, task: &Waker) {
        match self.sweep.load(Ordering::Acquire) {
            sweep::SEEN => self.swept(),
            sweep::ASKED => {
                self.sweep.store(sweep::SEEN, Ordering::Release);
                task.wake_by_ref();
            }
            _ => {}
        }
    }

    /// The peer takes no more bytes. Of a connection that is in use this says nothing; of one that was given back it
    /// says that something is queued which its next user did not ask for, and it stays busy for good.
    pub(super) fn stuck(self: &Arc<Self>) {
        if !self.is_swept() {
            self.request_sent();
            self.swept();
        }
    }

    fn is_swept(&self) -> bool {
        self.sweep.load(Ordering::Acquire) == sweep::DONE
    }

    /// What its last user left behind has come to light. It is cancelled: nobody waits for it any more.
    fn swept(self: &Arc<Self>) {
        if !self.is_quiet() {
            let this = Arc::clone(self);
            tokio::spawn(async move {
                if !this.is_settled().await && this.take(claim::SPOILED) {
                    this.cancel().await;
                    this.hang_up();
                }
            });
        }
        self.sweep.store(sweep::DONE, Ordering::Release);
        self.changed.notify_waiters();
    }
}
