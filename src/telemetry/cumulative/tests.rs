//! Every value is counted in the bucket whose bound is at least as large.

use std::time::Duration;

use crate::telemetry::CumulativeHistogram;

#[test]
fn a_value_counts_below_the_first_bound_that_it_does_not_exceed() {
    let sizes = CumulativeHistogram::of_sizes();
    for value in [0, 100, 101, 1_000, u64::from(u32::MAX) * 1000] {
        sizes.record(value);
    }
    let counts = sizes.counts();
    assert_eq!(counts.bounds[..2], [100, 1_000]);
    assert_eq!(counts.counts[..3], [2, 2, 0]);
    assert_eq!(counts.counts.last(), Some(&1), "beyond the last bound");
    assert_eq!((counts.count(), counts.sum), (5, 1_201 + u64::from(u32::MAX) * 1000));
}

#[test]
fn the_bounds_ascend() {
    for histogram in [
        CumulativeHistogram::of_sizes(),
        CumulativeHistogram::of_latencies(),
        CumulativeHistogram::of_durations(),
    ] {
        let bounds = histogram.counts().bounds;
        assert!(bounds.is_sorted_by(|a, b| a < b), "{bounds:?}");
    }
}

#[test]
fn durations_are_counted_in_microseconds() {
    let latencies = CumulativeHistogram::of_latencies();
    latencies.record_duration(Duration::from_millis(3));
    latencies.record_duration(Duration::from_secs(3600));
    let counts = latencies.counts();
    assert_eq!((counts.count(), counts.sum), (2, 3_600_003_000));
}
