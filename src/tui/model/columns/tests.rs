//! Tests of the column definitions and of the operator's selection.

use super::*;

#[test]
fn every_column_is_found_by_its_name() {
    for column in StreamColumn::ALL {
        assert_eq!(StreamColumn::from_name(column.name()), Some(column));
        assert_eq!(column.spec().column, column);
    }
    assert_eq!(StreamColumn::from_name("colour"), None);
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
