//! A flood is reported in part and counted in full.

use super::*;

#[test]
fn a_flood_of_events_is_emitted_in_part_and_counted_in_full() {
    let (throttle, now) = (Throttle::new(7), Instant::now());
    let emitted = (0..1000).filter(|_| throttle.admit(now).is_some()).count();
    assert_eq!(emitted, 7);
    assert_eq!(throttle.admit(now + Duration::from_secs(1)), Some(1000 - 7));
    assert_eq!(throttle.admit(now + Duration::from_secs(1)), Some(0));
}
