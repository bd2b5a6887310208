use ratatui::{
    buffer::Buffer,
    layout::{Rect, Size},
    text::{Line, Span},
};

use super::{put, window};
use crate::tui::{
    format::fit,
    keymap::{BINDINGS, Context},
    model::Model,
};

/// What a state in the table means.
const STATES: [(&str, &str); 8] = [
    ("WAIT", "no proxy is there for it yet"),
    ("DIAL", "its proxy connects to the target"),
    ("OPEN", "both directions are open"),
    ("HALF↓ HALF↑", "one side is done; the other way still carries"),
    ("ended", "both sides are done, every byte arrived"),
    ("failed", "cut short; the reason stands beside it and in the log"),
    ("reset, left", "its user ended it"),
    ("killed", "by the operator"),
];

/// How large the window is, frame left out.
fn inside(size: Size) -> Size {
    Size::new(
        size.width.min(76).saturating_sub(2),
        size.height.saturating_sub(if size.height > 20 { 6 } else { 2 }),
    )
}

/// How many lines a page has, and the furthest that one can scroll.
pub(crate) fn extent(model: &Model) -> (usize, usize) {
    let page = usize::from(inside(model.size).height);
    (page.max(1), lines(model).len().saturating_sub(page))
}

/// The help, made from the table of bindings.
pub(crate) fn draw(model: &Model, scroll: usize, buf: &mut Buffer) {
    let size = inside(Size::new(buf.area.width, buf.area.height));
    let (width, height) = ((size.width + 2).min(buf.area.width), (size.height + 2).min(buf.area.height));
    let area = Rect::new((buf.area.width - width) / 2, (buf.area.height - height) / 2, width, height);
    let lines = lines(model);
    let scroll = scroll.min(lines.len().saturating_sub(size.height.into()));
    let more = lines.len() > scroll + usize::from(size.height);
    let title = if more { "Help (more below: j)" } else { "Help" };
    let inner = window(model, area, buf, model.theme.rule, title);
    for (y, line) in (inner.top()..inner.bottom()).zip(lines.into_iter().skip(scroll)) {
        put(buf, inner.x + 1, y, inner, line);
    }
}

fn lines(model: &Model) -> Vec<Line<'static>> {
    let theme = &model.theme;
    let mut lines = Vec::new();
    let sections = [
        (Context::Streams, "Streams"),
        (Context::Anywhere, "Anywhere"),
        (Context::Dialog, "In a dialog"),
        (Context::Help, "In this help"),
    ];
    let entry = |name: &str, text: &str| {
        Line::from(vec![
            Span::styled(format!("  {}", fit(name, 12)), theme.accent),
            Span::styled(text.to_owned(), theme.text),
        ])
    };
    for (context, name) in sections {
        lines.push(Line::styled(name, theme.strong));
        let here = BINDINGS.iter().filter(|binding| binding.context == context);
        lines.extend(here.map(|binding| entry(binding.shown, binding.help)));
        lines.push(Line::default());
    }
    lines.push(Line::styled("States", theme.strong));
    lines.extend(STATES.iter().map(|(name, text)| entry(name, text)));
    lines.push(Line::default());
    lines.push(Line::styled("Figures", theme.strong));
    lines.push(entry("down", "to the user; up is from the user. K is 1,000 bytes"));
    lines.push(entry("rates", "over the last second"));
    lines.push(entry("imbalance", "the busiest proxy's streams, by the mean; 1 is even"));
    lines
}
