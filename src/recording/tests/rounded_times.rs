//! Times lose digits that no screen shows, and no more.

use std::time::Duration;

use crate::recording::rounding::{first_byte, first_byte_number};

#[test]
fn times_to_the_first_byte_keep_three_digits() {
    for (micros, kept) in [
        (0, 0),
        (7, 7),
        (999, 999),
        (1449, 1450),
        (1444, 1440),
        (14_499, 14_500),
        (144_999, 145_000),
        (9995, 10_000),
        (9994, 9990),
        (99_951, 100_000),
        (37_385_123, 37_400_000),
    ] {
        let number = first_byte_number(Duration::from_micros(micros));
        assert_eq!(first_byte(number), Duration::from_micros(kept), "{micros} µs");
        // A recording that is recorded again does not change.
        assert_eq!(first_byte(first_byte_number(first_byte(number))), first_byte(number), "{micros} µs");
    }
    for number in [u64::MAX, 30_999, 19_999] {
        assert!(first_byte(number) >= Duration::from_secs(1_000_000), "{number}");
    }
    assert_eq!(
        first_byte(first_byte_number(Duration::MAX)),
        Duration::from_micros(18_400_000_000_000_000_000)
    );
}
