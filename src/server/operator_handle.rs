use std::{sync::Arc, time::Instant};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::{
    ids::{Direction, Priority, Rate},
    link::{RateLimit, StreamControl},
    telemetry::StreamStats,
};

/// Where the operator gets hold of one user connection, from the moment it was admitted. What is ordered while it
/// still waits for a proxy holds as soon as it has one.
#[derive(Debug)]
pub(super) struct OperatorHandle {
    cancel: CancellationToken,
    stats: Arc<StreamStats>,
    limit: Arc<RateLimit>,
    control: Mutex<Option<StreamControl>>,
}

impl OperatorHandle {
    pub(super) fn new(cancel: CancellationToken, stats: Arc<StreamStats>, limit: Arc<RateLimit>) -> Self {
        Self { cancel, stats, limit, control: Mutex::new(None) }
    }

    /// Ends the connection when it is cancelled.
    pub(super) fn cancel(&self) -> &CancellationToken {
        &self.cancel
    }

    pub(super) fn stats(&self) -> &StreamStats {
        &self.stats
    }

    pub(super) fn limit(&self) -> &Arc<RateLimit> {
        &self.limit
    }

    /// The connection has a stream now.
    pub(super) fn connect(&self, control: StreamControl) {
        let mut place = self.control.lock();
        if self.stats.is_paused() {
            control.set_paused(true);
        }
        if self.stats.priority() != Priority::default() {
            control.set_priority(self.stats.priority());
        }
        *place = Some(control);
    }

    pub(super) fn set_paused(&self, paused: bool) {
        let control = self.control.lock();
        self.stats.set_paused(paused);
        if let Some(control) = &*control {
            control.set_paused(paused);
        }
    }

    pub(super) fn set_priority(&self, priority: Priority) {
        let control = self.control.lock();
        self.stats.set_priority(priority);
        if let Some(control) = &*control {
            control.set_priority(priority);
        }
    }

    pub(super) fn set_limit(&self, direction: Direction, rate: Option<Rate>) {
        self.limit.set(direction, rate, Instant::now());
        self.stats.set_limit(direction, rate);
        self.limits_changed();
    }

    /// Some limit that holds for the stream is another now.
    pub(super) fn limits_changed(&self) {
        if let Some(control) = &*self.control.lock() {
            control.rate_limits_changed();
        }
    }
}
