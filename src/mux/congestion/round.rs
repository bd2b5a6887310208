//! One measuring round of the delay-based controller: two round trips between two updates of the congestion window.

use std::time::{Duration, Instant};

/// The measurements since the last update of the congestion window.
///
/// The answers that arrive in the first round trip of a round acknowledge data that was sent before it. Those that
/// arrive in the second round trip are measured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Round {
    /// The token of the first probe that was sent in this round.
    pub(super) first_token: u64,
    /// The token of the probe whose answer, or that to a later one, ends the round; `None` in the first round trip.
    pub(super) last_token: Option<u64>,
    /// When the second round trip began.
    pub(super) measured_since: Instant,
    /// The bytes that the peer had acknowledged, by answering probes, when the second round trip began.
    pub(super) delivered_before: u64,
    /// The most bytes that were in flight at once in this round.
    pub(super) max_in_flight: u64,
    /// Whether the congestion window held data back in this round.
    pub(super) is_cwnd_limited: bool,
    /// Whether the sender had no data to send for a while in this round (application-limited).
    pub(super) is_app_limited: bool,
    /// The minimum RTT of this round.
    pub(super) min_rtt: Duration,
    /// The sum of all RTTs of this round.
    pub(super) rtt_sum: Duration,
    /// How many RTTs were measured in this round.
    pub(super) rtt_samples: u32,
}

impl Round {
    /// Creates a round that begins with the probe `first_token`.
    pub(super) fn new(first_token: u64, now: Instant) -> Self {
        Self {
            first_token,
            last_token: None,
            measured_since: now,
            delivered_before: 0,
            max_in_flight: 0,
            is_cwnd_limited: false,
            is_app_limited: false,
            min_rtt: Duration::MAX,
            rtt_sum: Duration::ZERO,
            rtt_samples: 0,
        }
    }

    /// Records the RTT of a probe that was answered in the second round trip.
    pub(super) fn record_rtt(&mut self, rtt: Duration) {
        self.min_rtt = self.min_rtt.min(rtt);
        self.rtt_sum += rtt;
        self.rtt_samples += 1;
    }

    /// Returns the RTT that stands for the round: half way between its minimum and its mean. A task that is woken
    /// late adds to the RTT without any queue, so that the mean alone left paths idle. The minimum alone, as in CoDel
    /// (RFC 8289), is that of the moment after such a task, so that twice the target queued.
    pub(super) fn typical_rtt(&self) -> Duration {
        (self.min_rtt + self.rtt_sum / self.rtt_samples.max(1)) / 2
    }
}
