//! The facts of a stream on the detail screen, a line each: end points, limits and figures.

use ratatui::text::{Line, Span};

use super::{bars, limits, proxies, services};
use crate::{
    ids::RateLimits,
    telemetry::{Content, EndReason, EndedBy, StreamPhase},
    tui::{
        format::{self, fit, fit_right},
        model::{Model, StreamRow},
    },
};

/// The rank by which a line is dropped where not all fit (the highest first), and the line.
pub(super) type RankedLine = (u8, Line<'static>);

/// Returns the lines of facts about a stream on the detail screen: user, service, proxy, channel, target, priority,
/// content, end and figures.
pub(super) fn facts(model: &Model, row: StreamRow<'_>, width: u16) -> Vec<RankedLine> {
    let theme = &model.theme;
    let label = |text: &str| Span::styled(format!("  {}", fit(text, 10)), theme.dim);
    let shown = model.shown();
    let user = shown.users.get(row.key.user).map_or(String::new(), |user| format!(", {} open", user.streams));
    let mut lines = vec![
        (
            0,
            Line::from(vec![
                label("user"),
                Span::styled(format::user_address(row.addr), theme.text),
                Span::styled(format!("  {}{user}", row.key.user), theme.dim),
            ]),
        ),
        (6, Line::from(vec![label("service"), Span::styled(services::name(&row.service), theme.text)])),
        (1, proxy_line(model, row, label(model.labels.peers(1)))),
        (6, channel_line(model, row, label("channel"), width)),
        (4, target_line(model, row, label("target"))),
    ];
    if !model.labels.is_of_proxy() {
        let line = Line::from(vec![
            label("priority"),
            Span::styled(row.priority.to_string(), theme.text),
            Span::styled("  limits ", theme.dim),
            Span::styled(effective_limits(model, row), theme.text),
        ]);
        lines.push((7, line));
    }
    if let Some(content) = &row.content {
        lines.push((2, Line::from(vec![label("content"), Span::styled(content.to_string(), theme.text)])));
    }
    if let Some(ended) = &row.ended
        && let (Some(reason), Some(text)) = (&ended.reason, ended.describe())
    {
        let style = if ended.is_failure() { theme.error } else { theme.text };
        // The text names the user and the operator itself, and nobody ended a stream that finished.
        let by = match reason.by() {
            EndedBy::User | EndedBy::Operator | EndedBy::Both => String::new(),
            by => format!("  by {by}"),
        };
        lines.push((
            1,
            Line::from(vec![label("ended"), Span::styled(text, style), Span::styled(by, theme.dim)]),
        ));
    }
    lines.extend(figure_lines(model, row, width));
    lines
}

/// Returns the line with the stream's proxy, and the policy and weight by which it was chosen.
fn proxy_line(model: &Model, row: StreamRow<'_>, label: Span<'static>) -> Line<'static> {
    let theme = &model.theme;
    let shown = model.shown();
    let Some(id) = row.proxy else {
        let why = if row.is_live() { "  waiting for a proxy" } else { "" };
        return Line::from(vec![label, Span::styled("none", theme.text), Span::styled(why, theme.warn)]);
    };
    let name = shown.proxies.short_name(id);
    let mut line = vec![label, Span::styled(format!("{name}  {id}"), theme.text)];
    if model.labels.is_of_proxy() {
        return Line::from(line);
    }
    let known = shown.proxies.get(id).filter(|proxy| proxy.disconnection.is_none());
    if let (Some(proxy), Some(service)) = (known, shown.services.find(&row.service)) {
        let over = shown.proxies.connected().filter(|proxy| proxy.services.contains(&row.service)).count();
        let why = proxies::policy(model, proxy, service.policy, over);
        line.push(Span::styled(format!("  {why}"), theme.dim));
        if proxy.is_draining() {
            line.push(Span::styled("  draining", theme.warn));
        }
    } else if row.is_live() {
        line.push(Span::styled("  disconnected", theme.warn));
    }
    Line::from(line)
}

/// Returns the line with the stream's primary channel: its RTT, throughput, TCP retransmissions and number of streams,
/// as many of these as fit into `width` cells.
fn channel_line(model: &Model, row: StreamRow<'_>, label: Span<'static>, width: u16) -> Line<'static> {
    let theme = &model.theme;
    if row.is_in_grace_period {
        let left = row.proxy.and_then(|id| model.shown().proxies.get(id)?.grace_remaining).map(format::age);
        let who = if model.labels.is_of_proxy() { "link" } else { "proxy" };
        let text = format!("none left; the {who} may resume for {} more", left.unwrap_or_default());
        return Line::from(vec![label, Span::styled(text, theme.warn)]);
    }
    let Some(id) = row.channel else {
        return Line::from(vec![label, Span::styled("none", theme.text)]);
    };
    let mut line = vec![label, Span::styled(id.to_string(), theme.text)];
    let last = model.shown_detail().and_then(|detail| detail.channel.as_ref());
    if !row.is_live() {
        line.push(Span::styled(if last.is_some() { "  at its end:" } else { "" }, theme.dim));
    }
    let now = model.shown().proxies.channel(id).filter(|_| row.is_live());
    if let Some(channel) = now.or(last.filter(|channel| channel.id == id)) {
        let rtt = channel.current_rtt().map_or("-".to_owned(), format::latency);
        let rate = channel.received_rate + channel.sent_rate;
        let text = format!("  RTT {rtt}, {}{}", super::rate(model, rate), super::unit(model));
        line.push(Span::styled(text, theme.dim));
        let retransmits = channel.tcp.map_or(0, |tcp| tcp.retransmitted_segments);
        let retransmits = (retransmits > 0).then(|| format::counted(retransmits, "retransmit"));
        for fact in retransmits.into_iter().chain([format::counted(channel.streams, "stream")]) {
            let fact = Span::styled(format!(", {fact}"), theme.dim);
            if line.iter().chain([&fact]).map(Span::width).sum::<usize>() <= width.into() {
                line.push(fact);
            }
        }
    }
    Line::from(line)
}

/// Returns the line with the state of the connection from the proxy to the target: connect latency, time to first
/// byte, HTTP status.
fn target_line(model: &Model, row: StreamRow<'_>, label: Span<'static>) -> Line<'static> {
    let theme = &model.theme;
    let flow = model.shown_detail().and_then(|detail| detail.flow.as_ref());
    let failure = row.ended.as_ref().and_then(|ended| match &ended.reason {
        Some(EndReason::TargetConnectFailed(why)) => Some(why.clone()),
        _ => None,
    });
    let (text, style) = match (failure, row.phase) {
        (Some(why), _) => (format!("connect failed: {why}"), theme.error),
        (None, StreamPhase::Waiting) => ("not connected yet".to_owned(), theme.dim),
        (None, StreamPhase::Opening) => ("connecting".to_owned(), theme.dim),
        (None, StreamPhase::Ended) if flow.is_none() && row.counters.down == 0 => {
            ("never connected".to_owned(), theme.dim)
        }
        (None, _) => ("connected".to_owned(), theme.text),
    };
    let mut line = vec![label, Span::styled(text, style)];
    if let Some(took) = flow.and_then(|flow| flow.connect_latency) {
        line.push(Span::styled(format!(" in {}", format::latency(took)), theme.dim));
    }
    if let Some(took) = flow.and_then(|flow| flow.time_to_first_byte) {
        line.push(Span::styled(format!("  TTFB {}", format::latency(took)), theme.dim));
    }
    if let Some(Content::Http { status: Some(status), .. }) = row.content.as_deref() {
        let style = if *status >= 400 { theme.warn } else { theme.ok };
        line.push(Span::styled("  HTTP ", theme.dim));
        line.push(Span::styled(status.to_string(), style));
    }
    Line::from(line)
}

/// Returns every rate limit that applies to the stream: its own, and those of its user, proxy and service.
fn effective_limits(model: &Model, row: StreamRow<'_>) -> String {
    let shown = model.shown();
    let all = [
        ("", Some(row.limits)),
        ("user ", shown.users.get(row.key.user).map(|user| user.limits)),
        ("proxy ", row.proxy.and_then(|id| shown.proxies.get(id)).map(|proxy| proxy.limits)),
        ("service ", shown.services.find(&row.service).map(|service| service.limits)),
    ];
    let some = all.into_iter().filter_map(|(whose, limits)| {
        let limits = limits.filter(|limits| *limits != RateLimits::default())?;
        Some(format!("{whose}{}", limits::text(limits)))
    });
    let text = some.collect::<Vec<_>>().join(", ");
    if text.is_empty() { "none".to_owned() } else { text }
}

/// Returns the lines with the rates of both directions (now, mean, peak), their total bytes, and the progress of the
/// download.
fn figure_lines(model: &Model, row: StreamRow<'_>, width: u16) -> Vec<RankedLine> {
    let theme = &model.theme;
    let seconds = row.age(model.shown().now).as_secs_f64().max(0.1);
    // Below 46 columns the mean is left out.
    let mean = width >= 46;
    let direction = |name: &str, now: f32, peak: f32, total: u64, style| {
        let rate = |rate: f64| fit_right(&super::rate(model, rate), 8);
        let average = total as f64 / seconds;
        // Bytes from before the first sample are in no measured rate; the peak is at least the mean all the same.
        let peak = f64::from(peak).max(average);
        let mut spans = vec![
            Span::styled(format!("  {}", fit(name, 10)), theme.dim),
            Span::styled(rate(now.into()), style),
            Span::styled(rate(peak), theme.text),
            Span::styled(fit_right(&format::bytes(total), 9), theme.strong),
        ];
        if mean {
            spans.insert(2, Span::styled(rate(average), theme.text));
        }
        Line::from(spans)
    };
    let head = [("NOW", 8), ("MEAN", if mean { 8 } else { 0 }), ("PEAK", 8), ("TOTAL", 9)];
    let head = head.iter().filter(|(_, width)| *width > 0);
    let head: String = head.map(|(text, width)| fit_right(text, *width)).collect();
    let mut lines = vec![
        (1, Line::styled(format!("            {head}"), theme.dim)),
        (0, direction("down", row.counters.down_rate, row.counters.down_peak, row.counters.down, theme.down)),
        (0, direction("up", row.counters.up_rate, row.counters.up_peak, row.counters.up, theme.up)),
    ];
    if let (Some(share), Some(body)) = (row.progress(), row.download) {
        let (filled, track) = bars::horizontal(share, usize::from(width.saturating_sub(44)).clamp(8, 40));
        let left = (body.begun + body.size).saturating_sub(row.counters.down) as f64
            / f64::from(row.counters.down_rate).max(1.0);
        let left = if row.is_live() && row.counters.down_rate > 1.0 {
            format!(", {} left", format::age(std::time::Duration::from_secs_f64(left.min(1e9))))
        } else {
            String::new()
        };
        let line = Line::from(vec![
            Span::styled(format!("  {}", fit("progress", 10)), theme.dim),
            Span::raw("  "),
            Span::styled(filled, theme.down),
            Span::styled(track, theme.rule),
            Span::styled(
                format!(" {:.0}% of {}{left}", (share * 100.0).floor(), format::bytes(body.size)),
                theme.text,
            ),
        ]);
        lines.push((2, line));
    }
    lines
}
