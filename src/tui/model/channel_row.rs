//! The row of one channel of a proxy.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use super::rate_meter::{RateMeter, SampleClock};
use crate::{
    ids::ChannelId,
    telemetry::{ChannelFormat, ChannelSnapshot, ChannelState, LatencySummary, TcpInfo},
};

/// The row of one channel of a proxy. Rates are in bytes per second.
#[derive(Debug, Clone)]
pub(crate) struct ChannelRow {
    /// The proxy and the number of the channel.
    pub(crate) id: ChannelId,
    /// The remote address of the channel's TCP connection.
    pub(crate) addr: SocketAddr,
    /// How the channel encodes messages: the text format or the binary format.
    pub(crate) format: ChannelFormat,
    /// The name of the kernel's congestion control of the TCP connection; `None` where it is not known.
    pub(crate) congestion_control: Option<Arc<str>>,
    /// How long the channel has been established.
    pub(crate) age: Duration,
    /// The RTT of the last ping on this channel; `None` before the first pong.
    pub(crate) last_ping_rtt: Option<Duration>,
    /// Percentiles of ping RTTs over the last 5 to 10 minutes.
    pub(crate) rtt_summary: Arc<LatencySummary>,
    /// How many open streams have this channel as their primary channel.
    pub(crate) streams: u64,
    /// Whether the channel is usable, stalled or draining, as the server reported it last.
    pub(crate) state: ChannelState,
    /// The kernel's measurements of the TCP connection (TCP_INFO); `None` where the kernel offers none.
    pub(crate) tcp: Option<TcpInfo>,
    /// Bytes in the server's send queue of this channel, not yet written to the socket.
    pub(crate) send_queue_bytes: u64,
    /// The largest DATA payload in bytes that is put into one frame; 0 in the text format.
    pub(crate) chunk_size: u32,
    /// Bytes per second received from the proxy, framing included.
    pub(crate) received_rate: f64,
    /// Bytes per second sent to the proxy, framing included.
    pub(crate) sent_rate: f64,
    /// The meters from which `received_rate` and `sent_rate` are computed, in this order.
    meters: (RateMeter, RateMeter),
}

impl ChannelRow {
    /// Creates the row of a channel on its first snapshot. Figures that change are zero until
    /// [`sample`](Self::sample).
    pub(super) fn new(snapshot: &ChannelSnapshot) -> Self {
        Self {
            id: snapshot.id,
            addr: snapshot.addr,
            format: snapshot.format,
            congestion_control: snapshot.congestion_control.clone(),
            age: snapshot.age,
            last_ping_rtt: None,
            rtt_summary: snapshot.rtt_summary.clone(),
            streams: 0,
            state: ChannelState::default(),
            tcp: None,
            send_queue_bytes: 0,
            chunk_size: 0,
            received_rate: 0.0,
            sent_rate: 0.0,
            meters: Default::default(),
        }
    }

    /// The smoothed RTT of the kernel, which every acknowledgement updates; else the RTT of the last ping.
    pub(crate) fn current_rtt(&self) -> Option<Duration> {
        self.tcp.map(|tcp| tcp.smoothed_rtt).filter(|rtt| !rtt.is_zero()).or(self.last_ping_rtt)
    }

    /// Updates the row from a snapshot: state and figures are copied, rates computed from the byte counters. `clock`
    /// has been advanced to the time of the snapshot.
    pub(super) fn sample(&mut self, snapshot: &ChannelSnapshot, clock: &SampleClock) {
        (self.age, self.last_ping_rtt, self.streams) =
            (snapshot.age, snapshot.last_rtt, snapshot.streams_open);
        self.rtt_summary.clone_from(&snapshot.rtt_summary);
        (self.state, self.tcp) = (snapshot.state, snapshot.tcp);
        (self.send_queue_bytes, self.chunk_size) = (snapshot.send_queue_bytes, snapshot.chunk_size);
        self.meters.0.record(clock, snapshot.received);
        self.meters.1.record(clock, snapshot.sent);
        self.received_rate = self.meters.0.per_second(clock);
        self.sent_rate = self.meters.1.per_second(clock);
    }
}
