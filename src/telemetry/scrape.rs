//! What a scrape reads: all series at one moment, as plain data.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use super::{
    ChannelHealth, ChannelStats, HistogramCounts, Telemetry, Totals,
    series::{MemorySource, MemoryUse, ProxyCounters, Series, ServiceCounters, StreamEnds},
};

#[cfg(test)]
mod tests;

/// The series of one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceSeries {
    /// The public port and the group, `8080:default`, or `other`.
    pub label: Arc<str>,
    /// How many services it counts for are open now.
    pub open: usize,
    /// Streams that are open now.
    pub streams_open: u64,
    /// Streams that were opened.
    pub streams_opened: u64,
    /// Streams that [failed](super::EndReason::is_failure).
    pub streams_failed: u64,
    /// Bytes written to users' sockets, those of open streams included.
    pub down: u64,
    /// Bytes read from users' sockets, those of open streams included.
    pub up: u64,
    /// Connect latency in microseconds.
    pub connect: HistogramCounts,
    /// Time to first byte in microseconds.
    pub time_to_first_byte: HistogramCounts,
    /// Queue wait of upload data in microseconds.
    pub queue_wait: HistogramCounts,
    /// Duration of ended streams in microseconds.
    pub duration: HistogramCounts,
    /// Downloaded bytes of each ended stream.
    pub stream_down: HistogramCounts,
    /// Uploaded bytes of each ended stream.
    pub stream_up: HistogramCounts,
}

/// The series of all proxies with one name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProxySeries {
    /// The name, or `other`.
    pub label: Arc<str>,
    /// How many proxies with this name are connected now, or within their grace period.
    pub connected: usize,
    /// How many of them the operator drains.
    pub draining: usize,
    /// Links that were authenticated.
    pub links: u64,
    /// Streams that are assigned to them now.
    pub streams_open: u64,
    /// Streams that were assigned to them, those that were assigned to another one after that included.
    pub streams_assigned: u64,
    /// Bytes of their streams written to users' sockets, those of open streams included.
    pub down: u64,
    /// Bytes of their streams read from users' sockets, those of open streams included.
    pub up: u64,
    /// Channels that are established now.
    pub channels: usize,
    /// Channels that are stalled now.
    pub stalled_channels: usize,
    /// Bytes read from their channels, framing included.
    pub received: u64,
    /// Bytes written to their channels, framing included.
    pub sent: u64,
    /// Segments that the kernel has retransmitted to them.
    pub retransmitted_segments: u64,
    /// Bytes queued for their channels in this process.
    pub send_queue_bytes: u64,
    /// The RTT of the last ping on the channel where it is smallest; `None` without a measured channel. The smallest,
    /// because a queue of one channel says little about the path.
    pub rtt: Option<Duration>,
}

/// Everything that a server counts for a monitoring system, as plain data.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerSeries {
    /// Server-wide sums and counts.
    pub totals: Totals,
    /// How many streams have ended, by reason.
    pub ends: Vec<StreamEnds>,
    /// How often accept(2) has failed.
    pub accept_failures: u64,
    /// How many tasks have panicked.
    pub task_panics: u64,
    /// The memory budget; `None` before a server uses this hub.
    pub memory: Option<MemoryUse>,
    /// The services, by label.
    pub services: Vec<ServiceSeries>,
    /// The proxies, by name.
    pub proxies: Vec<ProxySeries>,
}

/// What the open services with one label count.
#[derive(Debug, Clone, Copy, Default)]
struct LiveCounts {
    /// Streams that are open.
    streams_open: u64,
    /// Bytes written to users' sockets.
    down: u64,
    /// Bytes read from users' sockets.
    up: u64,
}

impl Telemetry {
    /// Reads all series. It costs a system call and the lock of a link for each channel, once in a scrape.
    pub fn series(&self) -> ServerSeries {
        ServerSeries {
            totals: self.totals(),
            ends: self.stream_ends.read(),
            accept_failures: self.accept_failures.load(Relaxed),
            task_panics: self.task_panics.load(Relaxed),
            memory: self.memory(),
            services: self.service_series(),
            proxies: self.proxy_series(),
        }
    }

    /// Sets where the use of the memory budget is read. The first call counts.
    pub fn set_memory_source(&self, source: Arc<dyn MemorySource>) {
        _ = self.memory.set(source);
    }

    /// Returns the use of the memory budget; `None` before a server or a proxy has set it.
    pub fn memory(&self) -> Option<MemoryUse> {
        self.memory.get().map(|source| source.memory())
    }

    /// Reads the series of all services.
    fn service_series(&self) -> Vec<ServiceSeries> {
        self.service_series.read(|all| {
            let mut live: HashMap<Arc<str>, LiveCounts> = HashMap::new();
            self.live_services.visit_since(&mut 0, |_, service| {
                let counts = live.entry(service.series.label.clone()).or_default();
                counts.streams_open += service.streams.now();
                counts.down += service.traffic.down();
                counts.up += service.traffic.up();
            });
            let of = |series: &Series<ServiceCounters>, open| {
                let counters = &series.counters;
                let LiveCounts { streams_open, down, up } =
                    live.get(&series.label).copied().unwrap_or_default();
                ServiceSeries {
                    label: series.label.clone(),
                    open,
                    streams_open,
                    streams_opened: counters.opened.load(Relaxed),
                    streams_failed: counters.failed.load(Relaxed),
                    down: counters.down.load(Relaxed) + down,
                    up: counters.up.load(Relaxed) + up,
                    connect: counters.connect.counts(),
                    time_to_first_byte: counters.time_to_first_byte.counts(),
                    queue_wait: counters.queue_wait.counts(),
                    duration: counters.duration.counts(),
                    stream_down: counters.stream_down.counts(),
                    stream_up: counters.stream_up.counts(),
                }
            };
            all.into_iter().map(|(series, open)| of(series, open)).collect()
        })
    }

    /// Reads the series of all proxies.
    fn proxy_series(&self) -> Vec<ProxySeries> {
        let now = Instant::now();
        // Collected first: no lock of telemetry may be held while a channel's link is locked.
        let channels: Vec<Arc<ChannelStats>> = self.channels.iter().map(|channel| channel.clone()).collect();
        let health: HashMap<_, ChannelHealth> =
            channels.iter().map(|channel| (channel.id, channel.health(now))).collect();
        drop(channels);
        self.proxy_series.read(|all| {
            let mut live: HashMap<Arc<str>, ProxySeries> = HashMap::new();
            for proxy in &self.proxies {
                let sums = live.entry(proxy.series.label.clone()).or_default();
                sums.draining += usize::from(proxy.is_draining());
                sums.streams_open += proxy.streams.now();
                sums.down += proxy.traffic.down();
                sums.up += proxy.traffic.up();
            }
            for channel in &self.channels {
                let Some(series) = &channel.series else { continue };
                let health = health.get(&channel.id).copied().unwrap_or_default();
                let sums = live.entry(series.label.clone()).or_default();
                sums.channels += 1;
                sums.stalled_channels += usize::from(health.is_stalled);
                sums.received += channel.received();
                sums.sent += channel.sent();
                sums.retransmitted_segments += channel.known_retransmissions();
                sums.send_queue_bytes += health.send_queue_bytes;
                sums.rtt = sums.rtt.into_iter().chain(channel.last_rtt()).min();
            }
            let mut of = |series: &Series<ProxyCounters>, connected| {
                let counters = &series.counters;
                let live = live.remove(&series.label).unwrap_or_default();
                ProxySeries {
                    label: series.label.clone(),
                    connected,
                    links: counters.links.load(Relaxed),
                    streams_assigned: counters.assigned.load(Relaxed),
                    down: counters.down.load(Relaxed) + live.down,
                    up: counters.up.load(Relaxed) + live.up,
                    received: counters.received.load(Relaxed) + live.received,
                    sent: counters.sent.load(Relaxed) + live.sent,
                    retransmitted_segments: counters.retransmitted.load(Relaxed)
                        + live.retransmitted_segments,
                    ..live
                }
            };
            all.into_iter().map(|(series, connected)| of(series, connected)).collect()
        })
    }
}
