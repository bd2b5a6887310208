//! A rate covers its window, falls to zero, and is never negative.

use super::*;

#[test]
fn a_rate_covers_one_window_and_falls_to_zero_with_the_counter_at_rest() {
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
fn a_restarted_counter_gives_no_negative_rate() {
    let start = Instant::now();
    let mut rate = RateWindow::new(RateWindow::SECOND);
    rate.push(start, 5000);
    rate.push(start + Duration::from_millis(100), 10);
    assert_eq!(rate.per_second(), 0.0);
}
