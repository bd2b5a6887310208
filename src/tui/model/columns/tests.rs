//! Columns that the operator chose go before important ones, and the stream key is never lost.

use super::*;

fn shown(columns: &FittedColumns<StreamColumn>) -> Vec<StreamColumn> {
    columns.iter().map(|(column, _)| column).collect()
}

/// The cells that the columns take, with the blank behind each of them.
fn taken(columns: &FittedColumns<StreamColumn>) -> usize {
    columns.iter().map(|(_, width)| width + 1).sum()
}

#[test]
fn the_column_with_the_stream_key_cannot_be_hidden() {
    let mut selection = ColumnSelection::only(vec![StreamColumn::Age]);
    assert!(!selection.hides(StreamColumn::Stream));
    assert!(selection.hides(StreamColumn::State) && !selection.hides(StreamColumn::Age));
    selection.set(StreamColumn::Stream, false);
    selection.set(StreamColumn::State, true);
    assert!(!selection.hides(StreamColumn::Stream) && !selection.hides(StreamColumn::State));
    assert!(selection.precedence(StreamColumn::Stream) < selection.precedence(StreamColumn::State));
    assert!(selection.precedence(StreamColumn::State) < selection.precedence(StreamColumn::Age));
}

#[test]
fn a_narrow_screen_keeps_the_columns_that_commands_need() {
    let names = |width| shown(&ColumnSelection::default().fit(width, 0, false));
    assert_eq!(names(12), [StreamColumn::Stream]);
    assert_eq!(
        names(38),
        [StreamColumn::Stream, StreamColumn::State, StreamColumn::DownRate, StreamColumn::Age]
    );
    for column in [StreamColumn::Proxy, StreamColumn::Content, StreamColumn::Progress, StreamColumn::Age] {
        assert!(names(78).contains(&column), "{column:?}");
    }
    assert!(names(118).contains(&StreamColumn::Address) && names(118).contains(&StreamColumn::Content));
    assert_eq!(names(198).len(), StreamColumn::ALL.len());
    for width in 0..250 {
        assert!(taken(&ColumnSelection::default().fit(width, 11, false)) <= width, "{width}");
    }
}

#[test]
fn columns_asked_for_take_precedence_over_the_default_ones() {
    let names = |width, selection: &ColumnSelection| {
        let columns = selection.fit(width, 11, false);
        assert!(taken(&columns) <= width, "{width}");
        shown(&columns)
    };
    for column in StreamColumn::ALL.iter().copied() {
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
