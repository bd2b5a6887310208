//! The counters and displayed values of services, users, proxies, channels and streams.
//!
//! Telemetry only observes. Pause, priority, weight, draining, policy and rate limits belong to the objects that they
//! control (`server`, `link`, `mux`), which copy each change here for display. Outside this module those values can
//! only be set: their getters are visible in `telemetry` alone, so that no decision can read them back.

mod counters;
mod stream;

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::{
    ChannelHealth, ChannelHealthSource, LatencyHistogram, LatencyHistograms, LatencySummary,
    latency::CachedSummary,
    series::{ProxyCounters, Series, ServiceCounters},
};
use crate::ids::{ChannelId, Policy, ProxyId, ServiceKey, UserChannelId};

use counters::OptionalMicros;
pub use counters::{ByteCounters, Gauge, RateLimitGauges};
pub use stream::{StreamInfo, StreamPhase, StreamStats};

/// How old the condition of a channel may be when a snapshot shows it: ten snapshots are taken in a second.
const MAX_HEALTH_AGE: Duration = Duration::from_millis(250);

/// The frame format spoken on a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChannelFormat {
    /// Binary frames.
    Binary,
    /// Text lines of four fields.
    Text,
    /// Text lines of three fields, without a stream id.
    ThreeFieldText,
}

impl fmt::Display for ChannelFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Binary => "binary",
            Self::Text => "text",
            Self::ThreeFieldText => "text/3",
        })
    }
}

/// The counters and displayed values of one service.
#[derive(Debug)]
pub struct ServiceStats {
    /// The public port of the service and its group of proxies.
    pub key: ServiceKey,
    /// Bytes of all streams of the service.
    pub traffic: ByteCounters,
    /// The number of the service's streams, now and since the port was opened.
    pub streams: Gauge,
    /// The displayed rate limits that apply to all streams of the service together.
    pub limits: RateLimitGauges,
    /// Latency histograms of the service's streams.
    pub latencies: LatencyHistograms,
    /// What is counted of the service for a monitoring system.
    pub(in crate::telemetry) series: Series<ServiceCounters>,
    /// The displayed load-balancing policy, as [`Policy::from_number`] reads it.
    policy: AtomicU8,
}

impl ServiceStats {
    /// Creates the counters of a service, all 0, with the default policy displayed.
    pub(in crate::telemetry) fn new(key: ServiceKey, series: Series<ServiceCounters>) -> Self {
        Self {
            key,
            traffic: ByteCounters::default(),
            streams: Gauge::default(),
            limits: RateLimitGauges::default(),
            latencies: LatencyHistograms::default(),
            series,
            policy: AtomicU8::new(Policy::default() as u8),
        }
    }

    /// Returns the displayed load-balancing policy.
    pub(in crate::telemetry) fn policy(&self) -> Policy {
        Policy::from_number(self.policy.load(Relaxed)).unwrap_or_default()
    }

    /// Sets the displayed load-balancing policy.
    pub fn set_policy(&self, policy: Policy) {
        self.policy.store(policy as u8, Relaxed);
    }
}

/// The counters and displayed values of one user. Those that the sampler reads at each sample lie in the first cache
/// line.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct UserStats {
    /// Bytes of all streams of the user.
    pub traffic: ByteCounters,
    /// The number of the user's streams, now and since its first connection.
    pub streams: Gauge,
    /// The displayed rate limits that apply to all streams of the user together.
    pub limits: RateLimitGauges,
    /// Whether the user's guard was dropped: samplers then remove the user from their lists.
    pub(in crate::telemetry) left: AtomicBool,
    /// The user's short id, which stream keys begin with.
    pub id: UserChannelId,
    /// The user's address.
    pub addr: IpAddr,
    /// The service the user is connected to.
    pub service: Arc<ServiceStats>,
    /// When the user's first connection was accepted.
    pub since: Instant,
}

/// The counters and displayed values of one proxy.
#[derive(Debug)]
pub struct ProxyStats {
    /// The id that the server gave the proxy.
    pub id: ProxyId,
    /// The name that the proxy announced, without control characters.
    pub name: Arc<str>,
    /// The remote address of the proxy's first channel.
    pub addr: SocketAddr,
    /// When the proxy's first channel was authenticated.
    pub since: Instant,
    /// Bytes of all streams of the proxy.
    pub traffic: ByteCounters,
    /// The number of streams assigned to the proxy, now and ever.
    pub streams: Gauge,
    /// The displayed rate limits that apply to all streams of the proxy together.
    pub limits: RateLimitGauges,
    /// Latency histograms of the proxy's streams.
    pub latencies: LatencyHistograms,
    /// What is counted of all proxies with its name for a monitoring system.
    pub(in crate::telemetry) series: Series<ProxyCounters>,
    /// The displayed load-balancing weight.
    weight: AtomicU32,
    /// Whether the proxy is displayed as drained by the operator.
    draining: AtomicBool,
    /// Whether the proxy is displayed as closing, after its GOAWAY or EXIT.
    closing: AtomicBool,
    /// When the grace period of the proxy's streams ends; `None` while the proxy has a channel.
    grace_deadline: Mutex<Option<Instant>>,
    /// The services that the proxy is registered for.
    pub(in crate::telemetry) services: Mutex<Vec<ServiceKey>>,
}

impl ProxyStats {
    /// Creates the counters of a proxy whose first channel was authenticated now, from `addr`.
    pub(in crate::telemetry) fn new(
        id: ProxyId,
        name: String,
        addr: SocketAddr,
        series: Series<ProxyCounters>,
    ) -> Self {
        Self {
            id,
            name: name.into(),
            addr,
            since: Instant::now(),
            traffic: ByteCounters::default(),
            streams: Gauge::default(),
            limits: RateLimitGauges::default(),
            latencies: LatencyHistograms::default(),
            series,
            weight: AtomicU32::new(1),
            draining: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            grace_deadline: Mutex::default(),
            services: Mutex::default(),
        }
    }

    /// Returns the displayed load-balancing weight.
    pub(in crate::telemetry) fn weight(&self) -> u32 {
        self.weight.load(Relaxed)
    }

    /// Sets the displayed load-balancing weight.
    pub fn set_weight(&self, weight: u32) {
        self.weight.store(weight, Relaxed);
    }

    /// Returns whether the proxy is displayed as drained by the operator.
    pub(in crate::telemetry) fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    /// Sets whether the proxy is displayed as drained by the operator.
    pub fn set_draining(&self, draining: bool) {
        self.draining.store(draining, Relaxed);
    }

    /// Returns whether the proxy is displayed as closing, after its GOAWAY or EXIT.
    pub(in crate::telemetry) fn is_closing(&self) -> bool {
        self.closing.load(Relaxed)
    }

    /// Displays the proxy as closing: it sent GOAWAY or EXIT and gets no new streams. This cannot be reverted.
    pub fn mark_closing(&self) {
        self.closing.store(true, Relaxed);
    }

    /// Returns how long the proxy's streams will still be kept for a reconnect; `None` while it has a channel.
    pub(in crate::telemetry) fn grace_remaining(&self) -> Option<Duration> {
        self.grace_deadline.lock().map(|until| until.saturating_duration_since(Instant::now()))
    }

    /// Sets when the grace period of the proxy's streams ends; `None` while it has a channel.
    pub fn set_grace_deadline(&self, until: Option<Instant>) {
        *self.grace_deadline.lock() = until;
    }

    /// Replaces the services that are served over the link. For a proxy, which gets them all at once.
    pub fn set_services(&self, services: Vec<ServiceKey>) {
        *self.services.lock() = services;
    }

    /// Returns the services the proxy is registered for.
    pub(in crate::telemetry) fn services(&self) -> Vec<ServiceKey> {
        self.services.lock().clone()
    }
}

/// The counters and measurements of one channel.
#[derive(Debug)]
pub struct ChannelStats {
    /// The proxy's id and the number of the channel within the proxy.
    pub id: ChannelId,
    /// The remote address of the channel's TCP connection.
    pub addr: SocketAddr,
    /// The frame format spoken on the channel.
    pub format: ChannelFormat,
    /// When the channel was authenticated.
    pub since: Instant,
    /// The number of streams whose primary channel this is.
    pub streams: Gauge,
    /// What is counted for a monitoring system of all proxies with the name of its proxy; `None` without a proxy.
    pub(in crate::telemetry) series: Option<Series<ProxyCounters>>,
    /// The most retransmitted segments that the kernel has reported.
    retransmissions: AtomicU64,
    /// Bytes read from the channel's socket, framing included.
    received: AtomicU64,
    /// Bytes written to the channel's socket, framing included.
    sent: AtomicU64,
    /// The RTT that the last ping measured; unset before the first.
    last_rtt: OptionalMicros,
    /// The RTTs that pings measured, over the last 5 to 10 minutes.
    rtts: LatencyHistogram,
    /// The last computed percentiles of `rtts`, at most one second old when they are used.
    cached_rtts: CachedSummary<LatencySummary>,
    /// The name of the kernel's congestion control of the connection; unset where the kernel does not report it.
    congestion_control: OnceLock<Arc<str>>,
    /// Where the condition of the channel is read; `None` before and after the channel is driven.
    health_source: Mutex<Option<Arc<dyn ChannelHealthSource>>>,
    /// The condition of the channel as it was read last, and when; `None` before the first time.
    cached_health: Mutex<Option<(Instant, ChannelHealth)>>,
}

impl ChannelStats {
    /// Creates the counters of a channel that was authenticated now.
    pub(in crate::telemetry) fn new(
        id: ChannelId,
        addr: SocketAddr,
        format: ChannelFormat,
        series: Option<Series<ProxyCounters>>,
    ) -> Self {
        Self {
            id,
            addr,
            format,
            since: Instant::now(),
            streams: Gauge::default(),
            series,
            retransmissions: AtomicU64::new(0),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            last_rtt: OptionalMicros::default(),
            rtts: LatencyHistogram::default(),
            cached_rtts: CachedSummary::default(),
            congestion_control: OnceLock::new(),
            health_source: Mutex::default(),
            cached_health: Mutex::default(),
        }
    }

    /// Counts bytes read from the channel's socket, framing included.
    pub fn add_received(&self, bytes: u64) {
        self.received.fetch_add(bytes, Relaxed);
    }

    /// Counts bytes written to the channel's socket, framing included.
    pub fn add_sent(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Relaxed);
    }

    /// Records an RTT that a ping measured.
    pub fn record_rtt(&self, rtt: Duration) {
        self.last_rtt.set(rtt);
        self.rtts.record(rtt);
    }

    /// Sets the name of the kernel's congestion control of the connection, once.
    pub fn set_congestion_control(&self, name: &str) {
        _ = self.congestion_control.set(name.into());
    }

    /// Returns the name of the kernel's congestion control of the connection; `None` where it is not known.
    pub(in crate::telemetry) fn congestion_control(&self) -> Option<Arc<str>> {
        self.congestion_control.get().cloned()
    }

    /// Sets where the condition of the channel is read. `None` releases the channel's objects.
    pub fn set_health_source(&self, source: Option<Arc<dyn ChannelHealthSource>>) {
        // Dropped after the lock is released: it may own the last reference to a socket or a link.
        let _previous = std::mem::replace(&mut *self.health_source.lock(), source);
    }

    /// Returns the condition of the channel at `now`, up to `MAX_HEALTH_AGE` old. It is only read when it is asked for,
    /// because it costs a system call: without a cockpit that would be most of the cost of an idle channel. Acquires
    /// the lock of the channel's link.
    pub fn health(&self, now: Instant) -> ChannelHealth {
        let cached = *self.cached_health.lock();
        if let Some((at, health)) = cached
            && now.saturating_duration_since(at) < MAX_HEALTH_AGE
        {
            return health;
        }
        // Read while no lock of telemetry is held.
        let source = self.health_source.lock().clone();
        let health = source.map_or_else(ChannelHealth::default, |source| source.health());
        if let Some(tcp) = &health.tcp {
            self.retransmissions.fetch_max(tcp.retransmitted_segments, Relaxed);
        }
        *self.cached_health.lock() = Some((now, health));
        health
    }

    /// Returns the retransmitted segments that the kernel had reported when the condition was read last. It does not
    /// shrink when the channel ends.
    pub(in crate::telemetry) fn known_retransmissions(&self) -> u64 {
        self.retransmissions.load(Relaxed)
    }

    /// Returns the percentiles of the pings' RTTs over the last 5 to 10 minutes, at most one second old at `now`.
    pub(in crate::telemetry) fn rtt_summary(&self, now: Instant) -> Arc<LatencySummary> {
        self.cached_rtts.get(now, || self.rtts.summary(now))
    }

    /// Returns the RTT that the last ping measured; `None` before the first.
    pub fn last_rtt(&self) -> Option<Duration> {
        self.last_rtt.get()
    }

    /// Returns the bytes read from the channel's socket, framing included.
    pub fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }

    /// Returns the bytes written to the channel's socket, framing included.
    pub fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }
}
