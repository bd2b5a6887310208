//! The timers of channels: pings, and the detection of peers that do not answer.

use std::time::{Duration, Instant};

use super::{event::MuxEvent, mux::Mux};
use crate::{
    mux::{channel::Channel, glitches::FrameEffect, keepalive::Liveness, limits::MAX_QUEUED_CONTROL},
    wire::Frame,
};

impl Mux {
    /// Records that the peer of `channel` was alive at `at`: bytes were received on the channel, the peer's kernel has
    /// acknowledged some of what is queued in the socket, or this side does not read the channel.
    pub fn record_alive(&mut self, channel: u16, at: Instant) {
        if self.channels.get_mut(&channel).is_some_and(|channel| channel.on_alive(at)) {
            self.events.push_back(MuxEvent::ResponsivenessChanged { channel, is_responsive: true });
        }
    }

    /// Records that bytes were received on `channel`, for an owner that also reports what the peer's kernel
    /// acknowledges, with [`record_alive`](Self::record_alive). A channel whose peer did not answer stays unresponsive
    /// until a ping is answered.
    pub fn record_received(&mut self, channel: u16, now: Instant) {
        if let Some(channel) = self.channels.get_mut(&channel) {
            channel.on_received(now);
        }
    }

    /// Records that the kernel has received data on `channel` that cannot be read yet, because a segment before it was
    /// lost: the peer was not silent. It may have sent that before the channel became suspect, which it stays.
    pub fn record_incomplete(&mut self, channel: u16, now: Instant) {
        if let Some(channel) = self.channels.get_mut(&channel) {
            channel.on_incomplete(now);
        }
    }

    /// Sets when the peer of `channel` counts as unresponsive because its kernel has acknowledged nothing of what is in
    /// flight; `None` while nothing is. The owner updates it before it calls
    /// [`handle_channel_timeout`](Self::handle_channel_timeout), which would judge by an old report otherwise.
    pub fn set_ack_due(&mut self, channel: u16, at: Option<Instant>) {
        if let Some(channel) = self.channels.get_mut(&channel) {
            channel.set_ack_due(at);
        }
    }

    /// Records that something other than a ping or its answer was received on `channel`, be it a part of a frame.
    pub fn record_traffic(&mut self, channel: u16, now: Instant) {
        if self.channels.get_mut(&channel).is_some_and(|channel| channel.on_frame_received(now)) {
            self.events.push_back(MuxEvent::TimeoutMoved { channel });
        }
    }

    /// Sets the RTT of a new channel that the handshake measured. Timeouts follow from it until a
    /// ping has measured the RTT.
    pub fn set_initial_rtt(&mut self, channel: u16, rtt: Duration) {
        if let Some(channel) = self.channels.get_mut(&channel) {
            channel.set_initial_rtt(rtt);
        }
    }

    /// Updates the timers of all channels, see [`handle_channel_timeout`](Self::handle_channel_timeout). For an owner
    /// with one timer for the whole link, such as the simulations and the fuzz target; a driver has one for its
    /// channel.
    pub fn handle_timeout(&mut self, now: Instant) {
        let channels: Vec<u16> = self.channels.keys().copied().collect();
        channels.into_iter().for_each(|id| self.handle_channel_timeout(id, now));
    }

    /// Updates the timers of one channel: a ping becomes due, the channel suspect, or its peer unresponsive. Data in
    /// flight on a suspect channel, of streams whose primary channel is another, is retransmitted.
    pub fn handle_channel_timeout(&mut self, id: u16, now: Instant) {
        let Some(channel) = self.channels.get_mut(&id) else { return };
        let before = channel.liveness();
        channel.on_timeout(&self.config, self.role, now);
        let (liveness, has_overdue_probe) = (channel.liveness(), channel.has_overdue_probe());
        if (liveness == Liveness::Responsive) != (before == Liveness::Responsive) {
            let is_responsive = liveness == Liveness::Responsive;
            self.events.push_back(MuxEvent::ResponsivenessChanged { channel: id, is_responsive });
            if !is_responsive {
                // Shows, before this channel is lost, whether its streams are better off on another one.
                self.doubt_all_but(&[id], now);
            }
        }
        if liveness == Liveness::Lost {
            self.events.push_back(MuxEvent::ChannelTimedOut { channel: id });
        }
        if has_overdue_probe {
            self.retransmit_striped(id);
        }
        // Idle channels make no reports: what is not needed is closed by this timer.
        self.plan_channels(now);
        self.update_placement(now);
    }

    /// Queues LOST for channel `id`, which the owner [removes](Self::remove_channel) because its peer did not answer:
    /// on every other channel, one of which may be dead, too, or on the next one that is added. Without it the peer
    /// notices the loss by itself, only later, so that a channel with a control backlog gets none.
    pub fn report_lost(&mut self, id: u16) {
        let frame = Frame::Lost { channel: id };
        let mut others = self.channels.iter_mut().filter(|&(&other, _)| other != id).peekable();
        if others.peek().is_none() && self.orphaned_control.len() < MAX_QUEUED_CONTROL {
            self.orphaned_control.push_back(frame.clone());
        }
        others
            .filter(|(_, other)| !other.has_control_backlog())
            .for_each(|(_, other)| other.control_frames.push_back(frame.clone()));
    }

    /// Makes every channel suspect but `trusted`, until something is received on it.
    fn doubt_all_but(&mut self, trusted: &[u16], now: Instant) {
        let others = self.channels.iter_mut().filter(|(id, _)| !trusted.contains(id));
        others.for_each(|(_, other)| other.doubt(now));
    }

    /// Handles LOST, received on channel `via`: the peer has closed channel `id`.
    pub(super) fn on_lost(&mut self, id: u16, via: u16, now: Instant) -> FrameEffect {
        if !self.channels.contains_key(&id) {
            return FrameEffect::Glitch;
        }
        self.doubt_all_but(&[id, via], now);
        self.events.push_back(MuxEvent::ChannelLostAtPeer { channel: id });
        FrameEffect::Request
    }

    /// Returns when [`handle_channel_timeout`](Self::handle_channel_timeout) has to be called next for a channel;
    /// `None` if the link does not have it. The time changes only with that call and with
    /// [`MuxEvent::TimeoutMoved`].
    pub fn next_timeout(&mut self, channel: u16, now: Instant) -> Option<Instant> {
        let Self { channels, config, role, .. } = self;
        let is_first = channels.keys().next() == Some(&channel);
        channels.get_mut(&channel).map(|channel| channel.next_timeout(config, *role, is_first, now))
    }

    /// Returns whether the link has a channel whose peer answers, and which is not being closed.
    pub fn has_responsive_channel(&self) -> bool {
        self.channels.values().any(Channel::is_usable)
    }

    /// Returns the number of channels on which the peer does not answer.
    pub fn unresponsive_channels(&self) -> usize {
        self.channels.values().filter(|channel| channel.liveness() != Liveness::Responsive).count()
    }

    /// Returns for how long a channel has counted as lost; zero if it does not.
    pub fn overdue(&self, channel: u16, now: Instant) -> Duration {
        self.channels.get(&channel).map_or(Duration::ZERO, |channel| channel.overdue(&self.config, now))
    }

    /// Returns whether a channel counted as lost when its timers were updated last, and nothing was received on it
    /// since.
    pub fn is_lost(&self, channel: u16, now: Instant) -> bool {
        let is_lost = |channel: &Channel| channel.liveness() == Liveness::Lost;
        self.channels.get(&channel).is_some_and(is_lost) && !self.overdue(channel, now).is_zero()
    }

    /// Returns whether the peer answers on a channel.
    pub fn is_responsive(&self, channel: u16) -> bool {
        self.channels.get(&channel).is_some_and(|channel| channel.liveness() == Liveness::Responsive)
    }

    /// Returns whether the peer owes an answer on a channel: to a ping, or to one that could not be sent yet.
    pub fn is_answer_due(&self, channel: u16) -> bool {
        self.channels.get(&channel).is_some_and(Channel::is_answer_due)
    }

    /// Returns whether a probe on `channel` has been unanswered for `time` or longer, and for more than two of its
    /// RTTs. Probes are sent behind data.
    pub fn is_probe_unanswered_for(&self, channel: u16, time: Duration, now: Instant) -> bool {
        self.channels.get(&channel).is_some_and(|channel| {
            let rtt = channel.path.latest_probe_rtt().unwrap_or_default();
            channel.path.oldest_probe_age(now).is_some_and(|age| age >= time.max(rtt * 5 / 2))
        })
    }
}
