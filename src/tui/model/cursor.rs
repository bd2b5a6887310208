//! The cursor of a list: which row is selected, and which rows are visible.

/// The cursor of a list. It selects a row by its id and not by its index: when rows move, the selection moves with
/// its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cursor<T> {
    /// The id of the selected row; `None` while the list is empty.
    selected: Option<T>,
    /// The index in the list at which the selected row was last found, counted from 0.
    index: usize,
    /// The index of the first row of the list that is visible, counted from 0.
    offset: usize,
    /// Whether the operator has moved the cursor, or acted on the selected row.
    is_chosen: bool,
}

/// How far a cursor moves over the rows of a list; negative numbers move it up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CursorStep {
    /// By this many rows.
    By(isize),
    /// By this many pages; a page is as many rows as fit on the screen.
    Pages(isize),
    /// By this many half pages.
    HalfPages(isize),
    /// To the first row.
    First,
    /// To the last row.
    Last,
}

impl<T> Default for Cursor<T> {
    fn default() -> Self {
        Self { selected: None, index: 0, offset: 0, is_chosen: false }
    }
}

impl<T: Copy + PartialEq> Cursor<T> {
    /// Returns the id of the selected row; `None` while the list is empty.
    pub(crate) fn selected(&self) -> Option<T> {
        self.selected
    }

    /// Returns the index of the selected row in the list, counted from 0.
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// Returns the index of the first row of the list that is visible, counted from 0.
    pub(crate) fn offset(&self) -> usize {
        self.offset
    }

    /// Returns whether the operator has moved the cursor, or acted on the selected row. Until then the cursor does
    /// not follow a row that moves out of sight.
    pub(crate) fn is_chosen(&self) -> bool {
        self.is_chosen
    }

    /// Records that the operator acts on the selected row: from now on the cursor stays with this row when rows move.
    pub(crate) fn choose(&mut self) {
        self.is_chosen = true;
    }

    /// Moves the cursor by a step over the list `rows`, of which `page` fit on the screen, and scrolls so that it is
    /// visible.
    pub(crate) fn step(&mut self, step: CursorStep, rows: &[T], page: usize) {
        let page = isize::try_from(page.max(1)).unwrap_or(isize::MAX);
        let last = rows.len().saturating_sub(1);
        let by = |n: isize| self.index.saturating_add_signed(n).min(last);
        self.index = match step {
            CursorStep::By(n) => by(n),
            CursorStep::Pages(n) => by(n.saturating_mul(page)),
            CursorStep::HalfPages(n) => by(n.saturating_mul((page / 2).max(1))),
            CursorStep::First => 0,
            CursorStep::Last => last,
        };
        self.is_chosen = true;
        self.select(rows, usize::try_from(page).unwrap_or(1));
    }

    /// Selects the row at this index of the list `rows`, because the operator clicked it. `page` rows fit on the
    /// screen.
    pub(crate) fn point(&mut self, index: usize, rows: &[T], page: usize) {
        self.index = index.min(rows.len().saturating_sub(1));
        self.is_chosen = true;
        self.select(rows, page.max(1));
    }

    /// Finds the selected row again after the rows have changed; stays at its index where the row no longer exists.
    /// Before the operator has moved the cursor, the list is not scrolled to follow the row.
    pub(crate) fn follow(&mut self, rows: &[T], page: usize) {
        let page = page.max(1);
        let found = self.selected.and_then(|id| {
            // Mostly the row has not moved.
            (rows.get(self.index) == Some(&id))
                .then_some(self.index)
                .or_else(|| rows.iter().position(|row| *row == id))
        });
        self.index = match found.filter(|at| self.is_chosen || *at < page) {
            Some(at) => at,
            None if self.is_chosen => self.index.min(rows.len().saturating_sub(1)),
            None => 0,
        };
        self.select(rows, page);
    }

    /// Selects the row with this id; [`follow`](Self::follow) finds out where it is.
    pub(crate) fn move_to(&mut self, id: T) {
        self.selected = Some(id);
    }

    /// Resets the cursor to its initial state: at the first row, not chosen by the operator.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }

    /// Selects the row at `self.index`, and scrolls so that it is visible. `page` is how many rows fit on the screen.
    fn select(&mut self, rows: &[T], page: usize) {
        self.selected = rows.get(self.index).copied();
        self.show(rows.len(), page);
    }

    /// Scrolls the list of `rows` rows as little as is needed to make the selected row visible; `page` of them fit on
    /// the screen.
    fn show(&mut self, rows: usize, page: usize) {
        if self.index < self.offset {
            self.offset = self.index;
        } else if self.index >= self.offset.saturating_add(page) {
            self.offset = self.index + 1 - page;
        }
        self.offset = self.offset.min(rows.saturating_sub(page));
    }
}
