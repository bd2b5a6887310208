//! Protocol errors of a peer.

/// A violation of the protocol by the peer. It closes the channel on which the frame arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// A frame that is not allowed here: a handshake frame after the handshake, or one that only the other side
    /// sends.
    #[error("unexpected message ({0})")]
    UnexpectedFrame(&'static str),
    /// A frame for a stream that was never opened.
    #[error("message for a stream that was never opened ({0})")]
    UnknownStream(&'static str),
    /// An OPEN whose stream id skips too many ids.
    #[error("number of a new stream that skips too many numbers (OPEN)")]
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
    #[error("ping with more data than its answer repeats (64 bytes)")]
    LongPing,
    /// Too many glitches: frames that are legal and change nothing.
    #[error("too many messages without effect (glitches)")]
    TooManyGlitches,
}
