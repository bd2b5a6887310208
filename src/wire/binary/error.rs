//! Why bytes are no frame.

use super::frame_type::FrameType;
use crate::wire::ActionError;

/// A decoding error. It ends the connection, because the start of the next frame is unknown.
///
/// None of these repeats text of the peer, so each may be logged and sent back without sanitizing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// No frame has this type byte.
    #[error("unknown frame type {0:#04x}")]
    UnknownType(u8),
    /// The checksum in the frame is not that of the received bytes: corruption in transit.
    #[error("corruption in transit: checksum mismatch")]
    Checksum,
    /// A bit or byte that must be zero is not.
    #[error("{0} frame with a reserved bit or byte that is not zero")]
    Reserved(FrameType),
    /// The body is longer than the limit, or of a length that its type does not permit.
    #[error("{kind} frame of {len} bytes: too long or too short for its type")]
    Length {
        /// The frame's type.
        kind: FrameType,
        /// The body length in the header, in bytes.
        len: usize,
    },
    /// A length field inside the body does not match the body's length.
    #[error("{0} frame whose inner length does not fit its body")]
    Truncated(FrameType),
    /// A text field is not UTF-8.
    #[error("{0} frame with text that is not UTF-8")]
    Text(FrameType),
    /// A field has a value outside its range.
    #[error("{kind} frame with an invalid {field} field")]
    Field {
        /// The frame's type.
        kind: FrameType,
        /// The field's name in the table of frames.
        field: &'static str,
    },
    /// The action of a MESSAGE frame is invalid.
    #[error("MESSAGE frame: {0}")]
    Action(#[from] ActionError),
}
