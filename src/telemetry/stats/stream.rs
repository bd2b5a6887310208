use std::{
    net::SocketAddr,
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

use super::{ByteCounters, ChannelStats, ProxyStats, RateLimitGauges, UserStats, from_micros, micros};
use crate::{
    ids::{ChannelId, Direction, Priority, Rate, RateLimits, StreamKey},
    telemetry::{Content, EndReason, LatencyHistograms, StreamDetails, StreamDetailsSource, StreamInfo},
};

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
    pub traffic: ByteCounters,
    /// How often anything but its bytes has changed.
    changes: AtomicU32,
    phase: AtomicU8,
    paused: AtomicBool,
    priority: AtomicU8,
    limits: RateLimitGauges,
    /// Which.
    pub key: StreamKey,
    /// The user's address.
    pub addr: SocketAddr,
    /// Its user, and through it its service.
    pub user: Arc<UserStats>,
    /// The same immutable attributes as snapshots share them.
    pub(in crate::telemetry) info: Arc<StreamInfo>,
    /// When the user connected.
    pub since: Instant,
    /// The size of the download, where it is known (`STREAM_START` tells it); 0 where not.
    pub(in crate::telemetry) total_size: AtomicU64,
    /// Written twice for each request and read a few times a second: a lock costs less than a pointer that readers must
    /// never find gone.
    content: parking_lot::Mutex<Option<Arc<Content>>>,
    pub(in crate::telemetry) proxy: ArcSwapOption<ProxyStats>,
    channel: ArcSwapOption<ChannelStats>,
    pub(in crate::telemetry) ended: OnceLock<EndReason>,
    pub(in crate::telemetry) totals: Arc<ByteCounters>,
    opened_us: AtomicU32,
    first_byte_us: AtomicU32,
    details_source: parking_lot::Mutex<Option<Arc<dyn StreamDetailsSource>>>,
}

impl StreamStats {
    pub(in crate::telemetry) fn new(
        info: StreamInfo,
        user: Arc<UserStats>,
        totals: Arc<ByteCounters>,
    ) -> Self {
        Self {
            traffic: ByteCounters::default(),
            limits: RateLimitGauges::default(),
            changes: AtomicU32::new(0),
            phase: AtomicU8::new(StreamPhase::Waiting as u8),
            paused: AtomicBool::new(false),
            priority: AtomicU8::new(Priority::default() as u8),
            key: info.key,
            addr: info.addr,
            info: Arc::new(info),
            user,
            since: Instant::now(),
            total_size: AtomicU64::new(0),
            content: parking_lot::Mutex::new(None),
            proxy: ArcSwapOption::empty(),
            channel: ArcSwapOption::empty(),
            ended: OnceLock::new(),
            totals,
            opened_us: AtomicU32::new(0),
            first_byte_us: AtomicU32::new(0),
            details_source: parking_lot::Mutex::new(None),
        }
    }

    /// The proxy says that the target is there, so long after the stream was given to it.
    pub fn record_connect_latency(&self, proxy: &ProxyStats, took: Duration) {
        self.opened_us.store(micros(took), Relaxed);
        self.each_timings(proxy, |latencies| latencies.connect.note(took));
    }

    /// The target's first byte went to the user, so long after it was asked.
    pub fn record_time_to_first_byte(&self, proxy: &ProxyStats, took: Duration) {
        self.first_byte_us.store(micros(took), Relaxed);
        self.each_timings(proxy, |latencies| latencies.time_to_first_byte.note(took));
    }

    /// Some of the user's bytes went out, and had waited so long for it.
    pub fn record_queue_wait(&self, proxy: &ProxyStats, waited: Duration) {
        self.each_timings(proxy, |latencies| latencies.queue_wait.note(waited));
    }

    /// The proxy is named: the first answer may be there before anybody has noted who gives it.
    fn each_timings(&self, proxy: &ProxyStats, note: impl Fn(&LatencyHistograms)) {
        note(&self.user.service.latencies);
        note(&proxy.latencies);
    }

    /// How long the proxy took to reach the target, once it has.
    pub fn connect_latency(&self) -> Option<Duration> {
        from_micros(&self.opened_us)
    }

    /// How long the user waited for the target's first byte, once it came.
    pub fn time_to_first_byte(&self) -> Option<Duration> {
        from_micros(&self.first_byte_us)
    }

    /// How often anything but its bytes has changed. Read it before what may have changed: who finds it as it
    /// was need not look at the rest.
    pub(in crate::telemetry) fn changes(&self) -> u32 {
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
    fn each_traffic(&self, add: impl Fn(&ByteCounters)) {
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
    pub fn set_content(&self, content: Arc<Content>) {
        let before = self.content.lock().replace(content);
        drop(before);
        self.changed();
    }

    /// What it carries, as far as that is known.
    pub fn content(&self) -> Option<Arc<Content>> {
        self.content.lock().clone()
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
    pub(in crate::telemetry) fn is_paused(&self) -> bool {
        self.paused.load(Relaxed)
    }

    /// Notes that the operator holds it, or does no more.
    pub fn set_paused(&self, paused: bool) {
        self.paused.store(paused, Relaxed);
        self.changed();
    }

    /// Its share of a crowded channel.
    pub(in crate::telemetry) fn priority(&self) -> Priority {
        Priority::from_wire(self.priority.load(Relaxed)).unwrap_or_default()
    }

    /// Notes that it has another share.
    pub fn set_priority(&self, priority: Priority) {
        self.priority.store(priority as u8, Relaxed);
        self.changed();
    }

    /// Its rate limits.
    pub(in crate::telemetry) fn limits(&self) -> RateLimits {
        self.limits.get()
    }

    /// Notes that another one holds from now on.
    pub fn set_limit(&self, direction: Direction, rate: Option<Rate>) {
        self.limits.set(direction, rate);
        self.changed();
    }

    /// How it flows now; nothing where no proxy has it yet, or it has ended.
    pub fn details(&self) -> Option<StreamDetails> {
        let source = self.details_source.lock().clone()?;
        let (connect_latency, time_to_first_byte) = (self.connect_latency(), self.time_to_first_byte());
        source.details().map(|flow| StreamDetails { connect_latency, time_to_first_byte, ..flow })
    }

    /// Who says from now on how it flows. The stream's end forgets it: it may hold these counters in its turn.
    pub fn set_details_source(&self, source: Option<Arc<dyn StreamDetailsSource>>) {
        *self.details_source.lock() = source;
    }

    /// Why it ended, once it has.
    pub fn ended(&self) -> Option<&EndReason> {
        self.ended.get()
    }
}
