//! Decodes frames from received bytes.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str,
};

use bytes::{Buf, Bytes, BytesMut};

use super::{
    checksum::RunningCrc,
    error::FrameError,
    frame_type::FrameType,
    layout::{CHECKSUM_LEN, FLAG, HEADER, MAX_OFFSET, VERSION},
};
use crate::{
    ids::{Priority, StreamKey, UserChannelId},
    wire::{Frame, Hello, HelloMode, Open, RefusalCode, ResetCode, TunnelMessage, UserAddresses, Welcome},
};

/// Decodes the frames of one direction of a channel. The default decoder expects no checksums.
#[derive(Debug, Clone, Default)]
pub struct FrameDecoder {
    /// The checksum of all frames decoded so far; `None` on channels without checksums.
    checksum: Option<RunningCrc>,
}

impl FrameDecoder {
    /// Creates a decoder that expects and verifies a checksum in every frame.
    pub fn checked() -> Self {
        Self { checksum: Some(RunningCrc::default()) }
    }

    /// Removes one whole frame from the front of `buf` and returns it; returns `None`, and removes nothing, while the
    /// frame is incomplete.
    ///
    /// The header is checked as soon as its 8 bytes are available, so that a body of more than `max_body` bytes, or of
    /// a length that its type does not permit, is rejected before any of it is buffered. The payload of a DATA frame
    /// shares the memory of `buf` and keeps it alive.
    ///
    /// # Errors
    ///
    /// [`FrameError`] says what is wrong with the frame at the front. `buf` is unchanged, and the connection must be
    /// closed.
    pub fn decode(&mut self, buf: &mut BytesMut, max_body: usize) -> Result<Option<Frame>, FrameError> {
        let Some(mut header) = buf.first_chunk::<HEADER>().copied() else { return Ok(None) };
        let mut body_at = HEADER;
        let mut checksum = None;
        if let Some(before) = self.checksum {
            let after_header = before.update_header(header);
            if header[2..4] != after_header.folded() {
                return Err(FrameError::Checksum);
            }
            header[2..4].fill(0);
            body_at += CHECKSUM_LEN;
            checksum = Some(after_header);
        }
        let Header { kind, has_flag, len } = Header::parse(header)?;
        if len > max_body || !kind.permits_length(has_flag, len) {
            return Err(FrameError::Length { kind, len });
        }
        let end = body_at + len;
        let Some(body) = buf.get(body_at..end) else { return Ok(None) };
        if let Some(after_header) = checksum {
            let after_body = after_header.update(body);
            if buf[HEADER..body_at] != after_body.to_wire() {
                return Err(FrameError::Checksum);
            }
            self.checksum = Some(after_body);
        }
        take_frame(kind, has_flag, buf, body_at, end).map(Some)
    }
}

/// Decodes one frame without a checksum, like [`FrameDecoder::decode`].
///
/// # Errors
///
/// As for [`FrameDecoder::decode`].
pub fn decode(buf: &mut BytesMut, max_body: usize) -> Result<Option<Frame>, FrameError> {
    FrameDecoder::default().decode(buf, max_body)
}

/// Parses the frame in the first `end` bytes of `buf`, whose body begins at `body_at`, and removes it.
fn take_frame(
    kind: FrameType,
    has_flag: bool,
    buf: &mut BytesMut,
    body_at: usize,
    end: usize,
) -> Result<Frame, FrameError> {
    let mut body = FieldReader { kind, rest: &buf[body_at..end] };
    let frame = match kind {
        FrameType::Data => {
            let (stream, offset) = (body.u32()?, body.offset("offset")?);
            let start = end - body.rest.len();
            buf.advance(start);
            let payload = buf.split_to(end - start).freeze();
            return Ok(Frame::Data { stream, offset, fin: has_flag, payload });
        }
        FrameType::Message => {
            let key = if has_flag { Some(body.key()?) } else { None };
            let action = body.short_text()?.parse()?;
            let start = end - body.rest.len();
            let data = Bytes::copy_from_slice(&buf[start..end]);
            buf.advance(end);
            return Ok(Frame::Message(TunnelMessage { key, action, data }));
        }
        FrameType::Hello => Frame::Hello(body.hello()?),
        FrameType::Challenge => Frame::Challenge { nonce: body.bytes()? },
        FrameType::Proof => Frame::Proof { mac: body.bytes()? },
        FrameType::Welcome => Frame::Welcome(body.welcome(has_flag)?),
        FrameType::Refused => {
            Frame::Refused { code: RefusalCode::from_wire(body.u16()?), version: body.u16()? }
        }
        FrameType::Open => Frame::Open(body.open()?),
        FrameType::OpenOk => Frame::OpenOk { stream: body.u32()?, window: body.u32()? },
        FrameType::Window => {
            Frame::Window { stream: body.u32()?, consumed: body.offset("consumed")?, window: body.u32()? }
        }
        FrameType::Reset => {
            Frame::Reset { stream: body.u32()?, code: body.code()?, final_size: body.offset("final size")? }
        }
        FrameType::Priority => Frame::Priority { stream: body.u32()?, priority: body.priority()? },
        FrameType::Ping => Frame::Ping { token: body.u64()? },
        FrameType::Pong => Frame::Pong { token: body.u64()? },
        FrameType::GoAway => Frame::GoAway { code: body.code()? },
        FrameType::Channels => Frame::Channels { serial: body.u32()?, count: body.u16()? },
        FrameType::Retire => Frame::Retire,
        FrameType::Lost => Frame::Lost { channel: body.u16()? },
    };
    if !body.rest.is_empty() {
        return Err(FrameError::Truncated(kind));
    }
    buf.advance(end);
    Ok(frame)
}

/// A parsed frame header.
struct Header {
    /// The frame's type.
    kind: FrameType,
    /// Whether the frame's flag bit is set; each frame type has at most one.
    has_flag: bool,
    /// The body length, in bytes.
    len: usize,
}

impl Header {
    /// Parses a header whose check field, if it has one, was verified and set to zero.
    fn parse([kind, flags, zero @ .., a, b, c, d]: [u8; HEADER]) -> Result<Self, FrameError> {
        let kind = FrameType::from_wire(kind).ok_or(FrameError::UnknownType(kind))?;
        if flags & !kind.permitted_flags() != 0 || zero != [0, 0] {
            return Err(FrameError::Reserved(kind));
        }
        Ok(Self { kind, has_flag: flags & FLAG != 0, len: u32::from_be_bytes([a, b, c, d]) as usize })
    }
}

/// Reads the fields of a frame's body from front to back.
struct FieldReader<'a> {
    /// The frame's type, for errors.
    kind: FrameType,
    /// The bytes of the body that were not read yet.
    rest: &'a [u8],
}

impl<'a> FieldReader<'a> {
    /// Reads a field of `N` bytes.
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], FrameError> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(FrameError::Truncated(self.kind))?;
        self.rest = rest;
        Ok(*head)
    }

    /// Reads an unsigned integer of one byte.
    fn u8(&mut self) -> Result<u8, FrameError> {
        self.bytes().map(u8::from_be_bytes)
    }

    /// Reads a big-endian unsigned integer of two bytes.
    fn u16(&mut self) -> Result<u16, FrameError> {
        self.bytes().map(u16::from_be_bytes)
    }

    /// Reads a big-endian unsigned integer of four bytes.
    fn u32(&mut self) -> Result<u32, FrameError> {
        self.bytes().map(u32::from_be_bytes)
    }

    /// Reads a big-endian unsigned integer of eight bytes.
    fn u64(&mut self) -> Result<u64, FrameError> {
        self.bytes().map(u64::from_be_bytes)
    }

    /// Reads a text with its length in one byte before it.
    fn short_text(&mut self) -> Result<&'a str, FrameError> {
        let len = usize::from(self.u8()?);
        let (text, rest) = self.rest.split_at_checked(len).ok_or(FrameError::Truncated(self.kind))?;
        self.rest = rest;
        str::from_utf8(text).map_err(|_| FrameError::Text(self.kind))
    }

    /// Returns the error for a value outside the range of `field`.
    fn invalid(&self, field: &'static str) -> FrameError {
        FrameError::Field { kind: self.kind, field }
    }

    /// Reads a stream offset; `field` is its name in errors.
    fn offset(&mut self, field: &'static str) -> Result<u64, FrameError> {
        let offset = self.u64()?;
        if offset < MAX_OFFSET { Ok(offset) } else { Err(self.invalid(field)) }
    }

    /// Reads a reset code of two bytes; an unknown number becomes [`ResetCode::Internal`].
    fn code(&mut self) -> Result<ResetCode, FrameError> {
        self.u16().map(ResetCode::from_wire)
    }

    /// Reads a priority of one byte; an unknown number is an error.
    fn priority(&mut self) -> Result<Priority, FrameError> {
        let number = self.u8()?;
        Priority::from_wire(number).ok_or_else(|| self.invalid("priority"))
    }

    /// Reads a stream key: the user channel id in three bytes and the stream id in four.
    fn key(&mut self) -> Result<StreamKey, FrameError> {
        let [a, b, c] = self.bytes()?;
        Ok(StreamKey::new(UserChannelId::new(u32::from_be_bytes([0, a, b, c])), self.u32()?))
    }

    /// Reads HELLO in the layout of every version. The reserved field must be zero in our own version only: in version
    /// 1 it had a value.
    fn hello(&mut self) -> Result<Hello, FrameError> {
        let version = self.u16()?;
        Ok(Hello {
            version,
            mode: match self.u8()? {
                1 => HelloMode::New,
                2 => HelloMode::Join,
                3 => HelloMode::Resume,
                _ => return Err(self.invalid("mode")),
            },
            features: match self.u32()? {
                reserved if reserved != 0 && version == VERSION => return Err(self.invalid("reserved field")),
                _ => self.u32()?,
            },
            nonce: self.bytes()?,
            link: self.bytes()?,
            epoch: self.u32()?,
            name: self.short_text()?.to_owned(),
        })
    }

    /// Reads the body of WELCOME. `with_secret` says whether it contains a resume secret.
    fn welcome(&mut self, with_secret: bool) -> Result<Welcome, FrameError> {
        Ok(Welcome {
            link: self.bytes()?,
            epoch: self.u32()?,
            channel: self.u16()?,
            features: self.u32()?,
            max_streams: self.u32()?,
            first_window: self.u32()?,
            grace_ms: self.u32()?,
            resume_secret: if with_secret { Some(self.bytes()?) } else { None },
            mac: self.bytes()?,
        })
    }

    /// Reads the body of OPEN.
    fn open(&mut self) -> Result<Open, FrameError> {
        Ok(Open {
            stream: self.u32()?,
            key: self.key()?,
            port: self.u16()?,
            priority: self.priority()?,
            window: self.u32()?,
            user: self.user_addresses()?,
        })
    }

    /// Reads the addresses at the end of OPEN. The number of remaining bytes says how many there are, none to two, and
    /// of which family.
    fn user_addresses(&mut self) -> Result<Option<UserAddresses>, FrameError> {
        let is_ipv4 = match self.rest.len() {
            0 => return Ok(None),
            6 | 12 => true,
            _ => false,
        };
        let client = self.address(is_ipv4)?;
        let public = if self.rest.is_empty() { None } else { Some(self.address(is_ipv4)?) };
        Ok(Some(UserAddresses { client, public }))
    }

    /// Reads an IP address of the family and its port.
    fn address(&mut self, is_ipv4: bool) -> Result<SocketAddr, FrameError> {
        let ip = if is_ipv4 {
            IpAddr::V4(Ipv4Addr::from(self.bytes::<4>()?))
        } else {
            IpAddr::V6(Ipv6Addr::from(self.bytes::<16>()?))
        };
        Ok(SocketAddr::new(ip, self.u16()?))
    }
}
