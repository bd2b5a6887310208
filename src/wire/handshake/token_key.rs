//! What a server has to keep of a token: the key of the proofs.

use std::fmt;

use sha2::{Digest as _, Sha256};
use zeroize::Zeroize as _;

use super::mac::constant_time_eq;
use crate::ids::{decode_hex, encode_hex};

/// What the text of a token's hash begins with.
const HASH_PREFIX: &str = "sha256:";

/// The SHA-256 of a token, from which the keys of all proofs follow. `Debug` does not print it, and dropping it
/// overwrites it.
///
/// A server needs no more than this to verify proofs. It is no weaker a secret for that: a client that was written for
/// it could compute the proofs from it as well. It only keeps the token itself from those who see the file.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TokenKey([u8; 32]);

impl TokenKey {
    /// Returns the key of the token with the text `token`.
    pub fn of(token: impl AsRef<[u8]>) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// Parses the form in which a file holds the hash of a token; `None` for any other text.
    pub fn parse_hash(text: &str) -> Option<Self> {
        decode_hex(text.trim().strip_prefix(HASH_PREFIX)?).map(Self)
    }

    /// Returns whether a text is meant to be the hash of a token.
    pub(super) fn is_hash(text: &str) -> bool {
        text.starts_with(HASH_PREFIX)
    }

    /// Returns the form in which a file holds the hash: `sha256:` and 64 hexadecimal digits.
    pub fn reveal_hash(&self) -> String {
        HASH_PREFIX.to_owned() + &encode_hex(&self.0)
    }

    /// Returns whether `candidate` is the same key. Compares in constant time. For the text format's `AUTH`, which
    /// sends the token itself.
    pub fn matches(&self, candidate: &Self) -> bool {
        constant_time_eq(&self.0, &candidate.0)
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
