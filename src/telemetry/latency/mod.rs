//! Latency histograms over the last 5 to 10 minutes, and their summaries.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::micros;

#[cfg(test)]
mod tests;

/// The largest latency that a histogram distinguishes, in microseconds: ten minutes. No connect waits as long.
const MAX_LATENCY_US: u64 = 600_000_000;

/// The number of significant decimal digits of a recorded latency. Screens show no more, and a third digit would take
/// 80 KiB for each [`LatencyHistogram`] where two take 12.
const SIGNIFICANT_DIGITS: u8 = 2;

/// How long a histogram is filled before it becomes the previous one, which still counts. An operator wants to know the
/// present latency: after a month of uptime, nothing that happens now would change a percentile over all values.
const PERIOD: Duration = Duration::from_secs(300);

/// The maximum age of a cached summary. Computing one visits a few thousand buckets.
const MAX_SUMMARY_AGE: Duration = Duration::from_secs(1);

/// Percentiles and the distribution of a latency over the last 5 to 10 minutes: the present period and the one before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LatencySummary {
    /// The number of recorded latencies.
    pub count: u64,
    /// The median latency.
    #[serde(rename = "p50_us", with = "micros")]
    pub p50: Duration,
    /// The 90th percentile of the latency.
    #[serde(rename = "p90_us", with = "micros")]
    pub p90: Duration,
    /// The 99th percentile of the latency.
    #[serde(rename = "p99_us", with = "micros")]
    pub p99: Duration,
    /// The largest recorded latency.
    #[serde(rename = "max_us", with = "micros")]
    pub max: Duration,
    /// The number of values in each bar of a logarithmic chart: below 128 µs, from there below 256 µs, and so on by
    /// powers of two. The last bar has no upper bound.
    pub bars: [u64; Self::BARS],
}

impl LatencySummary {
    /// The number of [`bars`](Self::bars); the last one begins at 2 s.
    pub const BARS: usize = 16;

    /// Returns the upper bound of the latencies in bar number `bar`; `None` for the last one, which has none.
    pub fn bar_end(bar: usize) -> Option<Duration> {
        (bar + 1 < Self::BARS).then(|| Duration::from_micros(128 << bar))
    }
}

/// The latencies of the streams of one service or of one proxy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Latencies {
    /// Connect latency: from assigning a stream to a proxy until the proxy reported the connection to the target.
    pub connect: LatencySummary,
    /// Time to first byte (TTFB): from the user's first byte until the target's first byte was written to the user.
    /// Where the target speaks first, it counts from the assignment to a proxy. So a connection that a client opens in
    /// advance and uses later does not look slow.
    pub time_to_first_byte: LatencySummary,
    /// Queue wait: how long upload data waited in this process until it was handed to the writer of its channel.
    /// Sampled for some chunks of each stream.
    pub queue_wait: LatencySummary,
}

/// A histogram of one latency over the present period of 5 minutes and the one before.
///
/// Its buckets grow with the value (HDR histogram), so every percentile is right to two digits, however long the tail
/// is. A period's histogram is allocated at its first value, because many latencies are never measured.
#[derive(Debug, Default)]
pub struct LatencyHistogram(Mutex<HistogramPeriods>);

/// The histograms of the present period and of the one before.
#[derive(Debug, Default)]
struct HistogramPeriods {
    /// Values of the present period; `None` before its first value.
    present: Option<Histogram<u32>>,
    /// Values of the period before; `None` if it had none.
    previous: Option<Histogram<u32>>,
    /// When the present period began; `None` before the first value and after two periods without values.
    present_began: Option<Instant>,
}

impl HistogramPeriods {
    /// Starts a new period if the present one has lasted [`PERIOD`] at `now`, and drops the histogram that is then too
    /// old.
    fn rotate(&mut self, now: Instant) {
        let Some(began) = self.present_began else { return };
        let age = now.saturating_duration_since(began);
        if age >= PERIOD {
            let is_adjacent = age < 2 * PERIOD;
            self.previous = self.present.take().filter(|_| is_adjacent);
            self.present_began = is_adjacent.then(|| began + PERIOD);
        }
    }
}

impl LatencyHistogram {
    /// Records one value. Values below 1 µs or above ten minutes count as the nearest bound.
    pub fn record(&self, latency: Duration) {
        self.record_at(latency, Instant::now());
    }

    /// Records one value as of `now`. [`record`](Self::record) describes the range.
    fn record_at(&self, latency: Duration, now: Instant) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).clamp(1, MAX_LATENCY_US);
        let mut periods = self.0.lock();
        periods.rotate(now);
        periods.present_began.get_or_insert(now);
        if periods.present.is_none() {
            // Cannot fail: the bounds are valid constants.
            periods.present = Histogram::new_with_max(MAX_LATENCY_US, SIGNIFICANT_DIGITS).ok();
        }
        if let Some(histogram) = &mut periods.present {
            histogram.saturating_record(us);
        }
    }

    /// Returns percentiles and distribution over the present and the previous period, as of `now`.
    pub fn summary(&self, now: Instant) -> LatencySummary {
        let mut periods = self.0.lock();
        periods.rotate(now);
        let merged;
        let histogram = match (&periods.present, &periods.previous) {
            (Some(present), Some(previous)) => {
                let mut sum = present.clone();
                // Cannot fail: both have the same bounds.
                _ = sum.add(previous);
                merged = sum;
                &merged
            }
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => return LatencySummary::default(),
        };
        let at = |quantile| Duration::from_micros(histogram.value_at_quantile(quantile));
        let mut bars = [0; LatencySummary::BARS];
        for step in histogram.iter_recorded() {
            let octave = (step.value_iterated_to() / 128).checked_ilog2().map_or(0, |octave| octave + 1);
            bars[(octave as usize).min(LatencySummary::BARS - 1)] += u64::from(step.count_at_value());
        }
        LatencySummary {
            count: histogram.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            max: Duration::from_micros(histogram.max()),
            bars,
        }
    }
}

/// The histograms of the latencies of one service or of one proxy.
#[derive(Debug, Default)]
pub struct LatencyHistograms {
    /// Connect latency: from assigning a stream to a proxy until the proxy reported the connection to the target.
    pub connect: LatencyHistogram,
    /// Time to first byte (TTFB): from the user's first byte until the target's first byte was written to the user.
    pub time_to_first_byte: LatencyHistogram,
    /// Queue wait: how long upload data waited in this process until it was handed to the writer of its channel.
    pub queue_wait: LatencyHistogram,
    /// The last computed summaries, at most one second old when they are used.
    cached: CachedSummary<Latencies>,
}

impl LatencyHistograms {
    /// Returns summaries of the three latencies that are at most one second old at `now`.
    pub(super) fn summary(&self, now: Instant) -> Arc<Latencies> {
        self.cached.get(now, || Latencies {
            connect: self.connect.summary(now),
            time_to_first_byte: self.time_to_first_byte.summary(now),
            queue_wait: self.queue_wait.summary(now),
        })
    }
}

/// A value that is expensive to compute and is computed at most once a second, on demand.
#[derive(Debug, Default)]
pub(super) struct CachedSummary<T>(Mutex<(Option<Instant>, Arc<T>)>);

impl<T: PartialEq> CachedSummary<T> {
    /// Returns the cached value, or a new one from `compute` if that is a second old. An equal value keeps its `Arc`,
    /// by which readers see that nothing has changed.
    pub(super) fn get(&self, now: Instant, compute: impl FnOnce() -> T) -> Arc<T> {
        let (computed_at, value) = &mut *self.0.lock();
        if computed_at.is_none_or(|at| now.saturating_duration_since(at) >= MAX_SUMMARY_AGE) {
            *computed_at = Some(now);
            let new = compute();
            if **value != new {
                *value = Arc::new(new);
            }
        }
        value.clone()
    }
}
