//! Which columns the table has: what keys do while that is asked.

use crate::tui::{
    keymap::Action,
    model::{ColumnSelection, Model, Overlay, StreamColumn},
    table_columns::FittedColumns,
};

/// A key while the list of columns is open and the one at `at` is in focus.
pub(super) fn act(model: &mut Model, at: usize, action: Action) {
    let last = StreamColumn::ALL.len() - 1;
    let to = match action {
        Action::Down => (at + 1).min(last),
        Action::Up => at.saturating_sub(1),
        Action::First => 0,
        Action::Last => last,
        Action::Press => {
            let column = StreamColumn::ALL[at.min(last)];
            // What the operator sees is what is turned round, whatever was asked for before.
            let shown = FittedColumns::on_screen(model).contains(column);
            model.streams_screen.columns.set(column, !shown);
            at
        }
        Action::Reset => {
            model.streams_screen.columns = ColumnSelection::default();
            at
        }
        Action::Close => {
            model.overlay = None;
            return;
        }
        _ => at,
    };
    model.overlay = Some(Overlay::Columns { focus: to });
}
