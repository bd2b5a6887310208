//! The list of columns: which of them the streams table shows.

use crate::tui::{
    columns::{StreamColumn, TableColumn},
    intent::ColumnListIntent,
    layout::FittedColumns,
    model::{ColumnSelection, CursorStep, Model, NoticeLevel, Overlay},
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
            let before = model.visible_columns();
            let is_shown = before.contains(column);
            model.streams_screen.columns.set(column, !is_shown);
            if !is_shown {
                say_what_has_no_room(model, column, &before);
            }
        }
        ColumnListIntent::Reset => model.streams_screen.columns = ColumnSelection::default(),
        ColumnListIntent::Close => model.overlay = None,
    }
}

/// Says in a notice which columns have gone for a column that the operator asked for, or that it has no room itself.
/// `before` is what was shown before.
fn say_what_has_no_room(model: &mut Model, column: StreamColumn, before: &FittedColumns<StreamColumn>) {
    let after = model.visible_columns();
    let gone = before.iter().map(|(column, _)| column).filter(|column| !after.contains(*column));
    let gone: Vec<&str> = gone.map(StreamColumn::name).collect();
    if !after.contains(column) {
        let text = format!("no room for {}: hide another column, or widen the terminal", column.name());
        model.notify(NoticeLevel::Warning, text);
    } else if !gone.is_empty() {
        model.notify(
            NoticeLevel::Info,
            format!("{} is shown; no room for {}", column.name(), gone.join(", ")),
        );
    }
}
