//! Determines what limits a stream, its bottleneck, and for how long each cause has limited it.
//!
//! Causes are recorded where a stream starts and stops being blocked, so that a stream which is not blocked costs
//! neither a lock nor a look at the clock. Everything here follows from its arguments: this module must not use the
//! link, a socket or a clock.

#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use crate::{
    mux::{RecvFlow, SendFlow},
    telemetry::{Bottleneck, BottleneckTimes, ChannelHealth, RateWindow},
};

/// Longest time for which a full flow-control window is the bottleneck while nothing is acknowledged. Data in flight
/// arrives within a round-trip time; after this long it has arrived, and the target does not read it.
const MAX_WINDOW_STALL: Duration = Duration::from_millis(500);

/// Shortest interval over which an acknowledgement rate is measured: over a shorter one it is noise.
const MIN_RATE_INTERVAL: Duration = Duration::from_millis(10);

/// How far the RTT of a channel must exceed twice its minimum to show queueing delay. A busy machine adds
/// milliseconds by itself.
const MIN_QUEUEING_DELAY: Duration = Duration::from_millis(10);

/// The current bottleneck of one direction of a stream, and the total time that each cause has been the bottleneck.
#[derive(Debug, Default)]
pub(super) struct BottleneckTimer {
    /// The current bottleneck, and since when `times` does not include its time; `None` if there is none.
    current: Option<(Bottleneck, Instant)>,
    /// For how long each cause was the bottleneck, without the time since the last change of `current`.
    times: BottleneckTimes,
}

impl BottleneckTimer {
    /// Returns whether no bottleneck is recorded for this direction of the stream.
    pub(super) fn is_unblocked(&self) -> bool {
        self.current.is_none()
    }

    /// Returns whether `cause` is the recorded bottleneck of this direction of the stream.
    pub(super) fn is_blocked_by(&self, cause: Bottleneck) -> bool {
        self.current.is_some_and(|(current, _)| current == cause)
    }

    /// Records the missing channel as the bottleneck: the link has lost its last channel at `now`. If the operator
    /// has paused the stream, the operator stays the recorded bottleneck, because a new channel would not let the
    /// stream continue.
    pub(super) fn channel_lost(&mut self, now: Instant) {
        if !self.is_blocked_by(Bottleneck::Operator) {
            self.set(Some(Bottleneck::Channel), now);
        }
    }

    /// Clears the bottleneck if it was the missing channel: the link has a channel again since `now`.
    pub(super) fn channel_restored(&mut self, now: Instant) {
        if self.is_blocked_by(Bottleneck::Channel) {
            self.set(None, now);
        }
    }

    /// Records `cause` as the bottleneck from `now` on, or none, and adds the time of the previous bottleneck to its
    /// total.
    pub(super) fn set(&mut self, cause: Option<Bottleneck>, now: Instant) {
        self.times = self.times(now);
        self.current = cause.map(|cause| (cause, now));
    }

    /// Returns the bottleneck at `now`. If the recorded cause is a full flow-control window that has not moved for
    /// [`MAX_WINDOW_STALL`], it returns [`Bottleneck::Target`]: the target does not read.
    pub(super) fn current(&self, now: Instant) -> Option<Bottleneck> {
        let (cause, since) = self.current?;
        let is_stalled = now.saturating_duration_since(since) > MAX_WINDOW_STALL;
        let is_window = matches!(cause, Bottleneck::Window | Bottleneck::Budget);
        Some(if is_stalled && is_window { Bottleneck::Target } else { cause })
    }

    /// Returns for how long each cause has been the bottleneck of this direction since the stream was opened, up to
    /// `now`.
    pub(super) fn times(&self, now: Instant) -> BottleneckTimes {
        let mut times = self.times;
        if let (Some((_, since)), Some(cause)) = (self.current, self.current(now)) {
            times.add(cause, now.saturating_duration_since(since));
        }
        times
    }
}

/// Determines the bottleneck of the sending direction of a stream (local socket to peer) whose send buffer in the mux
/// is full.
#[derive(Debug, Default)]
pub(super) struct SendBottleneckDetector {
    /// The last sample of the stream's acknowledged bytes: when it was taken, and how many bytes the peer had
    /// acknowledged since the stream was opened.
    last_sample: Option<(Instant, u64)>,
    /// Whether the acknowledgement rate of the last interval was at least half of one flow-control window per RTT:
    /// the window limits the stream, not its target.
    is_window_limited: bool,
}

impl SendBottleneckDetector {
    /// Returns the bottleneck of the sending direction, given its flow-control state `flow` at `now`. Also samples
    /// the acknowledged bytes for the next call.
    ///
    /// If all data is in flight and the peer grants no more credit, the bottleneck is the window where the
    /// acknowledgement rate is at least half of one window per RTT, and otherwise the target, which reads more slowly
    /// than it could.
    pub(super) fn detect(&mut self, flow: &SendFlow, now: Instant) -> Bottleneck {
        if flow.is_paused {
            return Bottleneck::Operator;
        }
        if flow.unsent > 0 {
            return Bottleneck::Channel;
        }
        let (then, before) = *self.last_sample.get_or_insert((now, flow.acknowledged));
        let elapsed = now.saturating_duration_since(then);
        if elapsed >= MIN_RATE_INTERVAL {
            let rate = flow.acknowledged.saturating_sub(before) as f64 / elapsed.as_secs_f64();
            let rtt = flow.min_rtt.unwrap_or_default().as_secs_f64();
            // A text proxy whose target is slow leaves no window at all.
            self.is_window_limited = flow.window > 0 && rate * rtt >= flow.window as f64 / 2.0;
            self.last_sample = Some((now, flow.acknowledged));
        }
        match (self.is_window_limited, flow.is_budget_limited) {
            (true, true) => Bottleneck::Budget,
            (true, false) => Bottleneck::Window,
            (false, _) => Bottleneck::Target,
        }
    }
}

/// Returns the bottleneck of the receiving direction of a stream (peer to local socket) of which no received data
/// waits on this side; `None` if nothing is to be received.
///
/// `channel` is `None` while the link is detached. `is_expecting_data` says whether data is arriving or a response is
/// due.
pub(super) fn receive_bottleneck(
    recv: &RecvFlow,
    channel: Option<&ChannelHealth>,
    is_expecting_data: bool,
) -> Option<Bottleneck> {
    let Some(channel) = channel else { return Some(Bottleneck::Channel) };
    let has_queueing_delay =
        channel.rtt.zip(channel.min_rtt).is_some_and(|(rtt, min)| rtt > 2 * min + MIN_QUEUEING_DELAY);
    let has_used_credit = recv.credit < recv.window / 8;
    match () {
        () if recv.is_end_received || !is_expecting_data => None,
        () if has_used_credit && recv.is_budget_limited => Some(Bottleneck::Budget),
        () if has_used_credit => Some(Bottleneck::Window),
        () if has_queueing_delay => Some(Bottleneck::Channel),
        () => Some(Bottleneck::Target),
    }
}

/// Bytes that a stream has carried since it was opened, by direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ByteCounts {
    /// Bytes from the target to the user since the stream was opened.
    pub(super) down: u64,
    /// Bytes from the user to the target since the stream was opened.
    pub(super) up: u64,
}

/// Whether a stream has carried bytes within the last second, by direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Activity {
    /// Whether bytes from the target to the user have passed within the last second.
    pub(super) is_active_down: bool,
    /// Whether bytes from the user to the target have passed within the last second.
    pub(super) is_active_up: bool,
}

/// Samples of a stream's byte counts, taken while the cockpit shows the stream. They tell a slow stream from one that
/// has nothing to carry.
#[derive(Debug)]
pub(super) struct ActivityTracker {
    /// Samples of the bytes from the target to the user, over one second.
    down: RateWindow,
    /// Samples of the bytes from the user to the target, over one second.
    up: RateWindow,
    /// The byte counts of the last sample.
    last: ByteCounts,
    /// Whether the user sent the last bytes, so that a response of the target is due.
    is_awaiting_response: bool,
}

impl ActivityTracker {
    /// Creates a tracker of a stream that has carried `bytes` so far.
    pub(super) fn new(bytes: ByteCounts) -> Self {
        let window = || RateWindow::new(RateWindow::SECOND);
        let is_awaiting_response = bytes.up > 0 && bytes.down == 0;
        Self { down: window(), up: window(), last: bytes, is_awaiting_response }
    }

    /// Adds a sample of the stream's byte counts at `now`, and returns in which directions bytes have passed within
    /// the last second.
    pub(super) fn sample(&mut self, bytes: ByteCounts, now: Instant) -> Activity {
        self.down.push(now, bytes.down);
        self.up.push(now, bytes.up);
        self.is_awaiting_response =
            bytes.down == self.last.down && (self.is_awaiting_response || bytes.up > self.last.up);
        self.last = bytes;
        Activity { is_active_down: self.down.per_second() > 0.0, is_active_up: self.up.per_second() > 0.0 }
    }

    /// Returns whether the user sent the last bytes, so that a response of the target is due.
    pub(super) fn is_awaiting_response(&self) -> bool {
        self.is_awaiting_response
    }
}
