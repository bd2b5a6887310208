//! Tests of what lists are kept for the next use.

use super::*;

thread_local! {
    static SLOT: Scratch<u8> = const { Scratch::new() };
    static SMALL_SLOT: Scratch<u8, 128> = const { Scratch::new() };
}

/// Returns the capacity that a slot's list has after a use of this capacity.
fn kept<const MAX_KEPT: usize>(slot: &'static LocalKey<Scratch<u8, MAX_KEPT>>, capacity: usize) -> usize {
    with_scratch(slot, |list| {
        list.push(1);
        list.reserve_exact(capacity - 1);
    });
    with_scratch(slot, |list| {
        assert!(list.is_empty());
        std::mem::take(list).capacity()
    })
}

#[test]
fn a_list_is_kept_unless_a_burst_has_made_it_long() {
    assert_eq!((kept(&SLOT, 512), kept(&SLOT, 513)), (512, 0));
    assert_eq!((kept(&SMALL_SLOT, 128), kept(&SMALL_SLOT, 129)), (128, 0));
}

#[test]
fn a_nested_use_gets_another_list() {
    with_scratch(&SLOT, |outer| {
        outer.push(1);
        with_scratch(&SLOT, |inner| assert!(inner.is_empty()));
        assert_eq!(*outer, [1]);
    });
}
