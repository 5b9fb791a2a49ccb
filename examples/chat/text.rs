//! What people type. Each type holds only text that is fit to store: a value that exists has been checked.

use serde::Deserialize;

/// The name of a user or a room: 1 to 80 characters, no line breaks, no space around it.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct Name(String);

/// The text of a message: 1 to 4,000 characters.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct Body(String);

/// What to search for: 1 to 200 characters.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct Terms(String);

/// What a client calls its message, so that sending it twice posts it once: 1 to 64 characters.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct ClientKey(String);

impl TryFrom<String> for Name {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        one_line("a name", &text, 80).map(Self)
    }
}

impl TryFrom<String> for Body {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        checked("a message", &text, 4_000, |c| c.is_control() && c != '\n' && c != '\t').map(Self)
    }
}

impl TryFrom<String> for Terms {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        one_line("a search", &text, 200).map(Self)
    }
}

impl TryFrom<String> for ClientKey {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        one_line("a client key", &text, 64).map(Self)
    }
}

macro_rules! as_str {
    ($($text:ty),*) => {$(
        impl $text {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
    )*};
}
as_str!(Name, Body, Terms, ClientKey);

fn one_line(what: &str, text: &str, longest: usize) -> Result<String, String> {
    checked(what, text, longest, char::is_control)
}

/// PostgreSQL stores no NUL, and other control characters have no business in a chat.
fn checked(what: &str, text: &str, longest: usize, refused: fn(char) -> bool) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err(format!("{what} must not be empty"));
    }
    let length = text.chars().count();
    if length > longest {
        return Err(format!("{what} has at most {longest} characters, this one has {length}"));
    }
    if text.chars().any(refused) {
        return Err(format!("{what} must not contain control characters"));
    }
    Ok(text.to_owned())
}
