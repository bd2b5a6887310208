//! Which columns the table of streams has at a width, and what each says about a row.

use ratatui::{style::Style, text::Span};

use super::{bars, limits};
use crate::{
    ids::{Priority, Rate},
    telemetry::{EndReason, StreamPhase},
    tui::{
        format::{self, fit, fit_right, truncate_middle, truncate_start},
        model::{ColumnSelection, Model, SortBy, StreamColumn, StreamRow},
        theme::Theme,
    },
};

struct Spec {
    column: StreamColumn,
    head: &'static str,
    width: usize,
    /// How wide it grows where there is room to spare.
    widest: usize,
    right: bool,
    /// The lowest ranks stay longest when the screen gets narrow.
    rank: u8,
    sort: Option<SortBy>,
}

/// How many seconds of its past a row shows.
const TREND: usize = 8;
/// The mark before the selected row, and a blank.
pub(super) const MARGIN: u16 = 2;

/// How wide the column of what is carried grows before any other does.
const CARRIES: usize = 26;

/// The columns in the order of the screen.
static SPECS: [Spec; 16] = [
    spec(StreamColumn::Stream, "STREAM", 10, 10, false, 0, Some(SortBy::Key)),
    spec(StreamColumn::State, "STATE", 6, 6, false, 2, Some(SortBy::State)),
    spec(StreamColumn::Service, "SERVICE", 8, 14, false, 13, Some(SortBy::Service)),
    spec(StreamColumn::Proxy, "PROXY", 10, 20, false, 4, Some(SortBy::Proxy)),
    spec(StreamColumn::Channel, "CH", 5, 6, false, 11, Some(SortBy::Channel)),
    spec(StreamColumn::Address, "USER ADDRESS", 21, 47, false, 8, Some(SortBy::User)),
    spec(StreamColumn::Content, "CARRIES", 16, 60, false, 9, Some(SortBy::Content)),
    spec(StreamColumn::Priority, "PRI", 6, 6, false, 7, Some(SortBy::Priority)),
    spec(StreamColumn::Limit, "LIMIT", limits::WIDTH, limits::WIDTH, false, 15, None),
    spec(StreamColumn::UpRate, "UP/s", 6, 7, true, 5, Some(SortBy::UpRate)),
    spec(StreamColumn::DownRate, "DOWN/s", 7, 8, true, 1, Some(SortBy::DownRate)),
    spec(StreamColumn::Up, "UP", 6, 7, true, 14, Some(SortBy::Up)),
    spec(StreamColumn::Down, "DOWN", 6, 7, true, 10, Some(SortBy::Down)),
    spec(StreamColumn::Progress, "PROGRESS", 14, 36, false, 6, Some(SortBy::Progress)),
    spec(StreamColumn::Age, "AGE", 6, 7, true, 3, Some(SortBy::Age)),
    spec(StreamColumn::Trend, "TREND", 8, 8, false, 12, None),
];

const fn spec(
    column: StreamColumn,
    head: &'static str,
    width: usize,
    widest: usize,
    right: bool,
    rank: u8,
    sort: Option<SortBy>,
) -> Spec {
    Spec { column, head, width, widest, right, rank, sort }
}

/// The columns for a width, each with its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Columns(Vec<(StreamColumn, usize)>);

impl Columns {
    /// Those of the table as it is on the screen.
    pub(super) fn on_screen(model: &Model) -> Self {
        let layout = model.layout();
        let rows = model.rows().iter().skip(model.streams_screen.cursor.offset()).take(layout.table_rows());
        let rows = rows.filter_map(|id| model.shown().streams.get(*id));
        let key = rows.map(|row| row.key.to_string().len()).max().unwrap_or(0);
        Self::fitting(layout.table.width.saturating_sub(MARGIN).into(), key, &model.streams_screen.columns)
    }

    /// As many as fit into `width` cells: those that the operator asked for, then the most important; `key` is how
    /// wide the longest key is: of all things that one is never cut, because orders name it.
    fn fitting(width: usize, key: usize, choice: &ColumnSelection) -> Self {
        let own = |spec: &Spec| {
            if spec.column == StreamColumn::Stream { spec.width.max(key) } else { spec.width }
        };
        let mut by_rank: Vec<&Spec> = SPECS.iter().filter(|spec| !choice.hides(spec.column)).collect();
        by_rank.sort_by_key(|spec| (choice.precedence(spec.column), spec.rank));
        let (mut left, mut full) = (width, false);
        by_rank.retain(|spec| {
            let rest = left.checked_sub(own(spec) + 1);
            // What is left over makes a path longer; only who chooses columns wants as many as there is room for.
            full |= rest.is_none() && choice.is_none();
            let kept = rest.filter(|_| !full);
            left = kept.unwrap_or(left);
            kept.is_some()
        });
        let kept = |spec: &&Spec| by_rank.iter().any(|kept| kept.column == spec.column);
        let kept: Vec<&Spec> = SPECS.iter().filter(kept).collect();
        let mut widths: Vec<usize> = kept.iter().map(|spec| own(spec)).collect();
        // A path says little where it is cut; then what is left goes to those that can use it, a cell each in turn.
        if let Some(at) = kept.iter().position(|spec| spec.column == StreamColumn::Content) {
            let more = left.min(CARRIES.saturating_sub(widths[at]));
            (widths[at], left) = (widths[at] + more, left - more);
        }
        loop {
            let before = left;
            for (width, spec) in widths.iter_mut().zip(&kept) {
                if left > 0 && *width < spec.widest {
                    *width += 1;
                    left -= 1;
                }
            }
            if left == before {
                break;
            }
        }
        Self(kept.iter().zip(widths).map(|(spec, width)| (spec.column, width)).collect())
    }

    pub(super) fn has(&self, column: StreamColumn) -> bool {
        self.0.iter().any(|(kept, _)| *kept == column)
    }

    /// The head of the table; the column it is sorted by is marked.
    pub(super) fn head(&self, model: &Model) -> Vec<Span<'static>> {
        let sort = model.shown().streams.sort();
        let arrow = if sort.is_descending() { '▾' } else { '▴' };
        self.cells(|spec, width| {
            let sorted = spec.sort == Some(sort.by);
            let text = if sorted { format!("{}{arrow}", spec.head) } else { spec.head.to_owned() };
            let style = if sorted { model.theme.accent } else { model.theme.dim };
            let text = if spec.right { fit_right(&text, width) } else { fit(&text, width) };
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
            let text = if spec.right { fit_right(&text, width) } else { fit(&text, width) };
            // A row that has ended is history: only how it ended may stand out.
            let kept = matches!(spec.column, StreamColumn::State | StreamColumn::Progress);
            vec![Span::styled(text, if row.is_live() || kept { style } else { model.theme.faint })]
        })
    }

    fn cells(&self, mut cell: impl FnMut(&Spec, usize) -> Vec<Span<'static>>) -> Vec<Span<'static>> {
        let mut spans = Vec::with_capacity(self.0.len() * 2 + 2);
        for (column, width) in &self.0 {
            if let Some(spec) = SPECS.iter().find(|spec| spec.column == *column) {
                spans.extend(cell(spec, *width));
                spans.push(Span::raw(" "));
            }
        }
        spans
    }
}

/// What a click on the head of the table at this column of the screen sorts by.
pub(crate) fn column_at(model: &Model, x: u16) -> Option<SortBy> {
    let mut at = usize::from(MARGIN);
    for (column, width) in Columns::on_screen(model).0 {
        if (at..at + width).contains(&usize::from(x)) {
            return sort_of(column);
        }
        at += width + 1;
    }
    None
}

/// What the table can be sorted by where it is sorted by what one sees, in the order of the screen.
pub(crate) fn sorts(model: &Model) -> Vec<SortBy> {
    Columns::on_screen(model).0.iter().filter_map(|(column, _)| sort_of(*column)).collect()
}

fn sort_of(column: StreamColumn) -> Option<SortBy> {
    SPECS.iter().find(|spec| spec.column == column)?.sort
}

/// Whether the screen has this column now.
pub(crate) fn is_on_screen(model: &Model, column: StreamColumn) -> bool {
    Columns::on_screen(model).has(column)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn narrow_screens_keep_what_orders_need() {
        let names = |width| {
            Columns::fitting(width, 0, &ColumnSelection::default())
                .0
                .iter()
                .map(|(column, _)| *column)
                .collect::<Vec<_>>()
        };
        assert_eq!(names(12), [StreamColumn::Stream]);
        assert_eq!(
            names(38),
            [StreamColumn::Stream, StreamColumn::State, StreamColumn::DownRate, StreamColumn::Age]
        );
        for column in
            [StreamColumn::Proxy, StreamColumn::UpRate, StreamColumn::Priority, StreamColumn::Progress]
        {
            assert!(names(78).contains(&column), "{column:?}");
        }
        assert!(names(118).contains(&StreamColumn::Address) && names(118).contains(&StreamColumn::Content));
        assert_eq!(names(198).len(), SPECS.len());
        for width in 0..250 {
            let Columns(columns) = Columns::fitting(width, 11, &ColumnSelection::default());
            assert!(columns.iter().map(|(_, width)| width + 1).sum::<usize>() <= width, "{width}");
        }
    }

    #[test]
    fn what_was_asked_for_goes_before_what_is_important() {
        let names = |width, choice: &ColumnSelection| {
            let Columns(columns) = Columns::fitting(width, 11, choice);
            assert!(columns.iter().map(|(_, width)| width + 1).sum::<usize>() <= width, "{width}");
            columns.iter().map(|(column, _)| *column).collect::<Vec<_>>()
        };
        for column in StreamColumn::ALL {
            let mut choice = ColumnSelection::default();
            choice.set(column, true);
            assert!(names(118, &choice).contains(&column), "{column:?} cannot be had at 120 columns");
            assert!(names(38, &choice).contains(&column), "{column:?} cannot be had at 40 columns");
            choice.set(column, false);
            assert!(column == StreamColumn::Stream || !names(250, &choice).contains(&column), "{column:?}");
        }
        let wanted = vec![StreamColumn::Down, StreamColumn::Service, StreamColumn::Up];
        let choice = ColumnSelection::only(wanted);
        assert_eq!(
            names(118, &choice),
            [StreamColumn::Stream, StreamColumn::Service, StreamColumn::Up, StreamColumn::Down]
        );
        // The first named stays longest.
        assert_eq!(names(21, &choice), [StreamColumn::Stream, StreamColumn::Down]);
    }
}
