use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use foldhash::HashMap;

use super::{
    Role,
    channel::Channel,
    error::ProtocolError,
    glitch::Worth,
    limits::{MuxConfig, OPENED},
    meter::Reading,
    numbers::UsedNumbers,
    recv::RecvFlow,
    send::SendFlow,
    session::{Session, State},
};
use crate::{
    ids::{Priority, StreamKey},
    wire::{Frame, OpenFrame, ResetCode, TunnelMessage},
};

/// What the mux has to tell its owner.
#[derive(Debug, PartialEq, Eq)]
pub enum MuxEvent {
    /// The peer opened a stream: [`accept`](Mux::accept) or [`reset`](Mux::reset) it.
    Opened(OpenFrame),
    /// The peer accepted our stream.
    Accepted {
        /// Which.
        stream: u32,
    },
    /// There is something to [`read`](Mux::read).
    Readable {
        /// Which.
        stream: u32,
    },
    /// There is room again to [`write`](Mux::write), after [`writable`](Mux::writable) had said 0.
    Writable {
        /// Which.
        stream: u32,
    },
    /// The stream is gone: the peer reset it, it broke the protocol, or no channel is to come for it any more.
    Reset {
        /// Which.
        stream: u32,
        /// Why.
        code: ResetCode,
    },
    /// The stream's channel was lost, and another carries it now, at once or after a while without any.
    Moved {
        /// Which.
        stream: u32,
        /// The channel that carries it.
        channel: u16,
    },
    /// The stream is over: both sides have every byte of the other.
    Closed {
        /// Which.
        stream: u32,
    },
    /// The peer says something about the link.
    Message {
        /// On which channel.
        channel: u16,
        /// What.
        message: TunnelMessage,
    },
    /// The peer takes no new streams.
    GoAway {
        /// Why.
        code: ResetCode,
    },
    /// A piece that was [marked](Mux::mark) goes out, all of it.
    Sent {
        /// Of which stream.
        stream: u32,
        /// When it came.
        since: Instant,
    },
    /// A ping came back.
    RoundTrip {
        /// On which channel.
        channel: u16,
        /// How long it took.
        rtt: Duration,
    },
    /// Nothing was heard on the channel for too long. The owner should close it, and say so.
    ChannelDead {
        /// Which.
        channel: u16,
    },
}

/// Why no stream could be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The link has no channel.
    #[error("the proxy has no channel")]
    NoChannel,
    /// The peer takes nothing, which who drives the channels sees first, or too little for all that is to be said.
    #[error("the proxy reads nothing")]
    Stuck,
    /// As many streams as the link may have are open.
    #[error("the proxy has too many streams")]
    TooMany,
}

/// All streams of one link, over all of its channels, without any IO: no clock, no socket, no task.
///
/// - *Getters*: [`writable`](Self::writable), [`has_output`](Self::has_output), [`streams`](Self::streams).
/// - *Handle*, what came in from outside: [`add_channel`](Self::add_channel), [`channel_lost`](Self::channel_lost),
///   [`give_up`](Self::give_up), [`handle_frame`](Self::handle_frame), [`heard`](Self::heard),
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
/// wait without any channel is the owner's business: nothing is let go before it [gives up](Self::give_up).
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
        config.max_window = config.max_window.max(config.window);
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
    pub fn channel_of(&self, stream: u32) -> Option<u16> {
        self.streams.get(&stream)?.channel
    }

    /// How many bytes wait to go out on a channel. It looks at every stream that has some: not for each chunk.
    pub fn queued(&self, channel: u16) -> u64 {
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
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// What is known of a channel by what went out on it.
    pub fn reading(&self, channel: u16) -> Option<Reading> {
        self.channels.get(&channel).map(|channel| channel.meter.reading())
    }

    /// Whether a ping on `channel`, which may stand behind data, has had no answer for `time` or longer.
    pub fn is_silent(&self, channel: u16, time: Duration, now: Instant) -> bool {
        let unanswered = self.channels.get(&channel).and_then(|channel| channel.meter.unanswered_for(now));
        unanswered.is_some_and(|unanswered| unanswered >= time)
    }

    /// How many channels are up.
    pub fn channels(&self) -> usize {
        self.channels.len()
    }

    // Handle.

    /// A channel is up. `id` must not be in use. Streams that have none go on over it.
    pub fn add_channel(&mut self, id: u16, now: Instant) {
        self.channels.insert(id, Channel::new(&self.config, now));
        self.adopt(id);
    }

    /// A channel is lost. Its streams move to another, or wait for the next if there is none.
    pub fn channel_lost(&mut self, id: u16) {
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
    pub fn give_up(&mut self) {
        self.note_growth(0, -self.grown.cast_signed());
        self.orphans.clear();
        for (stream, _) in self.streams.drain() {
            self.events.push_back(MuxEvent::Reset { stream, code: ResetCode::ChannelLost });
        }
    }

    /// Bytes came in on `channel`, or it is we who do not read them: either way it is not dead.
    pub fn heard(&mut self, channel: u16, now: Instant) {
        if let Some(channel) = self.channels.get_mut(&channel) {
            channel.heard(now);
        }
    }

    /// The socket of `channel` takes no more for now, or does again: others may take over what waits for it.
    pub fn set_blocked(&mut self, channel: u16, blocked: bool) {
        if let Some(channel) = self.channels.get_mut(&channel) {
            channel.blocked = blocked;
        }
    }

    /// The kernel has sent so many segments again on `channel` since it began.
    pub fn resent(&mut self, channel: u16, segments: u64) {
        if let Some(channel) = self.channels.get_mut(&channel) {
            channel.meter.resent(segments);
        }
    }

    /// A frame came in on `channel`. One of a channel that counts as lost changes nothing: the link may have gone on
    /// without it.
    ///
    /// # Errors
    /// The peer broke the protocol: close the channel. If one stream was to blame, it is reset.
    pub fn handle_frame(&mut self, channel: u16, frame: Frame, now: Instant) -> Result<(), ProtocolError> {
        if !self.channels.contains_key(&channel) {
            return Ok(());
        }
        let worth = self.on_frame(channel, frame, now)?;
        self.channels.get_mut(&channel).map_or(Ok(()), |channel| channel.glitches.weigh(worth, now))
    }

    fn on_frame(&mut self, channel: u16, frame: Frame, now: Instant) -> Result<Worth, ProtocolError> {
        match frame {
            Frame::Open(open) => self.on_open(channel, open),
            Frame::OpenOk { stream, window } => {
                if self.role != Role::Opener {
                    return Err(ProtocolError::Unexpected("OPEN_OK"));
                }
                let worth = self.on_session(stream, "OPEN_OK", |session, events| {
                    let State::Asked(_) = session.state else { return Ok(Worth::Nothing) };
                    session.state = State::Agreed;
                    events.push_back(MuxEvent::Accepted { stream });
                    Ok(Worth::Progress(0))
                })?;
                self.on_credit(stream, "OPEN_OK", 0, window)?;
                Ok(worth)
            }
            Frame::Data { stream, offset, fin, payload } => {
                let bytes = payload.len();
                self.on_session(stream, "DATA", |session, events| {
                    if session.channel.is_some_and(|own| own != channel) {
                        session.tuner.widen();
                    }
                    if !session.recv.insert(offset, payload, fin)? {
                        return Ok(Worth::Nothing);
                    }
                    if !session.told_readable {
                        session.told_readable = true;
                        events.push_back(MuxEvent::Readable { stream });
                    }
                    Ok(Worth::Progress(bytes))
                })
            }
            Frame::Window { stream, consumed, window } => {
                let worth = self.on_credit(stream, "WINDOW", consumed, window)?;
                self.settle(stream);
                self.tell_writable(stream);
                Ok(worth)
            }
            Frame::Reset { stream, code, .. } => {
                if self.streams.contains_key(&stream) {
                    self.remove(stream);
                    self.events.push_back(MuxEvent::Reset { stream, code });
                    Ok(Worth::Progress(0))
                } else if self.role == Role::Acceptor {
                    // It may have been reset before its OPEN was sent; the number is used up all the same.
                    Ok(if self.offered.mark(stream)? { Worth::Progress(0) } else { Worth::Nothing })
                } else if !self.was_opened(stream) {
                    Err(ProtocolError::NeverOpened("RESET"))
                } else {
                    Ok(Worth::Nothing)
                }
            }
            Frame::Blocked { stream, .. } => {
                let worth = self.on_session(stream, "BLOCKED", |session, _| {
                    session.say.window = true;
                    Ok(Worth::Nothing)
                })?;
                self.enqueue(stream);
                Ok(worth)
            }
            Frame::Ping { token } => {
                if let Some(channel) = self.channels.get_mut(&channel) {
                    channel.on_ping(token);
                }
                Ok(Worth::Nothing)
            }
            Frame::Pong { token } => {
                let rtt = self.channels.get_mut(&channel).and_then(|channel| channel.on_pong(token, now));
                self.events.extend(rtt.map(|rtt| MuxEvent::RoundTrip { channel, rtt }));
                // One that was asked for is no flood.
                Ok(if rtt.is_some() { Worth::Progress(0) } else { Worth::Nothing })
            }
            Frame::GoAway { code, .. } => {
                self.events.push_back(MuxEvent::GoAway { code });
                Ok(Worth::Request)
            }
            Frame::Message(message) => {
                self.events.push_back(MuxEvent::Message { channel, message });
                Ok(Worth::Request)
            }
            Frame::Hello(_) => Err(ProtocolError::Unexpected("HELLO")),
            Frame::Challenge { .. } => Err(ProtocolError::Unexpected("CHALLENGE")),
            Frame::Proof { .. } => Err(ProtocolError::Unexpected("PROOF")),
            Frame::Welcome(_) => Err(ProtocolError::Unexpected("WELCOME")),
            Frame::Priority { stream, priority } => {
                if self.role != Role::Acceptor {
                    return Err(ProtocolError::Unexpected("PRIORITY"));
                }
                self.on_session(stream, "PRIORITY", |session, _| {
                    session.priority = priority;
                    Ok(Worth::Nothing)
                })
            }
        }
    }

    /// Time has passed: pings are due, or a channel is dead.
    pub fn handle_timeout(&mut self, now: Instant) {
        let mut suspects = Vec::new();
        for (&id, channel) in &mut self.channels {
            if !channel.on_timeout(&self.config, now) {
                self.events.push_back(MuxEvent::ChannelDead { channel: id });
            }
            suspects.extend(channel.is_suspect().then_some(id));
        }
        suspects.into_iter().for_each(|id| self.recall(id));
    }

    // Commands.

    /// Opens a stream on the channel that has the fewest. One that is `near`, which costs its owner less, may have
    /// twice as many as others.
    ///
    /// # Errors
    /// [`OpenError`], and nothing was opened.
    pub fn open(
        &mut self,
        key: StreamKey,
        port: u16,
        user: Option<SocketAddr>,
        near: impl Fn(u16) -> bool,
    ) -> Result<u32, OpenError> {
        if self.streams.len() >= self.config.max_streams || self.opened == u32::MAX {
            return Err(OpenError::TooMany);
        }
        let channel = match self.best_channel(near) {
            None => return Err(OpenError::NoChannel),
            Some(channel) if self.is_clogged(channel) => return Err(OpenError::Stuck),
            Some(channel) => channel,
        };
        self.opened += 1;
        let window = self.config.window;
        let open = OpenFrame { stream: self.opened, key, port, priority: Priority::default(), window, user };
        // The first window may be used before OPEN_OK comes back: a request need not wait a round trip.
        let mut session = Session::new(State::Asked(open.clone()), &open, channel, &self.config);
        session.say.open = true;
        self.insert(self.opened, session);
        Ok(self.opened)
    }

    /// Accepts a stream that the peer [`Opened`](MuxEvent::Opened).
    pub fn accept(&mut self, stream: u32) {
        let Some(session) = self.streams.get_mut(&stream) else { return };
        if let State::Offered = session.state {
            session.state = State::Agreed;
            session.say.open_ok = true;
            self.enqueue(stream);
        }
    }

    /// Sends `bytes`, at most as many as [`writable`](Self::writable) said.
    pub fn write(&mut self, stream: u32, bytes: Bytes) {
        if let Some(session) = self.streams.get_mut(&stream) {
            session.send.write(bytes);
            self.enqueue(stream);
        }
    }

    /// Asks for a [`MuxEvent::Sent`] when all that was written so far goes out. One at a time: the first one stays.
    pub fn mark(&mut self, stream: u32, now: Instant) {
        if let Some(session) = self.streams.get_mut(&stream) {
            session.send.mark(now);
        }
    }

    /// Nothing more will be written.
    pub fn finish(&mut self, stream: u32) {
        if let Some(session) = self.streams.get_mut(&stream) {
            session.send.finish();
            self.enqueue(stream);
        }
    }

    /// Ends the stream in both directions, with an error at the other side. No event follows.
    pub fn reset(&mut self, stream: u32, code: ResetCode) {
        let Some(session) = self.remove(stream) else { return };
        let frame = Frame::Reset { stream, code, final_size: session.send.final_size() };
        self.push_frame(session.channel, frame);
    }

    /// Moves what came in order to `out`. True if it is the last there will ever be.
    pub fn read(&mut self, stream: u32, out: &mut VecDeque<Bytes>) -> bool {
        let Some(session) = self.streams.get_mut(&stream) else { return false };
        session.told_readable = false;
        session.recv.read(out)
    }

    /// What was read has left this process: its bytes count as received, and the peer may send as many more.
    pub fn consume(&mut self, stream: u32, bytes: u64, now: Instant) {
        let Some(session) = self.streams.get_mut(&stream) else { return };
        session.recv.consume(bytes);
        let round_trip = session.channel.and_then(|id| self.channels.get(&id)?.meter.shortest_round_trip());
        let mut growth = (0, 0);
        if let Some(round_trip) = round_trip.filter(|_| self.config.peer_has_credit)
            && let Some(wanted) = session.tuner.delivered(bytes, round_trip, now, session.recv.window())
        {
            let bounds = (self.config.window, self.config.max_window);
            let more = u64::from(wanted.saturating_sub(session.recv.window()));
            let room = self.config.budget.take(more.min(self.config.growth - self.grown));
            let before = session.recv.window();
            growth = (room, session.recv.resize(wanted, bounds, room));
            let wished = wanted.min(self.config.max_window).saturating_sub(before);
            session.recv.set_starved(room < wished.into());
        }
        if session.recv.update_due() {
            session.say.window = true;
            self.enqueue(stream);
        }
        self.note_growth(growth.0, growth.1);
    }

    /// The end was passed on too, after all bytes.
    pub fn consume_end(&mut self, stream: u32) {
        let Some(session) = self.streams.get_mut(&stream) else { return };
        if session.recv.consume_end() {
            session.say.window = true;
            self.enqueue(stream);
            self.settle(stream);
        }
    }

    /// Holds the stream, or lets it go on: the peer gets no credit beyond what it has, and nothing is taken for it
    /// here. What was granted may still come, and is kept; what is passed on is still acknowledged.
    pub fn set_paused(&mut self, stream: u32, paused: bool) {
        let Some(session) = self.streams.get_mut(&stream) else { return };
        session.recv.set_paused(paused);
        session.send.set_paused(paused);
        session.say.window = true;
        self.enqueue(stream);
        self.tell_writable(stream);
    }

    /// Gives the stream another share of its channel, here and at the peer, from its next turn on.
    pub fn set_priority(&mut self, stream: u32, priority: Priority) {
        let Some(session) = self.streams.get_mut(&stream) else { return };
        if session.priority != priority {
            session.priority = priority;
            session.say.priority = self.role == Role::Opener;
            self.enqueue(stream);
        }
    }

    /// Says something about the link itself.
    ///
    /// # Errors
    /// [`ProtocolError::Backlog`] if the peer does not read what it is told: close the channel.
    pub fn send_message(&mut self, channel: u16, message: TunnelMessage) -> Result<(), ProtocolError> {
        self.channels
            .get_mut(&channel)
            .map_or(Ok(()), |channel| channel.push_message(Frame::Message(message)))
    }

    /// Tells the peer, on every channel, before anything that is said there later.
    pub fn send_everywhere(&mut self, message: &TunnelMessage) {
        for channel in self.channels.values_mut() {
            // Who does not read what it is told will not read this either.
            _ = channel.push_message(Frame::Message(message.clone()));
        }
    }

    /// Tells the peer, on every channel, that there will be nothing new.
    pub fn go_away(&mut self, code: ResetCode) {
        let last_stream = self.opened;
        for channel in self.channels.values_mut() {
            channel.frames.push_back(Frame::GoAway { last_stream, code });
        }
    }

    // Poll.

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
        let others = self.config.stripe && self.channels.len() > 1;
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
        if channel.meter.holds() {
            return None;
        }
        let chunk = channel.meter.chunk();
        self.take_data(from, id, chunk, now)
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
            if away.is_some() && !session.as_ref().is_some_and(|s| s.send.may_stray(self.config.stripe_after))
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
            if session.in_data && !stays {
                channel.data.push(stream, session.priority, session.user);
            }
            if let Some(over) = self.channels.get_mut(&over) {
                over.meter.sent(piece.payload.len(), now);
            }
            self.events.extend(piece.marked.map(|since| MuxEvent::Sent { stream, since }));
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
    fn lender(&self, id: u16) -> Option<u16> {
        let idle = self.channels.get(&id).filter(|channel| self.config.stripe && channel.is_idle())?;
        let one_way = idle.meter.one_way()?;
        let gains = |busy: &Channel| {
            busy.meter.delivery(idle.meter.chunk() as u64).is_none_or(|later| one_way <= later)
        };
        let mut others = self.channels.iter().filter(|&(&other, _)| other != id);
        others.find(|(_, other)| other.is_overfull() && gains(other)).map(|(&other, _)| other)
    }

    /// What went out on a channel that is not its stream's own goes out again over that.
    fn recall(&mut self, id: u16) {
        for (&stream, session) in &mut self.streams {
            if session.channel != Some(id)
                && session.send.lose(id)
                && let Some(channel) = session.channel.and_then(|own| self.channels.get_mut(&own))
            {
                enqueue(channel, session, stream);
            }
        }
    }

    // What these have in common.

    fn on_open(&mut self, channel: u16, open: OpenFrame) -> Result<Worth, ProtocolError> {
        if self.role != Role::Acceptor {
            return Err(ProtocolError::Unexpected("OPEN"));
        }
        if self.is_clogged(channel) {
            return Err(ProtocolError::Backlog);
        }
        let stream = open.stream;
        if !self.offered.mark(stream)? {
            // Said again because its channel died before our answer came through.
            if let Some(session) = self.streams.get_mut(&stream)
                && let State::Agreed = session.state
            {
                session.say.open_ok = true;
                self.enqueue(stream);
            }
            return Ok(Worth::Nothing);
        }
        if self.streams.len() >= self.config.max_streams {
            self.push_frame(Some(channel), Frame::Reset { stream, code: ResetCode::Limit, final_size: 0 });
            return Ok(Worth::Progress(0));
        }
        let session = Session::new(State::Offered, &open, channel, &self.config);
        self.insert(stream, session);
        self.events.push_back(MuxEvent::Opened(open));
        Ok(Worth::Progress(0))
    }

    /// Lets `act` handle a frame for an open stream. One for a stream that is over is forgotten: it was under way.
    fn on_session(
        &mut self,
        stream: u32,
        frame: &'static str,
        act: impl FnOnce(&mut Session, &mut VecDeque<MuxEvent>) -> Result<Worth, ProtocolError>,
    ) -> Result<Worth, ProtocolError> {
        let Some(session) = self.streams.get_mut(&stream) else {
            let over = self.was_opened(stream);
            return if over { Ok(Worth::Nothing) } else { Err(ProtocolError::NeverOpened(frame)) };
        };
        act(session, &mut self.events).inspect_err(|_| {
            self.reset(stream, ResetCode::Protocol);
            self.events.push_back(MuxEvent::Reset { stream, code: ResetCode::Protocol });
        })
    }

    /// The peer has passed on all below `consumed` and takes `window` more. What we keep for it grows within the
    /// budget only: a peer that took much on many streams and acknowledged nothing would have all our memory.
    fn on_credit(
        &mut self,
        stream: u32,
        frame: &'static str,
        consumed: u64,
        window: u32,
    ) -> Result<Worth, ProtocolError> {
        let send = self.streams.get(&stream).map(|session| &session.send);
        let (before, more) = send.map_or((0, 0), |send| (send.grown(), send.wanted(window)));
        let room = self.config.budget.take(more.min(self.config.growth - self.grown));
        let mut after = before;
        let result = self.on_session(stream, frame, |session, _| {
            let agreed = session.send.agreed();
            let result = session.send.acknowledge(consumed, window, room);
            after = session.send.grown();
            let same = agreed == session.send.agreed();
            result.map(|()| if same { Worth::Nothing } else { Worth::Progress(0) })
        });
        self.note_growth(room, after.cast_signed() - before.cast_signed());
        result
    }

    /// Of `room` taken from the budget, so much was used; less than nothing where a window fell.
    fn note_growth(&mut self, room: u64, change: i64) {
        self.grown = self.grown.saturating_add_signed(change);
        let rest = room.saturating_add_signed(-change);
        if rest > 0 {
            self.config.budget.give_back(rest);
        }
    }

    fn was_opened(&self, stream: u32) -> bool {
        match self.role {
            Role::Opener => (1..=self.opened).contains(&stream),
            Role::Acceptor => self.offered.contains(stream),
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
            self.events.push_back(MuxEvent::Moved { stream, channel: heir });
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
        let grown = u64::from(session.recv.window() - self.config.window) + session.send.grown();
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
        channel.data.push(stream, session.priority, session.user);
    }
}
