//! What the kernel reports of a channel's TCP connection (`TCP_INFO`), and the loss rate computed from it.

use std::time::Duration;

/// The payload of a TCP segment on most paths, in bytes: the kernel counts segments, and windows are in bytes.
pub(in crate::mux) const SEGMENT_LEN: u64 = 1448;

/// The least number of segments sent between two updates of the loss rate: with fewer, one loss would count for much.
const MIN_LOSS_SEGMENTS: u64 = 64;

/// The share of the newest measurement in the loss rate.
const LOSS_GAIN: f64 = 0.25;

/// The state of a channel's TCP connection as the kernel of the sender reports it.
///
/// Unlike probes, which wait at the receiver for lost segments, these figures tell a queue from a loss: the RTT is
/// measured with selective acknowledgements, and the bytes in flight exclude what was received out of order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TransportSample {
    /// The smoothed RTT (`tcpi_rtt`).
    pub rtt: Duration,
    /// Bytes on the network: sent, neither acknowledged nor selectively acknowledged, and not taken for lost (the pipe
    /// of RFC 6675).
    pub in_flight: u64,
    /// How much of `cwnd` is in use, in bytes: the same, with each segment counted as a full one, as the kernel does.
    pub cwnd_used: u64,
    /// Bytes that were written and not sent yet: in the socket's send buffer, or in this process after the mux handed
    /// them out.
    pub unsent: u64,
    /// Bytes that the peer's kernel has received since the connection was established, out of order or not.
    pub delivered: u64,
    /// The kernel's congestion window, in bytes.
    pub cwnd: u64,
    /// Data segments sent since the connection was established, retransmissions included.
    pub sent_segments: u64,
    /// Segments retransmitted since the connection was established.
    pub retransmitted_segments: u64,
    /// Whether the kernel is repairing a loss: data that was sent later waits at the receiver.
    pub is_recovering: bool,
}

/// The loss rate of a connection: the share of sent segments that were retransmissions.
#[derive(Debug, Default)]
pub(super) struct LossEstimator {
    /// Segments sent, and segments retransmitted, when the rate was last updated.
    checkpoint: (u64, u64),
    /// The loss rate, from 0 to 1; `None` before enough segments were sent.
    rate: Option<f64>,
}

impl LossEstimator {
    /// Updates the loss rate once enough segments were sent since the last update. Losses while data queues are those
    /// of a full queue, which `has_queue` tells; they say nothing about the path, and do not count.
    pub(super) fn update(&mut self, sample: &TransportSample, has_queue: bool) {
        if has_queue {
            self.checkpoint = (sample.sent_segments, sample.retransmitted_segments);
            return;
        }
        let sent = sample.sent_segments.saturating_sub(self.checkpoint.0);
        if sent < MIN_LOSS_SEGMENTS {
            return;
        }
        let lost = sample.retransmitted_segments.saturating_sub(self.checkpoint.1);
        let newest = (lost as f64 / sent as f64).min(1.0);
        self.rate = Some(self.rate.map_or(newest, |rate| rate + (newest - rate) * LOSS_GAIN));
        self.checkpoint = (sample.sent_segments, sample.retransmitted_segments);
    }

    /// Returns the share of recently sent segments that were retransmissions, from 0 to 1; `None` before enough
    /// segments were sent.
    pub(super) fn rate(&self) -> Option<f64> {
        self.rate
    }
}
