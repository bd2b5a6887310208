//! The text format: one message per line, so that a proxy takes forty lines in any language.
//!
//! ```text
//! userChannelId|streamId|action|base64Data     four fields
//! userChannelId|action|base64Data              three fields, the older form: the stream id is 0
//! ```
//!
//! If the second field consists of digits only, it is a stream id and the line has four fields, because no action is a
//! number. The separator before empty data may be omitted (`3F9A1C|1|STREAM_END`). An empty user means that the message
//! is about the channel. Data is base64 with the standard alphabet and padding. The size in STREAM_START may also be
//! written in plain digits; base64 of digits begins with M, N or O, so that the two cannot be confused.
//!
//! The data of STREAM_RESET and EXIT is a reason. What underpass sends begins with the name of a
//! [`ResetCode`](super::ResetCode) and a colon (`TARGET_REFUSED: the target refused the connection`); only the name
//! decides anything. Peers of protocol version 1 send one fixed sentence for each code, which is understood too. Simple
//! proxies may send any text.
//!
//! EXIT without a user is the end of the server, after which it opens no streams, unless its code is `LINK_REPLACED`:
//! then the server asks for another connection, because the stream numbers of this one run out, and opens streams on
//! this one until the proxy, once it is registered on the other, answers with an EXIT of the same code.
//!
//! The data of an ERROR without a user, which refuses a registration or says why the channel is being closed, begins
//! with the name of an [`ErrorCode`](super::ErrorCode) and a colon (`PORT_IN_USE: port 8080 is in use on the server`).
//!
//! A proxy registers with `ADDPROXY:port[:group[:targetPort[:weight[:networks]]]]`, see [`AddProxy`](super::AddProxy).
//! With the argument `networks` the data names the networks of the users that it admits, such as `allow=10.0.0.0/8
//! deny=10.9.0.0/16` in base64: see [`UserNetworks`](crate::ids::UserNetworks).

use std::{fmt::Write as _, str, sync::LazyLock};

use base64::Engine as _;
use bytes::{Buf, Bytes, BytesMut};

use super::{ActionError, TunnelAction, TunnelMessage};
use crate::ids::{StreamId, StreamKey};

#[cfg(test)]
mod tests;

/// The longest line, in bytes and with its `\n`.
pub const MAX_LINE: usize = 1 << 20;

/// The number of fields in each line (message) of the text format. Underpass answers a peer with as many fields as
/// the peer sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldCount {
    /// `userChannelId|streamId|action|base64Data`.
    Four,
    /// `userChannelId|action|base64Data`.
    Three,
}

/// Why a line is not a message. None of these repeats text of the peer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// No `\n` within the limit. The channel must be closed, because the start of the next line is unknown.
    #[error("a line is too long: no line end within the limit")]
    TooLong,
    /// The user, the stream id or the action is not UTF-8.
    #[error("a line is not UTF-8 text")]
    NotUtf8,
    /// Too few separators for an action, or more than three.
    #[error("a line is USER|STREAM|ACTION|DATA or USER|ACTION|DATA; this one has another number of fields")]
    FieldCount,
    /// The user is neither empty nor six hexadecimal digits, or it is empty although a stream id is given.
    #[error(
        "invalid user channel id: expected six hexadecimal digits, like 3F9A1C, or nothing for the channel itself"
    )]
    User,
    /// The stream id is not a number of 32 bits.
    #[error("invalid stream id: expected a decimal number")]
    Stream,
    /// The action is unknown or its arguments are invalid.
    #[error(transparent)]
    Action(#[from] ActionError),
    /// The data is not base64.
    #[error("data that is not base64 of the standard alphabet with padding")]
    Base64,
}

/// Parses one line without its `\n`; a trailing `\r` is ignored. Returns the message and the line's form.
///
/// The data of a STREAM_START is returned as decimal digits, whether the line has them in base64 or not, and empty if
/// it is no size: see [`start_size`].
///
/// # Errors
///
/// Any [`LineError`] except [`LineError::TooLong`].
pub fn decode_line(line: &[u8]) -> Result<(TunnelMessage, FieldCount), LineError> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let (user, rest) = split_field(line);
    let (second, rest) = split_field(rest.ok_or(LineError::FieldCount)?);
    let (stream, action, data, fields) = if !second.is_empty() && second.iter().all(u8::is_ascii_digit) {
        let (action, data) = split_field(rest.ok_or(LineError::FieldCount)?);
        (text(second)?.parse().map_err(|_| LineError::Stream)?, action, data, FieldCount::Four)
    } else {
        (StreamId(0), second, rest, FieldCount::Three)
    };
    let key = stream_key(text(user)?, stream)?;
    let data = data.unwrap_or_default();
    let action = match text(action)?.parse() {
        // The second field was meant as a stream id, because the line has four fields.
        Err(_) if fields == FieldCount::Three && memchr::memchr(b'|', data).is_some() => {
            return Err(LineError::Stream);
        }
        action => action?,
    };
    let data = if action == TunnelAction::StreamStart { decode_size(data)? } else { decode_base64(data)? };
    Ok((TunnelMessage { key, action, data }, fields))
}

/// Appends `message` and a `\n` to `out`.
///
/// A line of three fields does not carry the stream id, which the peer takes for 0. A user of a proxy with the
/// three-field form must therefore have one stream at a time. Data of more than about 700 KiB makes a line longer than
/// [`MAX_LINE`], which peers reject: the caller must send it in several messages.
pub fn encode_line(message: &TunnelMessage, fields: FieldCount, out: &mut BytesMut) {
    let data_len = base64::encoded_len(message.data.len(), true).unwrap_or(usize::MAX);
    // User, separators and any action except a long ADDPROXY fit in 64 bytes, so that one line grows `out` at most
    // once.
    out.reserve(data_len.saturating_add(64));
    if let Some(key) = message.key {
        // Writing to a growing buffer cannot fail.
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

/// Parses the data of a decoded STREAM_START: the transfer's total size in bytes, or `None` if it is unknown.
pub fn start_size(data: &[u8]) -> Option<u64> {
    // `u64::from_str` accepts a leading '+'; the protocol does not.
    let digits = data.iter().all(u8::is_ascii_digit);
    str::from_utf8(data).ok().filter(|_| digits)?.parse().ok()
}

/// Removes lines from the front of a buffer. Remembers how far it has searched, so that a long line that arrives in
/// small pieces is searched once and not once for each piece.
///
/// Must be used with one buffer only, to which the caller only appends.
#[derive(Debug)]
pub struct LineDecoder {
    /// How many bytes at the front of the buffer were searched and contain no `\n`.
    scanned: usize,
    /// The longest line that is accepted, in bytes, including its `\n`.
    max_line: usize,
}

impl Default for LineDecoder {
    fn default() -> Self {
        Self::new(MAX_LINE)
    }
}

impl LineDecoder {
    /// Creates a decoder that rejects lines of more than `max_line` bytes with their `\n`; at most [`MAX_LINE`].
    pub fn new(max_line: usize) -> Self {
        Self { scanned: 0, max_line: max_line.min(MAX_LINE) }
    }

    /// Removes one line from the front of `buf` and parses it; returns `None` while the line is incomplete. Skips empty
    /// lines.
    ///
    /// # Errors
    ///
    /// After [`LineError::TooLong`] the channel must be closed. Every other error has removed its line from `buf`, so
    /// that the caller can continue with the next.
    pub fn decode(&mut self, buf: &mut BytesMut) -> Result<Option<(TunnelMessage, FieldCount)>, LineError> {
        loop {
            let Some(end) = memchr::memchr(b'\n', &buf[self.scanned..]).map(|at| self.scanned + at) else {
                self.scanned = buf.len();
                return if buf.len() < self.max_line { Ok(None) } else { Err(LineError::TooLong) };
            };
            if end >= self.max_line {
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

/// The base64 engine. Base64 is the whole cost of the text format; the SIMD engine was 3 to 5 times as fast as the
/// portable one.
static ENGINE: LazyLock<Base64> = LazyLock::new(|| {
    let config = base64::engine::general_purpose::PAD;
    #[cfg(any(target_arch = "x86_64", all(target_arch = "aarch64", target_feature = "neon")))]
    return Base64::standard(config);
    #[cfg(not(any(target_arch = "x86_64", all(target_arch = "aarch64", target_feature = "neon"))))]
    return Base64::new(&base64::alphabet::STANDARD, config);
});

/// Splits `line` at its first separator: the field before it, and what follows it if there is one.
fn split_field(line: &[u8]) -> (&[u8], Option<&[u8]>) {
    match memchr::memchr(b'|', line) {
        Some(at) => (&line[..at], Some(&line[at + 1..])),
        None => (line, None),
    }
}

/// Returns a field of a line as text; fails if it is not UTF-8.
fn text(field: &[u8]) -> Result<&str, LineError> {
    str::from_utf8(field).map_err(|_| LineError::NotUtf8)
}

/// Combines the user and stream id fields of a line to a stream key; `None` for a message about the channel.
fn stream_key(user: &str, stream: StreamId) -> Result<Option<StreamKey>, LineError> {
    match user {
        "" if stream == StreamId(0) => Ok(None),
        user => Ok(Some(StreamKey { user: user.parse().map_err(|_| LineError::User)?, stream })),
    }
}

/// Decodes base64. A separator in the data means that the line has too many fields.
fn decode_base64(data: &[u8]) -> Result<Bytes, LineError> {
    let decoded = ENGINE.decode(data).map(Bytes::from);
    decoded.map_err(|_| match memchr::memchr(b'|', data) {
        Some(_) => LineError::FieldCount,
        None => LineError::Base64,
    })
}

/// Decodes the data of a STREAM_START to decimal digits. The size is only a hint, so that anything else (a proxy may
/// send -1 for "unknown") becomes empty and is not an error.
fn decode_size(data: &[u8]) -> Result<Bytes, LineError> {
    let digits = match start_size(data) {
        Some(_) => Bytes::copy_from_slice(data),
        None => decode_base64(data)?,
    };
    Ok(if start_size(&digits).is_some() { digits } else { Bytes::new() })
}
