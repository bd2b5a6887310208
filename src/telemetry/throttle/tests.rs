//! A flood is reported in part and counted in full.

use super::*;

#[test]
fn a_flood_of_events_is_emitted_in_part_and_counted_in_full() {
    let (throttle, now) = (Throttle::default(), Instant::now());
    let emitted = (0..1000).filter(|_| throttle.admit(now).is_some()).count();
    assert_eq!(emitted, MAX_PER_SECOND as usize);
    assert_eq!(throttle.admit(now + Duration::from_secs(1)), Some(1000 - u64::from(MAX_PER_SECOND)));
    assert_eq!(throttle.admit(now + Duration::from_secs(1)), Some(0));
}
