/// Which row is selected, by name and not by number: rows move, the selection stays with what it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cursor<T> {
    selected: Option<T>,
    /// Where the selected row was last seen.
    index: usize,
    /// The first row on screen.
    offset: usize,
    /// Whether the operator has chosen it.
    chosen: bool,
}

/// How far to move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CursorStep {
    By(isize),
    Pages(isize),
    HalfPages(isize),
    First,
    Last,
}

impl<T> Default for Cursor<T> {
    fn default() -> Self {
        Self { selected: None, index: 0, offset: 0, chosen: false }
    }
}

impl<T: Copy + PartialEq> Cursor<T> {
    pub(crate) fn selected(&self) -> Option<T> {
        self.selected
    }

    pub(crate) fn index(&self) -> usize {
        self.index
    }

    pub(crate) fn offset(&self) -> usize {
        self.offset
    }

    /// Whether the operator has moved it, or acted on what it names.
    pub(crate) fn is_chosen(&self) -> bool {
        self.chosen
    }

    /// The operator acts on what it names: from now on it stays there.
    pub(crate) fn choose(&mut self) {
        self.chosen = true;
    }

    /// Moves the selection over `rows`, of which `page` are on screen.
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
        self.chosen = true;
        self.select(rows, usize::try_from(page).unwrap_or(1));
    }

    /// Selects this row, which the operator pointed at.
    pub(crate) fn point(&mut self, index: usize, rows: &[T], page: usize) {
        self.index = index.min(rows.len().saturating_sub(1));
        self.chosen = true;
        self.select(rows, page.max(1));
    }

    /// After the rows have changed: finds the selected one again, or stays in its place where it is gone. Before the
    /// operator has chosen one the table is not scrolled to follow it.
    pub(crate) fn follow(&mut self, rows: &[T], page: usize) {
        let page = page.max(1);
        let found = self.selected.and_then(|id| {
            // Most of the time nothing has moved.
            (rows.get(self.index) == Some(&id))
                .then_some(self.index)
                .or_else(|| rows.iter().position(|row| *row == id))
        });
        self.index = match found.filter(|at| self.chosen || *at < page) {
            Some(at) => at,
            None if self.chosen => self.index.min(rows.len().saturating_sub(1)),
            None => 0,
        };
        self.select(rows, page);
    }

    /// Goes back to the first row, as at the start.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }

    fn select(&mut self, rows: &[T], page: usize) {
        self.selected = rows.get(self.index).copied();
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
