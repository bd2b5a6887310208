//! Tests of the time between two samples.

use super::*;

#[test]
fn expensive_samples_are_taken_more_rarely_and_at_least_once_a_second() {
    let interval = |cost, refresh| {
        sample_interval(Duration::from_micros(cost), Duration::from_millis(refresh)).as_millis()
    };
    // A fiftieth of 100 ms.
    assert_eq!([0, 2_000].map(|cost| interval(cost, 100)), [100, 100]);
    assert_eq!([2_100, 10_000, 20_000, 5_000_000].map(|cost| interval(cost, 100)), [120, 500, 1_000, 1_000]);
    // What the operator wants holds, however little a sample costs.
    assert_eq!([0, 5_000_000].map(|cost| interval(cost, 2_000)), [2_000, 2_000]);
}
