use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::Style,
    text::{Line, Span},
    widgets::Widget,
};
use tui_logger::{ExtLogRecord, LogFormatter, TuiLoggerTargetWidget, TuiLoggerWidget};

use super::{put, section};
use crate::{
    ids::clean,
    tui::{
        format::{self, truncate},
        model::Model,
        theme::Theme,
    },
};

/// The last lines of the log. They live in tui-logger's own buffer, not in the model: whatever the program logs is to
/// be seen, also what no event tells.
pub(crate) fn draw(model: &Model, area: Rect, buf: &mut Buffer) {
    if area.height < 2 {
        return;
    }
    // Air above it, where there is room for that.
    let air = u16::from(area.height > 5);
    let area = Rect { y: area.y + air, height: area.height - air, ..area };
    section(model, area, buf, "Log", []);
    let lines = Rect { y: area.y + 1, height: area.height - 1, ..area };
    TuiLoggerWidget::default().formatter(Box::new(OneLine::new(&model.theme))).render(lines, buf);
}

/// The whole log, its targets beside it where there is room; or only the records that were asked for.
pub(crate) fn screen(model: &Model, area: Rect, buf: &mut Buffer) {
    let theme = &model.theme;
    let mut lines = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
    let only = model.log_screen.filter();
    if !only.is_empty() {
        let rest = [
            Span::styled("  / ", theme.accent),
            Span::styled(truncate(&clean(only, 200), 40), theme.text),
            Span::styled("  Esc shows all", theme.dim),
        ];
        section(model, area, buf, "Log", rest);
        return found(model, lines, buf);
    }
    let has_targets = model.shows_log_targets();
    let how =
        if has_targets { "  ↑↓ target  ←→ levels  PgUp PgDn scroll" } else { "  PgUp PgDn scroll" };
    section(model, area, buf, "Log", [Span::styled(how, theme.dim)]);
    if has_targets {
        let targets = Rect { x: lines.x + 2, width: 25, ..lines };
        lines = Rect { x: lines.x + 27, width: lines.width - 27, ..lines };
        let levels = TuiLoggerTargetWidget::default()
            .state(&model.log_screen.widget.0)
            .style(theme.text)
            .style_show(theme.ok)
            .style_hide(theme.faint)
            .style_off(theme.faint)
            .highlight_style(theme.selected);
        levels.render(targets, buf);
    }
    let formatter = Box::new(OneLine::new(theme));
    TuiLoggerWidget::default().state(&model.log_screen.widget.0).formatter(formatter).render(lines, buf);
}

/// The records that were asked for, the newest one last.
fn found(model: &Model, area: Rect, buf: &mut Buffer) {
    let look = OneLine::new(&model.theme);
    let mut found: Vec<_> = model.log_screen.shown().take(area.height.into()).collect();
    found.reverse();
    if found.is_empty() && area.height > 0 {
        put(buf, area.x, area.y, area, Line::styled("  No record has this in it.", model.theme.dim));
    }
    for (y, record) in (area.top()..area.bottom()).zip(found) {
        let line = look.line(
            record.level.as_str(),
            &format::time_of_day(record.epoch_ms),
            &record.text,
            area.width.into(),
        );
        put(buf, area.x, y, area, line);
    }
}

/// A record in one line that is truncate, never wrapped: five rows of log are to be five records.
struct OneLine {
    time: Style,
    text: Style,
    error: Style,
    warn: Style,
    quiet: Style,
}

impl OneLine {
    fn new(theme: &Theme) -> Self {
        Self { time: theme.faint, text: theme.text, error: theme.error, warn: theme.warn, quiet: theme.dim }
    }

    fn line(&self, level: &str, time: &str, message: &str, width: usize) -> Line<'static> {
        let (style, text) = match level {
            "ERROR" => (self.error, self.error),
            "WARN" => (self.warn, self.text),
            "INFO" => (self.quiet, self.text),
            _ => (self.quiet, self.quiet),
        };
        // A message may quote what a peer sent.
        let message = clean(message, width.max(1) * 2);
        Line::from(vec![
            Span::styled(format!("  {time} "), self.time),
            Span::styled(format!("{level:<5} "), style),
            Span::styled(truncate(message.trim(), width.saturating_sub(18)), text),
        ])
    }
}

impl LogFormatter for OneLine {
    fn min_width(&self) -> u16 {
        0
    }

    fn format(&self, width: usize, record: &ExtLogRecord) -> Vec<Line<'_>> {
        let epoch_ms = record.timestamp.timestamp().as_second().max(0).unsigned_abs().saturating_mul(1000);
        // The level's type is that of the `log` crate, which is not ours to name.
        vec![self.line(record.level.as_str(), &format::time_of_day(epoch_ms), record.msg(), width)]
    }
}
