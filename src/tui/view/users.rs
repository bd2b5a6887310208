//! The users table: each user with its rates, limits and totals, and its streams where the operator unfolded it.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
};

use super::{
    bars, draw_line, draw_line_right, draw_section_title, limits, rate_cell, refusals, services,
    table::{self, Cell},
};
use crate::{
    ids::{RateLimits, UserChannelId},
    tui::{
        columns::{TableColumn, UserColumn},
        format::{self, fit, truncate_middle},
        layout::{ColumnRequest, FitPolicy, FittedColumns, SELECTION_MARGIN},
        model::{Model, StreamRow, UserLine, UserRow, state_name},
    },
};

/// The indentation in cells of a stream's row below its user.
const STREAM_INDENT: usize = 4;

/// Draws the users table of the sessions screen: its title, headings, and the rows from the scroll position on.
pub(super) fn draw(model: &Model, area: Rect, buf: &mut Buffer) {
    let theme = &model.theme;
    let lines = &model.sessions_screen.lines;
    let users = model.shown().users.connected_count() as u64;
    let row =
        format!("row {} of {} ", model.sessions_screen.cursor.index() + 1, format::count(lines.len() as u64));
    let sorted_row = format!("sort {}  {row}", model.shown().users.sort().name());
    let count = format!("  {} active", format::count(users));
    let room = usize::from(area.width).saturating_sub(7 + count.len() + sorted_row.len() + 1);
    let last = model.server_status.last_refused_user.as_deref();
    let refused = refusals(model.shown().totals.users_rejected, "refused", last, room);
    let counts = [Span::styled(count, theme.dim), Span::styled(refused, theme.warn)];
    draw_section_title(model, area, buf, "Users", counts);
    if lines.is_empty() {
        draw_line(buf, area.x, area.y + 2, area, Line::styled("  No user is connected.", theme.text));
        return;
    }
    if !draw_line_right(buf, area, 24, Line::styled(sorted_row, theme.dim)) {
        draw_line_right(buf, area, 24, Line::styled(row, theme.dim));
    }
    let table = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
    let page = usize::from(table.height.saturating_sub(1));
    let offset = model.sessions_screen.cursor.offset().min(lines.len());
    let visible = &lines[offset..lines.len().min(offset + page)];
    let columns = fit_columns(model, visible, area.width.saturating_sub(SELECTION_MARGIN));
    let total_rate = model.shown().throughput.down_rate + model.shown().throughput.up_rate;
    draw_line(
        buf,
        table.x + SELECTION_MARGIN,
        table.y,
        table,
        table::headings(&columns, model.labels.is_of_proxy(), theme.dim),
    );
    for (y, line) in (table.y + 1..table.bottom()).zip(visible) {
        let text = match line {
            UserLine::User(id) => {
                model.shown().users.get(*id).map(|user| user_row(model, &columns, *id, user, total_rate))
            }
            UserLine::Stream(_, id) => {
                model.shown().streams.get(*id).map(|row| stream_row(model, &columns, row, total_rate))
            }
        };
        draw_line(buf, table.x + SELECTION_MARGIN, y, table, text.unwrap_or_default());
        if model.sessions_screen.cursor.selected() == Some(*line) {
            super::draw_selection(model, Rect { y, height: 1, ..table }, buf);
        }
    }
}

/// Fits the columns into `width` cells. The first one is wide enough for the longest id or stream key in `visible`:
/// keys are never truncated, because commands name them. Limits have a column only while one is set.
fn fit_columns(model: &Model, visible: &[UserLine], width: u16) -> FittedColumns<UserColumn> {
    let data = model.shown();
    let limits = |line: &UserLine| match line {
        UserLine::User(id) => data.users.get(*id).map(|user| user.limits),
        UserLine::Stream(_, id) => data.streams.get(*id).map(|row| row.limits),
    };
    let has_limits = visible.iter().filter_map(limits).any(|limits| limits != RateLimits::default());
    let name_width = |line: &UserLine| match line {
        UserLine::User(_) => 0,
        UserLine::Stream(_, id) => {
            data.streams.get(*id).map_or(0, |row| row.key.to_string().len() + STREAM_INDENT)
        }
    };
    let name_width = visible.iter().map(name_width).max().unwrap_or(0);
    let wanted = |column: &&UserColumn| **column != UserColumn::Limit || has_limits;
    let requests = UserColumn::ALL.iter().filter(wanted).map(|column| match column {
        UserColumn::Name => ColumnRequest::of(*column).at_least(name_width),
        other => ColumnRequest::of(*other),
    });
    FittedColumns::fit(width.into(), requests, FitPolicy::StopAtFirstMisfit)
}

/// Returns the row of a user, which is one sentence if it has left. `total_rate` is the traffic of all users in bytes
/// per second, of which the row shows a share.
fn user_row(
    model: &Model,
    columns: &FittedColumns<UserColumn>,
    id: UserChannelId,
    user: &UserRow,
    total_rate: f64,
) -> Line<'static> {
    let theme = &model.theme;
    if let Some(left) = user.left {
        let ago = format::age(model.shown().now.saturating_duration_since(left));
        let bytes = format::bytes_with_unit(user.down.saturating_add(user.up));
        let streams = format::counted(user.streams_total, "stream");
        // In the columns of the others, as far as there are such.
        let width = |column| columns.width(column).unwrap_or_default();
        let (id, addr) = (fit(&format!("  {id}"), width(UserColumn::Name)), user.addr.to_string());
        let addr = fit(&addr, width(UserColumn::Address).max(addr.len()));
        return Line::styled(format!("{id} {addr} left {ago} ago; {bytes} in {streams}"), theme.faint);
    }
    table::row(columns, |column, width| {
        Cell::from(match column {
            UserColumn::Name => {
                let marker = if model.sessions_screen.unfolded.contains(&id) { "▾ " } else { "▸ " };
                return Cell::Spans(vec![
                    Span::styled(marker, theme.dim),
                    Span::styled(fit(&id.to_string(), width.saturating_sub(2)), theme.text),
                ]);
            }
            UserColumn::TrafficShare => {
                return Cell::Spans(share_bar(model, user.down_rate + user.up_rate, total_rate, width));
            }
            UserColumn::Address => (user.addr.to_string(), theme.text),
            UserColumn::Service => (services::name(&user.service), theme.dim),
            UserColumn::Streams => (format::count(user.streams), theme.strong),
            UserColumn::UpRate => rate_cell(model, user.up_rate, theme.up),
            UserColumn::DownRate => rate_cell(model, user.down_rate, theme.down),
            UserColumn::Limit => (limits::text(user.limits), theme.warn),
            UserColumn::Up => (format::bytes(user.up), theme.text),
            UserColumn::Down => (format::bytes(user.down), theme.text),
            UserColumn::TotalStreams => (format::count(user.streams_total), theme.dim),
            UserColumn::Age => {
                (format::age(model.shown().now.saturating_duration_since(user.since)), theme.text)
            }
        })
    })
}

/// Returns the line of a stream below its user: its content is in the address column, its proxy in the service
/// column, and its state in the streams column.
fn stream_row(
    model: &Model,
    columns: &FittedColumns<UserColumn>,
    row: StreamRow<'_>,
    total_rate: f64,
) -> Line<'static> {
    let theme = &model.theme;
    table::row(columns, |column, width| {
        Cell::from(match column {
            UserColumn::Name => (format!("{:STREAM_INDENT$}{}", "", row.key), theme.accent),
            UserColumn::Address => {
                (row.content.as_ref().map_or(String::new(), ToString::to_string), theme.dim)
            }
            UserColumn::Service => {
                let name = row.proxy.map_or(String::new(), |id| model.shown().proxies.name(id));
                (truncate_middle(&name, width), theme.dim)
            }
            UserColumn::Streams => {
                (state_name(row).to_owned(), if row.paused { theme.warn } else { theme.dim })
            }
            UserColumn::UpRate => rate_cell(model, row.counters.up_rate.into(), theme.up),
            UserColumn::DownRate => rate_cell(model, row.counters.down_rate.into(), theme.down),
            UserColumn::Limit => (limits::text(row.limits), theme.warn),
            UserColumn::TrafficShare => {
                let rate = f64::from(row.counters.down_rate + row.counters.up_rate);
                return Cell::Spans(share_bar(model, rate, total_rate, width));
            }
            UserColumn::Up => (format::bytes(row.counters.up), theme.dim),
            UserColumn::Down => (format::bytes(row.counters.down), theme.dim),
            UserColumn::TotalStreams => (String::new(), theme.text),
            UserColumn::Age => (format::age(row.age(model.shown().now)), theme.dim),
        })
    })
}

/// Returns a bar for the share of `rate` in `total_rate`, followed by its percentage, in exactly `width` cells.
fn share_bar(model: &Model, rate: f64, total_rate: f64, width: usize) -> Vec<Span<'static>> {
    let theme = &model.theme;
    let share = if total_rate > 0.0 { rate / total_rate } else { 0.0 };
    let (filled, track) = bars::horizontal(share, width.saturating_sub(5));
    vec![
        Span::styled(filled, theme.load),
        Span::styled(track, theme.rule),
        Span::styled(format!(" {:>3.0}%", share * 100.0), theme.text),
    ]
}
