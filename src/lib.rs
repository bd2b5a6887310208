//! underpass: a self-hosted reverse tunnel with the cockpit built in.
//!
//! Proxies behind NAT dial a public server over several channels. Users connect to public ports; every user
//! connection is a stream with the key `userChannelId:streamId`, multiplexed and balanced over the channels. The
//! server publishes what it does on a telemetry bus; a terminal front end shows it and orders through a command queue.
//!
//! The rooms look down only:
//!
//! ```text
//! cli ──────────────────────────── wires everything together
//!  ├── tui ─────────────── ids, telemetry, control
//!  ├── server ──────────── ids, config, wire, mux, link, net, runtime, telemetry, control
//!  └── proxy ───────────── ids, config, wire, mux, link, net, runtime, telemetry
//!        link ──────────── ids, wire, mux, net, runtime, inspect, telemetry
//!        net ───────────── wire, mux, telemetry
//!        runtime ───────── telemetry
//!        inspect ───────── ids, telemetry
//!        mux ───────────── ids, wire          (no clock, no socket, no task)
//!        wire ──────────── ids
//!        config, telemetry, control ── ids
//! ```

pub mod cli;
pub mod config;
pub mod control;
pub mod ids;
pub mod inspect;
pub mod link;
pub mod mux;
pub mod net;
pub mod proxy;
pub mod runtime;
pub mod server;
pub mod telemetry;
pub mod tui;
pub mod wire;
