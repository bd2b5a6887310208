//! Which columns the table of streams has at a width, and what each says about a row.

use ratatui::{style::Style, text::Span};

use super::{bars, limits};
use crate::{
    ids::{Priority, Rate},
    telemetry::{EndReason, StreamPhase},
    tui::{
        format::{self, fit, fit_right, truncate_middle, truncate_start},
        model::{Alignment, ColumnSpec, Model, StreamColumn, StreamRow},
        table_columns::FittedColumns,
        theme::Theme,
    },
};

/// How many seconds of its past a row shows.
const TREND: usize = 8;
/// Draws the columns that fit on the screen.
#[derive(Debug)]
pub(super) struct Columns(FittedColumns);

impl Columns {
    /// The columns of the table as it is on the screen.
    pub(super) fn on_screen(model: &Model) -> Self {
        Self(FittedColumns::on_screen(model))
    }

    pub(super) fn has(&self, column: StreamColumn) -> bool {
        self.0.contains(column)
    }

    /// The head of the table; the column it is sorted by is marked.
    pub(super) fn head(&self, model: &Model) -> Vec<Span<'static>> {
        let sort = model.shown().streams.sort();
        let arrow = if sort.is_descending() { '▾' } else { '▴' };
        self.cells(|spec, width| {
            let sorted = spec.sort == Some(sort.by);
            let text = if sorted { format!("{}{arrow}", spec.heading) } else { spec.heading.to_owned() };
            let style = if sorted { model.theme.accent } else { model.theme.dim };
            let text =
                if spec.alignment == Alignment::Right { fit_right(&text, width) } else { fit(&text, width) };
            vec![Span::styled(text, style)]
        })
    }

    /// One row.
    pub(super) fn row(&self, model: &Model, row: StreamRow<'_>) -> Vec<Span<'static>> {
        self.cells(|spec, width| {
            if spec.column == StreamColumn::Progress && row.is_live() {
                // Where nobody told a size there is only what was carried.
                let total = !self.has(StreamColumn::Down);
                return progress(row, width, total, &model.theme);
            }
            let (text, style) = cell(model, row, spec.column, width);
            let text =
                if spec.alignment == Alignment::Right { fit_right(&text, width) } else { fit(&text, width) };
            // A row that has ended is history: only how it ended may stand out.
            let kept = matches!(spec.column, StreamColumn::State | StreamColumn::Progress);
            vec![Span::styled(text, if row.is_live() || kept { style } else { model.theme.faint })]
        })
    }

    fn cells(
        &self,
        mut cell: impl FnMut(&'static ColumnSpec, usize) -> Vec<Span<'static>>,
    ) -> Vec<Span<'static>> {
        let mut spans = Vec::new();
        for (column, width) in self.0.iter() {
            spans.extend(cell(column.spec(), width));
            spans.push(Span::raw(" "));
        }
        spans
    }
}

fn cell(model: &Model, row: StreamRow<'_>, column: StreamColumn, width: usize) -> (String, Style) {
    let theme = &model.theme;
    let amount = |n: u64, style: Style| (format::bytes(n), if n == 0 { theme.faint } else { style });
    let rate = |rate: f32, style: Style| match row.is_live() {
        true => (super::rate(model, rate.into()), if rate < 1.0 { theme.faint } else { style }),
        false => ("-".to_owned(), theme.faint),
    };
    let limited = |limit: Option<Rate>, style| if limit.is_some() { theme.warn } else { style };
    let unknown = || ("-".to_owned(), theme.faint);
    match column {
        StreamColumn::Stream => (row.key.to_string(), theme.text),
        StreamColumn::State => state(row, theme),
        StreamColumn::Service => {
            let text = match row.service.group.as_str() {
                "default" => format!(":{}", row.service.port),
                group => format!(":{}:{group}", row.service.port),
            };
            (text, theme.dim)
        }
        StreamColumn::Proxy => row
            .proxy
            .map_or_else(unknown, |id| (truncate_middle(&model.shown().proxies.name(id), width), theme.text)),
        StreamColumn::Channel => row.channel.map_or_else(unknown, |id| (id.to_string(), theme.dim)),
        StreamColumn::Address => (truncate_start(&row.addr.to_string(), width), theme.text),
        StreamColumn::Content if row.waits => (waits(model, row, width), theme.warn),
        StreamColumn::Content => match &row.content {
            Some(content) => (content.to_string(), theme.text),
            None => unknown(),
        },
        StreamColumn::Priority => priority(row, theme),
        StreamColumn::Limit => (limits::text(row.limits), theme.warn),
        StreamColumn::UpRate => rate(row.figures.up_rate, limited(row.limits.up, theme.up)),
        StreamColumn::DownRate => rate(row.figures.down_rate, limited(row.limits.down, theme.down)),
        StreamColumn::Up => amount(row.figures.up, theme.text),
        StreamColumn::Down => amount(row.figures.down, theme.text),
        StreamColumn::Progress => end(row, theme),
        StreamColumn::Age => (format::age(row.age(model.shown().now)), theme.text),
        StreamColumn::Trend if !row.is_live() => (String::new(), theme.faint),
        StreamColumn::Trend => {
            let rates = row.trend.last(TREND).map(|(down, up)| f64::from(down + up));
            (bars::spark(rates, 0.8), theme.load)
        }
    }
}

/// What it carries, and how long that will be waited for.
fn waits(model: &Model, row: StreamRow<'_>, width: usize) -> String {
    let content = row.content.as_ref().map(ToString::to_string).unwrap_or_default();
    let proxy = row.proxy.and_then(|id| model.shown().proxies.get(id));
    let left = proxy.and_then(|proxy| proxy.waits).map(format::age).unwrap_or_default();
    let left = format!("resume {left}");
    format!("{} {left}", fit(&content, width.saturating_sub(left.len() + 1)))
}

fn priority(row: StreamRow<'_>, theme: &Theme) -> (String, Style) {
    let (text, style) = match row.priority {
        _ if !row.is_live() => ("", theme.faint),
        Priority::Urgent => ("urgent", theme.warn),
        Priority::High => ("high", theme.accent),
        Priority::Normal => ("norm", theme.dim),
        Priority::Low => ("low", theme.faint),
        Priority::Background => ("back", theme.faint),
    };
    (text.to_owned(), style)
}

fn state(row: StreamRow<'_>, theme: &Theme) -> (String, Style) {
    let (text, style) = match (&row.ended, row.phase) {
        (Some(ended), _) => match &ended.reason {
            Some(EndReason::Finished) | None => ("ended", theme.faint),
            Some(EndReason::Killed) => ("killed", theme.warn),
            // That a user left is no failure.
            Some(EndReason::UserSocketError) => ("reset", theme.faint),
            Some(EndReason::UserAborted) => ("left", theme.faint),
            Some(_) => ("failed", theme.error),
        },
        (None, _) if row.killing => ("kill…", theme.warn),
        (None, _) if row.paused => ("PAUSED", theme.warn),
        (None, _) if row.waits => ("WAIT", theme.warn),
        (None, StreamPhase::Waiting) => ("WAIT", theme.warn),
        (None, StreamPhase::Opening) => ("DIAL", theme.dim),
        (None, StreamPhase::Open) => ("OPEN", theme.ok),
        // One half is closed; the arrow is the one that still carries.
        (None, StreamPhase::UserDone) => ("HALF↓", theme.ok),
        (None, StreamPhase::TargetDone) => ("HALF↑", theme.ok),
        (None, StreamPhase::Ended) => ("ended", theme.faint),
    };
    (text.to_owned(), style)
}

/// How far the download is, where its size is known; else how much was carried, where that stands nowhere else.
fn progress(row: StreamRow<'_>, width: usize, total: bool, theme: &Theme) -> Vec<Span<'static>> {
    let Some(share) = row.progress() else {
        let text = if total { format::bytes(row.bytes()) } else { String::new() };
        return vec![Span::styled(fit_right(&text, width), theme.dim)];
    };
    let (filled, track) = bars::horizontal(share, width.saturating_sub(5));
    // Not 100 before the last byte.
    let percent = format!(" {:>3.0}%", (share * 100.0).floor());
    vec![
        Span::styled(filled, theme.down),
        Span::styled(track, theme.rule),
        Span::styled(fit_right(&percent, width.min(5)), theme.dim),
    ]
}

/// How a stream ended.
fn end(row: StreamRow<'_>, theme: &Theme) -> (String, Style) {
    let Some(reason) = row.ended.as_ref().map(|ended| &ended.reason) else {
        return (String::new(), theme.text);
    };
    let style = if state(row, theme).1 == theme.error { theme.error } else { theme.faint };
    (reason.as_ref().map_or("end was missed", short).to_owned(), style)
}

/// A reason in at most 14 cells.
fn short(reason: &EndReason) -> &'static str {
    match reason {
        EndReason::Finished => "finished",
        EndReason::UserSocketError => "user reset",
        EndReason::TargetSocketError => "target reset",
        EndReason::TargetConnectFailed(_) => "target refused",
        EndReason::UserAborted => "user gave up",
        EndReason::NoProxy => "no proxy",
        EndReason::ProxyGone => "proxy gone",
        EndReason::Killed => "by operator",
        EndReason::Shutdown => "shutdown",
        EndReason::Protocol(_) => "protocol",
        EndReason::Internal => "internal error",
    }
}
