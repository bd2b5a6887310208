//! The rows of the proxy table.

use ratatui::{
    style::Style,
    text::{Line, Span},
};

use super::super::{
    bars, latency, limits, rate_cell,
    table::{self, Cell},
};
use crate::{
    ids::RateLimits,
    tui::{
        columns::{ProxyColumn, TableColumn},
        format::{self, fit_middle},
        layout::{ColumnRequest, FitPolicy, FittedColumns},
        model::{Model, ProxyRow},
    },
};

/// The drop rank of the weight column while weights differ: then they explain the shares.
const WEIGHT_DROP_RANK: u8 = 4;
/// The drop rank of the address column while two proxies have the same name: then it tells them apart.
const ADDRESS_DROP_RANK: u8 = 3;

/// Returns the columns of the proxy table that fit into `width` cells, with their widths. The column of rate limits
/// is included only if one is set.
pub(super) fn fit_columns(model: &Model, width: u16) -> FittedColumns<ProxyColumn> {
    let proxies = &model.shown().proxies;
    let weights_differ = proxies.connected().any(|proxy| proxy.weight != 1);
    let has_limits = proxies.connected().any(|proxy| proxy.limits != RateLimits::default());
    let wanted = |column: &&ProxyColumn| {
        (**column != ProxyColumn::Limit || has_limits) && column.spec().exists(model.labels.is_of_proxy())
    };
    let requests = ProxyColumn::ALL.iter().filter(wanted).map(|column| {
        let mut request = ColumnRequest::of(*column);
        match column {
            ProxyColumn::Weight if weights_differ => request.precedence.1 = WEIGHT_DROP_RANK,
            ProxyColumn::Address if proxies.has_equal_names() => request.precedence.1 = ADDRESS_DROP_RANK,
            _ => {}
        }
        request
    });
    FittedColumns::fit(width.into(), requests, FitPolicy::StopAtFirstMisfit)
}

/// Returns the line of a proxy: its columns, or one sentence if it is disconnected, reconnecting or has no public
/// port.
pub(super) fn proxy_row(
    model: &Model,
    columns: &FittedColumns<ProxyColumn>,
    proxy: &ProxyRow,
) -> Line<'static> {
    let theme = &model.theme;
    let shown = model.shown();
    let width = columns.width(ProxyColumn::Name).unwrap_or(0).saturating_sub(2);
    let name = fit_middle(&proxy.label, width);
    if let Some(gone) = &proxy.disconnection {
        let ago = format::age(shown.now.saturating_duration_since(gone.at));
        let reason = gone.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        let bytes = format::bytes_with_unit(proxy.down.saturating_add(proxy.up));
        let text = format!("  {name} disconnected {ago} ago{reason}; {bytes} in total");
        return Line::styled(text, theme.faint);
    }
    if let Some(left) = proxy.grace_remaining {
        let wait = format::verb(proxy.streams, "wait");
        let streams = format::counted(proxy.streams, "stream");
        return Line::from(vec![
            Span::styled(format!("  {name} "), theme.strong),
            Span::styled(
                format!("reconnecting: no channel left; {streams} {wait} {} more", format::age(left)),
                theme.warn,
            ),
        ]);
    }
    if let (Some(reason), true) = (&proxy.registration_error, proxy.services.is_empty()) {
        return Line::from(vec![
            Span::styled(format!("  {name} "), theme.strong),
            Span::styled(format!("has no public port: {reason}"), theme.warn),
        ]);
    }
    let policy = shown.services.policy().unwrap_or_default();
    table::row(columns, |column, width| match column {
        ProxyColumn::Name => {
            let marker = if model.proxies_screen.unfolded.contains(&proxy.id) { "▾ " } else { "▸ " };
            Cell::Spans(vec![Span::styled(marker, theme.dim), Span::styled(name.clone(), theme.strong)])
        }
        ProxyColumn::TrafficShare => {
            let all: f64 = shown.proxies.connected().map(ProxyRow::rate).sum();
            Cell::Spans(share_bar(model, proxy.rate(), all, None, width, theme.down))
        }
        ProxyColumn::StreamShare => {
            // Servers do not share streams by a policy.
            let is_balanced = !model.labels.is_of_proxy();
            let fair = is_balanced.then(|| shown.proxies.fair_share(proxy, policy)).flatten();
            let (streams, all) = (proxy.streams as f64, shown.proxies.streams() as f64);
            Cell::Spans(share_bar(model, streams, all, fair, width, theme.load))
        }
        other => cell(model, proxy, other, width).into(),
    })
}

/// Returns the text and style of a cell of a proxy's row; empty for the columns that are drawn as spans.
fn cell(model: &Model, proxy: &ProxyRow, column: ProxyColumn, width: usize) -> (String, Style) {
    let theme = &model.theme;
    match column {
        ProxyColumn::State if proxy.is_draining() => ("drain".to_owned(), theme.warn),
        ProxyColumn::State if proxy.services.is_empty() && proxy.registration_error.is_some() => {
            ("refused".to_owned(), theme.warn)
        }
        ProxyColumn::State if proxy.services.is_empty() => ("joining".to_owned(), theme.dim),
        ProxyColumn::State => ("up".to_owned(), theme.ok),
        ProxyColumn::Ports => {
            let ports: Vec<u16> = proxy.services.iter().map(|service| service.port).collect();
            (format::ports(&ports, width), theme.dim)
        }
        ProxyColumn::Address => (proxy.addr.to_string(), theme.dim),
        ProxyColumn::Channels => (proxy.channels.len().to_string(), theme.text),
        ProxyColumn::Weight => {
            (proxy.weight.to_string(), if proxy.weight == 1 { theme.dim } else { theme.accent })
        }
        ProxyColumn::Streams => (format::count(proxy.streams), theme.strong),
        ProxyColumn::UpRate => rate_cell(model, proxy.up_rate, theme.up),
        ProxyColumn::DownRate => rate_cell(model, proxy.down_rate, theme.down),
        ProxyColumn::Limit => (limits::text(proxy.limits), theme.warn),
        ProxyColumn::Connect => {
            (latency::p50_p99(&proxy.latency.connect).unwrap_or("-".to_owned()), theme.text)
        }
        ProxyColumn::Trend => {
            let rates = proxy.trend.last(width).map(|(down, up)| f64::from(down + up));
            (bars::spark(rates, 0.8), theme.load)
        }
        ProxyColumn::Bytes => (format::bytes(proxy.down.saturating_add(proxy.up)), theme.text),
        ProxyColumn::Age => {
            (format::age(model.shown().now.saturating_duration_since(proxy.since)), theme.text)
        }
        ProxyColumn::Name | ProxyColumn::StreamShare | ProxyColumn::TrafficShare => {
            (String::new(), theme.text)
        }
    }
}

/// Returns a bar of `part` in `whole` with its percentage, in exactly `width` cells. `fair` is the share at which the
/// bar is marked: where it would end if the load followed the policy.
fn share_bar(
    model: &Model,
    part: f64,
    whole: f64,
    fair: Option<f64>,
    width: usize,
    style: Style,
) -> Vec<Span<'static>> {
    let share = if whole > 0.0 { part / whole } else { 0.0 };
    let mut spans =
        bars::marked(share, fair, width.saturating_sub(5), style, model.theme.rule, model.theme.text);
    spans.push(Span::styled(format!(" {:>3.0}%", share * 100.0), model.theme.text));
    spans
}
