//! What goes out next, and over which channel.

use std::time::Instant;

use super::{Mux, MuxEvent, enqueue};
use crate::{
    mux::{channel::Channel, limits::LITTLE},
    wire::Frame,
};

impl Mux {
    /// The next thing the owner should know.
    pub fn poll_event(&mut self) -> Option<MuxEvent> {
        self.events.pop_front()
    }

    /// The next frame for `channel`: control first, then the streams in turn, each as many bytes as the others. Data
    /// waits while as much is on the way as helps.
    pub fn poll_transmit(&mut self, id: u16, now: Instant) -> Option<Frame> {
        let channel = self.channels.get_mut(&id)?;
        if let Some(frame) = channel.poll_frame(now) {
            return Some(frame);
        }
        while let Some(&stream) = channel.control.front() {
            if let Some(session) = self.streams.get_mut(&stream) {
                if let Some(frame) = session.poll_say(stream) {
                    return Some(frame);
                }
                session.in_control = false;
            }
            channel.control.pop_front();
        }
        self.poll_data(id, now)
    }

    fn poll_data(&mut self, id: u16, now: Instant) -> Option<Frame> {
        let others = self.config.allow_striping && self.channels.len() > 1;
        let channel = self.channels.get_mut(&id)?;
        if others {
            channel.meter.begin_carefully();
        }
        if let Some(token) = channel.meter.poll_marker(now) {
            return Some(Frame::Ping { token });
        }
        let from = if channel.data.is_empty() { self.lender(id) } else { Some(id) };
        let channel = self.channels.get_mut(&id)?;
        let Some(from) = from else {
            channel.meter.ran_dry();
            return None;
        };
        let mut most = channel.meter.chunk();
        if channel.meter.holds() {
            if from != id || !self.lets_pass(id) {
                return None;
            }
            most = LITTLE;
        }
        self.take_data(from, id, most, now)
    }

    /// Whether the stream at its turn has so little to send that it goes out though as much is on the way as helps. To
    /// wait for less was a third of what a ping took beside downloads on a line of 200 Mbit/s.
    fn lets_pass(&mut self, id: u16) -> bool {
        let Some(channel) =
            self.channels.get_mut(&id).filter(|channel| channel.little && channel.meter.spares())
        else {
            return false;
        };
        let next = channel.data.next().and_then(|turn| self.streams.get(&turn.stream));
        channel.little = next.is_some_and(|session| session.send.unsent() <= LITTLE as u64);
        channel.little
    }

    /// The next piece of what waits for channel `from`, of `most` bytes at the most, to go out over another one or over
    /// itself.
    fn take_data(&mut self, from: u16, over: u16, most: usize, now: Instant) -> Option<Frame> {
        let away = (from != over).then_some(over);
        loop {
            let channel = self.channels.get_mut(&from)?;
            let turn = channel.data.next()?;
            let stream = turn.stream;
            let session = self.streams.get_mut(&stream);
            if away.is_some()
                && !session.as_ref().is_some_and(|s| s.send.may_stray(self.config.min_bytes_to_stripe))
            {
                return None;
            }
            let Some((session, piece)) =
                session.and_then(|s| s.send.take(most, away).map(|piece| (s, piece)))
            else {
                // It ended, or its bytes were acknowledged on another channel before they went out here.
                channel.data.sent(turn, 0, false);
                if let Some(session) = self.streams.get_mut(&stream) {
                    session.in_data = false;
                }
                continue;
            };
            session.in_data = session.send.has_output();
            let stays = turn.is_of(session.priority);
            channel.data.sent(turn, piece.payload.len(), session.in_data && stays);
            channel.little = true;
            if session.in_data && !stays {
                channel.data.push(stream, session.priority, session.user);
            }
            if let Some(over) = self.channels.get_mut(&over) {
                over.meter.sent(piece.payload.len(), now);
            }
            self.events.extend(piece.marked.map(|written_at| MuxEvent::Dequeued { stream, written_at }));
            self.tell_writable(stream);
            return Some(Frame::Data {
                stream,
                offset: piece.offset,
                fin: piece.fin,
                payload: piece.payload,
            });
        }
    }

    /// The channel whose data should go out over `id` instead: one that has as much on the way as helps, where the peer
    /// would have it later. A far channel is left empty rather than given what all that comes behind it would wait for.
    pub(super) fn lender(&self, id: u16) -> Option<u16> {
        let idle =
            self.channels.get(&id).filter(|channel| self.config.allow_striping && channel.is_idle())?;
        let one_way = idle.meter.one_way()?;
        let gains = |busy: &Channel| {
            busy.meter.delivery(idle.meter.chunk() as u64).is_none_or(|later| one_way <= later)
        };
        let mut others = self.channels.iter().filter(|&(&other, _)| other != id);
        others.find(|(_, other)| other.is_overfull() && gains(other)).map(|(&other, _)| other)
    }

    /// What went out on a channel that is not its stream's own goes out again over that.
    pub(super) fn recall(&mut self, id: u16) {
        for (&stream, session) in &mut self.streams {
            if session.channel != Some(id)
                && session.send.lose(id)
                && let Some(channel) = session.channel.and_then(|own| self.channels.get_mut(&own))
            {
                enqueue(channel, session, stream);
            }
        }
    }
}
