//! Unit tests of the channel numbers of a proxy.

use super::*;

/// A proxy whose channels are replaced often uses more numbers than there are.
#[test]
fn numbers_are_used_again_after_the_last_one_and_never_twice_at_once() {
    let mut table = ChannelTable::default();
    let kept = table.allocate(false).unwrap();
    let mut last = kept;
    for _ in 0..70_000 {
        let index = table.allocate(false).unwrap();
        assert!(index > 0 && index != kept && index != last, "{index}");
        assert!(!table.release(index), "the first one is in use");
        last = index;
    }
    assert!(table.release(kept));
}

#[test]
fn each_channel_may_have_a_replacement_and_a_resumption_one_more() {
    let mut table = ChannelTable::default();
    assert_eq!(std::iter::from_fn(|| table.allocate(false)).count(), 128);
    assert!(table.allocate(true).is_some());
    assert_eq!(table.allocate(true), None);
}
