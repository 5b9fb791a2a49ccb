//! The cookie that a token travels in.

use cookie::{Cookie, CookieBuilder};
use http::HeaderName;
use std::time::Duration;

/// The cookie that carries a token: its name and its attributes. It is always `HttpOnly`.
#[derive(Debug, Clone)]
pub struct CausalCookie {
    name: String,
    path: String,
    domain: Option<String>,
    max_age: Duration,
    secure: bool,
    same_site: SameSite,
}

/// With which requests from other sites' pages a browser sends a cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SameSite {
    /// With none.
    Strict,
    /// When such a page links here.
    #[default]
    Lax,
    /// With all. Browsers take that of a [`secure`](CausalCookie::secure) cookie alone.
    None,
}

impl Default for CausalCookie {
    /// `causal_token`, for an hour, on all paths of the host that sets it.
    fn default() -> Self {
        Self {
            name: "causal_token".to_owned(),
            path: "/".to_owned(),
            domain: None,
            max_age: Duration::from_secs(3600),
            secure: true,
            same_site: SameSite::default(),
        }
    }
}

impl CausalCookie {
    /// A cookie of this name, otherwise like the [default](Self::default).
    ///
    /// # Errors
    ///
    /// No cookie can have this name.
    pub fn new(name: impl Into<String>) -> Result<Self, InvalidCookie> {
        let name = name.into();
        // The same characters as in a header's.
        match HeaderName::from_bytes(name.as_bytes()) {
            Ok(_) => Ok(Self { name, ..Self::default() }),
            Err(_) => Err(InvalidCookie::Name),
        }
    }

    /// The path that requests have to begin with: `/`.
    ///
    /// # Errors
    ///
    /// It does not begin with `/`, or has a character that no path of a cookie can have.
    pub fn path(mut self, path: impl Into<String>) -> Result<Self, InvalidCookie> {
        self.path = path.into();
        let is_fit = |byte: u8| (byte.is_ascii_graphic() || byte == b' ') && byte != b';';
        match self.path.starts_with('/') && self.path.bytes().all(is_fit) {
            true => Ok(self),
            false => Err(InvalidCookie::Path),
        }
    }

    /// The domain, for requests to its subdomains as well: by default the host that sets the cookie, alone.
    ///
    /// # Errors
    ///
    /// It is no domain name.
    pub fn domain(mut self, domain: impl Into<String>) -> Result<Self, InvalidCookie> {
        let domain = domain.into();
        let is_fit = |label: &str| {
            !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        match domain.split('.').all(is_fit) {
            true => {
                self.domain = Some(domain);
                Ok(self)
            }
            false => Err(InvalidCookie::Domain),
        }
    }

    /// How long a browser keeps the cookie: an hour. Whole seconds.
    #[must_use]
    pub fn max_age(mut self, max_age: Duration) -> Self {
        self.max_age = max_age;
        self
    }

    /// Whether browsers send it over TLS alone: yes.
    #[must_use]
    pub fn secure(mut self, secure: bool) -> Self {
        self.secure = secure;
        self
    }

    /// With which requests from other sites' pages browsers send it: [`SameSite::Lax`].
    #[must_use]
    pub fn same_site(mut self, same_site: SameSite) -> Self {
        self.same_site = same_site;
        self
    }

    /// Those of this name in the value of a `Cookie` header.
    pub(super) fn found_in<'a>(&self, header: &'a str) -> impl Iterator<Item = Cookie<'a>> {
        Cookie::split_parse(header).flatten().filter(|cookie| cookie.name() == self.name)
    }

    /// The value of a `Set-Cookie` header that gives it to a client.
    pub(super) fn holding(&self, text: String) -> String {
        self.cookie(text).build().to_string()
    }

    /// The value of a `Set-Cookie` header that takes it from a client.
    pub(super) fn removal(&self) -> String {
        self.cookie(String::new()).removal().build().to_string()
    }

    fn cookie(&self, text: String) -> CookieBuilder<'_> {
        let max_age = cookie::time::Duration::try_from(self.max_age).unwrap_or(cookie::time::Duration::MAX);
        let same_site = match self.same_site {
            SameSite::Strict => cookie::SameSite::Strict,
            SameSite::Lax => cookie::SameSite::Lax,
            SameSite::None => cookie::SameSite::None,
        };
        let cookie = Cookie::build((&*self.name, text))
            .path(&*self.path)
            .max_age(max_age)
            .secure(self.secure)
            .same_site(same_site)
            .http_only(true);
        match &self.domain {
            Some(domain) => cookie.domain(&**domain),
            None => cookie,
        }
    }
}

/// No cookie can be like that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidCookie {
    /// The name.
    #[error("a cookie's name has letters, digits and some signs, such as `_` and `-`, but not this one")]
    Name,
    /// The path.
    #[error("a cookie's path begins with `/`")]
    Path,
    /// The domain.
    #[error("a cookie's domain is the name of a host")]
    Domain,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_cookie_can_be_is_an_error_at_once() {
        for name in ["", "a b", "a=b", "a;b", "a,b", "a\nb", "é", "\"a\""] {
            assert_eq!(CausalCookie::new(name).unwrap_err(), InvalidCookie::Name, "{name:?}");
        }
        for path in ["", "chat", "/a;b", "/a\nb", "/é"] {
            assert_eq!(CausalCookie::default().path(path).unwrap_err(), InvalidCookie::Path, "{path:?}");
        }
        for domain in ["", ".", "a..b", "a b", "a;b", "é.org", "a/b"] {
            assert_eq!(
                CausalCookie::default().domain(domain).unwrap_err(),
                InvalidCookie::Domain,
                "{domain:?}"
            );
        }
    }

    #[test]
    fn whatever_is_no_error_is_a_header() {
        let cookie = CausalCookie::new("__Host-Chat!#$%&'*+-.^_`|~9").unwrap().path("/a b/%20,=").unwrap();
        let cookie = cookie.domain("Chat-1.example.org").unwrap().max_age(Duration::MAX).secure(false);
        for text in [cookie.holding("1-2-3".to_owned()), cookie.removal()] {
            http::HeaderValue::try_from(text).unwrap();
        }
    }

    #[test]
    fn cookies_are_found_among_others() {
        let found = |header: &str| {
            let cookie = CausalCookie::default();
            cookie.found_in(header).map(|found| found.value().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(found("causal_token=1-2"), ["1-2"]);
        assert_eq!(found("a; =; causal_token=1-2;causal_token=3; b=c"), ["1-2", "3"]);
        assert_eq!(found("causal_token"), [""; 0]);
        assert_eq!(
            found("CAUSAL_TOKEN=1; xcausal_token=2; causal_token2=3; \u{fffd}=4; a=causal_token=5"),
            [""; 0]
        );
    }
}
