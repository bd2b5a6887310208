use std::{
    fmt::Debug,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use crate::telemetry::StreamStats;

/// Who wants to know how quickly streams are answered. Called while locks are held: must not block.
pub trait LatencyObserver: Debug + Send + Sync {
    /// The peer took the stream: its target is there.
    fn connected(&self, stream: &StreamStats, latency: Duration);
    /// The first byte came: counted from the user's first, or from the beginning where the target speaks first.
    fn first_byte(&self, stream: &StreamStats, latency: Duration);
    /// Some of what the socket gave was handed to its channel's writer, so long after it had come.
    fn dequeued(&self, stream: &StreamStats, queue_wait: Duration);
}

/// Times the answer to one stream, for who wants to know.
#[derive(Debug)]
pub(super) struct LatencyTimer {
    begun: Instant,
    asked: OnceLock<Instant>,
    observer: Arc<dyn LatencyObserver>,
}

impl LatencyTimer {
    pub(super) fn start(observer: Arc<dyn LatencyObserver>) -> Self {
        Self { begun: Instant::now(), asked: OnceLock::new(), observer }
    }

    pub(super) fn opened(&self, stream: &StreamStats) {
        self.observer.connected(stream, self.begun.elapsed());
    }

    pub(super) fn sent(&self, stream: &StreamStats, since: Instant) {
        self.observer.dequeued(stream, since.elapsed());
    }

    /// A byte of the user's passed, the first or a later one.
    pub(super) fn asked(&self) {
        self.asked.get_or_init(Instant::now);
    }

    pub(super) fn answered(&self, stream: &StreamStats) {
        self.observer.first_byte(stream, self.asked.get().unwrap_or(&self.begun).elapsed());
    }
}
