//! Series: what is counted by service and by name of a proxy for a monitoring system, with a bounded number of labels.
//!
//! The counters of a service or a proxy end with it; a series goes on. What a stream has counted when it ends is
//! recorded here once. The bytes of open streams stay where the data path counts them, and are added up by a scrape.

mod table;

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

pub(super) use table::{Series, SeriesTable};

use super::{CumulativeHistogram, EndReason, EndedBy};

/// The most services with a series of their own. Each takes about a hundred lines of a scrape.
pub(super) const MAX_SERVICE_SERIES: usize = 1000;

/// The most names of proxies with a series of their own: the names come from peers.
pub(super) const MAX_PROXY_SERIES: usize = 500;

/// What is counted of one service.
#[derive(Debug)]
pub(super) struct ServiceCounters {
    /// Streams that were opened.
    pub(super) opened: AtomicU64,
    /// Streams that [failed](EndReason::is_failure).
    pub(super) failed: AtomicU64,
    /// Bytes written to users' sockets while the port was open before.
    pub(super) down: AtomicU64,
    /// Bytes read from users' sockets while the port was open before.
    pub(super) up: AtomicU64,
    /// Connect latency of streams.
    pub(super) connect: CumulativeHistogram,
    /// Time to first byte of streams.
    pub(super) time_to_first_byte: CumulativeHistogram,
    /// Queue wait of upload data.
    pub(super) queue_wait: CumulativeHistogram,
    /// Duration of streams that have ended.
    pub(super) duration: CumulativeHistogram,
    /// Bytes of each ended stream that were written to the user's socket.
    pub(super) stream_down: CumulativeHistogram,
    /// Bytes of each ended stream that were read from the user's socket.
    pub(super) stream_up: CumulativeHistogram,
}

impl Default for ServiceCounters {
    fn default() -> Self {
        Self {
            opened: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            down: AtomicU64::new(0),
            up: AtomicU64::new(0),
            connect: CumulativeHistogram::of_latencies(),
            time_to_first_byte: CumulativeHistogram::of_latencies(),
            queue_wait: CumulativeHistogram::of_latencies(),
            duration: CumulativeHistogram::of_durations(),
            stream_down: CumulativeHistogram::of_sizes(),
            stream_up: CumulativeHistogram::of_sizes(),
        }
    }
}

impl ServiceCounters {
    /// Adds the bytes of all streams of a service whose port is closed.
    pub(super) fn retire(&self, down: u64, up: u64) {
        self.down.fetch_add(down, Relaxed);
        self.up.fetch_add(up, Relaxed);
    }
}

/// What is counted of all proxies with one name.
#[derive(Debug, Default)]
pub(super) struct ProxyCounters {
    /// Links that were authenticated.
    pub(super) links: AtomicU64,
    /// Streams that were assigned to a proxy of this name, those that were assigned to another one after that included:
    /// it must never shrink.
    pub(super) assigned: AtomicU64,
    /// Bytes of the streams of proxies that are gone, written to users' sockets.
    pub(super) down: AtomicU64,
    /// Bytes of the streams of proxies that are gone, read from users' sockets.
    pub(super) up: AtomicU64,
    /// Bytes read from channels that are closed.
    pub(super) received: AtomicU64,
    /// Bytes written to channels that are closed.
    pub(super) sent: AtomicU64,
    /// Segments retransmitted on channels that are closed, as far as they were read while the channel was open.
    pub(super) retransmitted: AtomicU64,
}

impl ProxyCounters {
    /// Adds the bytes of all streams of a proxy that is gone.
    pub(super) fn retire(&self, down: u64, up: u64) {
        self.down.fetch_add(down, Relaxed);
        self.up.fetch_add(up, Relaxed);
    }

    /// Adds what a channel that is closed has carried.
    pub(super) fn retire_channel(&self, received: u64, sent: u64, retransmitted_segments: u64) {
        self.received.fetch_add(received, Relaxed);
        self.sent.fetch_add(sent, Relaxed);
        self.retransmitted.fetch_add(retransmitted_segments, Relaxed);
    }
}

/// How many streams have ended for each reason.
#[derive(Debug, Default)]
pub(super) struct EndCounters([AtomicU64; EndReason::COUNT]);

impl EndCounters {
    /// Counts the end of a stream.
    pub(super) fn count(&self, reason: &EndReason) {
        let is_it = |other: &EndReason| std::mem::discriminant(other) == std::mem::discriminant(reason);
        if let Some(index) = EndReason::ALL.iter().position(is_it) {
            self.0[index].fetch_add(1, Relaxed);
        }
    }

    /// Returns the number of ends for each reason.
    pub(super) fn read(&self) -> Vec<StreamEnds> {
        let of = |(reason, count): (&EndReason, &AtomicU64)| StreamEnds {
            reason: name_of(reason),
            by: reason.by(),
            count: count.load(Relaxed),
        };
        EndReason::ALL.iter().zip(&self.0).map(of).collect()
    }
}

/// Returns the name of a reason in JSON, without its text.
fn name_of(reason: &EndReason) -> String {
    match serde_json::to_value(reason) {
        Ok(serde_json::Value::String(name)) => name,
        Ok(serde_json::Value::Object(fields)) => fields.keys().next().cloned().unwrap_or_default(),
        // A reason is one or the other.
        _ => String::new(),
    }
}

/// How many streams have ended for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamEnds {
    /// The name of the reason, that of its JSON: texts for people may change.
    pub reason: String,
    /// The party that ended these streams.
    pub by: EndedBy,
    /// How many there were.
    pub count: u64,
}

/// The memory of a process that its streams may take, and take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryUse {
    /// The memory budget in bytes.
    pub budget: u64,
    /// The bytes of it that are promised or in use.
    pub used: u64,
}

/// A memory budget whose use can be read.
pub trait MemorySource: fmt::Debug + Send + Sync {
    /// Returns the present use.
    fn memory(&self) -> MemoryUse;
}
