//! One measuring round of a congestion controller: two round trips between two updates of the congestion window.

use std::time::{Duration, Instant};

/// The measurements since the last update of the congestion window.
///
/// What arrives in the first round trip of a round answers data that was sent before it. What arrives in the second
/// round trip is measured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Round {
    /// When the second round trip began; before that, when the round began.
    pub(super) measured_since: Instant,
    /// The bytes that the peer had acknowledged when the second round trip began.
    pub(super) delivered_before: u64,
    /// The most bytes that were in flight at once in this round.
    pub(super) max_in_flight: u64,
    /// Whether the congestion window held data back in this round.
    pub(super) is_cwnd_limited: bool,
    /// Whether the sender had no data to send for a while in this round (application-limited).
    pub(super) is_app_limited: bool,
    /// The minimum RTT of this round.
    min_rtt: Duration,
    /// The longest RTT of this round.
    max_rtt: Duration,
    /// The sum of all RTTs of this round.
    rtt_sum: Duration,
    /// How many RTTs were measured in this round.
    rtt_samples: u32,
}

impl Round {
    /// Creates a round that begins at `now`.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            measured_since: now,
            delivered_before: 0,
            max_in_flight: 0,
            is_cwnd_limited: false,
            is_app_limited: false,
            min_rtt: Duration::MAX,
            max_rtt: Duration::ZERO,
            rtt_sum: Duration::ZERO,
            rtt_samples: 0,
        }
    }

    /// Begins the second round trip, before which the peer had acknowledged `delivered` bytes.
    pub(super) fn start_measuring(&mut self, delivered: u64, now: Instant) {
        (self.delivered_before, self.measured_since) = (delivered, now);
    }

    /// Records an RTT that was measured in the second round trip.
    pub(super) fn record_rtt(&mut self, rtt: Duration) {
        self.min_rtt = self.min_rtt.min(rtt);
        self.max_rtt = self.max_rtt.max(rtt);
        self.rtt_sum += rtt;
        self.rtt_samples += 1;
    }

    /// Returns the minimum RTT of the round.
    pub(super) fn min_rtt(&self) -> Duration {
        self.min_rtt
    }

    /// Returns the longest RTT of the round.
    pub(super) fn max_rtt(&self) -> Duration {
        self.max_rtt
    }

    /// Returns the RTT that stands for the round: half way between its minimum and its mean. A task that is woken
    /// late adds to the RTT without any queue, so that the mean alone left paths idle. The minimum alone, as in CoDel
    /// (RFC 8289), is that of the moment after such a task, so that twice the target queued.
    pub(super) fn typical_rtt(&self) -> Duration {
        (self.min_rtt + self.rtt_sum / self.rtt_samples.max(1)) / 2
    }

    /// Returns the rate, in bytes per second, at which the peer acknowledged data from the start of the second round
    /// trip until `now`, when it had acknowledged `delivered` bytes. `None` if it acknowledged nothing.
    pub(super) fn delivery_rate(&self, delivered: u64, now: Instant) -> Option<f64> {
        let elapsed = now.saturating_duration_since(self.measured_since).as_secs_f64();
        let bytes = delivered.saturating_sub(self.delivered_before);
        (bytes > 0 && elapsed > 0.0).then(|| bytes as f64 / elapsed)
    }

    /// Adds the `rate` of this round, in bytes per second, to the estimate `known`. `exceeds_target` tells whether data
    /// queued for longer than the target.
    ///
    /// An application-limited round shows only that the path delivers no less, unless the sender had exceeded what the
    /// path delivers before it ran out of data.
    pub(super) fn update_rate(&self, known: Option<f64>, rate: f64, exceeds_target: bool) -> Option<f64> {
        let is_app_limited = self.is_app_limited && !(self.is_cwnd_limited && exceeds_target);
        match known {
            Some(known) if is_app_limited && rate < known => Some(known),
            None if is_app_limited => None,
            Some(known) => Some((known + rate) / 2.0),
            None => Some(rate),
        }
    }
}
