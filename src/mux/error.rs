//! Protocol errors of a peer.

/// A violation of the protocol by the peer. It closes the channel on which the frame arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// A frame that is not allowed here: a handshake frame after the handshake, or one that only the other side
    /// sends.
    #[error("unexpected {0} frame")]
    UnexpectedFrame(&'static str),
    /// A frame for a stream that was never opened.
    #[error("{0} frame for a stream that was never opened")]
    UnknownStream(&'static str),
    /// An OPEN whose stream id skips too many ids.
    #[error("OPEN frame whose stream id skips too many ids")]
    StreamIdGap,
    /// DATA beyond the limit that this side has advertised.
    #[error("data beyond the flow-control limit of its stream")]
    FlowControl,
    /// An offset that overflows when a length is added to it.
    #[error("stream offset beyond the maximum")]
    OffsetOverflow,
    /// DATA beyond the final size of a stream, or a second END at another offset.
    #[error("final size of a stream changed")]
    FinalSize,
    /// Too many segments of one stream with gaps between them.
    #[error("too many out-of-order segments in one stream")]
    TooManyGaps,
    /// An acknowledgement of bytes that were never sent.
    #[error("acknowledgement of data that was never sent")]
    AckOfUnsentData,
    /// The peer keeps sending requests, or opening streams, and does not read the replies.
    #[error("too many replies are queued because the peer does not read them")]
    TooManyUnreadReplies,
    /// A PING of a text peer with more data than its answer repeats.
    #[error("PING with more data than this side repeats (64 bytes)")]
    LongPing,
    /// Too many glitches: frames that are legal and change nothing.
    #[error("too many frames without effect (glitches)")]
    TooManyGlitches,
}
