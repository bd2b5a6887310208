//! Measures how quickly a stream that this side opened is answered: connect latency, time to first byte, queue wait.

use std::{
    fmt::Debug,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use crate::telemetry::StreamStats;

/// Callbacks that receive the latency measurements of a stream.
///
/// [`connected`](Self::connected) and [`dequeued`](Self::dequeued) are called while the link state is locked: an
/// implementation must not block, call the link, or acquire a lock under which another one is acquired.
pub trait LatencyObserver: Debug + Send + Sync {
    /// Called when the peer has accepted the stream, `latency` after it was opened: its target is connected.
    fn connected(&self, stream: &StreamStats, latency: Duration);
    /// Called when the target's first byte was written to the user's socket, `latency` after the user's first byte
    /// was read, or after the stream was opened where the target sends first.
    fn first_byte(&self, stream: &StreamStats, latency: Duration);
    /// Called when bytes that were read from the user's socket were handed to the channel's write queue, `queue_wait`
    /// after they were read.
    fn dequeued(&self, stream: &StreamStats, queue_wait: Duration);
}

/// Measures the latencies of one stream that this side opened, and reports them to a [`LatencyObserver`].
#[derive(Debug)]
pub(super) struct LatencyTimer {
    /// When the stream was opened.
    opened_at: Instant,
    /// When the user's first byte was read; unset until then.
    first_user_byte_at: OnceLock<Instant>,
    /// Called with each latency that is measured.
    observer: Arc<dyn LatencyObserver>,
}

impl LatencyTimer {
    /// Creates the timer of a stream that is being opened now.
    pub(super) fn start(observer: Arc<dyn LatencyObserver>) -> Self {
        Self { opened_at: Instant::now(), first_user_byte_at: OnceLock::new(), observer }
    }

    /// Reports the connect latency: the peer has accepted the stream.
    pub(super) fn record_connected(&self, stream: &StreamStats) {
        self.observer.connected(stream, self.opened_at.elapsed());
    }

    /// Reports the queue wait of bytes that were read from the user's socket at `read_at` and are transmitted now.
    pub(super) fn record_dequeued(&self, stream: &StreamStats, read_at: Instant) {
        self.observer.dequeued(stream, read_at.elapsed());
    }

    /// Stores that the user's first byte was read now; later calls change nothing.
    pub(super) fn record_user_bytes(&self) {
        self.first_user_byte_at.get_or_init(Instant::now);
    }

    /// Reports the time to first byte: the target's first byte was written to the user's socket.
    pub(super) fn record_first_byte(&self, stream: &StreamStats) {
        let since = self.first_user_byte_at.get().unwrap_or(&self.opened_at);
        self.observer.first_byte(stream, since.elapsed());
    }
}
