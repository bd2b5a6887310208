use ratatui::{
    buffer::Buffer,
    text::{Line, Span},
};

use super::{centred, put, window};
use crate::tui::{
    format,
    model::{Dialog, Model, Question, Row, RowId},
};

/// The question in the middle of the screen.
pub(crate) fn draw(model: &Model, dialog: &Dialog, buf: &mut Buffer) {
    let theme = &model.theme;
    let (title, body) = match dialog.question {
        Question::Kill { row, key } => ("Kill this stream?", kill(model, row, &key.to_string())),
        Question::Quit => ("Quit?", quit(model)),
    };
    let height = u16::try_from(body.len()).unwrap_or(u16::MAX).saturating_add(4);
    let area = centred(buf, 62, height);
    let inner = window(model, area, buf, theme.bad, title);
    for (y, line) in (inner.top()..inner.bottom()).zip(body) {
        put(buf, inner.x + 1, y, inner, line);
    }
    // On a screen that is too low the buttons win over the text.
    let mut spans = Vec::new();
    for button in dialog.buttons() {
        let style = match (*button == dialog.focused(), button.destroys()) {
            (true, true) => theme.danger_button,
            (true, false) => theme.button,
            (false, _) => theme.dim,
        };
        // Brackets, so that the focus can be told without colour.
        let (open, close) = if *button == dialog.focused() { ('[', ']') } else { (' ', ' ') };
        spans.push(Span::styled(format!("{open} {} {close}", button.label()), style));
        spans.push(Span::raw(" "));
    }
    let line = Line::from(spans);
    let width = u16::try_from(line.width()).unwrap_or(u16::MAX).min(inner.width);
    if inner.height > 0 {
        put(buf, inner.right() - width, inner.bottom() - 1, inner, line);
    }
}

fn kill(model: &Model, id: RowId, key: &str) -> Vec<Line<'static>> {
    let theme = &model.theme;
    let key = Span::styled(key.to_owned(), theme.accent.patch(theme.strong));
    let Some(row) = model.streams.get(id) else {
        return vec![Line::from(vec![key, Span::raw(" has ended.")])];
    };
    if let Some(ended) = &row.ended {
        let why = ended.reason.as_ref().map_or("it is gone".to_owned(), ToString::to_string);
        return vec![
            Line::from(vec![key, Span::styled(" has ended by itself:", theme.text)]),
            Line::styled(why, theme.dim),
        ];
    }
    let label = |text: &str| Span::styled(format::fit(text, 8), theme.dim);
    vec![
        Line::from(vec![key, Span::styled(format!("  {}", route(model, row)), theme.dim)]),
        Line::from(vec![label("user"), Span::styled(row.addr.to_string(), theme.text)]),
        Line::from(vec![
            label("so far"),
            Span::styled(format!("↓ {}", format::bytes(row.down)), theme.down),
            Span::styled(format!("  ↑ {}", format::bytes(row.up)), theme.up),
            Span::styled(format!("  in {}", format::age(row.age(model.now))), theme.dim),
        ]),
        Line::styled("Both ends get an error, at once.", theme.dim),
    ]
}

fn route(model: &Model, row: &Row) -> String {
    match row.proxy {
        Some(proxy) => format!(":{} → {}", row.service.port, model.proxies.name(proxy)),
        None => format!(":{}", row.service.port),
    }
}

fn quit(model: &Model) -> Vec<Line<'static>> {
    let theme = &model.theme;
    let open = model.streams.live() as u64;
    let are = if open == 1 { "is" } else { "are" };
    vec![
        Line::styled(format!("{} {are} open.", format::things(open, "stream")), theme.text),
        Line::styled("Draining lets them finish first (d).", theme.dim),
        Line::styled("Quitting ends them now (y).", theme.dim),
    ]
}
