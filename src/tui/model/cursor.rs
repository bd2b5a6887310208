use super::row::RowId;

/// Which row is selected, by name and not by number: rows move, the selection stays with its stream.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cursor {
    selected: Option<RowId>,
    /// Where the selected row was last seen.
    index: usize,
    /// The first row on screen.
    offset: usize,
    /// Whether it stands among the live rows.
    among_live: bool,
    /// Whether the operator has moved it yet.
    moved: bool,
}

/// How far to move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    By(isize),
    Pages(isize),
    HalfPages(isize),
    First,
    Last,
}

impl Cursor {
    pub(crate) fn selected(&self) -> Option<RowId> {
        self.selected
    }

    pub(crate) fn index(&self) -> usize {
        self.index
    }

    pub(crate) fn offset(&self) -> usize {
        self.offset
    }

    /// Moves the selection over `rows`, of which `page` are on screen.
    pub(crate) fn step(&mut self, step: Step, rows: &[RowId], unsettled: usize, page: usize) {
        let page = isize::try_from(page.max(1)).unwrap_or(isize::MAX);
        let last = rows.len().saturating_sub(1);
        let by = |n: isize| self.index.saturating_add_signed(n).min(last);
        self.index = match step {
            Step::By(n) => by(n),
            Step::Pages(n) => by(n.saturating_mul(page)),
            Step::HalfPages(n) => by(n.saturating_mul((page / 2).max(1))),
            Step::First => 0,
            Step::Last => last,
        };
        self.moved = true;
        self.select(rows, unsettled, usize::try_from(page).unwrap_or(1));
    }

    /// After the rows have changed: finds the selected one again. `unsettled` of the rows come before the ended ones.
    ///
    /// When the selected stream ends and its row goes to the ended ones, the selection stays where it was, on the row
    /// that takes its place: an operator who watches the live ones is not carried off to the end of the table.
    /// Before the operator has moved at all, the table is not scrolled either.
    pub(crate) fn follow(&mut self, rows: &[RowId], unsettled: usize, page: usize) {
        let page = page.max(1);
        let found = self.selected.and_then(|id| {
            // Most of the time nothing has moved.
            (rows.get(self.index) == Some(&id))
                .then_some(self.index)
                .or_else(|| rows.iter().position(|row| *row == id))
        });
        let stays = |at: &usize| {
            let carried_off = self.among_live && *at >= unsettled && unsettled > 0;
            !carried_off && (self.moved || *at < page)
        };
        self.index = match found.filter(stays) {
            Some(at) => at,
            None if self.moved => {
                let end = if self.among_live && unsettled > 0 { unsettled } else { rows.len() };
                self.index.min(end.saturating_sub(1))
            }
            None => 0,
        };
        self.select(rows, unsettled, page);
    }

    fn select(&mut self, rows: &[RowId], unsettled: usize, page: usize) {
        self.selected = rows.get(self.index).copied();
        self.among_live = self.index < unsettled;
        self.show(rows.len(), page);
    }

    /// Scrolls no further than it has to.
    fn show(&mut self, rows: usize, page: usize) {
        if self.index < self.offset {
            self.offset = self.index;
        } else if self.index >= self.offset.saturating_add(page) {
            self.offset = self.index + 1 - page;
        }
        self.offset = self.offset.min(rows.saturating_sub(page));
    }
}
