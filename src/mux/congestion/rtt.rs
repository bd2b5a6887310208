//! The RTT filter of a channel: the minimum and the latest RTT.

use std::time::{Duration, Instant};

/// The RTTs of one channel, measured by its probes.
#[derive(Debug, Default)]
pub(in crate::mux) struct RttEstimator {
    /// The minimum RTT, and when a probe last measured it.
    min: Option<(Duration, Instant)>,
    /// The RTT of the probe that was answered last.
    latest: Option<Duration>,
}

impl RttEstimator {
    /// Records an RTT that was measured at `now`. Returns whether it has become the minimum, which it does if it is
    /// not longer than the present minimum, or if `replace_min` is set.
    pub(super) fn update(&mut self, rtt: Duration, now: Instant, replace_min: bool) -> bool {
        self.latest = Some(rtt);
        let is_min = replace_min || self.min.is_none_or(|(min, _)| rtt <= min);
        if is_min {
            self.min = Some((rtt, now));
        }
        is_min
    }

    /// Returns the minimum RTT: the time of a round trip when no data queues. `None` before the first answer to a
    /// probe.
    pub(super) fn min(&self) -> Option<Duration> {
        self.min.map(|(min, _)| min)
    }

    /// Returns the minimum RTT, and when a probe last measured it; `None` before the first answer.
    pub(super) fn min_with_time(&self) -> Option<(Duration, Instant)> {
        self.min
    }

    /// Returns the RTT of the probe that was answered last; `None` before the first answer.
    pub(super) fn latest(&self) -> Option<Duration> {
        self.latest
    }
}
