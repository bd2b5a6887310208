use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
};

use super::put;
use crate::tui::{
    format, keymap,
    model::{Model, Tone},
};

/// What just happened, in one line; what goes on, where nothing just happened.
pub(crate) fn notice(model: &Model, area: Rect, buf: &mut Buffer) {
    if let Some(line) = message(model) {
        put(buf, area.x, area.y, area, line);
    }
}

fn message(model: &Model) -> Option<Line<'static>> {
    let theme = &model.theme;
    if let Some(notice) = &model.notice {
        let (mark, style) = match notice.tone {
            Tone::Good => ("✓", theme.ok),
            Tone::Plain => ("·", theme.text),
            Tone::Warning => ("!", theme.warn),
        };
        return Some(Line::styled(format!(" {mark} {}", notice.text), style));
    }
    model.draining.then(|| {
        let open = format::things(model.streams.live() as u64, "stream");
        let again = if model.asked_to_drain { "; ^C again ends them now" } else { "" };
        Line::styled(format!(" ! draining: {open} still open{again}"), theme.warn)
    })
}

/// The keys that work here, as many as fit.
pub(crate) fn keys(model: &Model, area: Rect, buf: &mut Buffer) {
    let theme = &model.theme;
    // Without a line of its own, a notice takes this one.
    if model.layout().notice.height == 0
        && let Some(line) = message(model)
    {
        return put(buf, area.x, area.y, area, line);
    }
    let mut spans = vec![Span::raw(" ")];
    for binding in keymap::footer(model.context(), usize::from(area.width).saturating_sub(1)) {
        spans.push(Span::styled(binding.shown, theme.accent));
        spans.push(Span::styled(format!(" {}  ", binding.short), theme.dim));
    }
    put(buf, area.x, area.y, area, Line::from(spans));
}
