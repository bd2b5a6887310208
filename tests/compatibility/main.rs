//! Compatibility with released versions: bytes that were recorded of one are read, and written, by this one;
//! and what cannot work together is refused with a sentence that names both versions.
//!
//! The directories are named after the version. What is in them is never changed: a later version that cannot read it
//! needs another protocol version, and the message that names both.

#![allow(clippy::unwrap_used, unreachable_pub)]

mod captured;
mod recording;
#[path = "../support/mod.rs"]
mod support;
mod versions;
mod wire;

/// Returns the bytes of a recorded line.
fn bytes_of_hex(digits: &str) -> impl Iterator<Item = u8> {
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
}
