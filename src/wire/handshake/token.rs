//! The shared secret of a server and its proxies.

mod error;
mod lengths;
mod strength;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc};

use crc_fast::CrcAlgorithm;
use rand::Rng as _;
use zeroize::{Zeroize, ZeroizeOnDrop};

pub use error::TokenError;

use super::token_key::TokenKey;
use lengths::{CHECKSUM_DIGITS, GENERATED_BYTES, MAX_BYTES, PREFIX, RANDOM_DIGITS};

/// The digits of a generated token. They need no quoting in a shell, a URL or a configuration file, and a double click
/// selects all of it.
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The secret that a server and its proxies share. `Debug` does not print it, and dropping it overwrites it.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Token(String);

impl Token {
    /// Creates the token with the text `secret`, whatever it is worth. A text from outside goes through
    /// [`parse`](Self::parse).
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// Parses the text of a token that an operator gives: everything but white space around it. It may be a generated
    /// one, in this format or in that of 0.1 (32 digits without a checksum), or any other that cannot be guessed.
    ///
    /// # Errors
    /// What is wrong with the text; the error does not contain it.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        // Editors of some systems begin a file with a byte order mark.
        let text = text.trim_start_matches('\u{feff}').trim();
        if text.is_empty() {
            return Err(TokenError::Blank);
        }
        if text.chars().any(char::is_control) {
            return Err(TokenError::ControlCharacters);
        }
        if text.len() > MAX_BYTES {
            return Err(TokenError::TooLong);
        }
        if TokenKey::is_hash(text) {
            return Err(TokenError::IsHash);
        }
        match check_generated(text) {
            Some(checked) => checked?,
            None => strength::check(text)?,
        }
        Ok(Self::new(text))
    }

    /// Generates a token: `underpass_`, 30 digits with 178 random bits from the operating system, and a checksum of 6
    /// digits.
    ///
    /// # Panics
    ///
    /// If the operating system provides no random bytes. There is no safe way to continue without them.
    pub fn random() -> Self {
        let mut token = PREFIX.to_owned();
        let mut random = rand::rand_core::UnwrapErr(rand::rngs::SysRng);
        while token.len() < PREFIX.len() + RANDOM_DIGITS {
            let mut byte = [0];
            random.fill_bytes(&mut byte);
            // Of the others, some digits would have one value more.
            if byte[0] < 4 * 62 {
                token.push(char::from(DIGITS[usize::from(byte[0] % 62)]));
            }
        }
        token += &checksum(&token);
        Self(token)
    }

    /// Returns the text of the token, for output that the operator asked for, and for the text format's `AUTH`.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Returns the base key of all proofs.
    pub fn key(&self) -> TokenKey {
        TokenKey::of(&self.0)
    }
}

impl From<Token> for Arc<[TokenKey]> {
    /// Returns the key of a token as the only one that a server accepts.
    fn from(token: Token) -> Self {
        [token.key()].into()
    }
}

/// Returns the digits of the checksum over the beginning of a generated token.
fn checksum(text: &str) -> String {
    let mut crc = crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, text.as_bytes());
    let mut digits = [0; CHECKSUM_DIGITS];
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[(crc % 62) as usize];
        crc /= 62;
    }
    digits.map(char::from).iter().collect()
}

/// Checks a text that is meant to be a generated token; returns `None` for any other.
fn check_generated(text: &str) -> Option<Result<(), TokenError>> {
    let is_whole = |text: &str| {
        text.len() == GENERATED_BYTES
            && text
                .split_at_checked(GENERATED_BYTES - CHECKSUM_DIGITS)
                .is_some_and(|(rest, sum)| checksum(rest) == sum)
    };
    let start = text.find(PREFIX).unwrap_or(text.len());
    let (before, token) = text.split_at(start);
    if token.is_empty() {
        // A selection that began too late: the digits alone are as good as any token, and would be a wrong one.
        let tail = text.len().checked_sub(RANDOM_DIGITS + CHECKSUM_DIGITS).and_then(|at| text.get(at..))?;
        return is_whole(&format!("{PREFIX}{tail}")).then_some(Err(TokenError::PrefixMissing));
    }
    Some(match (before, token.len()) {
        ("", GENERATED_BYTES) if is_whole(token) => Ok(()),
        ("", bytes @ ..GENERATED_BYTES) => Err(TokenError::Truncated { bytes }),
        ("", GENERATED_BYTES) => Err(TokenError::WrongChecksum),
        _ => Err(TokenError::MoreThanToken),
    })
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(***)")
    }
}
