//! The control socket: operators who are not at the server's own terminal, and programs, see what runs and give
//! commands.
//!
//! ```text
//!  client ══ Unix socket ══ connection ─ lists ─────► snapshots of telemetry
//!                               │       ─ changes ──► the server's queue of commands, with who gave them
//!                               └─ events, snapshots and changes while the client grants credit
//! ```
//!
//! Each line is a JSON object (`protocol`, documented in `assets/control-protocol.md`). A process with a control socket
//! is found by the name of the socket ([`instances`]), and [`Client`] speaks to it.
//!
//! This module must not name the server, the proxy or the cockpit: it gets the handles that it needs.

mod activity;
mod client;
mod connection;
mod execute;
mod line_reader;
mod lists;
mod peer;
mod peer_groups;
mod place;
mod protocol;
mod request;
mod row_filter;
mod row_list;
mod rows;
mod server;
mod shared;
mod socket;
mod stream_sort;
mod watcher;

pub use client::{Client, ClientError, Line, LineSource, request_line};
pub use peer::{Access, AccessRules, ControlGroup};
pub use place::{Instance, Variable, environment, instances};
pub use protocol::{ErrorCode, Greeting, PROTOCOL, RequestError, RequestResult, Role};
pub use request::{LimitValue, PsQuery, REQUESTS, Request, RequestInfo, WatchQuery};
pub use row_list::{CHANNEL_SORT_KEYS, PROXY_SORT_KEYS, SERVICE_SORT_KEYS, USER_SORT_KEYS};
pub use rows::{ChannelRow, ProxyListRow, ServiceRow, StreamRow, TotalsRow, UserRow};
pub use server::{ControlOptions, ControlServer};
pub use shared::{
    LinkReport, ProcessHandle, ProxyHandle, ProxyReport, ProxyServiceReport, ReloadRequest, ServerHandle,
    Subject,
};
pub use socket::{SocketChoice, SocketError};
pub use stream_sort::StreamSort;
