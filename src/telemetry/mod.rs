//! What is going on, for whoever wants to look: counters, lifecycle events, snapshots.
//!
//! The hot path only bumps atomics. Beginnings and ends go out as [`Event`]s on a broadcast channel, and the end of a
//! thing is in its counters too: a receiver that lagged resynchronises from a [`Snapshot`] and is never left with a
//! ghost. Whoever admits something (a user, a stream, a proxy, …) holds a guard from [`Telemetry`]; dropping the guard
//! is the only way out, so that nothing can leave without its end being counted and told.

mod carries;
mod event;
mod flow;
mod guard;
mod hub;
mod latency;
mod rate;
mod register;
mod snapshot;
mod stats;
mod tcp;
mod throttle;

pub use carries::{Carries, Progress};
pub use event::{EndReason, EndedBy, Event, EventKind, GoneReason, seconds};
pub use flow::{Flow, FlowSource, HeldBy, Stalls};
pub use guard::{ChannelGuard, ProxyGuard, ServiceGuard, StreamGuard, UserGuard};
pub use hub::Telemetry;
pub use latency::{Latencies, Latency, Timing, Timings};
pub use rate::RateWindow;
pub use snapshot::{
    ChannelSnapshot, ChannelState, ProxySnapshot, ServiceSnapshot, Snapshot, StreamSnapshot, StreamState,
    Totals, UserSnapshot,
};
pub use stats::{
    ChannelStats, Format, Gauge, Limits, ProxyStats, ServiceStats, StreamPhase, StreamStats, Traffic,
    UserStats,
};
pub use tcp::{ChannelHealth, TcpInfo};
