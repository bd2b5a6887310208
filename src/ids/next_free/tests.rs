//! Unit tests of the numbers that are not in use.

use super::*;

#[test]
fn numbers_count_from_1() {
    let last = AtomicU32::new(0);
    assert_eq!([(); 3].map(|()| next_free_id(&last, |_| false)), [1, 2, 3]);
}

#[test]
fn after_the_last_number_those_in_use_are_skipped() {
    let last = AtomicU32::new(u32::MAX - 1);
    let used = [1, 2, 4];
    assert_eq!([(); 4].map(|()| next_free_id(&last, |id| used.contains(&id))), [u32::MAX, 3, 5, 6]);
}
