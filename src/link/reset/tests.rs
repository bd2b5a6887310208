//! Tests of how long the data before a reset may take.

use super::*;

#[test]
fn a_delivery_ends_after_30_seconds_although_it_makes_progress() {
    let (began, mut timer) = (Instant::now(), StallTimer::start(0));
    let ends_after = timer.ends_at - began;
    assert!((30..31).contains(&ends_after.as_secs()), "{ends_after:?}");
    assert!(timer.update(1, false, Duration::ZERO).is_some());
    timer.ends_at = Instant::now();
    assert_eq!(timer.update(2, false, Duration::ZERO), None);
}
