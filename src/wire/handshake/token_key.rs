//! What a server has to keep of a token: the key of the proofs.

use std::fmt;

use sha2::{Digest as _, Sha256};
use zeroize::Zeroize as _;

use super::mac::constant_time_eq;

/// What the text of a token's hash begins with.
const HASH_PREFIX: &str = "sha256:";

/// The SHA-256 of a token, from which the keys of all proofs follow. `Debug` does not print it, and dropping it overwrites it.
///
/// A server needs no more than this to verify proofs. It is no weaker a secret for that: a client that was written for it
/// could compute the proofs from it as well. It only keeps the token itself from those who see the file.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TokenKey([u8; 32]);

impl TokenKey {
    /// Returns the key of the token with the text `token`.
    pub(super) fn of(token: &str) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// Parses the form in which a file holds the hash of a token; `None` for any other text.
    pub fn parse_hash(text: &str) -> Option<Self> {
        let digits = text.trim().strip_prefix(HASH_PREFIX)?.as_bytes();
        let mut key = [0; 32];
        if digits.len() != 2 * key.len() {
            return None;
        }
        for (byte, pair) in key.iter_mut().zip(digits.chunks(2)) {
            let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Self(key))
    }

    /// Returns whether a text is meant to be the hash of a token.
    pub(super) fn is_hash(text: &str) -> bool {
        text.starts_with(HASH_PREFIX)
    }

    /// Returns the form in which a file holds the hash: `sha256:` and 64 hexadecimal digits.
    pub fn reveal_hash(&self) -> String {
        self.0.iter().fold(HASH_PREFIX.to_owned(), |text, byte| text + &format!("{byte:02x}"))
    }

    /// Returns whether this is the key of the token `candidate`. Compares in constant time. For the text format's `AUTH`,
    /// which sends the token itself.
    pub fn matches(&self, candidate: &[u8]) -> bool {
        constant_time_eq(&self.0, &self.0, &Sha256::digest(candidate))
    }

    /// Returns the bytes, to key an HMAC.
    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKey(***)")
    }
}

impl Drop for TokenKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

#[cfg(test)]
mod tests;
