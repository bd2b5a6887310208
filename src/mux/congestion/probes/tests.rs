//! Unit tests of the probes of a channel.

use super::*;

/// A peer that answers no probe: the oldest are forgotten, and the answer to a later one acknowledges what they
/// measured.
#[test]
fn the_oldest_of_too_many_unanswered_probes_is_forgotten() {
    let (mut probes, now) = (ProbeTracker::default(), Instant::now());
    for _ in 0..=MAX_UNANSWERED_PROBES {
        probes.on_data_sent(10);
        probes.send(now);
    }
    assert_eq!(probes.unanswered.len(), MAX_UNANSWERED_PROBES);
    assert!(probes.on_answer(1).is_none(), "the first one is forgotten");
    assert_eq!(probes.delivered(), 0);
    assert!(probes.on_answer(2).is_some());
    assert_eq!((probes.delivered(), probes.is_full()), (20, false));
}
