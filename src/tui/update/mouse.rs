//! Translates mouse events into intents, by what is on the screen at their position.

use crate::tui::{
    intent::Intent,
    model::{CursorStep, Model, ScreenId, Sort},
    terminal::MouseEvent,
};

/// The number of rows by which one notch of the mouse wheel moves the cursor.
const ROWS_PER_NOTCH: isize = 3;

/// Returns the intent of a mouse event: the wheel moves the cursor, a click selects a row or sorts by a heading.
/// `None` while the mouse is disabled, an overlay is open or the terminal is too small.
pub(super) fn intent_of(model: &Model, event: MouseEvent) -> Option<Intent> {
    if !model.display.mouse || model.overlay.is_some() || !model.layout().has_table {
        return None;
    }
    match event {
        MouseEvent::Wheel { down } => {
            let rows = if down { ROWS_PER_NOTCH } else { -ROWS_PER_NOTCH };
            Some(Intent::Move(CursorStep::By(rows)))
        }
        MouseEvent::Click { x, y } => clicked(model, x, y),
    }
}

/// Returns the intent of a click at column `x` and row `y` of the terminal: sorting on a heading of the streams
/// table, selection on a row. `None` elsewhere and on other screens.
fn clicked(model: &Model, x: u16, y: u16) -> Option<Intent> {
    let table = model.layout().table;
    if model.screen != ScreenId::Streams || model.detail_screen.open.is_some() {
        return None;
    }
    if y == table.y {
        let by = model.sort_key_at(x)?;
        let now = model.shown().streams.sort();
        return Some(Intent::SetSort(Sort { by, reversed: by == now.by && !now.reversed }));
    }
    let is_row = y > table.y && y < table.bottom();
    is_row.then(|| Intent::SelectRow(model.streams_screen.cursor.offset() + usize::from(y - table.y - 1)))
}
