//! Draws the model. Every view takes `&Model` and an area of the buffer; no view changes the model, reads a clock or
//! performs I/O.

mod ascii;
mod bars;
mod chart;

mod column_picker;
mod detail;
mod dialog;
mod facts;
mod flow;
mod footer;
mod header;
mod help_window;
mod latency;
mod limits;
mod log;
mod proxies;
mod proxy_load;
mod services;
mod sessions;
mod streams;
mod table;
mod users;

use ratatui::{
    buffer::Buffer,
    layout::{Constraint, Position, Rect},
    style::{Color, Style},
    text::{Line, Span},
};

use super::{
    format,
    layout::{Layout, OverviewLayout},
    model::{Model, Overlay, ScreenId},
};

/// The width in cells below which the reason of a refusal is left out: less than an address and a word.
const MIN_REASON_WIDTH: usize = 24;

/// Draws a frame into `buf`: the current screen, and the overlay above it if one is open.
pub(crate) fn draw(model: &Model, buf: &mut Buffer) {
    let layout = model.layout();
    if layout.header.intersection(buf.area) != layout.header {
        // The terminal has shrunk, and the resize message has not been handled yet.
        return;
    }
    if !layout.has_table {
        return header::draw_too_small(model, layout.header, buf);
    }
    header::draw(model, layout.header, buf);
    draw_rule(model, layout.rule, buf);
    header::draw_tab_underline(model, layout.rule, buf);
    match (model.shown_detail(), model.screen) {
        (Some(open), _) => detail::draw(model, open, layout.body, buf),
        (None, ScreenId::Streams) => overview(model, &layout, buf),
        (None, ScreenId::Proxies) => proxies::draw(model, layout.body, buf),
        (None, ScreenId::Sessions) => sessions::draw(model, buf),
        (None, ScreenId::Logs) => log::draw_screen(model, layout.body, buf),
    }
    footer::draw_notice(model, layout.notice, buf);
    footer::draw_keys(model, layout.footer, buf);
    match &model.overlay {
        Some(Overlay::Dialog(open)) => dialog::draw(model, open, buf),
        Some(Overlay::Help { scroll, search }) => help_window::draw(model, *scroll, search, buf),
        Some(Overlay::AddProxy { is_secret_shown }) => {
            dialog::draw_join_command(model, *is_secret_shown, buf)
        }
        Some(Overlay::Columns { focus }) => column_picker::draw(model, *focus, buf),
        Some(Overlay::Prompt(_)) | None => {}
    }
    if model.display.ascii {
        ascii::replace_non_ascii(buf);
    }
}

/// Draws the streams screen: proxy load and throughput, the streams table, and the newest log records.
fn overview(model: &Model, layout: &Layout, buf: &mut Buffer) {
    match layout.overview {
        OverviewLayout::Panels { proxies, chart } => {
            proxy_load::draw_panel(model, proxies, buf);
            chart::draw_panel(model, chart, buf);
        }
        OverviewLayout::Lines { proxies, chart } => {
            proxy_load::draw_summary_line(model, proxies, buf);
            chart::draw_summary_line(model, chart, buf);
        }
        OverviewLayout::Hidden => {}
    }
    streams::draw_title(model, layout.title, buf);
    streams::draw_table(model, layout.table, buf);
    log::draw(model, layout.log, buf);
}

/// Returns the screen as text, a line for each row, without trailing blanks.
pub(crate) fn as_text(model: &Model) -> String {
    let mut buffer = Buffer::empty(Rect::new(0, 0, model.size.width, model.size.height));
    draw(model, &mut buffer);
    let mut text = String::new();
    for y in 0..buffer.area.height {
        let row: String = (0..buffer.area.width).map(|x| buffer[(x, y)].symbol()).collect();
        text.push_str(row.trim_end());
        text.push('\n');
    }
    text
}

/// Formats a rate in bytes or bits per second, as the operator chose, without the unit.
fn rate(model: &Model, bytes_per_second: f64) -> String {
    format::rate(if model.display.bits { bytes_per_second * 8.0 } else { bytes_per_second })
}

/// Returns the text and style of a table cell with a rate; rates below one byte per second are faint.
fn rate_cell(model: &Model, bytes_per_second: f64, style: Style) -> (String, Style) {
    (rate(model, bytes_per_second), if bytes_per_second < 1.0 { model.theme.faint } else { style })
}

/// Returns the part of a section title about refused clients, in at most `room` cells: how many there were, what
/// happened to them, and the `last` one with its reason where it fits. Empty while there was none.
fn refusals(count: u64, what: &str, last: Option<&str>, room: usize) -> String {
    if count == 0 {
        return String::new();
    }
    let text = format!(" · {} {what}", format::count(count));
    match last {
        Some(last) if text.len() + MIN_REASON_WIDTH <= room => {
            format::truncate(&format!("{text}: {last}"), room)
        }
        _ => text,
    }
}

/// Returns the unit of displayed rates: bytes or bits per second, as the operator chose.
fn unit(model: &Model) -> &'static str {
    if model.display.bits { "bit/s" } else { "B/s" }
}

/// Draws a horizontal rule.
fn draw_rule(model: &Model, area: Rect, buf: &mut Buffer) {
    if area.height > 0 {
        buf.set_string(area.x, area.y, "─".repeat(area.width.into()), model.theme.rule);
    }
}

/// Draws a section's title in the first row of `area`: a mark, the name, then `rest`, truncated at the right edge.
fn draw_section_title<'a>(
    model: &Model,
    area: Rect,
    buf: &mut Buffer,
    name: &'a str,
    rest: impl IntoIterator<Item = Span<'a>>,
) {
    let mut spans = vec![Span::styled("▎ ", model.theme.accent), Span::styled(name, model.theme.strong)];
    spans.extend(rest);
    draw_line(buf, area.x, area.y, area, Line::from(spans));
}

/// Changes the style of a row that is drawn already to that of the selected row. Faint text becomes dim text: faint
/// is hard to read on the selection's background.
fn draw_selection(model: &Model, strip: Rect, buf: &mut Buffer) {
    let theme = &model.theme;
    buf.set_style(strip, theme.selected);
    for x in strip.left()..strip.right() {
        let cell = &mut buf[(x, strip.y)];
        if Some(cell.fg) == theme.faint.fg {
            cell.set_style(Style::new().fg(theme.dim.fg.unwrap_or(Color::Reset)));
        }
    }
    draw_line(buf, strip.x, strip.y, strip, Line::styled("▌", model.theme.accent));
}

/// Draws a line at a position inside `area`, truncated at its right edge; nothing if the position is outside.
fn draw_line(buf: &mut Buffer, x: u16, y: u16, area: Rect, line: Line<'_>) {
    if area.contains(Position::new(x, y)) {
        buf.set_line(x, y, &line, area.right() - x);
    }
}

/// Draws a line like [`draw_line`], with `…` in the last cell if it is truncated.
fn draw_line_truncated(buf: &mut Buffer, x: u16, y: u16, area: Rect, line: Line<'_>) {
    let cut = line.width() > usize::from(area.right().saturating_sub(x));
    draw_line(buf, x, y, area, line);
    if cut && area.contains(Position::new(x, y)) {
        buf[(area.right() - 1, y)].set_char('…');
    }
}

/// Draws a line right-aligned in the first row of `area`, unless it would overlap the first `taken` cells. Returns
/// whether it was drawn.
fn draw_line_right(buf: &mut Buffer, area: Rect, taken: u16, line: Line<'_>) -> bool {
    let width = u16::try_from(line.width()).unwrap_or(u16::MAX);
    let fits = area.height > 0 && taken.saturating_add(width) <= area.width;
    if fits {
        buf.set_line(area.right() - width, area.y, &line, width);
    }
    fits
}

/// Clears an area and draws a frame with a title around it. Returns the area inside the frame.
fn draw_window(model: &Model, area: Rect, buf: &mut Buffer, border: Style, title: &str) -> Rect {
    use ratatui::widgets::{Block, BorderType, Clear, Widget};
    Clear.render(area, buf);
    let block = Block::bordered()
        .border_type(BorderType::Rounded)
        .border_style(border)
        // Without a colour of its own the title would have the colour of the frame.
        .title(Span::styled(format!(" {title} "), model.theme.strong.fg(Color::Reset)));
    let inner = block.inner(area);
    block.render(area, buf);
    inner
}

/// Returns an area in the centre of the screen, of at most `width` columns and `height` rows. The last row stays
/// visible: it has the keys.
fn centered(buf: &Buffer, width: u16, height: u16) -> Rect {
    let rows = Rect { height: buf.area.height.saturating_sub(1), ..buf.area };
    let area = buf.area.centered(Constraint::Length(width), Constraint::Length(height.min(rows.height)));
    area.clamp(rows)
}
