//! The text form of a token.
//!
//! Nothing in it but a token's parts and a signature: it comes back from clients, so there is one way to write each,
//! and whatever else comes is refused.

use super::token::CausalToken;
use crate::lsn::Lsn;
use std::{fmt, str::FromStr};

/// The first field.
const VERSION: &str = "1";

/// Characters of a signed one, the longest there is.
const LONGEST: usize = "1-0123456789abcdef-01234567-0123456789abcdef-0123456789abcdef0123456789abcdef".len();

pub(super) const SIGNATURE_BYTES: usize = 16;

/// What is behind the last separator of a signed text.
pub(super) type Signature = [u8; SIGNATURE_BYTES];

/// As [`CausalToken`] describes it.
impl fmt::Display for CausalToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The most significant part first and no part of varying width: that keeps texts in the order of tokens.
        write!(f, "{VERSION}-{:016x}-{:08x}-{:016x}", self.system, self.timeline, self.lsn.get())
    }
}

/// Text without a signature: anybody can have written it. For clients that cannot be trusted there are
/// [`TokenKeys`](crate::TokenKeys).
impl FromStr for CausalToken {
    type Err = ParseTokenError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match parse(text)? {
            (token, None) => Ok(token),
            (_, Some(_)) => Err(ParseTokenError::Signed),
        }
    }
}

/// Whether the signature is right is for the caller to find out.
pub(super) fn parse(text: &str) -> Result<(CausalToken, Option<Signature>), ParseTokenError> {
    let version = text.split_once('-').map_or("", |(version, _)| version);
    if version != VERSION {
        return Err(match is_version(version) {
            true => ParseTokenError::OtherVersion,
            false => ParseTokenError::Malformed,
        });
    }
    if text.len() > LONGEST {
        return Err(ParseTokenError::TooLong);
    }
    fields(&text.as_bytes()[VERSION.len()..]).ok_or(ParseTokenError::Malformed)
}

/// A number below 1000, without leading zeros.
fn is_version(field: &str) -> bool {
    (1..=3).contains(&field.len())
        && !field.starts_with('0')
        && field.bytes().all(|byte| byte.is_ascii_digit())
}

fn fields(text: &[u8]) -> Option<(CausalToken, Option<Signature>)> {
    let (system, text) = field(text, 16)?;
    let (timeline, text) = field(text, 8)?;
    let (lsn, text) = field(text, 16)?;
    let token = CausalToken::new(Some(system), Some(timeline), Some(Lsn::new(lsn)));
    if text.is_empty() {
        return Some((token, None));
    }
    let (signature, text) = field::<u128>(text, 2 * SIGNATURE_BYTES)?;
    text.is_empty().then_some((token, Some(signature.to_be_bytes())))
}

/// A separator and so many digits, and what follows them.
fn field<T: TryFrom<u128>>(text: &[u8], width: usize) -> Option<(T, &[u8])> {
    let (digits, rest) = text.strip_prefix(b"-")?.split_at_checked(width)?;
    // `from_str_radix` would also take capitals, which would give a token a second text, and a sign.
    let value = digits.iter().try_fold(0, |value, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u128::from(digit))
    })?;
    Some((T::try_from(value).ok()?, rest))
}

/// Why a text was not taken for a causal token. The text is not repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseTokenError {
    /// There is more text than a token has.
    #[error("too long for a causal token: pass on nothing but the text of one")]
    TooLong,

    /// The text is something else.
    #[error(
        "not a causal token: expected `1-<system>-<timeline>-<lsn>` in lowercase hexadecimal, as it was given out"
    )]
    Malformed,

    /// Another release, with another text form, wrote it.
    #[error("a causal token of another version, from another release of diesel-replicas: go on without it")]
    OtherVersion,

    /// There is a signature, and no keys were given to verify it.
    #[error("the causal token is signed: verify it with `TokenKeys::verify`")]
    Signed,

    /// There has to be a signature, and there is none.
    #[error("the causal token is not signed: give out what `TokenKeys::sign` returns")]
    SignatureMissing,

    /// None of the keys made the signature, or not for this token.
    #[error(
        "the causal token's signature is wrong: it was made up, or signed with a key that is not accepted here"
    )]
    SignatureWrong,
}

impl ParseTokenError {
    /// The signature is missing or wrong. Whoever sent the text may have made it up; or its key is not accepted any
    /// more, or not yet.
    pub fn is_forged(&self) -> bool {
        matches!(self, Self::SignatureMissing | Self::SignatureWrong)
    }
}

#[cfg(test)]
mod tests {
    use super::super::token::tests::tokens;
    use super::*;
    use proptest::prelude::*;
    use proptest::sample::Index;

    const UNSIGNED: &str = "1-6b3f1c0de5a90c41-00000002-00000000016b3748";
    const SIGNED: &str = "1-6b3f1c0de5a90c41-00000002-00000000016b3748-00112233445566778899aabbccddeeff";

    /// What may happen to a text on its way.
    #[derive(Debug, Clone)]
    enum Damage {
        Replace(Index, char),
        Insert(Index, char),
        Remove(Index),
        Truncate(Index),
        Capitals,
    }

    fn damage() -> impl Strategy<Value = Damage> {
        let place = any::<Index>;
        let letter =
            || prop_oneof!["[0-9a-fA-FgG+ -]".prop_map(|text| text.chars().next().unwrap()), any::<char>()];
        prop_oneof![
            (place(), letter()).prop_map(|(at, letter)| Damage::Replace(at, letter)),
            (place(), letter()).prop_map(|(at, letter)| Damage::Insert(at, letter)),
            place().prop_map(Damage::Remove),
            place().prop_map(Damage::Truncate),
            Just(Damage::Capitals),
        ]
    }

    fn damaged(text: &str, damage: Damage) -> String {
        let mut letters: Vec<char> = text.chars().collect();
        match damage {
            Damage::Replace(at, letter) => letters[at.index(text.len())] = letter,
            Damage::Insert(at, letter) => letters.insert(at.index(text.len() + 1), letter),
            Damage::Remove(at) => _ = letters.remove(at.index(text.len())),
            Damage::Truncate(at) => letters.truncate(at.index(text.len())),
            Damage::Capitals => letters.iter_mut().for_each(|letter| letter.make_ascii_uppercase()),
        }
        letters.into_iter().collect()
    }

    fn text_of((token, signature): (CausalToken, Option<Signature>)) -> String {
        let signature = signature.map(|bytes| format!("-{:032x}", u128::from_be_bytes(bytes)));
        format!("{token}{}", signature.unwrap_or_default())
    }

    proptest! {
        #[test]
        fn text_survives_a_round_trip(token in tokens(), signature: [u8; 16]) {
            let text = token.to_string();
            prop_assert_eq!(text.len(), 44);
            prop_assert_eq!(text.parse(), Ok(token));

            let signed = text_of((token, Some(signature)));
            prop_assert_eq!(signed.len(), 77);
            prop_assert_eq!(parse(&signed), Ok((token, Some(signature))));
            prop_assert_eq!(signed.parse::<CausalToken>(), Err(ParseTokenError::Signed));
        }

        #[test]
        fn texts_are_in_the_order_of_tokens(a in tokens(), b in tokens()) {
            let b = CausalToken { system: a.system, ..b };
            let told = a.timeline().is_some() == b.timeline().is_some();
            prop_assert_eq!(a.partial_cmp(&b), told.then(|| a.to_string().cmp(&b.to_string())));
        }

        #[test]
        fn signatures_do_not_change_the_order(a in tokens(), b in tokens(), with: [u8; 16], other: [u8; 16]) {
            let b = CausalToken { system: a.system, ..b };
            prop_assume!(a != b);
            let texts = (text_of((a, Some(with))), text_of((b, Some(other))));
            prop_assert_eq!(texts.0.cmp(&texts.1), a.to_string().cmp(&b.to_string()));
        }

        #[test]
        fn text_is_safe_in_urls_and_cookies(token in tokens()) {
            prop_assert!(token.to_string().bytes().all(|byte| byte == b'-' || byte.is_ascii_alphanumeric()));
        }

        #[test]
        fn arbitrary_text_never_panics(text in any::<String>(), version in "[1-9]?-?") {
            let text = version + &text;
            if let Ok(parsed) = parse(&text) {
                prop_assert_eq!(text_of(parsed), text);
            }
        }

        #[test]
        fn one_token_has_one_text(token in tokens(), signature: Option<[u8; 16]>, damage in damage()) {
            let text = damaged(&text_of((token, signature)), damage);
            if let Ok(parsed) = parse(&text) {
                prop_assert_eq!(text_of(parsed), text);
            }
        }
    }

    #[test]
    fn text_is_human_readable() {
        let token =
            CausalToken::new(Some(0x6b3f_1c0d_e5a9_0c41), Some(2), Some("0/16B3748".parse().unwrap()));
        assert_eq!(token.to_string(), UNSIGNED);
        assert_eq!(
            CausalToken::new(None, None, None).to_string(),
            "1-0000000000000000-00000000-ffffffffffffffff"
        );
    }

    #[test]
    fn malformed_text_is_refused() {
        let capitals = UNSIGNED.to_uppercase();
        let shifted = UNSIGNED.replace("-00000002-0", "-000000020-");
        let accented = format!("{}é", &UNSIGNED[..42]);
        let signs = UNSIGNED.replace("-00000002-", "-+0000002-");
        for text in [
            "",
            "-",
            "1",
            "1-",
            "01-6b3f1c0de5a90c41",
            "x-6b3f1c0de5a90c41",
            &UNSIGNED[1..],
            &UNSIGNED[..43],
            &format!(" {UNSIGNED}"),
            &format!("{UNSIGNED}0"),
            &format!("{UNSIGNED}-"),
            &SIGNED[..76],
            &capitals,
            &shifted,
            &accented,
            &signs,
        ] {
            assert_eq!(text.parse::<CausalToken>(), Err(ParseTokenError::Malformed), "{text:?}");
        }
    }

    #[test]
    fn longer_text_is_refused_whatever_it_is() {
        for text in [format!("{SIGNED}0"), format!("{SIGNED}-{SIGNED}"), format!("1-{}", "é".repeat(40))] {
            assert_eq!(text.parse::<CausalToken>(), Err(ParseTokenError::TooLong), "{text:?}");
        }
    }

    #[test]
    fn other_versions_are_told_from_other_text() {
        for text in
            [&UNSIGNED.replacen('1', "2", 1), "10-whatever", "999-", &format!("2-{}", "0".repeat(999))]
        {
            assert_eq!(text.parse::<CausalToken>(), Err(ParseTokenError::OtherVersion), "{text:?}");
        }
    }
}
