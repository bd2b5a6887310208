//! The flow section of the detail screen: what limits the stream now, and what limited it so far.

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

/// The width in cells of a figure in the flow section: a blank and the longest word.
const FIGURE_WIDTH: usize = 11;
/// The width in cells of a label in the flow section.
const LABEL_WIDTH: usize = 11;

/// Returns the lines of the flow section: bottleneck, window, buffers, time per bottleneck and failovers. An ended
/// stream (`is_open` is false) has only the last two. `age` is the time since the stream opened, `width` that of a line
/// in cells.
pub(super) fn lines(
    model: &Model,
    flow: &StreamDetails,
    is_open: bool,
    age: Duration,
    width: u16,
) -> Vec<Line<'static>> {
    let theme = &model.theme;
    let label = |text: &str| Span::styled(format!("  {}", fit(text, LABEL_WIDTH)), theme.dim);
    let pair = |name: &str, down: u64, up: u64| {
        let figure = |bytes: u64| {
            let style = if bytes == 0 { theme.faint } else { theme.text };
            Span::styled(fit_right(&format::bytes(bytes), FIGURE_WIDTH), style)
        };
        Line::from(vec![label(name), figure(down), figure(up)])
    };
    let mut lines = Vec::new();
    if is_open {
        lines.push(Line::styled(
            format!(
                "  {}{}{}",
                fit("", LABEL_WIDTH),
                fit_right("DOWN", FIGURE_WIDTH),
                fit_right("UP", FIGURE_WIDTH)
            ),
            theme.dim,
        ));
        let (down, up) = (flow.download_bottleneck, flow.upload_bottleneck);
        let cell = |by| {
            let (text, style) = bottleneck(by, theme);
            Span::styled(fit_right(&text, FIGURE_WIDTH), style)
        };
        lines.push(Line::from(vec![label("bottleneck"), cell(down), cell(up)]));
        lines.push(pair("window", flow.download_window, flow.upload_window));
        let used = |bytes: u64, window: u64| {
            let style = if bytes == 0 { theme.faint } else { theme.text };
            let share = bytes as f64 / window.max(1) as f64 * 100.0;
            Span::styled(fit_right(&format!("{:.0}%", share.min(100.0)), FIGURE_WIDTH), style)
        };
        lines.push(Line::from(vec![
            label("window used"),
            used(flow.download_buffered + flow.download_in_flight, flow.download_window),
            used(flow.upload_buffered + flow.upload_in_flight, flow.upload_window),
        ]));
        let mut queued = pair("buffered", flow.download_buffered, flow.upload_buffered);
        // Each side knows what it has sent itself.
        let (arrow, in_flight) = match model.labels.is_of_proxy() {
            true => ('↓', flow.download_in_flight),
            false => ('↑', flow.upload_in_flight),
        };
        let in_flight = in_flight.min(unacknowledged_by_kernel(model).unwrap_or(u64::MAX));
        queued.push_span(Span::styled(format!("  in flight {arrow} "), theme.dim));
        let style = if in_flight == 0 { theme.faint } else { theme.text };
        queued.push_span(Span::styled(format::bytes(in_flight), style));
        lines.push(queued);
    }
    let mut limited = vec![label("limited by"), Span::raw("  ")];
    push_bottleneck_times(&mut limited, flow, age, theme, width);
    lines.push(Line::from(limited));
    let failovers = Span::styled(
        format!("  failovers {}", flow.failovers),
        if flow.failovers > 0 { theme.warn } else { theme.text },
    );
    let resent =
        Span::styled(format!(" · resent {}", format::bytes_with_unit(flow.retransmitted_bytes)), theme.dim);
    lines.push(Line::from(vec![label("channels"), failovers, resent]));
    lines
}

/// Returns how many bytes all channels of the stream's proxy together have queued or sent without the acknowledgement
/// of TCP; `None` where the kernel does not report it. Not more can be in flight: the peer confirms what a stream has
/// delivered only now and then, so that the end of a short upload would seem to be in flight for ever.
fn unacknowledged_by_kernel(model: &Model) -> Option<u64> {
    let (_, row) = model.selected()?;
    let proxy = model.shown().proxies.get(row.proxy?)?;
    // Without a channel nothing is known of what the others had sent.
    if proxy.channels.is_empty() {
        return None;
    }
    let bytes = proxy.channels.iter().map(|channel| {
        let tcp = channel.tcp?;
        Some(channel.send_queue_bytes + tcp.bytes_in_flight + tcp.unsent_bytes)
    });
    bytes.sum()
}

/// Returns the bottlenecks of both directions, and the time per bottleneck, in one line of at most `width` cells.
pub(super) fn line(model: &Model, flow: &StreamDetails, age: Duration, width: u16) -> Line<'static> {
    let theme = &model.theme;
    let (down, up) = (flow.download_bottleneck, flow.upload_bottleneck);
    let ((down, down_style), (up, up_style)) = (bottleneck(down, theme), bottleneck(up, theme));
    let mut spans = vec![
        Span::styled(format!("  {}", fit("bottleneck", LABEL_WIDTH)), theme.dim),
        Span::styled(format!("↓ {down}"), down_style),
        Span::styled(format!("  ↑ {up}"), up_style),
        Span::styled("  limited by ", theme.dim),
    ];
    push_bottleneck_times(&mut spans, flow, age, theme, width);
    Line::from(spans)
}

/// Appends to a line how long each bottleneck limited the stream, with its percentage of the stream's age: the longest
/// first, as many as fit into `width` cells.
fn push_bottleneck_times(
    line: &mut Vec<Span<'static>>,
    flow: &StreamDetails,
    age: Duration,
    theme: &Theme,
    width: u16,
) {
    let mut times: Vec<_> = flow.bottleneck_times.all().collect();
    times.sort_by_key(|(_, stalled)| std::cmp::Reverse(*stalled));
    if times.is_empty() {
        line.push(Span::styled("nothing", theme.text));
    }
    let mut used: usize = line.iter().map(Span::width).sum();
    let mut is_first = true;
    for (name, stalled) in times {
        let share = stalled.as_secs_f64() / age.as_secs_f64().max(0.001) * 100.0;
        let style = if share >= 50.0 { theme.warn } else { theme.text };
        let time = [
            Span::styled(format!("{} ", bottleneck_name(name)), theme.dim),
            Span::styled(format!("{} {:.0}%", format::latency(stalled), share.min(100.0)), style),
        ];
        used += time.iter().map(Span::width).sum::<usize>();
        // The first one is truncated where it does not fit; what else is left out leaves a sign.
        if used > width.into() && !is_first {
            line.push(Span::styled("…", theme.dim));
            break;
        }
        is_first = false;
        line.extend(time);
        line.push(Span::raw("  "));
        used += 2;
    }
}

/// Returns the name and style of what limits a stream in one direction; `none` if nothing does.
fn bottleneck(by: Option<Bottleneck>, theme: &Theme) -> (String, Style) {
    match by {
        None => ("none".to_owned(), theme.faint),
        Some(by @ (Bottleneck::Operator | Bottleneck::Limit)) => (bottleneck_name(by), theme.warn),
        Some(by) => (bottleneck_name(by), theme.text),
    }
}

/// Returns the name of a bottleneck on the screen. «limit» alone would be read as any of the other ones.
fn bottleneck_name(bottleneck: Bottleneck) -> String {
    match bottleneck {
        Bottleneck::Limit => "rate limit".to_owned(),
        other => other.to_string(),
    }
}
