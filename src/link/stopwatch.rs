use std::{
    fmt::Debug,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use crate::telemetry::StreamStats;

/// Who wants to know how quickly streams are answered. Called while locks are held: must not block.
pub trait Answered: Debug + Send + Sync {
    /// The peer took the stream: its target is there.
    fn opened(&self, stream: &StreamStats, took: Duration);
    /// The first byte came: counted from the user's first, or from the beginning where the target speaks first.
    fn first_byte(&self, stream: &StreamStats, took: Duration);
    /// Some of what the socket gave was handed to its channel's writer, so long after it had come.
    fn sent(&self, stream: &StreamStats, waited: Duration);
}

/// Times the answer to one stream, for who wants to know.
#[derive(Debug)]
pub(super) struct Stopwatch {
    begun: Instant,
    asked: OnceLock<Instant>,
    tell: Arc<dyn Answered>,
}

impl Stopwatch {
    pub(super) fn start(tell: Arc<dyn Answered>) -> Self {
        Self { begun: Instant::now(), asked: OnceLock::new(), tell }
    }

    pub(super) fn opened(&self, stream: &StreamStats) {
        self.tell.opened(stream, self.begun.elapsed());
    }

    pub(super) fn sent(&self, stream: &StreamStats, since: Instant) {
        self.tell.sent(stream, since.elapsed());
    }

    /// A byte of the user's passed, the first or a later one.
    pub(super) fn asked(&self) {
        self.asked.get_or_init(Instant::now);
    }

    pub(super) fn answered(&self, stream: &StreamStats) {
        self.tell.first_byte(stream, self.asked.get().unwrap_or(&self.begun).elapsed());
    }
}
