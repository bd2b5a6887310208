/// What a peer did that no peer may do. It ends the channel it came on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// A frame that has no place here: a handshake's after the handshake, or one that only the other side may send.
    #[error("unexpected {0} frame")]
    UnexpectedFrame(&'static str),
    /// A frame for a stream that was never opened.
    #[error("{0} frame for a stream that was never opened")]
    UnknownStream(&'static str),
    /// A stream number far beyond the last one.
    #[error("stream numbers jump too far")]
    StreamIdGap,
    /// More bytes than the window allows.
    #[error("data beyond the window")]
    FlowControl,
    /// An offset so large that adding to it overflows.
    #[error("offset overflow")]
    OffsetOverflow,
    /// Bytes beyond the end, or a second end at another place.
    #[error("the size of a finished stream changed")]
    FinalSize,
    /// Too many pieces with gaps between them.
    #[error("too many pieces out of order")]
    TooManyGaps,
    /// An acknowledgement of bytes that were never sent.
    #[error("acknowledged what was never sent")]
    AckOfUnsentData,
    /// More requests than answers it reads.
    #[error("too many unread answers")]
    TooManyUnreadReplies,
    /// Frames without end that change nothing.
    #[error("too many frames that say nothing")]
    TooManyGlitches,
}
