//! Unit tests of the backoff.

use super::*;

#[test]
fn pauses_grow_within_their_bounds_and_reset_to_the_shortest() {
    let (min, max) = (Duration::from_millis(200), Duration::from_secs(15));
    let mut backoff = Backoff::new(min, max);
    let pauses: Vec<_> = (0..20).map(|_| backoff.next_pause()).collect();
    assert!(pauses.iter().all(|pause| (min..=max).contains(pause)), "{pauses:?}");
    assert!(pauses[19] >= max / 2);
    backoff.reset();
    assert_eq!(backoff.next_pause(), min);
}
