//! The streams screen below its overview: the title of the table with its counts, the table, and what to do while it is
//! empty. Only the rows that are on the screen are formatted.

mod cells;

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
};

use super::{draw_line, draw_line_right, draw_section_title, proxy_load};
use crate::tui::{
    columns::StreamColumn,
    format,
    layout::{OverviewLayout, SELECTION_MARGIN},
    model::Model,
};

/// Draws the title of the streams table: how many streams are open, ended and hidden, the filter, the marks, and the
/// position of the cursor.
pub(crate) fn draw_title(model: &Model, area: Rect, buf: &mut Buffer) {
    let theme = &model.theme;
    let streams = &model.shown().streams;
    let (open, ended) = model.open_and_ended_counts();
    // Whatever the table does not show is counted here.
    let of = |shown: usize, all: usize| match shown == all {
        true => format::count(all as u64),
        false => format!("{} of {}", format::count(shown as u64), format::count(all as u64)),
    };
    let mut text = format!("  {} open", of(open, streams.open_count()));
    if streams.ended_count() > 0 {
        let ended = match model.streams_screen.show_ended {
            true => of(ended, streams.ended_count()),
            false => format::count(streams.ended_count() as u64),
        };
        let hidden = if model.streams_screen.show_ended { "" } else { " (hidden)" };
        text.push_str(&format!(" · {ended} ended{hidden}"));
    }
    if streams.dropped_count() > 0 {
        text.push_str(&format!(" · {} older dropped", format::count(streams.dropped_count())));
    }
    let mut rest = vec![Span::styled(text, theme.dim)];
    if !model.streams_screen.filter.is_empty() {
        rest.push(Span::styled("  / ", theme.accent));
        rest.push(Span::styled(format::truncate(model.streams_screen.filter.text(), 40), theme.text));
    }
    if !model.streams_screen.marks.is_empty() {
        rest.push(Span::styled(
            format!("  * {} marked", format::count(model.streams_screen.marks.len() as u64)),
            theme.warn,
        ));
    }
    let missing = model.streams_screen.columns.missing(&model.visible_columns());
    if !missing.is_empty() {
        let names: Vec<&str> = missing.into_iter().map(StreamColumn::name).collect();
        rest.push(Span::styled(format!("  no room for column {}", names.join(", ")), theme.warn));
    }
    if model.server_status.missed_events > 0 {
        let missed = format!("  ! {} missed", format::counted(model.server_status.missed_events, "event"));
        rest.push(Span::styled(missed, theme.warn));
    }
    let totals = model.shown().totals;
    // While the rows of all that failed are listed, they say it themselves.
    let has_unlisted = totals.streams_failed > streams.failed_count() as u64;
    let failed = if has_unlisted { totals.streams_failed } else { 0 };
    for (count, what, style) in [
        (failed, "failed", theme.dim),
        (totals.users_rejected, "refused", theme.warn),
        (totals.forwarding_loops, "in a loop", theme.warn),
        (totals.streams_empty, "empty", theme.dim),
    ] {
        if count > 0 {
            rest.push(Span::styled(format!(" · {} {what}", format::count(count)), style));
        }
    }
    let taken = 11 + rest.iter().map(Span::width).sum::<usize>();
    draw_section_title(model, area, buf, "Streams", rest);
    let taken = u16::try_from(taken).unwrap_or(u16::MAX);
    let rows = model.rows().len();
    let mut right = Vec::new();
    if rows > 0 {
        let text =
            format!("row {} of {}  ", model.streams_screen.cursor.index() + 1, format::count(rows as u64));
        right.push(Span::styled(text, theme.dim));
    }
    if model.frozen.is_none() {
        right.push(Span::styled(format!("refresh {} ms ", model.sample_interval.as_millis()), theme.dim));
    }
    // The heading of the sorted column is marked too, but that column may have no room.
    let sort = model.shown().streams.sort();
    let arrow = if sort.is_descending() { '▾' } else { '▴' };
    let sorted = Span::styled(format!("  sort {} {arrow}  ", sort.by.name()), theme.dim);
    let with_sort = [vec![sorted], right.clone()].concat();
    if !draw_line_right(buf, area, taken, Line::from(with_sort)) {
        draw_line_right(buf, area, taken, Line::from(right));
    }
}

/// Draws the headings of the streams table, and the rows from the scroll position on. Formatting all of 10,000 rows
/// would take 60 ms a frame.
pub(crate) fn draw_table(model: &Model, area: Rect, buf: &mut Buffer) {
    let rows = model.rows();
    if rows.is_empty() {
        return draw_empty_table(model, area, buf);
    }
    let page = usize::from(area.height.saturating_sub(1));
    let offset = model.streams_screen.cursor.offset().min(rows.len());
    let shown = rows[offset..].iter().take(page);
    let shown = shown.filter_map(|id| model.shown().streams.get(*id).map(|row| (*id, row)));
    let columns = model.visible_columns();
    draw_line(buf, area.x + SELECTION_MARGIN, area.y, area, cells::headings(model, &columns));
    for (y, (id, row)) in (area.y + 1..area.bottom()).zip(shown) {
        draw_line(buf, area.x + SELECTION_MARGIN, y, area, cells::row(model, &columns, row));
        if model.streams_screen.marks.contains(&id) {
            draw_line(buf, area.x + 1, y, area, Line::styled("*", model.theme.warn));
        }
        if model.streams_screen.cursor.selected() == Some(id) {
            super::draw_selection(model, Rect { y, height: 1, ..area }, buf);
        }
    }
    debug_assert!(columns.contains(StreamColumn::Stream), "commands name the key of a row");
}

/// Draws, in place of a streams table without rows, why it has none and what the operator can do.
fn draw_empty_table(model: &Model, area: Rect, buf: &mut Buffer) {
    let theme = &model.theme;
    let mut lines = vec![Line::default()];
    if !model.streams_screen.filter.is_empty() {
        lines.push(Line::from(vec![
            Span::styled("  No stream matches the filter ", theme.text),
            Span::styled(model.streams_screen.filter.text().to_owned(), theme.accent),
        ]));
        lines.push(Line::styled("  Esc clears it.", theme.dim));
    } else if !model.server_status.has_sample {
        lines.push(Line::styled("  Waiting for the first sample…", theme.dim));
    } else if model.shown().streams.ended_count() > 0 {
        lines.push(Line::styled("  No stream is open. t shows ended streams.", theme.text));
    } else if model.shown().proxies.connected().next().is_none()
        && !matches!(model.layout().overview, OverviewLayout::Panels { .. })
    {
        // The panel that says so is not on this screen.
        lines.push(Line::styled(format!("  {}", proxy_load::no_proxy_text(model)), theme.text));
        lines.extend(proxy_load::join_command(model, area.width));
    } else {
        let text =
            if model.shown().totals.streams_total > 0 { "No stream is open." } else { "No stream yet." };
        lines.push(Line::styled(format!("  {text}"), theme.text));
        let mut ports: Vec<_> = model
            .shown()
            .proxies
            .connected()
            .flat_map(|proxy| &proxy.services)
            .map(|service| service.port)
            .collect();
        ports.sort_unstable();
        ports.dedup();
        if let Some(curl) = &model.labels.curl {
            lines.push(Line::from(vec![
                Span::styled("  Try:  ", theme.dim),
                Span::styled(curl.clone(), theme.accent),
            ]));
        } else if !ports.is_empty() {
            let width = usize::from(area.width).saturating_sub("  Public ports  ".len());
            let ports = format::ports(&ports, width);
            lines.push(Line::from(vec![
                Span::styled("  Public ports  ", theme.dim),
                Span::styled(ports, theme.accent),
            ]));
        }
    }
    for (y, line) in (area.top()..area.bottom()).zip(lines) {
        draw_line(buf, area.x, y, area, line);
    }
}
