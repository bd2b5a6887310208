//! The services below the proxies: which port, by which policy, how fast, how soon.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
};

use super::{
    latency, limits, put, put_cut,
    table::{Cell, Spec, Table, left, right},
};
use crate::{
    ids::{RateLimits, ServiceKey},
    tui::{
        format::{self, fit},
        model::{Model, ProxyLine, ServiceRow},
    },
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Name,
    Policy,
    Proxies,
    Streams,
    Up,
    Down,
    Limit,
    Open,
    FirstByte,
    Carried,
}

/// The services; the selected one is always among those that are shown.
pub(super) fn draw(model: &Model, area: Rect, buf: &mut Buffer) {
    let theme = &model.theme;
    let all = model.shown().services.all();
    if all.is_empty() || area.height < 2 {
        return;
    }
    let limited = all.iter().any(|service| service.limits != RateLimits::default());
    let specs = [
        left(Column::Name, "Services", 14, 26, 0),
        left(Column::Policy, "POLICY", 13, 13, 1),
        right(Column::Proxies, "PROXIES", 7, 4),
        right(Column::Streams, "STREAMS", 7, 3),
        right(Column::Up, "UP/s", 6, 6),
        right(Column::Down, "DOWN/s", 7, 2),
        left(Column::Limit, "LIMIT", limits::WIDTH, limits::WIDTH, 5),
        right(Column::Open, "OPEN 50/99%", 11, 7),
        right(Column::FirstByte, "1ST BYTE 50/99%", 15, 8),
        right(Column::Carried, "CARRIED", 7, 9),
    ];
    let wanted = |spec: &Spec<Column>| spec.column != Column::Limit || limited;
    let columns = Table::fitting(specs.into_iter().filter(wanted), area.width.saturating_sub(2));
    // The title is the head of the first column: the section is short.
    put(buf, area.x, area.y, area, Line::styled("▎ ", theme.accent));
    let head = columns.row(|spec| {
        let style = if spec.column == Column::Name { theme.strong } else { theme.dim };
        Cell::Text(spec.head.to_owned(), style)
    });
    put(buf, area.x + 2, area.y, area, head);
    let page = usize::from(area.height - 1);
    let selected = all.iter().position(|service| is_selected(model, service)).unwrap_or(0);
    let offset = (selected + 1).saturating_sub(page);
    for (y, service) in (area.y + 1..area.bottom()).zip(&all[offset..]) {
        put_cut(buf, area.x + 2, y, area, row(model, &columns, service));
        if is_selected(model, service) {
            super::select(model, Rect { y, height: 1, ..area }, buf);
        }
    }
}

fn is_selected(model: &Model, service: &ServiceRow) -> bool {
    model.proxies_screen.cursor.selected() == Some(ProxyLine::Service(service.id))
}

/// A service as short as it can be said: the group only where it is not the usual one.
pub(super) fn name(key: &ServiceKey) -> String {
    match key.group.as_str() {
        "default" => format!(":{}", key.port),
        group => format!(":{}:{group}", key.port),
    }
}

fn row(model: &Model, columns: &Table<Column>, service: &ServiceRow) -> Line<'static> {
    let theme = &model.theme;
    let shown = model.shown();
    if let Some(at) = service.closed {
        let ago = format::age(shown.now.saturating_duration_since(at));
        let name = fit(&name(&service.key), columns.width(Column::Name).unwrap_or(0));
        return Line::from(vec![
            Span::styled(format!("{name} "), theme.faint),
            Span::styled(format!("closed {ago} ago: no proxy serves it"), theme.warn),
        ]);
    }
    let proxies = shown.proxies.up().filter(|proxy| proxy.services.contains(&service.key)).count();
    let rate = |rate: f64, style| (super::rate(model, rate), if rate < 1.0 { theme.faint } else { style });
    let took = |one| (latency::pair(one).unwrap_or("-".to_owned()), theme.text);
    columns.row(|spec| {
        let (text, style) = match spec.column {
            Column::Name => (name(&service.key), theme.text),
            Column::Policy => (service.policy.to_string(), theme.accent),
            Column::Proxies => (proxies.to_string(), if proxies == 0 { theme.error } else { theme.text }),
            Column::Streams => (format::count(service.streams), theme.strong),
            Column::Up => rate(service.up_rate, theme.up),
            Column::Down => rate(service.down_rate, theme.down),
            Column::Limit => (limits::text(service.limits), theme.warn),
            Column::Open => took(&service.latency.connect),
            Column::FirstByte => took(&service.latency.time_to_first_byte),
            Column::Carried => (format::bytes(service.down.saturating_add(service.up)), theme.text),
        };
        Cell::Text(text, style)
    })
}
