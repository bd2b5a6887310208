use std::collections::{HashMap, HashSet, VecDeque};

use bytes::Bytes;

use super::{
    Role,
    limits::{MAX_CLOSED_KEYS, MAX_EARLY, MAX_HELD},
};
use crate::{
    ids::{Priority, StreamKey, UserChannelId},
    wire::{Frame, Open, ResetCode, TunnelAction, TunnelMessage, text},
};

/// What a line of a text peer means.
#[derive(Debug, PartialEq, Eq)]
pub enum TextInput {
    /// Hand it to the [`Mux`](super::Mux), as if a binary peer had sent it.
    Frame(Frame),
    /// Send it back.
    Reply(TunnelMessage),
    /// The peer told the size of what it will send on this stream.
    AnnouncedSize {
        /// Which stream.
        stream: u32,
        /// In bytes.
        size: u64,
    },
    /// Bytes came for a stream that is not there; a [`Reply`](Self::Reply) says so.
    NoSession(StreamKey),
}

/// Stands between the [`Mux`](super::Mux) and a peer that speaks text: no handles, no offsets, no credit.
///
/// Lines become frames and frames become lines. The credit that such a peer cannot give is made up here: what was
/// written to its channel counts as received. The credit that it would not understand turns into `STREAM_PAUSE` and
/// `STREAM_RESUME`, which it may ignore, and into [`must_stop_reading`](Self::must_stop_reading), which it cannot.
#[derive(Debug)]
pub struct TextAdapter {
    role: Role,
    /// The peer knows no stream ids: each stream looks to it like a user of its own.
    old: bool,
    window: u32,
    keys: HashMap<StreamKey, u32>,
    streams: HashMap<u32, TextStream>,
    last: u32,
    /// Bytes that wait for slow readers, all streams together.
    held: u64,
    closed: ClosedKeys,
    ping: u64,
}

#[derive(Debug)]
struct TextStream {
    /// What the peer calls it.
    key: StreamKey,
    /// What everybody else calls it: another name, if the peer knows no stream ids.
    name: StreamKey,
    /// Whether the peer's START was seen; what comes before waits in `early`.
    started: bool,
    early: VecDeque<Bytes>,
    received: u64,
    end_received: bool,
    /// How much of what was received has left this process.
    passed_on: u64,
    /// What the last WINDOW said, where the end counts as one more byte.
    consumed: u64,
    /// We gave it up; the peer is yet to be told.
    given_up: bool,
    sent: u64,
    end_sent: bool,
    /// Whether we asked the peer to pause, and whether it asked us.
    asked_to_pause: bool,
    paused: bool,
}

impl TextStream {
    fn new(key: StreamKey, name: StreamKey, started: bool) -> Self {
        Self {
            key,
            name,
            started,
            early: VecDeque::new(),
            received: 0,
            end_received: false,
            passed_on: 0,
            consumed: 0,
            given_up: false,
            sent: 0,
            end_sent: false,
            asked_to_pause: false,
            paused: false,
        }
    }

    fn waiting(&self) -> u64 {
        if self.given_up { 0 } else { self.received - self.passed_on }
    }

    fn is_over(&self) -> bool {
        self.end_sent && self.end_received && self.consumed > self.received
    }
}

/// The last keys that were closed: lines for them were under way and are no mistake.
#[derive(Debug, Default)]
struct ClosedKeys {
    order: VecDeque<StreamKey>,
    keys: HashSet<StreamKey>,
}

impl ClosedKeys {
    fn insert(&mut self, key: StreamKey) {
        if self.keys.insert(key) {
            self.order.push_back(key);
        }
        if self.order.len() > MAX_CLOSED_KEYS
            && let Some(oldest) = self.order.pop_front()
        {
            self.keys.remove(&oldest);
        }
    }
}

impl TextAdapter {
    /// A peer that has no stream yet. `window` bounds what is held for each of its streams.
    pub fn new(role: Role, fields: text::FieldCount, window: u32) -> Self {
        Self {
            role,
            old: fields == text::FieldCount::Three,
            window,
            keys: HashMap::new(),
            streams: HashMap::new(),
            last: 0,
            held: 0,
            closed: ClosedKeys::default(),
            ping: 0,
        }
    }

    /// Whether so much waits for a slow reader that the peer's channel must not be read for now. It holds up the
    /// peer's other streams too, which is why a peer does well to honour `STREAM_PAUSE`.
    pub fn must_stop_reading(&self) -> bool {
        self.held >= MAX_HELD
    }

    /// Bytes that the peer sent have left this process. Told at once and not with the WINDOW that says so: that waits
    /// for its turn to be written, and a peer that writes before it reads might wait for us to read.
    pub fn consume(&mut self, stream: u32, bytes: u64) {
        let Some(state) = self.streams.get_mut(&stream) else { return };
        self.held -= state.waiting();
        state.passed_on += bytes;
        debug_assert!(state.passed_on <= state.received, "passed on what never came");
        self.held += state.waiting();
    }

    /// Nobody waits for what the peer sends on this stream any more. Told at once, like [`consume`](Self::consume).
    pub fn abandon(&mut self, stream: u32) {
        if let Some(state) = self.streams.get_mut(&stream) {
            self.held -= state.waiting();
            state.given_up = true;
            state.early.clear();
        }
    }

    /// A line came in.
    pub fn translate_inbound(&mut self, message: TunnelMessage, out: &mut Vec<TextInput>) {
        let Some(key) = message.key else { return self.inbound_control(message, out) };
        let Some(&stream) = self.keys.get(&key) else { return self.inbound_unknown(key, message, out) };
        match message.action {
            TunnelAction::StreamStart => {
                let size = text::start_size(&message.data);
                out.extend(size.map(|size| TextInput::AnnouncedSize { stream, size }));
                self.start(stream, out);
            }
            TunnelAction::Forward | TunnelAction::Response => {
                self.start(stream, out);
                self.data(stream, message.data, out);
            }
            TunnelAction::StreamData => self.data(stream, message.data, out),
            TunnelAction::StreamEnd => {
                self.start(stream, out);
                self.end(stream, out);
            }
            TunnelAction::StreamReset | TunnelAction::Error | TunnelAction::Exit => {
                let likely = match (self.role, self.forget(stream)) {
                    (Role::Proxy, _) => ResetCode::UserIoError,
                    (Role::Server, Some(state)) if !state.started => ResetCode::TargetRefused,
                    (Role::Server, _) => ResetCode::TargetIoError,
                };
                let code = ResetCode::from_text_reason(&message.data).unwrap_or(likely);
                out.push(TextInput::Frame(Frame::Reset { stream, code, final_size: 0 }));
            }
            TunnelAction::StreamPause => self.pause(stream, true, out),
            TunnelAction::StreamResume => self.pause(stream, false, out),
            // About the channel, whatever key they bear.
            TunnelAction::Ping
            | TunnelAction::Pong
            | TunnelAction::Auth
            | TunnelAction::AddProxy(_)
            | TunnelAction::Successor => {
                self.inbound_control(TunnelMessage { key: None, ..message }, out);
            }
        }
    }

    fn inbound_control(&mut self, message: TunnelMessage, out: &mut Vec<TextInput>) {
        match message.action {
            TunnelAction::Ping => {
                out.push(TextInput::Reply(TunnelMessage::control(TunnelAction::Pong, message.data)));
            }
            TunnelAction::Pong => {
                // A simple peer answers without our token: it can only mean the last ping.
                let token = std::str::from_utf8(&message.data).ok().and_then(|data| data.parse().ok());
                out.push(TextInput::Frame(Frame::Pong { token: token.unwrap_or(self.ping) }));
            }
            _ => out.push(TextInput::Frame(Frame::Message(message))),
        }
    }

    fn inbound_unknown(&mut self, key: StreamKey, message: TunnelMessage, out: &mut Vec<TextInput>) {
        match message.action {
            TunnelAction::StreamStart | TunnelAction::Forward if self.role == Role::Proxy => {
                self.last += 1;
                let stream = self.last;
                self.keys.insert(key, stream);
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
                    self.data(stream, message.data, out);
                }
            }
            TunnelAction::Ping
            | TunnelAction::Pong
            | TunnelAction::Auth
            | TunnelAction::AddProxy(_)
            | TunnelAction::Successor => {
                self.inbound_control(TunnelMessage { key: None, ..message }, out);
            }
            TunnelAction::StreamStart
            | TunnelAction::Forward
            | TunnelAction::Response
            | TunnelAction::StreamData
                if !self.closed.keys.contains(&key) =>
            {
                // Said once: what follows for this key is under way already.
                self.no_session(key, key, out);
            }
            _ => {}
        }
    }

    fn no_session(&mut self, key: StreamKey, name: StreamKey, out: &mut Vec<TextInput>) {
        self.closed.insert(key);
        let reason = format!("no session for stream {key}");
        out.push(TextInput::Reply(TunnelMessage::stream(key, TunnelAction::Error, reason)));
        out.push(TextInput::NoSession(name));
    }

    fn start(&mut self, stream: u32, out: &mut Vec<TextInput>) {
        let Some(state) = self.streams.get_mut(&stream) else { return };
        if std::mem::replace(&mut state.started, true) {
            return;
        }
        out.push(TextInput::Frame(Frame::OpenOk { stream, window: self.window }));
        for payload in std::mem::take(&mut state.early) {
            self.data(stream, payload, out);
        }
    }

    fn data(&mut self, stream: u32, payload: Bytes, out: &mut Vec<TextInput>) {
        let Some(state) = self.streams.get_mut(&stream).filter(|state| !state.given_up) else { return };
        if !state.started {
            state.early.push_back(payload);
            let held: usize = state.early.iter().map(|piece| piece.len().max(256)).sum();
            if held > MAX_EARLY {
                let (key, name) = (state.key, state.name);
                self.forget(stream);
                self.no_session(key, name, out);
                let code = ResetCode::ProtocolViolation;
                out.push(TextInput::Frame(Frame::Reset { stream, code, final_size: 0 }));
            }
            return;
        }
        let offset = state.received;
        state.received += payload.len() as u64;
        self.held += payload.len() as u64;
        out.push(TextInput::Frame(Frame::Data { stream, offset, fin: false, payload }));
        if state.waiting() >= u64::from(self.window / 2) && !state.asked_to_pause {
            state.asked_to_pause = true;
            out.push(TextInput::Reply(TunnelMessage::stream(
                state.key,
                TunnelAction::StreamPause,
                Bytes::new(),
            )));
        }
    }

    fn end(&mut self, stream: u32, out: &mut Vec<TextInput>) {
        let Some(state) = self.streams.get_mut(&stream) else { return };
        state.end_received = true;
        let (offset, payload) = (state.received, Bytes::new());
        out.push(TextInput::Frame(Frame::Data { stream, offset, fin: true, payload }));
    }

    fn pause(&mut self, stream: u32, paused: bool, out: &mut Vec<TextInput>) {
        let Some(state) = self.streams.get_mut(&stream) else { return };
        state.paused = paused;
        if !paused {
            let credit = Frame::Window { stream, consumed: state.sent, window: self.window };
            out.push(TextInput::Frame(credit));
        }
    }

    fn forget(&mut self, stream: u32) -> Option<TextStream> {
        let state = self.streams.remove(&stream)?;
        self.keys.remove(&state.key);
        self.held -= state.waiting();
        self.closed.insert(state.key);
        Some(state)
    }

    /// A frame goes out: as the messages in `out`, and with the acknowledgement that the peer cannot give, which goes
    /// back into the mux.
    pub fn translate_outbound(&mut self, frame: Frame, out: &mut Vec<TunnelMessage>) -> Option<Frame> {
        match frame {
            Frame::Open(open) => {
                let key = self.wire_key(open.key);
                self.keys.insert(key, open.stream);
                self.streams.insert(open.stream, TextStream::new(key, open.key, false));
                out.push(TunnelMessage::stream(key, TunnelAction::StreamStart, Bytes::new()));
                None
            }
            Frame::OpenOk { stream, .. } => {
                let key = self.streams.get(&stream)?.key;
                out.push(TunnelMessage::stream(key, TunnelAction::StreamStart, Bytes::new()));
                None
            }
            Frame::Data { stream, offset, fin, payload } => {
                let state = self.streams.get_mut(&stream)?;
                state.sent = offset + payload.len() as u64;
                if !payload.is_empty() {
                    out.push(TunnelMessage::stream(state.key, TunnelAction::StreamData, payload));
                }
                if fin {
                    state.end_sent = true;
                    out.push(TunnelMessage::stream(state.key, TunnelAction::StreamEnd, Bytes::new()));
                }
                let window = if state.paused { 0 } else { self.window };
                let consumed = state.sent + u64::from(fin);
                self.forget_if_over(stream);
                Some(Frame::Window { stream, consumed, window })
            }
            Frame::Window { stream, consumed, window } => {
                let state = self.streams.get_mut(&stream)?;
                state.consumed = consumed;
                // Less than the whole window is what a held stream is left with.
                let held = window < self.window;
                if held && !std::mem::replace(&mut state.asked_to_pause, true) {
                    let pause = TunnelMessage::stream(state.key, TunnelAction::StreamPause, Bytes::new());
                    out.push(pause);
                    return None;
                }
                if !held
                    && state.waiting() <= u64::from(self.window / 4)
                    && std::mem::take(&mut state.asked_to_pause)
                {
                    out.push(TunnelMessage::stream(state.key, TunnelAction::StreamResume, Bytes::new()));
                }
                self.forget_if_over(stream);
                None
            }
            Frame::Reset { stream, code, .. } => {
                let state = self.forget(stream)?;
                out.push(TunnelMessage::stream(state.key, TunnelAction::StreamReset, code.to_text_reason()));
                None
            }
            Frame::Ping { token } => {
                self.ping = token;
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
            // Nothing else goes out on a link whose peer speaks text.
            _ => None,
        }
    }

    fn forget_if_over(&mut self, stream: u32) {
        if self.streams.get(&stream).is_some_and(TextStream::is_over) {
            self.forget(stream);
        }
    }

    /// What the peer calls the stream. To an old peer each stream is a user of its own: the user's id if it is free,
    /// or the next free one, never one that was closed lately, whose last lines may still be under way.
    fn wire_key(&self, key: StreamKey) -> StreamKey {
        if !self.old {
            return key;
        }
        (0u32..)
            .map(|n| StreamKey::new(UserChannelId::new(key.user.bits().wrapping_add(n)), 0))
            .find(|key| !self.keys.contains_key(key) && !self.closed.keys.contains(key))
            .unwrap_or(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: u32 = 256 * 1024;

    fn server() -> (TextAdapter, StreamKey) {
        let mut peer = TextAdapter::new(Role::Server, text::FieldCount::Four, WINDOW);
        let key = StreamKey::new(UserChannelId::new(0xABC123), 1);
        open(&mut peer, 1, key);
        (peer, key)
    }

    fn open(peer: &mut TextAdapter, stream: u32, key: StreamKey) -> Vec<TunnelMessage> {
        let mut out = Vec::new();
        let open = Open { stream, key, port: 80, priority: Priority::default(), window: WINDOW, user: None };
        peer.translate_outbound(Frame::Open(open), &mut out);
        out
    }

    fn inbound(peer: &mut TextAdapter, key: StreamKey, action: TunnelAction, data: &[u8]) -> Vec<TextInput> {
        let mut out = Vec::new();
        peer.translate_inbound(TunnelMessage::stream(key, action, data.to_vec()), &mut out);
        out
    }

    fn data(offset: u64, payload: &'static [u8]) -> TextInput {
        TextInput::Frame(Frame::Data { stream: 1, offset, fin: false, payload: Bytes::from_static(payload) })
    }

    #[test]
    fn data_before_start_waits_for_it() {
        let (mut peer, key) = server();
        assert_eq!(inbound(&mut peer, key, TunnelAction::StreamData, b"ab"), []);
        let out = inbound(&mut peer, key, TunnelAction::StreamStart, b"42");
        let ok = TextInput::Frame(Frame::OpenOk { stream: 1, window: WINDOW });
        assert_eq!(out, [TextInput::AnnouncedSize { stream: 1, size: 42 }, ok, data(0, b"ab")]);
        assert_eq!(inbound(&mut peer, key, TunnelAction::StreamData, b"c"), [data(2, b"c")]);
    }

    #[test]
    fn too_much_data_before_start_has_no_session() {
        let (mut peer, key) = server();
        let mut lines = 0;
        let out = loop {
            lines += 1;
            let out = inbound(&mut peer, key, TunnelAction::StreamData, &[0; 10_000]);
            if !out.is_empty() {
                break out;
            }
        };
        assert_eq!(lines, MAX_EARLY / 10_000 + 1);
        let reply = TunnelMessage::stream(key, TunnelAction::Error, "no session for stream ABC123:1");
        assert_eq!(out[..2], [TextInput::Reply(reply), TextInput::NoSession(key)]);
        assert!(matches!(out[2], TextInput::Frame(Frame::Reset { stream: 1, .. })));
        assert_eq!(inbound(&mut peer, key, TunnelAction::StreamData, b"more"), [], "said once");
    }

    /// A proxy that was stopped looked like a target that had failed.
    #[test]
    fn the_reason_of_a_reset_is_understood() {
        for (reason, code) in [
            (ResetCode::Shutdown.to_text_reason(), ResetCode::Shutdown),
            (ResetCode::TargetTimeout.to_text_reason(), ResetCode::TargetTimeout),
            ("ConnectionRefusedError(111)".to_owned(), ResetCode::TargetRefused),
        ] {
            let (mut peer, key) = server();
            let out = inbound(&mut peer, key, TunnelAction::StreamReset, reason.as_bytes());
            assert_eq!(out, [TextInput::Frame(Frame::Reset { stream: 1, code, final_size: 0 })]);
        }
    }

    #[test]
    fn a_slow_reader_pauses_its_stream_and_then_the_channel() {
        let (mut peer, key) = server();
        inbound(&mut peer, key, TunnelAction::StreamStart, b"");
        let half = vec![0; WINDOW as usize / 2];
        let out = inbound(&mut peer, key, TunnelAction::StreamData, &half);
        let pause = TunnelMessage::stream(key, TunnelAction::StreamPause, "");
        assert_eq!(out[1], TextInput::Reply(pause));
        assert!(!peer.must_stop_reading());
        inbound(&mut peer, key, TunnelAction::StreamData, &vec![0; MAX_HELD as usize - half.len()]);
        assert!(peer.must_stop_reading());
        peer.consume(1, MAX_HELD - 1);
        assert!(!peer.must_stop_reading());
        let mut out = Vec::new();
        peer.translate_outbound(
            Frame::Window { stream: 1, consumed: MAX_HELD - 1, window: WINDOW },
            &mut out,
        );
        assert_eq!(out, [TunnelMessage::stream(key, TunnelAction::StreamResume, "")]);
    }

    #[test]
    fn a_stream_that_was_given_up_holds_nothing_up() {
        let (mut peer, key) = server();
        inbound(&mut peer, key, TunnelAction::StreamStart, b"");
        let much = vec![0; MAX_HELD as usize];
        inbound(&mut peer, key, TunnelAction::StreamData, &much);
        assert!(peer.must_stop_reading());
        peer.abandon(1);
        assert!(!peer.must_stop_reading());
        assert_eq!(inbound(&mut peer, key, TunnelAction::StreamData, &much), []);
        assert!(!peer.must_stop_reading());
    }

    #[test]
    fn to_an_old_peer_each_stream_is_a_user_of_its_own() {
        let mut peer = TextAdapter::new(Role::Server, text::FieldCount::Three, WINDOW);
        let user = UserChannelId::new(0xABC123);
        let first = open(&mut peer, 1, StreamKey::new(user, 1))[0].key.unwrap();
        let second = open(&mut peer, 2, StreamKey::new(user, 2))[0].key.unwrap();
        assert_eq!([first.to_string(), second.to_string()], ["ABC123:0", "ABC124:0"]);
        inbound(&mut peer, first, TunnelAction::StreamReset, b"");
        let third = open(&mut peer, 3, StreamKey::new(user, 3))[0].key.unwrap();
        assert_eq!(third.to_string(), "ABC125:0", "lines for the first may still be under way");
    }

    #[test]
    fn a_finished_stream_is_forgotten() {
        let (mut peer, key) = server();
        inbound(&mut peer, key, TunnelAction::Response, b"xy");
        inbound(&mut peer, key, TunnelAction::StreamEnd, b"");
        let mut out = Vec::new();
        let end = Frame::Data { stream: 1, offset: 0, fin: true, payload: Bytes::new() };
        assert!(peer.translate_outbound(end, &mut out).is_some());
        peer.consume(1, 2);
        peer.translate_outbound(Frame::Window { stream: 1, consumed: 3, window: WINDOW }, &mut out);
        assert!(peer.streams.is_empty() && peer.keys.is_empty());
    }
}
