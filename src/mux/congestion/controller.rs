//! The interface of a congestion controller, modelled on `congestion::Controller` in quinn-proto and
//! `CongestionController` in s2n-quic. A controller decides; it does not send, and it keeps no list of probes.

use std::time::Instant;

use super::{probes::ProbeTracker, rtt::RttEstimator};

/// Sets the congestion window and the chunk size of one channel.
///
/// [`Path`](super::Path) reports to it what is sent, and keeps the probes and their RTT and passes them in, so that
/// controllers that work with other signals share the bookkeeping. What only one of them needs (answers to probes,
/// reports of the kernel) the path passes to that one.
pub(in crate::mux) trait CongestionController {
    /// Records that `bytes` of DATA payload are about to be sent on the channel. `probes` does not include them yet.
    fn on_data_sent(&mut self, bytes: u64, probes: &ProbeTracker, now: Instant);

    /// Records that the sender has no data left for the channel (application-limited).
    fn on_app_limited(&mut self);

    /// Records that the congestion window holds back data that could otherwise be sent now.
    fn on_cwnd_limited(&mut self);

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
