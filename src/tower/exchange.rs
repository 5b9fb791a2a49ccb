//! What a request brings along, and what its response takes back.

use super::cookie::CausalCookie;
use crate::freshness::{CausalToken, ParseTokenError, TokenKeys};
use crate::router::{Router, Session};
use http::HeaderValue;
use http::header::{COOKIE, HeaderMap, HeaderName, SET_COOKIE};
use tracing::debug;

/// Between a router's sessions and the headers of requests and responses.
#[derive(Debug, Clone)]
pub(super) struct Exchange {
    pub(super) router: Router,
    pub(super) form: Form,
    pub(super) header: Option<HeaderName>,
    pub(super) cookie: Option<CausalCookie>,
    pub(super) monotonic_reads: bool,
}

/// What a request brought.
#[derive(Debug)]
pub(super) struct Brought {
    token: Option<CausalToken>,
    by_header: Found,
    by_cookie: Found,
}

impl Exchange {
    /// A session for a request with these headers.
    pub(super) fn begin(&self, headers: &HeaderMap) -> (Session, Brought) {
        let session = self.router.session();
        let mut by_header = Found::default();
        if let Some(name) = &self.header {
            for value in headers.get_all(name) {
                self.take(&String::from_utf8_lossy(value.as_bytes()), &session, &mut by_header);
            }
        }
        let mut by_cookie = Found::default();
        if let Some(cookie) = &self.cookie {
            for value in headers.get_all(COOKIE) {
                // Other cookies may hold what is not text.
                let value = String::from_utf8_lossy(value.as_bytes());
                cookie.found_in(&value).for_each(|found| self.take(found.value(), &session, &mut by_cookie));
            }
        }
        let token = session.known().flatten();
        (session, Brought { token, by_header, by_cookie })
    }

    fn take(&self, text: &str, session: &Session, found: &mut Found) {
        if text.is_empty() {
            return;
        }
        let token = match self.form.read(text) {
            Ok(token) if self.router.is_foreign(&token) => Err(Refused::Foreign),
            read => read,
        };
        match token {
            Ok(token) => {
                session.observe(token);
                found.taken = true;
            }
            // Not the text: whoever reads the log should not be able to send it.
            Err(why) => {
                debug!(%why, "a request's causal token is ignored");
                found.refused = true;
            }
        }
    }

    /// Tells the client, in the headers of a response, what to bring with its next request.
    pub(super) async fn end(&self, session: &Session, brought: Brought, headers: &mut HeaderMap) {
        let seen = match self.monotonic_reads {
            true => session.token().await,
            false => session.token_of_writes().await,
        };
        // Nobody has to be asked a second time.
        let written = session.token_of_writes().await;
        let news = |now: Option<CausalToken>| self.form.write(&now.filter(|_| now != brought.token)?);
        if let Some(name) = &self.header {
            let value = match news(seen) {
                Some(text) => Some(text),
                None => brought.by_header.is_useless(seen).then(String::new),
            };
            if let Some(value) = value.and_then(valid) {
                headers.insert(name, value);
            }
        }
        if let Some(cookie) = &self.cookie {
            // Not after reads: a late answer to one would replace what a write in another window has set since.
            let value = match news(written) {
                Some(text) => Some(cookie.holding(text)),
                None => brought.by_cookie.is_useless(written).then(|| cookie.removal()),
            };
            if let Some(value) = value.and_then(valid) {
                headers.append(SET_COOKIE, value);
            }
        }
    }
}

/// Neither tokens nor what a cookie is checked for have anything that is not.
fn valid(text: String) -> Option<HeaderValue> {
    HeaderValue::try_from(text).ok()
}

/// What came one of the two ways.
#[derive(Debug, Default)]
struct Found {
    /// A token.
    taken: bool,
    /// Text that is no token for this service.
    refused: bool,
}

impl Found {
    /// Whether the client has no reason to bring it again, now that this is what its session has seen.
    fn is_useless(&self, now: Option<CausalToken>) -> bool {
        if self.taken { now.is_none() } else { self.refused }
    }
}

/// How tokens are written.
#[derive(Debug, Clone)]
pub(super) enum Form {
    Signed(TokenKeys),
    Unsigned,
}

impl Form {
    fn read(&self, text: &str) -> Result<CausalToken, Refused> {
        match self {
            Self::Signed(keys) => Ok(keys.verify(text)?),
            // Anybody can make one up, and each read would have to ask the primary where it is.
            Self::Unsigned => match text.parse::<CausalToken>()? {
                token if token.lsn().is_none() => Err(Refused::Unbounded),
                token => Ok(token),
            },
        }
    }

    /// `None` if it would not be read.
    fn write(&self, token: &CausalToken) -> Option<String> {
        match self {
            Self::Signed(keys) => Some(keys.sign(token)),
            Self::Unsigned => token.lsn().map(|_| token.to_string()),
        }
    }
}

/// Why what a request brought is ignored.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    Text(#[from] ParseTokenError),
    #[error("the causal token has no position, and is not signed")]
    Unbounded,
    #[error("the causal token is of another cluster")]
    Foreign,
}
