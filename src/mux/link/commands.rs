//! What the owner wants.

use std::{collections::VecDeque, net::SocketAddr, time::Instant};

use bytes::Bytes;

use super::{Mux, OpenError};
use crate::{
    ids::{Priority, StreamKey},
    mux::{
        Role,
        error::ProtocolError,
        session::{Session, State},
    },
    wire::{Frame, Open, ResetCode, TunnelMessage},
};

impl Mux {
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
            return Err(OpenError::TooManyStreams);
        }
        let channel = match self.best_channel(near) {
            None => return Err(OpenError::NoChannel),
            Some(channel) if self.is_clogged(channel) => return Err(OpenError::Stalled),
            Some(channel) => channel,
        };
        self.opened += 1;
        let window = self.config.initial_window;
        let open = Open { stream: self.opened, key, port, priority: Priority::default(), window, user };
        // The first window may be used before OPEN_OK comes back: a request need not wait a round trip.
        let mut session = Session::new(State::Asked(open.clone()), &open, channel, &self.config);
        session.say.open = true;
        self.insert(self.opened, session);
        Ok(self.opened)
    }

    /// Accepts a stream that the peer [`Opened`](super::MuxEvent::Opened).
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

    /// Asks for a [`MuxEvent::Sent`](super::MuxEvent::Sent) when all that was written so far goes out. One at a time: the first one stays.
    pub fn measure_queue_wait(&mut self, stream: u32, now: Instant) {
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

    /// The owner does not [`read`](Self::read) for now: what has come for the stream, and what comes until it does, is
    /// copied out of the buffers that it came in.
    pub fn on_reader_blocked(&mut self, stream: u32) {
        if let Some(session) = self.streams.get_mut(&stream) {
            session.recv.put_off();
        }
    }

    /// What was read has left this process: its bytes count as received, and the peer may send as many more.
    pub fn consume(&mut self, stream: u32, bytes: u64, now: Instant) {
        let Some(session) = self.streams.get_mut(&stream) else { return };
        session.recv.consume(bytes);
        let round_trip = session.channel.and_then(|id| self.channels.get(&id)?.meter.shortest_round_trip());
        let mut growth = (0, 0);
        if let Some(round_trip) = round_trip.filter(|_| self.config.peer_has_flow_control)
            && let Some(wanted) =
                session.tuner.delivered(bytes, session.recv.came(), round_trip, now, session.recv.window())
        {
            let bounds = (self.config.initial_window, self.config.max_window);
            let more = u64::from(wanted.saturating_sub(session.recv.window()));
            let room = self.config.budget.reserve(more.min(self.config.max_window_growth - self.grown));
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
            session.say.priority = self.role == Role::Server;
            self.enqueue(stream);
        }
    }

    /// Says something about the link itself.
    ///
    /// # Errors
    /// [`ProtocolError::TooManyUnreadReplies`] if the peer does not read what it is told: close the channel.
    pub fn send_message(&mut self, channel: u16, message: TunnelMessage) -> Result<(), ProtocolError> {
        self.channels
            .get_mut(&channel)
            .map_or(Ok(()), |channel| channel.push_message(Frame::Message(message)))
    }

    /// Tells the peer, on every channel, before anything that is said there later.
    pub fn broadcast_message(&mut self, message: &TunnelMessage) {
        for channel in self.channels.values_mut() {
            // Who does not read what it is told will not read this either.
            _ = channel.push_message(Frame::Message(message.clone()));
        }
    }

    /// Tells the peer, on every channel, that there will be nothing new.
    pub fn send_go_away(&mut self, code: ResetCode) {
        for channel in self.channels.values_mut() {
            channel.frames.push_back(Frame::GoAway { code });
        }
    }
}
