use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
};

use unicode_width::UnicodeWidthStr;

use super::{bars, put, put_right, section};
use crate::tui::{
    format::{self, fit, fit_middle, fit_right, truncate, truncate_middle},
    model::{LoadMeasure, Model, ProxyRow, ServiceRow},
};

/// The proxies as a load distribution: who carries which share of the streams, and how fast.
pub(crate) fn panel(model: &Model, area: Rect, buf: &mut Buffer) {
    let theme = &model.theme;
    let shown = model.shown();
    let policy = shown.services.policy();
    let by = if model.display.load_measure == LoadMeasure::Streams { "streams" } else { "bytes" };
    let rest = [
        Span::styled(format!("  by {by}"), theme.dim),
        Span::styled(
            match policy {
                Some(policy) => format!("  {policy}"),
                None if shown.services.all().is_empty() => String::new(),
                None => "  mixed policies".to_owned(),
            },
            theme.text,
        ),
    ];
    let taken = u16::try_from(12 + rest.iter().map(Span::width).sum::<usize>()).unwrap_or(u16::MAX);
    section(model, area, buf, "Proxy load", rest);
    if let Some(balance) = shown.proxies.balance(policy.unwrap_or_default(), model.display.load_measure) {
        let imbalance = balance.imbalance;
        let style = if imbalance > 2.0 { theme.warn } else { theme.text };
        let spans = vec![
            Span::styled("imbalance ", theme.dim),
            Span::styled(format!("{imbalance:.2}"), style),
            Span::raw("  "),
        ];
        put_right(buf, area, taken, Line::from(spans));
    }
    let mut rows = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
    if let Some(lost) = lost(model) {
        let text = truncate(&format!("  ! {lost}"), usize::from(rows.width).saturating_sub(1));
        put(buf, rows.x, rows.y, rows, Line::styled(text, theme.warn));
        rows = Rect { y: rows.y + 1, height: rows.height.saturating_sub(1), ..rows };
    }
    let all = shown.proxies.all();
    if all.is_empty() {
        return nobody(model, rows, buf);
    }
    let names =
        all.iter().map(|proxy| proxy.name.width() + drains(proxy).len()).max().unwrap_or(0).clamp(8, 20);
    let hidden = all.len().saturating_sub(rows.height.into());
    let count = if hidden > 0 { all.len() - hidden - 1 } else { all.len() };
    let total = shown.proxies.load(model.display.load_measure);
    for (y, proxy) in (rows.top()..rows.bottom()).zip(&all[..count]) {
        put(buf, area.x, y, rows, row(model, proxy, total, names, area.width.into()));
    }
    if hidden > 0 {
        let more = format!("  and {} more", all.len() - count);
        put(buf, area.x, rows.bottom() - 1, rows, Line::styled(more, theme.dim));
    }
}

/// Which public ports nobody can reach any more, which proxies never got one, which ports have no proxy.
pub(super) fn lost(model: &Model) -> Option<String> {
    let shown = model.shown();
    let mut closed = shown.services.lost();
    if let Some(service) = closed.next() {
        let at = service.closed.unwrap_or(shown.now);
        let ago = format::age(shown.now.saturating_duration_since(at));
        let more = closed.count();
        let more = if more > 0 {
            format!(", and {} more", format::counted(more as u64, "port"))
        } else {
            String::new()
        };
        return Some(format!("port {} closed {ago} ago: no proxy serves it{more}", service.key.port));
    }
    let refused = shown.proxies.up().filter(|proxy| proxy.services.is_empty());
    let mut refused = refused.filter_map(|proxy| Some((proxy, proxy.refused.as_ref()?)));
    if let Some((proxy, why)) = refused.next() {
        return Some(format!("{} has no port: {why}", proxy.name));
    }
    let served = |service: &ServiceRow| shown.proxies.up().any(|proxy| proxy.services.contains(&service.key));
    let deserted = shown.services.all().iter().find(|service| !served(service))?;
    Some(format!("port {} has no proxy: users wait for one", deserted.key.port))
}

/// What stands behind its name if it gets no new streams.
fn drains(proxy: &ProxyRow) -> &'static str {
    if proxy.drains() { " drains" } else { "" }
}

/// What it calls itself, and that it gets no new streams, in `width` cells.
fn name(proxy: &ProxyRow, width: usize) -> String {
    let drains = drains(proxy);
    fit(&format!("{}{drains}", truncate_middle(&proxy.name, width.saturating_sub(drains.len()))), width)
}

/// While there is no proxy: how to get one.
fn nobody(model: &Model, area: Rect, buf: &mut Buffer) {
    let theme = &model.theme;
    let mut lines = vec![Line::styled(format!("  {}", nobody_there(model)), theme.text)];
    lines.extend(invitation(model, area.width));
    for (y, line) in (area.top()..area.bottom()).zip(lines) {
        put(buf, area.x, y, area, line);
    }
}

/// How another machine becomes a proxy of this server.
pub(super) fn invitation(model: &Model, width: u16) -> Vec<Line<'static>> {
    let theme = &model.theme;
    let Some(join) = &model.labels.join else { return Vec::new() };
    let parts = format::wrap(join, usize::from(width.saturating_sub(4)).max(1));
    let parts = parts.into_iter().map(|part| Line::styled(format!("  {part}"), theme.accent));
    std::iter::once(Line::styled("  On the machine behind NAT:", theme.dim)).chain(parts).collect()
}

fn row(model: &Model, proxy: &ProxyRow, total: f64, names: usize, width: usize) -> Line<'static> {
    let theme = &model.theme;
    let services = match proxy.services.as_slice() {
        [] => String::new(),
        [only] => format!(":{}", only.port),
        [first, rest @ ..] => format!(":{}+{}", first.port, rest.len()),
    };
    if let Some(gone) = &proxy.gone {
        let ago = format::age(model.shown().now.saturating_duration_since(gone.at));
        let why = gone.reason.as_ref().map(|why| format!(", {why}")).unwrap_or_default();
        let text = format!("  {} {} gone {ago}{why}", fit_middle(&proxy.name, names), fit(&services, 8));
        return Line::styled(truncate(&text, width.saturating_sub(1)), theme.faint);
    }
    if let Some(left) = proxy.waits {
        let streams = format::counted(proxy.streams, "stream");
        let wait = format::verb(proxy.streams, "wait");
        let text = format!(
            "  {} {} no channel; {streams} {wait} {}",
            name(proxy, names),
            fit(&services, 8),
            format::age(left)
        );
        return Line::styled(truncate(&text, width.saturating_sub(1)), theme.warn);
    }
    let share = if total > 0.0 { proxy.load(model.display.load_measure) / total } else { 0.0 };
    let figures = [
        Span::styled(format!(" {:>3.0}%", share * 100.0), theme.text),
        Span::styled(
            format!(" {:>5}", super::rate(model, proxy.rate())),
            if proxy.rate() < 1.0 { theme.faint } else { theme.down },
        ),
        Span::styled(super::unit(model), theme.dim),
    ];
    let mut spans = vec![
        Span::styled(
            format!("  {} ", name(proxy, names)),
            if proxy.drains() { theme.warn } else { theme.text },
        ),
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
    if let Some(lost) = lost(model) {
        let text = truncate(&format!("! {lost}"), usize::from(area.width).saturating_sub(8));
        return put(buf, area.x + 8, area.y, area, Line::styled(text, theme.warn));
    }
    let total = model.shown().proxies.load(model.display.load_measure);
    const MORE: u16 = 4;
    let mut x = area.x + 8;
    let mut left = model.shown().proxies.up().count();
    for proxy in model.shown().proxies.up() {
        let share = if total > 0.0 { proxy.load(model.display.load_measure) / total } else { 0.0 };
        let (filled, track) = bars::horizontal(share, 6);
        let away = proxy.waits.is_some();
        let hindered = away || proxy.drains();
        let mut spans = vec![
            Span::styled(truncate_middle(&proxy.name, 9), if hindered { theme.warn } else { theme.text }),
            Span::raw(" "),
        ];
        if away {
            // As wide as what the others have.
            spans.push(Span::styled(fit("away", 12), theme.warn));
        } else {
            spans.extend([
                Span::styled(filled, theme.load),
                Span::styled(track, theme.rule),
                Span::styled(format!("{:>3.0}%  ", share * 100.0), theme.dim),
            ]);
        }
        let line = Line::from(spans);
        let width = u16::try_from(line.width()).unwrap_or(u16::MAX);
        let last = left == 1;
        // Two blanks end each; what the others come to has to have room behind all but the last one.
        if x.saturating_add(width) > (area.right() + 2).saturating_sub(if last { 0 } else { MORE }) {
            let more = format!("+{left}");
            put(buf, x, area.y, area, Line::styled(more, theme.dim));
            break;
        }
        put(buf, x, area.y, area, line);
        (x, left) = (x + width, left - 1);
    }
    if model.shown().proxies.up().next().is_none() {
        put(buf, x, area.y, area, Line::styled(nobody_there(model), theme.dim));
    }
}

/// That there is no proxy: not yet, or not any more.
pub(super) fn nobody_there(model: &Model) -> String {
    let shown = model.shown();
    let spans =
        shown.proxies.links().iter().flat_map(|(name, spans)| spans.iter().map(move |span| (name, span)));
    let went = spans.filter_map(|(name, span)| Some((span.end?.at, name)));
    went.max_by_key(|(at, _)| *at).map_or("No proxy yet".to_owned(), |(at, name)| {
        format!("No proxy: {name} went {} ago", format::age(shown.now.saturating_duration_since(at)))
    })
}
