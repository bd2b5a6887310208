//! What the mux tells.

use std::time::{Duration, Instant};

use crate::wire::{Open, ResetCode, TunnelMessage};

/// What the mux has to tell its owner.
#[derive(Debug, PartialEq, Eq)]
pub enum MuxEvent {
    /// The peer opened a stream: [`accept`](super::Mux::accept) or [`reset`](super::Mux::reset) it.
    Opened(Open),
    /// The peer accepted our stream.
    Accepted {
        /// Which.
        stream: u32,
    },
    /// There is something to [`read`](super::Mux::read).
    Readable {
        /// Which.
        stream: u32,
    },
    /// There is room again to [`write`](super::Mux::write), after [`writable`](super::Mux::writable) had said 0.
    Writable {
        /// Which.
        stream: u32,
    },
    /// The stream is gone: the peer reset it, it broke the protocol, or no channel is to come for it any more.
    Reset {
        /// Which.
        stream: u32,
        /// Why.
        code: ResetCode,
    },
    /// The stream's channel was lost, and another carries it now, at once or after a while without any.
    FailedOver {
        /// Which.
        stream: u32,
        /// The channel that carries it.
        channel: u16,
    },
    /// The stream is over: both sides have every byte of the other.
    Closed {
        /// Which.
        stream: u32,
    },
    /// The peer says something about the link.
    Message {
        /// On which channel.
        channel: u16,
        /// What.
        message: TunnelMessage,
    },
    /// The peer takes no new streams.
    GoAway {
        /// Why.
        code: ResetCode,
    },
    /// A piece that was [marked](super::Mux::measure_queue_wait) goes out, all of it.
    Dequeued {
        /// Of which stream.
        stream: u32,
        /// When it came.
        written_at: Instant,
    },
    /// A ping came back.
    RttSample {
        /// On which channel.
        channel: u16,
        /// How long it took.
        rtt: Duration,
    },
    /// Nothing was heard on the channel for too long. The owner should close it, and say so.
    ChannelTimedOut {
        /// Which.
        channel: u16,
    },
}

/// Why no stream could be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The link has no channel.
    #[error("the proxy has no channel")]
    NoChannel,
    /// The peer takes nothing, which who drives the channels sees first, or too little for all that is to be said.
    #[error("the proxy is not reading from its channels")]
    Stalled,
    /// As many streams as the link may have are open.
    #[error("the proxy has too many streams")]
    TooManyStreams,
}
