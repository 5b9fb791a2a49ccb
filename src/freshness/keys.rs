//! Signatures, for tokens that clients bring back.

use super::text::{self, ParseTokenError, SIGNATURE_BYTES, Signature};
use super::token::CausalToken;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt;

/// Bytes that a key has to have at least: as many as SHA-256 gives. A shorter one makes the signature weaker.
const KEY_BYTES: usize = 32;

/// Goes before the text into the signature, so that no signature made with the same key for another purpose is one of a
/// token.
const PURPOSE: &[u8] = b"diesel-replicas causal token\0";

/// Keys that sign tokens and verify them, for clients that cannot be trusted.
///
/// Without a signature, a client can make up a token of the far future, which no replica satisfies: its reads all go to
/// the primary. The signature is the first half of an HMAC-SHA256. It proves that a token was given out here, not to
/// whom or when: a client may pass one on, or keep it. It hides nothing.
///
/// # Rotation
///
/// Every instance has to accept a key before any of them signs with it:
///
/// 1. `TokenKeys::new(old)?.accept(new)?` on all instances;
/// 2. then `TokenKeys::new(new)?.accept(old)?` on all of them;
/// 3. then, once no client holds a token that the old key signed, `TokenKeys::new(new)?`.
///
/// # Example
///
/// ```
/// use diesel_replicas::{CausalToken, TokenKeys};
///
/// # fn random() -> [u8; 32] { diesel_replicas::rand::random() }
/// let (old, new) = (random(), random());
/// let token: CausalToken = "1-6b3f1c0de5a90c41-00000001-00000000016b3748".parse()?;
///
/// let signed = TokenKeys::new(old)?.sign(&token);
/// let rotated = TokenKeys::new(new)?.accept(old)?;
/// assert_eq!(rotated.verify(&signed)?, token);
///
/// let made_up = signed.replace("-00000001-", "-00000002-");
/// assert!(rotated.verify(&made_up).is_err_and(|error| error.is_forged()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A background job needs no signature where nobody else writes to its queue. With the feature `serde` a token is one
/// of its fields:
///
/// ```
/// use diesel_replicas::CausalToken;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct SendReceipt {
///     order: i64,
///     placed: CausalToken,
/// }
///
/// let placed = "1-6b3f1c0de5a90c41-00000001-00000000016b3748".parse()?;
/// let queued = serde_json::to_string(&SendReceipt { order: 17, placed })?;
/// assert_eq!(queued, r#"{"order":17,"placed":"1-6b3f1c0de5a90c41-00000001-00000000016b3748"}"#);
///
/// let job: SendReceipt = serde_json::from_str(&queued)?;
/// assert_eq!(job.placed, placed); // its reads see order 17
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct TokenKeys {
    /// As they are before the first byte to sign: what depends on nothing but the key is done once.
    signing: Hmac<Sha256>,
    accepted: Vec<Hmac<Sha256>>,
}

impl TokenKeys {
    /// Signs with this key and accepts what it signed. All of its bytes should be random.
    ///
    /// # Errors
    ///
    /// It is shorter than 32 bytes.
    pub fn new(key: impl AsRef<[u8]>) -> Result<Self, WeakKey> {
        Ok(Self { signing: keyed(key.as_ref())?, accepted: vec![] })
    }

    /// Also accepts what this key signed, for [rotation](Self#rotation).
    ///
    /// # Errors
    ///
    /// It is shorter than 32 bytes.
    pub fn accept(mut self, key: impl AsRef<[u8]>) -> Result<Self, WeakKey> {
        self.accepted.push(keyed(key.as_ref())?);
        Ok(self)
    }

    /// The token's text with a signature behind it: 77 characters that need no escaping in URLs, headers and cookies.
    pub fn sign(&self, token: &CausalToken) -> String {
        let text = token.to_string();
        let whole = over(&self.signing, &text).finalize().into_bytes();
        let mut half = Signature::default();
        half.copy_from_slice(&whole[..SIGNATURE_BYTES]);
        format!("{text}-{:032x}", u128::from_be_bytes(half))
    }

    /// The token, if one of the keys signed it.
    ///
    /// # Errors
    ///
    /// The text is not that of a token, or its signature is [missing or wrong](ParseTokenError::is_forged).
    pub fn verify(&self, text: &str) -> Result<CausalToken, ParseTokenError> {
        let (token, signature) = text::parse(text)?;
        let signature = signature.ok_or(ParseTokenError::SignatureMissing)?;
        let text = token.to_string();
        // Each comparison takes as long whatever is wrong. Which of the keys it was is no secret.
        let signed = |key| over(key, &text).verify_truncated_left(&signature).is_ok();
        match signed(&self.signing) || self.accepted.iter().any(signed) {
            true => Ok(token),
            false => Err(ParseTokenError::SignatureWrong),
        }
    }
}

fn keyed(key: &[u8]) -> Result<Hmac<Sha256>, WeakKey> {
    if key.len() < KEY_BYTES {
        return Err(WeakKey);
    }
    Hmac::new_from_slice(key).map_err(|_| WeakKey)
}

fn over(key: &Hmac<Sha256>, text: &str) -> Hmac<Sha256> {
    key.clone().chain_update(PURPOSE).chain_update(text)
}

/// Shows no key.
impl fmt::Debug for TokenKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenKeys").field("keys", &(1 + self.accepted.len())).finish_non_exhaustive()
    }
}

/// The key is too short to be a secret. `Debug` is as `Display`: `main` shows it so.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the key has fewer than {KEY_BYTES} bytes: make one with `openssl rand -hex {KEY_BYTES}`")]
pub struct WeakKey;

impl fmt::Debug for WeakKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::super::token::tests::tokens;
    use super::*;
    use proptest::prelude::*;

    const OLD: [u8; 32] = [1; 32];
    const NEW: [u8; 32] = [2; 32];

    fn keys(signing: impl AsRef<[u8]>) -> TokenKeys {
        TokenKeys::new(signing).unwrap()
    }

    proptest! {
        #[test]
        fn what_was_signed_is_verified(token in tokens(), key: [u8; 32]) {
            let text = keys(key).sign(&token);
            prop_assert!(text.starts_with(&token.to_string()));
            prop_assert_eq!(text.len(), 77);
            prop_assert_eq!(keys(key).verify(&text), Ok(token));
        }

        #[test]
        fn one_flipped_bit_is_refused(token in tokens(), at in 0..77usize, bit in 0..7) {
            let mut bytes = keys(OLD).sign(&token).into_bytes();
            bytes[at] ^= 1u8 << bit;
            let text = String::from_utf8(bytes).unwrap();
            prop_assert!(keys(OLD).verify(&text).is_err(), "{text}");
        }

        #[test]
        fn a_signature_is_of_one_token(token in tokens(), other in tokens()) {
            prop_assume!(token != other);
            let signed = keys(OLD).sign(&token);
            let moved = format!("{other}{}", &signed[44..]);
            prop_assert_eq!(keys(OLD).verify(&moved), Err(ParseTokenError::SignatureWrong));
        }

        #[test]
        fn arbitrary_text_is_not_verified(text in any::<String>()) {
            prop_assert!(keys(OLD).verify(&text).is_err());
        }
    }

    /// Computed with Python's `hmac.digest(key, b"diesel-replicas causal token\0" + text, "sha256")[:16]`.
    #[test]
    fn the_signature_is_the_first_half_of_an_hmac_sha256() {
        let token = "1-6b3f1c0de5a90c41-00000002-00000000016b3748".parse().unwrap();
        let key: Vec<u8> = (0..32).collect();
        assert_eq!(
            keys(key).sign(&token),
            "1-6b3f1c0de5a90c41-00000002-00000000016b3748-e101159d7fa1eb3455b91fab00b99c6c"
        );
    }

    #[test]
    fn rotation_step_by_step_refuses_no_token() {
        let token = "1-6b3f1c0de5a90c41-00000002-00000000016b3748".parse().unwrap();
        let steps = [keys(OLD), keys(OLD).accept(NEW).unwrap(), keys(NEW).accept(OLD).unwrap(), keys(NEW)];
        // Instances of two steps run side by side.
        for step in steps.windows(2) {
            for (signing, verifying) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                let signed = step[signing].sign(&token);
                assert_eq!(step[verifying].verify(&signed), Ok(token), "{step:?}");
            }
        }
        for (signing, too_soon) in [(&steps[2], &steps[0]), (&steps[1], &steps[3])] {
            let error = too_soon.verify(&signing.sign(&token)).unwrap_err();
            assert_eq!(error, ParseTokenError::SignatureWrong);
            assert!(error.is_forged());
        }
    }

    #[test]
    fn text_that_is_not_signed_is_refused() {
        let error = keys(OLD).verify("1-6b3f1c0de5a90c41-00000002-00000000016b3748").unwrap_err();
        assert_eq!(error, ParseTokenError::SignatureMissing);
        assert!(error.is_forged());
    }

    #[test]
    fn short_keys_are_refused() {
        assert_eq!(TokenKeys::new([0; 31]).unwrap_err(), WeakKey);
        assert_eq!(keys(OLD).accept("").unwrap_err(), WeakKey);
        assert!(keys(OLD).accept([0; 100]).is_ok());
    }

    #[test]
    fn no_key_is_shown() {
        let keys = keys("an old secret of thirty-two bytes").accept(NEW).unwrap();
        assert_eq!(format!("{keys:?}"), "TokenKeys { keys: 2, .. }");
    }
}
