//! The binary format: what our own proxy speaks.
//!
//! A connection begins with the [`PREFACE`], sent by the proxy; then both sides send frames. A frame is a header of
//! [`HEADER`] bytes and a body. Every number is big-endian.
//!
//! ```text
//!  0      1       2         4               8
//!  | type | flags | 0     0 | body length   | body …
//! ```
//!
//! | frame | type | flags | body: field and its length in bytes | body length |
//! | --- | --- | --- | --- | --- |
//! | HELLO | 01 | | version 2, mode 1 (1 new, 2 join, 3 resume), max frame 4, features 4, nonce 16, link 16, epoch 4, length of the name 1, name | 48 to 303 |
//! | CHALLENGE | 02 | | nonce 32 | 32 |
//! | PROOF | 03 | | mac 32 | 32 |
//! | WELCOME | 04 | 1: a resume secret is there | link 16, epoch 4, channel 2, features 4, max streams 4, first window 4, grace in ms 4, ping in ms 4, resume secret 0 or 32, mac 32 | 74 or 106 |
//! | OPEN | 10 | | stream 4, user channel id 3, stream id 4, port 2, priority 1, window 4, user's address 0 or 4 or 16, user's port 0 or 2 | 18, 24 or 36 |
//! | OPEN_OK | 11 | | stream 4, window 4 | 8 |
//! | DATA | 12 | 1: END | stream 4, offset 8, payload | 12 or more |
//! | WINDOW | 13 | | stream 4, consumed 8, window 4 | 16 |
//! | RESET | 14 | | stream 4, code 2, final size 8 | 14 |
//! | BLOCKED | 15 | | stream 4, offset 8 | 12 |
//! | PRIORITY | 16 | | stream 4, priority 1 | 5 |
//! | PING | 20 | | token 8 | 8 |
//! | PONG | 21 | | token 8 | 8 |
//! | GOAWAY | 23 | | last stream 4, code 2 | 6 |
//! | MESSAGE | 24 | 1: a key is there | user channel id 0 or 3, stream id 0 or 4, length of the action 1, action (as in the text format), data | 2 or more, 9 or more with a key |
//!
//! Types are hexadecimal. What is not in the table must be zero or absent: an unknown type, another flag, another
//! length, a set reserved byte or bit is a [`FrameError`], which ends the connection. What is new in a later version
//! is agreed on by HELLO's version and features, so HELLO itself never changes its layout.
//!
//! Features are bits: HELLO offers them, WELCOME says which of them are in force from the next frame on, in both
//! directions.
//!
//! | feature | bit | what it changes |
//! | --- | --- | --- |
//! | [`CHECKSUMS`] | 0 | frames are checked, as below |
//!
//! # Checked frames
//!
//! TCP's own checksum has 16 bits and ends at every relay. TLS finds what was changed; on a channel without it, the
//! frames do:
//!
//! ```text
//!  0      1       2         4               8              12
//!  | type | flags | check   | body length   | checksum     | body …
//! ```
//!
//! The checksum is the CRC-32C of the header, with zeros for the check, and of the body, going on from the checksum of
//! the frame before, at first from 0. The check is the same CRC up to the header's end, its upper half XOR its lower
//! half: a length that was changed is found at once, before anybody waits for as many bytes. Each direction has its
//! own. A mismatch is a [`FrameError::Checksum`]; nothing of the frame is believed.
//!
//! The action of a MESSAGE that registers a proxy is `ADDPROXY:port[:group[:targetPort[:weight]]]`, see
//! [`AddProxy`](super::AddProxy).
//!
//! Offsets count bytes of one direction of a stream and stay below [`MAX_OFFSET`].
//!
//! An IPv6 address travels without its flow label and scope: both mean something on the server's host only.

use super::{ActionError, Frame, handshake::CHECKSUMS};

mod checksum;
mod decode;
mod encode;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

pub use decode::{FrameDecoder, decode};
pub use encode::{FrameEncoder, encode};
pub(super) use encode::{hello_body, welcome_body_without_mac};

/// What a binary connection begins with. F5 begins no UTF-8 text, so the first byte tells the formats apart; CR LF at
/// the end shows a transport that rewrites line ends.
pub const PREFACE: [u8; 8] = *b"\xF5UNDRP\r\n";

/// Length of a frame's header.
pub const HEADER: usize = 8;

/// Length of a frame's checksum, where there is one.
const CHECKSUM: usize = 4;

/// The longest payload of a DATA frame.
pub const MAX_PAYLOAD: usize = 256 << 10;

/// The longest frame body by default.
pub const MAX_FRAME: usize = MAX_PAYLOAD + DATA_FIXED;

/// The longest body in a handshake: HELLO with a name of 255 bytes. A driver passes it to [`decode()`] until the peer
/// has proved itself, so that a stranger cannot make it buffer [`MAX_FRAME`].
pub const MAX_HANDSHAKE: usize = HELLO_FIXED + MAX_NAME;

/// Offsets stay below this, 2^62: far more than any stream carries, and low enough that an offset plus a length or a
/// window never overflows.
pub const MAX_OFFSET: u64 = 1 << 62;

/// The longest name that its length byte can tell.
const MAX_NAME: usize = u8::MAX as usize;

const HELLO_FIXED: usize = 48;
const WELCOME_FIXED: usize = 74;
const SECRET: usize = 32;
const OPEN_FIXED: usize = 18;
const DATA_FIXED: usize = 12;
const KEY: usize = 7;

/// The only flag that any frame has; what it means depends on the type.
const FLAG: u8 = 0x01;

macro_rules! frame_types {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal;)*) => {
        /// The type byte of a frame.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum FrameType {
            $($(#[$doc])* $name = $code,)*
        }

        impl FrameType {
            /// The type with this byte.
            pub fn from_wire(byte: u8) -> Option<Self> {
                match byte {
                    $($code => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// The name in the table of frames, like `OPEN_OK`.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

frame_types! {
    /// See [`Frame::Hello`].
    Hello = 0x01, "HELLO";
    /// See [`Frame::Challenge`].
    Challenge = 0x02, "CHALLENGE";
    /// See [`Frame::Proof`].
    Proof = 0x03, "PROOF";
    /// See [`Frame::Welcome`].
    Welcome = 0x04, "WELCOME";
    /// See [`Frame::Open`].
    Open = 0x10, "OPEN";
    /// See [`Frame::OpenOk`].
    OpenOk = 0x11, "OPEN_OK";
    /// See [`Frame::Data`].
    Data = 0x12, "DATA";
    /// See [`Frame::Window`].
    Window = 0x13, "WINDOW";
    /// See [`Frame::Reset`].
    Reset = 0x14, "RESET";
    /// See [`Frame::Blocked`].
    Blocked = 0x15, "BLOCKED";
    /// See [`Frame::Priority`].
    Priority = 0x16, "PRIORITY";
    /// See [`Frame::Ping`].
    Ping = 0x20, "PING";
    /// See [`Frame::Pong`].
    Pong = 0x21, "PONG";
    /// See [`Frame::GoAway`].
    GoAway = 0x23, "GOAWAY";
    /// See [`Frame::Message`].
    Message = 0x24, "MESSAGE";
}

impl std::fmt::Display for FrameType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl FrameType {
    /// The flags that a frame of this type may have.
    fn flags(self) -> u8 {
        match self {
            Self::Welcome | Self::Data | Self::Message => FLAG,
            _ => 0,
        }
    }

    /// Whether a body of `len` bytes can be one of this type's.
    fn takes(self, flagged: bool, len: usize) -> bool {
        match self {
            Self::Hello => (HELLO_FIXED..=MAX_HANDSHAKE).contains(&len),
            Self::Challenge | Self::Proof => len == 32,
            Self::Welcome => len == WELCOME_FIXED + if flagged { SECRET } else { 0 },
            Self::Open => matches!(len.checked_sub(OPEN_FIXED), Some(0 | 6 | 18)),
            Self::OpenOk | Self::Ping | Self::Pong => len == 8,
            Self::Data => len >= DATA_FIXED,
            Self::Window => len == 16,
            Self::Reset => len == 14,
            Self::Blocked => len == 12,
            Self::Priority => len == 5,
            Self::GoAway => len == 6,
            Self::Message => len >= 2 + if flagged { KEY } else { 0 },
        }
    }
}

impl Frame {
    /// The frame's type byte.
    pub fn kind(&self) -> FrameType {
        match self {
            Self::Hello(_) => FrameType::Hello,
            Self::Challenge { .. } => FrameType::Challenge,
            Self::Proof { .. } => FrameType::Proof,
            Self::Welcome(_) => FrameType::Welcome,
            Self::Open(_) => FrameType::Open,
            Self::OpenOk { .. } => FrameType::OpenOk,
            Self::Data { .. } => FrameType::Data,
            Self::Window { .. } => FrameType::Window,
            Self::Reset { .. } => FrameType::Reset,
            Self::Blocked { .. } => FrameType::Blocked,
            Self::Priority { .. } => FrameType::Priority,
            Self::Ping { .. } => FrameType::Ping,
            Self::Pong { .. } => FrameType::Pong,
            Self::GoAway { .. } => FrameType::GoAway,
            Self::Message(_) => FrameType::Message,
        }
    }
}

/// How the frames of a channel are written and read.
#[derive(Debug, Default)]
pub struct FrameCodec {
    /// What is sent.
    pub encoder: FrameEncoder,
    /// What comes in.
    pub decoder: FrameDecoder,
}

impl FrameCodec {
    /// As both sides agreed on in their handshake, which goes on unchecked itself: its proofs cover it.
    pub fn with_features(features: u32) -> Self {
        if features & CHECKSUMS == 0 {
            return Self::default();
        }
        Self { encoder: FrameEncoder::checked(), decoder: FrameDecoder::checked() }
    }
}

/// Bytes that are no frame. The connection cannot go on: where the next frame begins is unknown.
///
/// None of these repeats text of the peer, so each may be logged and sent back as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// No frame has this type.
    #[error("no frame has the type {0:#04x}")]
    UnknownType(u8),
    /// Its checksum is not that of what came.
    #[error("what came is not what was sent: a checksum is wrong")]
    Checksum,
    /// A bit or byte that must be zero is not.
    #[error("{0} with a reserved bit set")]
    Reserved(FrameType),
    /// The body is longer than the limit, or of no length that this type has.
    #[error("{kind} of {len} bytes")]
    Length {
        /// The type.
        kind: FrameType,
        /// The length that the header names.
        len: usize,
    },
    /// A text inside the body reaches past its end, or ends before it.
    #[error("{0} whose inner length does not fit its body")]
    Truncated(FrameType),
    /// A text is not UTF-8.
    #[error("{0} with text that is not UTF-8")]
    Text(FrameType),
    /// A field has a value that means nothing.
    #[error("{kind} with an impossible {field}")]
    Field {
        /// The type.
        kind: FrameType,
        /// The field's name in the table of frames.
        field: &'static str,
    },
    /// The action of a MESSAGE.
    #[error("MESSAGE: {0}")]
    Action(#[from] ActionError),
}
