//! The error codes of RESET and GOAWAY frames, and their form in the text format.

use std::fmt;

/// Why a stream was reset (RESET) or the peer accepts no new streams (GOAWAY): the error code on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum ResetCode {
    /// The operator ended the stream.
    Killed = 1,
    /// Reading from or writing to the user's socket failed, for example because the user sent an RST.
    UserIoError = 2,
    /// Reading from or writing to the target's socket failed, for example because the target sent an RST.
    TargetIoError = 3,
    /// The target refused the TCP connection (`ECONNREFUSED`).
    TargetRefused = 4,
    /// Connecting to the target timed out.
    TargetTimeout = 5,
    /// The target's name could not be resolved, or its host could not be reached.
    TargetUnreachable = 6,
    /// The sender of the code is shutting down.
    Shutdown = 7,
    /// The other side violated the protocol.
    ProtocolViolation = 8,
    /// All channels of the link were lost and none was reestablished within the grace period.
    ChannelLost = 9,
    /// The sender of the code does not know the stream.
    UnknownStream = 10,
    /// A resource limit was reached.
    LimitExceeded = 11,
    /// An internal error of underpass.
    Internal = 12,
    /// The proxy has not answered OPEN in time: neither that the target is connected, nor that it cannot be.
    ProxyTimeout = 13,
    /// The proxy's target leads back to a public port that the proxy serves: every stream would open another one.
    ForwardingLoop = 14,
    /// GOAWAY only. From the server: the link's stream numbers are about to run out, and the proxy should open another
    /// link, while it still serves this one. From the proxy: it has, or needs none, because the server is not one of
    /// its any more.
    LinkReplaced = 15,
    /// The stream carried no byte in either direction for the idle timeout.
    IdleTimeout = 16,
    /// The proxy does not serve the public port any more; the stream was opened before the server knew.
    NotServed = 17,
}

/// The reasons of protocol version 1: the English sentences that its text format has in place of a code's name.
///
/// The text format has no handshake in which a version could be negotiated, so a text peer of version 1 is recognised
/// by nothing else. Without this table a text proxy that is shutting down would be taken for a failed target. The
/// sentences are those of version 1 and do not follow the messages of this version, which are free to change.
const VERSION_1_REASONS: [(&str, ResetCode); 12] = [
    ("killed by the operator", ResetCode::Killed),
    ("the user's connection failed", ResetCode::UserIoError),
    ("the target's connection failed", ResetCode::TargetIoError),
    ("the target refused the connection", ResetCode::TargetRefused),
    ("the target did not answer in time", ResetCode::TargetTimeout),
    ("the target could not be reached", ResetCode::TargetUnreachable),
    ("the peer is shutting down", ResetCode::Shutdown),
    ("the protocol was broken", ResetCode::ProtocolViolation),
    ("the channel was lost", ResetCode::ChannelLost),
    ("no such stream", ResetCode::UnknownStream),
    ("a limit was reached", ResetCode::LimitExceeded),
    ("an internal error", ResetCode::Internal),
];

impl ResetCode {
    /// Every code, in the order of its number.
    pub const ALL: [Self; 17] = [
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
        Self::ProxyTimeout,
        Self::ForwardingLoop,
        Self::LinkReplaced,
        Self::IdleTimeout,
        Self::NotServed,
    ];

    /// Returns the code with the number `code`. A number that this version does not know, which a newer peer may send,
    /// becomes [`Internal`](Self::Internal).
    pub fn from_wire(code: u16) -> Self {
        Self::ALL.into_iter().find(|known| *known as u16 == code).unwrap_or(Self::Internal)
    }

    /// Returns whether the code says that the proxy could not establish a connection to the target.
    pub fn is_connect_failure(self) -> bool {
        matches!(self, Self::TargetRefused | Self::TargetTimeout | Self::TargetUnreachable)
    }

    /// Returns whether the code says that the stream was refused before a connection to the target was established: the
    /// target cannot be reached, or the proxy has no resources for another stream, or does not serve the port any more.
    pub fn is_refusal(self) -> bool {
        self.is_connect_failure() || matches!(self, Self::LimitExceeded | Self::NotServed)
    }

    /// Returns whether a reset with this code follows the data: the local socket of the side that sends it has failed,
    /// or the link has ended, and all bytes that were received before are delivered first, as TCP does. Every other
    /// code discards them, because the stream has to end at once (operator, shutdown, protocol error).
    pub fn follows_data(self) -> bool {
        matches!(self, Self::UserIoError | Self::TargetIoError | Self::ChannelLost)
    }

    /// Returns the code's name in the text format, such as `TARGET_REFUSED`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Killed => "KILLED",
            Self::UserIoError => "USER_IO_ERROR",
            Self::TargetIoError => "TARGET_IO_ERROR",
            Self::TargetRefused => "TARGET_REFUSED",
            Self::TargetTimeout => "TARGET_TIMEOUT",
            Self::TargetUnreachable => "TARGET_UNREACHABLE",
            Self::Shutdown => "SHUTDOWN",
            Self::ProtocolViolation => "PROTOCOL_VIOLATION",
            Self::ChannelLost => "CHANNEL_LOST",
            Self::UnknownStream => "UNKNOWN_STREAM",
            Self::LimitExceeded => "LIMIT_EXCEEDED",
            Self::Internal => "INTERNAL",
            Self::ProxyTimeout => "PROXY_TIMEOUT",
            Self::ForwardingLoop => "FORWARDING_LOOP",
            Self::LinkReplaced => "LINK_REPLACED",
            Self::IdleTimeout => "IDLE_TIMEOUT",
            Self::NotServed => "NOT_SERVED",
        }
    }

    /// Returns the data of a `STREAM_RESET` or `EXIT` line: the code's name, a colon, and the text for people.
    pub fn to_text_reason(self) -> String {
        format!("{}: {self}", self.name())
    }

    /// Reads the code off the data of a `STREAM_RESET`, `ERROR` or `EXIT` line: the name before the first colon, or the
    /// whole data. If that is no name of a code, the whole data may be the sentence that a peer of protocol version 1
    /// sends for the code. Returns `None` for anything else; simple text proxies send free text.
    pub fn from_text_reason(reason: &[u8]) -> Option<Self> {
        let name = reason.split(|byte| *byte == b':').next()?;
        let named = Self::ALL.into_iter().find(|known| known.name().as_bytes() == name);
        named.or_else(|| {
            let sentence = VERSION_1_REASONS.iter().find(|(sentence, _)| sentence.as_bytes() == reason);
            sentence.map(|(_, code)| *code)
        })
    }
}

impl fmt::Display for ResetCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Killed => "killed by the operator",
            Self::UserIoError => "I/O error on the user's connection",
            Self::TargetIoError => "I/O error on the target's connection",
            Self::TargetRefused => "the target refused the connection",
            Self::TargetTimeout => "the target did not answer in time",
            Self::TargetUnreachable => "the target could not be reached",
            Self::Shutdown => "the peer is shutting down",
            Self::ProtocolViolation => "protocol violation",
            Self::ChannelLost => "all channels were lost",
            Self::UnknownStream => "unknown stream",
            Self::LimitExceeded => "a resource limit was reached",
            Self::Internal => "internal error",
            Self::ProxyTimeout => "the proxy did not answer in time",
            Self::ForwardingLoop => "forwarding loop: the target leads back to this service",
            Self::LinkReplaced => "the link is replaced by a new one",
            Self::IdleTimeout => "idle timeout: no byte in either direction",
            Self::NotServed => "the proxy does not serve the port any more",
        })
    }
}

#[cfg(test)]
mod tests;
