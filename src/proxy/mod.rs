//! The proxy: the client behind NAT. It connects to its servers, registers its services, and connects to the target of
//! a service for every stream that a server opens.
//!
//! ```text
//!  connect ─► handshake ─► register ─► serve ──link lost──► backoff ─► connect …
//!     │           │            │
//!     │        refused      refused, before the first success and for good ───► error
//!     └──── failed or timed out ──────────────► backoff ─► connect …
//! ```
//!
//! Each server has a session of its own (`ServerSession`), which the loss of another one does
//! not affect. On each link the `Registrar` keeps what the server serves equal to the services of the
//! configuration, which may change while streams are open.
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
mod link_services;
mod loop_detector;
mod observer;
mod open_streams;
mod registrar;
mod registration;
mod registrations;
mod server_link;
mod server_session;
mod server_sessions;
mod service_list;
mod serving_board;
mod serving_state;
mod shared_parts;
mod target;

pub use client::Proxy;
pub use error::{ProxyError, RefusedServices};
pub use service_list::ServiceChanges;
pub use serving_board::ServedService;
