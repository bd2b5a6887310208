use std::fmt;

use base64::Engine as _;
use rand::Rng as _;
use sha2::{Digest as _, Sha256};

use super::proof;

/// The secret that a server and its proxies share. Never printed by `Debug`.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// The token that reads `secret`.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// A new token of 32 characters that need no quoting in a shell or a URL, and that can follow an option: 192 bits
    /// from the operating system, but for one in 64 that begins with a hyphen.
    ///
    /// # Panics
    ///
    /// If the operating system gives no random bytes. There is no safe way to go on without.
    pub fn random() -> Self {
        loop {
            let mut bytes = [0; 24];
            rand::rand_core::UnwrapErr(rand::rngs::SysRng).fill_bytes(&mut bytes);
            let token = base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(bytes);
            // Behind `--token` it would be taken for an option.
            if !token.starts_with('-') {
                return Self(token);
            }
        }
    }

    /// The text of the token, for writing it where the operator asked for it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether `candidate` is this token, in a time that tells nothing about how much of it is right. For the text
    /// format's `AUTH`, which sends the token itself.
    pub fn matches(&self, candidate: &[u8]) -> bool {
        proof::same(&self.key(), self.0.as_bytes(), candidate)
    }

    /// The key of all proofs: of one length, however long the token.
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
mod tests {
    use super::*;

    /// One in 64 began with a hyphen, and the command to paste on the other machine did not work.
    #[test]
    fn no_random_token_looks_like_an_option() {
        assert!((0..2000).all(|_| !Token::random().reveal().starts_with('-')));
    }
}
