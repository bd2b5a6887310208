//! Tests of rate limits that streams share, with injected times.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use super::{
    super::{RateLimit, RateLimitCount},
    *,
};
use crate::ids::Rate;

/// Creates streams whose proxy limit is shared.
struct SharedLimitFixture {
    count: RateLimitCount,
    shared: Arc<RateLimit>,
}

impl SharedLimitFixture {
    fn new() -> Self {
        let count = RateLimitCount::default();
        Self { shared: RateLimit::new(&count), count }
    }

    fn stream(&self) -> (Pacer, Arc<RateLimit>) {
        let own = RateLimit::new(&self.count);
        let others = [RateLimit::new(&self.count), self.shared.clone(), RateLimit::new(&self.count)];
        let [user, proxy, service] = others;
        let token = RateLimit::new(&self.count);
        let limits = StreamRateLimits::new([own.clone(), user, proxy, service, token]);
        (Pacer::new(Some(limits), Direction::Down), own)
    }
}

/// Returns how many bytes each of `streams` transfers in `time` if all of them always want more, by a clock with a
/// resolution of one millisecond, like that of timers.
fn run(streams: &mut [Pacer], begin: Instant, time: Duration) -> Vec<u64> {
    let mut passed = vec![0; streams.len()];
    let mut now = begin;
    while now < begin + time {
        for (stream, passed) in streams.iter_mut().zip(&mut passed) {
            while let Ok(bytes) = stream.request(u64::MAX, now) {
                stream.settle(bytes);
                *passed += bytes;
            }
        }
        now += Duration::from_millis(1);
    }
    passed
}

fn near(passed: u64, expected: u64) {
    assert!(passed.abs_diff(expected) <= expected / 40, "{passed} bytes, not about {expected}");
}

#[test]
fn an_unlimited_stream_is_free() {
    let fixture = SharedLimitFixture::new();
    let (mut stream, own) = fixture.stream();
    let begin = Instant::now();
    assert!(stream.is_free() && Pacer::new(None, Direction::Up).is_free());
    own.set(Direction::Up, Rate::new(1), begin);
    assert!(!stream.is_free());
    assert_eq!(stream.request(7, begin), Ok(7), "the other direction is unlimited");
    own.set(Direction::Up, None, begin);
    assert!(stream.is_free());
    fixture.shared.set(Direction::Down, Rate::new(1), begin);
    drop((stream, own));
    assert_eq!(fixture.count.limits.load(Relaxed), 1);
    drop(fixture.shared);
    assert_eq!(fixture.count.limits.load(Relaxed), 0, "a dropped limit is no longer counted");
}

#[test]
fn the_strictest_limit_applies() {
    let fixture = SharedLimitFixture::new();
    let (stream, own) = fixture.stream();
    let begin = Instant::now();
    fixture.shared.set(Direction::Down, Rate::new(20_000_000), begin);
    own.set(Direction::Down, Rate::new(10_000_000), begin);
    let mut streams = [stream];
    near(run(&mut streams, begin, Duration::from_secs(5))[0], 50_000_000);
}

#[test]
fn a_shared_limit_is_divided_equally_and_unused_shares_are_redistributed() {
    let fixture = SharedLimitFixture::new();
    let begin = Instant::now();
    fixture.shared.set(Direction::Down, Rate::new(10_000_000), begin);
    let (mut streams, owns): (Vec<_>, Vec<_>) = (0..20).map(|_| fixture.stream()).unzip();
    // A stream with a stricter limit of its own leaves the rest of its share to the others.
    owns[0].set(Direction::Down, Rate::new(100_000), begin);
    let passed = run(&mut streams, begin, Duration::from_secs(5));
    near(passed[0], 500_000);
    near(passed.iter().sum(), 50_000_000);
    for &passed in &passed[1..] {
        near(passed, 49_500_000 / 19);
    }
}

#[test]
fn a_changed_rate_applies_to_waiting_streams() {
    let fixture = SharedLimitFixture::new();
    let (mut stream, own) = fixture.stream();
    let begin = Instant::now();
    own.set(Direction::Down, Rate::new(1), begin);
    assert!(stream.request(1000, begin).is_err());
    own.set(Direction::Down, Rate::new(1_000_000), begin);
    near(run(std::slice::from_mut(&mut stream), begin, Duration::from_secs(1))[0], 1_000_000);
    assert!(stream.request(1000, begin).is_err());
    own.set(Direction::Down, None, begin);
    assert_eq!(stream.request(1000, begin), Ok(1000));
}

#[test]
fn a_stream_that_ends_while_waiting_delays_no_other() {
    let fixture = SharedLimitFixture::new();
    let begin = Instant::now();
    fixture.shared.set(Direction::Down, Rate::new(1000), begin);
    let waiting: Vec<_> = (0..100)
        .map(|_| {
            let (mut stream, _) = fixture.stream();
            stream.request(u64::MAX, begin).unwrap_err();
            stream
        })
        .collect();
    drop(waiting);
    let (mut stream, _) = fixture.stream();
    assert!(stream.request(50, begin).unwrap_err() <= begin + Duration::from_millis(51));
}
