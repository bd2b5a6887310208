//! Tests of the fitting of columns into the width of the screen.

use super::*;

#[test]
fn a_narrow_screen_keeps_the_columns_that_commands_need() {
    let names = |width| {
        FittedColumns::fit(width, 0, &ColumnSelection::default())
            .0
            .iter()
            .map(|(column, _)| *column)
            .collect::<Vec<_>>()
    };
    assert_eq!(names(12), [StreamColumn::Stream]);
    assert_eq!(
        names(38),
        [StreamColumn::Stream, StreamColumn::State, StreamColumn::DownRate, StreamColumn::Age]
    );
    for column in [StreamColumn::Proxy, StreamColumn::UpRate, StreamColumn::Priority, StreamColumn::Progress]
    {
        assert!(names(78).contains(&column), "{column:?}");
    }
    assert!(names(118).contains(&StreamColumn::Address) && names(118).contains(&StreamColumn::Content));
    assert_eq!(names(198).len(), StreamColumn::ALL.len());
    for width in 0..250 {
        let FittedColumns(columns) = FittedColumns::fit(width, 11, &ColumnSelection::default());
        assert!(columns.iter().map(|(_, width)| width + 1).sum::<usize>() <= width, "{width}");
    }
}

#[test]
fn columns_asked_for_take_precedence_over_the_default_ones() {
    let names = |width, selection: &ColumnSelection| {
        let FittedColumns(columns) = FittedColumns::fit(width, 11, selection);
        assert!(columns.iter().map(|(_, width)| width + 1).sum::<usize>() <= width, "{width}");
        columns.iter().map(|(column, _)| *column).collect::<Vec<_>>()
    };
    for column in StreamColumn::ALL {
        let mut selection = ColumnSelection::default();
        selection.set(column, true);
        assert!(names(118, &selection).contains(&column), "{column:?} cannot be had at 120 columns");
        assert!(names(38, &selection).contains(&column), "{column:?} cannot be had at 40 columns");
        selection.set(column, false);
        assert!(column == StreamColumn::Stream || !names(250, &selection).contains(&column), "{column:?}");
    }
    let wanted = vec![StreamColumn::Down, StreamColumn::Service, StreamColumn::Up];
    let selection = ColumnSelection::only(wanted);
    assert_eq!(
        names(118, &selection),
        [StreamColumn::Stream, StreamColumn::Service, StreamColumn::Up, StreamColumn::Down]
    );
    // The first named stays longest.
    assert_eq!(names(21, &selection), [StreamColumn::Stream, StreamColumn::Down]);
}
