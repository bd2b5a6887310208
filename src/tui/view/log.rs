//! The log: the newest records below the streams table, and the log screen. Records come from tui-logger or, filtered,
//! from the model.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::Style,
    text::{Line, Span},
    widgets::Widget,
};
use tui_logger::{ExtLogRecord, LogFormatter, TuiLoggerTargetWidget, TuiLoggerWidget};
use unicode_width::UnicodeWidthStr;

use super::{draw_line, draw_section_title};
use crate::{
    ids::clean,
    tui::{
        format::{self, truncate, truncate_middle},
        labels::Role,
        model::{MAX_MESSAGE_CHARS, MESSAGE_INDENT, Model, message_lines},
        theme::Theme,
    },
};

/// Draws the newest log records below the streams table. They come from tui-logger's buffer, which has every record
/// that the program logs, also those that no event reports.
pub(crate) fn draw(model: &Model, area: Rect, buf: &mut Buffer) {
    if area.height < 2 {
        return;
    }
    // A blank row above the section, if there is room.
    let gap = u16::from(area.height > 5);
    let area = Rect { y: area.y + gap, height: area.height - gap, ..area };
    draw_section_title(model, area, buf, "Log", []);
    let lines = Rect { y: area.y + 1, height: area.height - 1, ..area };
    if model.labels.role != Role::Server {
        return draw_filtered(model, lines, buf);
    }
    TuiLoggerWidget::default().formatter(Box::new(RecordFormatter::new(&model.theme))).render(lines, buf);
}

/// Draws the log screen: all records with the log targets beside them, if there is room; with a filter, only the
/// records that contain it.
pub(crate) fn draw_screen(model: &Model, area: Rect, buf: &mut Buffer) {
    let theme = &model.theme;
    let mut lines = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
    let only = model.log_screen.filter();
    if !only.is_empty() {
        let rest = [
            Span::styled("  / ", theme.accent),
            Span::styled(truncate(&clean(only, 200), 40), theme.text),
            Span::styled("  Esc clears the filter", theme.dim),
        ];
        draw_section_title(model, area, buf, "Log", rest);
        return draw_filtered(model, lines, buf);
    }
    if model.log_screen.lists_own_records() {
        draw_section_title(model, area, buf, "Log", [Span::styled("  PgUp PgDn scroll", theme.dim)]);
        return draw_filtered(model, lines, buf);
    }
    let has_targets = model.shows_log_targets();
    let how =
        if has_targets { "  ↑↓ source  ←→ level  PgUp PgDn scroll" } else { "  PgUp PgDn scroll" };
    draw_section_title(model, area, buf, "Log", [Span::styled(how, theme.dim)]);
    if has_targets {
        let targets = Rect { x: lines.x + 2, width: 27, ..lines };
        lines = Rect { x: lines.x + 29, width: lines.width - 29, ..lines };
        draw_targets(model, targets, buf);
    }
    let formatter = Box::new(RecordFormatter::wrapping(theme));
    TuiLoggerWidget::default().state(&model.log_screen.widget.0).formatter(formatter).render(lines, buf);
}

/// The letters with which tui-logger shows the levels of a log target, and the names of the levels.
const LEVELS: [(&str, &str); 5] =
    [("E", "ERROR"), ("W", "WARN"), ("I", "INFO"), ("D", "DEBUG"), ("T", "TRACE")];

/// The width in cells at which tui-logger draws the log targets, before they are shortened: letters and the longest
/// name.
const TARGET_WIDTH: u16 = 80;

/// Draws the log targets of tui-logger, each with the lowest level that is shown: `≥ INFO server::proxy`. They are
/// drawn aside first, because tui-logger would cut off the ends of their names, which are what differs.
fn draw_targets(model: &Model, area: Rect, buf: &mut Buffer) {
    let theme = &model.theme;
    let mut aside = Buffer::empty(Rect::new(0, 0, TARGET_WIDTH, area.height));
    let targets = TuiLoggerTargetWidget::default()
        .state(&model.log_screen.widget.0)
        .style(theme.text)
        .style_show(theme.ok)
        .style_hide(theme.faint)
        .style_off(theme.faint)
        .highlight_style(theme.selected);
    targets.render(aside.area, &mut aside);
    for row in 0..area.height {
        let Some((lowest, name, style)) = target_of(&aside, row, theme.ok) else { continue };
        let (level, level_style) = match lowest {
            Some(level) => (format!("≥ {level:<5} "), theme.ok),
            None => (format!("{:<8}", "off"), Style::new()),
        };
        let room = usize::from(area.width).saturating_sub(level.width());
        let name = truncate_middle(name.strip_prefix("underpass::").unwrap_or(&name), room);
        let line = Line::from(vec![Span::styled(level, level_style), Span::styled(name, style)]);
        draw_line(buf, area.x, area.y + row, area, line);
    }
}

/// Returns the lowest level that is shown of the target that tui-logger has drawn in a row as `EWIDT:name`, its name
/// and the style of that; `None` for a row without a target. The letters of shown levels have the colour of `shown`.
fn target_of(drawn: &Buffer, row: u16, shown: Style) -> Option<(Option<&'static str>, String, Style)> {
    let letters = LEVELS.len() as u16;
    if drawn[(letters, row)].symbol() != ":" {
        return None;
    }
    let is_shown = |at: u16| {
        let cell = &drawn[(at, row)];
        cell.symbol() == LEVELS[usize::from(at)].0 && Some(cell.fg) == shown.fg
    };
    let lowest = (0..letters).rfind(|at| is_shown(*at)).map(|at| LEVELS[usize::from(at)].1);
    let name: String = (letters + 1..drawn.area.width).map(|x| drawn[(x, row)].symbol()).collect();
    Some((lowest, name.trim_end().to_owned(), drawn[(letters + 1, row)].style()))
}

/// Draws the log records that contain the filter of the log screen, the newest one last.
fn draw_filtered(model: &Model, area: Rect, buf: &mut Buffer) {
    let formatter = RecordFormatter::wrapping(&model.theme);
    let height = usize::from(area.height);
    let mut found: Vec<Line<'static>> = Vec::new();
    for record in model.log_screen.shown() {
        let time = format::time_of_day(record.epoch_ms);
        let lines = formatter.lines(record.level.as_str(), &time, &record.text, area.width.into());
        found.extend(lines.into_iter().rev());
        if found.len() >= height {
            break;
        }
    }
    found.truncate(height);
    found.reverse();
    if found.is_empty() && area.height > 0 {
        let text = Line::styled(format!("  {}", nothing_found(model)), model.theme.dim);
        draw_line(buf, area.x, area.y, area, text);
    }
    for (y, line) in (area.top()..area.bottom()).zip(found) {
        draw_line(buf, area.x, y, area, line);
    }
}

/// Returns why no record is listed: the filter, or that a log of another process begins when the cockpit attaches.
fn nothing_found(model: &Model) -> &'static str {
    match model.labels.role {
        _ if !model.log_screen.filter().is_empty() => "No record contains these words.",
        Role::Attached => {
            "No record since attaching, nor a refusal or failure before; older records are in its own log."
        }
        Role::Server | Role::Replay => "No record yet.",
    }
}

/// Formats a record as one line that is truncated, so that five rows of log are five records; or wrapped, so that all
/// of it can be read.
struct RecordFormatter {
    /// Whether messages that are too long are wrapped.
    wraps: bool,
    /// The style of the time of day.
    time: Style,
    /// The style of the message of records of the levels INFO and WARN.
    text: Style,
    /// The style of level and message of a record of level ERROR.
    error: Style,
    /// The style of the level WARN.
    warn: Style,
    /// The style of the level INFO, and of whole records of lower levels.
    quiet: Style,
}

impl RecordFormatter {
    /// Creates the formatter of the records below a table, which takes one line for each.
    fn new(theme: &Theme) -> Self {
        Self {
            wraps: false,
            time: theme.faint,
            text: theme.text,
            error: theme.error,
            warn: theme.warn,
            quiet: theme.dim,
        }
    }

    /// Creates the formatter of the log screen.
    fn wrapping(theme: &Theme) -> Self {
        Self { wraps: true, ..Self::new(theme) }
    }

    /// Returns a log record as lines of at most `width` cells: time, level, message.
    fn lines(&self, level: &str, time: &str, message: &str, width: usize) -> Vec<Line<'static>> {
        let (style, text) = match level {
            "ERROR" => (self.error, self.error),
            "WARN" => (self.warn, self.text),
            "INFO" => (self.quiet, self.text),
            _ => (self.quiet, self.quiet),
        };
        let room = width.saturating_sub(MESSAGE_INDENT);
        let parts = match self.wraps {
            true => message_lines(message, room),
            // A message may contain text from a peer.
            false => vec![truncate(clean(message, MAX_MESSAGE_CHARS).trim(), room)],
        };
        let head =
            vec![Span::styled(format!("  {time} "), self.time), Span::styled(format!("{level:<5} "), style)];
        let indent = vec![Span::raw(" ".repeat(MESSAGE_INDENT.min(width)))];
        let heads = std::iter::once(head).chain(std::iter::repeat(indent));
        let line = |(mut spans, part): (Vec<Span<'static>>, String)| {
            spans.push(Span::styled(part, text));
            Line::from(spans)
        };
        heads.zip(parts).map(line).collect()
    }
}

impl LogFormatter for RecordFormatter {
    /// Returns 0: a record may be formatted for any width.
    fn min_width(&self) -> u16 {
        0
    }

    /// Formats a record of tui-logger as lines of at most `width` cells.
    fn format(&self, width: usize, record: &ExtLogRecord) -> Vec<Line<'_>> {
        let epoch_ms = record.timestamp.timestamp().as_second().max(0).unsigned_abs().saturating_mul(1000);
        // The level is compared as text: its type belongs to the `log` crate, which is not a dependency here.
        self.lines(record.level.as_str(), &format::time_of_day(epoch_ms), record.msg(), width)
    }
}
