//! Notices when the kernel's slow start has filled the path.

use std::time::Duration;

use super::round::Round;

/// The window of the kernel in slow start is not limited before data queues for the minimum RTT divided by this number,
/// within [`MIN_DELAY`] and [`MAX_DELAY`], as in HyStart (Ha and Rhee, 2008).
const RTTS_PER_DELAY: u32 = 8;

/// The least queueing delay that ends slow start: less is the burst of one window.
const MIN_DELAY: Duration = Duration::from_millis(4);

/// A queueing delay that ends slow start in any case.
const MAX_DELAY: Duration = Duration::from_millis(16);

/// In slow start, which doubles the rate in every round trip, each round delivers at least this many times as much as
/// all before.
pub(super) const GAIN: f64 = 1.25;

/// The slow start of a channel's kernel.
#[derive(Debug, Default)]
pub(super) struct SlowStart {
    /// The highest delivery rate of a round, in bytes per second.
    rate: f64,
}

impl SlowStart {
    /// Records a round that has delivered `rate` bytes per second, while other channels of the link delivered
    /// `others_rate`. Returns the rate that the channel has of the path if that is full: data has queued, and hardly
    /// more was delivered than in an earlier round. A queue alone is the burst of one window, and a rate alone that of
    /// a pause. If the sender had nothing to send for a while, data must have queued for the whole round.
    ///
    /// Where other channels deliver more, the queue shows that they fill the path: slow start would take their rate
    /// from them, and filled a queue of 50 ms for seconds.
    pub(super) fn on_round(
        &mut self,
        round: &Round,
        rate: f64,
        others_rate: f64,
        min_rtt: Duration,
    ) -> Option<f64> {
        let rtt = if round.is_app_limited { round.min_rtt() } else { round.max_rtt() };
        let is_queued = rtt.saturating_sub(min_rtt) > delay(min_rtt);
        let has_grown = rate > self.rate * GAIN;
        self.rate = self.rate.max(rate);
        (is_queued && (!has_grown || others_rate > rate)).then_some(self.rate)
    }
}

/// Returns the queueing delay that ends slow start on a path with this minimum RTT.
fn delay(min_rtt: Duration) -> Duration {
    (min_rtt / RTTS_PER_DELAY).clamp(MIN_DELAY, MAX_DELAY)
}
