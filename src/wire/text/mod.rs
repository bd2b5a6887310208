//! The text format: one message a line, so that forty lines of any language make a proxy.
//!
//! ```text
//! userChannelId|streamId|action|base64Data     four fields
//! userChannelId|action|base64Data              three fields, the old form: the stream id is 0
//! ```
//!
//! A second field of digits alone is a stream id, and the line has four fields: no action is a number. Empty data may
//! lose its separator (`3F9A1C|1|STREAM_END`). An empty user means the channel itself. Data is base64 of the standard
//! alphabet with padding; the size that STREAM_START carries may also stand as bare digits, which base64 of digits never
//! is: it begins with M, N or O.
//!
//! A proxy registers with `ADDPROXY:port[:group[:targetPort[:weight]]]`, see [`AddProxy`](super::AddProxy).

use std::{fmt::Write as _, str, sync::LazyLock};

use base64::Engine as _;
use bytes::{Buf, Bytes, BytesMut};

use super::{ActionError, TunnelAction, TunnelMessage};
use crate::ids::{StreamId, StreamKey};

#[cfg(test)]
mod tests;

/// The longest line, in bytes and with its `\n`.
pub const MAX_LINE: usize = 1 << 20;

/// Which form a line has. A peer is answered in the form that it speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldCount {
    /// `userChannelId|streamId|action|base64Data`.
    Four,
    /// `userChannelId|action|base64Data`.
    Three,
}

/// A line that is no message. None of these repeats text of the peer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// No `\n` within the limit. Where the next line begins is unknown: the channel is of no more use.
    #[error("a line is too long")]
    TooLong,
    /// User, stream id or action are not UTF-8.
    #[error("a line is not UTF-8")]
    NotUtf8,
    /// Too few separators to name an action, or more than three.
    #[error("a line is USER|STREAM|ACTION|DATA or USER|ACTION|DATA")]
    FieldCount,
    /// The user is neither empty nor six hexadecimal digits, or empty although a stream is named.
    #[error("a user channel id is six hexadecimal digits, like 3F9A1C, or empty for the channel itself")]
    User,
    /// The stream id is no number that fits 32 bits.
    #[error("a stream id is a decimal number")]
    Stream,
    /// The action.
    #[error(transparent)]
    Action(#[from] ActionError),
    /// The data is not base64.
    #[error("data is not base64 of the standard alphabet with padding")]
    Base64,
}

/// Reads one line without its `\n`; a `\r` at its end is tolerated.
///
/// The data of a STREAM_START comes out as decimal digits in whichever way they came in, and empty where it is no
/// size: see [`start_size`].
///
/// # Errors
///
/// [`LineError`] says what is wrong; never [`LineError::TooLong`].
pub fn decode_line(line: &[u8]) -> Result<(TunnelMessage, FieldCount), LineError> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let (user, rest) = field(line);
    let (second, rest) = field(rest.ok_or(LineError::FieldCount)?);
    let (stream, action, data, fields) = if !second.is_empty() && second.iter().all(u8::is_ascii_digit) {
        let (action, data) = field(rest.ok_or(LineError::FieldCount)?);
        (text(second)?.parse().map_err(|_| LineError::Stream)?, action, data, FieldCount::Four)
    } else {
        (StreamId(0), second, rest, FieldCount::Three)
    };
    let key = key(text(user)?, stream)?;
    let data = data.unwrap_or_default();
    let action = match text(action)?.parse() {
        // What should have been an action was the stream id of a line with four fields.
        Err(_) if fields == FieldCount::Three && memchr::memchr(b'|', data).is_some() => {
            return Err(LineError::Stream);
        }
        action => action?,
    };
    let data = if action == TunnelAction::StreamStart { size(data)? } else { base64(data)? };
    Ok((TunnelMessage { key, action, data }, fields))
}

/// Appends `message` and a `\n` to `out`.
///
/// A line of three fields has no room for the stream id: it is left out and reads back as 0, so a user of a proxy
/// that speaks the old form must have one stream at a time. Data beyond some 700 KiB makes a line that no peer takes:
/// the caller sends it in pieces.
pub fn encode_line(message: &TunnelMessage, fields: FieldCount, out: &mut BytesMut) {
    let data_len = base64::encoded_len(message.data.len(), true).unwrap_or(usize::MAX);
    // The user, the separators and any action but a long ADDPROXY fit in 64 bytes, so that one line grows `out` once.
    out.reserve(data_len.saturating_add(64));
    if let Some(key) = message.key {
        // A buffer that grows never fails to be written to.
        _ = write!(out, "{}", key.user);
    }
    if fields == FieldCount::Four {
        _ = write!(out, "|{}", message.key.map_or(StreamId(0), |key| key.stream));
    }
    _ = write!(out, "|{}|", message.action);
    let start = out.len();
    out.resize(start + data_len, 0);
    let written = ENGINE.encode_slice(&message.data, &mut out[start..]);
    debug_assert_eq!(written, Ok(data_len));
    out.extend_from_slice(b"\n");
}

/// The size in bytes that the data of a decoded STREAM_START carries; `None` if it is unknown.
pub fn start_size(data: &[u8]) -> Option<u64> {
    // `u64::from_str` takes a leading '+', the wire does not.
    let digits = data.iter().all(u8::is_ascii_digit);
    str::from_utf8(data).ok().filter(|_| digits)?.parse().ok()
}

/// Takes lines off the front of a buffer, and remembers how far it has looked: a long line that arrives in small
/// pieces is searched once, not once for each piece.
///
/// Belongs to one buffer, to which the driver only appends.
#[derive(Debug)]
pub struct LineDecoder {
    /// The first bytes of the buffer that hold no `\n`.
    scanned: usize,
    limit: usize,
}

impl Default for LineDecoder {
    fn default() -> Self {
        Self::new(MAX_LINE)
    }
}

impl LineDecoder {
    /// A decoder that refuses lines of more than `limit` bytes with their `\n`; at most [`MAX_LINE`].
    pub fn new(limit: usize) -> Self {
        Self { scanned: 0, limit: limit.min(MAX_LINE) }
    }

    /// Changes the limit, for a peer that has proved itself and may now fill more of our memory.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit.min(MAX_LINE);
    }

    /// Takes one line off the front of `buf`; `None` until there is a whole one. Empty lines are skipped.
    ///
    /// # Errors
    ///
    /// After [`LineError::TooLong`] the channel is of no more use. Every other error has taken its line off `buf`, so
    /// that a caller may go on with the next.
    pub fn decode(&mut self, buf: &mut BytesMut) -> Result<Option<(TunnelMessage, FieldCount)>, LineError> {
        loop {
            let Some(end) = memchr::memchr(b'\n', &buf[self.scanned..]).map(|at| self.scanned + at) else {
                self.scanned = buf.len();
                return if buf.len() < self.limit { Ok(None) } else { Err(LineError::TooLong) };
            };
            if end >= self.limit {
                return Err(LineError::TooLong);
            }
            self.scanned = 0;
            let message = match &buf[..end] {
                b"" | b"\r" => None,
                line => Some(decode_line(line)),
            };
            buf.advance(end + 1);
            if let Some(message) = message {
                return message.map(Some);
            }
        }
    }
}

#[cfg(any(target_arch = "x86_64", all(target_arch = "aarch64", target_feature = "neon")))]
type Base64 = base64::engine::Simd;
#[cfg(not(any(target_arch = "x86_64", all(target_arch = "aarch64", target_feature = "neon"))))]
type Base64 = base64::engine::GeneralPurpose;

/// Base64 is all that the text format costs; the accelerated engine was 3 to 5 times as fast as the plain one.
static ENGINE: LazyLock<Base64> = LazyLock::new(|| {
    let config = base64::engine::general_purpose::PAD;
    #[cfg(any(target_arch = "x86_64", all(target_arch = "aarch64", target_feature = "neon")))]
    return Base64::standard(config);
    #[cfg(not(any(target_arch = "x86_64", all(target_arch = "aarch64", target_feature = "neon"))))]
    return Base64::new(&base64::alphabet::STANDARD, config);
});

/// What stands before the first separator and, if there is one, after it.
fn field(line: &[u8]) -> (&[u8], Option<&[u8]>) {
    match memchr::memchr(b'|', line) {
        Some(at) => (&line[..at], Some(&line[at + 1..])),
        None => (line, None),
    }
}

fn text(field: &[u8]) -> Result<&str, LineError> {
    str::from_utf8(field).map_err(|_| LineError::NotUtf8)
}

fn key(user: &str, stream: StreamId) -> Result<Option<StreamKey>, LineError> {
    match user {
        "" if stream == StreamId(0) => Ok(None),
        user => Ok(Some(StreamKey { user: user.parse().map_err(|_| LineError::User)?, stream })),
    }
}

fn base64(data: &[u8]) -> Result<Bytes, LineError> {
    let decoded = ENGINE.decode(data).map(Bytes::from);
    decoded.map_err(|_| match memchr::memchr(b'|', data) {
        Some(_) => LineError::FieldCount,
        None => LineError::Base64,
    })
}

/// The digits of a size. It is only a hint, so what is no size (a proxy may well say -1 for "unknown") is none.
fn size(data: &[u8]) -> Result<Bytes, LineError> {
    let digits = match start_size(data) {
        Some(_) => Bytes::copy_from_slice(data),
        None => base64(data)?,
    };
    Ok(if start_size(&digits).is_some() { digits } else { Bytes::new() })
}
