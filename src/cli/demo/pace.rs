use std::{num::NonZeroU64, time::Duration};

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

/// What may be caught up after a wait that took too long. Timers are a millisecond coarse and late on a busy machine;
/// without it each delay would lower the rate for good.
const CATCH_UP: Duration = Duration::from_millis(50);

/// How often a paced transfer should move at least, so that it looks like a slow line and not like a stutter.
const STEPS_A_SECOND: u64 = 50;

/// A token bucket: all who share it move at most `rate` bytes a second together.
#[derive(Debug)]
pub struct PacedRate {
    rate: NonZeroU64,
    /// When everything taken so far will have been paid for.
    paid: Mutex<Option<Instant>>,
}

impl PacedRate {
    /// A bucket that fills with `rate` bytes a second.
    pub fn new(rate: NonZeroU64) -> Self {
        Self { rate, paid: Mutex::new(None) }
    }

    /// How many bytes to move between two calls of [`acquire`](Self::acquire), at most `limit`.
    pub fn step(&self, limit: usize) -> usize {
        (self.rate.get() / STEPS_A_SECOND).clamp(512, limit as u64) as usize
    }

    /// Waits until `bytes` more are due. Whoever comes later waits behind.
    pub async fn acquire(&self, bytes: usize) {
        let due = {
            let mut paid = self.paid.lock();
            let now = Instant::now();
            let from = match *paid {
                Some(paid) => paid.max(now.checked_sub(CATCH_UP).unwrap_or(now)),
                None => now,
            };
            let due = from + Duration::from_secs_f64(bytes as f64 / self.rate.get() as f64);
            *paid = Some(due);
            due
        };
        sleep_until(due).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(rate: u64) -> PacedRate {
        PacedRate::new(NonZeroU64::new(rate).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn ten_seconds_of_bytes_take_ten_seconds() {
        let pace = pace(1_000_000);
        let start = Instant::now();
        let mut left = 10_000_000;
        while left > 0 {
            let step = pace.step(65_536).min(left);
            pace.acquire(step).await;
            left -= step;
        }
        let took = start.elapsed().as_secs_f64();
        assert!((9.9..10.1).contains(&took), "{took}");
    }

    #[tokio::test(start_paused = true)]
    async fn two_share_one_rate() {
        let pace = pace(1_000_000);
        let start = Instant::now();
        let half = async {
            for _ in 0..100 {
                pace.acquire(10_000).await;
            }
            start.elapsed().as_secs_f64()
        };
        let other = async {
            for _ in 0..100 {
                pace.acquire(10_000).await;
            }
            start.elapsed().as_secs_f64()
        };
        let (a, b) = tokio::join!(half, other);
        assert!((1.9..2.1).contains(&a) && (1.9..2.1).contains(&b), "{a} {b}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_hour_buys_no_burst() {
        let pace = pace(1_000_000);
        pace.acquire(1).await;
        tokio::time::advance(Duration::from_secs(3600)).await;
        let start = Instant::now();
        for _ in 0..100 {
            pace.acquire(10_000).await;
        }
        let took = start.elapsed().as_secs_f64();
        assert!((0.9..1.05).contains(&took), "{took}");
    }
}
