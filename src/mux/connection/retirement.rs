//! The orderly closing of channels that the link does not need.

use std::cmp::Reverse;

use super::{
    event::MuxEvent,
    mux::{Mux, enqueue_on},
};
use crate::mux::{
    channel::{Channel, Retirement},
    error::ProtocolError,
    glitches::FrameEffect,
    keepalive::Liveness,
    role::Role,
};

impl Mux {
    /// Begins to close one channel in an orderly way, whose streams move to the others: one on which the peer does not
    /// answer, if there is one, or the one with the fewest streams. [`MuxEvent::ChannelRetired`] follows when both
    /// sides have received everything that was sent on it. Returns the channel's id, or `None` if the link would have
    /// no channel left. Only for the proxy, which opens channels, too.
    pub fn retire_channel(&mut self) -> Option<u16> {
        let used: Vec<_> = self.channels.iter().filter(|(_, channel)| !channel.is_retiring()).collect();
        // A silent channel has the fewest streams only by chance. If a channel that works were closed instead, the link
        // might be left with none that does.
        let least = used.iter().min_by_key(|(id, channel)| {
            let is_working = channel.liveness() == Liveness::Responsive && !channel.is_suspect();
            (is_working, channel.primary_streams, Reverse(**id))
        });
        let &(&id, _) = least.filter(|_| used.len() > 1)?;
        self.announce_retirement(id);
        Some(id)
    }

    /// Returns how many channels the link has that are not being closed.
    pub fn used_channel_count(&self) -> usize {
        self.channels.values().filter(|channel| !channel.is_retiring()).count()
    }

    /// Handles RETIRE on channel `id`: the server moves its streams and answers, the proxy confirms the answer, and
    /// the server records the confirmation.
    pub(super) fn on_retire(&mut self, id: u16) -> Result<FrameEffect, ProtocolError> {
        let Some(channel) = self.channels.get_mut(&id) else { return Ok(FrameEffect::Glitch) };
        match (self.role, channel.retirement) {
            (Role::Server, Retirement::None) => self.announce_retirement(id),
            (Role::Proxy, Retirement::None) => return Err(ProtocolError::UnexpectedFrame("RETIRE")),
            (_, Retirement::Confirmed) => return Ok(FrameEffect::Glitch),
            (role, Retirement::Announced) => {
                channel.confirm_retirement();
                self.streams.values_mut().for_each(|stream| stream.send.settle_secondary(id));
                if role == Role::Proxy {
                    self.channels.get_mut(&id).into_iter().for_each(Channel::push_retire);
                    self.events.push_back(MuxEvent::ChannelRetired { channel: id });
                }
            }
        }
        Ok(FrameEffect::Progress(0))
    }

    /// Moves all streams of channel `id` to other channels, and queues RETIRE on it. Streams stay where they are if the
    /// link has no other channel that is used: a server must not be left without one by its peer.
    fn announce_retirement(&mut self, id: u16) {
        let Some(channel) = self.channels.get_mut(&id) else { return };
        channel.announce_retirement();
        let on_channel = self.streams.iter().filter(|(_, stream)| stream.channel == Some(id));
        let mut moving: Vec<u32> = on_channel.map(|(&stream, _)| stream).collect();
        moving.sort_unstable();
        for stream_id in moving {
            let to = self.least_loaded_channel(|_| false).filter(|&to| to != id);
            let Some(stream) = self.streams.get_mut(&stream_id) else { continue };
            match to {
                Some(to) => {
                    stream.move_primary(id, to, self.role);
                    self.events.push_back(MuxEvent::Moved { stream: stream_id, channel: to });
                    self.channels.get_mut(&id).into_iter().for_each(|from| from.primary_streams -= 1);
                }
                // The queues of the channel were emptied.
                None => (stream.is_in_control_queue, stream.is_in_scheduler) = (false, false),
            }
            if let Some(channel) = stream.channel.and_then(|to| self.channels.get_mut(&to)) {
                channel.primary_streams += usize::from(to.is_some());
                enqueue_on(channel, stream, stream_id);
            }
        }
        self.events.push_back(MuxEvent::ChannelRetiring { channel: id });
    }
}
