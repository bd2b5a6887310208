//! The history of two rates for a chart, in buckets of equal duration.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::RateTrend;

/// The duration of one bucket. A point of the chart is made of whole buckets, so that it never changes once it is
/// drawn.
const BUCKET: Duration = Duration::from_millis(250);
/// The number of buckets that are kept: one hour.
const BUCKETS: usize = 4 * 3600;

/// The time spans that a chart can cover, in seconds.
pub(crate) const CHART_WINDOWS: [u64; 6] = [30, 120, 300, 900, 1800, 3600];

/// The bytes forwarded in each interval of [`BUCKET`] in the last hour, for a chart of rates.
#[derive(Debug, Clone, Default)]
pub(crate) struct RateHistory {
    /// The number of the oldest bucket that is kept; bucket 0 begins at `start`.
    first: u64,
    /// Bytes to users and bytes to targets in each bucket. The last bucket is still being filled.
    buckets: VecDeque<(f64, f64)>,
    /// When bucket 0 begins: the time of the first sample, or of the first second of a trend; `None` before either.
    start: Option<Instant>,
    /// The time of the last sample, and the totals then: bytes to users, bytes to targets.
    last: Option<(Instant, u64, u64)>,
}

impl RateHistory {
    /// Creates a history that begins with the rates of a trend. `until` is the end of its last second; `(down, up)`
    /// are the byte totals of that time.
    pub(crate) fn from_trend(trend: &RateTrend, until: Instant, (down, up): (u64, u64)) -> Self {
        let mut history = Self::default();
        let known = trend.len();
        if let Some(start) = until.checked_sub(Duration::from_secs(known as u64)) {
            history.start = Some(start);
            for (second, (down, up)) in (0..).zip(trend.last(known)) {
                let from = Duration::from_secs(second);
                history.spread(from, from + Duration::from_secs(1), (down.into(), up.into()));
            }
            history.last = Some((until, down, up));
        }
        history
    }

    /// Returns whether the history has no bucket yet: the second sample, or a trend, adds the first one.
    pub(crate) fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }

    /// Records the byte totals of a sample, to the user and to the target: the bytes since the previous sample are
    /// distributed over the buckets between.
    pub(crate) fn record(&mut self, now: Instant, down: u64, up: u64) {
        let start = *self.start.get_or_insert(now);
        if let Some((then, old_down, old_up)) = self.last.replace((now, down, up)) {
            let bytes = (down.saturating_sub(old_down) as f64, up.saturating_sub(old_up) as f64);
            self.spread(then.duration_since(start), now.saturating_duration_since(start), bytes);
        }
    }

    /// Distributes the bytes between two samples over their buckets.
    fn spread(&mut self, from: Duration, to: Duration, (down, up): (f64, f64)) {
        let width = BUCKET.as_secs_f64();
        let (from, to) = (from.as_secs_f64() / width, to.as_secs_f64() / width);
        if to <= from {
            return;
        }
        // After a long gap, only buckets that are kept are filled.
        let begin = (from as u64).max((to as u64).saturating_sub(BUCKETS as u64));
        for number in begin..=to as u64 {
            let overlap = (to.min(number as f64 + 1.0) - from.max(number as f64)).max(0.0) / (to - from);
            let bucket = self.bucket(number);
            bucket.0 += down * overlap;
            bucket.1 += up * overlap;
        }
    }

    /// Returns the bucket with this number, after adding empty ones up to it. Returns the nearest one that is kept if
    /// it is too old.
    fn bucket(&mut self, number: u64) -> &mut (f64, f64) {
        while self.first + self.buckets.len() as u64 <= number {
            self.buckets.push_back((0.0, 0.0));
            if self.buckets.len() > BUCKETS {
                self.buckets.pop_front();
                self.first += 1;
            }
        }
        let at = usize::try_from(number.saturating_sub(self.first)).unwrap_or(0);
        let last = self.buckets.len() - 1;
        &mut self.buckets[at.min(last)]
    }

    /// Bytes per second of download and upload for the last `points` equal parts of `window` seconds, the oldest
    /// first; `None` before the history begins. Parts are aligned to whole buckets counted from the start, so that
    /// the curve moves without changing its shape.
    pub(crate) fn points(&self, points: usize, window: u64) -> Vec<Option<(f64, f64)>> {
        let buckets = Duration::from_secs(window).as_secs_f64() / BUCKET.as_secs_f64();
        let per_point = (buckets / points.max(1) as f64).round().max(1.0) as u64;
        let whole = self.first + self.buckets.len().saturating_sub(1) as u64;
        let end = whole / per_point;
        (0..points as u64)
            .map(|i| {
                let slice = (end + i).checked_sub(points as u64)?;
                let (from, to) = (slice * per_point, (slice + 1) * per_point);
                let mut sum = (0.0, 0.0);
                for number in from..to {
                    let at = usize::try_from(number.checked_sub(self.first)?).ok()?;
                    let (down, up) = self.buckets.get(at)?;
                    sum = (sum.0 + down, sum.1 + up);
                }
                let seconds = per_point as f64 * BUCKET.as_secs_f64();
                Some((sum.0 / seconds, sum.1 / seconds))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests;
