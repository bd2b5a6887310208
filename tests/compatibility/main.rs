//! Compatibility with released versions: bytes that were recorded of one are read, and written, by this one.
//!
//! The directories are named after the version. What is in them is never changed: a later version that cannot read it
//! needs another protocol version, and the message that names both.

#![allow(clippy::unwrap_used, unreachable_pub)]

mod captured;
mod recording;
mod wire;
