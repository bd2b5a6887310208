//! The interface of a congestion controller, modelled on `congestion::Controller` in quinn-proto and
//! `CongestionController` in s2n-quic. A controller decides; it does not send, and it keeps no list of probes.

use std::time::{Duration, Instant};

use super::{probes::ProbeTracker, rtt::RttEstimator};

/// Sets the congestion window and the chunk size of one channel.
///
/// [`Path`](super::Path) reports every event to it. The path keeps the probes and their RTT and passes them in, so that
/// controllers that work with other signals share the bookkeeping.
pub(in crate::mux) trait CongestionController {
    /// Records that `bytes` of DATA payload are about to be sent on the channel. `probes` does not include them yet.
    fn on_data_sent(&mut self, bytes: u64, probes: &ProbeTracker, now: Instant);

    /// Records that the sender has no data left for the channel (application-limited).
    fn on_app_limited(&mut self);

    /// Records that the congestion window holds back data that could otherwise be sent now.
    fn on_cwnd_limited(&mut self);

    /// Records that the peer answered a probe. `probes` and `rtt` include that answer already.
    fn on_probe_acked(&mut self, ack: ProbeAck, probes: &ProbeTracker, rtt: &RttEstimator, now: Instant);

    /// Records how many TCP segments the kernel has retransmitted since the channel was established, after
    /// `bytes_sent` bytes of data.
    fn on_retransmissions(&mut self, total_segments: u64, bytes_sent: u64);

    /// Starts with a smaller congestion window and smaller chunks, because the link has other channels. The path
    /// calls it only before the channel's first byte of data.
    fn start_conservatively(&mut self);

    /// Returns whether the RTT of the probe with this token replaces the minimum RTT even if it is longer, because
    /// the path was drained before that probe.
    fn replaces_min_rtt(&self, token: u64) -> bool;

    /// Returns whether the next probe should be sent now. The caller has checked that data was sent after the last
    /// probe.
    fn is_probe_due(&self, probes: &ProbeTracker, rtt: &RttEstimator, now: Instant) -> bool;

    /// Returns how many bytes are in flight on the channel.
    fn in_flight(&self, probes: &ProbeTracker) -> u64;

    /// Returns the congestion window: how many bytes of data may be in flight.
    fn cwnd(&self) -> u64;

    /// Returns how many bytes may be in flight when a small message is sent: somewhat more than [`cwnd`](Self::cwnd).
    fn small_message_cwnd(&self) -> u64;

    /// Returns the estimated delivery rate in bytes per second; `None` before the first estimate.
    fn delivery_rate(&self) -> Option<f64>;

    /// Returns the largest payload of a DATA frame on this channel, in bytes.
    fn chunk_size(&self) -> usize;
}

/// The peer's answer to one probe.
#[derive(Debug, Clone, Copy)]
pub(in crate::mux) struct ProbeAck {
    /// The token of the probe. Tokens rise by one with each probe.
    pub(super) token: u64,
    /// The time from the probe to its answer.
    pub(super) rtt: Duration,
    /// Whether this RTT has become the minimum RTT.
    pub(super) is_new_min: bool,
}
