//! The table engine: turns fitted columns and the contents of cells into lines. All tables use it; which columns fit is
//! decided by [`FittedColumns`].

use ratatui::{
    style::Style,
    text::{Line, Span},
};

use crate::tui::{
    columns::{Align, TableColumn},
    format::{fit, fit_right},
    layout::FittedColumns,
};

/// The content of one table cell.
pub(super) enum Cell {
    /// Text of one style; the engine aligns, pads and truncates it to the width of the column.
    Text(String, Style),
    /// Spans that are exactly as wide as the column already, such as a bar with its figure.
    Spans(Vec<Span<'static>>),
}

impl From<(String, Style)> for Cell {
    fn from((text, style): (String, Style)) -> Self {
        Self::Text(text, style)
    }
}

/// Builds one row of a table. `cell` returns the content of a column, given its width in cells.
pub(super) fn row<C: TableColumn>(
    columns: &FittedColumns<C>,
    mut cell: impl FnMut(C, usize) -> Cell,
) -> Line<'static> {
    let mut spans = Vec::new();
    for (column, width) in columns.iter() {
        match cell(column, width) {
            Cell::Text(text, style) => {
                let text = match column.spec().align {
                    Align::Left => fit(&text, width),
                    Align::Right => fit_right(&text, width),
                };
                spans.push(Span::styled(text, style));
            }
            Cell::Spans(drawn) => spans.extend(drawn),
        }
        spans.push(Span::raw(" "));
    }
    Line::from(spans)
}

/// Builds the heading row of a table.
pub(super) fn headings<C: TableColumn>(
    columns: &FittedColumns<C>,
    is_of_proxy: bool,
    style: Style,
) -> Line<'static> {
    row(columns, |column, _| Cell::Text(column.spec().texts(is_of_proxy).0.to_owned(), style))
}

/// Joins facts into one line of at most `width` cells, in their order, with two blanks between them. Where not all
/// fit, those of the highest rank are dropped first; one fact always remains.
pub(super) fn join_facts(mut facts: Vec<(u8, Vec<Span<'static>>)>, width: usize) -> Line<'static> {
    const GAP: usize = 2;
    let own_width = |fact: &(u8, Vec<Span<'_>>)| fact.1.iter().map(Span::width).sum::<usize>() + GAP;
    while facts.iter().map(own_width).sum::<usize>() > width + GAP && facts.len() > 1 {
        let last = facts.iter().enumerate().max_by_key(|(_, (rank, _))| *rank).map_or(0, |(at, _)| at);
        facts.remove(last);
    }
    let mut spans = Vec::new();
    for (_, fact) in facts {
        if !spans.is_empty() {
            spans.push(Span::raw(" ".repeat(GAP)));
        }
        spans.extend(fact);
    }
    Line::from(spans)
}

#[cfg(test)]
mod tests;
