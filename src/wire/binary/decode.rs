use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    str,
};

use bytes::{Buf, Bytes, BytesMut};

use super::{CHECKSUM, FLAG, FrameError, FrameType, HEADER, MAX_OFFSET, checksum::Checksum};
use crate::{
    ids::{Priority, StreamKey, UserChannelId},
    wire::{Frame, Hello, HelloMode, Open, ResetCode, TunnelMessage, Welcome},
};

/// Reads the frames of one direction of a channel. One that is `default()` reads unchecked frames.
#[derive(Debug, Clone, Default)]
pub struct FrameDecoder {
    /// Of all that was read; `None` where frames are not checked.
    checksum: Option<Checksum>,
}

impl FrameDecoder {
    /// Every frame carries its checksum.
    pub fn checked() -> Self {
        Self { checksum: Some(Checksum::default()) }
    }

    /// Takes one whole frame off the front of `buf`; `None` until all of it is there, and then nothing is taken.
    ///
    /// A header is judged as soon as its 8 bytes are there, so a body that is longer than `max_body` bytes or of no
    /// length that its type has is refused before any of it is waited for. What a DATA frame carries shares the memory of
    /// `buf`, and keeps it alive.
    ///
    /// # Errors
    ///
    /// [`FrameError`] says what is wrong with the frame at the front. `buf` is as it was, and the connection is of no
    /// more use.
    pub fn decode(&mut self, buf: &mut BytesMut, max_body: usize) -> Result<Option<Frame>, FrameError> {
        let Some(mut header) = buf.first_chunk::<HEADER>().copied() else { return Ok(None) };
        let mut body_at = HEADER;
        let mut checksum = None;
        if let Some(before) = self.checksum {
            let to_header = before.and_header(header);
            if header[2..4] != to_header.folded() {
                return Err(FrameError::Checksum);
            }
            header[2..4].fill(0);
            body_at += CHECKSUM;
            checksum = Some(to_header);
        }
        let Header { kind, flagged, len } = Header::read(header)?;
        if len > max_body || !kind.takes(flagged, len) {
            return Err(FrameError::Length { kind, len });
        }
        let end = body_at + len;
        let Some(body) = buf.get(body_at..end) else { return Ok(None) };
        if let Some(to_header) = checksum {
            let to_end = to_header.and(body);
            if buf[HEADER..body_at] != to_end.to_wire() {
                return Err(FrameError::Checksum);
            }
            self.checksum = Some(to_end);
        }
        frame(kind, flagged, buf, body_at, end).map(Some)
    }
}

/// As [`FrameDecoder::decode`] of unchecked frames.
///
/// # Errors
///
/// As there.
pub fn decode(buf: &mut BytesMut, max_body: usize) -> Result<Option<Frame>, FrameError> {
    FrameDecoder::default().decode(buf, max_body)
}

/// Takes the frame of `end` bytes off the front of `buf`, whose body begins at `body_at`.
fn frame(
    kind: FrameType,
    flagged: bool,
    buf: &mut BytesMut,
    body_at: usize,
    end: usize,
) -> Result<Frame, FrameError> {
    let mut body = Body { kind, rest: &buf[body_at..end] };
    let frame = match kind {
        FrameType::Data => {
            let (stream, offset) = (body.u32()?, body.offset("offset")?);
            let start = end - body.rest.len();
            buf.advance(start);
            let payload = buf.split_to(end - start).freeze();
            return Ok(Frame::Data { stream, offset, fin: flagged, payload });
        }
        FrameType::Message => {
            let key = if flagged { Some(body.key()?) } else { None };
            let action = body.short_text()?.parse()?;
            let start = end - body.rest.len();
            let data = Bytes::copy_from_slice(&buf[start..end]);
            buf.advance(end);
            return Ok(Frame::Message(TunnelMessage { key, action, data }));
        }
        FrameType::Hello => Frame::Hello(body.hello()?),
        FrameType::Challenge => Frame::Challenge { nonce: body.bytes()? },
        FrameType::Proof => Frame::Proof { mac: body.bytes()? },
        FrameType::Welcome => Frame::Welcome(body.welcome(flagged)?),
        FrameType::Open => Frame::Open(body.open()?),
        FrameType::OpenOk => Frame::OpenOk { stream: body.u32()?, window: body.u32()? },
        FrameType::Window => {
            Frame::Window { stream: body.u32()?, consumed: body.offset("consumed")?, window: body.u32()? }
        }
        FrameType::Reset => {
            Frame::Reset { stream: body.u32()?, code: body.code()?, final_size: body.offset("final size")? }
        }
        FrameType::Blocked => Frame::Blocked { stream: body.u32()?, offset: body.offset("offset")? },
        FrameType::Priority => Frame::Priority { stream: body.u32()?, priority: body.priority()? },
        FrameType::Ping => Frame::Ping { token: body.u64()? },
        FrameType::Pong => Frame::Pong { token: body.u64()? },
        FrameType::GoAway => Frame::GoAway { last_stream: body.u32()?, code: body.code()? },
    };
    if !body.rest.is_empty() {
        return Err(FrameError::Truncated(kind));
    }
    buf.advance(end);
    Ok(frame)
}

struct Header {
    kind: FrameType,
    flagged: bool,
    len: usize,
}

impl Header {
    fn read([kind, flags, zero @ .., a, b, c, d]: [u8; HEADER]) -> Result<Self, FrameError> {
        let kind = FrameType::from_wire(kind).ok_or(FrameError::UnknownType(kind))?;
        if flags & !kind.flags() != 0 || zero != [0, 0] {
            return Err(FrameError::Reserved(kind));
        }
        Ok(Self { kind, flagged: flags & FLAG != 0, len: u32::from_be_bytes([a, b, c, d]) as usize })
    }
}

/// What is still unread of a frame's body.
struct Body<'a> {
    kind: FrameType,
    rest: &'a [u8],
}

impl<'a> Body<'a> {
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], FrameError> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(FrameError::Truncated(self.kind))?;
        self.rest = rest;
        Ok(*head)
    }

    fn u8(&mut self) -> Result<u8, FrameError> {
        self.bytes().map(u8::from_be_bytes)
    }

    fn u16(&mut self) -> Result<u16, FrameError> {
        self.bytes().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, FrameError> {
        self.bytes().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, FrameError> {
        self.bytes().map(u64::from_be_bytes)
    }

    fn short_text(&mut self) -> Result<&'a str, FrameError> {
        let len = usize::from(self.u8()?);
        let (text, rest) = self.rest.split_at_checked(len).ok_or(FrameError::Truncated(self.kind))?;
        self.rest = rest;
        str::from_utf8(text).map_err(|_| FrameError::Text(self.kind))
    }

    fn impossible(&self, field: &'static str) -> FrameError {
        FrameError::Field { kind: self.kind, field }
    }

    fn offset(&mut self, field: &'static str) -> Result<u64, FrameError> {
        let offset = self.u64()?;
        if offset < MAX_OFFSET { Ok(offset) } else { Err(self.impossible(field)) }
    }

    fn code(&mut self) -> Result<ResetCode, FrameError> {
        self.u16().map(ResetCode::from_wire)
    }

    fn priority(&mut self) -> Result<Priority, FrameError> {
        let number = self.u8()?;
        Priority::from_wire(number).ok_or_else(|| self.impossible("priority"))
    }

    fn key(&mut self) -> Result<StreamKey, FrameError> {
        let [a, b, c] = self.bytes()?;
        Ok(StreamKey::new(UserChannelId::new(u32::from_be_bytes([0, a, b, c])), self.u32()?))
    }

    fn hello(&mut self) -> Result<Hello, FrameError> {
        Ok(Hello {
            version: self.u16()?,
            mode: match self.u8()? {
                1 => HelloMode::New,
                2 => HelloMode::Join,
                3 => HelloMode::Resume,
                _ => return Err(self.impossible("mode")),
            },
            max_frame: self.u32()?,
            features: self.u32()?,
            nonce: self.bytes()?,
            link: self.bytes()?,
            epoch: self.u32()?,
            name: self.short_text()?.to_owned(),
        })
    }

    fn welcome(&mut self, with_secret: bool) -> Result<Welcome, FrameError> {
        Ok(Welcome {
            link: self.bytes()?,
            epoch: self.u32()?,
            channel: self.u16()?,
            features: self.u32()?,
            max_streams: self.u32()?,
            first_window: self.u32()?,
            grace_ms: self.u32()?,
            ping_ms: self.u32()?,
            resume_secret: if with_secret { Some(self.bytes()?) } else { None },
            mac: self.bytes()?,
        })
    }

    fn open(&mut self) -> Result<Open, FrameError> {
        Ok(Open {
            stream: self.u32()?,
            key: self.key()?,
            port: self.u16()?,
            priority: self.priority()?,
            window: self.u32()?,
            user: self.address()?,
        })
    }

    /// An address at the end of a body: what is left of it tells which kind.
    fn address(&mut self) -> Result<Option<SocketAddr>, FrameError> {
        Ok(match self.rest.len() {
            0 => None,
            6 => Some(SocketAddr::from((Ipv4Addr::from(self.bytes::<4>()?), self.u16()?))),
            _ => Some(SocketAddr::from((Ipv6Addr::from(self.bytes::<16>()?), self.u16()?))),
        })
    }
}
