use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
};

use super::{bars, put, put_right, section};
use crate::tui::{
    format::{self, cut, fit, fit_right},
    model::{Model, Proxy},
};

/// The proxies as a load distribution: who carries which share of the streams, and how fast.
pub(crate) fn panel(model: &Model, area: Rect, buf: &mut Buffer) {
    let theme = &model.theme;
    section(model, area, buf, "Proxy load", [Span::styled("  share of open streams", theme.dim)]);
    if let Some(imbalance) = model.shown().proxies.imbalance() {
        let style = if imbalance > 2.0 { theme.warn } else { theme.text };
        let spans = vec![
            Span::styled("imbalance ", theme.dim),
            Span::styled(format!("{imbalance:.2}"), style),
            Span::raw("  "),
        ];
        put_right(buf, area, 35, Line::from(spans));
    }
    let rows = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
    let all = model.shown().proxies.all();
    if all.is_empty() {
        return nobody(model, rows, buf);
    }
    let names = all.iter().map(|proxy| proxy.name.chars().count()).max().unwrap_or(0).clamp(8, 20);
    let hidden = all.len().saturating_sub(rows.height.into());
    let shown = if hidden > 0 { all.len() - hidden - 1 } else { all.len() };
    let total = model.shown().proxies.streams();
    for (y, proxy) in (rows.top()..rows.bottom()).zip(&all[..shown]) {
        put(buf, area.x, y, rows, row(model, proxy, total, names, area.width.into()));
    }
    if hidden > 0 {
        let more = format!("  and {} more", all.len() - shown);
        put(buf, area.x, rows.bottom() - 1, rows, Line::styled(more, theme.dim));
    }
}

/// While there is no proxy: how to get one.
fn nobody(model: &Model, area: Rect, buf: &mut Buffer) {
    let theme = &model.theme;
    let mut lines = vec![Line::styled("  No proxy yet.", theme.text)];
    lines.extend(invitation(model, area.width));
    for (y, line) in (area.top()..area.bottom()).zip(lines) {
        put(buf, area.x, y, area, line);
    }
}

/// How another machine becomes a proxy of this server.
pub(super) fn invitation(model: &Model, width: u16) -> Vec<Line<'static>> {
    let theme = &model.theme;
    let Some(join) = &model.labels.join else { return Vec::new() };
    let parts = wrap(join, usize::from(width.saturating_sub(4)).max(1));
    let parts = parts.into_iter().map(|part| Line::styled(format!("  {part}"), theme.accent));
    std::iter::once(Line::styled("  On the machine behind NAT:", theme.dim)).chain(parts).collect()
}

/// Breaks a command between its words, so that it can still be read, and copied line by line.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

fn row(model: &Model, proxy: &Proxy, total: u64, names: usize, width: usize) -> Line<'static> {
    let theme = &model.theme;
    let services = match proxy.services.as_slice() {
        [] => String::new(),
        [only] => format!(":{}", only.port),
        [first, rest @ ..] => format!(":{}+{}", first.port, rest.len()),
    };
    if let Some(gone) = &proxy.gone {
        let ago = format::age(model.shown().now.saturating_duration_since(gone.at));
        let why = gone.reason.as_ref().map(|why| format!(", {why}")).unwrap_or_default();
        let text = format!("  {} {} gone {ago}{why}", fit(&proxy.name, names), fit(&services, 8));
        return Line::styled(cut(&text, width.saturating_sub(1)), theme.faint);
    }
    let share = if total > 0 { proxy.streams as f64 / total as f64 } else { 0.0 };
    let figures = [
        Span::styled(format!(" {:>3.0}%", share * 100.0), theme.text),
        Span::styled(
            format!(" {:>5}", super::rate(model, proxy.rate())),
            if proxy.rate() < 1.0 { theme.faint } else { theme.down },
        ),
        Span::styled(super::unit(model), theme.dim),
    ];
    let mut spans = vec![
        Span::styled(format!("  {} ", fit(&proxy.name, names)), theme.text),
        Span::styled(fit(&services, 8), theme.dim),
        Span::styled(fit(&format!("×{}", proxy.channels.len()), 4), theme.dim),
        Span::styled(fit_right(&format::count(proxy.streams), 6), theme.strong),
        Span::raw(" "),
    ];
    let taken: usize = spans.iter().chain(&figures).map(Span::width).sum();
    let room = width.saturating_sub(taken + 3);
    if room >= 4 {
        let (filled, track) = bars::horizontal(share, room);
        spans.push(Span::raw(" "));
        spans.push(Span::styled(filled, theme.load));
        spans.push(Span::styled(track, theme.rule));
    }
    spans.extend(figures);
    Line::from(spans)
}

/// The same in one line: a name and a small bar each, as many as there is room for.
pub(crate) fn line(model: &Model, area: Rect, buf: &mut Buffer) {
    let theme = &model.theme;
    section(model, area, buf, "Load", []);
    let total = model.shown().proxies.streams();
    let mut x = area.x + 8;
    for proxy in model.shown().proxies.up() {
        let share = if total > 0 { proxy.streams as f64 / total as f64 } else { 0.0 };
        let (filled, track) = bars::horizontal(share, 6);
        let spans = vec![
            Span::styled(cut(&proxy.name, 9), theme.text),
            Span::raw(" "),
            Span::styled(filled, theme.load),
            Span::styled(track, theme.rule),
            Span::styled(format!("{:>3.0}%  ", share * 100.0), theme.dim),
        ];
        let line = Line::from(spans);
        let width = u16::try_from(line.width()).unwrap_or(u16::MAX);
        if x.saturating_add(width) > area.right() + 2 {
            break;
        }
        put(buf, x, area.y, area, line);
        x += width;
    }
    if model.shown().proxies.up().next().is_none() {
        put(buf, x, area.y, area, Line::styled("no proxy yet", theme.dim));
    }
}
