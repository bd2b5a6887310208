//! The shared secret of a server and its proxies.

use std::fmt;

use base64::Engine as _;
use rand::Rng as _;
use sha2::{Digest as _, Sha256};

use super::mac::constant_time_eq;

/// The secret that a server and its proxies share. `Debug` does not print it.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// Creates the token with the text `secret`.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// Generates a token of 32 characters that need no quoting in a shell or a URL: 192 random bits from the operating
    /// system. Tokens that begin with a hyphen, one in 64, are discarded, because a command line would take them for an
    /// option.
    ///
    /// # Panics
    ///
    /// If the operating system provides no random bytes. There is no safe way to continue without them.
    pub fn random() -> Self {
        loop {
            let mut bytes = [0; 24];
            rand::rand_core::UnwrapErr(rand::rngs::SysRng).fill_bytes(&mut bytes);
            let token = base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(bytes);
            // After `--token` it would be parsed as an option.
            if !token.starts_with('-') {
                return Self(token);
            }
        }
    }

    /// Returns the text of the token, for output that the operator asked for, and for the text format's `AUTH`.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Returns whether `candidate` equals this token. Compares in constant time. For the text format's `AUTH`, which
    /// sends the token itself.
    pub fn matches(&self, candidate: &[u8]) -> bool {
        constant_time_eq(&self.key(), self.0.as_bytes(), candidate)
    }

    /// Returns the base key of all proofs: the SHA-256 of the token, so that its length does not depend on the token.
    pub(super) fn key(&self) -> [u8; 32] {
        Sha256::digest(&self.0).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(***)")
    }
}

#[cfg(test)]
mod tests;
