//! Tests of the token bucket, with injected times.

use proptest::prelude::*;

use super::*;

fn bucket(rate: u64, now: Instant) -> TokenBucket {
    let bucket = TokenBucket::new(now);
    bucket.set_rate(Rate::new(rate), now);
    bucket
}

#[test]
fn reservations_become_usable_at_the_rate() {
    let begin = Instant::now();
    let bucket = bucket(1000, begin);
    for second in 1..=5 {
        let reservation = bucket.reserve(1000, begin);
        assert_eq!(reservation.usable_at, Some(begin + Duration::from_secs(second)));
    }
}

#[test]
fn a_pause_saves_up_one_burst_at_most() {
    let begin = Instant::now();
    let bucket = bucket(1000, begin);
    let later = begin + Duration::from_secs(3600);
    assert_eq!(bucket.reserve(100, later).usable_at, Some(later), "a burst is 100 ms of the rate");
    assert_eq!(bucket.reserve(100, later).usable_at, Some(later + Duration::from_millis(100)));
}

#[test]
fn refunded_bytes_are_available_to_the_next_reservation() {
    let begin = Instant::now();
    let bucket = bucket(1000, begin);
    let first = bucket.reserve(1000, begin);
    bucket.refund(900, first.epoch);
    assert_eq!(bucket.reserve(100, begin).usable_at, Some(begin + Duration::from_millis(200)));
}

#[test]
fn another_rate_empties_the_bucket_and_voids_reservations() {
    let begin = Instant::now();
    let bucket = bucket(1, begin);
    let slow = bucket.reserve(1000, begin);
    assert_eq!(bucket.set_rate(Rate::new(1000), begin), Rate::new(1));
    assert_ne!(bucket.epoch(), slow.epoch);
    bucket.refund(1000, slow.epoch);
    assert_eq!(bucket.reserve(1000, begin).usable_at, Some(begin + Duration::from_secs(1)));
    bucket.set_rate(None, begin);
    assert_eq!((bucket.reserve(1000, begin).usable_at, bucket.grant_bytes()), (None, None));
}

proptest! {
    /// Whatever is reserved, however late its bytes pass, and whatever is refunded: in no interval do more bytes pass
    /// than the rate and one burst allow.
    #[test]
    fn no_more_than_rate_and_burst_passes(
        rate in 1u64..10_000_000_000,
        requests in prop::collection::vec((1u64..100_000, 0u64..50_000_000, 0u64..3), 1..200),
    ) {
        let begin = Instant::now();
        let bucket = bucket(rate, begin);
        let (mut now, mut passed) = (begin, 0u64);
        for (bytes, late, part) in requests {
            let reservation = bucket.reserve(bytes, now);
            now = now.max(reservation.usable_at.unwrap()) + Duration::from_nanos(late);
            let used = bytes * part / 2;
            bucket.refund(bytes - used, reservation.epoch);
            passed += used;
            let allowed = rate as f64 * (now - begin + BURST).as_secs_f64();
            // Times are rounded to nanoseconds.
            prop_assert!(passed as f64 <= allowed * 1.000_001 + 400.0 * (1.0 + rate as f64 * 1e-9));
        }
    }

    #[test]
    fn a_grant_takes_no_longer_than_a_burst(rate in 1u64..1_000_000_000_000) {
        let now = Instant::now();
        let grant = bucket(rate, now).grant_bytes().unwrap();
        prop_assert!((1..=MAX_GRANT_BYTES).contains(&grant));
        prop_assert!(grant == 1 || fill_time(grant, Rate::new(rate).unwrap()) <= BURST);
    }
}
