//! The tunnel server, which runs on the public machine.
//!
//! The server accepts proxies on the *tunnel port*, opens the *public ports* that they register, and assigns each
//! user connection to one of the proxies that serve the port.
//!
//! ```text
//!  tunnel port ─ accept ─ admission, handshake ─ RemoteProxy ─ Link ─ channels
//!                                                    │ registers
//!  public port ─ accept ─ user connection ─ pick ──► Service (pool of proxies)
//! ```
//!
//! Files depend on each other in one direction only: plain state (`proxy`, `registrations`, `service`, `users`,
//! `operator_handle`) at the bottom, `core` on top of it, and the tasks that act on the core above that. The state of
//! weight, drain, pause, priority and policy lives here; telemetry receives copies for display and is never read for a
//! decision.
//!
//! Lock order: the list of services of a proxy → the table of services → the member list of a pool; the channel table
//! of a proxy, or the settings of an operator's handle → the locks of the link. The locks of users, tickets,
//! admission and telemetry guards are leaves: no other lock of this module is taken under them.
//!
//! This module must not name `proxy` (the client), `tui` or `cli`.

mod accept;
mod admission;
mod admit_binary;
mod admit_text;
mod admitted_channel;
mod balance;
mod balancer;
mod channel_table;
mod command;
mod core;
mod credentials;
mod departed_users;
mod grants;
mod latency_recorder;
mod lifecycle;
mod operator_handle;
mod other_protocol;
mod pending_table;
mod proxy;
mod proxy_events;
mod proxy_task;
mod public_port;
mod registration;
mod registrations;
mod revocation;
mod service;
mod shutdown;
mod ticket_rotation;
mod tunnel_descriptors;
mod tunnel_port;
mod user_admission;
mod user_connection;
mod users;
mod wrong_tokens;

pub use credentials::Credentials;
pub use lifecycle::{BindError, LiveConfig, Server};
pub use shutdown::{ShutdownReport, ShutdownSignals};
