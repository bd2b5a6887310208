//! Percentiles, their bounds, the memory of a histogram, its periods, and how long a summary is cached.

use super::*;

/// Compared with the sorted values themselves.
#[test]
fn percentiles_are_right_to_two_digits() {
    let histogram = LatencyHistogram::default();
    assert_eq!(histogram.summary(Instant::now()), LatencySummary::default());
    // From 40 µs to 4 s, most of them short, in no particular order.
    let mut all: Vec<u64> = (0..10_000u64).map(|n| 40 + (n * 7919 % 10_000).pow(3) / 250_000).collect();
    all.iter().for_each(|&us| histogram.record(Duration::from_micros(us)));
    all.sort_unstable();
    let latency = histogram.summary(Instant::now());
    assert_eq!(latency.count, 10_000);
    for (measured, at) in [(latency.p50, 4999), (latency.p90, 8999), (latency.p99, 9899), (latency.max, 9999)]
    {
        let (measured, exact) = (measured.as_secs_f64(), all[at] as f64 / 1e6);
        assert!((measured / exact - 1.0).abs() <= 0.01, "{measured} s, not {exact} s");
    }
    for (bar, count) in latency.bars.iter().enumerate() {
        let from = bar.checked_sub(1).and_then(LatencySummary::bar_end).unwrap_or_default();
        let until = LatencySummary::bar_end(bar).unwrap_or(Duration::MAX);
        let of = |us: &&u64| (from..until).contains(&Duration::from_micros(**us));
        assert_eq!(*count, all.iter().filter(of).count() as u64, "{from:?} to {until:?}");
    }
}

/// A suspended machine or a clock that jumps produces such values.
#[test]
fn values_out_of_range_count_as_the_nearest_bound() {
    let histogram = LatencyHistogram::default();
    _ = [Duration::ZERO, Duration::from_nanos(1), Duration::MAX, Duration::from_secs(u64::MAX)]
        .map(|took| histogram.record(took));
    let latency = histogram.summary(Instant::now());
    assert_eq!((latency.count, latency.p50), (4, Duration::from_micros(1)));
    let longest = Duration::from_micros(MAX_LATENCY_US);
    assert!((longest..longest.mul_f64(1.01)).contains(&latency.max), "{:?}", latency.max);
    assert_eq!((latency.bars[0], latency.bars[LatencySummary::BARS - 1]), (2, 2));
}

#[test]
fn a_histogram_takes_12_kib_and_is_allocated_at_its_first_value() {
    let histogram = LatencyHistogram::default();
    assert!(histogram.0.lock().present.is_none());
    histogram.record(Duration::from_millis(1));
    let counts = histogram.0.lock().present.as_ref().unwrap().distinct_values();
    assert!(counts * size_of::<u32>() <= 12 * 1024, "{counts} counts");
}

/// With one histogram since the start, a bad hour showed for ever, and after a good month a bad minute did not show.
#[test]
fn values_older_than_two_periods_do_not_count() {
    let (histogram, begin, ms) = (LatencyHistogram::default(), Instant::now(), Duration::from_millis);
    let at = |seconds| begin + Duration::from_secs(seconds);
    (0..1000).for_each(|_| histogram.record_at(ms(1), at(0)));
    histogram.record_at(ms(100), at(299));
    assert_eq!(histogram.summary(at(299)).count, 1001);
    (0..10).for_each(|_| histogram.record_at(ms(10), at(301)));
    let both = histogram.summary(at(599));
    assert_eq!((both.count, both.bars.iter().sum::<u64>()), (1011, 1011));
    assert!(both.max >= ms(100) && both.p50 < ms(2), "{both:?}");
    // The previous period expires with the present one, whether new values are recorded or not.
    let later = histogram.summary(at(601));
    assert_eq!(later.count, 10);
    assert!(later.p50 > ms(9) && later.max < ms(11), "{later:?}");
    histogram.record_at(ms(20), at(700));
    assert_eq!(histogram.summary(at(700)).count, 11);
    assert_eq!(histogram.summary(at(1300)), LatencySummary::default(), "nothing for two periods");
    histogram.record_at(ms(1), at(1350));
    assert_eq!([1649, 1651, 1949, 1951].map(|second| histogram.summary(at(second)).count), [1, 1, 1, 0]);
    // A clock that goes back discards nothing.
    histogram.record_at(ms(1), at(2400));
    histogram.record_at(ms(1), at(2000));
    assert_eq!(histogram.summary(at(1900)).count, 2);
}

#[test]
fn a_summary_is_computed_at_most_once_a_second_and_keeps_its_arc_while_equal() {
    let (latencies, begin) = (LatencyHistograms::default(), Instant::now());
    let at = |ms| latencies.summary(begin + Duration::from_millis(ms));
    assert_eq!(at(0).connect.count, 0);
    latencies.connect.record(Duration::from_millis(1));
    assert_eq!(at(999).connect.count, 0);
    let known = at(1000);
    assert_eq!(known.connect.count, 1);
    assert!(Arc::ptr_eq(&known, &at(5000)));
    // A clock that goes back must not panic.
    assert!(Arc::ptr_eq(&known, &latencies.summary(begin)));
}
