//! The detail screen: everything that is known about one stream.

use std::time::Duration;

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
};

use super::{
    chart, draw_line_right, draw_line_truncated, draw_section_title,
    facts::{RankedLine, facts},
    flow, latency, limits, services,
};

use crate::{
    ids::clean,
    telemetry::{EventKind, LogLevel},
    tui::{
        format::{self, fit_right},
        model::{Model, StreamDetail, StreamRow, state_name},
    },
};

/// The width in cells from which on the facts of the stream stand beside its flow control and latencies instead of
/// above them.
const TWO_COLUMN_WIDTH: u16 = 110;

/// Draws the detail screen of one stream: facts, flow control and latencies, then its throughput chart, then its
/// events and log records.
pub(crate) fn draw(model: &Model, detail: &StreamDetail, area: Rect, buf: &mut Buffer) {
    let theme = &model.theme;
    let Some(row) = model.shown().streams.get(detail.row) else {
        draw_section_title(
            model,
            area,
            buf,
            "Stream",
            [Span::styled(format!("  {} is no longer in history", detail.key), theme.dim)],
        );
        return;
    };
    draw_title(model, row, area, buf);
    let below = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
    // Rows that are reserved for the chart and the lifecycle.
    let reserved = match below.height {
        0..14 => 0,
        14..24 => 9,
        _ => 13,
    };
    let room = usize::from(below.height - reserved);
    let used = if area.width >= TWO_COLUMN_WIDTH {
        draw_two_columns(model, detail, row, below, room, buf)
    } else {
        draw_one_column(model, detail, row, below, room, buf)
    };
    let rest = Rect { y: below.y + used, height: below.height - used, ..below };
    draw_chart_and_lifecycle(model, detail, row, rest, buf);
}

/// Draws the title of the detail screen: key, state, age and rate limits of the stream.
fn draw_title(model: &Model, row: StreamRow<'_>, area: Rect, buf: &mut Buffer) {
    let theme = &model.theme;
    let state_style = match row.is_live() {
        true if row.paused => theme.warn,
        true => theme.ok,
        false => theme.dim,
    };
    let rest = [
        Span::styled(format!("  {}", row.key), theme.accent.patch(theme.strong)),
        Span::styled(format!("  {}", state_name(row).to_uppercase()), state_style),
        Span::styled(format!("  {}", format::age(row.age(model.shown().now))), theme.text),
    ];
    let taken = 8 + rest.iter().map(Span::width).sum::<usize>();
    draw_section_title(model, area, buf, "Stream", rest);
    let limits = limits::text(row.limits);
    if !limits.is_empty() {
        let taken = u16::try_from(taken).unwrap_or(u16::MAX);
        draw_line_right(buf, area, taken, Line::styled(format!("  limited {limits} "), theme.warn));
    }
}

/// Draws the facts of the stream in the left half, its flow control and latencies in the right half, in at most
/// `room` rows. Returns the number of rows used.
fn draw_two_columns(
    model: &Model,
    detail: &StreamDetail,
    row: StreamRow<'_>,
    area: Rect,
    room: usize,
    buf: &mut Buffer,
) -> u16 {
    let half = area.width / 2;
    let left = Rect { width: half, ..area };
    let right = Rect { x: area.x + half, width: area.width - half, ..area };
    let facts = keep_most_important(facts(model, row, half - 1), room);
    for (y, line) in (left.top()..left.bottom()).zip(&facts) {
        draw_line_truncated(buf, left.x, y, Rect { width: half - 1, ..left }, line.clone());
    }
    let mut y = right.y;
    let end = right.bottom().min(right.y + u16::try_from(room).unwrap_or(u16::MAX));
    if let Some(known) = &detail.flow {
        draw_section_title(model, Rect { y, ..right }, buf, "Flow", []);
        y += 1;
        for line in flow::lines(model, known, row.is_live(), row.age(model.shown().now), right.width) {
            if y < end {
                draw_line_truncated(buf, right.x, y, right, line);
                y += 1;
            }
        }
        y += u16::from(y < end);
    }
    let lines = latency_table(model, row, right.width, usize::from(end.saturating_sub(y + 1)));
    if !lines.is_empty() {
        draw_section_title(
            model,
            Rect { y, height: right.bottom().saturating_sub(y), ..right },
            buf,
            "Latency",
            [],
        );
        y += 1;
        for line in lines {
            draw_line_truncated(buf, right.x, y, right, line);
            y += 1;
        }
    }
    (y - right.y).max(u16::try_from(facts.len()).unwrap_or(u16::MAX)).min(area.height)
}

/// Draws facts, flow control and latencies of the stream below each other in at most `room` rows. Returns the number
/// of rows used.
fn draw_one_column(
    model: &Model,
    detail: &StreamDetail,
    row: StreamRow<'_>,
    area: Rect,
    room: usize,
    buf: &mut Buffer,
) -> u16 {
    let mut facts = facts(model, row, area.width);
    if let Some(known) = detail.flow.as_ref().filter(|_| row.is_live()) {
        facts.push((3, flow::line(model, known, row.age(model.shown().now), area.width)));
    }
    let table = latency_table(model, row, area.width, room.saturating_sub(facts.len()));
    if table.is_empty()
        && let Some(proxy) = row.proxy.and_then(|id| model.shown().proxies.get(id))
        && let Some(line) = latency::line(model, &proxy.latency)
    {
        facts.push((5, line));
    }
    let mut lines = keep_most_important(facts, room);
    lines.extend(table);
    for (y, line) in (area.top()..area.bottom()).zip(&lines) {
        draw_line_truncated(buf, area.x, y, area, line.clone());
    }
    u16::try_from(lines.len()).unwrap_or(u16::MAX).min(area.height)
}

/// Drops the lines of the highest ranks until `room` lines are left, and returns these in their order.
fn keep_most_important(mut lines: Vec<RankedLine>, room: usize) -> Vec<Line<'static>> {
    while lines.len() > room {
        let last = lines.iter().enumerate().max_by_key(|(_, (rank, _))| *rank).map_or(0, |(at, _)| at);
        lines.remove(last);
    }
    lines.into_iter().map(|(_, line)| line).collect()
}

/// Returns connect latency and time to first byte of the stream's proxy and service as a table of at most `room`
/// lines and `width` cells; empty if nothing was measured.
fn latency_table(model: &Model, row: StreamRow<'_>, width: u16, room: usize) -> Vec<Line<'static>> {
    let shown = model.shown();
    let mut rows = Vec::new();
    if let Some(proxy) = row.proxy.and_then(|id| shown.proxies.get(id)) {
        rows.push((format!("connect {}", proxy.label), &proxy.latency.connect));
        rows.push((format!("TTFB {}", proxy.label), &proxy.latency.time_to_first_byte));
    }
    if let Some(service) = shown.services.find(&row.service) {
        let name = services::name(&service.key);
        rows.push((format!("connect {name}"), &service.latency.connect));
        rows.push((format!("TTFB {name}"), &service.latency.time_to_first_byte));
    }
    rows.retain(|(_, latency)| latency.count > 0);
    // One row is for the headings.
    rows.truncate(room.saturating_sub(1));
    if rows.is_empty() { Vec::new() } else { latency::table(model, &rows, width) }
}

/// Draws the throughput chart of the stream, if there is room for it, and below it the list of its events and log
/// records.
fn draw_chart_and_lifecycle(
    model: &Model,
    detail: &StreamDetail,
    row: StreamRow<'_>,
    area: Rect,
    buf: &mut Buffer,
) {
    let mut y = area.y;
    // A blank row precedes each section.
    let left = area.height.saturating_sub(1);
    let answers = if detail.flow.is_some() { 2 } else { 0 };
    let events =
        u16::try_from(model.journal.of(row.key).len() + answers).unwrap_or(u16::MAX).saturating_add(1);
    // The least height of the chart in rows; the lifecycle makes room for it.
    const MIN_CHART_HEIGHT: u16 = 5;
    let below = events.max(5).min(left / 2).min(left.saturating_sub(MIN_CHART_HEIGHT + 1)).max(2);
    let curve = left.saturating_sub(below + 1);
    if curve >= MIN_CHART_HEIGHT && area.width >= 40 && !detail.history.is_empty() {
        let plot = Rect { y: y + 1, height: curve, ..area };
        let rest = [Span::styled(format!("  last {}  [ ] zoom", chart::window_name(model)), model.theme.dim)];
        draw_section_title(model, plot, buf, "Throughput", rest);
        chart::draw_plot(model, &detail.history, plot, buf);
        y += curve + 1;
    }
    let past = Rect { y: y + 1, height: area.bottom().saturating_sub(y + 1), ..area };
    if past.height < 2 {
        return;
    }
    draw_lifecycle(model, detail, row, past, buf);
}

/// Draws the events of the stream and the log records that name it, ordered by time. Where not all fit, the newest
/// ones.
fn draw_lifecycle(model: &Model, detail: &StreamDetail, row: StreamRow<'_>, area: Rect, buf: &mut Buffer) {
    let theme = &model.theme;
    draw_section_title(model, area, buf, "Events and log", [Span::styled("  L: show in the log", theme.dim)]);
    let events = model.journal.of(row.key);
    let first = events.first().map(|event| event.epoch_ms);
    let line = |at: u64, text: String, style| {
        let since = Duration::from_millis(first.map_or(0, |first| at.saturating_sub(first)));
        let line = Line::from(vec![
            Span::styled(format!("  {}  ", format::time_of_day(at)), theme.faint),
            Span::styled(fit_right(&format!("+{:.3}s", since.as_secs_f64()), 10), theme.dim),
            Span::styled(format!("  {text}"), style),
        ]);
        (at, line)
    };
    let mut lines: Vec<(u64, Line<'static>)> = events
        .iter()
        .map(|event| {
            let text = match &event.kind {
                EventKind::StreamOpened { addr, .. } => format!("opened by {addr}"),
                EventKind::StreamAssigned { proxy, .. } => {
                    format!("assigned to {} ({proxy})", model.shown().proxies.short_name(*proxy))
                }
                EventKind::StreamEnded { reason, shortfall, down, up, .. } => {
                    let reason = reason.describe(shortfall.as_ref());
                    format!("ended: {reason}  ↓ {}  ↑ {}", format::bytes(*down), format::bytes(*up))
                }
                other => other.to_string(),
            };
            let waits = matches!(event.kind, EventKind::GracePeriodStarted { .. });
            line(event.epoch_ms, text, if waits { theme.warn } else { theme.text })
        })
        .collect();
    let given = events.iter().rfind(|event| matches!(event.kind, EventKind::StreamAssigned { .. }));
    if let (Some(flow), Some(given)) = (&detail.flow, given) {
        // There are no events for these two; the details of this stream have their times.
        let answers = [
            ("the target accepted the connection", flow.connect_latency),
            ("first byte from the target", flow.time_to_first_byte),
        ];
        let mut at = given.epoch_ms;
        for (what, after) in answers {
            let Some(after) = after else { continue };
            // Time to first byte counts from the user's first byte, but never precedes the connect.
            at = at.max(given.epoch_ms + after.as_millis() as u64);
            lines.push(line(at, format!("{what} after {}", format::latency(after)), theme.text));
        }
    }
    // An earlier stream may have had the same key.
    let records = model
        .log_screen
        .records_about(row.key)
        .filter(|record| first.is_none_or(|first| record.epoch_ms >= first));
    lines.extend(records.map(|record| {
        let style = if record.level <= LogLevel::Warn { theme.warn } else { theme.text };
        line(record.epoch_ms, clean(&record.text, 200), style)
    }));
    lines.sort_by_key(|(at, _)| *at);
    if lines.is_empty() {
        lines.push((0, Line::styled("  The stream opened before the cockpit started.", theme.dim)));
    }
    // The newest lines, where not all fit.
    let skip = lines.len().saturating_sub(usize::from(area.height - 1));
    for (y, (_, line)) in (area.top() + 1..area.bottom()).zip(lines.into_iter().skip(skip)) {
        draw_line_truncated(buf, area.x, y, area, line);
    }
}
