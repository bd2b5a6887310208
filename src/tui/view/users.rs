//! The users with what they take, each with its streams where it is unfolded.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::Style,
    text::{Line, Span},
};

use super::{
    bars, limits, put, put_right, section, services,
    table::{Cell, Spec, Table, left, right},
};
use crate::{
    ids::{RateLimits, UserChannelId},
    tui::{
        format::{self, fit, truncate_middle},
        model::{Model, StreamRow, UserLine, UserRow, state_name},
    },
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Name,
    Address,
    Service,
    Streams,
    Up,
    Down,
    Limit,
    Share,
    UpTotal,
    DownTotal,
    Ever,
    Age,
}

pub(super) fn draw(model: &Model, area: Rect, buf: &mut Buffer) {
    let theme = &model.theme;
    let lines = &model.sessions_screen.lines;
    let users = model.shown().users.order().len() as u64;
    section(model, area, buf, "Users", [Span::styled(format!("  {} here", format::count(users)), theme.dim)]);
    if lines.is_empty() {
        put(buf, area.x, area.y + 2, area, Line::styled("  No user is here.", theme.text));
        return;
    }
    let row =
        format!("row {} of {} ", model.sessions_screen.cursor.index() + 1, format::count(lines.len() as u64));
    put_right(buf, area, 24, Line::styled(row, theme.dim));
    let table = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
    let page = usize::from(table.height.saturating_sub(1));
    let offset = model.sessions_screen.cursor.offset().min(lines.len());
    let shown = &lines[offset..lines.len().min(offset + page)];
    let columns = columns(model, shown, area.width);
    let all = model.shown().throughput.down + model.shown().throughput.up;
    put(buf, table.x + 2, table.y, table, columns.head(theme.dim));
    for (y, line) in (table.y + 1..table.bottom()).zip(shown) {
        let text = match line {
            UserLine::User(id) => {
                model.shown().users.get(*id).map(|user| row_of(model, &columns, *id, user, all))
            }
            UserLine::Stream(_, id) => model.shown().streams.get(*id).map(|row| stream(model, &columns, row)),
        };
        put(buf, table.x + 2, y, table, text.unwrap_or_default());
        if model.sessions_screen.cursor.selected() == Some(*line) {
            super::select(model, Rect { y, height: 1, ..table }, buf);
        }
    }
}

fn columns(model: &Model, shown: &[UserLine], width: u16) -> Table<Column> {
    let data = model.shown();
    let limit = |line: &UserLine| match line {
        UserLine::User(id) => data.users.get(*id).map(|user| user.limits),
        UserLine::Stream(_, id) => data.streams.get(*id).map(|row| row.limits),
    };
    let limited = shown.iter().filter_map(limit).any(|limits| limits != RateLimits::default());
    let key = |line: &UserLine| match line {
        UserLine::User(_) => 8,
        // A key is never cut: orders name it.
        UserLine::Stream(_, id) => data.streams.get(*id).map_or(0, |row| row.key.to_string().len() + 4),
    };
    let name = shown.iter().map(key).max().unwrap_or(8).max(10);
    let specs = [
        left(Column::Name, "USER", name, name, 0),
        left(Column::Address, "ADDRESS", 15, 39, 5),
        left(Column::Service, "SERVICE", 8, 14, 6),
        right(Column::Streams, "STREAMS", 7, 1),
        right(Column::Up, "UP/s", 6, 3),
        right(Column::Down, "DOWN/s", 7, 2),
        left(Column::Limit, "LIMIT", limits::WIDTH, limits::WIDTH, 4),
        left(Column::Share, "SHARE", 13, 20, 9),
        right(Column::UpTotal, "UP", 6, 8),
        right(Column::DownTotal, "DOWN", 6, 8),
        right(Column::Ever, "EVER", 6, 10),
        right(Column::Age, "AGE", 6, 7),
    ];
    let wanted = |spec: &Spec<Column>| spec.column != Column::Limit || limited;
    Table::fitting(specs.into_iter().filter(wanted), width.saturating_sub(2))
}

fn row_of(
    model: &Model,
    columns: &Table<Column>,
    id: UserChannelId,
    user: &UserRow,
    all: f64,
) -> Line<'static> {
    let theme = &model.theme;
    columns.row(|spec| {
        let (text, style) = match spec.column {
            Column::Name => {
                let open = if model.sessions_screen.unfolded.contains(&id) { "▾ " } else { "▸ " };
                let width = spec.width.saturating_sub(2);
                return Cell::Drawn(vec![
                    Span::styled(open, theme.dim),
                    Span::styled(fit(&id.to_string(), width), theme.text),
                ]);
            }
            Column::Share => {
                let share = if all > 0.0 { (user.down_rate + user.up_rate) / all } else { 0.0 };
                return Cell::Drawn(share_of(model, share, spec.width));
            }
            Column::Address => (user.addr.to_string(), theme.text),
            Column::Service => (services::name(&user.service), theme.dim),
            Column::Streams => (format::count(user.streams), theme.strong),
            Column::Up => rate(model, user.up_rate, theme.up),
            Column::Down => rate(model, user.down_rate, theme.down),
            Column::Limit => (limits::text(user.limits), theme.warn),
            Column::UpTotal => (format::bytes(user.up), theme.text),
            Column::DownTotal => (format::bytes(user.down), theme.text),
            Column::Ever => (format::count(user.streams_total), theme.dim),
            Column::Age => (format::age(model.shown().now.saturating_duration_since(user.since)), theme.text),
        };
        Cell::Text(text, style)
    })
}

/// One stream of the user above: what it carries stands below the address, its proxy below the service.
fn stream(model: &Model, columns: &Table<Column>, row: StreamRow<'_>) -> Line<'static> {
    let theme = &model.theme;
    columns.row(|spec| {
        let (text, style) = match spec.column {
            Column::Name => (format!("    {}", row.key), theme.accent),
            Column::Address => (row.content.as_ref().map_or(String::new(), ToString::to_string), theme.dim),
            Column::Service => {
                let name = row.proxy.map_or(String::new(), |id| model.shown().proxies.name(id));
                (truncate_middle(&name, spec.width), theme.dim)
            }
            Column::Streams => (state_name(row).to_owned(), if row.paused { theme.warn } else { theme.dim }),
            Column::Up => rate(model, row.figures.up_rate.into(), theme.up),
            Column::Down => rate(model, row.figures.down_rate.into(), theme.down),
            Column::Limit => (limits::text(row.limits), theme.warn),
            Column::Share => match row.progress() {
                Some(share) => return Cell::Drawn(share_of(model, share, spec.width)),
                None => (String::new(), theme.text),
            },
            Column::UpTotal => (format::bytes(row.figures.up), theme.dim),
            Column::DownTotal => (format::bytes(row.figures.down), theme.dim),
            Column::Ever => (String::new(), theme.text),
            Column::Age => (format::age(row.age(model.shown().now)), theme.dim),
        };
        Cell::Text(text, style)
    })
}

fn rate(model: &Model, rate: f64, style: Style) -> (String, Style) {
    (super::rate(model, rate), if rate < 1.0 { model.theme.faint } else { style })
}

fn share_of(model: &Model, share: f64, width: usize) -> Vec<Span<'static>> {
    let theme = &model.theme;
    let (filled, track) = bars::horizontal(share, width.saturating_sub(5));
    vec![
        Span::styled(filled, theme.load),
        Span::styled(track, theme.rule),
        Span::styled(format!(" {:>3.0}%", share * 100.0), theme.text),
    ]
}
