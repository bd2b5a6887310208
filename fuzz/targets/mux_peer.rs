//! One mux and a hostile peer: the fuzzer chooses the frames, or the lines of a text peer, between commands of an
//! honest owner. Nothing panics, no data beyond the credit is buffered, the acknowledgements that the text adapter
//! makes up are never refused, and after the end of the link no stream is left.
#![no_main]

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use underpass::{
    ids::{Priority, StreamKey, UserChannelId},
    mux::{DataEnd, Mux, MuxConfig, MuxEvent, ProtocolError, Role, TextAdapter, TextInput},
    wire::{Frame, Open, ResetCode, TunnelAction, TunnelMessage, text::FieldCount},
};

/// The initial window of each stream, in bytes.
const WINDOW: u32 = 4096;
/// The maximum window of each stream, in bytes.
const MAX_WINDOW: u32 = 16_384;
/// How many streams may be open at once.
const MAX_STREAMS: usize = 16;
/// The source of all payloads.
const ZEROS: &[u8] = &[0; 8192];

/// An offset or a length near a limit: zero, the window, or a number that overflows.
fn edge_number(a: u8, b: u8) -> u64 {
    match a % 12 {
        0 => 0,
        1 => 1,
        2 => b.into(),
        3 => u64::from(b) * 16,
        4 => u64::from(WINDOW) - 1,
        5 => WINDOW.into(),
        6 => u64::from(WINDOW) + 1,
        7 => u64::from(b) << 20,
        8 => (1 << 62) - 1,
        9 => u32::MAX.into(),
        10 => u64::from(u32::MAX) + u64::from(b),
        _ => u64::from(b) * 256,
    }
}

/// A mux with its owner, who violates no rule.
struct Owner {
    mux: Mux,
    /// Whether this side opens streams.
    is_server: bool,
    /// The adapter, if the peer speaks the text format.
    text: Option<TextAdapter>,
    /// The ids of the established channels.
    channels: Vec<u16>,
    /// The virtual time.
    now: Instant,
    /// Data of each stream that was read and not consumed.
    unread: HashMap<u32, VecDeque<Bytes>>,
    /// Whether the END of each stream was read.
    is_end_read: HashMap<u32, bool>,
}

impl Owner {
    /// A mux whose role and peer the bits of `mode` choose.
    fn new(mode: u8) -> Self {
        let role = if mode & 1 == 0 { Role::Server } else { Role::Proxy };
        let fields = if mode & 4 == 0 { FieldCount::Four } else { FieldCount::Three };
        let is_text = mode & 2 != 0;
        let config = MuxConfig {
            initial_window: WINDOW,
            max_window: MAX_WINDOW,
            max_streams: MAX_STREAMS,
            peer_has_flow_control: !is_text,
            ..MuxConfig::default()
        };
        let now = Instant::now();
        let text = is_text.then(|| TextAdapter::new(role, fields, WINDOW, config.budget.clone()));
        let mut mux = Mux::new(role, config);
        let channels: Vec<u16> = if text.is_some() { vec![0] } else { vec![0, 1] };
        channels.iter().for_each(|&channel| mux.add_channel(channel, now));
        let (unread, is_end_read) = (HashMap::new(), HashMap::new());
        Self { mux, is_server: role == Role::Server, text, channels, now, unread, is_end_read }
    }

    /// Adds a channel with an unused id.
    fn add_channel(&mut self) {
        let free = (0..).find(|id| !self.channels.contains(id)).unwrap_or_default();
        self.mux.add_channel(free, self.now);
        self.channels.push(free);
    }

    /// Removes a channel, as if its connection were lost.
    fn remove_channel(&mut self, channel: u16) {
        self.mux.remove_channel(channel);
        self.channels.retain(|&up| up != channel);
    }

    /// Closes a channel on which the peer has violated the protocol.
    fn close_on_error(&mut self, channel: u16, result: Result<(), ProtocolError>) {
        if result.is_err() {
            self.remove_channel(channel);
        }
    }

    /// Receives one frame or line of the peer.
    fn receive(&mut self, channel: u16, kind: u8, stream: u32, [a, b, c]: [u8; 3]) {
        let (offset, len) = (edge_number(a, b), usize::from(c) * 16);
        if let Some(peer) = &mut self.text {
            if peer.must_stop_reading() {
                return;
            }
            let key = StreamKey::new(UserChannelId::new(stream / 8), stream % 8);
            let action = match kind % 16 {
                0 => TunnelAction::StreamStart,
                1..=4 => TunnelAction::StreamData,
                5 => TunnelAction::StreamEnd,
                6 => TunnelAction::StreamReset,
                7 => TunnelAction::StreamPause,
                8 => TunnelAction::StreamResume,
                9 => TunnelAction::Forward,
                10 => TunnelAction::Response,
                11 => TunnelAction::Ping,
                12 => TunnelAction::Pong,
                13 => TunnelAction::Exit,
                14 => TunnelAction::Error,
                _ => TunnelAction::Auth,
            };
            let key = (b != 255).then_some(key);
            let mut inputs = Vec::new();
            peer.translate_inbound(TunnelMessage { key, action, data: Bytes::from_static(&ZEROS[..len]) }, &mut inputs);
            for input in inputs {
                let result = match input {
                    TextInput::Frame(frame) => self.mux.handle_frame(channel, frame, self.now),
                    TextInput::Reply(message) => self.mux.send_message(channel, message),
                    TextInput::AnnouncedSize { .. } | TextInput::NoSession(_) => Ok(()),
                    TextInput::Violation(error) => Err(error),
                };
                self.close_on_error(channel, result);
            }
            return;
        }
        let window = u32::try_from(edge_number(c, b)).unwrap_or(u32::MAX);
        let priority = Priority::ALL[usize::from(c) % Priority::ALL.len()];
        let code = ResetCode::ALL[usize::from(c) % ResetCode::ALL.len()];
        let key = StreamKey::new(UserChannelId::new(a.into()), b.into());
        let frame = match kind % 16 {
            0..=4 => Frame::Data { stream, offset, fin: kind & 16 != 0, payload: Bytes::from_static(&ZEROS[..len]) },
            5 | 6 => Frame::Window { stream, consumed: offset, window },
            7 => Frame::OpenOk { stream, window },
            8 => Frame::Reset { stream, code, final_size: offset },
            9 => Frame::Window { stream, consumed: 0, window },
            10 => Frame::Priority { stream, priority },
            11 => Frame::Ping { token: offset },
            12 => Frame::Pong { token: offset },
            13 => Frame::GoAway { code },
            14 if c & 1 == 1 => Frame::Channels { serial: window, count: u16::from(a) },
            14 if c & 2 == 2 => Frame::Retire,
            14 if c & 4 == 4 => Frame::Lost { channel: window as u16 % 8 },
            14 => Frame::Message(TunnelMessage::control(TunnelAction::Error, "")),
            _ => Frame::Open(Open { stream, key, port: 80, priority, window, user: None }),
        };
        let result = self.mux.handle_frame(channel, frame, self.now);
        self.close_on_error(channel, result);
    }

    /// Sends up to `frames` frames.
    fn transmit(&mut self, channel: u16, frames: u8) {
        for _ in 0..frames {
            let Some(frame) = self.mux.poll_transmit(channel, self.now) else { return };
            if self.text.is_some()
                && let Frame::Reset { stream, .. } = frame
            {
                self.mux.confirm_reset(stream);
            }
            if let Some(peer) = &mut self.text
                && let Some(acknowledgement) = peer.translate_outbound(frame, &mut Vec::new())
            {
                let result = self.mux.handle_frame(channel, acknowledgement, self.now);
                assert_eq!(result, Ok(()), "an acknowledgement of the text adapter was refused");
            }
        }
    }

    /// Reads a stream, and consumes up to `max_len` bytes of it.
    fn read(&mut self, stream: u32, max_len: usize) {
        let unread = self.unread.entry(stream).or_default();
        let is_end_read = self.is_end_read.entry(stream).or_default();
        *is_end_read |= self.mux.read(stream, unread) == Some(DataEnd::Fin);
        let buffered: usize = unread.iter().map(Bytes::len).sum();
        assert!(self.text.is_some() || buffered <= MAX_WINDOW as usize, "{buffered} bytes are buffered");
        let mut left = max_len;
        while let Some(front) = unread.front_mut() {
            let part = front.split_to(front.len().min(left)).len();
            left -= part;
            if front.is_empty() {
                unread.pop_front();
            }
            self.mux.consume(stream, part as u64, self.now);
            if let Some(peer) = &mut self.text {
                peer.consume(stream, part as u64);
            }
            if left == 0 {
                break;
            }
        }
        if *is_end_read && unread.is_empty() {
            self.mux.consume_end(stream);
        }
    }

    /// Executes a command of the owner.
    fn command(&mut self, kind: u8, stream: u32, [a, b, c]: [u8; 3]) {
        match kind % 11 {
            // Only the server opens streams.
            0 if self.is_server => {
                _ = self.mux.open(StreamKey::new(UserChannelId::new(stream / 8), stream % 8), 80, None, |_| false);
            }
            1 => self.mux.accept(stream),
            2 => {
                let len = self.mux.writable(stream).min(usize::from(a) * 32);
                if len > 0 {
                    self.mux.write(stream, Bytes::from_static(&ZEROS[..len]));
                }
            }
            3 => self.mux.finish(stream),
            4 => {
                self.mux.reset(stream, ResetCode::UserIoError);
                if let Some(peer) = &mut self.text {
                    peer.abandon(stream);
                }
            }
            10 => {
                self.mux.reset_after_data(stream, ResetCode::UserIoError);
                if let Some(peer) = &mut self.text {
                    peer.abandon(stream);
                }
            }
            5 => self.mux.set_paused(stream, a & 1 == 0),
            6 => self.mux.set_priority(stream, Priority::ALL[usize::from(a) % Priority::ALL.len()]),
            7 => {
                self.now += Duration::from_millis(u64::from(a) * 16);
                self.mux.handle_timeout(self.now);
            }
            8 if self.text.is_none() && self.channels.len() < 4 => self.add_channel(),
            9 if b == c => self.remove_channel(u16::from(a % 4)),
            _ => {}
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((mode, ops)) = data.split_first() else { return };
    let mut owner = Owner::new(*mode);
    for [action, target, kind, a, b, c] in ops.as_chunks().0.iter().take(1000) {
        if owner.channels.is_empty() {
            if owner.text.is_some() {
                break;
            }
            // The peer resumes the link.
            owner.add_channel();
        }
        let channel = owner.channels[usize::from(target >> 6) % owner.channels.len()];
        let stream = match target & 63 {
            63 => u32::MAX,
            stream => u32::from(stream),
        };
        match action % 8 {
            0..=3 => owner.receive(channel, *kind, stream, [*a, *b, *c]),
            4 => owner.transmit(channel, *kind),
            5 => owner.read(stream, usize::from(*a) * usize::from(*b)),
            _ => owner.command(*kind, stream, [*a, *b, *c]),
        }
        while let Some(event) = owner.mux.poll_event() {
            if let MuxEvent::ChannelTimedOut { channel } = event {
                owner.remove_channel(channel);
            }
        }
        assert!(owner.mux.stream_count() <= MAX_STREAMS);
    }
    for channel in std::mem::take(&mut owner.channels) {
        owner.mux.remove_channel(channel);
    }
    owner.mux.abort_streams();
    while let Some(event) = owner.mux.poll_event() {
        if let MuxEvent::ResetAfterData { stream, code } = event {
            owner.mux.reset(stream, code);
        }
    }
    assert_eq!(owner.mux.stream_count(), 0);
});
