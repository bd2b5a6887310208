//! Tests of how long a link waits for its peer.

use super::*;

#[test]
fn resets_shorten_the_grace_unless_a_channel_ended_without_one() {
    let secs = Duration::from_secs;
    let (near, far) = (Duration::from_millis(1), Duration::from_millis(500));
    for (rtt, last_end_without_reset, grace) in [
        (near, None, Duration::from_millis(1004)),
        (near, Some(Duration::ZERO), Duration::MAX),
        (near, Some(secs(1)), Duration::MAX),
        (near, Some(secs(2)), Duration::from_millis(1004)),
        (far, None, secs(3)),
        (far, Some(secs(2)), Duration::MAX),
    ] {
        assert_eq!(reset_grace(rtt, last_end_without_reset), grace, "{rtt:?} {last_end_without_reset:?}");
    }
}
