//! A table of text with a heading, as `ps` prints it.

use unicode_width::UnicodeWidthStr as _;

use super::Failure;
use crate::{
    ids::{clean, format_bytes},
    tui::format::{fit, fit_right, truncate},
};

/// The longest text in a cell, in characters, where the width of the output is unknown.
pub(super) const MAX_CELL_CHARS: usize = 200;

/// The heading of a column.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heading {
    /// The text.
    pub(super) text: &'static str,
    /// Whether its cells are figures, which are aligned to the right.
    pub(super) is_figure: bool,
}

/// A column: its heading, and what its cells say of a row.
pub(super) type Column<T> = (Heading, fn(&T) -> String);

/// A column with the name by which `--columns` chooses it.
pub(super) type NamedColumn<T> = (&'static str, Column<T>);

/// Returns the columns that are chosen by `names`, separated by commas; all of them without.
pub(super) fn choose<T>(
    known: &[NamedColumn<T>],
    names: Option<&str>,
) -> Result<Vec<NamedColumn<T>>, Failure> {
    let Some(names) = names else { return Ok(known.to_vec()) };
    let names = names.split(',').map(str::trim).filter(|name| !name.is_empty());
    let find = |name: &str| {
        known.iter().find(|(known, ..)| *known == name).copied().ok_or_else(|| {
            let known: Vec<_> = known.iter().map(|(known, ..)| *known).collect();
            Failure::Usage(format!("--columns: unknown column «{name}»; expected: {}", known.join(",")))
        })
    };
    names.map(find).collect()
}

/// Creates the heading of a column for text.
pub(super) const fn text(text: &'static str) -> Heading {
    Heading { text, is_figure: false }
}

/// Creates the heading of a column for figures.
pub(super) const fn figure(text: &'static str) -> Heading {
    Heading { text, is_figure: true }
}

/// Lays out a table of rows. Lines are cut at `width` cells, where it is known.
pub(super) fn table<T>(columns: &[Column<T>], rows: &[T], width: Option<usize>) -> Vec<String> {
    let headings: Vec<Heading> = columns.iter().map(|(heading, _)| *heading).collect();
    let cells = |row: &T| columns.iter().map(|(_, cell)| clean(&cell(row), MAX_CELL_CHARS)).collect();
    lay_out(&headings, &rows.iter().map(cells).collect::<Vec<_>>(), width)
}

/// Lays a table out. Lines are cut at `width` cells, where it is known.
pub(super) fn lay_out(headings: &[Heading], rows: &[Vec<String>], width: Option<usize>) -> Vec<String> {
    let widths: Vec<usize> = headings
        .iter()
        .enumerate()
        .map(|(column, heading)| {
            let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.width());
            cells.max().unwrap_or_default().max(heading.text.width())
        })
        .collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let cells = cells.zip(headings).zip(&widths).map(|((cell, heading), width)| {
            if heading.is_figure { fit_right(cell, *width) } else { fit(cell, *width) }
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        let line = line.trim_end();
        width.map_or_else(|| line.to_owned(), |width| truncate(line, width))
    };
    let heading = line(&mut headings.iter().map(|heading| heading.text));
    std::iter::once(heading).chain(rows.iter().map(|row| line(&mut row.iter().map(String::as_str)))).collect()
}

/// Returns rate limits.
pub(super) fn limits(down: Option<u64>, up: Option<u64>) -> String {
    let of = |arrow: &str, limit: Option<u64>| limit.map(|limit| format!("{arrow}{}", format_bytes(limit)));
    let limits: Vec<String> = of("↓", down).into_iter().chain(of("↑", up)).collect();
    if limits.is_empty() { "-".to_owned() } else { limits.join(" ") }
}

/// Returns bytes, or a dash where they are unknown.
pub(super) fn bytes(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "-".to_owned(), format_bytes)
}

/// Returns the text, or a dash where there is none.
pub(super) fn or_dash(text: Option<&str>) -> String {
    text.filter(|text| !text.is_empty()).unwrap_or("-").to_owned()
}

/// Returns a service without the name of the default group, as the cockpit shows it.
pub(super) fn without_default_group(service: &str) -> String {
    service.strip_suffix(":default").unwrap_or(service).to_owned()
}
