//! The window with the help.

use ratatui::{
    buffer::Buffer,
    layout::{Rect, Size},
};

use super::{put, window};
use crate::tui::{help, model::Model};

/// The help, made from the table of bindings.
pub(crate) fn draw(model: &Model, scroll: usize, search: &str, buf: &mut Buffer) {
    let size = help::inner_size(Size::new(buf.area.width, buf.area.height));
    let (width, height) = ((size.width + 2).min(buf.area.width), (size.height + 2).min(buf.area.height));
    let area = Rect::new((buf.area.width - width) / 2, (buf.area.height - height) / 2, width, height);
    let lines = help::lines(model, search, size.width.into());
    let scroll = scroll.min(lines.len().saturating_sub(size.height.into()));
    let more = lines.len() > scroll + usize::from(size.height);
    let found = if search.is_empty() { String::new() } else { format!(": {search}") };
    let title =
        if more { format!("Help{found} (more below: j; find: /)") } else { format!("Help{found} (find: /)") };
    let inner = window(model, area, buf, model.theme.rule, &title);
    for (y, line) in (inner.top()..inner.bottom()).zip(lines.into_iter().skip(scroll)) {
        put(buf, inner.x + 1, y, inner, line);
    }
}
