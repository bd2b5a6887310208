//! Which columns of the table of streams fit on the screen, and how wide they are. Shared by the view that draws them and
//! by the intents that sort by a column on the screen.

use super::model::{ColumnSelection, Model, SortBy, StreamColumn};

/// Cells left of the first column: the mark of the selected row, and the mark of a marked one.
pub(crate) const TABLE_MARGIN: u16 = 2;

/// The width up to which CONTENT grows before any other column does: a request path says little where it is cut.
const CONTENT_FIRST_WIDTH: usize = 26;

/// The columns that fit, each with its width in cells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FittedColumns(Vec<(StreamColumn, usize)>);

impl FittedColumns {
    /// The columns of the table as it is on the screen.
    pub(crate) fn on_screen(model: &Model) -> Self {
        let layout = model.layout();
        let rows = model.rows().iter().skip(model.streams_screen.cursor.offset()).take(layout.table_rows());
        let rows = rows.filter_map(|id| model.shown().streams.get(*id));
        let key_width = rows.map(|row| row.key.to_string().len()).max().unwrap_or(0);
        let width = layout.table.width.saturating_sub(TABLE_MARGIN).into();
        Self::fit(width, key_width, &model.streams_screen.columns)
    }

    /// Fits columns into `width` cells: those that the operator asked for, then the others by rank. `key_width` is the
    /// width of the longest stream key on the screen, which is never cut, because commands name it.
    fn fit(width: usize, key_width: usize, selection: &ColumnSelection) -> Self {
        let min_width = |column: StreamColumn| match column {
            StreamColumn::Stream => column.spec().min_width.max(key_width),
            _ => column.spec().min_width,
        };
        let mut by_rank: Vec<StreamColumn> =
            StreamColumn::ALL.into_iter().filter(|column| !selection.hides(*column)).collect();
        by_rank.sort_by_key(|column| (selection.precedence(*column), column.spec().drop_rank));
        let (mut left, mut full) = (width, false);
        by_rank.retain(|column| {
            let rest = left.checked_sub(min_width(*column) + 1);
            // By default, space left over widens CONTENT; an operator who chose columns wants as many as fit.
            full |= rest.is_none() && selection.is_default();
            let kept = rest.filter(|_| !full);
            left = kept.unwrap_or(left);
            kept.is_some()
        });
        let mut fitted: Vec<(StreamColumn, usize)> = StreamColumn::ALL
            .into_iter()
            .filter(|column| by_rank.contains(column))
            .map(|column| (column, min_width(column)))
            .collect();
        if let Some((_, width)) = fitted.iter_mut().find(|(column, _)| *column == StreamColumn::Content) {
            let more = left.min(CONTENT_FIRST_WIDTH.saturating_sub(*width));
            (*width, left) = (*width + more, left - more);
        }
        // The remaining cells are given to the columns that can grow, one each in turn.
        loop {
            let before = left;
            for (column, width) in &mut fitted {
                if left > 0 && *width < column.spec().max_width {
                    *width += 1;
                    left -= 1;
                }
            }
            if left == before {
                break;
            }
        }
        Self(fitted)
    }

    /// The columns from left to right, each with its width.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (StreamColumn, usize)> + '_ {
        self.0.iter().copied()
    }

    pub(crate) fn contains(&self, column: StreamColumn) -> bool {
        self.0.iter().any(|(fitted, _)| *fitted == column)
    }

    /// The sort key of the heading at this screen column, where that is one.
    pub(crate) fn sort_key_at(&self, x: u16) -> Option<SortBy> {
        let mut start = usize::from(TABLE_MARGIN);
        for (column, width) in self.iter() {
            if (start..start + width).contains(&usize::from(x)) {
                return column.spec().sort;
            }
            start += width + 1;
        }
        None
    }

    /// The sort keys of the columns on the screen, from left to right.
    pub(crate) fn sort_keys(&self) -> Vec<SortBy> {
        self.iter().filter_map(|(column, _)| column.spec().sort).collect()
    }
}

#[cfg(test)]
mod tests;
