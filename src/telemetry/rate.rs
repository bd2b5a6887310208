use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// The rate of a counter over a sliding window: never negative, and zero once a window has passed without progress.
#[derive(Debug, Clone)]
pub struct RateWindow {
    window: Duration,
    samples: VecDeque<(Instant, u64)>,
}

impl RateWindow {
    /// A window of one second, what every rate on screen is taken over.
    pub const SECOND: Duration = Duration::from_secs(1);

    /// A rate over `window`.
    pub fn new(window: Duration) -> Self {
        Self { window, samples: VecDeque::new() }
    }

    /// Notes that the counter stood at `value` at `now`. A counter that fell has started anew.
    pub fn push(&mut self, now: Instant, value: u64) {
        if self.samples.back().is_some_and(|&(_, last)| value < last) {
            self.samples.clear();
        }
        self.samples.push_back((now, value));
        // One sample beyond the window stays, so that the window is always covered whole.
        while self.samples.len() > 2 && now.duration_since(self.samples[1].0) >= self.window {
            self.samples.pop_front();
        }
    }

    /// Units a second over the window, as of the last [`push`](Self::push); 0 before there are two samples.
    pub fn per_second(&self) -> f64 {
        let (Some(&(then, before)), Some(&(now, value))) = (self.samples.front(), self.samples.back()) else {
            return 0.0;
        };
        let elapsed = now.duration_since(then).as_secs_f64();
        if elapsed <= 0.0 { 0.0 } else { (value - before) as f64 / elapsed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_covers_one_window_and_dies_with_the_stream() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut rate = RateWindow::new(RateWindow::SECOND);
        assert_eq!(rate.per_second(), 0.0);
        for tick in 0..=30u64 {
            rate.push(at(tick * 100), tick * 1000);
        }
        assert!((rate.per_second() - 10_000.0).abs() < 1.0, "{}", rate.per_second());
        for tick in 31..=42u64 {
            rate.push(at(tick * 100), 30_000);
        }
        assert_eq!(rate.per_second(), 0.0);
    }

    #[test]
    fn a_counter_that_starts_anew_gives_no_negative_rate() {
        let start = Instant::now();
        let mut rate = RateWindow::new(RateWindow::SECOND);
        rate.push(start, 5000);
        rate.push(start + Duration::from_millis(100), 10);
        assert_eq!(rate.per_second(), 0.0);
    }
}
