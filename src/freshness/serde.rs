//! Tokens in jobs: what a queue stores of one is its text.

use super::token::CausalToken;
use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};
use std::fmt;

/// As its text, without a signature.
impl Serialize for CausalToken {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// From its text, without a signature: for what nobody else can have written.
impl<'de> Deserialize<'de> for CausalToken {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Text)
    }
}

struct Text;

impl Visitor<'_> for Text {
    type Value = CausalToken;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the text of a causal token")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<CausalToken, E> {
        text.parse().map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::super::token::tests::tokens;
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_token_survives_a_round_trip(token in tokens()) {
            let json = serde_json::to_string(&token).unwrap();
            prop_assert_eq!(&json, &format!("\"{token}\""));
            prop_assert_eq!(serde_json::from_str::<CausalToken>(&json).unwrap(), token);
            let value = serde_json::to_value(token).unwrap();
            prop_assert_eq!(serde_json::from_value::<CausalToken>(value).unwrap(), token);
        }
    }

    #[test]
    fn what_is_not_a_token_is_refused_and_not_repeated() {
        let error = serde_json::from_str::<CausalToken>("\"secret\"").unwrap_err().to_string();
        assert!(error.starts_with("not a causal token"), "{error}");
        assert!(!error.contains("secret"), "{error}");
        let error = serde_json::from_str::<CausalToken>("{}").unwrap_err().to_string();
        assert!(error.contains("expected the text of a causal token"), "{error}");
    }
}
