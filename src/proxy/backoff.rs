//! Exponential backoff with jitter between attempts to connect.

use std::time::Duration;

#[cfg(test)]
mod tests;

/// How long after a refusal for good a server is asked again: its operator may have removed the reason. A wrong token
/// is not sent often enough to block the address, which ten in ten minutes do.
pub(super) const PAUSE_AFTER_REFUSAL: Duration = Duration::from_secs(300);

/// Computes the pauses between attempts: the upper bound doubles with each failure, and each pause is random between
/// half of it and all of it. The jitter keeps the proxies of a restarted server from reconnecting at the same moment.
#[derive(Debug)]
pub(super) struct Backoff {
    /// The shortest pause between two attempts to connect.
    min: Duration,
    /// The longest pause between two attempts to connect.
    max: Duration,
    /// The upper bound of the next pause, before jitter.
    next: Duration,
}

impl Backoff {
    /// Creates a backoff whose pauses are between `min` and `max`.
    pub(super) fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, next: min }
    }

    /// Returns the next pause, and doubles the bound of the one after it.
    pub(super) fn next_pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (self.next * 2).min(self.max);
        pause.mul_f64(rand::random_range(0.5..=1.0)).max(self.min)
    }

    /// Starts again with the shortest pause, after a success.
    pub(super) fn reset(&mut self) {
        self.next = self.min;
    }
}
