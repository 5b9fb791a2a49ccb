//! A user: what the windows of one browser share, and what all of them have been told.

use crate::history::{Guarantee, History, Moment, Violation};
use crate::operation::{Asker, Outcome};
use crate::token::{Carrier, Memory, short};
use crate::world::Era;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub struct User {
    pub asker: Asker,
    pub carrier: Carrier,
    store: Mutex<Store>,
}

struct Store {
    token: String,
    era: Arc<Era>,
    history: History<Arc<Exchange>>,
}

/// What there was when a request began.
pub struct Begun {
    /// Empty for none.
    pub token: String,
    pub era: Arc<Era>,
    moment: Moment,
}

/// One request and its answer, for the report of a violation.
#[derive(Debug)]
pub struct Exchange {
    pub at: Duration,
    pub took: Duration,
    pub window: String,
    pub operation: String,
    pub service: SocketAddr,
    pub served_by: String,
    pub sent: String,
    pub received: Option<String>,
}

impl User {
    pub fn new(asker: Asker, carrier: Carrier, era: Arc<Era>) -> Self {
        let store = Store { token: String::new(), era, history: history(carrier) };
        Self { asker, carrier, store: Mutex::new(store) }
    }

    /// A window's request begins. What has to be known to choose it is for `choose` to see.
    pub fn begin<T>(
        &self,
        memory: &mut Memory,
        era: Arc<Era>,
        choose: impl FnOnce(&Arc<Era>, &History<Arc<Exchange>>) -> T,
    ) -> (Begun, T) {
        let mut store = self.store.lock().unwrap();
        if !Arc::ptr_eq(&store.era, &era) {
            store.history = history(self.carrier);
            store.era = Arc::clone(&era);
        }
        let chosen = choose(&era, &store.history);
        let token = memory.current(self.carrier, &mut store.token);
        (Begun { token, era, moment: store.history.now() }, chosen)
    }

    /// It has been answered. What it taught is known from here on, and never without the token that came along.
    pub fn end(
        &self,
        memory: &mut Memory,
        begun: &Begun,
        outcome: Outcome,
        exchange: &Arc<Exchange>,
    ) -> Vec<Violation<Arc<Exchange>>> {
        let mut store = self.store.lock().unwrap();
        memory.take(self.carrier, &mut store.token, exchange.received.as_deref(), &begun.token);
        if !Arc::ptr_eq(&store.era, &begun.era) {
            return Vec::new();
        }
        match outcome {
            Outcome::Wrote(fact) => store.history.wrote(fact, exchange),
            Outcome::Read(answer) => return store.history.read(begun.moment, &answer, exchange),
            Outcome::Unknown => {}
        }
        Vec::new()
    }
}

fn history(carrier: Carrier) -> History<Arc<Exchange>> {
    match carrier {
        Carrier::Cookie => History::of_writes(),
        Carrier::None | Carrier::Header => History::new(),
    }
}

impl fmt::Display for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, took, window, operation, service, served_by, sent, received } = self;
        let (sent, received) = (short(sent), short(received.as_deref().unwrap_or_default()));
        write!(
            f,
            "{window} at {at:.3?} for {took:.1?}: {operation}; service {service}, node {served_by}; \
             token {sent} sent, {received} received"
        )
    }
}

impl fmt::Display for Violation<Arc<Exchange>> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let promise = match self.guarantee {
            Guarantee::ReadYourWrites => "written",
            Guarantee::MonotonicReads => "seen",
        };
        write!(
            f,
            "{:?}: {:?} lacks, {} in all, first {}\n      {promise}: {}",
            self.guarantee, self.missing, self.times, self.example, self.learned
        )
    }
}
