//! The counters and displayed values of services, users, proxies, channels and streams.
//!
//! Telemetry only observes. Pause, priority, weight, draining, policy and rate limits belong to the objects that they
//! control (`server`, `link`, `mux`), which copy each change here for display. Outside this module those values can only
//! be set: their getters are visible in `telemetry` alone, so that no decision can read them back.

mod stream;

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use super::{ChannelHealth, LatencyHistogram, LatencyHistograms, LatencySummary, latency::Summary};
use crate::ids::{ChannelId, Direction, Policy, ProxyId, Rate, RateLimits, ServiceKey, UserChannelId};

pub use stream::{StreamPhase, StreamStats};

/// Bytes to the user (down) and from the user (up). They only rise.
#[derive(Debug, Default)]
pub struct ByteCounters {
    down: AtomicU64,
    up: AtomicU64,
}

impl ByteCounters {
    /// Bytes to the user.
    pub fn down(&self) -> u64 {
        self.down.load(Relaxed)
    }

    /// Bytes from the user.
    pub fn up(&self) -> u64 {
        self.up.load(Relaxed)
    }

    pub(in crate::telemetry) fn add_down(&self, bytes: u64) {
        self.down.fetch_add(bytes, Relaxed);
    }

    pub(in crate::telemetry) fn add_up(&self, bytes: u64) {
        self.up.fetch_add(bytes, Relaxed);
    }
}

/// The rate limits that hold now.
#[derive(Debug, Default)]
pub struct RateLimitGauges {
    /// Bytes a second; 0 for none.
    down: AtomicU64,
    up: AtomicU64,
}

impl RateLimitGauges {
    /// Both directions.
    pub(in crate::telemetry) fn get(&self) -> RateLimits {
        RateLimits { down: Rate::new(self.down.load(Relaxed)), up: Rate::new(self.up.load(Relaxed)) }
    }

    /// Notes that another one holds from now on.
    pub fn set(&self, direction: Direction, rate: Option<Rate>) {
        let place = match direction {
            Direction::Down => &self.down,
            Direction::Up => &self.up,
        };
        place.store(rate.map_or(0, Rate::bytes_per_second), Relaxed);
    }
}

/// How many there are now and how many there have been.
#[derive(Debug, Default)]
pub struct Gauge {
    now: AtomicU64,
    ever: AtomicU64,
}

impl Gauge {
    /// How many there are now.
    pub fn now(&self) -> u64 {
        self.now.load(Relaxed)
    }

    /// How many there have been since the start.
    pub fn ever(&self) -> u64 {
        self.ever.load(Relaxed)
    }

    pub(in crate::telemetry) fn enter(&self) {
        self.now.fetch_add(1, Relaxed);
        self.ever.fetch_add(1, Relaxed);
    }

    pub(in crate::telemetry) fn leave(&self) {
        self.now.fetch_sub(1, Relaxed);
    }

    /// It was never there: another has it.
    pub(in crate::telemetry) fn pass_on(&self) {
        self.leave();
        self.ever.fetch_sub(1, Relaxed);
    }
}

/// Which format a channel speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelFormat {
    /// The binary format.
    Binary,
    /// Lines of text.
    Text,
    /// Lines of text without a stream id.
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

/// The counters of one service.
#[derive(Debug)]
pub struct ServiceStats {
    /// Which.
    pub key: ServiceKey,
    /// Its bytes.
    pub traffic: ByteCounters,
    /// Its streams.
    pub streams: Gauge,
    /// Its rate limits.
    pub limits: RateLimitGauges,
    /// How long things take for its users.
    pub latencies: LatencyHistograms,
    policy: AtomicU8,
}

impl ServiceStats {
    pub(in crate::telemetry) fn new(key: ServiceKey) -> Self {
        Self {
            key,
            traffic: ByteCounters::default(),
            streams: Gauge::default(),
            limits: RateLimitGauges::default(),
            latencies: LatencyHistograms::default(),
            policy: AtomicU8::new(Policy::default() as u8),
        }
    }

    /// How its new streams are given to its proxies.
    pub(in crate::telemetry) fn policy(&self) -> Policy {
        Policy::from_number(self.policy.load(Relaxed)).unwrap_or_default()
    }

    /// Notes that they are given in another way.
    pub fn set_policy(&self, policy: Policy) {
        self.policy.store(policy as u8, Relaxed);
    }
}

/// The counters of one user. What is read at each sampling tick stands in the first cache line, as of a stream.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct UserStats {
    /// Its bytes.
    pub traffic: ByteCounters,
    /// Its streams.
    pub streams: Gauge,
    /// Its rate limits.
    pub limits: RateLimitGauges,
    /// Its last connection has ended: whoever keeps a list of users takes it off.
    pub(in crate::telemetry) left: AtomicBool,
    /// Which.
    pub id: UserChannelId,
    /// The user's address.
    pub addr: IpAddr,
    /// The service it uses.
    pub service: Arc<ServiceStats>,
    /// When its first connection came.
    pub since: Instant,
}

/// The counters of one proxy.
#[derive(Debug)]
pub struct ProxyStats {
    /// Which.
    pub id: ProxyId,
    /// What it calls itself, cleaned.
    pub name: Arc<str>,
    /// Where its first channel comes from.
    pub addr: SocketAddr,
    /// Since when it is up.
    pub since: Instant,
    /// Its bytes.
    pub traffic: ByteCounters,
    /// Its streams.
    pub streams: Gauge,
    /// Its rate limits.
    pub limits: RateLimitGauges,
    /// How long things take with it.
    pub latencies: LatencyHistograms,
    weight: AtomicU32,
    draining: AtomicBool,
    leaving: AtomicBool,
    /// Until when its streams wait for a channel; `None` while it has one.
    grace_remaining: parking_lot::Mutex<Option<Instant>>,
    /// The services it is registered for.
    pub(in crate::telemetry) services: parking_lot::Mutex<Vec<ServiceKey>>,
}

impl ProxyStats {
    pub(in crate::telemetry) fn new(id: ProxyId, name: String, addr: SocketAddr) -> Self {
        Self {
            id,
            name: name.into(),
            addr,
            since: Instant::now(),
            traffic: ByteCounters::default(),
            streams: Gauge::default(),
            limits: RateLimitGauges::default(),
            latencies: LatencyHistograms::default(),
            weight: AtomicU32::new(1),
            draining: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            grace_remaining: parking_lot::Mutex::default(),
            services: parking_lot::Mutex::default(),
        }
    }

    /// Its share of the new streams of its services, beside those of others.
    pub(in crate::telemetry) fn weight(&self) -> u32 {
        self.weight.load(Relaxed)
    }

    /// Notes that it has another share.
    pub fn set_weight(&self, weight: u32) {
        self.weight.store(weight, Relaxed);
    }

    /// Whether the operator gives it no new streams.
    pub(in crate::telemetry) fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    /// Notes that the operator gives it no new streams, or does again.
    pub fn set_draining(&self, draining: bool) {
        self.draining.store(draining, Relaxed);
    }

    /// Whether it gets no new streams because it is about to go.
    pub(in crate::telemetry) fn is_closing(&self) -> bool {
        self.leaving.load(Relaxed)
    }

    /// Notes that it is about to go.
    pub fn mark_closing(&self) {
        self.leaving.store(true, Relaxed);
    }

    /// How long its streams will still wait for it to come back; `None` while it has a channel.
    pub(in crate::telemetry) fn grace_remaining(&self) -> Option<Duration> {
        self.grace_remaining.lock().map(|until| until.saturating_duration_since(Instant::now()))
    }

    /// Notes that its streams wait until then, or go on.
    pub fn set_grace_deadline(&self, until: Option<Instant>) {
        *self.grace_remaining.lock() = until;
    }

    /// The services it is registered for.
    pub(in crate::telemetry) fn services(&self) -> Vec<ServiceKey> {
        self.services.lock().clone()
    }
}

/// The counters of one channel.
#[derive(Debug)]
pub struct ChannelStats {
    /// Which.
    pub id: ChannelId,
    /// Where it comes from.
    pub addr: SocketAddr,
    /// What it speaks.
    pub format: ChannelFormat,
    /// Since when it is up.
    pub since: Instant,
    /// Its streams.
    pub streams: Gauge,
    received: AtomicU64,
    sent: AtomicU64,
    rtt_us: AtomicU32,
    rtts: LatencyHistogram,
    known: Summary<LatencySummary>,
    health: parking_lot::Mutex<ChannelHealth>,
}

impl ChannelStats {
    pub(in crate::telemetry) fn new(id: ChannelId, addr: SocketAddr, format: ChannelFormat) -> Self {
        Self {
            id,
            addr,
            format,
            since: Instant::now(),
            streams: Gauge::default(),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            rtt_us: AtomicU32::new(0),
            rtts: LatencyHistogram::default(),
            known: Summary::default(),
            health: parking_lot::Mutex::default(),
        }
    }

    /// Notes bytes that came in on the socket, framing included.
    pub fn add_received(&self, bytes: u64) {
        self.received.fetch_add(bytes, Relaxed);
    }

    /// Notes bytes that went out on the socket, framing included.
    pub fn add_sent(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Relaxed);
    }

    /// Notes a measured round trip.
    pub fn record_rtt(&self, rtt: Duration) {
        self.rtt_us.store(micros(rtt), Relaxed);
        self.rtts.note(rtt);
    }

    /// Notes how it fares.
    pub fn set_health(&self, health: ChannelHealth) {
        *self.health.lock() = health;
    }

    /// How it fares, as of half a second ago.
    pub fn health(&self) -> ChannelHealth {
        *self.health.lock()
    }

    /// The round trips of late, as of a second before `now` at the latest.
    pub(in crate::telemetry) fn rtt_summary(&self, now: Instant) -> Arc<LatencySummary> {
        self.known.at(now, || self.rtts.summary(now))
    }

    /// The last round trip measured.
    pub fn last_rtt(&self) -> Option<Duration> {
        from_micros(&self.rtt_us)
    }

    /// Bytes that came in on the socket, framing included.
    pub fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }

    /// Bytes that went out on the socket, framing included.
    pub fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }
}

/// A time that was measured; 0 stands for «not measured yet».
fn micros(took: Duration) -> u32 {
    u32::try_from(took.as_micros()).unwrap_or(u32::MAX).max(1)
}

fn from_micros(place: &AtomicU32) -> Option<Duration> {
    Some(place.load(Relaxed)).filter(|&us| us > 0).map(|us| Duration::from_micros(us.into()))
}
