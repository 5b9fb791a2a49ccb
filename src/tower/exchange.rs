//! What a request brings along, and what its response takes back.

use super::cookie::CausalCookie;
use crate::freshness::{CausalToken, TokenKeys};
use crate::router::{Router, Session};
use http::HeaderValue;
use http::header::{COOKIE, HeaderMap, HeaderName, SET_COOKIE};
use tracing::debug;

#[derive(Debug, Clone)]
pub(super) struct Exchange {
    pub(super) router: Router,
    pub(super) form: Form,
    pub(super) header: Option<HeaderName>,
    pub(super) cookie: Option<CausalCookie>,
    pub(super) monotonic_reads: bool,
}

/// How tokens are written.
#[derive(Debug, Clone)]
pub(super) enum Form {
    Signed(TokenKeys),
    Unsigned,
}

/// What a request brought.
#[derive(Debug)]
pub(super) struct Brought {
    token: Option<CausalToken>,
    by_header: By,
    by_cookie: By,
}

/// What came on one of the two ways.
#[derive(Debug, Default)]
struct By {
    token: Option<CausalToken>,
    /// Whether there was text that was no token for this service.
    refused: bool,
}

impl Exchange {
    /// A session for a request with these headers.
    pub(super) fn begin(&self, headers: &HeaderMap) -> (Session, Brought) {
        let session = self.router.session();
        let mut by_header = By::default();
        if let Some(name) = &self.header {
            for value in headers.get_all(name) {
                self.take(&value.to_str().unwrap_or_default(), &mut by_header);
            }
        }
        let mut by_cookie = By::default();
        if let Some(cookie) = &self.cookie {
            for value in headers.get_all(COOKIE) {
                // Others may hold what is not text.
                cookie
                    .find(&String::from_utf8_lossy(value.as_bytes()), |text| self.take(text, &mut by_cookie));
            }
        }
        for token in [by_header.token, by_cookie.token].into_iter().flatten() {
            session.observe(token);
        }
        let token = session.seen();
        (session, Brought { token, by_header, by_cookie })
    }

    /// Takes a token from text, if it is one.
    fn take(&self, text: &str, by: &mut By) {
        match self.form.read(text) {
            Ok(token) if self.router.is_foreign(&token) => {
                debug!("a causal token of another cluster was ignored");
                by.refused = true;
            }
            Ok(token) => by.token = Some(by.token.and_then(|other| other.merge(token).ok()).unwrap_or(token)),
            Err(why) => {
                debug!(why, "a causal token was ignored");
                by.refused = true;
            }
        }
    }

    /// Adds to a response what the client should bring next time.
    pub(super) async fn end(&self, session: &Session, brought: Brought, headers: &mut HeaderMap) {
        let written = session.token_of_writes().await;
        let seen = if self.monotonic_reads { session.token().await } else { written };
        if let Some(name) = &self.header {
            match seen.filter(|_| seen != brought.token).and_then(|token| self.form.write(&token)) {
                Some(text) => _ = HeaderValue::try_from(text).map(|text| headers.insert(name, text)),
                None if brought.by_header.is_useless(seen) => {
                    headers.insert(name, HeaderValue::from_static(""));
                }
                None => {}
            }
        }
        if let Some(cookie) = &self.cookie {
            let set = match written
                .filter(|_| written != brought.token)
                .and_then(|token| self.form.write(&token))
            {
                Some(text) => cookie.holding(text),
                None if brought.by_cookie.is_useless(written) => cookie.removal(),
                None => return,
            };
            _ = HeaderValue::try_from(set).map(|set| headers.append(SET_COOKIE, set));
        }
    }
}

impl By {
    /// Whether it would be ignored next time as well.
    fn is_useless(&self, now: Option<CausalToken>) -> bool {
        match self.token {
            None => self.refused,
            Some(_) => now.is_none(),
        }
    }
}

impl Form {
    fn read(&self, text: &str) -> Result<CausalToken, String> {
        let token = match self {
            Self::Signed(keys) => return keys.verify(text).map_err(|error| error.to_string()),
            Self::Unsigned => text.parse::<CausalToken>().map_err(|error| error.to_string())?,
        };
        match token.lsn() {
            Some(_) => Ok(token),
            None => Err("it has no position, and is not signed".to_owned()),
        }
    }

    fn write(&self, token: &CausalToken) -> Option<String> {
        match self {
            Self::Signed(keys) => Some(keys.sign(token)),
            Self::Unsigned => token.lsn().map(|_| token.to_string()),
        }
    }
}
