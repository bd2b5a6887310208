//! The proxies screen: the proxy table with the channels of unfolded proxies, the service table, and the latencies of
//! the selection.

mod channels;
mod rows;

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
};

use super::{
    draw_line, draw_line_right, draw_line_truncated, draw_section_title, latency, proxy_load, refusals,
    services, table,
};
use crate::{
    ids::Policy,
    telemetry::LatencySummary,
    tui::{
        format,
        layout::SELECTION_MARGIN,
        model::{LoadMeasure, Model, ProxyLine, ProxyRow, ScreenId},
    },
};

/// Draws the proxies screen: the proxies in the order in which they connected, each with its channels if it is
/// unfolded; below them the services, and the latencies of the selected row.
pub(crate) fn draw(model: &Model, area: Rect, buf: &mut Buffer) {
    let shown = model.shown();
    let lines = shown.proxies.lines(&model.proxies_screen.unfolded);
    let (upper, lower) = model.layout().split_proxies(lines.len(), shown.services.all().len());
    draw_title(model, upper, buf);
    let below = Rect { y: upper.y + 1, height: upper.height.saturating_sub(1), ..upper };
    if lines.is_empty() {
        let mut text =
            vec![Line::styled(format!("  {}", proxy_load::no_proxy_text(model)), model.theme.text)];
        text.extend(proxy_load::join_command(model, area.width));
        let below = Rect { height: area.bottom().saturating_sub(below.y), ..below };
        for (y, line) in (below.top()..below.bottom()).zip(text) {
            draw_line(buf, below.x, y, below, line);
        }
        return;
    }
    draw_rows(model, &lines, below, buf);
    services::draw(model, lower, buf);
    let rest =
        Rect { y: lower.bottom() + 1, height: area.bottom().saturating_sub(lower.bottom() + 1), ..area };
    draw_latencies(model, rest, buf);
}

/// Draws the title of the proxies screen: how many proxies are connected or reconnecting, their channels, the policy
/// and the imbalance.
fn draw_title(model: &Model, area: Rect, buf: &mut Buffer) {
    let theme = &model.theme;
    let shown = model.shown();
    let (connected, reconnecting) = shown.proxies.connected_and_in_grace_period();
    // One that joins or was refused serves no users: it is not up.
    let is_portless = |proxy: &&ProxyRow| proxy.services.is_empty() && proxy.grace_remaining.is_none();
    let portless = shown.proxies.connected().filter(is_portless).count() as u64;
    let up = connected - portless;
    let other = |count: u64, what| if count == 0 { String::new() } else { format!(", {count} {what}") };
    let (portless, reconnecting) = (other(portless, "without a port"), other(reconnecting, "reconnecting"));
    let channels = format::counted(shown.proxies.channels() as u64, "channel");
    let counts = format!("  {up} up{portless}{reconnecting}, {channels}");
    let policy = shown.services.policy();
    // The policy and the imbalance take up to 32 cells at the right.
    let room = usize::from(area.width).saturating_sub(11 + counts.len() + 32);
    let last = model.server_status.last_failed_handshake.as_deref();
    let blocked = match shown.totals.addresses_blocked {
        0 => String::new(),
        count => format!("  {} blocked", format::counted(count, "address")),
    };
    let failed = refusals(
        shown.totals.handshakes_failed,
        "handshakes failed",
        last,
        room.saturating_sub(blocked.len()),
    );
    let failed = blocked + &failed;
    let counts = [Span::styled(counts, theme.dim), Span::styled(failed, theme.warn)];
    let taken = u16::try_from(11 + counts.iter().map(Span::width).sum::<usize>()).unwrap_or(u16::MAX);
    draw_section_title(model, area, buf, ScreenId::Proxies.name(model.labels.is_of_proxy()), counts);
    if model.labels.is_of_proxy() {
        return;
    }
    let Some(balance) = shown.proxies.balance(policy.unwrap_or_default(), LoadMeasure::Streams) else {
        return;
    };
    let style = if balance.imbalance > 2.0 { theme.warn } else { theme.text };
    let policy = policy.map_or("mixed policies".to_owned(), |policy| policy.to_string());
    let facts = vec![
        (1, vec![Span::styled(policy, theme.text)]),
        (
            0,
            vec![
                Span::styled("imbalance ", theme.dim),
                Span::styled(format!("{:.2}", balance.imbalance), style),
            ],
        ),
    ];
    let mut line = table::join_facts(facts, usize::from(area.width.saturating_sub(taken + 1)));
    line.push_span(" ");
    draw_line_right(buf, area, taken, line);
}

/// Draws the headings of the proxy table, and its rows of proxies and channels from the scroll position on.
fn draw_rows(model: &Model, lines: &[ProxyLine], area: Rect, buf: &mut Buffer) {
    let proxies = &model.shown().proxies;
    let columns = rows::fit_columns(model, area.width.saturating_sub(SELECTION_MARGIN));
    draw_line(
        buf,
        area.x + SELECTION_MARGIN,
        area.y,
        area,
        table::headings(&columns, model.labels.is_of_proxy(), model.theme.dim),
    );
    let page = usize::from(area.height.saturating_sub(1));
    // The cursor moves on from the last proxy to the services; the proxies scroll no further than their end.
    let offset = model.proxies_screen.cursor.offset().min(lines.len().saturating_sub(page));
    for (y, line) in (area.y + 1..area.bottom()).zip(lines[offset..].iter().take(page)) {
        let text = match line {
            ProxyLine::Proxy(id) => proxies.get(*id).map(|proxy| rows::proxy_row(model, &columns, proxy)),
            ProxyLine::Channel(id) => {
                proxies.channel(*id).map(|row| channels::channel_row(model, &columns, row, area.width))
            }
            ProxyLine::Service(_) => None,
        };
        draw_line_truncated(buf, area.x + SELECTION_MARGIN, y, area, text.unwrap_or_default());
        if model.proxies_screen.cursor.selected() == Some(*line) {
            super::draw_selection(model, Rect { y, height: 1, ..area }, buf);
        }
    }
}

/// Draws the latency table of the proxies screen: that of the selected proxy and the RTTs of its channels, or that of
/// the selected service.
fn draw_latencies(model: &Model, area: Rect, buf: &mut Buffer) {
    let shown = model.shown();
    let line = model.proxies_screen.cursor.selected();
    let proxy = match line {
        Some(ProxyLine::Proxy(id)) => shown.proxies.get(id),
        Some(ProxyLine::Channel(id)) => shown.proxies.get(id.proxy),
        _ => None,
    };
    let (name, latency) = match (line, proxy) {
        (Some(ProxyLine::Service(id)), _) => match shown.services.get(id) {
            Some(service) => (services::name(&service.key), &service.latency),
            None => return,
        },
        (_, Some(proxy)) => (proxy.label.clone(), &proxy.latency),
        _ => return,
    };
    let all = [
        ("connect", &latency.connect),
        ("TTFB", &latency.time_to_first_byte),
        ("queue wait", &latency.queue_wait),
    ];
    let channels = proxy.map_or(&[][..], |proxy| &proxy.channels).iter();
    // The RTT of the selected channel comes before the latencies that it shares with the others.
    let (own, others): (Vec<_>, Vec<_>) = channels
        .map(|channel| (channel.id, format!("RTT channel {}", channel.id.index), &*channel.rtt_summary))
        .partition(|(id, ..)| line == Some(ProxyLine::Channel(*id)));
    let mut rows: Vec<(String, &LatencySummary)> =
        own.into_iter().map(|(_, name, one)| (name, one)).collect();
    rows.extend(all.map(|(name, one)| (name.to_owned(), one)));
    rows.extend(others.into_iter().map(|(_, name, one)| (name, one)));
    rows.retain(|(_, one)| one.count > 0);
    rows.truncate(usize::from(area.height).saturating_sub(2));
    if rows.is_empty() {
        return;
    }
    draw_section_title(model, area, buf, "Latency", [Span::styled(format!("  {name}"), model.theme.dim)]);
    for (y, line) in (area.y + 1..area.bottom()).zip(latency::table(model, &rows, area.width)) {
        draw_line(buf, area.x, y, area, line);
    }
}

/// Formats a policy with the number of proxies among which it chooses, and with the proxy's weight and share where
/// the policy uses weights.
pub(super) fn policy(model: &Model, proxy: &ProxyRow, policy: Policy, proxies: usize) -> String {
    match policy {
        Policy::Weighted | Policy::LeastStreams => {
            let share = model.shown().proxies.fair_share(proxy, policy).unwrap_or(0.0) * 100.0;
            format!("{policy} among {proxies}, weight {} = {share:.0}%", proxy.weight)
        }
        Policy::RoundRobin | Policy::PeakEwma => {
            format!("{policy} among {proxies} {}", model.labels.peers(proxies as u64))
        }
    }
}
