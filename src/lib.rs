//! underpass: a self-hosted reverse tunnel with the cockpit built in.
//!
//! Proxies behind NAT connect to a public server over several channels. Users connect to public ports; every user
//! connection is a stream with the key `userChannelId:streamId`, multiplexed and load-balanced over the channels. The
//! server publishes counters, events and snapshots; a terminal front end shows them and sends commands.
//!
//! Modules name only modules below them (`tests/architecture` checks it):
//!
//! ```text
//! cli ──────────────────────────── wires everything together
//!  ├── tui ─────────────── ids, telemetry, control
//!  ├── operator ────────── ids, telemetry, control, feed
//!  ├── metrics ─────────── telemetry
//!  ├── server ──────────── ids, config, wire, mux, link, net, runtime, telemetry, control
//!  └── proxy ───────────── ids, config, wire, mux, link, net, runtime, telemetry, tls
//!        link ──────────── ids, wire, mux, net, runtime, inspect, telemetry
//!        net ───────────── wire, mux, tls, telemetry
//!        runtime ───────── telemetry
//!        inspect ───────── ids, telemetry
//!        mux ───────────── ids, wire          (no clock, no socket, no task)
//!        config ────────── ids, wire, tls
//!        wire ──────────── ids
//!        recording ─────── ids, feed, telemetry
//!        feed ──────────── ids, telemetry
//!        telemetry, control ── ids
//!        tls ───────────── none
//! ```
//!
//! `ARCHITECTURE.md` describes the data paths, the lock order and where to add things.

// They panic where stdout or stderr is a closed pipe or a full device; `cli::output` does not.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod cli;
pub mod config;
pub mod control;
pub mod feed;
pub mod ids;
pub mod inspect;
pub mod link;
pub mod metrics;
pub mod mux;
pub mod net;
pub mod operator;
pub mod proxy;
pub mod recording;
pub mod runtime;
pub mod server;
pub mod telemetry;
pub mod tls;
pub mod tui;
pub mod wire;
