use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, OnceLock,
        atomic::{
            AtomicBool, AtomicU8, AtomicU32, AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;

use super::{
    Carries, ChannelHealth, EndReason, Flow, FlowSource, Latency, Timing, Timings, latency::Summary,
};
use crate::ids::{
    ChannelId, Direction, Policy, Priority, ProxyId, Rate, RateLimits, ServiceKey, StreamKey, UserChannelId,
};

/// Bytes to the user (down) and from the user (up). They only rise.
#[derive(Debug, Default)]
pub struct Traffic {
    down: AtomicU64,
    up: AtomicU64,
}

impl Traffic {
    /// Bytes to the user.
    pub fn down(&self) -> u64 {
        self.down.load(Relaxed)
    }

    /// Bytes from the user.
    pub fn up(&self) -> u64 {
        self.up.load(Relaxed)
    }

    pub(super) fn add_down(&self, bytes: u64) {
        self.down.fetch_add(bytes, Relaxed);
    }

    pub(super) fn add_up(&self, bytes: u64) {
        self.up.fetch_add(bytes, Relaxed);
    }
}

/// The rate limits that hold now.
#[derive(Debug, Default)]
pub struct Limits {
    /// Bytes a second; 0 for none.
    down: AtomicU64,
    up: AtomicU64,
}

impl Limits {
    /// Both directions.
    pub fn get(&self) -> RateLimits {
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

    pub(super) fn enter(&self) {
        self.now.fetch_add(1, Relaxed);
        self.ever.fetch_add(1, Relaxed);
    }

    pub(super) fn leave(&self) {
        self.now.fetch_sub(1, Relaxed);
    }

    /// It was never there: another has it.
    pub(super) fn pass_on(&self) {
        self.leave();
        self.ever.fetch_sub(1, Relaxed);
    }
}

/// Which format a channel speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The binary format.
    Binary,
    /// Lines of text.
    Text,
    /// Lines of text without a stream id.
    OldText,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Binary => "binary",
            Self::Text => "text",
            Self::OldText => "text/3",
        })
    }
}

/// The counters of one service.
#[derive(Debug)]
pub struct ServiceStats {
    /// Which.
    pub key: ServiceKey,
    /// Its bytes.
    pub traffic: Traffic,
    /// Its streams.
    pub streams: Gauge,
    /// Its rate limits.
    pub limits: Limits,
    /// How long things take for its users.
    pub timings: Timings,
    policy: AtomicU8,
}

impl ServiceStats {
    pub(super) fn new(key: ServiceKey) -> Self {
        Self {
            key,
            traffic: Traffic::default(),
            streams: Gauge::default(),
            limits: Limits::default(),
            timings: Timings::default(),
            policy: AtomicU8::new(Policy::default() as u8),
        }
    }

    /// How its new streams are given to its proxies.
    pub fn policy(&self) -> Policy {
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
    pub traffic: Traffic,
    /// Its streams.
    pub streams: Gauge,
    /// Its rate limits.
    pub limits: Limits,
    /// Its last connection has ended: whoever keeps a list of users takes it off.
    pub(super) left: AtomicBool,
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
    pub name: String,
    /// Where its first channel comes from.
    pub addr: SocketAddr,
    /// Since when it is up.
    pub since: Instant,
    /// Its bytes.
    pub traffic: Traffic,
    /// Its streams.
    pub streams: Gauge,
    /// Its rate limits.
    pub limits: Limits,
    /// How long things take with it.
    pub timings: Timings,
    weight: AtomicU32,
    draining: AtomicBool,
    leaving: AtomicBool,
    /// Until when its streams wait for a channel; `None` while it has one.
    waits: parking_lot::Mutex<Option<Instant>>,
    /// The services it is registered for.
    pub(super) services: parking_lot::Mutex<Vec<ServiceKey>>,
}

impl ProxyStats {
    pub(super) fn new(id: ProxyId, name: String, addr: SocketAddr) -> Self {
        Self {
            id,
            name,
            addr,
            since: Instant::now(),
            traffic: Traffic::default(),
            streams: Gauge::default(),
            limits: Limits::default(),
            timings: Timings::default(),
            weight: AtomicU32::new(1),
            draining: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            waits: parking_lot::Mutex::default(),
            services: parking_lot::Mutex::default(),
        }
    }

    /// Its share of the new streams of its services, beside those of others.
    pub fn weight(&self) -> u32 {
        self.weight.load(Relaxed)
    }

    /// Notes that it has another share.
    pub fn set_weight(&self, weight: u32) {
        self.weight.store(weight, Relaxed);
    }

    /// Whether the operator gives it no new streams.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    /// Notes that the operator gives it no new streams, or does again.
    pub fn set_draining(&self, draining: bool) {
        self.draining.store(draining, Relaxed);
    }

    /// Whether it gets no new streams because it is about to go.
    pub fn is_leaving(&self) -> bool {
        self.leaving.load(Relaxed)
    }

    /// Notes that it is about to go.
    pub fn set_leaving(&self) {
        self.leaving.store(true, Relaxed);
    }

    /// How long its streams will still wait for it to come back; `None` while it has a channel.
    pub fn waits(&self) -> Option<Duration> {
        self.waits.lock().map(|until| until.saturating_duration_since(Instant::now()))
    }

    /// Notes that its streams wait until then, or go on.
    pub fn set_waits(&self, until: Option<Instant>) {
        *self.waits.lock() = until;
    }

    /// The services it is registered for.
    pub fn services(&self) -> Vec<ServiceKey> {
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
    pub format: Format,
    /// Since when it is up.
    pub since: Instant,
    /// Its streams.
    pub streams: Gauge,
    received: AtomicU64,
    sent: AtomicU64,
    rtt_us: AtomicU32,
    round_trips: Timing,
    known: Summary<Latency>,
    health: parking_lot::Mutex<ChannelHealth>,
}

impl ChannelStats {
    pub(super) fn new(id: ChannelId, addr: SocketAddr, format: Format) -> Self {
        Self {
            id,
            addr,
            format,
            since: Instant::now(),
            streams: Gauge::default(),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            rtt_us: AtomicU32::new(0),
            round_trips: Timing::default(),
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
    pub fn set_rtt(&self, rtt: Duration) {
        self.rtt_us.store(micros(rtt), Relaxed);
        self.round_trips.note(rtt);
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
    pub(super) fn round_trips(&self, now: Instant) -> Arc<Latency> {
        self.known.at(now, || self.round_trips.summary(now))
    }

    /// The last round trip measured.
    pub fn rtt(&self) -> Option<Duration> {
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

/// Where a stream stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum StreamPhase {
    /// No proxy is there for it yet.
    Waiting,
    /// A proxy was chosen and connects to the target.
    Opening,
    /// Both directions are open.
    Open,
    /// The user has sent its last byte.
    UserDone,
    /// The target has sent its last byte.
    TargetDone,
    /// It is over.
    Ended,
}

impl StreamPhase {
    const ALL: [Self; 6] =
        [Self::Waiting, Self::Opening, Self::Open, Self::UserDone, Self::TargetDone, Self::Ended];
}

/// The counters of one stream.
///
/// What is read at each sampling tick stands in the first cache line: with ten thousand streams that carry, most of what
/// a sample costs is waiting for lines that other cores have written to.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct StreamStats {
    /// Its bytes.
    pub traffic: Traffic,
    /// How often anything but its bytes has changed.
    changes: AtomicU32,
    phase: AtomicU8,
    paused: AtomicBool,
    priority: AtomicU8,
    limits: Limits,
    /// Which.
    pub key: StreamKey,
    /// The user's address.
    pub addr: SocketAddr,
    /// Its user, and through it its service.
    pub user: Arc<UserStats>,
    /// When the user connected.
    pub since: Instant,
    /// The size of the download, where it is known (`STREAM_START` tells it); 0 where not.
    pub(super) total_size: AtomicU64,
    /// Written twice for each request and read a few times a second: a lock costs less than a pointer that readers must
    /// never find gone.
    carries: parking_lot::Mutex<Option<Arc<Carries>>>,
    pub(super) proxy: ArcSwapOption<ProxyStats>,
    channel: ArcSwapOption<ChannelStats>,
    pub(super) ended: OnceLock<EndReason>,
    pub(super) totals: Arc<Traffic>,
    opened_us: AtomicU32,
    first_byte_us: AtomicU32,
    flow: parking_lot::Mutex<Option<Arc<dyn FlowSource>>>,
}

impl StreamStats {
    pub(super) fn new(key: StreamKey, addr: SocketAddr, user: Arc<UserStats>, totals: Arc<Traffic>) -> Self {
        Self {
            traffic: Traffic::default(),
            limits: Limits::default(),
            changes: AtomicU32::new(0),
            phase: AtomicU8::new(StreamPhase::Waiting as u8),
            paused: AtomicBool::new(false),
            priority: AtomicU8::new(Priority::default() as u8),
            key,
            addr,
            user,
            since: Instant::now(),
            total_size: AtomicU64::new(0),
            carries: parking_lot::Mutex::new(None),
            proxy: ArcSwapOption::empty(),
            channel: ArcSwapOption::empty(),
            ended: OnceLock::new(),
            totals,
            opened_us: AtomicU32::new(0),
            first_byte_us: AtomicU32::new(0),
            flow: parking_lot::Mutex::new(None),
        }
    }

    /// The proxy says that the target is there, so long after the stream was given to it.
    pub fn note_opened(&self, proxy: &ProxyStats, took: Duration) {
        self.opened_us.store(micros(took), Relaxed);
        self.each_timings(proxy, |timings| timings.open.note(took));
    }

    /// The target's first byte went to the user, so long after it was asked.
    pub fn note_first_byte(&self, proxy: &ProxyStats, took: Duration) {
        self.first_byte_us.store(micros(took), Relaxed);
        self.each_timings(proxy, |timings| timings.first_byte.note(took));
    }

    /// Some of the user's bytes went out, and had waited so long for it.
    pub fn note_queued(&self, proxy: &ProxyStats, waited: Duration) {
        self.each_timings(proxy, |timings| timings.queue.note(waited));
    }

    /// The proxy is named: the first answer may be there before anybody has noted who gives it.
    fn each_timings(&self, proxy: &ProxyStats, note: impl Fn(&Timings)) {
        note(&self.user.service.timings);
        note(&proxy.timings);
    }

    /// How long the proxy took to reach the target, once it has.
    pub fn opened_after(&self) -> Option<Duration> {
        from_micros(&self.opened_us)
    }

    /// How long the user waited for the target's first byte, once it came.
    pub fn first_byte_after(&self) -> Option<Duration> {
        from_micros(&self.first_byte_us)
    }

    /// How often anything but its bytes has changed. Read it before what may have changed: who finds it as it
    /// was need not look at the rest.
    pub(super) fn changes(&self) -> u32 {
        self.changes.load(Acquire)
    }

    /// To be called after each change of what a snapshot shows, but for bytes.
    fn changed(&self) {
        self.changes.fetch_add(1, Release);
    }

    /// Notes bytes that the user's socket took.
    pub fn add_down(&self, bytes: u64) {
        self.each_traffic(|traffic| traffic.add_down(bytes));
    }

    /// Notes bytes that the user's socket gave.
    pub fn add_up(&self, bytes: u64) {
        self.each_traffic(|traffic| traffic.add_up(bytes));
    }

    /// Every sum is bumped here rather than added up from the streams at each tick: a sum over a hundred thousand
    /// streams costs milliseconds, five relaxed additions for each chunk cost nothing beside its system calls.
    fn each_traffic(&self, add: impl Fn(&Traffic)) {
        add(&self.traffic);
        add(&self.user.traffic);
        add(&self.user.service.traffic);
        add(&self.totals);
        if let Some(proxy) = &*self.proxy.load() {
            add(&proxy.traffic);
        }
    }

    /// The proxy that serves it, once chosen.
    pub fn proxy(&self) -> Option<Arc<ProxyStats>> {
        self.proxy.load_full()
    }

    /// Notes the size of the download.
    pub fn set_total_size(&self, bytes: u64) {
        self.total_size.store(bytes, Relaxed);
        self.changed();
    }

    /// Notes what it carries, or carries now.
    pub fn set_carries(&self, carries: Arc<Carries>) {
        let before = self.carries.lock().replace(carries);
        drop(before);
        self.changed();
    }

    /// What it carries, as far as that is known.
    pub fn carries(&self) -> Option<Arc<Carries>> {
        self.carries.lock().clone()
    }

    /// Where it stands.
    pub fn phase(&self) -> StreamPhase {
        StreamPhase::ALL[usize::from(self.phase.load(Relaxed))]
    }

    /// Moves it on. It never goes back: who says so late, because the peer was faster, says nothing new.
    pub fn set_phase(&self, phase: StreamPhase) {
        self.phase.fetch_max(phase as u8, Relaxed);
        self.changed();
    }

    /// The channel that its frames go out on.
    pub fn channel(&self) -> Option<ChannelId> {
        self.channel.load().as_ref().map(|channel| channel.id)
    }

    /// Notes that another channel carries it, or none any more.
    pub fn set_channel(&self, channel: Option<Arc<ChannelStats>>) {
        if let Some(channel) = &channel {
            channel.streams.enter();
        }
        if let Some(before) = self.channel.swap(channel) {
            before.streams.leave();
        }
        self.changed();
    }

    /// Whether the operator holds it.
    pub fn is_paused(&self) -> bool {
        self.paused.load(Relaxed)
    }

    /// Notes that the operator holds it, or does no more.
    pub fn set_paused(&self, paused: bool) {
        self.paused.store(paused, Relaxed);
        self.changed();
    }

    /// Its share of a crowded channel.
    pub fn priority(&self) -> Priority {
        Priority::from_wire(self.priority.load(Relaxed)).unwrap_or_default()
    }

    /// Notes that it has another share.
    pub fn set_priority(&self, priority: Priority) {
        self.priority.store(priority as u8, Relaxed);
        self.changed();
    }

    /// Its rate limits.
    pub fn limits(&self) -> RateLimits {
        self.limits.get()
    }

    /// Notes that another one holds from now on.
    pub fn set_limit(&self, direction: Direction, rate: Option<Rate>) {
        self.limits.set(direction, rate);
        self.changed();
    }

    /// How it flows now; nothing where no proxy has it yet, or it has ended.
    pub fn flow(&self) -> Option<Flow> {
        let source = self.flow.lock().clone()?;
        let (opened_after, first_byte_after) = (self.opened_after(), self.first_byte_after());
        source.flow().map(|flow| Flow { opened_after, first_byte_after, ..flow })
    }

    /// Who says from now on how it flows. The stream's end forgets it: it may hold these counters in its turn.
    pub fn set_flow_source(&self, source: Option<Arc<dyn FlowSource>>) {
        *self.flow.lock() = source;
    }

    /// Why it ended, once it has.
    pub fn ended(&self) -> Option<&EndReason> {
        self.ended.get()
    }
}
