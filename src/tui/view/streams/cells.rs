//! The cells of the streams table: what each column says about a stream.

use ratatui::{
    style::Style,
    text::{Line, Span},
};

use super::super::{
    bars, limits, rate, services,
    table::{self, Cell},
};
use crate::{
    ids::{Priority, Rate},
    telemetry::{EndReason, StreamPhase},
    tui::{
        columns::{StreamColumn, TableColumn as _},
        format::{self, fit, fit_right, truncate_middle, truncate_start},
        layout::FittedColumns,
        model::{Model, SortBy, StreamRow},
        theme::Theme,
    },
};

/// The number of seconds that the trend of a row covers: one for each cell of its column.
const TREND_SECONDS: usize = 8;

/// Returns the heading row of the streams table; the heading of the column by which it is sorted has an arrow for the
/// direction.
pub(super) fn headings(model: &Model, columns: &FittedColumns<StreamColumn>) -> Line<'static> {
    let sort = model.shown().streams.sort();
    let arrow = if sort.is_descending() { '▾' } else { '▴' };
    table::row(columns, |column, _| {
        let heading = column.spec().texts(model.labels.is_of_proxy()).0;
        if sort.by == SortBy::Column(column) {
            Cell::Text(format!("{heading}{arrow}"), model.theme.accent)
        } else {
            Cell::Text(heading.to_owned(), model.theme.dim)
        }
    })
}

/// Returns the row of one stream in the streams table.
pub(super) fn row(model: &Model, columns: &FittedColumns<StreamColumn>, row: StreamRow<'_>) -> Line<'static> {
    let theme = &model.theme;
    table::row(columns, |column, width| {
        if column == StreamColumn::Progress && row.is_live() {
            // Without a known size the bytes so far stand here, unless they have a column of their own.
            let shows_bytes = !columns.contains(StreamColumn::Down);
            return Cell::Spans(progress(row, width, shows_bytes, theme));
        }
        let (text, style) = cell(model, row, column, width);
        // Of an ended stream only the way it ended may stand out.
        let keeps_style = row.is_live() || matches!(column, StreamColumn::State | StreamColumn::Progress);
        Cell::Text(text, if keeps_style { style } else { theme.faint })
    })
}

/// Returns the text and style of one cell of a stream's row; the column is `width` cells wide.
fn cell(model: &Model, row: StreamRow<'_>, column: StreamColumn, width: usize) -> (String, Style) {
    let theme = &model.theme;
    let amount = |n: u64, style: Style| (format::bytes(n), if n == 0 { theme.faint } else { style });
    let rate = |bytes_per_second: f32, style: Style| match row.is_live() {
        true => {
            (rate(model, bytes_per_second.into()), if bytes_per_second < 1.0 { theme.faint } else { style })
        }
        false => ("-".to_owned(), theme.faint),
    };
    let limited = |limit: Option<Rate>, style| if limit.is_some() { theme.warn } else { style };
    let unknown = || ("-".to_owned(), theme.faint);
    match column {
        StreamColumn::Stream => (row.key.to_string(), theme.text),
        StreamColumn::State => state(row, theme),
        StreamColumn::Service => (services::name(&row.service), theme.dim),
        StreamColumn::Proxy => row
            .proxy
            .map_or_else(unknown, |id| (truncate_middle(&model.shown().proxies.name(id), width), theme.text)),
        StreamColumn::Channel => row.channel.map_or_else(unknown, |id| (id.to_string(), theme.dim)),
        StreamColumn::Address => (truncate_start(&format::user_address(row.addr), width), theme.text),
        StreamColumn::Content if row.is_in_grace_period => {
            (content_and_grace_period(model, row, width), theme.warn)
        }
        StreamColumn::Content => match &row.content {
            Some(content) => (content.to_string(), theme.text),
            None => unknown(),
        },
        StreamColumn::Priority => priority(row, theme),
        StreamColumn::Limit => (limits::text(row.limits), theme.warn),
        StreamColumn::UpRate => rate(row.counters.up_rate, limited(row.limits.up, theme.up)),
        StreamColumn::DownRate => rate(row.counters.down_rate, limited(row.limits.down, theme.down)),
        StreamColumn::Up => amount(row.counters.up, theme.text),
        StreamColumn::Down => amount(row.counters.down, theme.text),
        StreamColumn::Progress => end(row, width, theme),
        StreamColumn::Age => (format::age(row.age(model.shown().now)), theme.text),
        StreamColumn::Trend if !row.is_live() => (String::new(), theme.faint),
        StreamColumn::Trend => {
            let rates = row.trend.last(TREND_SECONDS).map(|(down, up)| f64::from(down + up));
            (bars::spark(rates, 0.8), theme.load)
        }
    }
}

/// Returns the content of a stream whose proxy has lost all channels, and how long the server still waits for the
/// proxy to resume before it ends the stream.
fn content_and_grace_period(model: &Model, row: StreamRow<'_>, width: usize) -> String {
    let content = row.content.as_ref().map(ToString::to_string).unwrap_or_default();
    let proxy = row.proxy.and_then(|id| model.shown().proxies.get(id));
    let left = proxy.and_then(|proxy| proxy.grace_remaining).map(format::age).unwrap_or_default();
    let left = format!("resume {left}");
    format!("{} {left}", fit(&content, width.saturating_sub(left.len() + 1)))
}

/// Returns the priority of an open stream; nothing for an ended one.
fn priority(row: StreamRow<'_>, theme: &Theme) -> (String, Style) {
    let (text, style) = match row.priority {
        _ if !row.is_live() => ("", theme.faint),
        Priority::Urgent => ("urgent", theme.warn),
        Priority::High => ("high", theme.accent),
        Priority::Normal => ("normal", theme.dim),
        Priority::Low => ("low", theme.faint),
        Priority::Background => ("background", theme.faint),
    };
    (text.to_owned(), style)
}

/// Returns the state of a stream as its table shows it: in capitals while the stream is open.
fn state(row: StreamRow<'_>, theme: &Theme) -> (String, Style) {
    let (text, style) = match (&row.ended, row.phase) {
        (Some(ended), _) => {
            // That a user disconnects is not a failure of the tunnel.
            let style = match ended.reason {
                Some(EndReason::Killed | EndReason::ProxyKicked) => theme.warn,
                _ if ended.is_failure() => theme.error,
                _ => theme.faint,
            };
            (ended.state_name(), style)
        }
        (None, _) if row.kill_pending => ("kill…", theme.warn),
        (None, _) if row.paused => ("PAUSED", theme.warn),
        (None, _) if row.is_in_grace_period => ("WAIT", theme.warn),
        (None, StreamPhase::Waiting) => ("WAIT", theme.warn),
        (None, StreamPhase::Opening) => ("DIAL", theme.dim),
        (None, StreamPhase::Open) => ("OPEN", theme.ok),
        // One direction has ended; the arrow is the direction that is still open.
        (None, StreamPhase::UserDone) => ("HALF↓", theme.ok),
        (None, StreamPhase::TargetDone) => ("HALF↑", theme.ok),
        (None, StreamPhase::Ended) => ("ended", theme.faint),
    };
    (text.to_owned(), style)
}

/// Returns a bar and the percentage of the download, if its size is known; else the bytes so far, if `shows_bytes`.
fn progress(row: StreamRow<'_>, width: usize, shows_bytes: bool, theme: &Theme) -> Vec<Span<'static>> {
    let Some(share) = row.progress() else {
        let text = if shows_bytes { format::bytes(row.bytes()) } else { String::new() };
        return vec![Span::styled(fit_right(&text, width), theme.dim)];
    };
    let (filled, track) = bars::horizontal(share, width.saturating_sub(5));
    // Rounded down, so that 100 % means that the last byte has arrived.
    let percent = format!(" {:>3.0}%", (share * 100.0).floor());
    vec![
        Span::styled(filled, theme.down),
        Span::styled(track, theme.rule),
        Span::styled(fit_right(&percent, width.min(5)), theme.dim),
    ]
}

/// Returns why a stream ended in at most `width` cells, in the error style if it failed: of a transfer that was cut
/// short, how far it had come. Empty while the stream is open.
fn end(row: StreamRow<'_>, width: usize, theme: &Theme) -> (String, Style) {
    let Some(ended) = &row.ended else {
        return (String::new(), theme.text);
    };
    let style = if ended.is_failure() { theme.error } else { theme.faint };
    let text = match (&ended.reason, ended.shortfall) {
        (None, _) => "end unknown".to_owned(),
        (Some(reason), None) => reason.short().to_owned(),
        (Some(reason), Some(shortfall)) => {
            // The state of the row says what the amounts mean where there is no room for more.
            let whole = match reason.is_failure() {
                true => format!("short: {}", shortfall.short()),
                false => format!("{} at {}", reason.short(), shortfall.short()),
            };
            if whole.chars().count() <= width { whole } else { shortfall.short() }
        }
    };
    (text, style)
}
