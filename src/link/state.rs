use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use foldhash::HashMap;

use super::{driver::ChannelIo, endpoint::Endpoint};
use crate::{
    ids::StreamKey,
    mux::{Mux, MuxEvent, ProtocolError, Role, TextAdapter, TextInput},
    telemetry::DisconnectReason,
    wire::{Frame, Open, ResetCode, TunnelAction, TunnelMessage},
};

/// How long a peer is waited for whose channels were all reset, and how many of its round trips more: so many it takes to
/// connect, to shake hands and to answer the first ping.
const REVIVE: (Duration, u32) = (Duration::from_secs(1), 4);

/// The longest that a peer is waited for whose last channel was reset, where another ended without a reset so long ago.
///
/// Channels are armed, so that the kernel of a process that died resets them all, and nobody need wait for nothing. Where
/// something between the two did that, the peer that lives knows at the same moment and is back within this time. An
/// end without a reset and without a goodbye, and silence, are the network's: one channel that ended so within this time
/// tells that the others' resets are the network's too.
fn after_reset(round_trip: Duration, unreset: Option<Duration>) -> Duration {
    let revive = REVIVE.0 + round_trip * REVIVE.1;
    if unreset.is_some_and(|ago| ago <= revive) { Duration::MAX } else { revive }
}

/// How long a link without a channel is waited for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wait {
    pub(super) since: Instant,
    pub(super) until: Instant,
}

/// What a link is behind its lock: its mux, and all that the mux knows by number.
pub(in crate::link) struct LinkState {
    pub(in crate::link) mux: Mux,
    pub(in crate::link) text: Option<TextAdapter>,
    pub(in crate::link) endpoints: HashMap<u32, Arc<Endpoint>>,
    pub(in crate::link) channels: BTreeMap<u16, Arc<ChannelIo>>,
    /// How long streams wait for a channel once the last is lost.
    pub(super) grace: Duration,
    /// They do.
    pub(super) wait: Option<Wait>,
    /// There is no channel, and none is waited for.
    pub(super) over: bool,
    /// Why the channel ended that ended last.
    pub(super) why: Option<DisconnectReason>,
    /// When one ended last without a reset, since there has been one again.
    pub(super) unreset: Option<Instant>,
    /// The channels there are have been told to end, and no other is taken.
    pub(super) closing: bool,
    /// What has to happen once the lock is free again.
    pub(super) next: Vec<FollowUp>,
    /// How the link went on, as far as it was not told.
    pub(super) untold: VecDeque<LinkTransition>,
}

/// What follows from a change, and is told without the lock.
pub(super) enum FollowUp {
    Deliver(Arc<Endpoint>),
    Opened(Arc<Endpoint>, Open),
    Message(u16, TunnelMessage),
    GoAway(ResetCode),
    NoSession(u16, StreamKey),
}

/// How a link goes on. Whoever hears of two in the wrong order takes it for waiting although it has channels.
pub(super) enum LinkTransition {
    Waiting(Instant),
    Resumed(Duration),
    Over,
}

/// What goes out on a channel.
pub(in crate::link) enum Transmit {
    Frame(Frame),
    Line(TunnelMessage),
}

impl LinkState {
    pub(super) fn new(mux: Mux, text: Option<TextAdapter>) -> Self {
        Self {
            mux,
            text,
            endpoints: HashMap::default(),
            channels: BTreeMap::new(),
            grace: Duration::ZERO,
            wait: None,
            over: false,
            why: None,
            unreset: None,
            closing: false,
            next: Vec::new(),
            untold: VecDeque::new(),
        }
    }

    pub(super) fn poll_transmit(&mut self, id: u16, mut take: impl FnMut(Transmit) -> bool) {
        let mut messages = Vec::new();
        let now = Instant::now();
        while let Some(frame) = self.mux.poll_transmit(id, now) {
            let more = match &mut self.text {
                None => take(Transmit::Frame(frame)),
                Some(peer) => {
                    if let Some(acknowledgement) = peer.translate_outbound(frame, &mut messages)
                        && let Err(error) = self.mux.handle_frame(id, acknowledgement, now)
                    {
                        // Made up by us, so it cannot be wrong unless we are.
                        tracing::error!("a text peer's acknowledgement was refused: {error}");
                    }
                    messages.drain(..).fold(true, |_, message| take(Transmit::Line(message)))
                }
            };
            if !more {
                return;
            }
        }
    }

    /// Bytes of a stream were taken by its socket.
    pub(in crate::link) fn consume(&mut self, stream: u32, bytes: u64, now: Instant) {
        self.mux.consume(stream, bytes, now);
        if let Some(peer) = &mut self.text {
            peer.consume(stream, bytes);
        }
    }

    /// Ends a stream with an error at the other side.
    pub(in crate::link) fn reset(&mut self, stream: u32, code: ResetCode) {
        self.mux.reset(stream, code);
        if let Some(peer) = &mut self.text {
            peer.abandon(stream);
        }
    }

    /// A line of a text peer came in.
    pub(in crate::link) fn handle_line(
        &mut self,
        id: u16,
        line: TunnelMessage,
        now: Instant,
    ) -> Result<(), ProtocolError> {
        let Some(peer) = &mut self.text else { return Ok(()) };
        let mut meanings = Vec::new();
        peer.translate_inbound(line, &mut meanings);
        for meaning in meanings {
            match meaning {
                TextInput::Frame(frame) => self.mux.handle_frame(id, frame, now)?,
                TextInput::Reply(message) => self.mux.send_message(id, message)?,
                TextInput::AnnouncedSize { stream, size } => {
                    if let Some(stats) = self.endpoints.get(&stream).and_then(|endpoint| endpoint.stats()) {
                        stats.set_total_size(size);
                    }
                }
                TextInput::NoSession(key) => self.next.push(FollowUp::NoSession(id, key)),
            }
        }
        Ok(())
    }

    /// A text peer's channel is not read while one of its streams has too much waiting.
    pub(in crate::link) fn must_stop_reading(&self) -> bool {
        self.text.as_ref().is_some_and(TextAdapter::must_stop_reading)
    }

    pub(super) fn remove_channel(&mut self, id: u16) {
        let Some(lost) = self.channels.remove(&id) else { return };
        self.why = lost.reason().cloned();
        let round_trip = self.mux.path_stats(id).and_then(|path| path.latest_rtt);
        self.mux.remove_channel(id);
        let since = Instant::now();
        if matches!(
            self.why,
            Some(
                DisconnectReason::Closed | DisconnectReason::KeepaliveTimeout | DisconnectReason::IoError(_)
            )
        ) {
            self.unreset = Some(since);
        }
        if !self.channels.is_empty() {
            return;
        }
        let unreset = self.unreset.map(|at| since.duration_since(at));
        let grace = match &self.why {
            // It would do it again.
            Some(DisconnectReason::Protocol(_)) => Duration::ZERO,
            // A proxy that lives goes on trying for its streams: it is told when the server has forgotten it. With none it
            // may as well begin anew, here or at another server.
            Some(DisconnectReason::Reset)
                if self.mux.role() == Role::Server || self.mux.stream_count() == 0 =>
            {
                self.grace.min(after_reset(round_trip.unwrap_or_default(), unreset))
            }
            _ => self.grace,
        };
        if grace.is_zero() {
            return self.end();
        }
        let until = since + grace;
        self.wait = Some(Wait { since, until });
        self.untold.push_back(LinkTransition::Waiting(until));
        for endpoint in self.endpoints.values() {
            endpoint.held_up().lost_channel(since);
            endpoint.stats().into_iter().for_each(|stats| stats.set_channel(None));
        }
    }

    /// There is a channel again, if there was none.
    pub(super) fn resume(&mut self) {
        let Some(wait) = self.wait.take() else { return };
        let now = Instant::now();
        self.unreset = None;
        self.endpoints.values().for_each(|endpoint| endpoint.held_up().has_channel(now));
        self.untold.push_back(LinkTransition::Resumed(now - wait.since));
    }

    /// There is no channel, and there will be none.
    pub(super) fn end(&mut self) {
        self.over = true;
        self.wait = None;
        self.mux.abort_streams();
        self.untold.push_back(LinkTransition::Over);
    }

    pub(in crate::link) fn stop_channel(&mut self, id: u16, reason: DisconnectReason) {
        if let Some(channel) = self.channels.get(&id) {
            channel.stop(reason);
        }
    }

    pub(super) fn dispatch(&mut self) {
        let next = &mut self.next;
        while let Some(event) = self.mux.poll_event() {
            match event {
                MuxEvent::Opened(open) => {
                    // Here and not later: what follows its OPEN may be its RESET.
                    let endpoint = Arc::new(Endpoint::theirs(open.stream));
                    self.endpoints.insert(open.stream, endpoint.clone());
                    next.push(FollowUp::Opened(endpoint, open));
                }
                MuxEvent::Message { channel, message } => {
                    if message.action == TunnelAction::Exit {
                        self.grace = Duration::ZERO;
                    }
                    next.push(FollowUp::Message(channel, message));
                }
                MuxEvent::GoAway { code } => {
                    // Who has said goodbye does not come back.
                    self.grace = Duration::ZERO;
                    next.push(FollowUp::GoAway(code));
                }
                MuxEvent::Readable { stream } => {
                    next.extend(self.endpoints.get(&stream).cloned().map(FollowUp::Deliver));
                }
                MuxEvent::Writable { stream } => {
                    self.endpoints.get(&stream).inspect(|endpoint| endpoint.wake());
                }
                MuxEvent::Accepted { stream } => {
                    self.endpoints.get(&stream).inspect(|endpoint| endpoint.accepted());
                }
                MuxEvent::Reset { stream, code } => {
                    self.endpoints.remove(&stream).inspect(|endpoint| endpoint.ended(Err(code)));
                }
                MuxEvent::FailedOver { stream, channel } => {
                    let endpoint = self.endpoints.get(&stream).inspect(|endpoint| endpoint.moved());
                    let stats = endpoint.and_then(|endpoint| endpoint.stats());
                    let channel = self.channels.get(&channel).and_then(|channel| channel.stats());
                    if let (Some(stats), Some(channel)) = (stats, channel) {
                        stats.set_channel(Some(channel.clone()));
                    }
                }
                MuxEvent::Closed { stream } => {
                    self.endpoints.remove(&stream).inspect(|endpoint| endpoint.ended(Ok(())));
                }
                MuxEvent::Dequeued { stream, written_at } => {
                    self.endpoints.get(&stream).inspect(|endpoint| endpoint.sent(written_at));
                }
                MuxEvent::RttSample { channel, rtt } => {
                    self.channels.get(&channel).inspect(|channel| channel.set_rtt(rtt));
                }
                MuxEvent::ChannelTimedOut { channel } => {
                    self.channels
                        .get(&channel)
                        .inspect(|channel| channel.stop(DisconnectReason::KeepaliveTimeout));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resets_tell_of_a_death_unless_one_channel_ended_otherwise() {
        let secs = Duration::from_secs;
        let (near, far) = (Duration::from_millis(1), Duration::from_millis(500));
        for (round_trip, unreset, wait) in [
            (near, None, Duration::from_millis(1004)),
            (near, Some(Duration::ZERO), Duration::MAX),
            (near, Some(secs(1)), Duration::MAX),
            (near, Some(secs(2)), Duration::from_millis(1004)),
            (far, None, secs(3)),
            (far, Some(secs(2)), Duration::MAX),
        ] {
            assert_eq!(after_reset(round_trip, unreset), wait, "{round_trip:?} {unreset:?}");
        }
    }
}
