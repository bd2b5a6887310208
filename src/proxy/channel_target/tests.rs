//! Unit tests of the number of channels.

use super::*;

/// A link to another continent has its channels before the first transfer begins, which is too late to open them.
#[test]
fn a_new_link_over_a_long_path_has_more_channels() {
    let initial = |limits, millis| {
        *ChannelTarget::new(limits, Some(Duration::from_millis(millis))).subscribe().borrow()
    };
    assert_eq!([1, 200].map(|millis| initial(ChannelCount::Auto, millis)), [2, 4]);
    assert_eq!([1, 200].map(|millis| initial(ChannelCount::Fixed(1), millis)), [1, 1]);
}

#[test]
fn the_larger_wish_within_the_limits_is_the_target() {
    let target = ChannelTarget::new(ChannelCount::Auto, None);
    let current = target.subscribe();
    assert_eq!(*current.borrow(), ChannelCount::MIN_AUTO);
    for (wish, expected) in [(4, 4), (u16::MAX, ChannelCount::MAX_AUTO), (0, ChannelCount::MIN_AUTO)] {
        target.set_wish(ChannelWish::Server(wish));
        assert_eq!(*current.borrow(), expected, "{wish}");
    }
}

#[test]
fn a_fixed_number_ignores_all_wishes() {
    let target = ChannelTarget::new(ChannelCount::Fixed(4), None);
    let current = target.subscribe();
    target.set_wish(ChannelWish::Server(8));
    assert_eq!(*current.borrow(), 4);
    assert!(!current.has_changed().unwrap());
}

#[test]
fn keepers_follow_the_target() {
    let target = ChannelTarget::new(ChannelCount::Auto, None);
    let fill =
        || std::iter::repeat_with(|| target.add_keeper(Instant::now())).take_while(|added| *added).count();
    assert_eq!(fill(), 2);
    target.set_wish(ChannelWish::Server(4));
    assert_eq!(fill(), 2);
    assert!(!target.remove_keeper(), "none is surplus");
    target.set_wish(ChannelWish::Server(3));
    assert!(target.remove_keeper());
    target.restore_keeper();
    assert!(target.remove_keeper(), "the first could not be ended");
    assert!(!target.remove_keeper(), "none is surplus any more");
}

/// Without it, a link that lost its only channel to a panic kept its streams waiting until the end of the grace period.
#[test]
fn a_keeper_that_panics_is_replaced() {
    let target = Arc::new(ChannelTarget::new(ChannelCount::Fixed(1), None));
    let current = target.subscribe();
    assert!(target.add_keeper(Instant::now()));
    drop(target.guard_keeper());
    assert!(!target.add_keeper(Instant::now()) && !target.take_panic(), "it has ended in an orderly way");
    let guard = target.guard_keeper();
    let keeper = std::panic::AssertUnwindSafe(move || {
        let _guard = guard;
        panic!("a channel's task panics");
    });
    assert!(std::panic::catch_unwind(keeper).is_err());
    assert!(current.has_changed().unwrap(), "the task that spawns keepers is notified");
    assert!(target.add_keeper(Instant::now()));
    assert!(target.take_panic() && !target.take_panic());
}

/// A server that keeps changing its wish makes a proxy open one channel in five seconds.
#[test]
fn a_wish_that_keeps_changing_opens_few_channels() {
    let target = ChannelTarget::new(ChannelCount::Auto, None);
    let begin = Instant::now();
    let mut opened = 0;
    for turn in 0..1000_u32 {
        let now = begin + Duration::from_millis(100) * turn;
        for wish in [8, 2] {
            target.set_wish(ChannelWish::Server(wish));
            opened += std::iter::repeat_with(|| target.add_keeper(now)).take_while(|added| *added).count();
            while target.remove_keeper() {}
        }
        assert!(target.next_opening().is_none(), "none is missing");
    }
    // Two at first, twelve more at once, and one in each of 19 intervals.
    assert_eq!(opened, 2 + 12 + 19);
    target.set_wish(ChannelWish::Server(8));
    let due = target.next_opening().unwrap();
    assert!(!target.add_keeper(due - Duration::from_millis(1)) && target.add_keeper(due));
}
