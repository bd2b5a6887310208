//! Encodes frames into their bytes.

use std::{
    fmt::Write as _,
    net::{IpAddr, SocketAddr},
};

use bytes::{BufMut, BytesMut};

use super::{
    checksum::RunningCrc,
    frame_type::FrameType,
    layout::{CHECKSUM_LEN, FLAG, HEADER, MAX_HANDSHAKE, MAX_NAME},
};
use crate::{
    ids::StreamKey,
    wire::{Frame, Hello, HelloMode, Open, TunnelMessage, Welcome},
};

/// Encodes the frames of one direction of a channel. The default encoder writes no checksums.
#[derive(Debug, Clone, Default)]
pub struct FrameEncoder {
    /// The checksum of all frames encoded so far; `None` on channels without checksums.
    checksum: Option<RunningCrc>,
    /// Whether OPEN carries the public address.
    has_public_address: bool,
}

impl FrameEncoder {
    /// Creates an encoder that adds a checksum to every frame.
    pub fn checked() -> Self {
        Self { checksum: Some(RunningCrc::default()), ..Self::default() }
    }

    /// Sets whether OPEN carries the public address: whether the peer understands that.
    pub(super) fn set_public_address(&mut self, is_carried: bool) {
        self.has_public_address = is_carried;
    }

    /// Appends the whole frame to `out`.
    ///
    /// A name of more than 255 bytes is truncated at a character boundary. For bulk data prefer
    /// [`data_header`](Self::data_header), which does not copy the payload.
    pub fn encode(&mut self, frame: &Frame, out: &mut BytesMut) {
        // Enough for any frame without a payload, so that writing its fields never grows the buffer.
        out.reserve(HEADER + CHECKSUM_LEN + MAX_HANDSHAKE);
        let start = self.begin(frame.kind(), flags(frame), out);
        encode_body(frame, self.has_public_address, out);
        self.finish(start, &[], out);
    }

    /// Appends a DATA frame up to its payload, which the caller sends directly after it.
    ///
    /// Header and payload are two slices of one vectored write, so that the payload is not copied behind its header.
    pub fn data_header(&mut self, stream: u32, offset: u64, fin: bool, payload: &[u8], out: &mut BytesMut) {
        let start = self.begin(FrameType::Data, flag(fin), out);
        out.put_u32(stream);
        out.put_u64(offset);
        self.finish(start, payload, out);
    }

    /// Appends a frame header with zeros for the body length, and for check and checksum if there are any, to `out`.
    /// Returns its offset in `out`.
    fn begin(&self, kind: FrameType, flags: u8, out: &mut BytesMut) -> usize {
        let start = out.len();
        out.put_u8(kind as u8);
        out.put_u8(flags);
        out.put_bytes(0, self.header_len() - 2);
        start
    }

    /// Completes the header at offset `start`. The frame's body is everything in `out` behind the header, followed by
    /// `payload`, which is not in `out`.
    fn finish(&mut self, start: usize, payload: &[u8], out: &mut BytesMut) {
        let (header, body) = out[start..].split_at_mut(self.header_len());
        header[4..HEADER].copy_from_slice(&length_field(body.len() + payload.len()));
        if let (Some(checksum), Some((header, checksum_field))) =
            (&mut self.checksum, header.split_first_chunk_mut())
        {
            let after_header = checksum.update_header(*header);
            header[2..4].copy_from_slice(&after_header.folded());
            *checksum = after_header.update(body).update(payload);
            checksum_field.copy_from_slice(&checksum.to_wire());
        }
    }

    /// Returns the length of a frame header in bytes, with its checksum field if there is one.
    fn header_len(&self) -> usize {
        HEADER + if self.checksum.is_some() { CHECKSUM_LEN } else { 0 }
    }
}

/// Appends the whole frame to `out`, without a checksum.
pub fn encode(frame: &Frame, out: &mut BytesMut) {
    FrameEncoder::default().encode(frame, out);
}

/// Returns the field of a header that contains the length of the body.
fn length_field(len: usize) -> [u8; 4] {
    debug_assert!(u32::try_from(len).is_ok(), "a body of {len} bytes does not fit its length field");
    (len as u32).to_be_bytes()
}

/// Returns the flags byte of a frame whose type has one flag, which is set or not.
fn flag(is_set: bool) -> u8 {
    if is_set { FLAG } else { 0 }
}

/// Returns the flags byte of `frame`.
fn flags(frame: &Frame) -> u8 {
    flag(match frame {
        Frame::Welcome(welcome) => welcome.resume_secret.is_some(),
        Frame::Data { fin, .. } => *fin,
        Frame::Message(message) => message.key.is_some(),
        _ => false,
    })
}

/// Appends the frame's body, without a header, to `out`. `has_public_address` says whether OPEN carries that.
fn encode_body(frame: &Frame, has_public_address: bool, out: &mut BytesMut) {
    match frame {
        Frame::Hello(hello) => hello_body(hello, out),
        Frame::Challenge { nonce } => out.put_slice(nonce),
        Frame::Proof { mac } => out.put_slice(mac),
        Frame::Welcome(welcome) => {
            welcome_body_without_mac(welcome, out);
            out.put_slice(&welcome.mac);
        }
        Frame::Refused { code, version } => {
            out.put_u16(*code as u16);
            out.put_u16(*version);
        }
        Frame::Open(open) => open_body(open, has_public_address, out),
        Frame::OpenOk { stream, window } => {
            out.put_u32(*stream);
            out.put_u32(*window);
        }
        Frame::Data { stream, offset, payload, .. } => {
            out.put_u32(*stream);
            out.put_u64(*offset);
            out.put_slice(payload);
        }
        Frame::Window { stream, consumed, window } => {
            out.put_u32(*stream);
            out.put_u64(*consumed);
            out.put_u32(*window);
        }
        Frame::Reset { stream, code, final_size } => {
            out.put_u32(*stream);
            out.put_u16(*code as u16);
            out.put_u64(*final_size);
        }
        Frame::Priority { stream, priority } => {
            out.put_u32(*stream);
            out.put_u8(*priority as u8);
        }
        Frame::Ping { token } | Frame::Pong { token } => out.put_u64(*token),
        Frame::GoAway { code } => out.put_u16(*code as u16),
        Frame::Channels { serial, count } => {
            out.put_u32(*serial);
            out.put_u16(*count);
        }
        Frame::Retire => {}
        Frame::Lost { channel } => out.put_u16(*channel),
        Frame::Message(message) => message_body(message, out),
    }
}

/// Appends the body of a HELLO. The handshake's proofs cover the same bytes.
pub(in crate::wire) fn hello_body(hello: &Hello, out: &mut BytesMut) {
    out.put_u16(hello.version);
    out.put_u8(match hello.mode {
        HelloMode::New => 1,
        HelloMode::Join => 2,
        HelloMode::Resume => 3,
    });
    // Reserved: the largest frame body in version 1, which never used it.
    out.put_u32(0);
    out.put_u32(hello.features);
    out.put_slice(&hello.nonce);
    out.put_slice(&hello.link);
    out.put_u32(hello.epoch);
    let mut len = hello.name.len().min(MAX_NAME);
    while !hello.name.is_char_boundary(len) {
        len -= 1;
    }
    out.put_u8(len as u8);
    out.put_slice(&hello.name.as_bytes()[..len]);
}

/// Appends the body of a WELCOME without its `mac`: the bytes that the `mac` covers.
pub(in crate::wire) fn welcome_body_without_mac(welcome: &Welcome, out: &mut BytesMut) {
    out.put_slice(&welcome.link);
    out.put_u32(welcome.epoch);
    out.put_u16(welcome.channel);
    out.put_u32(welcome.features);
    out.put_u32(welcome.max_streams);
    out.put_u32(welcome.first_window);
    out.put_u32(welcome.grace_ms);
    if let Some(secret) = &welcome.resume_secret {
        out.put_slice(secret);
    }
}

/// Appends the body of an OPEN frame to `out`.
fn open_body(open: &Open, has_public_address: bool, out: &mut BytesMut) {
    out.put_u32(open.stream);
    encode_key(open.key, out);
    out.put_u16(open.port);
    out.put_u8(open.priority as u8);
    out.put_u32(open.window);
    if let Some(user) = open.user {
        encode_address(user.client, out);
        // The length of the body tells the families apart, so that both have to be of the same.
        let is_encodable = |public: &SocketAddr| public.is_ipv4() == user.client.is_ipv4();
        if let Some(public) = user.public.filter(is_encodable).filter(|_| has_public_address) {
            encode_address(public, out);
        }
    }
}

/// Appends an IP address and its port to `out`.
fn encode_address(addr: SocketAddr, out: &mut BytesMut) {
    match addr.ip() {
        IpAddr::V4(ip) => out.put_slice(&ip.octets()),
        IpAddr::V6(ip) => out.put_slice(&ip.octets()),
    }
    out.put_u16(addr.port());
}

/// Appends the body of a MESSAGE frame to `out`.
fn message_body(message: &TunnelMessage, out: &mut BytesMut) {
    if let Some(key) = message.key {
        encode_key(key, out);
    }
    let length_at = out.len();
    out.put_u8(0);
    // Writing to a growing buffer cannot fail.
    _ = write!(out, "{}", message.action);
    out[length_at] = (out.len() - length_at - 1) as u8;
    out.put_slice(&message.data);
}

/// Appends a stream key: the user channel id in three bytes and the stream id in four.
fn encode_key(key: StreamKey, out: &mut BytesMut) {
    out.put_uint(u64::from(key.user.bits()), 3);
    out.put_u32(key.stream.0);
}
