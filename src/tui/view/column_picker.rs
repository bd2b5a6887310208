//! The window in which the operator chooses the columns of the streams table.

use ratatui::{
    buffer::Buffer,
    text::{Line, Span},
};

use super::{centered, draw_line, draw_window};
use crate::tui::{
    columns::{StreamColumn, TableColumn},
    format::fit,
    model::Model,
};

/// Draws the window that lists the columns of the streams table, one on each line, with a mark for those on the
/// screen; `focus` is the index of the focused line.
pub(crate) fn draw(model: &Model, focus: usize, buf: &mut Buffer) {
    let theme = &model.theme;
    let height = u16::try_from(StreamColumn::ALL.len()).unwrap_or(u16::MAX).saturating_add(2);
    let inner = draw_window(model, centered(buf, 36, height), buf, theme.rule, "Columns");
    let page = usize::from(inner.height);
    // On a low terminal the list is scrolled to the line in focus.
    let first = (focus + 1).saturating_sub(page);
    let visible = model.visible_columns();
    let lines = StreamColumn::ALL.iter().copied().enumerate().skip(first);
    for (y, (number, column)) in (inner.top()..inner.bottom()).zip(lines) {
        let shown = visible.contains(column);
        let (checkbox, note) = match (shown, model.streams_screen.columns.hides(column)) {
            _ if !column.spec().exists(model.labels.is_of_proxy()) => ("[ ]", "server only"),
            (true, _) => ("[x]", ""),
            (false, true) => ("[ ]", ""),
            (false, false) => ("[ ]", "no room"),
        };
        let focused = number == focus;
        let style = if shown { theme.text } else { theme.dim };
        let line = Line::from(vec![
            Span::styled(if focused { "▌" } else { " " }, theme.accent),
            Span::styled(format!("{checkbox} {} ", fit(column.name(), 14)), style),
            Span::styled(fit(note, 12), theme.dim),
        ]);
        draw_line(buf, inner.x, y, inner, if focused { line.style(theme.selected) } else { line });
    }
}
