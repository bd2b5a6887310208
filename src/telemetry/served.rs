//! What a proxy counts of itself: for its metrics, and of each stream and channel also for its operators.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{
    ChannelFormat, ChannelGuard, ChannelStats, CumulativeHistogram, DisconnectReason, HistogramCounts,
    StreamStats,
    series::{MAX_SERVICE_SERIES, Series, SeriesTable},
};
use crate::ids::{ChannelId, ProxyId, ServiceKey};

#[cfg(test)]
mod tests;

/// What a proxy counts of itself.
#[derive(Debug)]
pub struct ServedStats {
    /// The streams by service.
    services: SeriesTable<ServedCounters>,
    /// Links that a server has registered.
    links: AtomicU64,
    /// Streams that were refused because the maximum was open.
    streams_refused: AtomicU64,
    /// The channels, and what those carried that are closed.
    channels: Mutex<ServedChannels>,
}

/// What is counted of the streams of one service.
#[derive(Debug)]
struct ServedCounters {
    /// Streams that the server has opened.
    opened: AtomicU64,
    /// Streams whose target could not be connected to.
    connect_failures: AtomicU64,
    /// Bytes read from targets.
    down: AtomicU64,
    /// Bytes written to targets.
    up: AtomicU64,
    /// The time that connecting to the target took.
    connect: CumulativeHistogram,
    /// Duration of streams that have ended.
    duration: CumulativeHistogram,
    /// Bytes of each ended stream that were read from its target.
    stream_down: CumulativeHistogram,
    /// Bytes of each ended stream that were written to its target.
    stream_up: CumulativeHistogram,
}

impl Default for ServedCounters {
    fn default() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            opened: zero(),
            connect_failures: zero(),
            down: zero(),
            up: zero(),
            connect: CumulativeHistogram::of_latencies(),
            duration: CumulativeHistogram::of_durations(),
            stream_down: CumulativeHistogram::of_sizes(),
            stream_up: CumulativeHistogram::of_sizes(),
        }
    }
}

/// The channels of a proxy.
#[derive(Debug, Default)]
struct ServedChannels {
    /// The number that the next channel gets.
    next: u64,
    /// The counters of the open ones, by number.
    open: HashMap<u64, Arc<ChannelStats>>,
    /// What those that are closed have carried.
    closed: ChannelSums,
}

/// What several channels have carried together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChannelSums {
    /// Bytes read from them, framing included.
    pub received: u64,
    /// Bytes written to them, framing included.
    pub sent: u64,
    /// Segments that the kernel has retransmitted on them.
    pub retransmitted_segments: u64,
}

impl ChannelSums {
    /// Adds what a channel has carried.
    fn add(&mut self, channel: &ChannelStats) {
        self.received += channel.received();
        self.sent += channel.sent();
        self.retransmitted_segments += channel.known_retransmissions();
    }
}

/// The series of one service at a proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServedSeries {
    /// The public port and the group, `8080:default`, or `other`.
    pub label: Arc<str>,
    /// Streams that are open.
    pub streams_open: u64,
    /// Streams that the server has opened.
    pub streams_opened: u64,
    /// Streams whose target could not be connected to.
    pub connect_failures: u64,
    /// Bytes read from targets.
    pub down: u64,
    /// Bytes written to targets.
    pub up: u64,
    /// The time that connecting to the target took, in microseconds.
    pub connect: HistogramCounts,
    /// Duration of ended streams in microseconds.
    pub duration: HistogramCounts,
    /// Downloaded bytes of each ended stream.
    pub stream_down: HistogramCounts,
    /// Uploaded bytes of each ended stream.
    pub stream_up: HistogramCounts,
}

/// Everything that a proxy counts, as plain data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyFigures {
    /// The services, by label.
    pub services: Vec<ServedSeries>,
    /// Links that a server has registered.
    pub links: u64,
    /// Streams that were refused because the maximum was open.
    pub streams_refused: u64,
    /// Channels that are established.
    pub channels: usize,
    /// What all channels have carried.
    pub carried: ChannelSums,
    /// The RTT of the last ping on the channel where it is smallest; `None` without a measured channel.
    pub rtt: Option<Duration>,
}

impl Default for ServedStats {
    fn default() -> Self {
        Self {
            services: SeriesTable::new(MAX_SERVICE_SERIES),
            links: AtomicU64::new(0),
            streams_refused: AtomicU64::new(0),
            channels: Mutex::default(),
        }
    }
}

impl ServedStats {
    /// Counts a stream of `service` that the server has opened, until the returned object is dropped.
    fn stream_opened(self: &Arc<Self>, service: &ServiceKey) -> MeteredStream {
        let series = self.services.join(&service.to_string());
        series.counters.opened.fetch_add(1, Relaxed);
        let (down, up) = (AtomicU64::new(0), AtomicU64::new(0));
        MeteredStream { stats: self.clone(), series, since: Instant::now(), down, up }
    }

    /// Counts a stream that was refused because the maximum was open.
    pub fn stream_refused(&self) {
        self.streams_refused.fetch_add(1, Relaxed);
    }

    /// Counts a link that a server has registered.
    pub fn link_registered(&self) {
        self.links.fetch_add(1, Relaxed);
    }

    /// Counts a channel with these counters until the returned guard is dropped.
    fn channel_opened(self: &Arc<Self>, stats: Arc<ChannelStats>) -> MeteredChannel {
        let mut channels = self.channels.lock();
        let number = channels.next;
        channels.next += 1;
        channels.open.insert(number, stats.clone());
        MeteredChannel { all: self.clone(), stats, number }
    }

    /// Reads everything. It costs a system call and the lock of a link for each channel.
    pub fn figures(&self) -> ProxyFigures {
        let now = Instant::now();
        // Collected first: no lock of telemetry may be held while a channel's link is locked.
        let open: Vec<_> = self.channels.lock().open.values().cloned().collect();
        open.iter().for_each(|channel| _ = channel.health(now));
        drop(open);
        let (channels, carried, rtt) = {
            let channels = self.channels.lock();
            let mut carried = channels.closed;
            channels.open.values().for_each(|channel| carried.add(channel));
            let rtt = channels.open.values().filter_map(|channel| channel.last_rtt()).min();
            (channels.open.len(), carried, rtt)
        };
        ProxyFigures {
            services: self.services.read(|all| all.into_iter().map(|(one, open)| read(one, open)).collect()),
            links: self.links.load(Relaxed),
            streams_refused: self.streams_refused.load(Relaxed),
            channels,
            carried,
            rtt,
        }
    }
}

/// Reads the series of one service, which has so many open streams.
fn read(series: &Series<ServedCounters>, streams_open: usize) -> ServedSeries {
    let counters = &series.counters;
    ServedSeries {
        label: series.label.clone(),
        streams_open: streams_open as u64,
        streams_opened: counters.opened.load(Relaxed),
        connect_failures: counters.connect_failures.load(Relaxed),
        down: counters.down.load(Relaxed),
        up: counters.up.load(Relaxed),
        connect: counters.connect.counts(),
        duration: counters.duration.counts(),
        stream_down: counters.stream_down.counts(),
        stream_up: counters.stream_up.counts(),
    }
}

/// One stream of a proxy, which its bytes are counted in.
#[derive(Debug)]
pub struct ServedStream {
    /// For the metrics; `None` for a proxy without.
    metered: Option<MeteredStream>,
    /// For the operators; `None` for a proxy without a control socket.
    shown: Option<Arc<StreamStats>>,
}

/// One stream in the metrics of a proxy. Dropping it counts its end.
#[derive(Debug)]
struct MeteredStream {
    /// Where it is counted.
    stats: Arc<ServedStats>,
    /// The counters of its service.
    series: Series<ServedCounters>,
    /// When the server opened it.
    since: Instant,
    /// Bytes read from its target.
    down: AtomicU64,
    /// Bytes written to its target.
    up: AtomicU64,
}

impl ServedStream {
    /// Counts a stream of `service` that the server has opened, in the metrics and in the counters that operators see;
    /// `None` where it is counted in neither.
    pub fn open(
        metrics: Option<&Arc<ServedStats>>,
        shown: Option<&Arc<StreamStats>>,
        service: &ServiceKey,
    ) -> Option<Arc<Self>> {
        let metered = metrics.map(|metrics| metrics.stream_opened(service));
        let is_counted = metered.is_some() || shown.is_some();
        is_counted.then(|| Arc::new(Self { metered, shown: shown.cloned() }))
    }

    /// Returns the counters that operators see; `None` for a proxy without a control socket.
    pub fn shown(&self) -> Option<&Arc<StreamStats>> {
        self.shown.as_ref()
    }

    /// Counts bytes read from the target.
    pub fn add_down(&self, bytes: u64) {
        if let Some(shown) = &self.shown {
            shown.add_down(bytes);
        }
        if let Some(metered) = &self.metered {
            metered.down.fetch_add(bytes, Relaxed);
            metered.series.counters.down.fetch_add(bytes, Relaxed);
        }
    }

    /// Counts bytes written to the target.
    pub fn add_up(&self, bytes: u64) {
        if let Some(shown) = &self.shown {
            shown.add_up(bytes);
        }
        if let Some(metered) = &self.metered {
            metered.up.fetch_add(bytes, Relaxed);
            metered.series.counters.up.fetch_add(bytes, Relaxed);
        }
    }

    /// Records that the target is connected.
    pub fn connected(&self) {
        if let Some(metered) = &self.metered {
            metered.series.counters.connect.record_duration(metered.since.elapsed());
        }
    }

    /// Records that the target could not be connected to.
    pub fn connect_failed(&self) {
        if let Some(metered) = &self.metered {
            metered.series.counters.connect_failures.fetch_add(1, Relaxed);
        }
    }
}

impl Drop for MeteredStream {
    fn drop(&mut self) {
        let (down, up) = (self.down.load(Relaxed), self.up.load(Relaxed));
        self.stats.services.leave(&self.series, |counters| {
            counters.duration.record_duration(self.since.elapsed());
            counters.stream_down.record(down);
            counters.stream_up.record(up);
        });
    }
}

/// One channel of a proxy, which is counted until it is dropped.
#[derive(Debug)]
pub struct ServedChannel {
    /// Its counters.
    stats: Arc<ChannelStats>,
    /// For the metrics; `None` for a proxy without.
    _metered: Option<MeteredChannel>,
    /// For the operators; `None` for a proxy without a control socket.
    shown: Option<ChannelGuard>,
}

/// One channel in the metrics of a proxy. Dropping it adds what it has carried to that of the closed ones.
#[derive(Debug)]
struct MeteredChannel {
    /// Where it is counted.
    all: Arc<ServedStats>,
    /// Its counters.
    stats: Arc<ChannelStats>,
    /// Its number among all channels.
    number: u64,
}

impl ServedChannel {
    /// Counts the channel with this number in the link to `addr`, in the metrics and in the counters that operators
    /// see; `None` where it is counted in neither.
    pub fn open(
        metrics: Option<&Arc<ServedStats>>,
        shown: Option<ChannelGuard>,
        index: u16,
        addr: SocketAddr,
    ) -> Option<Self> {
        let stats = match (&shown, metrics) {
            (Some(shown), _) => shown.stats().clone(),
            (None, Some(_)) => {
                let id = ChannelId { proxy: ProxyId(0), index };
                Arc::new(ChannelStats::new(id, addr, ChannelFormat::Binary, None))
            }
            (None, None) => return None,
        };
        let metered = metrics.map(|metrics| metrics.channel_opened(stats.clone()));
        Some(Self { stats, _metered: metered, shown })
    }

    /// Returns the counters of the channel.
    pub fn stats(&self) -> &Arc<ChannelStats> {
        &self.stats
    }

    /// Sets why the channel has ended, for its event, if that is known.
    pub fn set_reason(&self, reason: Option<&DisconnectReason>) {
        if let (Some(shown), Some(reason)) = (&self.shown, reason) {
            shown.set_reason(reason.clone());
        }
    }
}

impl Drop for MeteredChannel {
    fn drop(&mut self) {
        let mut channels = self.all.channels.lock();
        channels.open.remove(&self.number);
        channels.closed.add(&self.stats);
    }
}
