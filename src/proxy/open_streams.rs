//! The open streams of a proxy: how many there may be, and how long a drain waits for them.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;

use crate::telemetry::{MAX_REFUSALS_PER_SECOND, ServedStats, Throttle};

/// The open streams of all links of one proxy, limited because each takes a descriptor for its connection to the target.
#[derive(Debug, Clone)]
pub(super) struct OpenStreams {
    /// Waits for the end of all streams.
    pub(super) tracker: TaskTracker,
    /// Holds one permit for each connection to the target that may be open or attempted.
    pub(super) sockets: Arc<Semaphore>,
    /// Limits the log lines about single streams, which users cause.
    pub(super) log: Arc<Throttle>,
    /// Counts streams, links and channels for the metrics; `None` for a proxy without.
    pub(super) stats: Option<Arc<ServedStats>>,
}

impl OpenStreams {
    /// Creates the set without streams, of which at most `max` may be open.
    pub(super) fn new(max: usize) -> Self {
        Self {
            tracker: TaskTracker::new(),
            sockets: Arc::new(Semaphore::new(max)),
            log: Arc::new(Throttle::new(MAX_REFUSALS_PER_SECOND)),
            stats: None,
        }
    }

    /// Returns the number of open streams.
    pub(super) fn count(&self) -> usize {
        self.tracker.len()
    }

    /// Admits one more stream. Returns the permit that it holds until its end; `None` if the maximum is open.
    pub(super) fn admit(&self) -> Option<OwnedSemaphorePermit> {
        self.sockets.clone().try_acquire_owned().ok()
    }
}
