use std::{
    fmt::Write as _,
    net::{IpAddr, SocketAddr},
};

use bytes::{BufMut, BytesMut};

use super::{DATA_FIXED, DATA_HEADER, FLAG, FrameType, HEADER, MAX_HANDSHAKE, MAX_NAME};
use crate::{
    ids::StreamKey,
    wire::{Frame, Hello, HelloMode, OpenFrame, TunnelMessage, Welcome},
};

/// Appends the whole frame to `out`.
///
/// A name longer than 255 bytes is cut at a character's border. For bulk data prefer [`data_header`], which leaves
/// the payload where it is.
pub fn encode(frame: &Frame, out: &mut BytesMut) {
    let start = out.len();
    // Room for any frame without a payload, so that writing its fields never grows the buffer.
    out.reserve(HEADER + MAX_HANDSHAKE);
    out.put_u8(frame.kind() as u8);
    out.put_u8(flags(frame));
    out.put_bytes(0, HEADER - 2);
    body(frame, out);
    let len = out.len() - start - HEADER;
    out[start + 4..start + HEADER].copy_from_slice(&length(len));
}

/// The first bytes of a DATA frame, up to the payload of `payload_len` bytes that the caller sends right after it.
///
/// The two go out as two slices of one vectored write: a payload is never copied to stand behind its header.
pub fn data_header(stream: u32, offset: u64, fin: bool, payload_len: usize) -> [u8; DATA_HEADER] {
    let mut header = [0; DATA_HEADER];
    header[0] = FrameType::Data as u8;
    header[1] = flag(fin);
    header[4..8].copy_from_slice(&length(DATA_FIXED + payload_len));
    header[8..12].copy_from_slice(&stream.to_be_bytes());
    header[12..20].copy_from_slice(&offset.to_be_bytes());
    header
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
        Frame::Sync { last, .. } => *last,
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
        Frame::Sync { entries, .. } => {
            for entry in entries {
                out.put_u32(entry.stream);
                out.put_u64(entry.consumed);
                out.put_u64(entry.limit);
                out.put_u8(entry.state);
            }
        }
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
    out.put_u32(welcome.max_streams);
    out.put_u32(welcome.first_window);
    out.put_u32(welcome.grace_ms);
    out.put_u32(welcome.ping_ms);
    if let Some(secret) = &welcome.resume_secret {
        out.put_slice(secret);
    }
}

fn open_body(open: &OpenFrame, out: &mut BytesMut) {
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
