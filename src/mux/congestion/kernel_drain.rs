//! Notices that the kernel drains the path to measure its minimum RTT.

use std::time::{Duration, Instant};

use super::transport_sample::{SEGMENT_LEN, TransportSample};

/// With this window or less, in segments, the kernel drains the path, as BBR does with a window of four, or it has
/// heard nothing of the receiver for so long that it starts anew.
const MAX_CWND_SEGMENTS: u64 = 4;

/// How long the kernel drains the path at most, beside two RTTs. BBR does so for 200 ms, and at least an RTT, from when
/// four segments are in flight, which takes an RTT.
const MAX_TIME: Duration = Duration::from_millis(500);

/// A drain of the path by the kernel. What is measured meanwhile says nothing about the path: the rate is nearly zero,
/// and the window that followed from it needed seconds to grow again, beyond what the path holds.
#[derive(Debug, Default)]
pub(super) struct KernelDrain {
    /// When it began; `None` while the path is not drained.
    began: Option<Instant>,
}

impl KernelDrain {
    /// Returns whether the kernel drains the path of a channel with the window `cwnd`. A window of the kernel that
    /// stays as small is all that its congestion control allows.
    pub(super) fn is_running(&mut self, sample: &TransportSample, cwnd: u64, now: Instant) -> bool {
        if sample.cwnd > MAX_CWND_SEGMENTS * SEGMENT_LEN || cwnd <= 2 * sample.cwnd {
            self.began = None;
            return false;
        }
        let began = *self.began.get_or_insert(now);
        now.saturating_duration_since(began) < MAX_TIME + 2 * sample.rtt
    }
}
