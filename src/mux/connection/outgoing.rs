//! Frames to send: which is sent next, and on which channel.

use std::time::Instant;

use super::{
    event::MuxEvent,
    mux::{Mux, enqueue_on},
};
use crate::{
    mux::{channel::Channel, limits::MAX_SMALL_MESSAGE_LEN, placement::MAX_COPY_LEN, stream::Stream},
    wire::Frame,
};

impl Mux {
    /// Removes and returns the next event for the link's owner; `None` if there is none.
    pub fn poll_event(&mut self) -> Option<MuxEvent> {
        self.events.pop_front()
    }

    /// Removes and returns the next frame to send on channel `id`: control frames first, then data of the streams in
    /// the order of the scheduler. Data waits while the congestion window is full.
    pub fn poll_transmit(&mut self, id: u16, now: Instant) -> Option<Frame> {
        let frame = self.poll_frame(id, now)?;
        let channel = self.channels.get_mut(&id)?;
        if channel.on_frame_sent(&frame, &self.config, now) {
            self.events.push_back(MuxEvent::TimeoutMoved { channel: id });
        }
        Some(frame)
    }

    /// Removes and returns the next frame to send on channel `id`, without recording that it is sent.
    fn poll_frame(&mut self, id: u16, now: Instant) -> Option<Frame> {
        self.placement.now = Some(now);
        let control = self.channels.get_mut(&id)?.poll_control(now);
        if let Some(frame) = control.or_else(|| self.poll_copy(id, now)) {
            return Some(frame);
        }
        let channel = self.channels.get_mut(&id)?;
        while let Some(&stream_id) = channel.control_queue.front() {
            if let Some(stream) = self.streams.get_mut(&stream_id) {
                if let Some(frame) = stream.poll_control(stream_id) {
                    if matches!(frame, Frame::Open(_) | Frame::OpenOk { .. }) {
                        self.queue_copies(stream_id, id, &frame, now);
                    }
                    return Some(frame);
                }
                stream.is_in_control_queue = false;
            }
            channel.control_queue.pop_front();
        }
        self.poll_data(id, now)
    }

    /// Removes and returns the next probe or DATA frame to send on channel `id`; `None` if no stream has data or the
    /// congestion window is full.
    fn poll_data(&mut self, id: u16, now: Instant) -> Option<Frame> {
        let may_stripe = self.config.allow_striping && self.channels.len() > 1;
        let channel = self.channels.get_mut(&id)?;
        if may_stripe {
            channel.path.start_conservatively();
        }
        if let Some(token) = channel.path.poll_probe(now) {
            return Some(Frame::Ping { token });
        }
        let source = if channel.scheduler.is_empty() { self.striping_source(id) } else { Some(id) };
        let channel = self.channels.get_mut(&id)?;
        let Some(source) = source else {
            channel.path.on_app_limited();
            return None;
        };
        let mut max_len = channel.path.chunk_size();
        if channel.path.check_cwnd_limited() {
            if source != id || !self.may_send_small_message(id) {
                return None;
            }
            max_len = max_len.min(MAX_SMALL_MESSAGE_LEN);
        }
        self.take_data(source, id, max_len, now)
    }

    /// Returns whether the stream that the scheduler selects has so little to send that it may exceed the congestion
    /// window. Waiting for the window was a third of the RTT of a ping beside downloads at 200 Mbit/s.
    fn may_send_small_message(&mut self, id: u16) -> bool {
        let Some(channel) = self
            .channels
            .get_mut(&id)
            .filter(|channel| channel.may_have_small_message && channel.path.allows_small_message())
        else {
            return false;
        };
        let max_len = channel.path.chunk_size().min(MAX_SMALL_MESSAGE_LEN);
        let next = channel.scheduler.next().and_then(|next| self.streams.get(&next.stream));
        channel.may_have_small_message = next.is_some_and(|stream| stream.send.unsent() <= max_len as u64);
        channel.may_have_small_message
    }

    /// Removes and returns the next DATA frame, of at most `max_len` bytes, that is queued on channel `source`, to be
    /// sent on channel `via`. If they differ, `via` is a secondary channel of the stream. A copy of a message may be
    /// queued on another channel, and bulk data leave for another.
    fn take_data(&mut self, source: u16, via: u16, max_len: usize, now: Instant) -> Option<Frame> {
        let secondary = (source != via).then_some(via);
        let min_acked = self.config.min_bytes_to_stripe;
        loop {
            let channel = self.channels.get_mut(&source)?;
            let next = channel.scheduler.next()?;
            let id = next.stream;
            if secondary.is_none() && self.move_scheduled(next, source, now) {
                continue;
            }
            let channel = self.channels.get_mut(&source)?;
            let stream = self.streams.get_mut(&id);
            let is_small = stream.as_ref().is_some_and(|stream| stream.send.unsent() <= MAX_COPY_LEN);
            // The RESET that follows the data goes out on the primary channel, whose driver has to send the last of it.
            let may_stripe = |s: &Stream| s.send.may_stripe(min_acked) && !s.pending.reset;
            if secondary.is_some() && !stream.as_deref().is_some_and(may_stripe) {
                return None;
            }
            let Some((stream, chunk)) =
                stream.and_then(|s| s.send.next_chunk(max_len, secondary).map(|chunk| (s, chunk)))
            else {
                // The stream was closed, or its lost data was acknowledged before it was retransmitted.
                channel.scheduler.charge(next, 0, false);
                if let Some(stream) = self.streams.get_mut(&id) {
                    stream.is_in_scheduler = false;
                    if stream.has_control() {
                        // The RESET, which has waited for that data.
                        enqueue_on(channel, stream, id);
                        self.events.push_back(MuxEvent::TransmitReady { channel: source });
                    }
                }
                continue;
            };
            stream.is_in_scheduler = stream.send.has_output();
            let has_same_priority = next.has_priority(stream.priority);
            let stays_queued = stream.is_in_scheduler && has_same_priority;
            channel.scheduler.charge(next, chunk.payload.len(), stays_queued);
            channel.may_have_small_message = true;
            if stream.is_in_scheduler && !has_same_priority {
                channel.scheduler.enqueue(id, stream.priority, stream.user);
            }
            if stream.pending.reset {
                enqueue_on(channel, stream, id);
            }
            if let Some(via) = self.channels.get_mut(&via) {
                via.path.on_data_sent(chunk.payload.len(), now);
            }
            self.events
                .extend(chunk.written_at.map(|written_at| MuxEvent::Dequeued { stream: id, written_at }));
            self.notify_writer(id);
            self.record_sent(id, via, chunk.payload.len(), now);
            let frame =
                Frame::Data { stream: id, offset: chunk.offset, fin: chunk.fin, payload: chunk.payload };
            if is_small {
                self.queue_copies(id, via, &frame, now);
            }
            return Some(frame);
        }
    }

    /// Returns the congested channel whose data channel `id` should send: one where the peer would have the data
    /// later. A channel with a long RTT is left idle if all data behind that chunk would have to wait for it.
    pub(super) fn striping_source(&self, id: u16) -> Option<u16> {
        let may_help = |channel: &&Channel| {
            self.config.allow_striping && channel.is_idle() && !channel.placement.is_express
        };
        let idle = self.channels.get(&id).filter(may_help)?;
        let one_way_delay = idle.path.one_way_delay()?;
        let is_faster = |congested: &Channel| {
            let delivery = congested.path.estimated_delivery(idle.path.chunk_size() as u64);
            delivery.is_none_or(|later| one_way_delay <= later)
        };
        let is_source = |other: &Channel| other.is_congested(self.placement.stripes_bulk) && is_faster(other);
        let mut others = self.channels.iter().filter(|&(&other, _)| other != id);
        others.find(|(_, other)| is_source(other)).map(|(&other, _)| other)
    }

    /// Queues for retransmission, on their primary channels, what streams with another primary channel have in flight
    /// on channel `id`.
    pub(super) fn retransmit_striped(&mut self, id: u16) {
        for (&stream_id, stream) in &mut self.streams {
            if stream.channel != Some(id)
                && stream.send.lose_secondary(id)
                && let Some(channel) = stream.channel.and_then(|primary| self.channels.get_mut(&primary))
            {
                enqueue_on(channel, stream, stream_id);
            }
        }
    }
}
