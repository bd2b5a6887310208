//! Which columns fit a width, and that they never exceed it.

use super::*;
use crate::tui::columns::{StreamColumn, UserColumn};

/// A request of the users table with the widths and rank of the test; its column is only a label.
fn request(column: UserColumn, min_width: usize, max_width: usize, rank: u8) -> ColumnRequest<UserColumn> {
    ColumnRequest { column, min_width, preferred_width: min_width, max_width, precedence: (0, rank) }
}

#[test]
fn columns_are_dropped_by_rank_and_grow_into_spare_cells() {
    use UserColumn::{Address, Age, Name};
    let widths = |width| {
        let requests = [request(Name, 4, 8, 0), request(Address, 3, 3, 2), request(Age, 5, 5, 1)];
        FittedColumns::fit(width, requests, FitPolicy::StopAtFirstMisfit).0
    };
    assert_eq!(widths(4), []);
    assert_eq!(widths(10), [(Name, 8)]);
    assert_eq!(widths(11), [(Name, 4), (Age, 5)]);
    assert_eq!(widths(100), [(Name, 8), (Address, 3), (Age, 5)]);
    for width in 0..40 {
        assert!(widths(width).iter().map(|(_, own)| own + 1).sum::<usize>() <= width);
    }
}

#[test]
fn columns_of_the_same_rank_do_not_exceed_the_width() {
    use UserColumn::{Down, Up};
    let requests = [request(Up, 6, 6, 8), request(Down, 6, 6, 8)];
    let fitted = FittedColumns::fit(7, requests, FitPolicy::StopAtFirstMisfit);
    assert_eq!(fitted.0, [(Up, 6)]);
}

#[test]
fn misfits_are_skipped_where_as_many_columns_as_possible_are_wanted() {
    use UserColumn::{Address, Age, Name};
    let requests = [request(Name, 4, 4, 0), request(Address, 9, 9, 1), request(Age, 3, 3, 2)];
    let shown = |policy| FittedColumns::fit(10, requests, policy).0;
    assert_eq!(shown(FitPolicy::StopAtFirstMisfit), [(Name, 4)]);
    assert_eq!(shown(FitPolicy::SkipMisfits), [(Name, 4), (Age, 3)]);
}

#[test]
fn a_preferred_width_is_reached_before_other_columns_grow() {
    let request = ColumnRequest::of;
    let requests = [request(StreamColumn::Proxy), request(StreamColumn::Content)];
    let fitted = FittedColumns::fit(40, requests, FitPolicy::StopAtFirstMisfit);
    assert_eq!(fitted.0, [(StreamColumn::Proxy, 11), (StreamColumn::Content, 27)]);
    assert_eq!(fitted.column_at(0), Some(StreamColumn::Proxy));
    assert_eq!(fitted.column_at(11), None, "the blank between two columns");
    assert_eq!(fitted.column_at(12), Some(StreamColumn::Content));
}
