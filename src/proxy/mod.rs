//! The proxy: the client behind NAT. It connects to the server, registers for a public port, and connects to the
//! target for every stream that the server opens.
//!
//! ```text
//!  connect ─► handshake ─► register ─► serve ──link lost──► backoff ─► connect …
//!     │           │            │
//!     │        refused      refused, before the first success and for good ───► error
//!     └──── failed or timed out ──────────────► backoff ─► connect …
//! ```
//!
//! A server that drains sends GOAWAY. Then the proxy opens a second link, to the server's successor where the GOAWAY
//! names one, and the first link continues beside it until its streams have ended.
//!
//! This module must not name `server`, `tui`, `cli` or `control`.

mod backoff;
mod channel_dialer;
mod channel_keepers;
mod channel_supervisor;
mod channel_target;
mod client;
mod error;
mod link_connector;
mod link_events;
mod loop_detector;
mod open_streams;
mod server_link;
mod serving_state;
mod target;

pub use client::Proxy;
pub use error::ProxyError;
