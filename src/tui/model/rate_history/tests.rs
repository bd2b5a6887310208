//! Tests of the buckets of a chart.

use super::*;

#[test]
fn a_steady_flow_is_a_flat_line_however_it_is_sampled() {
    let start = Instant::now();
    for step in [90u64, 100, 330, 1000] {
        let mut history = RateHistory::default();
        let mut ms = 0;
        while ms < 150_000 {
            history.record(start + Duration::from_millis(ms), ms * 1000, ms * 10);
            ms += step;
        }
        for points in [10, 58, 116, 480] {
            let drawn: Vec<_> = history.points(points, 120).into_iter().flatten().collect();
            assert!(drawn.len() > points / 2, "{step} {points}: {}", drawn.len());
            for (down, up) in drawn {
                assert!((down - 1e6).abs() < 1.0 && (up - 1e4).abs() < 1.0, "{step} {points}: {down} {up}");
            }
        }
    }
}

#[test]
fn what_a_row_remembers_is_the_beginning_of_its_curve() {
    let mut trend = RateTrend::default();
    for second in 1..=10u8 {
        trend.push(f32::from(second) * 1000.0, 10.0);
    }
    let now = Instant::now() + Duration::from_secs(100);
    let mut history = RateHistory::from_trend(&trend, now, (55_000, 100));
    // What comes next goes on from there: nothing is counted twice.
    history.record(now + Duration::from_secs(2), 75_000, 120);
    let drawn: Vec<_> = history.points(30, 30).into_iter().flatten().collect();
    let down: Vec<f64> = drawn.iter().map(|(down, _)| down.round()).collect();
    let expected: Vec<f64> = (1..=10).map(|second| f64::from(second) * 1000.0).chain([10_000.0; 2]).collect();
    assert_eq!(down, expected);
    assert!(drawn.iter().all(|(_, up)| (up - 10.0).abs() < 0.1));
}

#[test]
fn no_history_is_no_line() {
    let mut history = RateHistory::default();
    assert!(history.points(8, 120).iter().all(Option::is_none));
    history.record(Instant::now(), 5, 5);
    assert!(history.points(8, 30).iter().all(Option::is_none));
}
