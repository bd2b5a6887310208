//! The number of series is bounded, and what they count never shrinks.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Instant,
};

use super::{MAX_IDLE, SeriesTable};

/// Counts one number.
#[derive(Debug, Default)]
struct Sum(AtomicU64);

/// Returns label, objects and sum of each series.
fn all(table: &SeriesTable<Sum>) -> Vec<(String, usize, u64)> {
    table.read(|all| {
        let of = |series: &super::Series<Sum>, live| {
            (series.label.to_string(), live, series.counters.0.load(Relaxed))
        };
        all.into_iter().map(|(series, live)| of(series, live)).collect()
    })
}

#[test]
fn a_series_counts_on_when_its_object_returns() {
    let table = SeriesTable::<Sum>::new(2);
    for _ in 0..3 {
        let lab = table.join("lab");
        table.leave(&lab, |sum| _ = sum.0.fetch_add(5, Relaxed));
    }
    assert_eq!(all(&table), [("lab".to_owned(), 0, 15)]);
}

#[test]
fn objects_with_one_label_share_a_series() {
    let table = SeriesTable::<Sum>::new(2);
    let (a, b) = (table.join("lab"), table.join("lab"));
    a.counters.0.fetch_add(1, Relaxed);
    b.counters.0.fetch_add(2, Relaxed);
    table.leave(&a, |_| {});
    assert_eq!(all(&table), [("lab".to_owned(), 1, 3)]);
}

#[test]
fn a_new_label_takes_the_place_of_the_one_that_is_unused_for_longest() {
    let table = SeriesTable::<Sum>::new(2);
    for label in ["first", "second"] {
        let series = table.join(label);
        table.leave(&series, |sum| _ = sum.0.fetch_add(1, Relaxed));
    }
    let third = table.join("third");
    assert_eq!(&*third.label, "third");
    // What the first has counted was read under its label, and appears under no other.
    let expected = [("second", 0, 1), ("third", 1, 0)];
    assert_eq!(all(&table), expected.map(|(label, live, sum)| (label.to_owned(), live, sum)));
}

/// A flood of names neither grows the table nor takes the series of those that are in use.
#[test]
fn further_labels_share_one_series_while_all_others_are_in_use() {
    let table = SeriesTable::<Sum>::new(2);
    let _kept = [table.join("a"), table.join("b")];
    for number in 0..1000 {
        let series = table.join(&format!("flood {number}"));
        assert_eq!(&*series.label, "other");
        table.leave(&series, |sum| _ = sum.0.fetch_add(1, Relaxed));
    }
    assert_eq!(all(&table).len(), 3);
    assert_eq!(all(&table)[2], ("other".to_owned(), 0, 1000));
    // An object that calls itself so is one of them.
    assert_eq!(&*table.join("other").label, "other");
    assert_eq!(all(&table).len(), 3);
}

/// Each restart of a proxy that asks for any port makes a label.
#[test]
fn a_series_ends_when_it_had_no_object_for_long() {
    let table = SeriesTable::<Sum>::new(2);
    let (gone, kept) = (table.join("gone"), table.join("kept"));
    table.leave(&gone, |_| {});
    table.entries.lock().remove_idle(Instant::now() + MAX_IDLE / 2);
    assert_eq!(all(&table).len(), 2);
    table.entries.lock().remove_idle(Instant::now() + MAX_IDLE * 2);
    assert_eq!(all(&table), [("kept".to_owned(), 1, 0)]);
    table.leave(&kept, |_| {});
}
