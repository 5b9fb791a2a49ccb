//! How a browser keeps tokens.

/// How a user's requests carry tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// Not at all.
    None,
    /// In a header, as the chat's page does it.
    Header,
    /// In a cookie, as the browser does it by itself. It is given after writes only, so nobody promises monotonic reads.
    Cookie,
}

/// What a window remembers of tokens until it is reloaded. Does what the chat's `token.js` does.
#[derive(Debug, Default)]
pub struct Memory {
    mine: String,
    refused: String,
}

impl Memory {
    /// What to send now, empty for none. `kept` is what all windows share: the cookie, or `localStorage`.
    pub fn current(&mut self, carrier: Carrier, kept: &mut String) -> String {
        match carrier {
            Carrier::None => String::new(),
            Carrier::Cookie => kept.clone(),
            Carrier::Header => {
                if *kept > self.mine && *kept != self.refused {
                    self.mine.clone_from(kept);
                }
                if *kept != self.mine {
                    kept.clone_from(&self.mine);
                }
                self.mine.clone()
            }
        }
    }

    /// Takes the token that came with the answer, if one did, to a request that `sent` one.
    pub fn take(&mut self, carrier: Carrier, kept: &mut String, token: Option<&str>, sent: &str) {
        match (carrier, token) {
            (Carrier::None, _) | (_, None) | (Carrier::Header, Some("")) => {}
            (Carrier::Cookie, Some(token)) => token.clone_into(kept),
            (Carrier::Header, Some(token)) => {
                if token < sent {
                    sent.clone_into(&mut self.refused);
                    if self.mine == sent {
                        self.mine.clear();
                    }
                }
                if *token > *self.mine {
                    token.clone_into(&mut self.mine);
                }
                self.current(carrier, kept);
            }
        }
    }
}

/// Timeline and position alone.
pub fn short(token: &str) -> &str {
    match token {
        "" => "none",
        token => token.get(19..44).unwrap_or(token),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Carrier::{Cookie, Header};

    #[test]
    fn windows_share_the_greatest() {
        let (mut one, mut other, mut kept) = (Memory::default(), Memory::default(), String::new());
        one.take(Header, &mut kept, Some("5"), "");
        assert_eq!(other.current(Header, &mut kept), "5");
        other.take(Header, &mut kept, Some("7"), "5");
        one.take(Header, &mut kept, Some("6"), "5");
        assert_eq!((one.current(Header, &mut kept), &*kept), ("7".to_owned(), "7"));
        assert_eq!(Memory::default().current(Header, &mut kept), "7");
    }

    #[test]
    fn what_the_service_dropped_is_dropped() {
        let (mut window, mut kept) = (Memory::default(), "9".to_owned());
        assert_eq!(window.current(Header, &mut kept), "9");
        window.take(Header, &mut kept, Some("4"), "9");
        assert_eq!((window.current(Header, &mut kept), &*kept), ("4".to_owned(), "4"));
        window.take(Header, &mut kept, None, "4");
        window.take(Header, &mut kept, Some(""), "4");
        assert_eq!(window.current(Header, &mut kept), "4");
    }

    #[test]
    fn a_cookie_is_the_last_that_was_set() {
        let (mut window, mut kept) = (Memory::default(), String::new());
        window.take(Cookie, &mut kept, Some("5"), "");
        window.take(Cookie, &mut kept, Some("3"), "5");
        assert_eq!(window.current(Cookie, &mut kept), "3");
        window.take(Cookie, &mut kept, Some(""), "3");
        assert_eq!(window.current(Cookie, &mut kept), "");
    }
}
