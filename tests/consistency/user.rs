//! A user: what the windows of one browser share, and what all of them have been told.

use crate::history::{Guarantee, History, Moment, Violation};
use crate::operation::{Asker, Outcome};
use crate::world::Era;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How a user's requests carry tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tokens {
    /// Not at all.
    None,
    /// The greatest that any window was given, in a header.
    Header,
    /// What the browser does by itself. Cookies are given after writes only, so nobody promises monotonic reads.
    Cookie,
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
    pub sent: Option<String>,
    pub received: Option<String>,
}

pub struct User {
    pub asker: Asker,
    pub tokens: Tokens,
    store: Mutex<Store>,
}

struct Store {
    /// As the page keeps it in `localStorage`, or the browser as a cookie.
    token: Option<String>,
    era: Arc<Era>,
    history: History<Arc<Exchange>>,
}

/// What there was when a request began.
pub struct Begun {
    pub token: Option<String>,
    pub era: Arc<Era>,
    moment: Moment,
}

impl User {
    pub fn new(asker: Asker, tokens: Tokens, era: Arc<Era>) -> Self {
        let store = Store { token: None, era, history: history(tokens) };
        Self { asker, tokens, store: Mutex::new(store) }
    }

    /// A request begins. What has to be known to choose it is for `choose` to see.
    pub fn begin<T>(
        &self,
        era: Arc<Era>,
        choose: impl FnOnce(&Arc<Era>, &History<Arc<Exchange>>) -> T,
    ) -> (Begun, T) {
        let mut store = self.store.lock().unwrap();
        if !Arc::ptr_eq(&store.era, &era) {
            store.history = history(self.tokens);
            store.era = Arc::clone(&era);
        }
        let chosen = choose(&era, &store.history);
        let moment = store.history.now();
        (Begun { token: store.token.clone(), era, moment }, chosen)
    }

    /// It has been answered. What it taught is known from here on, and never without the token that came along.
    pub fn end(
        &self,
        begun: &Begun,
        outcome: Outcome,
        exchange: &Arc<Exchange>,
    ) -> Vec<Violation<Arc<Exchange>>> {
        let mut store = self.store.lock().unwrap();
        self.keep(&mut store.token, exchange.received.as_deref());
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

    /// Keeps a token that came with an answer beside or instead of the one that is there.
    pub fn keep(&self, token: &mut Option<String>, received: Option<&str>) {
        match received {
            None => {}
            // The service has no use for the one it was sent.
            Some("") => *token = None,
            Some(received) if self.tokens == Tokens::Cookie || token.as_deref() < Some(received) => {
                *token = Some(received.to_owned());
            }
            Some(_) => {}
        }
    }
}

fn history(tokens: Tokens) -> History<Arc<Exchange>> {
    match tokens {
        Tokens::Cookie => History::of_writes(),
        Tokens::None | Tokens::Header => History::new(),
    }
}

impl fmt::Display for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, took, window, operation, service, served_by, sent, received } = self;
        let token = |token: &Option<String>| token.as_deref().map_or("none", short).to_owned();
        write!(
            f,
            "{window} at {at:.3?} for {took:.1?}: {operation}; service {service}, node {served_by}; token {} sent, {} received",
            token(sent),
            token(received)
        )
    }
}

/// Timeline and position alone.
pub fn short(token: &str) -> &str {
    token.get(19..44).unwrap_or(token)
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
