//! Telemetry: counters, lifecycle events, snapshots, latency histograms and the log ring.
//!
//! Telemetry observes and decides nothing. The data path only increments atomics. The begin and the end of an object go
//! out as [`Event`]s on a broadcast channel and also change its counters: a receiver that lagged resynchronises from a
//! [`Snapshot`] and shows no object that has ended. The code that admits an object (a service, proxy, channel, user or
//! stream) holds a guard from [`Telemetry`]. Only dropping the guard removes the object, which updates the counters and
//! emits the event, so no end can go unreported.

mod accept_failures;
mod bottleneck;
mod clock;
mod content;
mod cumulative;
mod event;
mod failure_history;
mod guard;
mod hub;
mod hub_log;
mod latency;
mod log_ring;
pub mod micros;
mod rate;
mod registry;
mod sampler;
mod scrape;
mod series;
mod served;
mod snapshot;
mod stats;
mod table_mutex;
mod tcp;
mod throttle;

pub use accept_failures::AcceptFailure;
pub use bottleneck::{Bottleneck, BottleneckTimes, StreamDetails, StreamDetailsSource};
pub use clock::{civil_date, epoch_ms};
pub use content::{Content, Progress, Shortfall, TransferEnd};
pub use cumulative::{CumulativeHistogram, HistogramCounts};
pub use event::{CommandOutcome, DisconnectReason, EndReason, EndedBy, Event, EventKind, Notable, seconds};
pub use failure_history::RecentFailures;
pub use guard::{ChannelGuard, ProxyGuard, ServiceGuard, StreamGuard, UserGuard};
pub use hub::Telemetry;
pub use latency::{Latencies, LatencyHistogram, LatencyHistograms, LatencySummary};
pub use log_ring::{LIFECYCLE_TARGET, LogBroadcast, LogLevel, LogRecord, LogRing};
pub use rate::RateWindow;
pub use sampler::Sampler;
pub use scrape::{ProxySeries, ServerSeries, ServiceSeries};
pub use series::{MemorySource, MemoryUse, StreamEnds};
pub use served::{ChannelSums, ProxyFigures, ServedChannel, ServedSeries, ServedStats, ServedStream};
pub use snapshot::{
    ChannelSnapshot, ChannelState, ProxySnapshot, SelectedStream, ServiceSnapshot, Snapshot, StreamSnapshot,
    StreamState, Totals, UserSnapshot,
};
pub use stats::{
    ByteCounters, ChannelFormat, ChannelStats, Gauge, ProxyStats, RateLimitGauges, ServiceStats, StreamInfo,
    StreamPhase, StreamStats, UserStats,
};
pub use table_mutex::{TableGuard, TableMutex, assert_no_table_locked};
pub use tcp::{ChannelHealth, ChannelHealthSource, TcpInfo};
pub use throttle::{MAX_LIFECYCLE_PER_SECOND, MAX_REFUSALS_PER_SECOND, Throttle};
