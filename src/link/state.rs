//! The state of a link behind its lock: the mux, and the endpoints and channels that the mux identifies by number.
//!
//! Code here runs while the link state is locked: it must not wake a task, make a system call, encode or decode. What
//! has to happen as a consequence of a change is collected as [`FollowUp`]s, which the link executes after unlocking.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use foldhash::HashMap;

use super::{
    channel_io::ChannelIo,
    endpoint::Endpoint,
    scratch::{MAX_KEPT_CAPACITY, emptied},
    write_queue::Transmit,
};
use crate::{
    ids::StreamKey,
    mux::{ChannelWish, Mux, MuxEvent, ProtocolError, Role, TextAdapter, TextInput},
    telemetry::DisconnectReason,
    wire::{Frame, Open, ResetCode, TunnelAction, TunnelMessage},
};

/// Base of the resume grace of a peer whose channels were all reset, and how many RTTs are added to it: a live peer
/// takes that many to connect, to complete the handshake and to answer the first ping.
const RESET_GRACE: (Duration, u32) = (Duration::from_secs(1), 4);

/// How long a lost channel is kept if the link has no other channel that works, at most for the resume grace. It is
/// longer than the outages of mobile networks.
const MAX_OUTAGE: Duration = Duration::from_secs(25);

/// The most frames or lines that one poll for transmission takes from the mux before the link state is unlocked.
const MAX_POLLED: usize = 256;

/// Returns the longest resume grace of a peer whose last channel was reset. `last_end_without_reset` is how long ago
/// another channel of the link ended without a reset.
///
/// Closing a channel's socket resets the connection until the process closes it in an orderly way, so the kernel of a
/// process that died resets all of its channels, and waiting for that process is useless. If a middlebox has reset
/// them, the live peer notices at the same moment, and reconnects within this time. An end without a reset and
/// without GOAWAY, and silence, are caused by the network: if one channel ended so within this time, the resets of
/// the others are the network's too.
fn reset_grace(rtt: Duration, last_end_without_reset: Option<Duration>) -> Duration {
    let grace = RESET_GRACE.0 + rtt * RESET_GRACE.1;
    if last_end_without_reset.is_some_and(|ago| ago <= grace) { Duration::MAX } else { grace }
}

/// Times of a link that has lost its last channel and waits for the peer to resume it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Detached {
    /// When the link lost its last channel.
    pub(super) since: Instant,
    /// When the link ends unless a channel has been added.
    pub(super) until: Instant,
}

/// State of a link that its lock protects.
pub(in crate::link) struct LinkState {
    /// The multiplexer: streams, flow control, scheduling.
    pub(in crate::link) mux: Mux,
    /// Translates between the frames of the mux and the lines of a text peer; `None` for a binary peer.
    pub(in crate::link) text: Option<TextAdapter>,
    /// Endpoints of the open streams, by stream number.
    pub(in crate::link) endpoints: HashMap<u32, Arc<Endpoint>>,
    /// Channels of the link, by their number within it.
    pub(in crate::link) channels: BTreeMap<u16, Arc<ChannelIo>>,
    /// How long streams are kept for the peer to resume the link after its last channel is lost.
    pub(super) resume_grace: Duration,
    /// Since when and until when the link waits to be resumed; `None` while it has a channel and after its end.
    pub(super) detached: Option<Detached>,
    /// Whether the link has ended: it has no channel, and accepts none.
    pub(super) has_ended: bool,
    /// Why the channel that ended last has ended; `None` while none has.
    pub(super) last_end_reason: Option<DisconnectReason>,
    /// When a channel last ended without a reset, since the link was last resumed.
    last_end_without_reset: Option<Instant>,
    /// The link is being closed: all channels are being stopped, and no other is accepted.
    pub(super) is_closing: bool,
    /// Consequences of changes (deliveries, wakes, calls of the owner) to be executed, in this order, once the link
    /// state is unlocked.
    pub(super) follow_ups: Vec<FollowUp>,
    /// Changes of the link's attachment (detached, resumed, ended) of which the owner has not been notified yet.
    pending_notifications: VecDeque<AttachmentChange>,
    /// Reused list of the results of translating received lines of a text peer.
    text_inputs: Vec<TextInput>,
    /// Reused list of the lines that frames for a text peer are translated into.
    text_lines: Vec<TunnelMessage>,
}

/// Consequence of a change of the link state, executed after unlocking.
pub(super) enum FollowUp {
    /// Deliver received data to the local socket.
    Deliver(Arc<Endpoint>),
    /// Wake the stream's relay task.
    WakeRelay(Arc<Endpoint>),
    /// Stop the channel's driver; the end reason is recorded.
    CancelDriver(Arc<ChannelIo>),
    /// Wake the channel's driver, to transmit frames or to set its timer again.
    WakeDriver(Arc<ChannelIo>),
    /// Tell the task that keeps the channel established whether the peer answers on it.
    SetResponsive(Arc<ChannelIo>, bool),
    /// Tell the owner of a stream that the peer has opened.
    StreamOpened(Arc<Endpoint>, Open),
    /// Tell the owner of a message received on this channel.
    MessageReceived(u16, TunnelMessage),
    /// Tell the owner of a received GOAWAY.
    GoAwayReceived(ResetCode),
    /// Close the link, because no stream is open and none can be opened any more.
    CloseUsedUp,
    /// Tell the owner that one side wishes another number of channels.
    ChannelsWanted(ChannelWish),
    /// Tell the owner of data received on this channel for a stream that does not exist.
    UnknownStream(u16, StreamKey),
    /// Log that the mux refused an acknowledgement that this side generated in place of a text peer.
    LogRefusedAcknowledgement(ProtocolError),
}

/// Change of a link's attachment (whether it has a channel to its peer). The owner is notified of them in the order
/// in which they happen: in another order it would take a link that has channels for detached.
pub(super) enum AttachmentChange {
    /// The last channel was lost; the link ends at this time unless it is resumed.
    Detached(Instant),
    /// The link has a channel again, this long after the last one was lost.
    Resumed(Duration),
    /// The link has ended.
    Ended,
}

impl LinkState {
    /// Creates the state of a link without channels. `text` is the adapter of a text peer.
    pub(super) fn new(mux: Mux, text: Option<TextAdapter>) -> Self {
        Self {
            mux,
            text,
            endpoints: HashMap::default(),
            channels: BTreeMap::new(),
            resume_grace: Duration::ZERO,
            detached: None,
            has_ended: false,
            last_end_reason: None,
            last_end_without_reset: None,
            is_closing: false,
            follow_ups: Vec::new(),
            pending_notifications: VecDeque::new(),
            text_inputs: Vec::new(),
            text_lines: Vec::new(),
        }
    }

    /// Appends frames, or lines for a text peer, that channel `id` has to transmit to `polled`, until their encoded
    /// size reaches `bytes` or the list has [`MAX_POLLED`] entries. Returns whether there may be more.
    pub(super) fn poll_transmit(&mut self, id: u16, bytes: usize, polled: &mut Vec<Transmit>) -> bool {
        let now = Instant::now();
        let (mut polled_bytes, mut counted) = (0, polled.len());
        while polled_bytes < bytes && polled.len() < MAX_POLLED {
            let Some(frame) = self.mux.poll_transmit(id, now) else { return false };
            match self.text {
                None => polled.push(Transmit::Frame(frame)),
                Some(_) => self.translate_outbound(id, frame, now, polled),
            }
            polled_bytes += polled[counted..].iter().map(Transmit::estimated_len).sum::<usize>();
            counted = polled.len();
        }
        true
    }

    /// Translates a frame for a text peer into lines, and acknowledges its data to the mux in the peer's place.
    fn translate_outbound(&mut self, id: u16, frame: Frame, now: Instant, polled: &mut Vec<Transmit>) {
        let Some(adapter) = &mut self.text else { return };
        if let Frame::Reset { stream, .. } = &frame {
            // Lines keep their order: the peer has received all data when it receives this one.
            self.mux.confirm_reset(*stream);
        }
        if let Some(acknowledgement) = adapter.translate_outbound(frame, &mut self.text_lines)
            && let Err(error) = self.mux.handle_frame(id, acknowledgement, now)
        {
            // This side made it up: the mux refuses it only if this side is wrong.
            self.follow_ups.push(FollowUp::LogRefusedAcknowledgement(error));
        }
        polled.extend(self.text_lines.drain(..).map(Transmit::Line));
    }

    /// Records that the local socket of a stream has taken `bytes` more bytes, which grants the
    /// peer as much credit.
    pub(in crate::link) fn consume(&mut self, stream: u32, bytes: u64, now: Instant) {
        self.mux.consume(stream, bytes, now);
        if let Some(adapter) = &mut self.text {
            adapter.consume(stream, bytes);
        }
    }

    /// Resets a stream of the link: the peer receives RESET with `code`.
    pub(in crate::link) fn reset(&mut self, stream: u32, code: ResetCode) {
        self.mux.reset(stream, code);
        if let Some(adapter) = &mut self.text {
            adapter.abandon(stream);
        }
    }

    /// Resets a stream of the link after all data that was written to it: the peer receives RESET with `code` then.
    pub(in crate::link) fn reset_after_data(&mut self, stream: u32, code: ResetCode) {
        self.mux.reset_after_data(stream, code);
        if let Some(adapter) = &mut self.text {
            adapter.abandon(stream);
        }
    }

    /// Handles a decoded line (one message) of a text peer that was received on channel `id`.
    pub(in crate::link) fn handle_line(
        &mut self,
        id: u16,
        line: TunnelMessage,
        now: Instant,
    ) -> Result<(), ProtocolError> {
        let Some(adapter) = &mut self.text else { return Ok(()) };
        let mut inputs = std::mem::take(&mut self.text_inputs);
        adapter.translate_inbound(line, &mut inputs);
        let handled = inputs.drain(..).try_for_each(|input| self.handle_text_input(id, input, now));
        self.text_inputs = emptied(inputs, MAX_KEPT_CAPACITY).unwrap_or_default();
        handled
    }

    /// Handles one result of translating a text peer's line, which arrived on channel `id`: passes a frame to the
    /// mux, queues a reply, stores an announced size, or reports an unknown stream.
    fn handle_text_input(&mut self, id: u16, input: TextInput, now: Instant) -> Result<(), ProtocolError> {
        match input {
            TextInput::Frame(frame) => self.mux.handle_frame(id, frame, now)?,
            TextInput::Reply(message) => self.mux.send_message(id, message)?,
            TextInput::AnnouncedSize { stream, size } => {
                let endpoint = self.endpoints.get(&stream);
                if let Some(stats) = endpoint.and_then(|endpoint| endpoint.shared().stats()) {
                    stats.set_total_size(size);
                }
            }
            TextInput::Violation(error) => return Err(error),
            TextInput::NoSession(key) => self.follow_ups.push(FollowUp::UnknownStream(id, key)),
        }
        Ok(())
    }

    /// Returns whether the channel of a text peer must not be read for now, because too much of its data waits for
    /// slow local sockets. Such a peer has no flow-control windows.
    pub(in crate::link) fn must_stop_reading(&self) -> bool {
        self.text.as_ref().is_some_and(|text| text.must_stop_reading())
    }

    /// Records why a channel is to end, and has its driver stopped once the link state is unlocked. Does nothing if
    /// the link does not have the channel.
    pub(in crate::link) fn stop_channel(&mut self, id: u16, reason: DisconnectReason) {
        if let Some(channel) = self.channels.get(&id) {
            channel.shared().set_end_reason(reason);
            self.follow_ups.push(FollowUp::CancelDriver(channel.clone()));
        }
    }

    /// Removes a channel that has ended, if the link has it. Its streams fail over to another channel. If it was the
    /// last, the link is detached, or ends if there is no grace.
    pub(super) fn remove_channel(&mut self, id: u16) {
        let Some(lost) = self.channels.remove(&id) else { return };
        self.last_end_reason = lost.shared().end_reason().cloned();
        let now = Instant::now();
        let rtt = self.mux.path_stats(id).and_then(|path| path.latest_rtt);
        // For this long the channel was kept after it was lost, so that the grace has been running.
        let overdue = self.mux.overdue(id, now);
        if self.last_end_reason == Some(DisconnectReason::KeepaliveTimeout) {
            self.mux.report_lost(id);
        }
        self.mux.remove_channel(id);
        if self.last_end_reason.as_ref().is_some_and(DisconnectReason::is_loss_without_reset) {
            self.last_end_without_reset = Some(now);
        }
        if !self.channels.is_empty() {
            return;
        }
        let grace = self.grace(rtt.unwrap_or_default(), now).saturating_sub(overdue);
        if grace.is_zero() {
            return self.end();
        }
        let until = now + grace;
        self.detached = Some(Detached { since: now, until });
        self.pending_notifications.push_back(AttachmentChange::Detached(until));
        for endpoint in self.endpoints.values() {
            endpoint.shared().send_bottleneck().channel_lost(now);
            endpoint.shared().shown().into_iter().for_each(|stats| stats.set_channel(None));
        }
    }

    /// Returns how long the link may wait for the peer to resume it, given why its last channel has ended.
    fn grace(&self, rtt: Duration, now: Instant) -> Duration {
        match &self.last_end_reason {
            // The peer would break the protocol again.
            Some(DisconnectReason::Protocol(_)) => Duration::ZERO,
            // A live proxy keeps reconnecting for its streams until the server answers that it no longer knows the
            // link. Without streams it may as well register anew, here or at another server.
            Some(DisconnectReason::Reset)
                if self.mux.role() == Role::Server || self.mux.stream_count() == 0 =>
            {
                let unreset = self.last_end_without_reset.map(|at| now.duration_since(at));
                self.resume_grace.min(reset_grace(rtt, unreset))
            }
            _ => self.resume_grace,
        }
    }

    /// Adds a channel, and resumes a detached link. `rtt` is the RTT that the handshake measured, where it is known.
    /// Returns false, and adds nothing, if the link has ended or is closing: nothing would end the channel.
    pub(super) fn add_channel(&mut self, channel: &Arc<ChannelIo>, rtt: Option<Duration>) -> bool {
        if self.has_ended || self.is_closing {
            return false;
        }
        self.resume();
        let (id, now) = (channel.shared().id(), Instant::now());
        self.channels.insert(id, channel.clone());
        self.mux.add_channel(id, now);
        if let Some(rtt) = rtt {
            self.mux.set_initial_rtt(id, rtt);
        }
        // Makes the first ping due. The timers of the other channels are updated by their drivers, which know what the
        // kernel has received and acknowledged meanwhile.
        self.mux.handle_channel_timeout(id, now);
        // With the new channel, others that are lost need not be kept any longer.
        let lost: Vec<u16> = self.channels.keys().copied().filter(|&id| self.mux.is_lost(id, now)).collect();
        lost.into_iter().for_each(|id| self.stop_channel(id, DisconnectReason::KeepaliveTimeout));
        true
    }

    /// Marks a detached link as attached again, and queues the owner's notification. Changes nothing if the link is
    /// not detached.
    fn resume(&mut self) {
        let Some(detached) = self.detached.take() else { return };
        let now = Instant::now();
        self.last_end_without_reset = None;
        for endpoint in self.endpoints.values() {
            endpoint.shared().send_bottleneck().channel_restored(now);
        }
        self.pending_notifications.push_back(AttachmentChange::Resumed(now - detached.since));
    }

    /// Ends a link that has no channel: all streams end with an error, and no channel is accepted any more.
    pub(super) fn end(&mut self) {
        self.has_ended = true;
        self.detached = None;
        self.mux.abort_streams();
        self.pending_notifications.push_back(AttachmentChange::Ended);
    }

    /// Returns whether the owner has to be notified that the link was detached, was resumed or has ended.
    pub(super) fn has_pending_notifications(&self) -> bool {
        !self.pending_notifications.is_empty()
    }

    /// Removes and returns the oldest change of the link's attachment of which the owner has not been notified;
    /// `None` if there is none.
    pub(super) fn pop_notification(&mut self) -> Option<AttachmentChange> {
        self.pending_notifications.pop_front()
    }

    /// Applies the mux's events to endpoints and channels, and collects what has to happen after unlocking.
    pub(super) fn collect_follow_ups(&mut self) {
        while let Some(event) = self.mux.poll_event() {
            self.handle_event(event);
        }
        if self.mux.is_used_up() && !(self.is_closing || self.has_ended) {
            self.is_closing = true;
            self.follow_ups.push(FollowUp::CloseUsedUp);
        }
    }

    /// Records that the peer has sent GOAWAY, with a code if it is known. It does not resume the link, except where the
    /// link is being replaced: then its streams continue as before.
    fn on_go_away(&mut self, code: Option<ResetCode>) {
        match code {
            Some(ResetCode::LinkReplaced) if self.mux.role() == Role::Server => self.mux.set_replaced(),
            Some(ResetCode::LinkReplaced) => {}
            _ => self.resume_grace = Duration::ZERO,
        }
    }

    /// Applies one event of the mux to the endpoint or channel that it concerns, and collects what has to happen
    /// after unlocking.
    fn handle_event(&mut self, event: MuxEvent) {
        let follow_ups = &mut self.follow_ups;
        match event {
            MuxEvent::Opened(open) => {
                // Created now and not after unlocking: the RESET of the stream may follow its OPEN.
                let endpoint = Arc::new(Endpoint::for_peer_stream(open.stream));
                self.endpoints.insert(open.stream, endpoint.clone());
                follow_ups.push(FollowUp::StreamOpened(endpoint, open));
            }
            MuxEvent::Message { channel, message } => {
                if message.action == TunnelAction::Exit {
                    self.on_go_away(ResetCode::from_text_reason(&message.data));
                }
                self.follow_ups.push(FollowUp::MessageReceived(channel, message));
            }
            MuxEvent::GoAway { code } => {
                self.on_go_away(Some(code));
                self.follow_ups.push(FollowUp::GoAwayReceived(code));
            }
            MuxEvent::Readable { stream } => {
                follow_ups.extend(self.endpoints.get(&stream).cloned().map(FollowUp::Deliver));
            }
            MuxEvent::Writable { stream } => {
                follow_ups.extend(self.endpoints.get(&stream).cloned().map(FollowUp::WakeRelay));
            }
            MuxEvent::Accepted { stream } => {
                self.endpoints.get(&stream).inspect(|endpoint| endpoint.shared().accepted());
            }
            MuxEvent::ResetAfterData { stream, code } => {
                if let Some(endpoint) = self.endpoints.get(&stream) {
                    endpoint.shared().set_peer_reset(code);
                    follow_ups.push(FollowUp::WakeRelay(endpoint.clone()));
                }
            }
            MuxEvent::Reset { stream, code } => self.end_stream(stream, Err(code)),
            MuxEvent::Unaccepted { stream, code, data } => {
                self.endpoints.get(&stream).inspect(|endpoint| endpoint.shared().set_unaccepted(data));
                self.end_stream(stream, Err(code));
            }
            MuxEvent::Closed { stream } => self.end_stream(stream, Ok(())),
            MuxEvent::FailedOver { stream, channel } => {
                self.endpoints.get(&stream).inspect(|endpoint| endpoint.shared().count_failover());
                self.show_channel(stream, channel);
            }
            MuxEvent::Moved { stream, channel } => self.show_channel(stream, channel),
            MuxEvent::ChannelsWanted(wish) => follow_ups.push(FollowUp::ChannelsWanted(wish)),
            MuxEvent::ChannelRetiring { channel } => {
                if let Some(channel) = self.channels.get(&channel) {
                    channel.shared().set_retiring();
                    // However the connection ends, the proxy does not establish it again. The server believes only an
                    // orderly end, so that a peer cannot hide why it was disconnected.
                    if self.mux.role() == Role::Proxy {
                        channel.shared().set_end_reason(DisconnectReason::Retired);
                    }
                }
            }
            MuxEvent::ChannelRetired { channel } => self.stop_channel(channel, DisconnectReason::Retired),
            MuxEvent::TransmitReady { channel } => {
                follow_ups.extend(self.channels.get(&channel).cloned().map(FollowUp::WakeDriver));
            }
            MuxEvent::Dequeued { stream, written_at } => {
                if let Some(endpoint) = self.endpoints.get(&stream)
                    && endpoint.shared().dequeued(written_at)
                {
                    follow_ups.push(FollowUp::WakeRelay(endpoint.clone()));
                }
            }
            MuxEvent::RttSample { channel, rtt } => {
                self.channels.get(&channel).inspect(|channel| channel.shared().record_rtt(rtt));
            }
            MuxEvent::TimeoutMoved { channel } => {
                let Some(channel) = self.channels.get(&channel) else { return };
                channel.shared().set_timeout_moved();
                follow_ups.push(FollowUp::WakeDriver(channel.clone()));
            }
            MuxEvent::ResponsivenessChanged { channel, is_responsive } => {
                let channel = self.channels.get(&channel).cloned();
                follow_ups.extend(channel.map(|channel| FollowUp::SetResponsive(channel, is_responsive)));
            }
            MuxEvent::ChannelLostAtPeer { channel } => {
                self.stop_channel(channel, DisconnectReason::KeepaliveTimeout);
            }
            MuxEvent::ChannelTimedOut { channel } => {
                // The kernel still retransmits on it, and after an outage it may be the first to work again.
                let kept = self.resume_grace.min(MAX_OUTAGE);
                if self.mux.has_responsive_channel() || self.mux.overdue(channel, Instant::now()) >= kept {
                    self.stop_channel(channel, DisconnectReason::KeepaliveTimeout);
                }
            }
        }
    }

    /// Stores in the telemetry counters of a stream which channel is its primary channel now.
    pub(super) fn show_channel(&self, stream: u32, channel: u16) {
        let endpoint = self.endpoints.get(&stream).and_then(|endpoint| endpoint.shared().shown());
        let channel = self.channels.get(&channel).and_then(|channel| channel.shared().stats());
        if let (Some(stats), Some(channel)) = (endpoint, channel) {
            stats.set_channel(Some(channel.clone()));
        }
    }

    /// Removes the endpoint of a stream that has ended, records how, and has its relay task woken.
    fn end_stream(&mut self, stream: u32, end: Result<(), ResetCode>) {
        if let Some(endpoint) = self.endpoints.remove(&stream) {
            endpoint.shared().set_end(end);
            self.follow_ups.push(FollowUp::WakeRelay(endpoint));
        }
    }
}
