//! What is going on, for whoever wants to look: counters, lifecycle events, snapshots.
//!
//! The hot path only bumps atomics. Beginnings and ends go out as [`Event`]s on a broadcast channel, and the end of a
//! thing is in its counters too: a receiver that lagged resynchronises from a [`Snapshot`] and is never left with a
//! ghost. Whoever admits something (a user, a stream, a proxy, …) holds a guard from [`Telemetry`]; dropping the guard
//! is the only way out, so that nothing can leave without its end being counted and told.

mod bottleneck;
mod clock;
mod content;
mod event;

mod guard;
mod hub;
mod latency;
mod log_ring;
mod rate;
mod registry;
mod sampler;
mod snapshot;
mod stats;
mod tcp;
mod throttle;

pub use bottleneck::{Bottleneck, BottleneckTimes, StreamDetails, StreamDetailsSource};
pub use content::{Content, Progress};
pub use event::{DisconnectReason, EndReason, EndedBy, Event, EventKind, seconds};
pub use guard::{ChannelGuard, ProxyGuard, ServiceGuard, StreamGuard, UserGuard};
pub use hub::Telemetry;
pub use latency::{Latencies, LatencyHistogram, LatencyHistograms, LatencySummary};
pub use log_ring::{LogLevel, LogRecord, LogRing};
pub use rate::RateWindow;
pub use sampler::Sampler;
pub use snapshot::{
    ChannelSnapshot, ChannelState, ProxySnapshot, SelectedStream, ServiceSnapshot, Snapshot, StreamInfo,
    StreamSnapshot, StreamState, Totals, UserSnapshot,
};
pub use stats::{
    ByteCounters, ChannelFormat, ChannelStats, Gauge, ProxyStats, RateLimitGauges, ServiceStats, StreamPhase,
    StreamStats, UserStats,
};
pub use tcp::{ChannelHealth, TcpInfo};
