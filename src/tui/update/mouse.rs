//! Clicks and the wheel, where the operator has turned them on.

use super::screens;
use crate::tui::{
    keymap::Action,
    model::{Model, ScreenId, Sort},
    table_columns::FittedColumns,
    terminal::MouseEvent,
};

/// Rows that a notch of the wheel moves.
const NOTCH: usize = 3;

pub(super) fn take(model: &mut Model, mouse: MouseEvent) {
    if !model.display.mouse || model.overlay.is_some() || !model.layout().has_table {
        return;
    }
    match mouse {
        MouseEvent::Wheel { down } => {
            for _ in 0..NOTCH {
                screens::act(model, if down { Action::Down } else { Action::Up });
            }
        }
        MouseEvent::Click { x, y } => click(model, x, y),
    }
}

fn click(model: &mut Model, x: u16, y: u16) {
    let layout = model.layout();
    if model.screen != ScreenId::Streams || model.detail_screen.open.is_some() {
        return;
    }
    if y == layout.table.y {
        if let Some(by) = FittedColumns::on_screen(model).sort_key_at(x) {
            let Sort { by: now, reversed } = model.shown().streams.sort();
            screens::sort(model, Sort { by, reversed: by == now && !reversed });
        }
    } else if y > layout.table.y && y < layout.table.bottom() {
        let index = model.streams_screen.cursor.offset() + usize::from(y - layout.table.y - 1);
        if index < model.rows().len() {
            let mut cursor = model.streams_screen.cursor;
            cursor.point(index, model.rows(), layout.table_rows());
            model.set_stream_cursor(cursor);
        }
    }
}
