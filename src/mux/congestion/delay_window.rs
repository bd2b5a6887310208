//! A congestion window that follows the queueing delay. Both controllers use it; they differ in how they measure the
//! delay, the delivery rate and the bytes in flight.

use std::time::Duration;

use super::round::Round;

/// How much of the congestion window is left at least when it shrinks, as in CUBIC (RFC 9438): an RTT that was long
/// for a reason other than a queue must not cost more.
const MIN_DECREASE: f64 = 0.7;

/// What a round has measured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Measurement {
    /// The rate at which the path delivered data, in bytes per second.
    pub(super) rate: f64,
    /// The RTT without a queue of this channel.
    pub(super) min_rtt: Duration,
    /// How much longer than that the RTT was.
    pub(super) queueing_delay: Duration,
    /// How long data may queue.
    pub(super) target: Duration,
}

/// Keeps the congestion window near the bandwidth-delay product, so that the queueing delay stays below a target.
///
/// It is updated once per [`Round`], as in FAST TCP (Wei et al., 2006). If data queued for longer than the target, the
/// window becomes the bandwidth-delay product plus what the path delivers in three quarters of the target. If data
/// queued for less than half of the target although the window held data back, the window grows by what the path
/// delivers in the rest of these three quarters, and by twice as much each time that the growth leads to no queue, as
/// in Copa (Arun and Balakrishnan, 2018). BBR grows by a fixed share of the bytes in flight instead, which is a long
/// queue where the RTT is long.
#[derive(Debug)]
pub(super) struct DelayWindow {
    /// The congestion window in bytes: how many may be in flight on the channel.
    pub(super) cwnd: u64,
    /// How many times in a row the window has grown. `None` during slow start, in which it doubles; slow start ends
    /// when data queues for longer than the target for the first time.
    growth_steps: Option<u32>,
}

impl DelayWindow {
    /// Creates a window of `cwnd` bytes in slow start.
    pub(super) fn new(cwnd: u64) -> Self {
        Self { cwnd, growth_steps: None }
    }

    /// Returns whether the window has been in slow start since it was created: no queue has exceeded the target yet.
    pub(super) fn is_in_slow_start(&self) -> bool {
        self.growth_steps.is_none()
    }

    /// Ends slow start with a window of `cwnd` bytes.
    pub(super) fn leave_slow_start(&mut self, cwnd: u64) {
        (self.cwnd, self.growth_steps) = (cwnd, Some(0));
    }

    /// Shrinks the window after a `round` in which data queued for longer than the target.
    pub(super) fn shrink(&mut self, round: &Round, measured: Measurement) {
        let Measurement { rate, min_rtt, target, .. } = measured;
        let most = self.cwnd.min(round.max_in_flight) as f64;
        let wanted = rate * (min_rtt + typical_delay(target)).as_secs_f64();
        let least = if self.is_in_slow_start() { 0.0 } else { most * MIN_DECREASE };
        self.leave_slow_start(wanted.max(least).min(most) as u64);
    }

    /// Grows the window after a `round` in which data queued for no longer than the target, if the window held data
    /// back: by what `growth_rate` delivers in the rest of that time, which is more than the channel's own rate where
    /// other channels of the link have larger shares, and by `additive` bytes at least. As in AIMD (Chiu and Jain,
    /// 1989), channels that share a bottleneck approach equal windows, because they shrink by the same factor.
    pub(super) fn grow(&mut self, round: &Round, measured: Measurement, growth_rate: f64, additive: u64) {
        let Measurement { queueing_delay, target, .. } = measured;
        if !round.is_cwnd_limited {
            return;
        }
        if queueing_delay <= target / 2 || self.is_in_slow_start() {
            // The time that a probe waits for the bytes before it may be more than half of the target.
            let spare_delay = typical_delay(target).saturating_sub(queueing_delay);
            let step = self.growth_steps.map_or(self.cwnd, |steps| {
                let step = growth_rate * spare_delay.as_secs_f64() * f64::from(1 << steps.min(20));
                (step as u64).min(self.cwnd / 4)
            });
            self.cwnd += step.max(additive);
            self.growth_steps = self.growth_steps.map(|steps| steps + 1);
        } else {
            self.cwnd += additive;
            self.growth_steps = self.growth_steps.map(|_| 0);
        }
    }
}

/// Returns how long data queues with the window that is aimed at: three quarters of the target.
pub(super) fn typical_delay(target: Duration) -> Duration {
    target / 2 + target / 4
}
