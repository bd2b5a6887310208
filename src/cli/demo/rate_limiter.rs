//! Rate limits of the demo's origin.

use std::{num::NonZeroU64, time::Duration};

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

/// Longest delay that a limiter makes up for. Timers have a resolution of a millisecond and fire late on a busy
/// machine; without this allowance each late wake-up would lower the rate for good.
const MAX_CATCH_UP: Duration = Duration::from_millis(50);

/// Minimum number of writes per second of a rate-limited transfer, so that it looks like a slow link instead of a
/// stutter.
const MIN_STEPS_PER_SECOND: u64 = 50;

/// A rate limiter. All tasks that share one move at most `rate` bytes per second together.
#[derive(Debug)]
pub struct DemoRateLimiter {
    /// The rate limit in bytes per second.
    rate: NonZeroU64,
    /// Time at which all bytes acquired so far have been sent at `rate`; `None` before the first ones.
    next_free: Mutex<Option<Instant>>,
}

impl DemoRateLimiter {
    /// Creates a limiter of `rate` bytes per second.
    pub fn new(rate: NonZeroU64) -> Self {
        Self { rate, next_free: Mutex::new(None) }
    }

    /// Returns how many bytes to transfer between two calls of [`acquire`](Self::acquire): a fiftieth of a second at
    /// this rate, at least 512 and at most `limit`.
    pub fn step(&self, limit: usize) -> usize {
        (self.rate.get() / MIN_STEPS_PER_SECOND).clamp(512, limit as u64) as usize
    }

    /// Waits until `bytes` more bytes may be transferred. Callers are served in the order of their calls.
    pub async fn acquire(&self, bytes: usize) {
        let due = {
            let mut next_free = self.next_free.lock();
            let now = Instant::now();
            let from = match *next_free {
                Some(next_free) => next_free.max(now.checked_sub(MAX_CATCH_UP).unwrap_or(now)),
                None => now,
            };
            let due = from + Duration::from_secs_f64(bytes as f64 / self.rate.get() as f64);
            *next_free = Some(due);
            due
        };
        sleep_until(due).await;
    }
}

#[cfg(test)]
mod tests;
