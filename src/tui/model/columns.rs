//! Which columns of the streams table the operator asked for or hid, and which of them the terminal has room for.

use super::{Model, sort::SortBy};
use crate::tui::{
    columns::{StreamColumn, TableColumn},
    layout::{ColumnRequest, FitPolicy, FittedColumns, SELECTION_MARGIN},
};

/// The operator's choice of columns. While it is empty, the width of the terminal alone decides what is shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ColumnSelection {
    /// The columns asked for, the most important first: these are dropped last on a narrow terminal.
    requested: Vec<StreamColumn>,
    /// The columns that the operator hid, in no particular order.
    hidden: Vec<StreamColumn>,
}

impl ColumnSelection {
    /// Selects these columns, the most important first, and hides all others.
    pub(crate) fn only(requested: Vec<StreamColumn>) -> Self {
        let hidden = StreamColumn::ALL.iter().copied().filter(|column| !requested.contains(column)).collect();
        Self { requested, hidden }
    }

    /// Returns whether the operator has chosen no columns: neither asked for one nor hidden one.
    pub(crate) fn is_default(&self) -> bool {
        self.requested.is_empty() && self.hidden.is_empty()
    }

    /// Returns whether this column is hidden. The stream key never is: commands name it.
    pub(crate) fn hides(&self, column: StreamColumn) -> bool {
        column != StreamColumn::Stream && self.hidden.contains(&column)
    }

    /// Returns the columns asked for that are not among `shown`, the most important first.
    pub(crate) fn missing(&self, shown: &FittedColumns<StreamColumn>) -> Vec<StreamColumn> {
        self.requested.iter().copied().filter(|column| !shown.contains(*column)).collect()
    }

    /// Returns the position of this column among those asked for, from 1. The stream key is 0; columns not asked for
    /// come last.
    pub(crate) fn precedence(&self, column: StreamColumn) -> usize {
        let at = self.requested.iter().position(|requested| *requested == column);
        if column == StreamColumn::Stream { 0 } else { at.map_or(usize::MAX, |at| at + 1) }
    }

    /// Shows or hides a column. The last one asked for takes precedence over the others, so that it is shown at once.
    pub(crate) fn set(&mut self, column: StreamColumn, is_shown: bool) {
        self.requested.retain(|known| *known != column);
        self.hidden.retain(|known| *known != column);
        if is_shown {
            self.requested.insert(0, column);
        } else {
            self.hidden.push(column);
        }
    }

    /// Fits the columns into `width` cells: those that the operator asked for, then the others by rank. The stream
    /// column gets at least `key_width` cells: a key is never truncated, because commands name it. A proxy has fewer
    /// columns.
    pub(crate) fn fit(
        &self,
        width: usize,
        key_width: usize,
        is_of_proxy: bool,
    ) -> FittedColumns<StreamColumn> {
        let is_wanted = |column: &StreamColumn| !self.hides(*column) && column.spec().exists(is_of_proxy);
        let columns = StreamColumn::ALL.iter().copied().filter(is_wanted);
        let requests = columns.map(|column| {
            let mut request = ColumnRequest::of(column);
            request.precedence.0 = self.precedence(column);
            if column == StreamColumn::Stream { request.at_least(key_width) } else { request }
        });
        // By default, cells that are left over widen the content column: a request path says little where it is
        // truncated. An operator who chose columns wants as many of them as fit.
        let policy = if self.is_default() { FitPolicy::StopAtFirstMisfit } else { FitPolicy::SkipMisfits };
        FittedColumns::fit(width, requests, policy)
    }
}

impl Model {
    /// Returns the columns of the streams table that are on the screen, with their widths.
    pub(crate) fn visible_columns(&self) -> FittedColumns<StreamColumn> {
        let layout = self.layout();
        let rows = self.rows().iter().skip(self.streams_screen.cursor.offset()).take(layout.table_rows());
        let rows = rows.filter_map(|id| self.shown().streams.get(*id));
        let key_width = rows.map(|row| row.key.to_string().len()).max().unwrap_or(0);
        let width = usize::from(layout.table.width.saturating_sub(SELECTION_MARGIN));
        self.streams_screen.columns.fit(width, key_width, self.labels.is_of_proxy())
    }

    /// Returns the sort keys of the columns on the screen, from left to right.
    pub(crate) fn visible_sort_keys(&self) -> Vec<SortBy> {
        self.visible_columns().iter().filter_map(|(column, _)| SortBy::of_column(column)).collect()
    }

    /// Returns the sort key of the heading at column `x` of the terminal, counted from 0; `None` where no heading is.
    pub(crate) fn sort_key_at(&self, x: u16) -> Option<SortBy> {
        let x = x.checked_sub(SELECTION_MARGIN)?;
        SortBy::of_column(self.visible_columns().column_at(x.into())?)
    }
}

#[cfg(test)]
mod tests;
