//! The commands of a mux's owner.

use std::{collections::VecDeque, time::Instant};

use bytes::Bytes;

use super::{event::OpenError, mux::Mux};
use crate::{
    ids::{Priority, StreamKey},
    mux::{
        channel::Channel,
        error::ProtocolError,
        limits::MAX_COMPACTED_LEN,
        recv_buffer::DataEnd,
        role::Role,
        stream::{OpenState, ResetAfterData, Stream},
    },
    wire::{Frame, Open, ResetCode, TunnelMessage, UserAddresses},
};

impl Mux {
    /// Opens a stream to the peer on the channel with the fewest streams, and returns its id. A channel that
    /// `is_local` (its driver runs on the caller's thread, so that it costs less) is preferred until it has twice as
    /// many streams as the others.
    ///
    /// # Errors
    /// [`OpenError`], and no stream was opened.
    pub fn open(
        &mut self,
        key: StreamKey,
        port: u16,
        user: Option<UserAddresses>,
        is_local: impl Fn(u16) -> bool,
    ) -> Result<u32, OpenError> {
        if !self.may_open() {
            return Err(OpenError::LinkReplaced);
        }
        if self.streams.len() >= self.config.max_streams {
            return Err(OpenError::TooManyStreams);
        }
        let channel = match self.least_loaded_channel(is_local) {
            None => return Err(OpenError::NoChannel),
            Some(channel) if self.has_control_backlog(channel) => return Err(OpenError::Stalled),
            Some(channel) => channel,
        };
        if !self.config.budget.open_stream() {
            return Err(OpenError::OutOfMemory);
        }
        self.last_opened += 1;
        let id = self.last_opened;
        let mut open = Open { stream: id, key, port, priority: Priority::default(), window: 0, user };
        // Data may use the first window before OPEN_OK arrives, so that a request does not wait for an RTT.
        let mut stream = Stream::new(&open, self.config.initial_window, channel, &self.config);
        stream.recv.adapt_window(self.config.initial_window, &self.config.budget);
        (_, open.window) = stream.recv.advertise();
        stream.state = OpenState::Requested(open);
        stream.pending.open = true;
        self.insert(id, stream);
        if !self.is_replacement_requested && self.has_few_numbers() {
            self.is_replacement_requested = true;
            self.send_go_away(ResetCode::LinkReplaced);
        }
        Ok(id)
    }

    /// Has this side open no more streams, because the proxy has another link for them. The open ones continue.
    pub fn set_replaced(&mut self) {
        self.is_replaced = true;
    }

    /// Returns whether another stream may be opened on this link, now or later.
    fn may_open(&self) -> bool {
        !self.is_replaced && self.last_opened < self.config.last_stream_number
    }

    /// Returns whether so few stream numbers are left that the link should be replaced: an eighth of all.
    pub fn has_few_numbers(&self) -> bool {
        self.config.last_stream_number - self.last_opened <= self.config.last_stream_number / 8
    }

    /// Returns whether the link is of no more use to the server: no stream is open, and none can be opened any more.
    pub fn is_used_up(&self) -> bool {
        self.role == Role::Server && self.streams.is_empty() && !self.may_open()
    }

    /// Accepts a stream that the peer [`Opened`](super::MuxEvent::Opened): queues OPEN_OK. Does nothing if the stream
    /// is not waiting for that.
    pub fn accept(&mut self, stream: u32) {
        let Some(state) = self.streams.get_mut(&stream) else { return };
        if let OpenState::Offered = state.state {
            state.state = OpenState::Established;
            state.recv.adapt_window(self.config.initial_window, &self.config.budget);
            state.pending.open_ok = true;
            self.enqueue(stream);
        }
    }

    /// Appends data to the send buffer of a stream, at most as many bytes as [`writable`](Self::writable) has
    /// returned. Returns the bytes if the stream was reset meanwhile.
    pub fn write(&mut self, stream: u32, bytes: Bytes) -> Option<Bytes> {
        let state = self.streams.get_mut(&stream).filter(|state| state.reset == ResetAfterData::No);
        let Some(state) = state else { return Some(bytes) };
        let early_before = state.early_bytes(&self.config);
        state.send.write(bytes, &self.config.budget);
        self.early_bytes += state.early_bytes(&self.config) - early_before;
        self.place(stream);
        self.enqueue(stream);
        None
    }

    /// Starts to measure the queue wait of all data written so far: [`MuxEvent::Dequeued`](super::MuxEvent::Dequeued)
    /// follows when the last byte of it is sent. While one measurement runs, no second one is started.
    pub fn measure_queue_wait(&mut self, stream: u32, now: Instant) {
        if let Some(state) = self.streams.get_mut(&stream) {
            state.send.measure_queue_wait(now);
        }
    }

    /// Ends the sending direction of a stream: END is sent after all data. Nothing may be written to the stream any
    /// more.
    pub fn finish(&mut self, stream: u32) {
        if let Some(state) = self.streams.get_mut(&stream)
            && state.reset == ResetAfterData::No
        {
            state.send.finish();
            self.enqueue(stream);
        }
    }

    /// Moves all received data that is in order to `out`. Returns what follows it; `None` if there may be more.
    pub fn read(&mut self, stream: u32, out: &mut VecDeque<Bytes>) -> Option<DataEnd> {
        let state = self.streams.get_mut(&stream)?;
        state.is_reader_notified = false;
        state.recv.read(out)
    }

    /// Reports that the owner does not [`read`](Self::read) a stream for now, because its consumer is blocked. Slices
    /// shorter than `copied_below` that were received for it, and those received until the next read, are copied out of
    /// their pooled buffers.
    pub fn on_reader_blocked(&mut self, stream: u32, copied_below: usize) {
        if let Some(state) = self.streams.get_mut(&stream) {
            state.recv.set_reader_blocked(copied_below);
        }
    }

    /// Reports that neither side of a stream has made progress for a while: what it keeps is copied out of pooled
    /// buffers, of which it may keep several times as much alive.
    pub fn on_stalled(&mut self, stream: u32) {
        if let Some(state) = self.streams.get_mut(&stream) {
            state.recv.set_reader_blocked(MAX_COMPACTED_LEN);
            state.send.compact();
        }
    }

    /// Reports how many bytes the reader of a stream is known to have read, although less than proves that it makes
    /// progress. The window grows with them when it is adapted next.
    pub fn on_reader_progress(&mut self, stream: u32, read_bytes: u64) {
        if let Some(state) = self.streams.get_mut(&stream) {
            state.recv.set_read_bytes(read_bytes);
        }
    }

    /// Reports that the reader of a stream makes progress: it has taken more than the kernels on its path hold. It gets
    /// the window that the stream wants, as far as the memory budget allows.
    pub fn on_reader_proven(&mut self, stream: u32) {
        let Some(state) = self.streams.get_mut(&stream) else { return };
        state.recv.set_reader_proven();
        if state.recv.must_adapt(&self.config.budget) {
            state.recv.adapt_window(self.config.initial_window, &self.config.budget);
        }
    }

    /// Records that `bytes` more of what was read from a stream have left this process. They are acknowledged to the
    /// peer, which may send as many more, and auto-tuning may raise the window.
    pub fn consume(&mut self, stream: u32, bytes: u64, now: Instant) {
        let Some(state) = self.streams.get_mut(&stream) else { return };
        state.recv.consume(bytes);
        let min_rtt = state.channel.and_then(|id| self.channels.get(&id)?.path.min_rtt());
        if let Some(min_rtt) = min_rtt.filter(|_| self.config.peer_has_flow_control)
            && let Some(wanted) = state.tuner.on_consumed(bytes, state.recv.received_flow(), min_rtt, now)
        {
            // The lower bound is what the operator has configured; it precedes the upper one.
            state.recv.set_wanted_window(wanted.min(self.config.max_window).max(self.config.initial_window));
        }
        if state.recv.must_adapt(&self.config.budget) {
            state.recv.adapt_window(self.config.initial_window, &self.config.budget);
        }
        if state.recv.is_update_due() {
            state.pending.window = true;
            // Hundreds of acknowledgements a second that avoid a channel whose kernel sends nothing for a moment fill
            // the kernel's windows of the others, where messages then wait.
            let is_urgent = state.recv.is_credit_short();
            let primary = state.channel.and_then(|id| self.channels.get(&id));
            if is_urgent || primary.is_some_and(Channel::is_doubtful) {
                self.place(stream);
            } else {
                self.place_acknowledgement(stream, now);
            }
            self.enqueue(stream);
        }
    }

    /// Records that the END of a stream was passed on to the local socket, after all data.
    pub fn consume_end(&mut self, stream: u32) {
        let Some(state) = self.streams.get_mut(&stream) else { return };
        if state.recv.consume_end() {
            state.pending.window = true;
            self.enqueue(stream);
            self.close_if_done(stream);
        }
    }

    /// Pauses a stream, or resumes it. While it is paused, the peer gets no more credit and nothing is writable. Data
    /// within the credit that the peer has is still received, and data that is consumed is still acknowledged.
    pub fn set_paused(&mut self, stream: u32, is_paused: bool) {
        let Some(state) = self.streams.get_mut(&stream) else { return };
        state.recv.set_paused(is_paused);
        state.send.set_paused(is_paused);
        state.pending.window = true;
        self.enqueue(stream);
        self.notify_writer(stream);
    }

    /// Changes the scheduling priority of a stream on this side, and, on the server, sends it to the proxy with
    /// PRIORITY. It applies once the scheduler has sent the stream's next chunk.
    pub fn set_priority(&mut self, stream: u32, priority: Priority) {
        let Some(state) = self.streams.get_mut(&stream) else { return };
        if state.priority != priority {
            state.priority = priority;
            state.pending.priority = self.role == Role::Server;
            self.enqueue(stream);
        }
    }

    /// Returns the channel for a message that any of them may carry: one on which the peer answers, if there is one.
    /// `None` if the link has no channel.
    pub fn any_channel(&self) -> Option<u16> {
        let usable = self.channels.iter().find(|(_, channel)| channel.is_usable());
        usable.or_else(|| self.channels.iter().next()).map(|(id, _)| *id)
    }

    /// Queues a message about the link on one channel, or on another one if the link has lost that.
    ///
    /// # Errors
    /// [`ProtocolError::TooManyUnreadReplies`] if the peer does not read its messages: the owner should
    /// close the channel.
    pub fn send_message(&mut self, channel: u16, message: TunnelMessage) -> Result<(), ProtocolError> {
        let channel = if self.channels.contains_key(&channel) { Some(channel) } else { self.any_channel() };
        let Some(channel) = channel else { return Ok(()) };
        self.channels
            .get_mut(&channel)
            .map_or(Ok(()), |channel| channel.push_message(Frame::Message(message)))
    }

    /// Queues a message on every channel, before any message that is queued later.
    pub fn broadcast_message(&mut self, message: &TunnelMessage) {
        for channel in self.channels.values_mut() {
            // A peer that does not read its messages would not read this one either.
            _ = channel.push_message(Frame::Message(message.clone()));
        }
    }

    /// Queues GOAWAY on every channel: this side opens or accepts no new streams. The answer of a proxy that has
    /// replaced the link is repeated on each further channel: without it the server would use both links.
    pub fn send_go_away(&mut self, code: ResetCode) {
        self.is_replaced |= self.role == Role::Proxy && code == ResetCode::LinkReplaced;
        for channel in self.channels.values_mut() {
            channel.control_frames.push_back(Frame::GoAway { code });
        }
    }
}
