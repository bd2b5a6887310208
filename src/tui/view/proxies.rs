//! The screen of proxies: who carries how much, over which channels, for which services.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::Style,
    text::{Line, Span},
};

use super::{
    bars, latency, limits, panel, put, put_cut, put_right, section, services,
    table::{self, Cell, Spec, Table, left, right},
};
use crate::{
    ids::{Policy, RateLimits},
    telemetry::{ChannelState, LatencySummary},
    tui::{
        format::{self, fit, fit_middle},
        model::{ChannelRow, LoadMeasure, Model, ProxyLine, ProxyRow},
    },
};

/// The proxies in the order in which they came, each with its channels where it is unfolded; below them the services,
/// and how long things take with what is selected.
pub(crate) fn draw(model: &Model, area: Rect, buf: &mut Buffer) {
    let shown = model.shown();
    let lines = shown.proxies.lines(&model.proxies_screen.unfolded);
    let (upper, lower) = model.layout().split_proxies(lines.len(), shown.services.all().len());
    title(model, upper, buf);
    let below = Rect { y: upper.y + 1, height: upper.height.saturating_sub(1), ..upper };
    if lines.is_empty() {
        let mut text = vec![Line::styled(format!("  {}", panel::nobody_there(model)), model.theme.text)];
        text.extend(panel::invitation(model, area.width));
        let below = Rect { height: area.bottom().saturating_sub(below.y), ..below };
        for (y, line) in (below.top()..below.bottom()).zip(text) {
            put(buf, below.x, y, below, line);
        }
        return;
    }
    rows(model, &lines, below, buf);
    services::draw(model, lower, buf);
    let rest =
        Rect { y: lower.bottom() + 1, height: area.bottom().saturating_sub(lower.bottom() + 1), ..area };
    latencies(model, rest, buf);
}

fn title(model: &Model, area: Rect, buf: &mut Buffer) {
    let theme = &model.theme;
    let shown = model.shown();
    let (here, away) = shown.proxies.here_and_away();
    let away = if away == 0 { String::new() } else { format!(", {away} away") };
    let channels = format::counted(shown.proxies.channels() as u64, "channel");
    let counts = format!("  {here} up{away}, {channels}");
    let taken = u16::try_from(11 + counts.len()).unwrap_or(u16::MAX);
    section(model, area, buf, "Proxies", [Span::styled(counts, theme.dim)]);
    let policy = shown.services.policy();
    let Some(balance) = shown.proxies.balance(policy.unwrap_or_default(), LoadMeasure::Streams) else {
        return;
    };
    let style = if balance.imbalance > 2.0 { theme.warn } else { theme.text };
    let figure = |name: &str, value: f64, style| {
        vec![Span::styled(format!("{name} "), theme.dim), Span::styled(format!("{value:.2}"), style)]
    };
    let facts = vec![
        (3, vec![Span::styled(policy.map_or("mixed policies".to_owned(), |p| p.to_string()), theme.text)]),
        (0, figure("max/mean", balance.imbalance, style)),
        (2, figure("Jain", balance.jain, theme.text)),
        (1, figure("Gini", balance.gini, theme.text)),
    ];
    let mut line = table::facts(facts, usize::from(area.width.saturating_sub(taken + 1)));
    line.push_span(" ");
    put_right(buf, area, taken, line);
}

fn rows(model: &Model, lines: &[ProxyLine], area: Rect, buf: &mut Buffer) {
    let theme = &model.theme;
    let proxies = &model.shown().proxies;
    let columns = columns(model, area.width);
    put(buf, area.x + 2, area.y, area, columns.head(theme.dim));
    let page = usize::from(area.height.saturating_sub(1));
    // The cursor goes on to the services, the proxies scroll no further than their end.
    let offset = model.proxies_screen.cursor.offset().min(lines.len().saturating_sub(page));
    for (y, line) in (area.y + 1..area.bottom()).zip(lines[offset..].iter().take(page)) {
        let text = match line {
            ProxyLine::Proxy(id) => proxies.get(*id).map(|proxy| row(model, &columns, proxy)),
            ProxyLine::Channel(id) => {
                proxies.channel(*id).map(|known| channel(model, &columns, known, area.width))
            }
            ProxyLine::Service(_) => None,
        };
        put_cut(buf, area.x + 2, y, area, text.unwrap_or_default());
        if model.proxies_screen.cursor.selected() == Some(*line) {
            super::select(model, Rect { y, height: 1, ..area }, buf);
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Name,
    State,
    Serves,
    Address,
    Channels,
    Weight,
    Streams,
    Share,
    Up,
    Down,
    Bytes,
    Limit,
    Latency,
    Trend,
    Carried,
    Age,
}

fn columns(model: &Model, width: u16) -> Table<Column> {
    let proxies = &model.shown().proxies;
    let weighed = proxies.up().any(|proxy| proxy.weight != 1);
    let limited = proxies.up().any(|proxy| proxy.limits != RateLimits::default());
    let specs = [
        left(Column::Name, "PROXY", 12, 26, 0),
        left(Column::State, "STATE", 5, 5, 3),
        left(Column::Serves, "SERVES", 6, 14, 7),
        left(Column::Address, "ADDRESS", 21, 23, 16),
        right(Column::Channels, "CH", 3, 8),
        // Where all weigh the same, nobody asks; where they do not, it explains the rest.
        right(Column::Weight, "WEIGHT", 6, if weighed { 4 } else { 10 }),
        right(Column::Streams, "STREAMS", 7, 1),
        left(Column::Share, "SHARE", 13, 24, 5),
        right(Column::Up, "UP/s", 6, 9),
        right(Column::Down, "DOWN/s", 7, 2),
        left(Column::Bytes, "OF BYTES", 13, 24, 11),
        left(Column::Limit, "LIMIT", limits::WIDTH, limits::WIDTH, 6),
        right(Column::Latency, "OPEN 50/99%", 11, 13),
        left(Column::Trend, "TREND", 8, 24, 12),
        right(Column::Carried, "CARRIED", 7, 15),
        right(Column::Age, "AGE", 6, 14),
    ];
    let wanted = |spec: &Spec<Column>| spec.column != Column::Limit || limited;
    Table::fitting(specs.into_iter().filter(wanted), width.saturating_sub(2))
}

fn row(model: &Model, columns: &Table<Column>, proxy: &ProxyRow) -> Line<'static> {
    let theme = &model.theme;
    let shown = model.shown();
    let name = if proxy.name.is_empty() { &proxy.id.to_string() } else { &proxy.name };
    let width = columns.width(Column::Name).unwrap_or(0).saturating_sub(2);
    let name = fit_middle(name, width);
    if let Some(gone) = &proxy.gone {
        let ago = format::age(shown.now.saturating_duration_since(gone.at));
        let why = gone.reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        let carried = format::bytes(proxy.down.saturating_add(proxy.up));
        let text = format!("  {name} gone {ago} ago{why}; it had carried {carried}");
        return Line::styled(text, theme.faint);
    }
    if let Some(left) = proxy.waits {
        let wait = format::verb(proxy.streams, "wait");
        let streams = format::counted(proxy.streams, "stream");
        return Line::from(vec![
            Span::styled(format!("  {name} "), theme.strong),
            Span::styled(
                format!("has lost every channel; {streams} {wait} for it, {} more", format::age(left)),
                theme.warn,
            ),
        ]);
    }
    if let (Some(why), true) = (&proxy.refused, proxy.services.is_empty()) {
        return Line::from(vec![
            Span::styled(format!("  {name} "), theme.strong),
            Span::styled(format!("has no port: {why}"), theme.warn),
        ]);
    }
    let policy = shown.services.policy().unwrap_or_default();
    columns.row(|spec| match spec.column {
        Column::Name => {
            let open = if model.proxies_screen.unfolded.contains(&proxy.id) { "▾ " } else { "▸ " };
            Cell::Drawn(vec![Span::styled(open, theme.dim), Span::styled(name.clone(), theme.strong)])
        }
        Column::Bytes => {
            let all: f64 = shown.proxies.up().map(ProxyRow::rate).sum();
            Cell::Drawn(share(model, proxy.rate(), all, None, spec.width, theme.down))
        }
        Column::Share => {
            let due = shown.proxies.fair_share(proxy, policy);
            Cell::Drawn(share(
                model,
                proxy.streams as f64,
                shown.proxies.streams() as f64,
                due,
                spec.width,
                theme.load,
            ))
        }
        other => {
            let (text, style) = cell(model, proxy, other, spec.width);
            Cell::Text(text, style)
        }
    })
}

fn cell(model: &Model, proxy: &ProxyRow, column: Column, width: usize) -> (String, Style) {
    let theme = &model.theme;
    let rate = |rate: f64, style| (super::rate(model, rate), if rate < 1.0 { theme.faint } else { style });
    match column {
        Column::State if proxy.drains() => ("drain".to_owned(), theme.warn),
        Column::State => ("up".to_owned(), theme.ok),
        Column::Serves => {
            let ports: Vec<String> =
                proxy.services.iter().map(|service| format!(":{}", service.port)).collect();
            (ports.join(" "), theme.dim)
        }
        Column::Address => (proxy.addr.to_string(), theme.dim),
        Column::Channels => (proxy.channels.len().to_string(), theme.text),
        Column::Weight => {
            (proxy.weight.to_string(), if proxy.weight == 1 { theme.dim } else { theme.accent })
        }
        Column::Streams => (format::count(proxy.streams), theme.strong),
        Column::Up => rate(proxy.up_rate, theme.up),
        Column::Down => rate(proxy.down_rate, theme.down),
        Column::Limit => (limits::text(proxy.limits), theme.warn),
        Column::Latency => (latency::pair(&proxy.latency.connect).unwrap_or("-".to_owned()), theme.text),
        Column::Trend => {
            let rates = proxy.trend.last(width).map(|(down, up)| f64::from(down + up));
            (bars::spark(rates, 0.8), theme.load)
        }
        Column::Carried => (format::bytes(proxy.down.saturating_add(proxy.up)), theme.text),
        Column::Age => (format::age(model.shown().now.saturating_duration_since(proxy.since)), theme.text),
        Column::Name | Column::Share | Column::Bytes => (String::new(), theme.text),
    }
}

/// A bar with its figure; `due` is where it would end if all was fair.
fn share(
    model: &Model,
    part: f64,
    all: f64,
    due: Option<f64>,
    width: usize,
    style: Style,
) -> Vec<Span<'static>> {
    let share = if all > 0.0 { part / all } else { 0.0 };
    let mut spans =
        bars::marked(share, due, width.saturating_sub(5), style, model.theme.rule, model.theme.text);
    spans.push(Span::styled(format!(" {:>3.0}%", share * 100.0), model.theme.text));
    spans
}

fn channel(model: &Model, columns: &Table<Column>, channel: &ChannelRow, width: u16) -> Line<'static> {
    let theme = &model.theme;
    let (state, style) = match channel.state {
        ChannelState::Up => ("up", theme.ok),
        ChannelState::Stalled => ("stuck", theme.error),
        ChannelState::GoingAway => ("leaves", theme.warn),
    };
    let figure = |name: &'static str, text: String, width, style| {
        vec![Span::styled(name, theme.dim), Span::styled(format::fit_right(&text, width), style)]
    };
    let rtt = channel.round_trip().map_or("-".to_owned(), format::latency);
    let some = |bytes: u64| if bytes > 0 { theme.text } else { theme.faint };
    // Its state stands below that of its proxy.
    let id = fit(&channel.id.to_string(), columns.width(Column::Name).unwrap_or(0).saturating_sub(5));
    let mut facts = vec![
        (0, vec![Span::styled(format!("    {id}"), theme.accent)]),
        (1, vec![Span::styled(fit(state, 6), style)]),
        (4, figure("streams ", channel.streams.to_string(), 4, theme.text)),
        (3, figure("rtt ", rtt, 5, theme.text)),
        (2, figure("↓", super::rate(model, channel.received_rate), 5, theme.down)),
        (2, figure("↑", super::rate(model, channel.sent_rate), 5, theme.up)),
    ];
    facts.push((5, figure("share ", share_of(model, channel), 4, theme.text)));
    if let Some(tcp) = channel.tcp {
        let resent = if tcp.retransmitted_segments > 0 { theme.warn } else { theme.faint };
        facts.push((6, figure("retrans ", format::count(tcp.retransmitted_segments), 5, resent)));
    }
    facts.push((7, figure("queue ", format::bytes(channel.queued), 5, some(channel.queued))));
    if channel.chunk > 0 {
        facts.push((8, figure("chunk ", format::bytes(channel.chunk.into()), 5, theme.text)));
    }
    if let Some(tcp) = channel.tcp {
        let delivery = super::rate(model, tcp.delivery_rate as f64);
        facts.push((9, figure("delivery ", delivery, 5, theme.text)));
        facts.push((13, figure("cwnd ", format::bytes(tcp.congestion_window), 5, theme.text)));
        facts
            .push((14, figure("unacked ", format::bytes(tcp.bytes_in_flight), 5, some(tcp.bytes_in_flight))));
        facts.push((15, figure("unsent ", format::bytes(tcp.unsent_bytes), 5, some(tcp.unsent_bytes))));
    }
    facts.push((10, vec![Span::styled(channel.format.to_string(), theme.dim)]));
    facts.push((11, figure("for ", format::age(channel.age), 6, theme.dim)));
    facts.push((12, vec![Span::styled(channel.addr.to_string(), theme.dim)]));
    table::facts(facts, usize::from(width.saturating_sub(3)))
}

/// How much of what its proxy carries now goes over a channel.
fn share_of(model: &Model, channel: &ChannelRow) -> String {
    let rate = |channel: &ChannelRow| channel.received_rate + channel.sent_rate;
    let proxy = model.shown().proxies.get(channel.id.proxy);
    let all: f64 = proxy.map_or(0.0, |proxy| proxy.channels.iter().map(rate).sum());
    if all < 1.0 { "-".to_owned() } else { format!("{:.0}%", rate(channel) / all * 100.0) }
}

/// How long things take with the selected proxy and on its channels, or for the users of the selected service.
fn latencies(model: &Model, area: Rect, buf: &mut Buffer) {
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
        (_, Some(proxy)) => (proxy.name.clone(), &proxy.latency),
        _ => return,
    };
    let all = [
        ("open", &latency.connect),
        ("first byte", &latency.time_to_first_byte),
        ("in our queue", &latency.queue_wait),
    ];
    let channels = proxy.map_or(&[][..], |proxy| &proxy.channels).iter();
    // Of a channel that is selected, what is its own goes before what it shares.
    let (own, others): (Vec<_>, Vec<_>) = channels
        .map(|channel| (channel.id, format!("round trip {}", channel.id.index), &*channel.round_trips))
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
    section(model, area, buf, "Latency", [Span::styled(format!("  {name}"), model.theme.dim)]);
    for (y, line) in (area.y + 1..area.bottom()).zip(latency::table(model, &rows, area.width)) {
        put(buf, area.x, y, area, line);
    }
}

/// A policy in words, with what it goes by.
pub(super) fn policy(model: &Model, proxy: &ProxyRow, policy: Policy, over: usize) -> String {
    match policy {
        Policy::Weighted | Policy::LeastStreams => {
            let share = model.shown().proxies.fair_share(proxy, policy).unwrap_or(0.0) * 100.0;
            format!("{policy} over {over}, weight {} = {share:.0}%", proxy.weight)
        }
        Policy::RoundRobin | Policy::PeakEwma => format!("{policy} over {over}"),
    }
}
