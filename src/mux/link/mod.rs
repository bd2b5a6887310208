mod commands;
mod event;
mod incoming;
mod outgoing;

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use foldhash::HashMap;

use super::{
    Role,
    channel::Channel,
    limits::{LITTLE, MuxConfig, OPENED},
    meter::PathStats,
    numbers::UsedNumbers,
    recv::RecvFlow,
    send::SendFlow,
    session::Session,
};
use crate::wire::{Frame, ResetCode};

pub use event::{MuxEvent, OpenError};

/// All streams of one link, over all of its channels, without any IO: no clock, no socket, no task.
///
/// - *Getters*: [`writable`](Self::writable), [`has_output`](Self::has_output), [`stream_count`](Self::stream_count).
/// - *Handle*, what came in from outside: [`add_channel`](Self::add_channel), [`remove_channel`](Self::remove_channel),
///   [`abort_streams`](Self::abort_streams), [`handle_frame`](Self::handle_frame), [`reset_idle_timeout`](Self::reset_idle_timeout),
///   [`handle_timeout`](Self::handle_timeout).
/// - *Commands*, what the owner wants: [`open`](Self::open), [`accept`](Self::accept), [`write`](Self::write),
///   [`finish`](Self::finish), [`reset`](Self::reset), [`read`](Self::read), [`consume`](Self::consume),
///   [`consume_end`](Self::consume_end), [`send_message`](Self::send_message).
/// - *Poll*, after any of these and until they give nothing: [`poll_event`](Self::poll_event) and, for every channel
///   with [`has_output`](Self::has_output), [`poll_transmit`](Self::poll_transmit).
///
/// A stream's frames go out on one channel, the one with the fewest streams when it opens. When that channel is lost
/// the stream moves to another, or waits for one to come, and all that is not known to have arrived goes out again;
/// the receiver knows by the offsets what it has already. A channel that has no more on the way than helps takes data
/// over from one that has, where the peer will have it earlier for it: so one stream can use all channels. How long to
/// wait without any channel is the owner's business: nothing is let go before it [gives up](Self::abort_streams).
#[derive(Debug)]
pub struct Mux {
    role: Role,
    config: MuxConfig,
    channels: BTreeMap<u16, Channel>,
    streams: HashMap<u32, Session>,
    /// What the next channel has to say first: the last one was lost before the peer was known to have heard it.
    orphans: VecDeque<Frame>,
    /// The last number we opened a stream under.
    opened: u32,
    /// The numbers the peer opened streams under.
    offered: UsedNumbers,
    /// What the windows of open streams have grown by, in bytes.
    grown: u64,
    events: VecDeque<MuxEvent>,
}

impl Mux {
    /// A link with no channel yet.
    pub fn new(role: Role, mut config: MuxConfig) -> Self {
        config.max_window = config.max_window.max(config.initial_window);
        Self {
            role,
            config,
            channels: BTreeMap::new(),
            streams: HashMap::default(),
            orphans: VecDeque::new(),
            opened: 0,
            offered: UsedNumbers::default(),
            grown: 0,
            events: VecDeque::new(),
        }
    }

    // Getters.

    /// How many bytes [`write`](Self::write) takes now. After 0, a [`MuxEvent::Writable`] follows.
    pub fn writable(&mut self, stream: u32) -> usize {
        let Some(session) = self.streams.get_mut(&stream) else { return 0 };
        let room = session.send.writable();
        session.wants_room = room == 0;
        room
    }

    /// Whether [`poll_transmit`](Self::poll_transmit) would give something for `channel`.
    pub fn has_output(&self, channel: u16) -> bool {
        self.channels.get(&channel).is_some_and(|known| {
            known.has_output() || (known.meter.has_output() && self.lender(channel).is_some())
        })
    }

    /// The channel that a stream's frames go out on; none while the link has none.
    pub fn primary_channel(&self, stream: u32) -> Option<u16> {
        self.streams.get(&stream)?.channel
    }

    /// How many bytes wait to go out on a channel. It looks at every stream that has some: not for each chunk.
    pub fn queued_bytes(&self, channel: u16) -> u64 {
        let waiting = self.channels.get(&channel).into_iter().flat_map(|channel| channel.data.streams());
        waiting.filter_map(|stream| self.streams.get(&stream)).map(|session| session.send.unsent()).sum()
    }

    /// How a stream's sending half stands.
    pub fn send_flow(&self, stream: u32) -> Option<SendFlow> {
        let session = self.streams.get(&stream)?;
        let round_trip = session.channel.and_then(|id| self.channels.get(&id)?.meter.shortest_round_trip());
        Some(session.send.flow(round_trip))
    }

    /// How a stream's receiving half stands.
    pub fn recv_flow(&self, stream: u32) -> Option<RecvFlow> {
        self.streams.get(&stream).map(|session| session.recv.flow())
    }

    /// How many streams are open.
    pub fn stream_count(&self) -> usize {
        self.streams.len()
    }

    /// What is known of a channel by what went out on it.
    pub fn path_stats(&self, channel: u16) -> Option<PathStats> {
        self.channels.get(&channel).map(|channel| channel.meter.reading())
    }

    /// Whether a ping on `channel`, which may stand behind data, has had no answer for `time` or longer.
    pub fn is_probe_unanswered_for(&self, channel: u16, time: Duration, now: Instant) -> bool {
        let unanswered = self.channels.get(&channel).and_then(|channel| channel.meter.unanswered_for(now));
        unanswered.is_some_and(|unanswered| unanswered >= time)
    }

    /// Which end of the link this is.
    pub fn role(&self) -> Role {
        self.role
    }

    /// How many channels are up.
    pub fn channel_count(&self) -> usize {
        self.channels.len()
    }

    // Handle.

    /// A channel is up. `id` must not be in use. Streams that have none go on over it.
    pub fn add_channel(&mut self, id: u16, now: Instant) {
        self.channels.insert(id, Channel::new(&self.config, now));
        self.adopt(id);
    }

    /// A channel is lost. Its streams move to another, or wait for the next if there is none.
    pub fn remove_channel(&mut self, id: u16) {
        let Some(lost) = self.channels.remove(&id) else { return };
        self.orphans.extend(lost.into_unconfirmed());
        self.recall(id);
        for session in self.streams.values_mut().filter(|session| session.channel == Some(id)) {
            session.rewind(self.role);
        }
        if let Some(heir) = self.best_channel(|_| false) {
            self.adopt(heir);
        }
    }

    /// No channel will come any more: all streams end.
    pub fn abort_streams(&mut self) {
        self.note_growth(0, -self.grown.cast_signed());
        self.orphans.clear();
        for (stream, _) in self.streams.drain() {
            self.events.push_back(MuxEvent::Reset { stream, code: ResetCode::ChannelLost });
        }
    }

    /// Bytes came in on `channel`, or it is we who do not read them: either way it is not dead.
    pub fn reset_idle_timeout(&mut self, channel: u16, now: Instant) {
        if let Some(channel) = self.channels.get_mut(&channel) {
            channel.heard(now);
        }
    }

    /// The socket of `channel` takes no more for now, or does again: others may take over what waits for it.
    pub fn set_write_blocked(&mut self, channel: u16, blocked: bool) {
        if let Some(channel) = self.channels.get_mut(&channel) {
            channel.blocked = blocked;
        }
    }

    /// The kernel has sent so many segments again on `channel` since it began.
    pub fn report_retransmissions(&mut self, channel: u16, segments: u64) {
        if let Some(channel) = self.channels.get_mut(&channel) {
            channel.meter.resent(segments);
        }
    }

    /// Time has passed: pings are due, or a channel is dead.
    pub fn handle_timeout(&mut self, now: Instant) {
        let mut suspects = Vec::new();
        for (&id, channel) in &mut self.channels {
            if !channel.on_timeout(&self.config, now) {
                self.events.push_back(MuxEvent::ChannelTimedOut { channel: id });
            }
            suspects.extend(channel.is_suspect().then_some(id));
        }
        suspects.into_iter().for_each(|id| self.recall(id));
    }

    // What these have in common.

    /// Of `room` taken from the budget, so much was used; less than nothing where a window fell.
    fn note_growth(&mut self, room: u64, change: i64) {
        self.grown = self.grown.saturating_add_signed(change);
        let rest = room.saturating_add_signed(-change);
        if rest > 0 {
            self.config.budget.release(rest);
        }
    }

    fn was_opened(&self, stream: u32) -> bool {
        match self.role {
            Role::Server => (1..=self.opened).contains(&stream),
            Role::Proxy => self.offered.contains(stream),
        }
    }

    fn best_channel(&self, near: impl Fn(u16) -> bool) -> Option<u16> {
        // With none each the near one goes first, too.
        let streams =
            |id, channel: &Channel| if near(id) { channel.streams } else { 2 * channel.streams + 1 };
        // One that is silent may be dead: nothing would leave it for seconds, and it has fewer streams for that.
        let load = |id, channel: &Channel| (channel.is_suspect(), channel.is_clogged(), streams(id, channel));
        self.channels.iter().min_by_key(|&(&id, channel)| load(id, channel)).map(|(&id, _)| id)
    }

    /// Lets `heir` carry every stream that has no channel, and say what lost ones left unsaid.
    fn adopt(&mut self, heir: u16) {
        let Some(channel) = self.channels.get_mut(&heir) else { return };
        self.orphans.drain(..).for_each(|frame| channel.inherit(frame));
        for (&stream, session) in self.streams.iter_mut().filter(|(_, session)| session.channel.is_none()) {
            session.channel = Some(heir);
            session.send.is_at_home_on(heir);
            channel.streams += 1;
            enqueue(channel, session, stream);
            self.events.push_back(MuxEvent::FailedOver { stream, channel: heir });
        }
    }

    fn is_clogged(&self, channel: u16) -> bool {
        self.channels.get(&channel).is_some_and(Channel::is_clogged)
    }

    fn insert(&mut self, stream: u32, session: Session) {
        if let Some(channel) = session.channel.and_then(|id| self.channels.get_mut(&id)) {
            channel.streams += 1;
            channel.glitches.earn(OPENED);
        }
        self.streams.insert(stream, session);
        self.enqueue(stream);
    }

    fn remove(&mut self, stream: u32) -> Option<Session> {
        let session = self.streams.remove(&stream)?;
        let grown = u64::from(session.recv.window() - self.config.initial_window) + session.send.grown();
        self.note_growth(0, -grown.cast_signed());
        if let Some(channel) = session.channel.and_then(|id| self.channels.get_mut(&id)) {
            channel.streams -= 1;
        }
        Some(session)
    }

    /// Has the stream's last words said, on its channel or on the next that there is.
    fn push_frame(&mut self, channel: Option<u16>, frame: Frame) {
        match channel.and_then(|id| self.channels.get_mut(&id)) {
            Some(channel) => channel.frames.push_back(frame),
            None => self.orphans.push_back(frame),
        }
    }

    fn enqueue(&mut self, stream: u32) {
        if let Some(session) = self.streams.get_mut(&stream)
            && let Some(channel) = session.channel.and_then(|id| self.channels.get_mut(&id))
        {
            enqueue(channel, session, stream);
        }
    }

    fn tell_writable(&mut self, stream: u32) {
        if let Some(session) = self.streams.get_mut(&stream)
            && session.wants_room
            && session.send.writable() > 0
        {
            session.wants_room = false;
            self.events.push_back(MuxEvent::Writable { stream });
        }
    }

    /// Lets a stream go once both directions are done at both ends.
    fn settle(&mut self, stream: u32) {
        if !self.streams.get(&stream).is_some_and(Session::is_done) {
            return;
        }
        if let Some(mut session) = self.remove(stream) {
            let said = !session.say.window;
            while let Some(frame) = session.poll_say(stream) {
                self.push_frame(session.channel, frame);
            }
            // The last acknowledgement may still be lost with its channel, and nobody else could say it again.
            if said {
                let (consumed, window) = session.recv.advertise();
                let last = Frame::Window { stream, consumed, window };
                match session.channel.and_then(|id| self.channels.get_mut(&id)) {
                    Some(channel) => channel.remember(last),
                    None => self.orphans.push_back(last),
                }
            }
            self.events.push_back(MuxEvent::Closed { stream });
        }
    }
}

impl Drop for Mux {
    fn drop(&mut self) {
        self.note_growth(0, -self.grown.cast_signed());
    }
}

/// Puts a stream into its channel's queues, once.
fn enqueue(channel: &mut Channel, session: &mut Session, stream: u32) {
    if session.say.anything() && !session.in_control {
        session.in_control = true;
        channel.control.push_back(stream);
    }
    if session.send.has_output() && !session.in_data {
        session.in_data = true;
        channel.little |= session.send.unsent() <= LITTLE as u64;
        channel.data.push(stream, session.priority, session.user);
    }
}
