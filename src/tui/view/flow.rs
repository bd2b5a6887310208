//! What keeps a stream from going faster, and what that cost so far.

use std::time::Duration;

use ratatui::{
    style::Style,
    text::{Line, Span},
};

use crate::{
    telemetry::{Bottleneck, StreamDetails},
    tui::{
        format::{self, fit, fit_right},
        model::Model,
        theme::Theme,
    },
};

/// How wide a figure is: a blank, and as much as the longest word.
const FIGURE: usize = 9;

/// Everything that is known, one below the other. `live` is whether it still flows; `age` is how long it has lived.
pub(super) fn lines(model: &Model, flow: &StreamDetails, live: bool, age: Duration) -> Vec<Line<'static>> {
    let theme = &model.theme;
    let label = |text: &str| Span::styled(format!("  {}", fit(text, 10)), theme.dim);
    let pair = |name: &str, down: u64, up: u64| {
        let figure = |bytes: u64| {
            let style = if bytes == 0 { theme.faint } else { theme.text };
            Span::styled(fit_right(&format::bytes(bytes), FIGURE), style)
        };
        Line::from(vec![label(name), figure(down), figure(up)])
    };
    let mut lines = Vec::new();
    if live {
        lines.push(Line::styled(
            format!("            {}{}", fit_right("DOWN", FIGURE), fit_right("UP", FIGURE)),
            theme.dim,
        ));
        let (down, up) = (flow.download_bottleneck, flow.upload_bottleneck);
        let held = |by| {
            let (text, style) = held_by(by, theme);
            Span::styled(fit_right(&text, FIGURE), style)
        };
        lines.push(Line::from(vec![label("held by"), held(down), held(up)]));
        lines.push(pair("window", flow.download_window, flow.upload_window));
        let used = |bytes: u64, window: u64| {
            let style = if bytes == 0 { theme.faint } else { theme.text };
            let share = bytes as f64 / window.max(1) as f64 * 100.0;
            Span::styled(fit_right(&format!("{:.0}%", share.min(100.0)), FIGURE), style)
        };
        lines.push(Line::from(vec![
            label("used"),
            used(flow.download_buffered, flow.download_window),
            used(flow.upload_buffered + flow.upload_in_flight, flow.upload_window),
        ]));
        let mut queued = pair("queued", flow.download_buffered, flow.upload_buffered);
        queued.push_span(Span::styled("  in flight ", theme.dim));
        queued.push_span(Span::styled(format::bytes(flow.upload_in_flight), theme.text));
        lines.push(queued);
    }
    lines.push(Line::from(
        vec![label("stalled"), Span::raw("  ")]
            .into_iter()
            .chain(stalls(flow, age, theme))
            .collect::<Vec<_>>(),
    ));
    let failovers = Span::styled(
        format!("  failovers {}", flow.failovers),
        if flow.failovers > 0 { theme.warn } else { theme.text },
    );
    let resent =
        Span::styled(format!(" · resent {}", format::bytes_with_unit(flow.retransmitted_bytes)), theme.dim);
    lines.push(Line::from(vec![label("channels"), failovers, resent]));
    lines
}

/// The same in one line.
pub(super) fn line(model: &Model, flow: &StreamDetails, age: Duration) -> Line<'static> {
    let theme = &model.theme;
    let (down, up) = (flow.download_bottleneck, flow.upload_bottleneck);
    let ((down, down_style), (up, up_style)) = (held_by(down, theme), held_by(up, theme));
    let mut spans = vec![
        Span::styled(format!("  {}", fit("held by", 10)), theme.dim),
        Span::styled(format!("↓ {down}"), down_style),
        Span::styled(format!("  ↑ {up}"), up_style),
        Span::styled("  stalled ", theme.dim),
    ];
    spans.extend(stalls(flow, age, theme));
    Line::from(spans)
}

/// For how long each of them held it back, and which share of its life that is.
fn stalls(flow: &StreamDetails, age: Duration, theme: &Theme) -> Vec<Span<'static>> {
    let mut spans = Vec::new();
    for (name, stalled) in flow.bottleneck_times.all() {
        let share = stalled.as_secs_f64() / age.as_secs_f64().max(0.001) * 100.0;
        let style = if share >= 50.0 { theme.warn } else { theme.text };
        spans.push(Span::styled(format!("{name} "), theme.dim));
        spans.push(Span::styled(format!("{} {:.0}%  ", format::latency(stalled), share.min(100.0)), style));
    }
    if spans.is_empty() {
        spans.push(Span::styled("never", theme.text));
    }
    spans
}

fn held_by(by: Option<Bottleneck>, theme: &Theme) -> (String, Style) {
    match by {
        None => ("nobody".to_owned(), theme.faint),
        Some(by @ (Bottleneck::Operator | Bottleneck::Limit)) => (by.to_string(), theme.warn),
        Some(by) => (by.to_string(), theme.text),
    }
}
