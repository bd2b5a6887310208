//! One stream, looked at closely.

use std::time::SystemTime;

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
};

use super::{bars, chart, put, section};
use crate::{
    telemetry::EventKind,
    tui::{
        format::{self, fit, fit_right},
        model::{Detail, Model, Row, state},
    },
};

/// The end points, the figures, the curve, what happened.
pub(crate) fn draw(model: &Model, detail: &Detail, area: Rect, buf: &mut Buffer) {
    let theme = &model.theme;
    let Some(row) = model.shown().streams.get(detail.row) else {
        section(
            model,
            area,
            buf,
            "Stream",
            [Span::styled(format!("  {} is forgotten", detail.key), theme.dim)],
        );
        return;
    };
    let state_style = if row.is_live() { theme.ok } else { theme.dim };
    let title = [
        Span::styled(format!("  {}", row.key), theme.accent.patch(theme.strong)),
        Span::styled(format!("  {}", state(row).to_uppercase()), state_style),
        Span::styled(format!("  {}", format::age(row.age(model.shown().now))), theme.text),
        Span::styled(if model.frozen.is_some() { "  FROZEN" } else { "" }, theme.warn),
    ];
    section(model, area, buf, "Stream", title);
    let mut lines = route(model, row);
    lines.extend(figures(model, row, area.width));
    let mut y = area.y + 1;
    for line in lines {
        put(buf, area.x, y, area, line);
        y += 1;
    }
    // A blank row before each section.
    let left = area.bottom().saturating_sub(y + 1);
    let events = u16::try_from(model.journal.of(row.key).len()).unwrap_or(u16::MAX).saturating_add(1);
    let below = events.min(left / 2).max(3).min(left);
    let curve = left.saturating_sub(below + 1);
    if curve >= 5 && area.width >= 40 && !detail.history.is_empty() {
        let plot = Rect { y: y + 1, height: curve, ..area };
        let rest = [Span::styled(
            format!("  since it was opened here, last {}  [ ]", chart::window(model)),
            theme.dim,
        )];
        section(model, plot, buf, "Throughput", rest);
        chart::plot(model, &detail.history, plot, buf);
        y += curve + 1;
    }
    let area = Rect { y: y + 1, height: area.bottom().saturating_sub(y + 1), ..area };
    if area.height >= 2 {
        lifecycle(model, row, area, buf);
    }
}

/// From whom, through what, to where.
fn route(model: &Model, row: &Row) -> Vec<Line<'static>> {
    let theme = &model.theme;
    let label = |text: &str| Span::styled(format!("  {}", fit(text, 10)), theme.dim);
    let shown = model.shown();
    let proxy = row.proxy.map(|id| {
        let name = shown.proxies.name(id);
        let of = shown.proxies.up().filter(|proxy| proxy.services.contains(&row.service)).count();
        let policy = &model.labels.policy;
        (
            format!("{name}  {id}"),
            if policy.is_empty() { String::new() } else { format!("  {policy} over {of}") },
        )
    });
    let (name, why) = proxy.unwrap_or_else(|| ("none yet".to_owned(), String::new()));
    let channel = row.channel.map_or("none yet".to_owned(), |id| id.to_string());
    let mut lines = vec![
        Line::from(vec![
            label("user"),
            Span::styled(row.addr.to_string(), theme.text),
            Span::styled(format!("  {}, {} open", row.key.user, shown.streams_of(row.key.user)), theme.dim),
        ]),
        Line::from(vec![label("service"), Span::styled(format!(":{}", row.service), theme.text)]),
        Line::from(vec![label("proxy"), Span::styled(name, theme.text), Span::styled(why, theme.dim)]),
        Line::from(vec![label("channel"), Span::styled(channel, theme.text)]),
    ];
    if let Some(reason) = row.ended.as_ref().and_then(|ended| ended.reason.as_ref()) {
        let by = format!("  by {:?}", reason.by()).to_lowercase();
        lines.push(Line::from(vec![
            label("ended"),
            Span::styled(reason.to_string(), theme.text),
            Span::styled(by, theme.dim),
        ]));
    }
    lines
}

/// Both directions: now, on average, at most, in all.
fn figures(model: &Model, row: &Row, width: u16) -> Vec<Line<'static>> {
    let theme = &model.theme;
    let seconds = row.age(model.shown().now).as_secs_f64().max(0.1);
    let way = |name: &str, now: f32, peak: f32, total: u64, style| {
        let rate = |rate: f64| fit_right(&super::rate(model, rate), 8);
        Line::from(vec![
            Span::styled(format!("  {}", fit(name, 10)), theme.dim),
            Span::styled(rate(now.into()), style),
            Span::styled(rate(total as f64 / seconds), theme.text),
            Span::styled(rate(peak.into()), theme.text),
            Span::styled(fit_right(&format::bytes(total), 9), theme.strong),
        ])
    };
    let head = [("NOW", 8), ("MEAN", 8), ("PEAK", 8), ("TOTAL", 9)];
    let head: String = head.iter().map(|(text, width)| fit_right(text, *width)).collect();
    let mut lines = vec![
        Line::styled(format!("            {head}"), theme.dim),
        way("down", row.down_rate, row.down_peak, row.down, theme.down),
        way("up", row.up_rate, row.up_peak, row.up, theme.up),
    ];
    if let (Some(share), Some(body)) = (row.progress(), row.download) {
        let (filled, track) = bars::horizontal(share, usize::from(width.saturating_sub(44)).clamp(8, 40));
        let left =
            (body.begun + body.size).saturating_sub(row.down) as f64 / f64::from(row.down_rate).max(1.0);
        let left = if row.is_live() && row.down_rate > 1.0 {
            format!(", {} left", format::age(std::time::Duration::from_secs_f64(left.min(1e9))))
        } else {
            String::new()
        };
        lines.push(Line::from(vec![
            Span::styled(format!("  {}", fit("progress", 10)), theme.dim),
            Span::raw("  "),
            Span::styled(filled, theme.down),
            Span::styled(track, theme.rule),
            Span::styled(
                format!(" {:.0}% of {}{left}", (share * 100.0).floor(), format::bytes(body.size)),
                theme.text,
            ),
        ]));
    }
    lines
}

fn lifecycle(model: &Model, row: &Row, area: Rect, buf: &mut Buffer) {
    let theme = &model.theme;
    section(model, area, buf, "Lifecycle", []);
    let events = model.journal.of(row.key);
    let first = events.first().map(|event| event.at);
    let mut lines: Vec<Line<'static>> = events
        .iter()
        .map(|event| {
            let since = first.and_then(|first| event.at.duration_since(first).ok()).unwrap_or_default();
            let text = match &event.kind {
                EventKind::StreamOpened { addr, service, .. } => format!("opened by {addr}, for {service}"),
                EventKind::StreamAssigned { proxy, .. } => {
                    format!("given to {} ({proxy})", model.shown().proxies.name(*proxy))
                }
                EventKind::StreamEnded { reason, down, up, .. } => {
                    format!("ended: {reason}  ↓ {}  ↑ {}", format::bytes(*down), format::bytes(*up))
                }
                other => other.to_string(),
            };
            Line::from(vec![
                Span::styled(format!("  {}  ", clock(event.at)), theme.faint),
                Span::styled(fit_right(&format!("+{:.3}s", since.as_secs_f64()), 10), theme.dim),
                Span::styled(format!("  {text}"), theme.text),
            ])
        })
        .collect();
    if lines.is_empty() {
        lines.push(Line::styled("  It began before anybody looked.", theme.dim));
    }
    for (y, line) in (area.top() + 1..area.bottom()).zip(lines) {
        put(buf, area.x, y, area, line);
    }
}

/// The time of day in UTC.
fn clock(at: SystemTime) -> String {
    let s = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs() % 86_400;
    format!("{:02}:{:02}:{:02}Z", s / 3600, s / 60 % 60, s % 60)
}
