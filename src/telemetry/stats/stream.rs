//! The counters and displayed values of one stream.

use std::{
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{
            AtomicBool, AtomicU8, AtomicU32, AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::{ByteCounters, ChannelStats, OptionalMicros, ProxyStats, RateLimitGauges, UserStats};
use crate::{
    ids::{ChannelId, Direction, Priority, Rate, RateLimits, ServiceKey, StreamKey},
    telemetry::{
        Content, EndReason, LatencyHistograms, Shortfall, StreamDetails, StreamDetailsSource, TransferEnd,
    },
};

/// The phase of a stream's life. Phases only advance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum StreamPhase {
    /// The stream waits for a proxy.
    Waiting,
    /// The stream is assigned to a proxy, which connects to the target.
    Opening,
    /// The proxy reported the connection to the target; both directions are open.
    Open,
    /// Half-closed: the user closed the upload with FIN.
    UserDone,
    /// Half-closed: the target closed the download with FIN.
    TargetDone,
    /// The stream has ended.
    Ended,
}

impl StreamPhase {
    /// All phases, in the order of declaration.
    const ALL: [Self; 6] =
        [Self::Waiting, Self::Opening, Self::Open, Self::UserDone, Self::TargetDone, Self::Ended];

    /// Returns the state of a stream as one lower-case word, for filters, lists and exports.
    pub fn state_name(self, is_paused: bool, is_in_grace_period: bool) -> &'static str {
        match self {
            _ if is_paused => "paused",
            _ if is_in_grace_period => "wait",
            Self::Waiting => "wait",
            Self::Opening => "dial",
            Self::Open => "open",
            Self::UserDone | Self::TargetDone => "half",
            Self::Ended => "ended",
        }
    }
}

/// The immutable attributes of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamInfo {
    /// The stream key: the user's id and the number of the stream.
    pub key: StreamKey,
    /// The user's address and port.
    pub addr: SocketAddr,
    /// The service that the user connected to.
    pub service: ServiceKey,
    /// When the user's connection was accepted, as the time since the server started.
    pub opened_at: Duration,
}

/// The counters and displayed values of one stream.
///
/// Those that the sampler reads at each sample lie in the first cache line: with ten thousand active streams, most of
/// the cost of a sample is waiting for cache lines that other cores have written.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct StreamStats {
    /// Bytes of the stream in both directions.
    pub traffic: ByteCounters,
    /// The version of everything in here but the byte counters: incremented after each change.
    changes: AtomicU32,
    /// The displayed [`StreamPhase`], as its number.
    phase: AtomicU8,
    /// Whether the stream is displayed as paused by the operator.
    paused: AtomicBool,
    /// The displayed scheduling [`Priority`], as its number in frames.
    priority: AtomicU8,
    /// The displayed rate limits of this stream alone.
    limits: RateLimitGauges,
    /// The stream key: the user's id and the number of the stream.
    pub key: StreamKey,
    /// The user's address and port.
    pub addr: SocketAddr,
    /// The counters of its user, which refer to those of its service.
    pub user: Arc<UserStats>,
    /// The immutable attributes of the stream, shared with snapshots.
    pub(in crate::telemetry) info: Arc<StreamInfo>,
    /// The size of the download that the proxy announced in `STREAM_START`, in bytes; 0 if it announced none.
    pub(in crate::telemetry) total_size: AtomicU64,
    /// The detected protocol and request. A lock, because it is written twice for each request and read a few times a
    /// second: that costs less than an atomic pointer that readers must never find freed.
    content: Mutex<Option<Arc<Content>>>,
    /// The proxy that the stream is assigned to; `None` before the first assignment.
    pub(in crate::telemetry) proxy: ArcSwapOption<ProxyStats>,
    /// The primary channel of the stream; `None` while it has none.
    channel: ArcSwapOption<ChannelStats>,
    /// Whether the transfer within which the stream ended is complete; unset where inspection does not know.
    transfer_end: OnceLock<TransferEnd>,
    /// The bytes that the user had received when it closed its connection (FIN) before the target had; unset if it has
    /// not.
    down_at_user_end: OnceLock<u64>,
    /// Why the stream ended; unset while it is open.
    pub(in crate::telemetry) ended: OnceLock<EndReason>,
    /// The byte counters of the whole server.
    pub(in crate::telemetry) server_traffic: Arc<ByteCounters>,
    /// The time from the assignment to a proxy until the target was connected; unset before.
    connect_latency: OptionalMicros,
    /// The time until the target's first byte was written to the user; unset before.
    time_to_first_byte: OptionalMicros,
    /// The link's handle of the stream, which reports its flow control; `None` before a proxy serves it and after its
    /// end.
    details_source: Mutex<Option<Arc<dyn StreamDetailsSource>>>,
}

impl StreamStats {
    /// Creates the counters of a stream that waits for a proxy.
    pub(in crate::telemetry) fn new(
        info: StreamInfo,
        user: Arc<UserStats>,
        server_traffic: Arc<ByteCounters>,
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
            total_size: AtomicU64::new(0),
            content: Mutex::new(None),
            proxy: ArcSwapOption::empty(),
            channel: ArcSwapOption::empty(),
            transfer_end: OnceLock::new(),
            down_at_user_end: OnceLock::new(),
            ended: OnceLock::new(),
            server_traffic,
            connect_latency: OptionalMicros::default(),
            time_to_first_byte: OptionalMicros::default(),
            details_source: Mutex::new(None),
        }
    }

    /// Records the connect latency: the time from the assignment to `proxy` until it reported the connection to the
    /// target.
    pub fn record_connect_latency(&self, proxy: &ProxyStats, latency: Duration) {
        self.connect_latency.set(latency);
        self.user.service.series.counters.connect.record_duration(latency);
        self.record(proxy, |latencies| latencies.connect.record(latency));
    }

    /// Records the time to first byte: until the target's first byte was written to the user.
    pub fn record_time_to_first_byte(&self, proxy: &ProxyStats, latency: Duration) {
        self.time_to_first_byte.set(latency);
        self.user.service.series.counters.time_to_first_byte.record_duration(latency);
        self.record(proxy, |latencies| latencies.time_to_first_byte.record(latency));
    }

    /// Records how long a sampled chunk of upload data waited before it was handed to the writer of its channel.
    pub fn record_queue_wait(&self, proxy: &ProxyStats, wait: Duration) {
        self.user.service.series.counters.queue_wait.record_duration(wait);
        self.record(proxy, |latencies| latencies.queue_wait.record(wait));
    }

    /// Records a value in the histograms of the service and of the proxy. The caller names the proxy, because its first
    /// answer may arrive before [`StreamGuard::assigned`](crate::telemetry::StreamGuard::assigned) has stored it here.
    fn record(&self, proxy: &ProxyStats, record: impl Fn(&LatencyHistograms)) {
        record(&self.user.service.latencies);
        record(&proxy.latencies);
    }

    /// Returns the recorded connect latency; `None` before the proxy reported the connection to the target.
    pub fn connect_latency(&self) -> Option<Duration> {
        self.connect_latency.get()
    }

    /// Returns the recorded time to first byte; `None` before the target's first byte was written to the user.
    pub fn time_to_first_byte(&self) -> Option<Duration> {
        self.time_to_first_byte.get()
    }

    /// Returns the version of everything but the byte counters. Load it before the values: if it equals that of the
    /// last sample, they need not be read.
    pub(in crate::telemetry) fn changes(&self) -> u32 {
        self.changes.load(Acquire)
    }

    /// Increments the version. To be called after each change that a snapshot shows, except of byte counters.
    fn increment_changes(&self) {
        self.changes.fetch_add(1, Release);
    }

    /// Counts bytes written to the user's socket: for the stream, its user, service and proxy, and the server.
    pub fn add_down(&self, bytes: u64) {
        self.each_traffic(|traffic| traffic.add_down(bytes));
    }

    /// Counts bytes read from the user's socket: for the stream, its user, service and proxy, and the server.
    pub fn add_up(&self, bytes: u64) {
        self.each_traffic(|traffic| traffic.add_up(bytes));
    }

    /// Applies `add` to all five counters that contain the stream's bytes. Sums are kept here instead of being computed
    /// at each sample: adding up a hundred thousand streams takes milliseconds, while five relaxed additions for each
    /// chunk are negligible beside its system calls.
    fn each_traffic(&self, add: impl Fn(&ByteCounters)) {
        add(&self.traffic);
        add(&self.user.traffic);
        add(&self.user.service.traffic);
        add(&self.server_traffic);
        if let Some(proxy) = &*self.proxy.load() {
            add(&proxy.traffic);
        }
    }

    /// Returns the proxy that the stream is assigned to; `None` before the first assignment.
    pub fn proxy(&self) -> Option<Arc<ProxyStats>> {
        self.proxy.load_full()
    }

    /// Sets the size of the download that the proxy announced, in bytes.
    pub fn set_total_size(&self, bytes: u64) {
        self.total_size.store(bytes, Relaxed);
        self.increment_changes();
    }

    /// Sets the detected protocol and request; called again for each request of a kept-alive connection.
    pub fn set_content(&self, content: Arc<Content>) {
        let previous = self.content.lock().replace(content);
        drop(previous);
        self.increment_changes();
    }

    /// Returns the detected protocol and request; `None` while undetected.
    pub fn content(&self) -> Option<Arc<Content>> {
        self.content.lock().clone()
    }

    /// Returns the phase of the stream's life.
    pub fn phase(&self) -> StreamPhase {
        StreamPhase::ALL[usize::from(self.phase.load(Relaxed))]
    }

    /// Advances to `phase`. Does nothing if the stream is in a later phase already: two tasks may report in either
    /// order.
    pub fn set_phase(&self, phase: StreamPhase) {
        self.phase.fetch_max(phase as u8, Relaxed);
        self.increment_changes();
    }

    /// Returns the id of the primary channel; `None` while the stream has none.
    pub fn channel(&self) -> Option<ChannelId> {
        self.channel.load().as_ref().map(|channel| channel.id)
    }

    /// Sets the primary channel, and counts the stream there instead of on the previous one; `None` if it has none.
    pub fn set_channel(&self, channel: Option<Arc<ChannelStats>>) {
        if let Some(channel) = &channel {
            channel.streams.enter();
        }
        if let Some(previous) = self.channel.swap(channel) {
            previous.streams.leave();
        }
        self.increment_changes();
    }

    /// Returns whether the stream is displayed as paused by the operator.
    pub(in crate::telemetry) fn is_paused(&self) -> bool {
        self.paused.load(Relaxed)
    }

    /// Sets whether the stream is displayed as paused by the operator.
    pub fn set_paused(&self, paused: bool) {
        self.paused.store(paused, Relaxed);
        self.increment_changes();
    }

    /// Returns the displayed scheduling priority.
    pub(in crate::telemetry) fn priority(&self) -> Priority {
        Priority::from_wire(self.priority.load(Relaxed)).unwrap_or_default()
    }

    /// Sets the displayed scheduling priority.
    pub fn set_priority(&self, priority: Priority) {
        self.priority.store(priority as u8, Relaxed);
        self.increment_changes();
    }

    /// Returns the displayed rate limits of this stream alone.
    pub(in crate::telemetry) fn limits(&self) -> RateLimits {
        self.limits.get()
    }

    /// Sets the displayed rate limit of this stream alone in one direction; `None` for no limit.
    pub fn set_limit(&self, direction: Direction, rate: Option<Rate>) {
        self.limits.set(direction, rate);
        self.increment_changes();
    }

    /// Returns the stream's flow-control state, bottlenecks and latencies; `None` before a proxy serves it and after
    /// its end. Locks the stream's link.
    pub fn details(&self) -> Option<StreamDetails> {
        let source = self.details_source.lock().clone()?;
        let (connect_latency, time_to_first_byte) = (self.connect_latency(), self.time_to_first_byte());
        source.details().map(|details| StreamDetails { connect_latency, time_to_first_byte, ..details })
    }

    /// Sets the object that [`details`](Self::details) asks. The end of the stream removes it, because that object
    /// may own these counters itself.
    pub fn set_details_source(&self, source: Option<Arc<dyn StreamDetailsSource>>) {
        // Dropped after the lock is released: it may own the last reference to a link.
        let _previous = std::mem::replace(&mut *self.details_source.lock(), source);
    }

    /// Records that the user closed its connection (FIN), before its phase shows it. Returns whether it was the first
    /// to close: most users close once the target has.
    pub fn record_user_end(&self) -> bool {
        let is_first = self.phase() < StreamPhase::TargetDone;
        if is_first {
            _ = self.down_at_user_end.set(self.traffic.down());
        }
        is_first
    }

    /// Records whether the transfer within which the stream ends, or its user has closed the connection, is complete.
    /// The first call counts.
    pub fn record_transfer_end(&self, end: TransferEnd) {
        _ = self.transfer_end.set(end);
    }

    /// Returns how far the transfer had come that the stream cuts short if it ends now, as far as inspection or the
    /// announced size tell.
    pub fn shortfall(&self) -> Option<Shortfall> {
        let down = self.traffic.down();
        let announced = self.total_size.load(Relaxed);
        let mut shortfall = match self.transfer_end.get() {
            Some(TransferEnd::Complete) => return None,
            Some(TransferEnd::Short(shortfall)) => *shortfall,
            None if down < announced => Shortfall {
                direction: Direction::Down,
                transferred: down,
                size: Some(announced),
                is_user_closed: false,
            },
            None => return None,
        };
        if shortfall.direction == Direction::Down {
            let begun = down.saturating_sub(shortfall.transferred);
            // A user may send its request, close that direction at once, and wait for the response.
            let is_within = |at: &u64| *at > 0 && *at >= begun;
            shortfall.is_user_closed = self.down_at_user_end.get().is_some_and(is_within);
        }
        Some(shortfall)
    }

    /// Returns why the stream ended; `None` while it is open.
    pub fn ended(&self) -> Option<&EndReason> {
        self.ended.get()
    }
}
