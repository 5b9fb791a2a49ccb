//! What all clients of a test database share: its one session, and how far its nodes have come.

use super::backend::{Backend, Cancel, Failure, Greeting};
use super::frame::Frame;
use super::lag;
use crate::endpoint::Endpoint;
use crate::lsn::Lsn;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, OwnedMutexGuard};
use tokio::time::{Instant, sleep};

/// For how long a transaction may stand idle while another handle waits for the session.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// What one commit adds to the position: positions keep away from page headers, which lie at the beginning of pages.
const STEP: u64 = 0x100;

pub(super) struct Stage {
    pub(super) endpoint: Endpoint,
    pub(super) parameters: Vec<(&'static str, String)>,
    cancel: Cancel,
    /// In the transaction that is rolled back at the end.
    session: Arc<tokio::sync::Mutex<Backend>>,
    /// For the router's questions about nodes: in no transaction, and never held.
    observer: Arc<tokio::sync::Mutex<Backend>>,
    holder: Mutex<Option<Holder>>,
    /// Why the session can no longer be used.
    fault: Mutex<Option<String>>,
    position: AtomicU64,
    /// Where the replicas stand while their replay is paused.
    paused: Mutex<Option<Lsn>>,
    can_pause: AtomicBool,
    /// How far the replicas say that they are behind, in milliseconds.
    behind: AtomicU64,
    /// By process and secret, as a client names itself when it cancels.
    clients: Mutex<HashMap<(u32, u32), Arc<Notify>>>,
    /// Other processes of this machine are to stay out.
    pub(super) password: String,
}

/// Who has the session, in a transaction.
#[derive(Debug, Clone)]
pub(super) struct Holder {
    pub(super) who: String,
    pub(super) last: String,
    /// `None` while the server works for it.
    pub(super) idle_since: Option<Instant>,
}

impl Stage {
    pub(super) async fn set(endpoint: Endpoint) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let (mut session, Greeting { parameters, cancel }) = Backend::connect(&endpoint).await?;
        let (observer, _) = Backend::connect(&endpoint).await?;
        // The settings that Diesel makes are answered for it, and so are made here.
        session
            .batch("SET TIME ZONE 'UTC'; SET CLIENT_ENCODING TO 'UTF8'; SET lock_timeout TO '10s'")
            .await?;
        let position = session.batch("BEGIN; SELECT pg_catalog.pg_current_wal_insert_lsn()").await?;
        let position = position.into_iter().next().flatten().and_then(|lsn| lsn.parse::<Lsn>().ok());
        let position =
            position.ok_or("the test database does not tell its position: it has to be a primary")?;
        Ok(Self {
            endpoint,
            parameters,
            cancel,
            session: Arc::new(tokio::sync::Mutex::new(session)),
            observer: Arc::new(tokio::sync::Mutex::new(observer)),
            holder: Mutex::default(),
            fault: Mutex::default(),
            // At the middle of a page.
            position: AtomicU64::new((position.get() & !0x1fff) + 0x3000),
            paused: Mutex::default(),
            can_pause: AtomicBool::new(false),
            behind: AtomicU64::new(0),
            clients: Mutex::default(),
            password: format!("{:032x}", rand::random::<u128>()),
        })
    }

    /// The session, once nobody else has it.
    ///
    /// # Errors
    ///
    /// Says who has it when a transaction stands idle on it, or why nobody can have it any more.
    ///
    /// # Cancel safety
    ///
    /// A dropped call has taken nothing.
    pub(super) async fn session(&self) -> Result<OwnedMutexGuard<Backend>, Frame> {
        let mut waiting = std::pin::pin!(Arc::clone(&self.session).lock_owned());
        let session = loop {
            tokio::select! {
                biased;
                session = &mut waiting => break session,
                () = sleep(PATIENCE / 20) => self.is_held_idle()?,
            }
        };
        match &*lock(&self.fault) {
            Some(fault) => Err(Frame::error("25000", fault)),
            None => Ok(session),
        }
    }

    pub(super) async fn observer(&self) -> OwnedMutexGuard<Backend> {
        Arc::clone(&self.observer).lock_owned().await
    }

    fn is_held_idle(&self) -> Result<(), Frame> {
        let holder = lock(&self.holder).clone();
        let Some(Holder { who, last, idle_since: Some(since) }) = holder else { return Ok(()) };
        let idle = since.elapsed();
        if idle < PATIENCE {
            return Ok(());
        }
        let text = format!(
            "all handles of a test database share one session, and a transaction is open on it: {who} began it, ran {last} in it, \
             and has let it stand for {} ms. Whoever waits inside of a transaction for another handle would wait for ever: end the \
             transaction first, or run the query in it",
            idle.as_millis()
        );
        Err(Frame::error("55P03", &text))
    }

    pub(super) fn held_by(&self, holder: Option<Holder>) {
        *lock(&self.holder) = holder;
    }

    /// The session is in no state to be used any more.
    pub(super) fn fail(&self, why: String) {
        tracing::error!("{why}");
        lock(&self.fault).get_or_insert(why);
    }

    pub(super) fn fault(&self) -> Option<String> {
        lock(&self.fault).clone()
    }

    /// Where the primary is.
    pub(super) fn written(&self) -> Lsn {
        Lsn::new(self.position.load(Ordering::SeqCst))
    }

    /// How far the replicas have replayed.
    pub(super) fn replayed(&self) -> Lsn {
        self.paused().unwrap_or_else(|| self.written())
    }

    /// Where replay stands while it is paused.
    pub(super) fn paused(&self) -> Option<Lsn> {
        *lock(&self.paused)
    }

    /// Something may have been committed.
    pub(super) fn committed(&self) {
        self.position.fetch_add(STEP, Ordering::SeqCst);
    }

    /// From here on the replicas show what there is now.
    pub(super) async fn pause(&self) -> Result<(), Failure> {
        let mut session = self.session().await.map_err(Failure::Refused)?;
        if !self.can_pause.load(Ordering::SeqCst) {
            session.batch(lag::PREPARE).await?;
            self.can_pause.store(true, Ordering::SeqCst);
        }
        if self.paused().is_some() {
            session.batch(lag::RESUME).await?;
        }
        session.batch(lag::PAUSE).await?;
        *lock(&self.paused) = Some(self.written());
        Ok(())
    }

    pub(super) async fn resume(&self) -> Result<(), Failure> {
        let mut session = self.session().await.map_err(Failure::Refused)?;
        if self.paused().is_some() {
            session.batch(lag::RESUME).await?;
        }
        *lock(&self.paused) = None;
        Ok(())
    }

    pub(super) fn behind_ms(&self) -> u64 {
        self.behind.load(Ordering::SeqCst)
    }

    pub(super) fn lag(&self, behind_ms: u64) {
        self.behind.store(behind_ms, Ordering::SeqCst);
    }

    /// Interrupts what the session runs. Ends when the server has been told.
    pub(super) async fn interrupt(&self) {
        self.cancel.ask(&self.endpoint).await;
    }

    pub(super) fn clients(&self) -> MutexGuard<'_, HashMap<(u32, u32), Arc<Notify>>> {
        lock(&self.clients)
    }
}

/// Nothing is left half done under these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
