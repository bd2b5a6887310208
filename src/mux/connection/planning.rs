//! The number of channels of a link: reports for the planner, its decisions, and the CHANNELS frames of both sides.

use std::time::{Duration, Instant};

use foldhash::HashMap;

use super::{
    event::{ChannelWish, MuxEvent},
    mux::Mux,
};
use crate::{
    mux::{
        channel_planner::{ChannelReport, PlannedLink},
        congestion::{OtherFlows, TransportSample},
        glitches::FrameEffect,
        limits::MAX_PLANNED_CHANNELS,
        role::Role,
    },
    wire::Frame,
};

/// Retransmissions count as loss while data queues at the bottleneck for at most this long, or for an eighth of the
/// minimum RTT if that is longer.
const MAX_LOSS_QUEUEING_DELAY: Duration = Duration::from_millis(8);

/// A channel carries bulk data if it has delivered more than the whole of the link divided by this number.
const MIN_FLOW_SHARE: u64 = 32;

impl Mux {
    /// Adds the kernel's report about a channel to what the planner knows, and has it decide. `before` is the report
    /// before that one.
    pub(super) fn plan_after_report(&mut self, id: u16, before: Option<TransportSample>, now: Instant) {
        // The channels share the bottleneck, and what its queue has dropped is retransmitted when it is short again.
        let has_queue_losses = self.channels.values().any(|channel| channel.path.has_queue_losses(now));
        let Some(channel) = self.channels.get_mut(&id) else { return };
        let (Some(before), Some(after)) = (before, channel.path.transport_sample()) else { return };
        let (is_network, path) = (channel.path.is_network(), channel.path.stats());
        let longest = MAX_LOSS_QUEUEING_DELAY.max(path.min_rtt.unwrap_or_default() / 8);
        let is_queue_short = path.queueing_delay.is_some_and(|delay| delay <= longest);
        let lost = after.retransmitted_segments.saturating_sub(before.retransmitted_segments);
        let delivered = after.delivered.saturating_sub(before.delivered);
        channel.delivered_lately += delivered;
        let sent = after.sent_segments.saturating_sub(before.sent_segments);
        self.planner.record(ChannelReport {
            delivered,
            sent_segments: if has_queue_losses { 0 } else { sent },
            lost_segments: if is_network && is_queue_short && !has_queue_losses { lost } else { 0 },
            is_backlogged: !channel.scheduler.is_empty() || after.unsent > 0,
            is_transport_limited: is_network && channel.path.is_transport_limited(),
        });
        self.plan_channels(now);
    }

    /// Has the planner decide on the number of channels if it is time. A server sends the decision to the proxy, and
    /// both report it with [`MuxEvent::ChannelsWanted`].
    pub(super) fn plan_channels(&mut self, now: Instant) {
        if !self.planner.is_due(now) {
            return;
        }
        let Some(min_rtt) = self.channels.values().filter_map(|channel| channel.path.min_rtt()).min() else {
            return;
        };
        let channels = u16::try_from(self.used_channel_count()).unwrap_or(u16::MAX);
        let auto_max = self.max_auto_channels();
        let link = PlannedLink { channels, max_channels: auto_max.unwrap_or(channels), min_rtt };
        let plan = self.planner.decide(link, now);
        if self.planner.has_begun_interval(now) {
            self.count_flows();
        }
        if let Some(plan) = plan {
            self.update_spare_channels();
            if auto_max.is_some() {
                if self.role == Role::Server {
                    self.send_channel_number(plan.to);
                }
                self.events.push_back(MuxEvent::ChannelsWanted(ChannelWish::Own(plan)));
            }
        }
    }

    /// Returns the most channels of the link if the proxy opens as many as are useful; `None` if it keeps a fixed
    /// number.
    fn max_auto_channels(&self) -> Option<u16> {
        self.config.max_auto_channels.or(self.channel_numbers.peer_max)
    }

    /// Finds the channels that carried bulk data since the last call, and tells their congestion controllers of each
    /// other: beside other connections, all of them together get what one would. Where none did, the one that begins
    /// next is alone.
    fn count_flows(&mut self) {
        let total: u64 = self.channels.values().map(|channel| channel.delivered_lately).sum();
        let (mut all, mut flows) = (OtherFlows::default(), HashMap::<u16, OtherFlows>::default());
        for (&id, channel) in &mut self.channels {
            if std::mem::take(&mut channel.delivered_lately) * MIN_FLOW_SHARE > total {
                let flow = channel.path.flow();
                all += flow;
                flows.insert(id, flow);
            }
        }
        for (id, channel) in &mut self.channels {
            channel.path.set_other_flows(all - flows.get(id).copied().unwrap_or_default());
        }
    }

    /// Marks the channels that the planner does not want for the data of this side. A fixed number of channels may be
    /// larger than is useful, and the other side may need more.
    pub(super) fn update_spare_channels(&mut self) {
        let wanted = usize::from(self.planner.wanted());
        let used = self.channels.values_mut().filter(|channel| !channel.is_retiring());
        used.enumerate().for_each(|(rank, channel)| channel.is_spare = rank >= wanted);
    }

    /// On a proxy that opens as many channels as are useful: tells the server how many at most, once for each link.
    pub(super) fn announce_max_channels(&mut self) {
        if let Some(max) = self.config.max_auto_channels
            && self.role == Role::Proxy
            && self.channel_numbers.sent_serial == 0
        {
            self.send_channel_number(max);
        }
    }

    /// Queues a CHANNELS frame with this number.
    fn send_channel_number(&mut self, count: u16) {
        self.channel_numbers.sent_serial += 1;
        let frame = Frame::Channels { serial: self.channel_numbers.sent_serial, count };
        let channel = self.least_loaded_channel(|_| false);
        self.push_control(channel, frame);
    }

    /// Handles CHANNELS. On a proxy it is the server's wish, on a server the most channels that the proxy opens. An
    /// older frame than the last is ignored.
    pub(super) fn on_channels(&mut self, serial: u32, count: u16) -> FrameEffect {
        if serial > self.channel_numbers.received_serial {
            self.channel_numbers.received_serial = serial;
            match self.role {
                Role::Proxy => {
                    self.events.push_back(MuxEvent::ChannelsWanted(ChannelWish::Server(count)));
                }
                Role::Server => {
                    self.channel_numbers.peer_max = Some(count.clamp(1, MAX_PLANNED_CHANNELS));
                }
            }
        }
        FrameEffect::Request
    }
}

#[cfg(test)]
mod tests;
