use ratatui::{
    buffer::Buffer,
    text::{Line, Span},
};

use super::{centred, put, window};
use crate::tui::{
    format::fit,
    model::{Model, StreamColumn},
    table_columns::FittedColumns,
};

/// Which columns the table has, one a line.
pub(crate) fn draw(model: &Model, at: usize, buf: &mut Buffer) {
    let theme = &model.theme;
    let height = u16::try_from(StreamColumn::ALL.len()).unwrap_or(u16::MAX).saturating_add(2);
    let inner = window(model, centred(buf, 36, height), buf, theme.rule, "Columns");
    let page = usize::from(inner.height);
    // On a low screen the one in focus stays in sight.
    let first = (at + 1).saturating_sub(page);
    let on_screen = FittedColumns::on_screen(model);
    let lines = StreamColumn::ALL.into_iter().enumerate().skip(first);
    for (y, (number, column)) in (inner.top()..inner.bottom()).zip(lines) {
        let shown = on_screen.contains(column);
        let (mark, note) = match (shown, model.streams_screen.columns.hides(column)) {
            (true, _) => ("[x]", ""),
            (false, true) => ("[ ]", ""),
            (false, false) => ("[ ]", "no room"),
        };
        let focused = number == at;
        let style = if shown { theme.text } else { theme.dim };
        let line = Line::from(vec![
            Span::styled(if focused { "▌" } else { " " }, theme.accent),
            Span::styled(format!("{mark} {} ", fit(column.name(), 14)), style),
            Span::styled(fit(note, 12), theme.dim),
        ]);
        put(buf, inner.x, y, inner, if focused { line.style(theme.selected) } else { line });
    }
}
