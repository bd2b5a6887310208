//! The rate of a counter.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

#[cfg(test)]
mod tests;

/// The rate of a counter over a sliding window: never negative, and zero once the counter has stood still for a window.
#[derive(Debug, Clone)]
pub struct RateWindow {
    /// The length of the sliding window over which the rate is measured.
    window: Duration,
    /// Readings of the counter with their times, the oldest first.
    samples: VecDeque<(Instant, u64)>,
}

impl RateWindow {
    /// The window of every rate on the screens: one second.
    pub const SECOND: Duration = Duration::from_secs(1);

    /// Returns a rate over a window of this length, without readings.
    pub fn new(window: Duration) -> Self {
        Self { window, samples: VecDeque::new() }
    }

    /// Adds a reading of the counter. A reading below the last one means that the counter was restarted: older readings
    /// are discarded.
    pub fn push(&mut self, now: Instant, value: u64) {
        if self.samples.back().is_some_and(|&(_, last)| value < last) {
            self.samples.clear();
        }
        self.samples.push_back((now, value));
        // One reading older than the window is kept, so that the readings always cover the whole window.
        while self.samples.len() > 2 && now.duration_since(self.samples[1].0) >= self.window {
            self.samples.pop_front();
        }
    }

    /// Returns the mean rate per second over the window that ends with the last reading; 0 before the second reading.
    pub fn per_second(&self) -> f64 {
        let (Some(&(then, before)), Some(&(now, value))) = (self.samples.front(), self.samples.back()) else {
            return 0.0;
        };
        let elapsed = now.duration_since(then).as_secs_f64();
        if elapsed <= 0.0 { 0.0 } else { (value - before) as f64 / elapsed }
    }
}
