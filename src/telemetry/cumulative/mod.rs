//! Cumulative histograms: how many values were recorded since the start, by fixed bounds.
//!
//! A [`LatencyHistogram`](super::LatencyHistogram) shows an operator the last minutes. A monitoring system wants counts
//! that only grow, from which it computes rates and percentiles over any time.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use super::micros;

#[cfg(test)]
mod tests;

/// The bounds of latencies in microseconds: from a connect on loopback to the longest that a proxy may take.
const LATENCY_BOUNDS: &[u64] = &[
    100, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000, 30_000_000,
];

/// The bounds of the durations of streams in microseconds: from a request to a session of a day.
const DURATION_BOUNDS: &[u64] = &[
    10_000,
    100_000,
    500_000,
    1_000_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    300_000_000,
    900_000_000,
    3_600_000_000,
    14_400_000_000,
    86_400_000_000,
];

/// The bounds of the bytes of a stream in one direction: from a request to a disk image.
const SIZE_BOUNDS: &[u64] = &[
    100,
    1_000,
    10_000,
    100_000,
    1_000_000,
    10_000_000,
    100_000_000,
    1_000_000_000,
    10_000_000_000,
    100_000_000_000,
];

/// Counts of values, by fixed bounds, since the object was registered. They only grow.
#[derive(Debug)]
pub struct CumulativeHistogram {
    /// The largest value of each bucket but the last one, ascending.
    bounds: &'static [u64],
    /// The number of values in each bucket. The last one has no upper bound.
    counts: Box<[AtomicU64]>,
    /// The sum of all values.
    sum: AtomicU64,
}

impl CumulativeHistogram {
    /// Creates a histogram of latencies, in microseconds.
    pub fn of_latencies() -> Self {
        Self::new(LATENCY_BOUNDS)
    }

    /// Creates a histogram of the durations of streams, in microseconds.
    pub fn of_durations() -> Self {
        Self::new(DURATION_BOUNDS)
    }

    /// Creates a histogram of sizes, in bytes.
    pub fn of_sizes() -> Self {
        Self::new(SIZE_BOUNDS)
    }

    /// Creates a histogram with these bounds, which ascend.
    fn new(bounds: &'static [u64]) -> Self {
        Self {
            bounds,
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
        }
    }

    /// Records a value, in the unit of the bounds: two relaxed additions.
    pub fn record(&self, value: u64) {
        let bucket = self.bounds.partition_point(|&bound| bound < value);
        self.counts[bucket].fetch_add(1, Relaxed);
        self.sum.fetch_add(value, Relaxed);
    }

    /// Records a duration in microseconds.
    pub fn record_duration(&self, duration: Duration) {
        self.record(micros::count(duration));
    }

    /// Returns the present counts.
    pub fn counts(&self) -> HistogramCounts {
        HistogramCounts {
            bounds: self.bounds,
            counts: self.counts.iter().map(|count| count.load(Relaxed)).collect(),
            sum: self.sum.load(Relaxed),
        }
    }
}

/// The counts of a [`CumulativeHistogram`] at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistogramCounts {
    /// The largest value of each bucket but the last one, ascending.
    pub bounds: &'static [u64],
    /// The number of values in each bucket. The last one has no upper bound.
    pub counts: Vec<u64>,
    /// The sum of all values.
    pub sum: u64,
}

impl HistogramCounts {
    /// Returns the number of all values.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}
