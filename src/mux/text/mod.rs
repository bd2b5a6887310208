//! The adapter between the mux, which speaks frames, and a peer that speaks the text format.

mod stream;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use bytes::Bytes;

use self::stream::{ClosedKeys, TextStream};
use super::{
    budget::MemoryBudget,
    error::ProtocolError,
    limits::{MAX_EARLY_BYTES, MAX_EARLY_BYTES_PER_LINK, MAX_PING_DATA, MAX_TEXT_BUFFERED_BYTES},
    role::Role,
};
use crate::{
    ids::{Priority, StreamKey, UserChannelId},
    wire::{Frame, Open, ResetCode, TunnelAction, TunnelMessage, text},
};

/// What one line of a text peer (one message) is translated to.
#[derive(Debug, PartialEq, Eq)]
pub enum TextInput {
    /// A frame for the [`Mux`](super::Mux), as if a binary peer had sent it.
    Frame(Frame),
    /// A message to send back to the peer.
    Reply(TunnelMessage),
    /// The peer has announced how many bytes it will send on a stream.
    AnnouncedSize {
        /// The stream's id.
        stream: u32,
        /// The number of bytes.
        size: u64,
    },
    /// The line belongs to no open stream (the seed document calls it a session). A [`Reply`](Self::Reply) with an
    /// error is part of the translation.
    NoSession(StreamKey),
    /// The line violates the protocol, which closes its channel.
    Violation(ProtocolError),
}

/// Translates between the frames of a [`Mux`](super::Mux) and the lines of a text peer, which has no stream numbers,
/// no offsets and no credit.
///
/// Such a peer gives no credit: data that was written to its channel is acknowledged here. It does not understand
/// credit either: this side's credit becomes `STREAM_PAUSE` and `STREAM_RESUME`, which the peer may ignore, and
/// [`must_stop_reading`](Self::must_stop_reading), which stops it by TCP's flow control.
#[derive(Debug)]
pub struct TextAdapter {
    /// Whether this process is the server or the proxy of the link.
    role: Role,
    /// Whether the peer's lines have three fields, without a stream id. Such a peer takes each stream for a user.
    is_three_field: bool,
    /// The flow-control window of each stream, in bytes. When half of it is buffered, the peer is asked to pause the
    /// stream; when a quarter is left, to resume it.
    window: u32,
    /// The memory budget of the process. While it is tight, streams are paused when their minimum is buffered.
    budget: MemoryBudget,
    /// The mux's ids of the open streams, by the keys in the peer's lines.
    streams_by_key: HashMap<StreamKey, u32>,
    /// The open streams, by the mux's ids.
    streams: HashMap<u32, TextStream>,
    /// The id of the last stream that the peer opened.
    last_opened: u32,
    /// Bytes of all streams that were received from the text peer and not consumed.
    buffered: u64,
    /// What data that was received before the STREAM_START of its stream takes, on all streams together.
    early_bytes: usize,
    /// The keys of streams that were closed recently.
    closed: ClosedKeys,
    /// The token of the last ping that was sent.
    last_ping: u64,
    /// How far from the user's own id the search of a free key for a three-field peer begins, where that id is taken.
    /// It continues where the last one ended: from the user's id on, a user with many streams would search all of their
    /// keys for each further one.
    next_key_offset: u32,
}

impl TextAdapter {
    /// Creates an adapter without streams. The peer is asked to pause a stream for which half of `window` bytes are
    /// buffered, or less while `budget` is tight.
    pub fn new(role: Role, fields: text::FieldCount, window: u32, budget: MemoryBudget) -> Self {
        Self {
            role,
            is_three_field: fields == text::FieldCount::Three,
            window,
            budget,
            streams_by_key: HashMap::new(),
            streams: HashMap::new(),
            last_opened: 0,
            buffered: 0,
            early_bytes: 0,
            closed: ClosedKeys::default(),
            last_ping: 0,
            next_key_offset: 0,
        }
    }

    /// Returns whether so much data is buffered for slow readers that the peer's channel must not be read for now: its
    /// maximum, or what the memory budget allows. That blocks the peer's other streams, too, which it avoids by
    /// honouring
    /// `STREAM_PAUSE`.
    pub fn must_stop_reading(&self) -> bool {
        self.buffered >= MAX_TEXT_BUFFERED_BYTES
            || self.buffered >= self.budget.max_unwindowed_bytes(self.buffered)
    }

    /// Returns how many buffered bytes of a stream make this side ask the peer to pause it. While memory is tight, the
    /// channel stops being read much earlier, which must not happen to a peer that pauses its streams.
    fn pause_threshold(&self) -> u64 {
        let half = u64::from(self.window / 2);
        if self.budget.is_tight() { half.min(self.budget.min_window()) } else { half }
    }

    /// Records that `bytes` of a stream's received data have left this process.
    ///
    /// The WINDOW frame that acknowledges them comes too late for this: it waits until it can be written, and a peer
    /// that writes before it reads may wait for us to read.
    pub fn consume(&mut self, stream: u32, bytes: u64) {
        let Some(state) = self.streams.get_mut(&stream) else { return };
        self.buffered -= state.buffered();
        state.consumed += bytes;
        debug_assert!(state.consumed <= state.received, "consumed data that was not received");
        self.buffered += state.buffered();
    }

    /// Records that this side has closed a stream: its received data no longer counts as buffered. For the same
    /// reason as in [`consume`](Self::consume) this does not wait for the RESET frame.
    pub fn abandon(&mut self, stream: u32) {
        if let Some(state) = self.streams.get_mut(&stream) {
            self.buffered -= state.buffered();
            state.is_abandoned = true;
            self.early_bytes -= state.take_early_data().1;
        }
    }

    /// Translates a line that was received from the text peer, and appends the results to `out`.
    pub fn translate_inbound(&mut self, message: TunnelMessage, out: &mut Vec<TextInput>) {
        let Some(key) = message.key else { return self.on_control_line(message, out) };
        let Some(&stream) = self.streams_by_key.get(&key) else {
            return self.on_unknown_key(key, message, out);
        };
        match message.action {
            TunnelAction::StreamStart => {
                let size = text::start_size(&message.data);
                out.extend(size.map(|size| TextInput::AnnouncedSize { stream, size }));
                self.start(stream, out);
            }
            TunnelAction::Forward | TunnelAction::Response => {
                self.start(stream, out);
                self.on_data(stream, message.data, out);
            }
            TunnelAction::StreamData => self.on_data(stream, message.data, out),
            TunnelAction::StreamEnd => {
                self.start(stream, out);
                self.on_end(stream, out);
            }
            TunnelAction::StreamReset | TunnelAction::Error | TunnelAction::Exit => {
                let Some(state) = self.streams.get_mut(&stream) else { return };
                let default = match self.role {
                    Role::Proxy => ResetCode::UserIoError,
                    Role::Server if !state.is_started => ResetCode::TargetRefused,
                    Role::Server => ResetCode::TargetIoError,
                };
                let code = ResetCode::from_text_reason(&message.data).unwrap_or(default);
                let received = state.received + u64::from(state.is_end_received);
                let final_size = if code.follows_data() && !state.is_abandoned { received } else { 0 };
                if final_size > 0 {
                    // Its data counts as buffered until the mux confirms the reset.
                    state.is_reset_by_peer = true;
                    self.close_key(key);
                } else {
                    self.forget(stream);
                }
                out.push(TextInput::Frame(Frame::Reset { stream, code, final_size }));
            }
            TunnelAction::StreamPause => self.set_paused_by_peer(stream, true, out),
            TunnelAction::StreamResume => self.set_paused_by_peer(stream, false, out),
            // These concern the channel, whatever key they carry.
            TunnelAction::Ping
            | TunnelAction::Pong
            | TunnelAction::Auth
            | TunnelAction::AddProxy(_)
            | TunnelAction::RemoveProxy(_)
            | TunnelAction::Granted(_)
            | TunnelAction::Refused(_)
            | TunnelAction::Successor => {
                self.on_control_line(TunnelMessage { key: None, ..message }, out);
            }
        }
    }

    /// Translates a line that belongs to no stream: a ping, an answer to a ping, or a message about the link.
    fn on_control_line(&mut self, message: TunnelMessage, out: &mut Vec<TextInput>) {
        match message.action {
            TunnelAction::Ping if message.data.len() > MAX_PING_DATA => {
                out.push(TextInput::Violation(ProtocolError::LongPing));
            }
            TunnelAction::Ping => {
                out.push(TextInput::Reply(TunnelMessage::control(TunnelAction::Pong, message.data)));
            }
            TunnelAction::Pong => {
                // A simple peer answers without our token: it answers the last ping.
                let token = std::str::from_utf8(&message.data).ok().and_then(|data| data.parse().ok());
                out.push(TextInput::Frame(Frame::Pong { token: token.unwrap_or(self.last_ping) }));
            }
            _ => out.push(TextInput::Frame(Frame::Message(message))),
        }
    }

    /// Translates a line whose key belongs to no open stream: it opens one, on the proxy, or is an error.
    fn on_unknown_key(&mut self, key: StreamKey, message: TunnelMessage, out: &mut Vec<TextInput>) {
        match message.action {
            TunnelAction::StreamStart | TunnelAction::Forward if self.role == Role::Proxy => {
                let Some(stream) = self.last_opened.checked_add(1) else {
                    // The server replaces its link long before; another program may not.
                    let reason = ResetCode::LimitExceeded.to_text_reason();
                    out.push(TextInput::Reply(TunnelMessage::stream(key, TunnelAction::StreamReset, reason)));
                    return;
                };
                self.last_opened = stream;
                self.streams_by_key.insert(key, stream);
                self.streams.insert(stream, TextStream::new(key, key, true));
                out.push(TextInput::Frame(Frame::Open(Open {
                    stream,
                    key,
                    port: 0,
                    priority: Priority::default(),
                    window: self.window,
                    user: None,
                })));
                if message.action == TunnelAction::Forward {
                    self.on_data(stream, message.data, out);
                }
            }
            TunnelAction::Ping
            | TunnelAction::Pong
            | TunnelAction::Auth
            | TunnelAction::AddProxy(_)
            | TunnelAction::Successor => {
                self.on_control_line(TunnelMessage { key: None, ..message }, out);
            }
            TunnelAction::StreamStart
            | TunnelAction::Forward
            | TunnelAction::Response
            | TunnelAction::StreamData
                if !self.closed.contains(&key) =>
            {
                // Reported once: the following lines for this key are in flight already.
                self.report_no_session(key, key, out);
            }
            _ => {}
        }
    }

    /// Sends the peer an ERROR for a key without a stream, and reports it to the caller.
    fn report_no_session(&mut self, wire_key: StreamKey, key: StreamKey, out: &mut Vec<TextInput>) {
        self.closed.insert(wire_key);
        let reason = format!("no session for stream {wire_key}");
        out.push(TextInput::Reply(TunnelMessage::stream(wire_key, TunnelAction::Error, reason)));
        out.push(TextInput::NoSession(key));
    }

    /// Accepts a stream at its STREAM_START, or at the first line that implies it, and delivers its early data.
    fn start(&mut self, stream: u32, out: &mut Vec<TextInput>) {
        let Some(state) = self.streams.get_mut(&stream) else { return };
        if std::mem::replace(&mut state.is_started, true) {
            return;
        }
        out.push(TextInput::Frame(Frame::OpenOk { stream, window: self.window }));
        let (early_data, early_bytes) = state.take_early_data();
        self.early_bytes -= early_bytes;
        for payload in early_data {
            self.on_data(stream, payload, out);
        }
    }

    /// Translates received data of a stream to a DATA frame. Keeps data that arrives before STREAM_START, and asks
    /// the peer to pause the stream once too much of it is buffered.
    fn on_data(&mut self, stream: u32, payload: Bytes, out: &mut Vec<TextInput>) {
        let pause_threshold = self.pause_threshold();
        let Some(state) = self.streams.get_mut(&stream).filter(|state| !state.is_abandoned) else { return };
        if !state.is_started {
            self.early_bytes += state.push_early_data(payload);
            if state.early_bytes() > MAX_EARLY_BYTES || self.early_bytes > MAX_EARLY_BYTES_PER_LINK {
                let (wire_key, key) = (state.wire_key, state.key);
                self.forget(stream);
                self.report_no_session(wire_key, key, out);
                let code = ResetCode::ProtocolViolation;
                out.push(TextInput::Frame(Frame::Reset { stream, code, final_size: 0 }));
            }
            return;
        }
        let offset = state.received;
        state.received += payload.len() as u64;
        self.buffered += payload.len() as u64;
        out.push(TextInput::Frame(Frame::Data { stream, offset, fin: false, payload }));
        if state.buffered() >= pause_threshold && !state.has_paused_peer {
            state.has_paused_peer = true;
            out.push(TextInput::Reply(TunnelMessage::stream(
                state.wire_key,
                TunnelAction::StreamPause,
                Bytes::new(),
            )));
        }
    }

    /// Translates STREAM_END to an empty DATA frame with the END flag.
    fn on_end(&mut self, stream: u32, out: &mut Vec<TextInput>) {
        let Some(state) = self.streams.get_mut(&stream) else { return };
        state.is_end_received = true;
        let (offset, payload) = (state.received, Bytes::new());
        out.push(TextInput::Frame(Frame::Data { stream, offset, fin: true, payload }));
    }

    /// Handles STREAM_PAUSE and STREAM_RESUME of the peer. Resuming gives the mux credit again.
    fn set_paused_by_peer(&mut self, stream: u32, is_paused: bool, out: &mut Vec<TextInput>) {
        let Some(state) = self.streams.get_mut(&stream) else { return };
        state.is_paused_by_peer = is_paused;
        if !is_paused {
            let credit = Frame::Window { stream, consumed: state.sent, window: self.window };
            out.push(TextInput::Frame(credit));
        }
    }

    /// Removes a stream, and adds its key to the recently closed ones. Returns its state; `None` if there is no such
    /// stream.
    fn forget(&mut self, stream: u32) -> Option<TextStream> {
        let mut state = self.streams.remove(&stream)?;
        self.buffered -= state.buffered();
        self.early_bytes -= state.take_early_data().1;
        if !state.is_reset_by_peer {
            self.close_key(state.wire_key);
        }
        Some(state)
    }

    /// Frees the key of a stream for a new one, and adds it to the recently closed keys.
    fn close_key(&mut self, wire_key: StreamKey) {
        self.streams_by_key.remove(&wire_key);
        self.closed.insert(wire_key);
    }

    /// Removes a stream if both directions have ended and all data is consumed.
    fn forget_if_finished(&mut self, stream: u32) {
        if self.streams.get(&stream).is_some_and(TextStream::is_finished) {
            self.forget(stream);
        }
    }

    /// Translates a frame of the mux to the messages in `out`. Returns the acknowledgement of a DATA frame, which the
    /// peer cannot give and which the caller passes back to the mux.
    pub fn translate_outbound(&mut self, frame: Frame, out: &mut Vec<TunnelMessage>) -> Option<Frame> {
        match frame {
            Frame::Open(open) => {
                let wire_key = self.wire_key(open.key);
                self.streams_by_key.insert(wire_key, open.stream);
                self.streams.insert(open.stream, TextStream::new(wire_key, open.key, false));
                out.push(TunnelMessage::stream(wire_key, TunnelAction::StreamStart, Bytes::new()));
                None
            }
            Frame::OpenOk { stream, .. } => {
                let wire_key = self.streams.get(&stream)?.wire_key;
                out.push(TunnelMessage::stream(wire_key, TunnelAction::StreamStart, Bytes::new()));
                None
            }
            Frame::Data { stream, offset, fin, payload } => {
                let state = self.streams.get_mut(&stream)?;
                state.sent = offset + payload.len() as u64;
                if !payload.is_empty() {
                    out.push(TunnelMessage::stream(state.wire_key, TunnelAction::StreamData, payload));
                }
                if fin {
                    state.is_end_sent = true;
                    out.push(TunnelMessage::stream(state.wire_key, TunnelAction::StreamEnd, Bytes::new()));
                }
                let window = if state.is_paused_by_peer { 0 } else { self.window };
                let consumed = state.sent + u64::from(fin);
                self.forget_if_finished(stream);
                Some(Frame::Window { stream, consumed, window })
            }
            Frame::Window { stream, consumed, window } => {
                self.on_window_sent(stream, consumed, window, out);
                None
            }
            Frame::Reset { stream, code, .. } => {
                // The peer, which expects no confirmation of its own reset, may have opened another stream by that key.
                let state = self.forget(stream).filter(|state| !state.is_reset_by_peer)?;
                out.push(TunnelMessage::stream(
                    state.wire_key,
                    TunnelAction::StreamReset,
                    code.to_text_reason(),
                ));
                None
            }
            Frame::Ping { token } => {
                self.last_ping = token;
                out.push(TunnelMessage::control(TunnelAction::Ping, token.to_string()));
                None
            }
            Frame::GoAway { code } => {
                out.push(TunnelMessage::control(TunnelAction::Exit, code.to_text_reason()));
                None
            }
            Frame::Message(message) => {
                out.push(message);
                None
            }
            // The mux of a text link sends no other frames that the peer would understand.
            _ => None,
        }
    }

    /// Translates a WINDOW frame of this side, which is credit for the peer, to STREAM_PAUSE or STREAM_RESUME.
    fn on_window_sent(&mut self, stream: u32, consumed: u64, window: u32, out: &mut Vec<TunnelMessage>) {
        let Some(state) = self.streams.get_mut(&stream) else { return };
        state.acknowledged = consumed;
        // A paused stream is left with less than the whole window.
        let is_paused = window < self.window;
        if is_paused && !std::mem::replace(&mut state.has_paused_peer, true) {
            out.push(TunnelMessage::stream(state.wire_key, TunnelAction::StreamPause, Bytes::new()));
            return;
        }
        if !is_paused
            && state.buffered() <= u64::from(self.window / 4)
            && std::mem::take(&mut state.has_paused_peer)
        {
            out.push(TunnelMessage::stream(state.wire_key, TunnelAction::StreamResume, Bytes::new()));
        }
        self.forget_if_finished(stream);
    }

    /// Returns the key of a stream in the peer's lines. To a three-field peer each stream is a user: it gets the
    /// user's id if that is free, or the next free one. The key of a stream that was closed lately is not free,
    /// because its last lines may still be in flight.
    fn wire_key(&mut self, key: StreamKey) -> StreamKey {
        if !self.is_three_field {
            return key;
        }
        let key_at =
            |offset: u32| StreamKey::new(UserChannelId::new(key.user.bits().wrapping_add(offset)), 0);
        let is_free = |key: StreamKey| !self.streams_by_key.contains_key(&key) && !self.closed.contains(&key);
        if is_free(key_at(0)) {
            return key_at(0);
        }
        let first = self.next_key_offset;
        let found = (0..=u32::MAX).map(|n| first.wrapping_add(n)).find(|&offset| is_free(key_at(offset)));
        self.next_key_offset = found.unwrap_or_default().wrapping_add(1);
        key_at(found.unwrap_or_default())
    }
}
