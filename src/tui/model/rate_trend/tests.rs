//! Tests of the ring of recent rates.

use super::*;

#[test]
fn the_last_seconds_are_remembered_and_no_more() {
    let mut trend = RateTrend::default();
    let down = |trend: &RateTrend, count| trend.last(count).map(|(down, _)| down).collect::<Vec<_>>();
    assert_eq!(down(&trend, 2), [0.0, 0.0]);
    trend.push(1.0, 9.0);
    assert_eq!((down(&trend, 3), trend.len()), (vec![0.0, 0.0, 1.0], 1));
    for second in 2..=100u8 {
        trend.push(second.into(), 0.0);
    }
    assert_eq!((down(&trend, 3), trend.len()), (vec![98.0, 99.0, 100.0], SECONDS));
    assert_eq!(down(&trend, SECONDS)[0], 69.0);
    assert_eq!(down(&trend, SECONDS + 1)[0], 0.0);
}
