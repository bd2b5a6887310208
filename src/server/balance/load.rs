//! The load of one proxy as the balancer estimates it: open streams and the latency of answers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;

#[cfg(test)]
mod tests;

/// The time constant of the latency average: after this time without samples a peak has decayed to 1/e, about a
/// third.
const DECAY: Duration = Duration::from_secs(10);

/// The assumed latency per open stream of a proxy that was never measured. It is so high that such a proxy receives
/// one stream at first, and more once that one has been answered.
const UNMEASURED_LATENCY: Duration = Duration::from_secs(1);

/// The latency that a failed stream counts as. A target that is down refuses connections within microseconds and
/// would otherwise look like the fastest one and attract all streams.
const FAILURE_LATENCY: Duration = Duration::from_secs(5);

/// The load of one proxy: the number of its open streams, and a moving average of how fast it answers.
#[derive(Debug, Default)]
pub(in crate::server) struct ProxyLoad {
    /// The number of streams that are open through this proxy.
    active_streams: AtomicU32,
    /// The moving average of the latencies of the proxy's streams: connect latency and time to first byte.
    latency: Mutex<PeakEwma>,
}

/// Counts one stream in the load of its proxy until it is dropped, at the end of the stream.
#[derive(Debug)]
pub(in crate::server) struct ActiveStreamGuard(Arc<ProxyLoad>);

impl Drop for ActiveStreamGuard {
    fn drop(&mut self) {
        self.0.active_streams.fetch_sub(1, Relaxed);
    }
}

impl ProxyLoad {
    /// Counts one more open stream of the proxy, until the returned guard is dropped.
    pub(in crate::server) fn begin_stream(self: &Arc<Self>) -> ActiveStreamGuard {
        self.active_streams.fetch_add(1, Relaxed);
        ActiveStreamGuard(self.clone())
    }

    /// Records a latency of one stream in the proxy's moving average: the time until its target was connected, or
    /// until the first byte of its response.
    pub(in crate::server) fn record_latency(&self, took: Duration) {
        self.latency.lock().record(took, Instant::now());
    }

    /// Records that the proxy or its target failed to serve a stream, as a latency of [`FAILURE_LATENCY`].
    pub(in crate::server) fn record_failure(&self) {
        self.record_latency(FAILURE_LATENCY);
    }

    /// Returns the number of streams that are open through this proxy.
    pub(super) fn active_streams(&self) -> u32 {
        self.active_streams.load(Relaxed)
    }

    /// Returns how long one more stream would probably wait for its answer: the average latency times the number of
    /// open streams including the new one. Only the comparison of two costs has a meaning.
    pub(super) fn cost(&self, now: Instant) -> f64 {
        let active = f64::from(self.active_streams());
        match self.latency.lock().value(now) {
            Some(average) => average * (active + 1.0),
            None => UNMEASURED_LATENCY.as_secs_f64() * active,
        }
    }
}

/// A peak-sensitive exponentially weighted moving average (EWMA) of latencies in seconds. It rises to a higher sample
/// at once and falls slowly: a proxy that becomes slow is avoided from its first late answer on, and is tried again
/// as the average decays.
#[derive(Debug, Default)]
struct PeakEwma(
    /// The average in seconds, and when it was computed; `None` before the first sample.
    Option<(f64, Instant)>,
);

impl PeakEwma {
    /// Adds the latency `took` of one stream to the average.
    fn record(&mut self, took: Duration, now: Instant) {
        let took = took.as_secs_f64();
        let average = match self.0 {
            Some((before, since)) if took < before => {
                let old_weight = decay_factor(since, now);
                before * old_weight + took * (1.0 - old_weight)
            }
            _ => took,
        };
        self.0 = Some((average, now));
    }

    /// Returns the average in seconds, decayed until `now`; `None` before the first sample.
    fn value(&self, now: Instant) -> Option<f64> {
        self.0.map(|(average, since)| average * decay_factor(since, now))
    }
}

/// Returns the factor by which an average decays from `since` to `now`: e^(-elapsed / [`DECAY`]).
fn decay_factor(since: Instant, now: Instant) -> f64 {
    (-now.saturating_duration_since(since).as_secs_f64() / DECAY.as_secs_f64()).exp()
}
