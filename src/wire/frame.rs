use std::{fmt, net::SocketAddr};

use bytes::Bytes;

use super::TunnelMessage;
use crate::ids::{Priority, StreamKey};

/// One frame of the binary format. The byte layout of each stands in [`binary`](super::binary).
///
/// `stream` is the link's own handle for a stream: it rises with every `Open`, and is never used twice in a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Proxy to server, first: who I am and what I want.
    Hello(Hello),
    /// Server to proxy: prove that you hold the token.
    Challenge {
        /// The server's nonce.
        nonce: [u8; 32],
    },
    /// Proxy to server: the proof.
    Proof {
        /// HMAC-SHA-256 over the handshake so far, see [`handshake`](super::handshake).
        mac: [u8; 32],
    },
    /// Server to proxy: you are in, and here is my own proof.
    Welcome(Welcome),
    /// Server to proxy: a user came.
    Open(Open),
    /// Proxy to server: the target took the connection.
    OpenOk {
        /// Which stream.
        stream: u32,
        /// How many bytes the server may send at first.
        window: u32,
    },
    /// Bytes of a stream.
    Data {
        /// Which stream.
        stream: u32,
        /// The offset of the payload's first byte in its direction of the stream.
        offset: u64,
        /// Nothing follows in this direction. Counts as one more byte, so that it is acknowledged too.
        fin: bool,
        /// The bytes.
        payload: Bytes,
    },
    /// Credit and acknowledgement in one: the receiver has passed on all bytes below `consumed` and takes those below
    /// `consumed + window`. Absolute and so idempotent.
    Window {
        /// Which stream.
        stream: u32,
        /// All bytes below this offset have left the receiver for good.
        consumed: u64,
        /// How many more it takes.
        window: u32,
    },
    /// The stream has failed in both directions.
    Reset {
        /// Which stream.
        stream: u32,
        /// Why.
        code: ResetCode,
        /// How many bytes the sender of this frame had sent.
        final_size: u64,
    },
    /// The sender has bytes for this stream and no credit.
    Blocked {
        /// Which stream.
        stream: u32,
        /// The limit it waits at.
        offset: u64,
    },
    /// Server to proxy: the stream's share from now on.
    Priority {
        /// Which stream.
        stream: u32,
        /// The priority.
        priority: Priority,
    },
    /// Are you there?
    Ping {
        /// Comes back in the [`Pong`](Self::Pong).
        token: u64,
    },
    /// I am.
    Pong {
        /// The token of the [`Ping`](Self::Ping).
        token: u64,
    },
    /// The sender takes no new streams and will close when the open ones have ended.
    GoAway {
        /// The last stream it will serve.
        last_stream: u32,
        /// Why.
        code: ResetCode,
    },
    /// A message about the link itself: registration and its answer, errors.
    Message(TunnelMessage),
}

/// The body of [`Frame::Hello`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The version of the format, now 1.
    pub version: u16,
    /// A new link, or one more channel for a link.
    pub mode: HelloMode,
    /// The largest frame body, in bytes, that the proxy takes.
    pub max_frame: u32,
    /// What the proxy can do beyond this version: bits like [`CHECKSUMS`](super::handshake::CHECKSUMS).
    pub features: u32,
    /// The proxy's nonce.
    pub nonce: [u8; 16],
    /// The link to join or resume; zero for a new one.
    pub link: [u8; 16],
    /// The epoch of the resume secret that is proved; 0 for a new link.
    pub epoch: u32,
    /// What the proxy calls itself, at most 255 bytes on the wire. Not cleaned yet: it is the peer's text.
    pub name: String,
}

/// What a [`Hello`] wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HelloMode {
    /// A new link.
    New,
    /// One more channel for a link that is up.
    Join,
    /// A channel for a link that lost all of its own, whether the server has noticed or not.
    Resume,
}

/// The body of [`Frame::Welcome`].
#[derive(Clone, PartialEq, Eq)]
pub struct Welcome {
    /// The link's name, unguessable.
    pub link: [u8; 16],
    /// The link's epoch: it rises whenever the proxy comes back to it.
    pub epoch: u32,
    /// Which of the link's channels this is, from 1.
    pub channel: u16,
    /// Those of HELLO's features that are in force on this channel from here on.
    pub features: u32,
    /// How many streams the server will open at once at the most.
    pub max_streams: u32,
    /// The first window of every stream, in bytes.
    pub first_window: u32,
    /// How long the server keeps a link that has lost all channels, in milliseconds.
    pub grace_ms: u32,
    /// How often the server pings, in milliseconds.
    pub ping_ms: u32,
    /// What a proxy must show from now on to join or resume the link. Sent to the first channel of each epoch.
    pub resume_secret: Option<[u8; 32]>,
    /// The server's own proof, see [`handshake`](super::handshake).
    pub mac: [u8; 32],
}

impl fmt::Debug for Welcome {
    /// Leaves the resume secret out: it must not reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Welcome")
            .field("epoch", &self.epoch)
            .field("channel", &self.channel)
            .field("features", &self.features)
            .finish_non_exhaustive()
    }
}

/// The body of [`Frame::Open`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// The link's handle for the new stream.
    pub stream: u32,
    /// The name that screens and logs on both sides use.
    pub key: StreamKey,
    /// The public port that the user came to.
    pub port: u16,
    /// The stream's share of a crowded channel.
    pub priority: Priority,
    /// How many bytes the proxy may send at first.
    pub window: u32,
    /// The user's address, where the server tells it.
    pub user: Option<SocketAddr>,
}

/// Why a stream was reset or a link goes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum ResetCode {
    /// The operator ended it.
    Killed = 1,
    /// The user's connection failed.
    UserIoError = 2,
    /// The target's connection failed.
    TargetIoError = 3,
    /// The target refused the connection.
    TargetRefused = 4,
    /// The target did not answer in time.
    TargetTimeout = 5,
    /// The target's name could not be resolved or its host not be reached.
    TargetUnreachable = 6,
    /// The peer is shutting down.
    Shutdown = 7,
    /// The peer broke the protocol.
    ProtocolViolation = 8,
    /// The stream's channel was lost.
    ChannelLost = 9,
    /// There is no such stream.
    UnknownStream = 10,
    /// A bound was reached.
    LimitExceeded = 11,
    /// Something failed inside underpass.
    Internal = 12,
}

impl ResetCode {
    /// Every code.
    pub const ALL: [Self; 12] = [
        Self::Killed,
        Self::UserIoError,
        Self::TargetIoError,
        Self::TargetRefused,
        Self::TargetTimeout,
        Self::TargetUnreachable,
        Self::Shutdown,
        Self::ProtocolViolation,
        Self::ChannelLost,
        Self::UnknownStream,
        Self::LimitExceeded,
        Self::Internal,
    ];

    /// The code numbered `code`; what a newer peer may send and we do not know is an internal error of its.
    pub fn from_wire(code: u16) -> Self {
        Self::ALL.into_iter().find(|known| *known as u16 == code).unwrap_or(Self::Internal)
    }

    /// Whether it says that the target was never reached.
    pub fn is_of_target(self) -> bool {
        matches!(self, Self::TargetRefused | Self::TargetTimeout | Self::TargetUnreachable)
    }

    /// The code that is shown as `reason`, which is what our own proxies and servers say in the text format.
    pub fn from_reason(reason: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.to_string().as_bytes() == reason)
    }
}

impl fmt::Display for ResetCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Killed => "killed by the operator",
            Self::UserIoError => "the user's connection failed",
            Self::TargetIoError => "the target's connection failed",
            Self::TargetRefused => "the target refused the connection",
            Self::TargetTimeout => "the target did not answer in time",
            Self::TargetUnreachable => "the target could not be reached",
            Self::Shutdown => "the peer is shutting down",
            Self::ProtocolViolation => "the protocol was broken",
            Self::ChannelLost => "the channel was lost",
            Self::UnknownStream => "no such stream",
            Self::LimitExceeded => "a limit was reached",
            Self::Internal => "an internal error",
        })
    }
}
