//! The model as a screen. Every view takes `&Model` and a part of the buffer, and changes nothing.

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
    layout::{Position, Rect},
    style::{Color, Style},
    text::{Line, Span},
};

use super::{
    format,
    layout::{Layout, OverviewLayout},
    model::{Model, Overlay, ScreenId},
};

/// Draws everything.
pub(crate) fn draw(model: &Model, buf: &mut Buffer) {
    let layout = model.layout();
    if layout.header.intersection(buf.area) != layout.header {
        // The terminal has shrunk, and the message that says so is still to come.
        return;
    }
    if !layout.has_table {
        return header::small(model, layout.header, buf);
    }
    header::draw(model, layout.header, buf);
    rule(model, layout.rule, buf);
    header::underline(model, layout.rule, buf);
    match (model.shown_detail(), model.screen) {
        (Some(open), _) => detail::draw(model, open, layout.body, buf),
        (None, ScreenId::Streams) => overview(model, &layout, buf),
        (None, ScreenId::Proxies) => proxies::draw(model, layout.body, buf),
        (None, ScreenId::Sessions) => sessions::draw(model, buf),
        (None, ScreenId::Logs) => log::screen(model, layout.body, buf),
    }
    footer::notice(model, layout.notice, buf);
    footer::keys(model, layout.footer, buf);
    match &model.overlay {
        Some(Overlay::Dialog(open)) => dialog::draw(model, open, buf),
        Some(Overlay::Help { scroll, search }) => help_window::draw(model, *scroll, search, buf),
        Some(Overlay::AddProxy) => dialog::add_proxy(model, buf),
        Some(Overlay::Columns { focus }) => column_picker::draw(model, *focus, buf),
        Some(Overlay::Prompt(_)) | None => {}
    }
    if model.display.ascii {
        ascii::only(buf);
    }
}

fn overview(model: &Model, layout: &Layout, buf: &mut Buffer) {
    match layout.overview {
        OverviewLayout::Panels { proxies, chart } => {
            proxy_load::draw_panel(model, proxies, buf);
            chart::panel(model, chart, buf);
        }
        OverviewLayout::Lines { proxies, chart } => {
            proxy_load::draw_line(model, proxies, buf);
            chart::line(model, chart, buf);
        }
        OverviewLayout::Hidden => {}
    }
    streams::title(model, layout.title, buf);
    streams::table(model, layout.table, buf);
    log::draw(model, layout.log, buf);
}

/// The screen as text, a line for each row, without trailing blanks.
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

/// A rate in the unit that the operator wants, without the `/s`.
fn rate(model: &Model, bytes_per_second: f64) -> String {
    format::rate(if model.display.bits { bytes_per_second * 8.0 } else { bytes_per_second })
}

/// Returns the text and style of a table cell with a rate; rates below one byte per second are faint.
fn rate_cell(model: &Model, bytes_per_second: f64, style: Style) -> (String, Style) {
    (rate(model, bytes_per_second), if bytes_per_second < 1.0 { model.theme.faint } else { style })
}

/// Returns the unit of rates.
fn unit(model: &Model) -> &'static str {
    if model.display.bits { "bit/s" } else { "/s" }
}

/// A horizontal rule.
fn rule(model: &Model, area: Rect, buf: &mut Buffer) {
    if area.height > 0 {
        buf.set_string(area.x, area.y, "─".repeat(area.width.into()), model.theme.rule);
    }
}

/// A section's title: the mark, the name, then whatever else, cut at the end of the area.
fn section<'a>(
    model: &Model,
    area: Rect,
    buf: &mut Buffer,
    name: &'a str,
    rest: impl IntoIterator<Item = Span<'a>>,
) {
    let mut spans = vec![Span::styled("▎ ", model.theme.accent), Span::styled(name, model.theme.strong)];
    spans.extend(rest);
    put(buf, area.x, area.y, area, Line::from(spans));
}

/// Marks the selected row. What is hard to read on the ground of the others would be harder on this one.
fn select(model: &Model, strip: Rect, buf: &mut Buffer) {
    let theme = &model.theme;
    buf.set_style(strip, theme.selected);
    for x in strip.left()..strip.right() {
        let cell = &mut buf[(x, strip.y)];
        if Some(cell.fg) == theme.faint.fg {
            cell.set_style(Style::new().fg(theme.dim.fg.unwrap_or(Color::Reset)));
        }
    }
    put(buf, strip.x, strip.y, strip, Line::styled("▌", model.theme.accent));
}

/// Puts a line at a place, cut at the right end of the area.
fn put(buf: &mut Buffer, x: u16, y: u16, area: Rect, line: Line<'_>) {
    if area.contains(Position::new(x, y)) {
        buf.set_line(x, y, &line, area.right() - x);
    }
}

/// The same, and says so where it is cut.
fn put_cut(buf: &mut Buffer, x: u16, y: u16, area: Rect, line: Line<'_>) {
    let cut = line.width() > usize::from(area.right().saturating_sub(x));
    put(buf, x, y, area, line);
    if cut && area.contains(Position::new(x, y)) {
        buf[(area.right() - 1, y)].set_char('…');
    }
}

/// Puts a line at the right end of an area's first row, if that leaves `taken` cells at its left alone; says whether
/// it did.
fn put_right(buf: &mut Buffer, area: Rect, taken: u16, line: Line<'_>) -> bool {
    let width = u16::try_from(line.width()).unwrap_or(u16::MAX);
    let fits = area.height > 0 && taken.saturating_add(width) <= area.width;
    if fits {
        buf.set_line(area.right() - width, area.y, &line, width);
    }
    fits
}

/// Wipes an area and draws a frame around it; gives back what is inside.
fn window(model: &Model, area: Rect, buf: &mut Buffer, border: Style, title: &str) -> Rect {
    use ratatui::widgets::{Block, BorderType, Clear, Widget};
    Clear.render(area, buf);
    let block = Block::bordered()
        .border_type(BorderType::Rounded)
        .border_style(border)
        // The title would take on the colour of the frame.
        .title(Span::styled(format!(" {title} "), model.theme.strong.fg(Color::Reset)));
    let inner = block.inner(area);
    block.render(area, buf);
    inner
}

/// A rectangle of at most this size in the middle of the screen.
fn centred(buf: &Buffer, width: u16, height: u16) -> Rect {
    let (width, height) = (width.min(buf.area.width), height.min(buf.area.height));
    Rect::new((buf.area.width - width) / 2, (buf.area.height - height) / 2, width, height)
}
