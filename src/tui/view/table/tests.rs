//! Cells are aligned in their columns, and facts are dropped by rank.

use super::*;
use crate::tui::{
    columns::UserColumn,
    layout::{ColumnRequest, FitPolicy},
};

#[test]
fn cells_are_aligned_padded_and_truncated_to_their_columns() {
    let requests = [UserColumn::Name, UserColumn::Streams].map(ColumnRequest::of);
    let columns = FittedColumns::fit(19, requests, FitPolicy::StopAtFirstMisfit);
    assert_eq!(headings(&columns, false, Style::new()).to_string(), "USER       STREAMS ");
    let line = row(&columns, |column, _| match column {
        UserColumn::Name => Cell::Text("3F9A1C and more".to_owned(), Style::new()),
        _ => Cell::Text("12".to_owned(), Style::new()),
    });
    assert_eq!(line.to_string(), "3F9A1C an…      12 ");
}

#[test]
fn facts_of_the_highest_rank_are_dropped_first() {
    let line = |width| {
        let fact = |rank, text: &'static str| (rank, vec![Span::raw(text)]);
        join_facts(vec![fact(0, "one"), fact(2, "two"), fact(1, "three")], width).to_string()
    };
    assert_eq!(line(15), "one  two  three");
    assert_eq!(line(14), "one  three");
    assert_eq!(line(2), "one");
}
