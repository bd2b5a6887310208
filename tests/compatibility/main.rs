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
