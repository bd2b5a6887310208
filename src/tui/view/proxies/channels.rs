//! The rows of channels below their proxy.

use ratatui::text::{Line, Span};

use super::super::{rate, table};
use crate::{
    telemetry::ChannelState,
    tui::{
        columns::ProxyColumn,
        format::{self, fit},
        layout::FittedColumns,
        model::{ChannelRow, Model},
    },
};

/// Returns the line of a channel, as many facts as fit into `width` cells: state, streams, RTT, rates, congestion
/// control, and what the kernel reports about the TCP connection.
pub(super) fn channel_row(
    model: &Model,
    columns: &FittedColumns<ProxyColumn>,
    channel: &ChannelRow,
    width: u16,
) -> Line<'static> {
    let theme = &model.theme;
    let (state, style) = match channel.state {
        ChannelState::Up => ("up", theme.ok),
        ChannelState::Stalled => ("stalled", theme.error),
        ChannelState::GoingAway => ("closing", theme.warn),
    };
    let figure = |name: &'static str, text: String, width, style| {
        vec![Span::styled(name, theme.dim), Span::styled(format::fit_right(&text, width), style)]
    };
    let rtt = channel.current_rtt().map_or("-".to_owned(), format::latency);
    let non_zero = |bytes: u64| if bytes > 0 { theme.text } else { theme.faint };
    // The state of the channel is below the state of its proxy.
    let id = fit(&channel.id.to_string(), columns.width(ProxyColumn::Name).unwrap_or(0).saturating_sub(5));
    // A download is what a server receives, and what a proxy sends.
    let (down_rate, up_rate, in_flight) = match model.labels.is_of_proxy() {
        true => (channel.sent_rate, channel.received_rate, "in flight ↓"),
        false => (channel.received_rate, channel.sent_rate, "in flight ↑"),
    };
    let mut facts = vec![
        (0, vec![Span::styled(format!("    {id}"), theme.accent)]),
        (1, vec![Span::styled(fit(state, 8), style)]),
        (4, figure("streams ", channel.streams.to_string(), 4, theme.text)),
        (3, figure("RTT ", rtt, 5, theme.text)),
        (2, figure("↓", rate(model, down_rate), 5, theme.down)),
        (2, figure("↑", rate(model, up_rate), 5, theme.up)),
    ];
    facts.push((5, figure("traffic ", traffic_share(model, channel), 4, theme.text)));
    // The name of the congestion control says what it is: bbr, cubic, reno.
    if let Some(name) = &channel.congestion_control {
        facts.push((8, vec![Span::styled(fit(name, 5), theme.text)]));
    }
    if let Some(tcp) = channel.tcp {
        let resent = if tcp.retransmitted_segments > 0 { theme.warn } else { theme.faint };
        facts.push((6, figure("retransmits ", format::count(tcp.retransmitted_segments), 5, resent)));
    }
    facts.push((
        7,
        figure("queue ", format::bytes(channel.send_queue_bytes), 5, non_zero(channel.send_queue_bytes)),
    ));
    if channel.chunk_size > 0 {
        facts.push((9, figure("chunk ", format::bytes(channel.chunk_size.into()), 5, theme.text)));
    }
    if let Some(tcp) = channel.tcp {
        let delivery = rate(model, tcp.delivery_rate as f64);
        facts.push((10, figure("delivery rate ", delivery, 5, theme.text)));
        facts.push((14, figure("cwnd ", format::bytes(tcp.congestion_window), 5, theme.text)));
        facts.push((
            15,
            figure(in_flight, format::bytes(tcp.bytes_in_flight), 5, non_zero(tcp.bytes_in_flight)),
        ));
        facts.push((16, figure("unsent ", format::bytes(tcp.unsent_bytes), 5, non_zero(tcp.unsent_bytes))));
    }
    facts.push((11, vec![Span::styled(channel.format.to_string(), theme.dim)]));
    facts.push((12, figure("age ", format::age(channel.age), 6, theme.dim)));
    facts.push((13, vec![Span::styled(channel.addr.to_string(), theme.dim)]));
    table::join_facts(facts, usize::from(width.saturating_sub(3)))
}

/// Formats the share of a channel in the present traffic of its proxy.
fn traffic_share(model: &Model, channel: &ChannelRow) -> String {
    let rate = |channel: &ChannelRow| channel.received_rate + channel.sent_rate;
    let proxy = model.shown().proxies.get(channel.id.proxy);
    let all: f64 = proxy.map_or(0.0, |proxy| proxy.channels.iter().map(rate).sum());
    if all < 1.0 { "-".to_owned() } else { format!("{:.0}%", rate(channel) / all * 100.0) }
}
