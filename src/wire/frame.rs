//! The frames of the binary format as typed values. Their byte layout is in [`binary`](super::binary).

use std::{fmt, net::SocketAddr};

use bytes::Bytes;

use super::{message::TunnelMessage, refusal_code::RefusalCode, reset_code::ResetCode};
use crate::ids::{Priority, StreamKey};

/// One frame of the binary format.
///
/// `stream` is the number of a stream within the link. It increases with every [`Open`](Self::Open) and is never
/// reused in a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Proxy to server, first frame: protocol version, identity, and the link that the proxy wants.
    Hello(Hello),
    /// Server to proxy: the nonce that the proxy's proof must cover.
    Challenge {
        /// The server's random nonce.
        nonce: [u8; 32],
    },
    /// Proxy to server: the proof that the proxy knows the token.
    Proof {
        /// HMAC-SHA-256 over the handshake so far, see [`handshake`](super::handshake).
        mac: [u8; 32],
    },
    /// Server to proxy: the channel is admitted; carries the link's parameters and the server's own proof.
    Welcome(Welcome),
    /// Either direction, in place of the next handshake frame: the handshake failed and the connection will be closed.
    Refused {
        /// Why.
        code: RefusalCode,
        /// The protocol version that the sender speaks.
        version: u16,
    },
    /// Server to proxy: a user connected; opens a stream.
    Open(Open),
    /// Proxy to server: the connection to the target is established.
    OpenOk {
        /// The number of the stream within the link.
        stream: u32,
        /// The flow-control window at the start, in bytes: how much the server may send before the first WINDOW.
        window: u32,
    },
    /// Payload of a stream.
    Data {
        /// The number of the stream within the link.
        stream: u32,
        /// The offset of the payload's first byte in this direction of the stream.
        offset: u64,
        /// The END flag: the sender sends nothing more in this direction. Counts as one byte of the offset space, so
        /// that the end is acknowledged too.
        fin: bool,
        /// The payload bytes.
        payload: Bytes,
    },
    /// Flow-control credit and acknowledgement: the receiver has passed on all bytes below `consumed` and accepts those
    /// below `consumed + window`. Both are absolute, which makes the frame idempotent.
    Window {
        /// The number of the stream within the link.
        stream: u32,
        /// The receiver has passed all bytes below this offset to its socket; the sender may free them.
        consumed: u64,
        /// How many bytes beyond `consumed` the receiver accepts.
        window: u32,
    },
    /// Ends the stream abruptly in both directions, after the data that `final_size` names, or at once if that is 0.
    /// The receiver confirms a reset after data with a RESET of the same code whose final size is 0.
    Reset {
        /// The number of the stream within the link.
        stream: u32,
        /// Why.
        code: ResetCode,
        /// How many bytes, where the END counts as one, the receiver delivers before it ends the stream. 0 if it
        /// discards what it has: then the operator, a shutdown or an error ends the stream, or nothing is left to
        /// deliver.
        final_size: u64,
    },
    /// Server to proxy: changes the scheduling priority of the stream.
    Priority {
        /// The number of the stream within the link.
        stream: u32,
        /// The new priority.
        priority: Priority,
    },
    /// Asks the peer for a [`Pong`](Self::Pong): keepalive and RTT sample.
    Ping {
        /// Identifies the ping; the peer echoes it.
        token: u64,
    },
    /// Answers a [`Ping`](Self::Ping).
    Pong {
        /// The token of the ping that is answered.
        token: u64,
    },
    /// The sender accepts no new streams and closes the link when the open ones have ended. With
    /// [`ResetCode::LinkReplaced`], the server asks for another link and accepts streams until there is one, and the
    /// proxy says that there is one, or that it needs none.
    GoAway {
        /// Why.
        code: ResetCode,
    },
    /// A number of channels. From a proxy that opens as many as are useful: the most that it opens. From the server to
    /// such a proxy: how many the link should have for the data that the server sends.
    Channels {
        /// Increases by one with each frame. Frames on different channels overtake each other: the highest one counts.
        serial: u32,
        /// The number of channels.
        count: u16,
    },
    /// The sender has removed all streams from this channel, on which only PING, PONG, GOAWAY and MESSAGE follow. The
    /// proxy begins, the server answers, and the proxy confirms and closes the connection: then both sides know that
    /// the other has received all that was sent on it.
    Retire,
    /// The sender has closed another channel of the link, because the receiver did not answer on it. The connection may
    /// be dead in the other direction, too, so that no FIN or RST arrives: the receiver closes its end, and the streams
    /// continue on other channels at once.
    Lost {
        /// The number of the closed channel.
        channel: u16,
    },
    /// A message about the link itself: registration, its answer, errors, the server's successor.
    Message(TunnelMessage),
}

/// The body of [`Frame::Hello`]. Its layout is the same in every protocol version, so that a server of any version can
/// read the version and refuse it by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The protocol version that the proxy speaks, normally [`VERSION`](super::binary::VERSION).
    pub version: u16,
    /// Whether the proxy asks for a new link, or for one more channel of an existing link.
    pub mode: HelloMode,
    /// The optional protocol features that the proxy supports: bits like [`CHECKSUMS`](super::binary::CHECKSUMS).
    pub features: u32,
    /// The proxy's random nonce, which the server's proof covers.
    pub nonce: [u8; 16],
    /// The id of the link to join or resume. For a new link, that of the one that it replaces, of which the server
    /// keeps the operator's settings; zero if it replaces none.
    pub link: [u8; 16],
    /// The number of the resumption ticket whose secret the proxy proves; 0 for a new link.
    pub epoch: u32,
    /// The proxy's display name, at most 255 bytes on the wire. It is the peer's text and not sanitized yet.
    pub name: String,
}

/// What a proxy asks for in its [`Hello`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HelloMode {
    /// A new link.
    New,
    /// One more channel for a link that has channels.
    Join,
    /// A channel for a link that lost all of its channels, whether the server has noticed that or not.
    Resume,
}

/// The body of [`Frame::Welcome`].
#[derive(Clone, PartialEq, Eq)]
pub struct Welcome {
    /// The link's random id.
    pub link: [u8; 16],
    /// The link's epoch. It increases with every resumption; the server closes channels of older epochs.
    pub epoch: u32,
    /// The number of this channel within the link, from 1.
    pub channel: u16,
    /// The features of HELLO that are in force on this channel from the next frame on.
    pub features: u32,
    /// How many streams the server keeps open at the same time at most.
    pub max_streams: u32,
    /// The flow-control window, in bytes, that each side gives a stream at first if its memory budget allows.
    pub first_window: u32,
    /// How long the server keeps a link that has lost all of its channels, in milliseconds.
    pub grace_ms: u32,
    /// The secret that the proxy must prove from now on to join or resume the link. Present for a new link and for a
    /// resumption, absent for a channel that joins.
    pub resume_secret: Option<[u8; 32]>,
    /// The server's proof that it knows the token, an HMAC; see [`handshake`](super::handshake).
    pub mac: [u8; 32],
}

impl fmt::Debug for Welcome {
    /// Omits the resume secret, which must not reach a log.
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
    /// The number of the new stream within the link.
    pub stream: u32,
    /// The stream's key, by which screens and logs on both sides name it.
    pub key: StreamKey,
    /// The public port on which the server accepted the user.
    pub port: u16,
    /// The stream's scheduling priority.
    pub priority: Priority,
    /// The initial flow-control window, in bytes: how much the proxy may send before the first WINDOW.
    pub window: u32,
    /// The ends of the user's connection. `None` on links in the text format, which does not carry them, and for a
    /// connection that is not of a user: the health check of a load balancer.
    pub user: Option<UserAddresses>,
}

/// The ends of a user's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserAddresses {
    /// The user's address.
    pub client: SocketAddr,
    /// The address that the user connected to, of the same family; `None` if the peer does not transmit it
    /// ([`PUBLIC_ADDRESS`](super::binary::PUBLIC_ADDRESS)).
    pub public: Option<SocketAddr>,
}
