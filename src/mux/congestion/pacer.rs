//! Spreads the data of a congestion window over a round trip after a pause.

use std::time::{Duration, Instant};

/// By how much faster than the window allows over a round trip data is sent after a pause. A queue of this share of the
/// RTT builds until the window is full again: with 1.05, pings beside downloads at an RTT of 200 ms took 25 ms longer
/// then.
const GAIN: f64 = 1.02;

/// For how long data may be sent without pacing, as a time at the paced rate: a task that was woken late sends at once
/// what it should have sent meanwhile, while the queue that it found has drained.
const BURST: Duration = Duration::from_millis(25);

/// The same after a time without data: the queue is empty then, and so much may queue in any case.
const BURST_AFTER_PAUSE: Duration = Duration::from_millis(8);

/// The fewest bytes that may be sent at once: a chunk of a slow channel with what the kernel sends at once.
const MIN_BURST: f64 = 16.0 * 1024.0;

/// A token bucket that fills at [`GAIN`] times the congestion window per round trip.
///
/// While acknowledgements arrive, they pace the data, and the bucket stays full. After the kernel has drained the path
/// to measure its minimum RTT (BBR does so for 200 ms in every ten seconds), or once the receiver grants credit that a
/// lost segment has held back, the whole window would be sent at once: on a path of 50 Mbit/s and 200 ms that filled a
/// queue of 100 ms and lost 200 segments, although the window was right.
#[derive(Debug, Default)]
pub(super) struct Pacer {
    /// How many bytes may be sent now; negative after more were sent. `None` before the first update.
    tokens: Option<f64>,
    /// When `tokens` was last updated.
    updated_at: Option<Instant>,
    /// The paced rate, in bytes per second.
    rate: f64,
}

impl Pacer {
    /// Adds what a window of `cwnd` bytes may send in the time since the last update, on a path with this RTT.
    pub(super) fn update(&mut self, cwnd: u64, rtt: Duration, now: Instant) {
        self.rate = cwnd as f64 / rtt.as_secs_f64().max(0.001) * GAIN;
        let burst = self.burst(BURST);
        let elapsed = self.updated_at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let tokens = self.tokens.map_or(burst, |tokens| tokens + self.rate * elapsed.as_secs_f64());
        (self.tokens, self.updated_at) = (Some(tokens.min(burst)), Some(now));
    }

    /// Returns how many bytes are sent in this time, and at least [`MIN_BURST`].
    fn burst(&self, time: Duration) -> f64 {
        (self.rate * time.as_secs_f64()).max(MIN_BURST)
    }

    /// Records that the sender has no data.
    pub(super) fn on_app_limited(&mut self) {
        let burst = self.burst(BURST_AFTER_PAUSE);
        self.tokens = self.tokens.map(|tokens| tokens.min(burst));
    }

    /// Leaves tokens for so much that the kernel has [`MIN_BURST`] to send, of which it has `unsent` bytes: while it
    /// drains the path, it would send all that it gets at once afterwards.
    pub(super) fn hold(&mut self, unsent: u64) {
        if let Some(tokens) = &mut self.tokens {
            *tokens = tokens.min(MIN_BURST - unsent as f64);
        }
    }

    /// Takes the tokens for `bytes` that are sent.
    pub(super) fn on_data_sent(&mut self, bytes: u64) {
        if let Some(tokens) = &mut self.tokens {
            *tokens -= bytes as f64;
        }
    }

    /// Returns whether data has to wait for the next update.
    pub(super) fn is_limited(&self) -> bool {
        self.tokens.is_some_and(|tokens| tokens <= 0.0)
    }
}
