//! Why bytes are no frame.

use super::frame_type::FrameType;
use crate::wire::ActionError;

/// A decoding error. It ends the connection, because the start of the next frame is unknown.
///
/// None of these repeats text of the peer, so each may be logged and sent back without sanitizing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// No frame has this type byte.
    #[error("message of an unknown type ({0})")]
    UnknownType(u8),
    /// The checksum in the frame is not that of the received bytes: corruption in transit.
    #[error("corruption in transit: checksum mismatch")]
    Checksum,
    /// A bit or byte that must be zero is not.
    #[error("message with reserved bits that are not zero ({0})")]
    Reserved(FrameType),
    /// The body is longer than the limit, or of a length that its type does not permit.
    #[error("message of {len} bytes, too long or too short for its type ({kind})")]
    Length {
        /// The frame's type.
        kind: FrameType,
        /// The body length in the header, in bytes.
        len: usize,
    },
    /// A length field inside the body does not match the body's length.
    #[error("message whose inner length does not fit ({0})")]
    Truncated(FrameType),
    /// A text field is not UTF-8.
    #[error("message with text that is not UTF-8 ({0})")]
    Text(FrameType),
    /// A field has a value outside its range.
    #[error("message with an invalid value ({kind}: {field})")]
    Field {
        /// The frame's type.
        kind: FrameType,
        /// The field's name in the table of frames.
        field: &'static str,
    },
    /// The action of a MESSAGE frame is invalid.
    #[error("{0} (MESSAGE)")]
    Action(#[from] ActionError),
}
