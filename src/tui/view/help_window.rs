//! The help window. Its text is made in [`help`](crate::tui::help).

use ratatui::{buffer::Buffer, layout::Size};

use super::{centered, draw_line, draw_window};
use crate::tui::{help, model::Model};

/// Draws the window with the help, scrolled down by `scroll` lines; with a `search` text, only the entries that
/// contain it.
pub(crate) fn draw(model: &Model, scroll: usize, search: &str, buf: &mut Buffer) {
    let size = help::inner_size(Size::new(buf.area.width, buf.area.height));
    let area = centered(buf, size.width + 2, size.height + 2);
    let lines = help::lines(model, search, size.width.into());
    let scroll = scroll.min(lines.len().saturating_sub(size.height.into()));
    let more = lines.len() > scroll + usize::from(size.height);
    let found = if search.is_empty() { String::new() } else { format!(": {search}") };
    let title =
        if more { format!("Help{found} (more below: j; find: /)") } else { format!("Help{found} (find: /)") };
    let inner = draw_window(model, area, buf, model.theme.rule, &title);
    for (y, line) in (inner.top()..inner.bottom()).zip(lines.into_iter().skip(scroll)) {
        draw_line(buf, inner.x + 1, y, inner, line);
    }
}
