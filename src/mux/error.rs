/// What a peer did that no peer may do. It ends the channel it came on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// A frame that has no place here: a handshake's after the handshake, or one that only the other side may send.
    #[error("unexpected {0} frame")]
    Unexpected(&'static str),
    /// A frame for a stream that was never opened.
    #[error("{0} frame for a stream that was never opened")]
    NeverOpened(&'static str),
    /// A stream number far beyond the last one.
    #[error("stream numbers jump too far")]
    NumberJump,
    /// More bytes than the window allows.
    #[error("data beyond the window")]
    BeyondWindow,
    /// An offset so large that adding to it overflows.
    #[error("offset overflow")]
    Overflow,
    /// Bytes beyond the end, or a second end at another place.
    #[error("the size of a finished stream changed")]
    FinalSize,
    /// Too many pieces with gaps between them.
    #[error("too many pieces out of order")]
    Fragmented,
    /// An acknowledgement of bytes that were never sent.
    #[error("acknowledged what was never sent")]
    AckBeyondSent,
    /// More requests than answers it reads.
    #[error("too many unread answers")]
    Backlog,
    /// Frames without end that change nothing.
    #[error("too many frames that say nothing")]
    Glitches,
}
