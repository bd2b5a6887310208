//! Chooses the channel on which a stream sends, and queues copies of messages, as described in `mux::placement`.

use std::time::Instant;

use super::{
    event::MuxEvent,
    mux::{Mux, enqueue_on},
};
use crate::{
    mux::{
        channel::Channel,
        congestion::SEGMENT_LEN,
        placement::{MAX_COPY_LEN, MIN_LOSS_RATE, MIN_SPREAD_RTT, Obstacles, SPREAD_RTTS},
        scheduler::ScheduledStream,
        stream::{OpenState, ResetAfterData, Stream},
    },
    wire::Frame,
};

impl Mux {
    /// Updates whether messages are placed apart from bulk data on this link, and which channels are express
    /// channels. An express channel stays one until it is not needed or suspect.
    pub(super) fn update_placement(&mut self, now: Instant) {
        self.placement.now = Some(now);
        self.placement.is_active = self.config.allow_striping
            && self.config.peer_has_flow_control
            && self.used_channel_count() > 1
            && self.channels.values().any(|channel| channel.path.is_network());
        let loss_rates = self.channels.values().filter_map(|channel| channel.path.loss_rate());
        self.placement.loss_rate = loss_rates.fold(0.0, f64::max);
        let bulk = self.channels.values().filter(|c| c.placement.carries_bulk(c.path.min_rtt(), now));
        let bytes_per_rtt = bulk.filter_map(|channel| channel.path.bytes_per_rtt()).sum();
        let is_slow_start_lossy = self.planner.is_distant_and_lossy()
            && self.channels.values().all(|channel| channel.path.is_in_slow_start());
        self.placement.update_spread(bytes_per_rtt, self.planner.loss_rate(), is_slow_start_lossy);
        let wanted = self.placement.express_channels(self.used_channel_count(), now);
        if wanted == 0 {
            self.channels.values_mut().for_each(|channel| channel.placement.is_express = false);
            return;
        }
        let mut candidates: Vec<_> = self.channels.values_mut().collect();
        candidates.sort_by_cached_key(|channel| {
            let carries_bulk = channel.placement.carries_bulk(channel.path.min_rtt(), now);
            (
                channel.is_retiring() || channel.is_suspect(),
                !channel.placement.is_express,
                !channel.is_spare,
                carries_bulk,
                channel.path.stats().in_flight,
            )
        });
        for (rank, channel) in candidates.into_iter().enumerate() {
            channel.placement.is_express = rank < wanted;
        }
    }

    /// Moves a stream that is about to send to a better channel, if there is one: a stream in bulk away from an
    /// express channel, any other to the channel with the fewest obstacles.
    pub(super) fn place(&mut self, id: u32) {
        let Some(now) = self.placement.now.filter(|_| self.placement.is_active) else { return };
        let may_move = |stream: &&mut Stream| stream.may_move() && !stream.is_in_scheduler;
        let Some(stream) = self.streams.get_mut(&id).filter(may_move) else { return };
        stream.activity.record(0, self.config.bulk_bytes, now);
        let Some(stream) = self.streams.get(&id) else { return };
        let target = match (stream.channel, stream.activity.is_bulk()) {
            (Some(primary), true) => self.bulk_channel(stream, primary, now),
            (Some(primary), false) => self.message_channel(primary, now),
            (None, _) => None,
        };
        if let Some(target) = target {
            self.move_stream(id, target);
        }
    }

    /// Moves a stream that is about to acknowledge data to the channel of the others that do so all the time. Where
    /// segments are lost, for which all of them would wait, the channels share these streams equally.
    ///
    /// An acknowledgement takes a segment of the kernel's congestion window, and BBR allows four while it drains the
    /// path of a channel. Those of four downloads, a thousand a second, kept so many in flight on each channel that the
    /// kernel drained them at the same time, and messages waited for 400 ms at an RTT of 200 ms.
    pub(super) fn place_acknowledgement(&mut self, id: u32, now: Instant) {
        let Some(stream) = self.streams.get_mut(&id).filter(|_| self.placement.is_active) else { return };
        stream.acknowledging.record(SEGMENT_LEN, self.config.bulk_bytes, now);
        let Some(stream) = self.streams.get(&id) else { return };
        let Some(primary) = stream.channel else { return };
        if stream.activity.is_bulk() || !stream.acknowledging.is_bulk() {
            return;
        }
        let is_lossy = self.planner.loss_rate() >= MIN_LOSS_RATE;
        let may_move = stream.may_move() && !stream.is_in_scheduler;
        let target = match may_move {
            true if is_lossy => self.channel_with_fewer_streams(primary),
            true => self.bulk_channel(stream, primary, now),
            false => None,
        };
        if let Some(target) = target {
            self.move_stream(id, target);
        }
        if let Some(channel) = self.channels.get_mut(&target.unwrap_or(primary)).filter(|_| !is_lossy) {
            channel.placement.record_bulk(now);
        }
    }

    /// Returns the channel with the fewest streams, if it still has fewer than `from` after one of them has moved.
    fn channel_with_fewer_streams(&self, from: u16) -> Option<u16> {
        let streams = self.channels.get(&from)?.primary_streams;
        let candidates =
            self.channels.iter().filter(|(_, channel)| channel.is_usable() && !channel.is_suspect());
        let (&target, channel) = candidates.min_by_key(|(_, channel)| channel.primary_streams)?;
        (channel.primary_streams + 1 < streams).then_some(target)
    }

    /// Records that a stream sends `bytes` of data on channel `via`, as a message or as bulk.
    pub(super) fn record_sent(&mut self, id: u32, via: u16, bytes: usize, now: Instant) {
        let Some(stream) = self.streams.get_mut(&id).filter(|_| self.placement.is_active) else { return };
        let has_become_bulk = stream.activity.record(bytes as u64, self.config.bulk_bytes, now);
        let is_bulk = stream.activity.is_bulk();
        if has_become_bulk {
            self.placement.forget_messages_of(id);
        } else if !is_bulk {
            self.placement.record_message(id, now);
        }
        if let Some(channel) = self.channels.get_mut(&via) {
            if is_bulk {
                channel.placement.record_bulk(now);
            } else {
                channel.placement.last_message = self.placement.next_ordinal();
            }
        }
        let has_express = self.channels.values().any(|channel| channel.placement.is_express);
        if has_express != (self.placement.express_channels(self.used_channel_count(), now) > 0) {
            self.update_placement(now);
        }
    }

    /// Moves a stream that the scheduler of channel `source` has selected to another channel: a stream in bulk away
    /// from an express channel, and a message away from a loss that the kernel has reported since it was queued.
    /// Returns whether the stream was moved; it is no longer queued on `source` then.
    pub(super) fn move_scheduled(&mut self, next: ScheduledStream, source: u16, now: Instant) -> bool {
        let Some(stream) = self.streams.get(&next.stream).filter(|_| self.placement.is_active) else {
            return false;
        };
        if stream.channel != Some(source) || !stream.may_move() {
            return false;
        }
        let target = if stream.activity.is_bulk() {
            self.bulk_channel(stream, source, now)
        } else if stream.send.unsent() <= MAX_COPY_LEN {
            self.message_channel(source, now)
        } else {
            None
        };
        let Some(target) = target else { return false };
        if let Some(channel) = self.channels.get_mut(&source) {
            channel.scheduler.charge(next, 0, false);
        }
        if let Some(stream) = self.streams.get_mut(&next.stream) {
            stream.is_in_scheduler = false;
        }
        self.move_stream(next.stream, target);
        true
    }

    /// Returns the channel to which a stream in bulk has to move; `None` if it should stay on its primary channel.
    ///
    /// Bulk data of all streams goes on one channel, whose congestion controller then knows the whole queue of the
    /// bottleneck. It is spread over all channels but the express channels where the kernel is slower than the path,
    /// most round trips lose a segment, or slow start over a long path has lost one.
    fn bulk_channel(&self, stream: &Stream, primary: u16, now: Instant) -> Option<u16> {
        let may_take = |channel: &Channel| !channel.placement.is_express && !channel.is_retiring();
        let from = self.channels.get(&primary)?;
        let spreads_bulk = self.placement.spreads_bulk;
        let is_spread = spreads_bulk
            || self.channels.values().any(|channel| may_take(channel) && channel.path.is_kernel_bound());
        if spreads_bulk && may_take(from) {
            return self.less_used_channel(stream, from, now);
        }
        if is_spread && !from.placement.is_express {
            return None;
        }
        let cost = |channel: &Channel| {
            let carries_bulk = channel.placement.carries_bulk(channel.path.min_rtt(), now);
            let last_bulk_at = channel.placement.last_bulk_at().filter(|_| is_spread);
            (channel.is_suspect(), channel.is_spare, !is_spread && !carries_bulk, last_bulk_at)
        };
        let candidates = self.channels.iter().filter(|(_, channel)| may_take(channel));
        let (&best, _) = candidates.min_by_key(|(_, channel)| cost(channel))?;
        (best != primary).then_some(best)
    }

    /// Returns the channel with the fewest streams that wait to send, if it has fewer than those that wait with
    /// `stream` on its primary channel `from`; `None` if there is none, or the stream was moved a short while ago.
    fn less_used_channel(&self, stream: &Stream, from: &Channel, now: Instant) -> Option<u16> {
        let interval = SPREAD_RTTS * from.path.min_rtt()?.max(MIN_SPREAD_RTT);
        let was_moved =
            stream.activity.spread_at.is_some_and(|at| now.saturating_duration_since(at) < interval);
        let others = from.scheduler.len() - usize::from(stream.is_in_scheduler);
        let may_take = |channel: &Channel| {
            let is_usable = !(channel.placement.is_express || channel.is_retiring() || channel.is_suspect());
            is_usable && !channel.is_spare && channel.scheduler.len() < others
        };
        let candidates = self.channels.iter().filter(|(_, channel)| !was_moved && may_take(channel));
        candidates
            .min_by_key(|(_, channel)| (channel.scheduler.len(), channel.placement.last_bulk_at()))
            .map(|(&id, _)| id)
    }

    /// Returns the channel to which a stream moves for its next message; `None` if no other has fewer obstacles than
    /// its primary channel.
    fn message_channel(&self, primary: u16, now: Instant) -> Option<u16> {
        let present = self.channels.get(&primary)?.obstacles(now);
        if present == Obstacles::default() {
            return None;
        }
        let cost = |channel: &Channel| (channel.obstacles(now), channel.placement.last_message);
        let (&best, channel) = self.channels.iter().min_by_key(|(_, channel)| cost(channel))?;
        (channel.obstacles(now) < present).then_some(best)
    }

    /// Makes `target` the primary channel of a stream that is queued nowhere, and queues what it has to send there.
    fn move_stream(&mut self, id: u32, target: u16) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let Some(former) = stream.channel.filter(|&former| former != target) else { return };
        if stream.activity.is_bulk() && self.placement.spreads_bulk {
            stream.activity.spread_at = self.placement.now;
        }
        let Some(channel) = self.channels.get_mut(&target) else { return };
        channel.primary_streams += 1;
        stream.move_to(former, target);
        if stream.send.has_output() || stream.has_control() {
            enqueue_on(channel, stream, id);
            self.events.push_back(MuxEvent::TransmitReady { channel: target });
        }
        if let Some(former) = self.channels.get_mut(&former) {
            former.primary_streams -= 1;
        }
        self.events.push_back(MuxEvent::Moved { stream: id, channel: target });
    }

    /// Queues copies of a frame of stream `id`, which was sent on channel `via`, on other channels: under loss, where
    /// no segment is being retransmitted, if all these channels may still send copies.
    ///
    /// Before the peer has answered the OPEN of a stream, it may know the stream only by that frame: copies of what
    /// follows are sent where a copy of the OPEN was sent.
    pub(super) fn queue_copies(&mut self, id: u32, via: u16, frame: &Frame, now: Instant) {
        let copies = self.placement.copies(self.used_channel_count());
        let Some(stream) =
            self.streams.get_mut(&id).filter(|stream| copies > 0 && !stream.activity.is_bulk())
        else {
            return;
        };
        let only = match (&stream.state, frame) {
            (OpenState::Requested(_), Frame::Open(_)) => None,
            (OpenState::Requested(_), _) if stream.open_copied_on.is_none() => return,
            (OpenState::Requested(_), _) => stream.open_copied_on,
            _ => None,
        };
        let len = if let Frame::Data { payload, .. } = frame { payload.len() } else { 0 };
        if !self.channels.get_mut(&via).is_some_and(|channel| channel.may_copy(len, now)) {
            return;
        }
        let mut candidates: Vec<_> = self
            .channels
            .iter_mut()
            .filter(|&(&other, ref channel)| {
                other != via
                    && only.is_none_or(|only| only == other)
                    && !channel.placement.is_recovering(now)
                    && !channel.obstacles(now).is_blocked
                    && channel.has_room_for_copy(len, now)
            })
            .filter_map(|(&other, channel)| channel.may_copy(len, now).then_some((other, channel)))
            .collect();
        candidates
            .sort_by_cached_key(|(_, channel)| (channel.obstacles(now), channel.placement.last_message));
        candidates.truncate(if let OpenState::Requested(_) = stream.state { 1 } else { copies });
        let copied = !candidates.is_empty();
        for (other, channel) in candidates {
            channel.placement.last_message = self.placement.next_ordinal();
            channel.placement.charge_copy(len);
            channel.placement.push_copy(frame.clone());
            if let Frame::Open(_) = frame {
                stream.open_copied_on = Some(other);
            }
            self.events.push_back(MuxEvent::TransmitReady { channel: other });
        }
        if let Some(channel) = self.channels.get_mut(&via).filter(|_| copied) {
            channel.placement.charge_copy(len);
        }
    }

    /// Removes and returns the next queued copy of a frame to send on channel `id`. Those of closed streams, and all on
    /// a channel that is being closed, are dropped.
    pub(super) fn poll_copy(&mut self, id: u16, now: Instant) -> Option<Frame> {
        let channel = self.channels.get_mut(&id)?;
        loop {
            let frame = channel.placement.pop_copy()?;
            if channel.is_retiring() {
                continue;
            }
            if let Frame::Data { stream, payload, .. } = &frame {
                if !self.streams.contains_key(stream) {
                    continue;
                }
                channel.path.on_data_sent(payload.len(), now);
            }
            return Some(frame);
        }
    }
}

impl Stream {
    /// Returns whether the stream may move to another channel: the peer knows it, no control frame of it is queued, and
    /// no END was written or reset begun, which are retransmitted only if the primary channel is lost.
    fn may_move(&self) -> bool {
        matches!(self.state, OpenState::Established)
            && matches!(self.reset, ResetAfterData::No)
            && !self.is_in_control_queue
            && self.send.may_move()
    }
}
