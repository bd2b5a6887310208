//! The header: the program, the screens, and the state and totals of the server in one line.

use std::net::SocketAddr;

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::Style,
    text::{Line, Span},
};

use super::{draw_line, draw_line_right};
use crate::tui::{
    format,
    layout::OverviewLayout,
    model::{Model, Overlay, ScreenId},
    source::{Playback, SourceState},
};

/// The length of a day in milliseconds.
const DAY_MS: u64 = 86_400_000;

/// The width in cells below which the header does not list the screens.
const MIN_TABS_WIDTH: u16 = 60;

/// The width in cells below which the tabs of the other screens are abbreviated: the totals have precedence.
const MIN_FULL_TABS_WIDTH: u16 = 80;

/// The width in cells below which the tabs take the place of the program's name, and one blank separates them.
const MIN_NAME_WIDTH: u16 = 100;

/// Draws the header: the program's name and the screens at the left, the state and totals of the server at the right.
/// The least important totals are dropped where not all fit.
pub(crate) fn draw(model: &Model, area: Rect, buf: &mut Buffer) {
    let theme = &model.theme;
    let mut name = vec![name(model, area.width)];
    // On a narrow terminal the totals have precedence over the screens.
    if area.width >= MIN_TABS_WIDTH {
        for (screen, before, text) in tabs(model, area.width) {
            let style = if screen == model.screen { theme.strong } else { theme.dim };
            name.extend([Span::raw(before), Span::styled(text, style)]);
        }
    }
    let name = Line::from(name);
    // Two blanks before the facts.
    let taken = u16::try_from(name.width()).unwrap_or(u16::MAX).saturating_add(2);
    draw_line(buf, area.x, area.y, area, name);

    // Of the address of the tunnel port, the IP address is dropped before any fact; the number of users is dropped
    // before the public ports at which they connect.
    let with_ip = facts(model, area.width, true, true);
    let port_only = facts(model, area.width, false, true);
    let shortest = facts(model, area.width, false, false);
    // Facts of the highest rank are dropped until the others fit.
    for limit in (0..=with_ip.len()).rev() {
        for facts in [&with_ip, &port_only, &shortest].iter().take(if limit > USERS_RANK + 1 { 2 } else { 3 })
        {
            let mut spans = Vec::new();
            let named =
                |(rank, fact): &&Fact| *rank < limit && fact.iter().any(|span| !span.content.is_empty());
            for (_, fact) in facts.iter().filter(named) {
                if !spans.is_empty() {
                    spans.push(Span::raw("  "));
                }
                spans.extend(fact.iter().cloned());
            }
            spans.push(Span::raw(" "));
            if draw_line_right(buf, area, taken, Line::from(spans)) {
                return;
            }
        }
    }
}

/// Returns the name of the program for the left end of the header; nothing where the tabs take its place. On a small
/// terminal, returns in its place that the display is frozen, or the filter.
fn name(model: &Model, width: u16) -> Span<'static> {
    let theme = &model.theme;
    // A low terminal has no table title, which would show the filter.
    let table = model.screen == ScreenId::Streams
        && model.detail_screen.open.is_none()
        && model.layout().title.height == 0;
    match frozen(model) {
        Some(frozen) if width < MIN_TABS_WIDTH => {
            Span::styled(format!(" {frozen}"), theme.warn.patch(theme.strong))
        }
        _ if table && !model.streams_screen.filter.is_empty() => Span::styled(
            format!(" / {}", format::truncate(model.streams_screen.filter.text(), 9)),
            theme.accent,
        ),
        _ if (MIN_TABS_WIDTH..MIN_NAME_WIDTH).contains(&width) => Span::raw(""),
        _ => Span::styled(" underpass", theme.accent.patch(theme.strong)),
    }
}

/// Returns `FROZEN` with how long the display has been frozen; `None` while it is not. Every screen shows it, so that
/// old figures are not mistaken for live ones.
fn frozen(model: &Model) -> Option<String> {
    let still = model.frozen.as_ref()?;
    Some(format!("FROZEN {}", format::age(model.live.now.saturating_duration_since(still.now))))
}

/// Returns the tabs of the header, one for each screen: the blanks before it, and its key and name. The name of the
/// current screen is never abbreviated.
fn tabs(model: &Model, width: u16) -> impl Iterator<Item = (ScreenId, &'static str, String)> {
    let between = if width >= MIN_NAME_WIDTH { "  " } else { " " };
    ScreenId::ALL.into_iter().enumerate().map(move |(at, screen)| {
        let is_of_proxy = model.labels.is_of_proxy();
        let name = match width >= MIN_FULL_TABS_WIDTH || screen == model.screen {
            true => screen.name(is_of_proxy),
            false => screen.short_name(is_of_proxy),
        };
        (screen, between, format!("{} {name}", at + 1))
    })
}

/// Draws the part of the horizontal rule that is below the current screen's tab in the accent colour.
pub(crate) fn draw_tab_underline(model: &Model, rule: Rect, buf: &mut Buffer) {
    if rule.height == 0 || rule.width < MIN_TABS_WIDTH {
        return;
    }
    let cells = |text: &str| u16::try_from(text.chars().count()).unwrap_or(0);
    let mut x = rule.x + u16::try_from(name(model, rule.width).width()).unwrap_or(0);
    for (screen, before, text) in tabs(model, rule.width) {
        x += cells(before);
        if screen == model.screen {
            let line = "━".repeat(cells(&text).into());
            draw_line(buf, x, rule.y, rule, Line::styled(line, model.theme.accent));
        }
        x += cells(&text);
    }
}

/// The rank of the users and their public ports.
const USERS_RANK: usize = 2;

/// A fact of the header: the rank by which it is dropped, and its text.
type Fact = (usize, Vec<Span<'static>>);

/// Returns the address of the tunnel port for the header: with its IP address, or the port alone (`:7000`).
fn tunnel_port(model: &Model, has_ip: bool) -> String {
    if model.labels.listen.is_empty() {
        // A cockpit of another process knows no address of the server.
        return if model.labels.is_of_proxy() { "proxy" } else { "running" }.to_owned();
    }
    match model.labels.listen.parse::<SocketAddr>() {
        Ok(addr) if !has_ip => format!("tunnel :{}", addr.port()),
        _ => format!("tunnel {}", model.labels.listen),
    }
}

/// Returns how the header names the public ports, at which users connect: ` on :8080`, or ` on :8080 +2` for three of
/// them; empty while none is open.
fn public_ports(model: &Model) -> String {
    let mut open = model.shown().services.all().iter().filter(|service| service.closed.is_none());
    let Some(first) = open.next() else { return String::new() };
    match open.count() {
        0 => format!(" on :{}", first.key.port),
        more => format!(" on :{} +{more}", first.key.port),
    }
}

/// Returns the facts at the right end of the header: state of the server with its tunnel port (`has_ip`: and address),
/// uptime, proxies, channels, open streams, users (`has_users`: with their number) with their public ports, and rates.
fn facts(model: &Model, width: u16, has_ip: bool, has_users: bool) -> Vec<Fact> {
    let theme = &model.theme;
    let number = |n: u64, label: &str| {
        let style = if n == 0 { theme.dim } else { theme.strong };
        vec![Span::styled(format::count(n), style), Span::styled(format!(" {label}"), theme.dim)]
    };
    let open = model.shown().streams.open_count() as u64;
    let (proxies, away) = model.shown().proxies.connected_and_in_grace_period();
    let plural = |n: u64, one: &'static str, many: &'static str| if n == 1 { one } else { many };
    let mut lost = model.shown().services.closed_services();
    // A problem, and that there is no proxy, is shown before everything but the open streams.
    const PROBLEM: usize = 1;
    const NO_PROBLEM: usize = 3;
    // The overview below the header has the rates, too.
    let rates_rank = if model.layout().overview == OverviewLayout::Hidden { 1 } else { 4 };
    let users = model.shown().totals.users_current;
    let ports = public_ports(model);
    let users = match has_users || ports.is_empty() {
        true => number(users, &format!("{}{ports}", plural(users, "user", "users"))),
        false => vec![Span::styled(format!("users{ports}"), theme.dim)],
    };
    // Without a proxy there is nothing to count, but a first proxy to connect.
    let is_unused = proxies == 0 && open == 0;
    let (rank, light, state) = if let Some((light, state)) = source_state(model) {
        (0, light, state)
    } else if let (Some(first), false) = (lost.next(), model.server_status.is_draining) {
        let more = lost.count();
        let more = if more > 0 { format!(" +{more}") } else { String::new() };
        let state = if model.labels.is_of_proxy() { "not served" } else { "closed" };
        (PROBLEM, theme.error, format!("port {}{more} {state}", first.key.port))
    } else if model.server_status.is_draining {
        (PROBLEM, theme.warn, "draining".to_owned())
    } else if away > 0 {
        (PROBLEM, theme.warn, format!("{away} {} reconnecting", model.labels.peers(away)))
    } else if model.server_status.has_sample && proxies == 0 {
        (PROBLEM, theme.warn, tunnel_port(model, has_ip))
    } else {
        (NO_PROBLEM, theme.ok, tunnel_port(model, has_ip))
    };
    // A replay without its time, or old figures without that mark, would pass for a server now.
    let open_rank = match rank {
        _ if is_unused => USERS_RANK,
        0 => PROBLEM,
        _ => 0,
    };
    let frozen = frozen(model).filter(|_| width >= MIN_TABS_WIDTH).unwrap_or_default();
    vec![
        (0, vec![Span::styled(frozen, theme.warn.patch(theme.strong))]),
        (8, vec![Span::styled(model.labels.title.clone(), theme.dim)]),
        (rank, vec![Span::styled("● ", light), Span::styled(state, theme.text)]),
        (
            6,
            vec![
                Span::styled("uptime ", theme.dim),
                Span::styled(format::age(model.shown().uptime_now()), theme.text),
            ],
        ),
        (
            match (is_unused, proxies) {
                (true, _) if rank > 0 => 0,
                (_, 0) => PROBLEM,
                _ => 5,
            },
            number(proxies, model.labels.peers(proxies)),
        ),
        (
            7,
            number(
                model.shown().proxies.channels() as u64,
                plural(model.shown().proxies.channels() as u64, "channel", "channels"),
            ),
        ),
        (open_rank, number(open, "open")),
        (USERS_RANK, users),
        (rates_rank, rates(model, theme.down, theme.up)),
    ]
}

/// Returns the light and the text for a source whose data is not that of a server now; `None` for one whose data is.
fn source_state(model: &Model) -> Option<(Style, String)> {
    let theme = &model.theme;
    match &model.source_state {
        SourceState::Live => None,
        SourceState::Reconnecting(_) => Some((theme.error, "reconnecting…".to_owned())),
        SourceState::Playing(playback) => {
            let (light, what) = match playback {
                Playback { is_seeking: true, .. } => (theme.warn, "seeking ".to_owned()),
                Playback { is_paused: true, .. } => (theme.warn, "paused ".to_owned()),
                Playback { position, ends, .. } if position >= ends => (theme.warn, "ended ".to_owned()),
                Playback { speed, .. } => (theme.ok, format!("{speed}× ")),
            };
            let days = (playback.ends / DAY_MS).saturating_sub(playback.begins / DAY_MS);
            let day = (playback.position / DAY_MS).saturating_sub(playback.begins / DAY_MS);
            let day = if days > 0 { format!(" day {}/{}", day + 1, days + 1) } else { String::new() };
            Some((light, format!("replay {what}{}{day}", format::time_of_day(playback.position))))
        }
    }
}

/// Returns the download and upload rate of the whole server.
fn rates(model: &Model, down: Style, up: Style) -> Vec<Span<'static>> {
    vec![
        Span::styled(format!("↓{:>5}", super::rate(model, model.shown().throughput.down_rate)), down),
        Span::styled(format!(" ↑{:>5}", super::rate(model, model.shown().throughput.up_rate)), up),
        Span::styled(super::unit(model), model.theme.dim),
    ]
}

/// Draws the whole screen of a terminal without room for a table: open streams, rates, users, and that the terminal
/// is too small.
pub(crate) fn draw_too_small(model: &Model, area: Rect, buf: &mut Buffer) {
    let theme = &model.theme;
    let open = format::count(model.shown().streams.open_count() as u64);
    let mut lines = vec![
        Line::from(vec![Span::styled(open, theme.strong), Span::styled(" open", theme.dim)]),
        Line::from(rates(model, theme.down, theme.up)),
        Line::styled(format::counted(model.shown().totals.users_current, "user"), theme.text),
        Line::styled("terminal too small", theme.dim),
    ];
    // The hint has precedence over the users, and a question over everything.
    if area.height == 3 {
        lines.remove(2);
    }
    if let Some(Overlay::Dialog(dialog)) = &model.overlay {
        let (question, answer) = (dialog.question.short_text(), dialog.focused().label());
        lines.insert(0, Line::styled(format!("{question} [{answer}] ⇥"), theme.error));
    }
    for (y, line) in (area.top()..area.bottom()).zip(lines) {
        draw_line(buf, area.x, y, area, line);
    }
}
