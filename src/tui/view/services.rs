//! The service table below the proxy table: each public port with its policy, proxies, rates and latencies.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
};

use super::{
    draw_line, draw_line_truncated, latency, limits, rate_cell,
    table::{self, Cell},
};
use crate::{
    ids::{RateLimits, ServiceKey},
    tui::{
        columns::{ServiceColumn, TableColumn as _},
        format::{self, fit},
        layout::{ColumnRequest, FitPolicy, FittedColumns, SELECTION_MARGIN},
        model::{Model, ProxyLine, ServiceRow},
    },
};

/// Draws the service table of the proxies screen, scrolled so that the selected service is visible.
pub(super) fn draw(model: &Model, area: Rect, buf: &mut Buffer) {
    let theme = &model.theme;
    let all = model.shown().services.all();
    if all.is_empty() || area.height < 2 {
        return;
    }
    let has_limits = all.iter().any(|service| service.limits != RateLimits::default());
    let wanted = |column: &&ServiceColumn| {
        (**column != ServiceColumn::Limit || has_limits) && column.spec().exists(model.labels.is_of_proxy())
    };
    let requests = ServiceColumn::ALL.iter().filter(wanted).map(|column| ColumnRequest::of(*column));
    let width = area.width.saturating_sub(SELECTION_MARGIN);
    let columns = FittedColumns::fit(width.into(), requests, FitPolicy::StopAtFirstMisfit);
    // The heading of the first column is the title of this short section.
    draw_line(buf, area.x, area.y, area, Line::styled("▎ ", theme.accent));
    let headings = table::row(&columns, |column, _| {
        let style = if column == ServiceColumn::Name { theme.strong } else { theme.dim };
        Cell::Text(column.spec().texts(model.labels.is_of_proxy()).0.to_owned(), style)
    });
    draw_line(buf, area.x + SELECTION_MARGIN, area.y, area, headings);
    let page = usize::from(area.height - 1);
    let selected = all.iter().position(|service| is_selected(model, service)).unwrap_or(0);
    let offset = (selected + 1).saturating_sub(page);
    for (y, service) in (area.y + 1..area.bottom()).zip(&all[offset..]) {
        draw_line_truncated(buf, area.x + SELECTION_MARGIN, y, area, row(model, &columns, service));
        if is_selected(model, service) {
            super::draw_selection(model, Rect { y, height: 1, ..area }, buf);
        }
    }
}

/// Returns whether the cursor of the proxies screen is on this service.
fn is_selected(model: &Model, service: &ServiceRow) -> bool {
    model.proxies_screen.cursor.selected() == Some(ProxyLine::Service(service.id))
}

/// Formats a service as `:8080`, or as `:8080:blue` if its group is not the default one.
pub(super) fn name(key: &ServiceKey) -> String {
    match key.group.as_str() {
        "default" => format!(":{}", key.port),
        group => format!(":{}:{group}", key.port),
    }
}

/// Returns the row of a service in the service table; for a closed public port, how long ago it closed.
fn row(model: &Model, columns: &FittedColumns<ServiceColumn>, service: &ServiceRow) -> Line<'static> {
    let theme = &model.theme;
    let shown = model.shown();
    if let Some(at) = service.closed {
        let ago = format::age(shown.now.saturating_duration_since(at));
        let name = fit(&name(&service.key), columns.width(ServiceColumn::Name).unwrap_or(0));
        return Line::from(vec![
            Span::styled(format!("{name} "), theme.faint),
            Span::styled(format!("closed {ago} ago: {}", model.labels.why_closed()), theme.warn),
        ]);
    }
    let proxies = shown.proxies.connected().filter(|proxy| proxy.services.contains(&service.key)).count();
    let latency = |one| (latency::p50_p99(one).unwrap_or("-".to_owned()), theme.text);
    table::row(columns, |column, _| {
        Cell::from(match column {
            ServiceColumn::Name => (name(&service.key), theme.text),
            ServiceColumn::Policy => (service.policy.to_string(), theme.accent),
            ServiceColumn::Proxies => {
                (proxies.to_string(), if proxies == 0 { theme.error } else { theme.text })
            }
            ServiceColumn::Streams => (format::count(service.streams), theme.strong),
            ServiceColumn::UpRate => rate_cell(model, service.up_rate, theme.up),
            ServiceColumn::DownRate => rate_cell(model, service.down_rate, theme.down),
            ServiceColumn::Limit => (limits::text(service.limits), theme.warn),
            ServiceColumn::Connect => latency(&service.latency.connect),
            ServiceColumn::FirstByte => latency(&service.latency.time_to_first_byte),
            ServiceColumn::Bytes => (format::bytes(service.down.saturating_add(service.up)), theme.text),
        })
    })
}
