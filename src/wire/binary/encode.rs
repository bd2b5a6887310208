use std::{
    fmt::Write as _,
    net::{IpAddr, SocketAddr},
};

use bytes::{BufMut, BytesMut};

use super::{CHECKSUM, FLAG, FrameType, HEADER, MAX_HANDSHAKE, MAX_NAME, checksum::Checksum};
use crate::{
    ids::StreamKey,
    wire::{Frame, Hello, HelloMode, Open, TunnelMessage, Welcome},
};

/// Writes the frames of one direction of a channel. One that is `default()` writes them unchecked.
#[derive(Debug, Clone, Default)]
pub struct FrameEncoder {
    /// Of all that was written; `None` where frames are not checked.
    checksum: Option<Checksum>,
}

impl FrameEncoder {
    /// Every frame carries its checksum.
    pub fn checked() -> Self {
        Self { checksum: Some(Checksum::default()) }
    }

    /// Appends the whole frame to `out`.
    ///
    /// A name longer than 255 bytes is cut at a character's border. For bulk data prefer
    /// [`data_header`](Self::data_header), which leaves the payload where it is.
    pub fn encode(&mut self, frame: &Frame, out: &mut BytesMut) {
        // Room for any frame without a payload, so that writing its fields never grows the buffer.
        out.reserve(HEADER + CHECKSUM + MAX_HANDSHAKE);
        let start = self.begin(frame.kind(), flags(frame), out);
        body(frame, out);
        self.end(start, &[], out);
    }

    /// Appends the first bytes of a DATA frame, up to the payload, which the caller sends right after it.
    ///
    /// The two go out as two slices of one vectored write: a payload is never copied to stand behind its header.
    pub fn data_header(&mut self, stream: u32, offset: u64, fin: bool, payload: &[u8], out: &mut BytesMut) {
        let start = self.begin(FrameType::Data, flag(fin), out);
        out.put_u32(stream);
        out.put_u64(offset);
        self.end(start, payload, out);
    }

    /// Appends a header that says nothing of the body yet; where it starts.
    fn begin(&self, kind: FrameType, flags: u8, out: &mut BytesMut) -> usize {
        let start = out.len();
        out.put_u8(kind as u8);
        out.put_u8(flags);
        out.put_bytes(0, self.header() - 2);
        start
    }

    /// Completes the header at `start`: the body is what stands behind it, and `rest`.
    fn end(&mut self, start: usize, rest: &[u8], out: &mut BytesMut) {
        let (header, body) = out[start..].split_at_mut(self.header());
        header[4..HEADER].copy_from_slice(&length(body.len() + rest.len()));
        if let (Some(checksum), Some((header, room))) = (&mut self.checksum, header.split_first_chunk_mut()) {
            let to_header = checksum.and_header(*header);
            header[2..4].copy_from_slice(&to_header.folded());
            *checksum = to_header.and(body).and(rest);
            room.copy_from_slice(&checksum.to_wire());
        }
    }

    fn header(&self) -> usize {
        HEADER + if self.checksum.is_some() { CHECKSUM } else { 0 }
    }
}

/// Appends the whole frame, unchecked, to `out`.
pub fn encode(frame: &Frame, out: &mut BytesMut) {
    FrameEncoder::default().encode(frame, out);
}

fn length(len: usize) -> [u8; 4] {
    debug_assert!(u32::try_from(len).is_ok(), "a body of {len} bytes does not fit its length field");
    (len as u32).to_be_bytes()
}

fn flag(set: bool) -> u8 {
    if set { FLAG } else { 0 }
}

fn flags(frame: &Frame) -> u8 {
    flag(match frame {
        Frame::Welcome(welcome) => welcome.resume_secret.is_some(),
        Frame::Data { fin, .. } => *fin,
        Frame::Message(message) => message.key.is_some(),
        _ => false,
    })
}

fn body(frame: &Frame, out: &mut BytesMut) {
    match frame {
        Frame::Hello(hello) => hello_body(hello, out),
        Frame::Challenge { nonce } => out.put_slice(nonce),
        Frame::Proof { mac } => out.put_slice(mac),
        Frame::Welcome(welcome) => {
            welcome_body_without_mac(welcome, out);
            out.put_slice(&welcome.mac);
        }
        Frame::Open(open) => open_body(open, out),
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
        Frame::Blocked { stream, offset } => {
            out.put_u32(*stream);
            out.put_u64(*offset);
        }
        Frame::Priority { stream, priority } => {
            out.put_u32(*stream);
            out.put_u8(*priority as u8);
        }
        Frame::Ping { token } | Frame::Pong { token } => out.put_u64(*token),
        Frame::GoAway { last_stream, code } => {
            out.put_u32(*last_stream);
            out.put_u16(*code as u16);
        }
        Frame::Message(message) => message_body(message, out),
    }
}

/// The body of a HELLO, as the handshake's proofs cover it too.
pub(in crate::wire) fn hello_body(hello: &Hello, out: &mut BytesMut) {
    out.put_u16(hello.version);
    out.put_u8(match hello.mode {
        HelloMode::New => 1,
        HelloMode::Join => 2,
        HelloMode::Resume => 3,
    });
    out.put_u32(hello.max_frame);
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

/// The body of a WELCOME up to its mac, which is what the mac covers.
pub(in crate::wire) fn welcome_body_without_mac(welcome: &Welcome, out: &mut BytesMut) {
    out.put_slice(&welcome.link);
    out.put_u32(welcome.epoch);
    out.put_u16(welcome.channel);
    out.put_u32(welcome.features);
    out.put_u32(welcome.max_streams);
    out.put_u32(welcome.first_window);
    out.put_u32(welcome.grace_ms);
    out.put_u32(welcome.ping_ms);
    if let Some(secret) = &welcome.resume_secret {
        out.put_slice(secret);
    }
}

fn open_body(open: &Open, out: &mut BytesMut) {
    out.put_u32(open.stream);
    key(open.key, out);
    out.put_u16(open.port);
    out.put_u8(open.priority as u8);
    out.put_u32(open.window);
    if let Some(user) = open.user {
        address(user, out);
    }
}

fn address(user: SocketAddr, out: &mut BytesMut) {
    match user.ip() {
        IpAddr::V4(ip) => out.put_slice(&ip.octets()),
        IpAddr::V6(ip) => out.put_slice(&ip.octets()),
    }
    out.put_u16(user.port());
}

fn message_body(message: &TunnelMessage, out: &mut BytesMut) {
    if let Some(of) = message.key {
        key(of, out);
    }
    let length_at = out.len();
    out.put_u8(0);
    // A buffer that grows never fails to be written to.
    _ = write!(out, "{}", message.action);
    out[length_at] = (out.len() - length_at - 1) as u8;
    out.put_slice(&message.data);
}

fn key(key: StreamKey, out: &mut BytesMut) {
    out.put_uint(u64::from(key.user.bits()), 3);
    out.put_u32(key.stream.0);
}
