//! Tests of rates at irregular samples.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

#[test]
fn a_rate_covers_a_second_and_dies_with_the_counter() {
    let start = Instant::now();
    let (mut clock, mut meter) = (SampleClock::default(), RateMeter::default());
    for tick in 0..40u64 {
        clock.tick(start + Duration::from_millis(tick * 100));
        meter.record(&clock, tick.min(25) * 500);
        let rate = meter.per_second(&clock);
        match tick {
            0 => assert_eq!(rate, 0.0),
            1..=25 => assert!((rate - 5000.0).abs() < 1.0, "{tick}: {rate}"),
            35.. => assert_eq!(rate, 0.0),
            _ => assert!(rate < 5000.0),
        }
    }
}

#[test]
fn many_meters_say_what_one_says_and_a_place_that_is_used_again_begins_anew() {
    let start = Instant::now();
    let (mut clock, mut many, mut one) =
        (SampleClock::default(), RateMeters::default(), RateMeter::default());
    many.reserve(3);
    for tick in 0..60u64 {
        clock.tick(start + Duration::from_millis(tick * 90 + tick % 3 * 20));
        let value = tick * tick * 1000;
        one.record(&clock, value);
        let anew = tick == 0 || tick == 40;
        let (down, up) = many.record(&clock, 2, anew, (value, 7));
        if (40..45).contains(&tick) {
            assert!((down == 0.0) == anew, "{tick}: {down}");
        } else if !(40..52).contains(&tick) {
            assert_eq!(down, one.per_second(&clock) as f32, "{tick}");
        }
        assert_eq!(up, 0.0);
    }
}

proptest! {
    /// However irregularly samples come, once a second at the least, and whatever the counter does before: no rate is
    /// ever negative or none, and two seconds after the counter stopped it is zero.
    #[test]
    fn what_stopped_shows_zero_within_two_seconds(
        samples in prop::collection::vec((10u64..=1000, 0u64..1_000_000_000_000), 1..40),
        quiet in prop::collection::vec(10u64..=1000, 1..60),
    ) {
        let start = Instant::now();
        let (mut clock, mut meter, mut many) =
            (SampleClock::default(), RateMeter::default(), RateMeters::default());
        many.reserve(1);
        let mut rate = RateWindow::new(RateWindow::SECOND);
        let (mut ms, mut value, mut first) = (0, 0, true);
        let mut sample = |ms, value| {
            let now = start + Duration::from_millis(ms);
            clock.tick(now);
            meter.record(&clock, value);
            rate.push(now, value);
            let (of_many, _) = many.record(&clock, 0, std::mem::take(&mut first), (value, 0));
            [meter.per_second(&clock), rate.per_second(), of_many.into()]
        };
        for (after, more) in &samples {
            (ms, value) = (ms + after, value + more);
            let rates = sample(ms, value);
            prop_assert!(rates.iter().all(|rate| rate.is_finite() && *rate >= 0.0), "{rates:?}");
        }
        let stopped = ms;
        for after in quiet {
            ms += after;
            let rates = sample(ms, value);
            prop_assert!(rates.iter().all(|rate| rate.is_finite() && *rate >= 0.0), "{rates:?}");
            prop_assert!(ms < stopped + 2000 || rates == [0.0; 3], "{} ms later: {rates:?}", ms - stopped);
        }
    }
}

#[test]
fn slow_samples_and_a_counter_that_starts_anew_give_no_nonsense() {
    let start = Instant::now();
    let (mut clock, mut meter) = (SampleClock::default(), RateMeter::default());
    for (tick, value, expected) in [(0, 0, 0.0), (1, 3000, 1500.0), (2, 10, 0.0), (3, 2010, 1000.0)] {
        clock.tick(start + Duration::from_secs(tick * 2));
        meter.record(&clock, value);
        assert_eq!(meter.per_second(&clock), expected, "{tick}");
    }
}
