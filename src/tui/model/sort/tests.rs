//! The sort keys go round the columns on the screen, and have unambiguous names.

use super::*;

#[test]
fn the_sort_key_goes_round_the_columns_on_the_screen() {
    let [key, down, age] =
        [StreamColumn::Stream, StreamColumn::DownRate, StreamColumn::Age].map(SortBy::Column);
    let shown = [key, down, age];
    let go = |by: SortBy, forward| by.next(&shown, forward);
    assert_eq!(go(down, true), age);
    assert_eq!(go(age, true), key);
    assert_eq!(go(key, false), age);
    assert_eq!(go(SortBy::Column(StreamColumn::Proxy), true), key, "not on screen");
    assert_eq!(age.next(&[], false), age);
    for by in SortBy::all() {
        assert_eq!(SortBy::named(by.name()), Some(by));
    }
}

/// `underpass ps --sort` and the control socket take the same names.
#[test]
fn the_names_of_sort_keys_are_shared() {
    assert_eq!(SortBy::all().map(SortBy::name).collect::<Vec<_>>(), crate::control::SORT_KEYS);
}
