//! The load of the proxies above the streams table: a panel with a row for each proxy, or one line.

use std::collections::HashSet;

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
};

use unicode_width::UnicodeWidthStr;

use super::{bars, draw_line, draw_line_right, draw_section_title};
use crate::tui::{
    format::{self, fit, fit_middle, fit_right, truncate, truncate_middle},
    model::{LoadMeasure, Model, ProxyRow},
};

/// Draws the panel above the streams table: each proxy with its share of the open streams or of the traffic, and its
/// rate.
pub(crate) fn draw_panel(model: &Model, area: Rect, buf: &mut Buffer) {
    let theme = &model.theme;
    let shown = model.shown();
    let policy = shown.services.policy();
    let measure = if model.display.load_measure == LoadMeasure::Streams { "streams" } else { "traffic" };
    let rest = [
        Span::styled(format!("  by {measure}"), theme.dim),
        Span::styled(
            match policy {
                _ if model.labels.is_of_proxy() => String::new(),
                Some(policy) => format!("  {policy}"),
                None if shown.services.all().is_empty() => String::new(),
                None => "  mixed policies".to_owned(),
            },
            theme.text,
        ),
    ];
    let taken = u16::try_from(12 + rest.iter().map(Span::width).sum::<usize>()).unwrap_or(u16::MAX);
    let title = if model.labels.is_of_proxy() { "Server load" } else { "Proxy load" };
    draw_section_title(model, area, buf, title, rest);
    if !model.labels.is_of_proxy()
        && let Some(balance) = shown.proxies.balance(policy.unwrap_or_default(), model.display.load_measure)
    {
        let imbalance = balance.imbalance;
        let style = if imbalance > 2.0 { theme.warn } else { theme.text };
        let spans = vec![
            Span::styled("imbalance ", theme.dim),
            Span::styled(format!("{imbalance:.2}"), style),
            Span::raw("  "),
        ];
        draw_line_right(buf, area, taken, Line::from(spans));
    }
    let mut rows = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
    if let Some(warning) = warning(model) {
        let text = truncate(&format!("  ! {warning}"), usize::from(rows.width).saturating_sub(1));
        draw_line(buf, rows.x, rows.y, rows, Line::styled(text, theme.warn));
        rows = Rect { y: rows.y + 1, height: rows.height.saturating_sub(1), ..rows };
    }
    let all = shown.proxies.all();
    if all.is_empty() {
        return draw_no_proxy(model, rows, buf);
    }
    let names = all
        .iter()
        .map(|proxy| proxy.label.width() + drain_suffix(proxy).len())
        .max()
        .unwrap_or(0)
        .clamp(8, 20);
    let hidden = all.len().saturating_sub(rows.height.into());
    let count = if hidden > 0 { all.len() - hidden - 1 } else { all.len() };
    let total = shown.proxies.load(model.display.load_measure);
    for (y, proxy) in (rows.top()..rows.bottom()).zip(&all[..count]) {
        draw_line(buf, area.x, y, rows, row(model, proxy, total, names, area.width.into()));
    }
    if hidden > 0 {
        let more = format!("  and {} more", all.len() - count);
        draw_line(buf, area.x, rows.bottom() - 1, rows, Line::styled(more, theme.dim));
    }
}

/// Returns the most serious problem with public ports: a port that closed, a proxy that was refused one, or a port
/// without a proxy. `None` if there is no problem.
pub(super) fn warning(model: &Model) -> Option<String> {
    let shown = model.shown();
    let mut closed = shown.services.closed_services();
    if let Some(service) = closed.next() {
        let at = service.closed.unwrap_or(shown.now);
        let ago = format::age(shown.now.saturating_duration_since(at));
        let more = closed.count();
        let more = if more > 0 {
            format!(", and {} more", format::counted(more as u64, "port"))
        } else {
            String::new()
        };
        let why = model.labels.why_closed();
        return Some(format!("port {} closed {ago} ago: {why}{more}", service.key.port));
    }
    if model.labels.is_of_proxy() {
        return None;
    }
    let refused = shown.proxies.connected().filter(|proxy| proxy.services.is_empty());
    let mut refused = refused.filter_map(|proxy| Some((proxy, proxy.registration_error.as_ref()?)));
    if let Some((proxy, why)) = refused.next() {
        return Some(format!("{} has no public port: {why}", shown.proxies.short_name(proxy.id)));
    }
    // A look-up for each of up to thousands of services, each frame.
    let served: HashSet<_> = shown.proxies.connected().flat_map(|proxy| &proxy.services).collect();
    let deserted = shown.services.all().iter().find(|service| !served.contains(&service.key))?;
    Some(format!("port {} has no proxy: users wait for one", deserted.key.port))
}

/// Returns the suffix that marks the name of a draining proxy; empty for any other.
fn drain_suffix(proxy: &ProxyRow) -> &'static str {
    if proxy.is_draining() { " draining" } else { "" }
}

/// Returns the name of a proxy, with the mark of a draining one, in exactly `width` cells.
fn marked_name(proxy: &ProxyRow, width: usize) -> String {
    let suffix = drain_suffix(proxy);
    fit(&format!("{}{suffix}", truncate_middle(&proxy.label, width.saturating_sub(suffix.len()))), width)
}

/// Draws, in place of the rows, that no proxy is connected, and the command that connects one.
fn draw_no_proxy(model: &Model, area: Rect, buf: &mut Buffer) {
    let theme = &model.theme;
    let mut lines = vec![Line::styled(format!("  {}", no_proxy_text(model)), theme.text)];
    lines.extend(join_command(model, area.width));
    for (y, line) in (area.top()..area.bottom()).zip(lines) {
        draw_line(buf, area.x, y, area, line);
    }
}

/// Returns the command by which another machine joins as a proxy, wrapped to `width` cells.
pub(super) fn join_command(model: &Model, width: u16) -> Vec<Line<'static>> {
    let theme = &model.theme;
    let Some(join) = model.join_command() else { return Vec::new() };
    let parts = format::wrap(&join, usize::from(width.saturating_sub(4)).max(1));
    let parts = parts.into_iter().map(|part| Line::styled(format!("  {part}"), theme.accent));
    std::iter::once(Line::styled("  On the machine behind NAT:", theme.dim)).chain(parts).collect()
}

/// Returns the row of a proxy in the load panel, `width` cells wide. `total` is the load of all proxies, `names` the
/// width of the name column in cells.
fn row(model: &Model, proxy: &ProxyRow, total: f64, names: usize, width: usize) -> Line<'static> {
    let theme = &model.theme;
    let ports: Vec<u16> = proxy.services.iter().map(|service| service.port).collect();
    let services = format::ports(&ports, 8);
    if let Some(gone) = &proxy.disconnection {
        let ago = format::age(model.shown().now.saturating_duration_since(gone.at));
        let why = gone.reason.as_ref().map(|why| format!(", {why}")).unwrap_or_default();
        let text = format!(
            "  {} {} disconnected {ago} ago{why}",
            fit_middle(&proxy.label, names),
            fit(&services, 8)
        );
        return Line::styled(truncate(&text, width.saturating_sub(1)), theme.faint);
    }
    if let Some(left) = proxy.grace_remaining {
        let streams = format::counted(proxy.streams, "stream");
        let wait = format::verb(proxy.streams, "wait");
        let text = format!(
            "  {} {} reconnecting; {streams} {wait} {}",
            marked_name(proxy, names),
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
    // Where names are long, their end and the bar are worth more than the word.
    let streams = if width.saturating_sub(names) >= 49 { " open " } else { " " };
    let mut spans = vec![
        Span::styled(
            format!("  {} ", marked_name(proxy, names)),
            if proxy.is_draining() { theme.warn } else { theme.text },
        ),
        Span::styled(fit(&services, 8), theme.dim),
        Span::styled(fit(&format!("{} ch", proxy.channels.len()), 5), theme.dim),
        Span::styled(fit_right(&format::count(proxy.streams), 6), theme.strong),
        Span::styled(streams, theme.dim),
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

/// Draws the load of the proxies in one line: a name and a small bar for each, as many as fit, and the number of the
/// others.
pub(crate) fn draw_summary_line(model: &Model, area: Rect, buf: &mut Buffer) {
    let theme = &model.theme;
    draw_section_title(model, area, buf, "Load", []);
    if let Some(warning) = warning(model) {
        let text = truncate(&format!("! {warning}"), usize::from(area.width).saturating_sub(8));
        return draw_line(buf, area.x + 8, area.y, area, Line::styled(text, theme.warn));
    }
    let total = model.shown().proxies.load(model.display.load_measure);
    // The width of `+12` and its blank.
    const MORE_WIDTH: u16 = 4;
    let mut x = area.x + 8;
    let mut left = model.shown().proxies.connected().count();
    for proxy in model.shown().proxies.connected() {
        let share = if total > 0.0 { proxy.load(model.display.load_measure) / total } else { 0.0 };
        let (filled, track) = bars::horizontal(share, 6);
        let is_reconnecting = proxy.grace_remaining.is_some();
        let needs_attention = is_reconnecting || proxy.is_draining();
        let mut spans = vec![
            Span::styled(
                truncate_middle(&proxy.label, 9),
                if needs_attention { theme.warn } else { theme.text },
            ),
            Span::raw(" "),
        ];
        if is_reconnecting {
            // As wide as the bar and the percentage of the others.
            spans.push(Span::styled("reconnecting", theme.warn));
            spans.push(Span::raw("  "));
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
        // Two blanks end each entry; all but the last one leave room for the number of the others.
        if x.saturating_add(width) > (area.right() + 2).saturating_sub(if last { 0 } else { MORE_WIDTH }) {
            let more = format!("+{left}");
            draw_line(buf, x, area.y, area, Line::styled(more, theme.dim));
            break;
        }
        draw_line(buf, x, area.y, area, line);
        (x, left) = (x + width, left - 1);
    }
    if model.shown().proxies.connected().next().is_none() {
        draw_line(buf, x, area.y, area, Line::styled(no_proxy_text(model), theme.dim));
    }
}

/// Returns the text for a server without proxies: that none has connected yet, or which one disconnected last and
/// when.
pub(super) fn no_proxy_text(model: &Model) -> String {
    let shown = model.shown();
    let links = shown.proxies.links().all().iter();
    let spans = links.flat_map(|link| link.spans.iter().map(move |span| (&link.name, span)));
    let went = spans.filter_map(|(name, span)| Some((span.end?.at, name)));
    let peer = model.labels.peers(1);
    went.max_by_key(|(at, _)| *at).map_or(format!("No {peer} yet"), |(at, name)| {
        let name = truncate_middle(name, 26);
        format!("No {peer}: {name} disconnected {} ago", format::age(shown.now.saturating_duration_since(at)))
    })
}
