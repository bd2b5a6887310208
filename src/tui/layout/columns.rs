//! Fits the columns of a table into a width: which columns are shown, and how wide each of them is.

use crate::tui::columns::TableColumn;

/// A column that a table would like to show. Widths are in cells.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ColumnRequest<C> {
    /// The column of the table.
    pub(crate) column: C,
    /// The width without which the column is not shown.
    pub(crate) min_width: usize,
    /// The width up to which the column gets spare cells before any other column.
    pub(crate) preferred_width: usize,
    /// The width beyond which the column does not grow.
    pub(crate) max_width: usize,
    /// The order in which columns get room; the lowest first. The operator's choice is the first part, the column's
    /// own [`drop_rank`](crate::tui::columns::ColumnSpec::drop_rank) the second.
    pub(crate) precedence: (usize, u8),
}

impl<C: TableColumn> ColumnRequest<C> {
    /// Requests a column as its definition has it.
    pub(crate) fn of(column: C) -> Self {
        let spec = column.spec();
        Self {
            column,
            min_width: spec.min_width,
            preferred_width: spec.preferred_width,
            max_width: spec.max_width,
            precedence: (0, spec.drop_rank),
        }
    }

    /// Requests at least `width` cells: the content of this column must not be truncated.
    pub(crate) fn at_least(mut self, width: usize) -> Self {
        self.min_width = self.min_width.max(width);
        self.preferred_width = self.preferred_width.max(self.min_width);
        self.max_width = self.max_width.max(self.min_width);
        self
    }
}

/// What happens once a column does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FitPolicy {
    /// All columns of lower precedence are dropped too, and the cells go to the columns that are shown.
    StopAtFirstMisfit,
    /// Narrower columns of lower precedence are still tried, so that as many columns as possible are shown.
    SkipMisfits,
}

/// The columns that fit, in the order of the screen, with their widths. One blank cell follows each column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FittedColumns<C>(Vec<(C, usize)>);

impl<C: TableColumn> FittedColumns<C> {
    /// Selects the columns that fit into `width` cells by their precedence. Spare cells first bring each column to
    /// its preferred width, and are then distributed one by one over the columns that are below their maximum.
    pub(crate) fn fit(
        width: usize,
        requests: impl IntoIterator<Item = ColumnRequest<C>>,
        policy: FitPolicy,
    ) -> Self {
        let requests: Vec<ColumnRequest<C>> = requests.into_iter().collect();
        let mut by_precedence: Vec<usize> = (0..requests.len()).collect();
        by_precedence.sort_by_key(|at| requests[*at].precedence);
        let mut spare = width;
        let mut is_shown = vec![false; requests.len()];
        for at in by_precedence {
            match spare.checked_sub(requests[at].min_width + 1) {
                Some(rest) => (spare, is_shown[at]) = (rest, true),
                None if policy == FitPolicy::StopAtFirstMisfit => break,
                None => {}
            }
        }
        let shown =
            requests.iter().zip(is_shown).filter_map(|(request, is_shown)| is_shown.then_some(request));
        let mut shown: Vec<(&ColumnRequest<C>, usize)> =
            shown.map(|request| (request, request.min_width)).collect();
        for (request, width) in &mut shown {
            let growth = spare.min(request.preferred_width.saturating_sub(*width));
            (*width, spare) = (*width + growth, spare - growth);
        }
        while spare > 0 {
            let before = spare;
            for (_, width) in shown.iter_mut().filter(|(request, width)| *width < request.max_width) {
                if spare > 0 {
                    (*width, spare) = (*width + 1, spare - 1);
                }
            }
            if spare == before {
                break;
            }
        }
        Self(shown.into_iter().map(|(request, width)| (request.column, width)).collect())
    }

    /// Returns the shown columns with their widths, in the order of the screen.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (C, usize)> {
        self.0.iter().copied()
    }

    /// Returns whether a column is shown.
    pub(crate) fn contains(&self, column: C) -> bool {
        self.width(column).is_some()
    }

    /// Returns the width in cells of a shown column; `None` if the column is not shown.
    pub(crate) fn width(&self, column: C) -> Option<usize> {
        self.0.iter().find(|(shown, _)| *shown == column).map(|(_, width)| *width)
    }

    /// Returns the column at a distance of `x` cells from the left edge of the table; `None` between two columns.
    pub(crate) fn column_at(&self, x: usize) -> Option<C> {
        let mut left = 0;
        for (column, width) in self.iter() {
            if (left..left + width).contains(&x) {
                return Some(column);
            }
            left += width + 1;
        }
        None
    }
}

#[cfg(test)]
mod tests;
