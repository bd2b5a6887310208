//! The type byte of a frame, its permitted flags and body lengths.

use super::layout::{
    DATA_FIXED, FLAG, HELLO_FIXED, KEY_LEN, MAX_HANDSHAKE, OPEN_FIXED, SECRET_LEN, WELCOME_FIXED,
};
use crate::wire::Frame;

/// Declares [`FrameType`] with its type byte and its name in the table of frames, each written once.
macro_rules! frame_types {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal;)*) => {
        /// The type byte of a frame.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum FrameType {
            $($(#[$doc])* $name = $code,)*
        }

        impl FrameType {
            /// Returns the frame type with this type byte, or `None` if there is none.
            pub fn from_wire(byte: u8) -> Option<Self> {
                match byte {
                    $($code => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// Returns the name of the frame type in the table of frames, like `OPEN_OK`.
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
    /// See [`Frame::Refused`].
    Refused = 0x05, "REFUSED";
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
    /// See [`Frame::Channels`].
    Channels = 0x25, "CHANNELS";
    /// See [`Frame::Retire`].
    Retire = 0x26, "RETIRE";
    /// See [`Frame::Lost`].
    Lost = 0x27, "LOST";
}

impl std::fmt::Display for FrameType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl FrameType {
    /// Returns the flag bits that a frame of this type may have.
    pub(super) fn permitted_flags(self) -> u8 {
        match self {
            Self::Welcome | Self::Data | Self::Message => FLAG,
            _ => 0,
        }
    }

    /// Returns whether a body of this type can be `len` bytes long, with or without the flag.
    pub(super) fn permits_length(self, has_flag: bool, len: usize) -> bool {
        match self {
            Self::Hello => (HELLO_FIXED..=MAX_HANDSHAKE).contains(&len),
            Self::Challenge | Self::Proof => len == 32,
            Self::Welcome => len == WELCOME_FIXED + if has_flag { SECRET_LEN } else { 0 },
            Self::Refused => len == 4,
            Self::Open => matches!(len.checked_sub(OPEN_FIXED), Some(0 | 6 | 12 | 18 | 36)),
            Self::OpenOk | Self::Ping | Self::Pong => len == 8,
            Self::Data => len >= DATA_FIXED,
            Self::Window => len == 16,
            Self::Reset => len == 14,
            Self::Priority => len == 5,
            Self::GoAway | Self::Lost => len == 2,
            Self::Channels => len == 6,
            Self::Retire => len == 0,
            Self::Message => len >= 2 + if has_flag { KEY_LEN } else { 0 },
        }
    }
}

impl Frame {
    /// Returns the frame's type.
    pub fn kind(&self) -> FrameType {
        match self {
            Self::Hello(_) => FrameType::Hello,
            Self::Challenge { .. } => FrameType::Challenge,
            Self::Proof { .. } => FrameType::Proof,
            Self::Welcome(_) => FrameType::Welcome,
            Self::Refused { .. } => FrameType::Refused,
            Self::Open(_) => FrameType::Open,
            Self::OpenOk { .. } => FrameType::OpenOk,
            Self::Data { .. } => FrameType::Data,
            Self::Window { .. } => FrameType::Window,
            Self::Reset { .. } => FrameType::Reset,
            Self::Priority { .. } => FrameType::Priority,
            Self::Ping { .. } => FrameType::Ping,
            Self::Pong { .. } => FrameType::Pong,
            Self::GoAway { .. } => FrameType::GoAway,
            Self::Channels { .. } => FrameType::Channels,
            Self::Retire => FrameType::Retire,
            Self::Lost { .. } => FrameType::Lost,
            Self::Message(_) => FrameType::Message,
        }
    }
}
