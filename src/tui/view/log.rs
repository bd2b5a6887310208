use std::borrow::Cow;

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::Style,
    text::{Line, Span},
    widgets::Widget,
};
use tui_logger::{ExtLogRecord, LogFormatter, TuiLoggerWidget};

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

/// A record in one line that is cut, never wrapped: five rows of log are to be five records.
struct OneLine {
    time: Style,
    text: Style,
    error: Style,
    warn: Style,
    quiet: Style,
}

impl OneLine {
    fn new(theme: &Theme) -> Self {
        Self { time: theme.faint, text: theme.text, error: theme.bad, warn: theme.warn, quiet: theme.dim }
    }
}

impl LogFormatter for OneLine {
    fn min_width(&self) -> u16 {
        0
    }

    fn format(&self, width: usize, record: &ExtLogRecord) -> Vec<Line<'_>> {
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
