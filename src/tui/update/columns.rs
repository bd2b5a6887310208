//! The list of columns: which of them the streams table shows.

use crate::tui::{
    columns::{StreamColumn, TableColumn},
    intent::ColumnListIntent,
    model::{ColumnSelection, CursorStep, Model, Overlay},
};

/// Handles an intent of the open list of columns: moves its focus, shows or hides a column of the streams table,
/// resets the choice or closes the list.
pub(super) fn handle(model: &mut Model, intent: ColumnListIntent) {
    let Some(Overlay::Columns { focus }) = &mut model.overlay else { return };
    let last = StreamColumn::ALL.len() - 1;
    match intent {
        ColumnListIntent::Move(CursorStep::By(rows)) => *focus = focus.saturating_add_signed(rows).min(last),
        ColumnListIntent::Move(CursorStep::First) => *focus = 0,
        ColumnListIntent::Move(CursorStep::Last) => *focus = last,
        ColumnListIntent::Move(CursorStep::Pages(_) | CursorStep::HalfPages(_)) => {}
        ColumnListIntent::Toggle => {
            let column = StreamColumn::ALL[(*focus).min(last)];
            // Toggles what is on the screen: a column may be hidden because it does not fit.
            let is_shown = model.visible_columns().contains(column);
            model.streams_screen.columns.set(column, !is_shown);
        }
        ColumnListIntent::Reset => model.streams_screen.columns = ColumnSelection::default(),
        ColumnListIntent::Close => model.overlay = None,
    }
}
