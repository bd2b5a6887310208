//! Records the latencies of a proxy's streams.

use std::{sync::Arc, time::Duration};

use super::balance::ProxyLoad;
use crate::{
    link::LatencyObserver,
    telemetry::{ProxyStats, StreamStats},
};

/// Receives the latencies of a proxy's streams from the link and records each twice: in the proxy's load, which the
/// balancer uses, and in the telemetry, for display.
#[derive(Debug)]
pub(super) struct LatencyRecorder {
    /// The proxy's load, by which the balancer selects proxies.
    load: Arc<ProxyLoad>,
    /// The proxy's counters, for display.
    stats: Arc<ProxyStats>,
}

impl LatencyRecorder {
    /// Creates the recorder of one proxy.
    pub(super) fn new(load: Arc<ProxyLoad>, stats: Arc<ProxyStats>) -> Self {
        Self { load, stats }
    }
}

impl LatencyObserver for LatencyRecorder {
    /// Records the connect latency of one stream in the proxy's load and in telemetry.
    fn connected(&self, stream: &StreamStats, took: Duration) {
        self.load.record_latency(took);
        stream.record_connect_latency(&self.stats, took);
    }

    /// Records the time to first byte of one stream in the proxy's load and in telemetry.
    fn first_byte(&self, stream: &StreamStats, took: Duration) {
        self.load.record_latency(took);
        stream.record_time_to_first_byte(&self.stats, took);
    }

    /// Records in telemetry how long upload data of one stream waited for its channel.
    fn dequeued(&self, stream: &StreamStats, waited: Duration) {
        stream.record_queue_wait(&self.stats, waited);
    }
}
