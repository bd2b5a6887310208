use std::borrow::Cow;

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::Style,
    text::{Line, Span},
    widgets::Widget,
};
use tui_logger::{ExtLogRecord, LogFormatter, TuiLoggerTargetWidget, TuiLoggerWidget};

use super::section;
use crate::{
    ids::clean,
    tui::{format::cut, model::Model, theme::Theme},
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

/// The whole log, its targets beside it where there is room.
pub(crate) fn screen(model: &Model, area: Rect, buf: &mut Buffer) {
    let theme = &model.theme;
    let mut rest = vec![Span::styled("  ↑↓ target  ←→ levels  PgUp PgDn scroll", theme.dim)];
    if !model.log.only.is_empty() {
        rest = vec![
            Span::styled("  / ", theme.accent),
            Span::styled(cut(&model.log.only, 40), theme.text),
            Span::styled("  Esc shows all", theme.dim),
        ];
    }
    section(model, area, buf, "Log", rest);
    let mut lines = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
    if area.width >= 80 {
        let targets = Rect { width: 26, ..lines };
        lines = Rect { x: lines.x + 27, width: lines.width - 27, ..lines };
        let levels = TuiLoggerTargetWidget::default()
            .state(&model.log.state.0)
            .style(theme.text)
            .style_show(theme.ok)
            .style_hide(theme.faint)
            .style_off(theme.faint)
            .highlight_style(theme.selected);
        levels.render(targets, buf);
    }
    let formatter = OneLine { only: model.log.only.clone(), ..OneLine::new(theme) };
    TuiLoggerWidget::default().state(&model.log.state.0).formatter(Box::new(formatter)).render(lines, buf);
}

/// A record in one line that is cut, never wrapped: five rows of log are to be five records.
struct OneLine {
    time: Style,
    text: Style,
    error: Style,
    warn: Style,
    quiet: Style,
    /// Only records with this in them.
    only: String,
}

impl OneLine {
    fn new(theme: &Theme) -> Self {
        Self {
            time: theme.faint,
            text: theme.text,
            error: theme.bad,
            warn: theme.warn,
            quiet: theme.dim,
            only: String::new(),
        }
    }
}

impl LogFormatter for OneLine {
    fn min_width(&self) -> u16 {
        0
    }

    fn format(&self, width: usize, record: &ExtLogRecord) -> Vec<Line<'_>> {
        if !self.only.is_empty() && !format!("{} ", record.msg()).contains(&self.only) {
            return Vec::new();
        }
        let name = record.level.as_str();
        // The level's type is that of the `log` crate, which is not ours to name.
        let (level, text) = match name {
            "ERROR" => (self.error, self.error),
            "WARN" => (self.warn, self.text),
            "INFO" => (self.quiet, self.text),
            _ => (self.quiet, self.quiet),
        };
        // A message may quote what a peer sent.
        let message = clean(record.msg(), width.max(1) * 2);
        let spans = vec![
            Span::styled(format!("  {} ", record.timestamp.strftime("%H:%M:%S")), self.time),
            Span::styled(format!("{name:<5} "), level),
            Span::styled(Cow::Owned(cut(message.trim(), width.saturating_sub(17))), text),
        ];
        vec![Line::from(spans)]
    }
}
