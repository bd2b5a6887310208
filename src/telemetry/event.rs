use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use super::Content;
use crate::ids::{ChannelId, ProxyId, ServiceKey, StreamKey, UserChannelId};

/// One lifecycle event. Rare by design: nothing is ever an event for each chunk.
#[derive(Debug, Clone)]
pub struct Event {
    /// When it happened: wall-clock milliseconds since the Unix epoch, for display only.
    pub epoch_ms: u64,
    /// What happened.
    pub kind: EventKind,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    /// The server listens for proxies.
    Listening {
        /// Where.
        addr: SocketAddr,
    },
    /// A public port was opened.
    ServiceOpened {
        /// Which.
        service: ServiceKey,
    },
    /// A public port was closed.
    ServiceClosed {
        /// Which.
        service: ServiceKey,
    },
    /// A proxy proved itself.
    ProxyConnected {
        /// Which.
        proxy: ProxyId,
        /// What it calls itself, cleaned.
        name: String,
        /// Where it comes from.
        addr: SocketAddr,
    },
    /// A proxy serves a public port from now on.
    ProxyRegistered {
        /// Which proxy.
        proxy: ProxyId,
        /// Which service.
        service: ServiceKey,
    },
    /// A proxy was refused a public port.
    RegistrationRefused {
        /// Which proxy.
        proxy: ProxyId,
        /// Why.
        reason: String,
    },
    /// A proxy is gone.
    ProxyDisconnected {
        /// Which.
        proxy: ProxyId,
        /// What it called itself.
        name: String,
        /// Why.
        reason: DisconnectReason,
    },
    /// A proxy has lost its last channel, and its streams wait for another.
    GracePeriodStarted {
        /// Which.
        proxy: ProxyId,
        /// For how long at the most.
        grace: Duration,
    },
    /// A proxy has come back, and its streams go on.
    ProxyResumed {
        /// Which.
        proxy: ProxyId,
        /// So long after its last channel was lost.
        after: Duration,
    },
    /// A proxy has one more channel.
    ChannelConnected {
        /// Which.
        channel: ChannelId,
        /// Where it comes from.
        addr: SocketAddr,
    },
    /// A proxy has one channel less.
    ChannelDisconnected {
        /// Which.
        channel: ChannelId,
        /// Why.
        reason: DisconnectReason,
    },
    /// A user's first connection came.
    UserJoined {
        /// Which.
        user: UserChannelId,
        /// The user's address.
        addr: IpAddr,
        /// The service it came to.
        service: ServiceKey,
    },
    /// A user's last connection ended, and none came for a while.
    UserLeft {
        /// Which.
        user: UserChannelId,
    },
    /// A user connected.
    StreamOpened {
        /// Which stream.
        key: StreamKey,
        /// The user's address.
        addr: SocketAddr,
        /// The service it came to.
        service: ServiceKey,
    },
    /// A proxy was chosen for a stream.
    StreamAssigned {
        /// Which stream.
        key: StreamKey,
        /// The proxy.
        proxy: ProxyId,
    },
    /// A stream ended.
    StreamEnded {
        /// Which stream.
        key: StreamKey,
        /// Why.
        reason: EndReason,
        /// Bytes that went to the user.
        down: u64,
        /// Bytes that came from the user.
        up: u64,
        /// What it carried. Whoever samples has never seen a stream that lived between two samples.
        content: Option<Arc<Content>>,
    },
    /// A user was turned away before it became a stream.
    UserRejected {
        /// The user's address.
        addr: SocketAddr,
        /// The service it came to.
        service: ServiceKey,
        /// Why.
        reason: String,
    },
    /// A connection on the tunnel port never became a channel.
    HandshakeFailed {
        /// Where it came from.
        addr: SocketAddr,
        /// Why.
        reason: String,
    },
    /// Bytes came for a stream that is not there.
    UnknownStream {
        /// On which channel.
        channel: ChannelId,
        /// For which stream.
        key: StreamKey,
    },
    /// A listener could not accept, and will try again.
    AcceptFailed {
        /// Which listener.
        listener: SocketAddr,
        /// Why.
        reason: String,
    },
    /// The operator ended something.
    OperatorActed {
        /// What was done, to what.
        what: String,
    },
    /// The server takes nothing new and lets open streams finish.
    DrainStarted {
        /// How many are open.
        open_streams: u64,
    },
    /// Nothing new comes any more, and what is still open then is cut off.
    DrainDeadlineSet {
        /// How many streams are open.
        open_streams: u64,
        /// How long they may still go on.
        within: Duration,
    },
    /// A task panicked. Its guards have cleaned up; the rest goes on.
    TaskPanicked {
        /// Which task.
        task: String,
    },
}

/// Who ended a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndedBy {
    /// Both ends finished.
    Both,
    /// The user.
    User,
    /// The target.
    Target,
    /// The operator.
    Operator,
    /// The proxy or its channel.
    Proxy,
    /// The server itself.
    Server,
}

/// Why a stream ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndReason {
    /// Both directions ended cleanly.
    Finished,
    /// The user's connection failed or was reset.
    UserSocketError,
    /// The target's connection failed or was reset.
    TargetSocketError,
    /// The target could not be connected to.
    TargetConnectFailed(String),
    /// The user left while it waited for a proxy.
    UserAborted,
    /// No proxy came in time.
    NoProxy,
    /// The proxy is gone.
    ProxyGone,
    /// The operator killed it, or its user.
    Killed,
    /// The server shut down before it was done.
    Shutdown,
    /// A bound was reached or the protocol was broken.
    Protocol(String),
    /// Something failed inside underpass.
    Internal,
}

impl EndReason {
    /// Who ended it.
    pub fn by(&self) -> EndedBy {
        match self {
            Self::Finished => EndedBy::Both,
            Self::UserSocketError | Self::UserAborted => EndedBy::User,
            Self::TargetSocketError | Self::TargetConnectFailed(_) => EndedBy::Target,
            Self::Killed => EndedBy::Operator,
            Self::ProxyGone | Self::Protocol(_) => EndedBy::Proxy,
            Self::NoProxy | Self::Shutdown | Self::Internal => EndedBy::Server,
        }
    }

    /// Whether every byte arrived.
    pub fn is_clean(&self) -> bool {
        *self == Self::Finished
    }
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished => f.write_str("finished"),
            Self::UserSocketError => f.write_str("the user's connection was reset"),
            Self::TargetSocketError => f.write_str("the target's connection was reset"),
            Self::TargetConnectFailed(why) => write!(f, "no connection to the target: {why}"),
            Self::UserAborted => f.write_str("the user left before a proxy was there"),
            Self::NoProxy => f.write_str("no proxy available"),
            Self::ProxyGone => f.write_str("the proxy is gone"),
            Self::Killed => f.write_str("killed by the operator"),
            Self::Shutdown => f.write_str("the server shut down"),
            Self::Protocol(why) => write!(f, "protocol error: {why}"),
            Self::Internal => f.write_str("internal error"),
        }
    }
}

/// Why a proxy or a channel is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DisconnectReason {
    /// It said goodbye.
    GoAway,
    /// The connection was closed without a word.
    Closed,
    /// The connection was reset: by the other side, which may have died, or by something on the way.
    Reset,
    /// The connection failed.
    IoError(String),
    /// The proxy came back without it.
    Replaced,
    /// Nothing was heard of it for too long.
    KeepaliveTimeout,
    /// It broke the protocol.
    Protocol(String),
    /// What came over it is not what was sent: a checksum is wrong.
    ChecksumMismatch,
    /// The operator kicked it.
    Kicked,
    /// The server shut down.
    Shutdown,
}

impl fmt::Display for DisconnectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GoAway => f.write_str("left"),
            Self::Closed => f.write_str("closed the connection"),
            Self::Reset => f.write_str("the connection was reset"),
            Self::IoError(why) => write!(f, "connection failed: {why}"),
            Self::Replaced => f.write_str("the proxy came back without it"),
            Self::KeepaliveTimeout => f.write_str("no sign of life"),
            Self::Protocol(why) => write!(f, "protocol error: {why}"),
            Self::ChecksumMismatch => f.write_str("what came was not what was sent: a checksum is wrong"),
            Self::Kicked => f.write_str("kicked by the operator"),
            Self::Shutdown => f.write_str("the server shut down"),
        }
    }
}

impl EventKind {
    /// Whether an operator should look: something failed that nobody asked for.
    pub fn is_warning(&self) -> bool {
        match self {
            Self::UserRejected { .. }
            | Self::HandshakeFailed { .. }
            | Self::RegistrationRefused { .. }
            | Self::UnknownStream { .. }
            | Self::AcceptFailed { .. }
            | Self::GracePeriodStarted { .. }
            | Self::TaskPanicked { .. } => true,
            Self::StreamEnded { reason, .. } => !matches!(
                reason,
                EndReason::Finished | EndReason::Killed | EndReason::UserSocketError | EndReason::UserAborted
            ),
            Self::ProxyDisconnected { reason, .. } | Self::ChannelDisconnected { reason, .. } => !matches!(
                reason,
                DisconnectReason::GoAway | DisconnectReason::Kicked | DisconnectReason::Shutdown
            ),
            _ => false,
        }
    }

    /// The stream that the event speaks of.
    pub fn stream_key(&self) -> Option<StreamKey> {
        match self {
            Self::StreamOpened { key, .. }
            | Self::StreamAssigned { key, .. }
            | Self::StreamEnded { key, .. }
            | Self::UnknownStream { key, .. } => Some(*key),
            _ => None,
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listening { addr } => write!(f, "listening for proxies on {addr}"),
            Self::ServiceOpened { service } => write!(f, "service {service} opened"),
            Self::ServiceClosed { service } => write!(f, "service {service} closed"),
            Self::ProxyConnected { proxy, name, addr } => {
                write!(f, "proxy {proxy} {name} is up, from {addr}")
            }
            Self::ProxyRegistered { proxy, service } => write!(f, "proxy {proxy} serves {service}"),
            Self::RegistrationRefused { proxy, reason } => write!(f, "proxy {proxy} was refused: {reason}"),
            Self::ProxyDisconnected { proxy, name, reason } => {
                write!(f, "proxy {proxy} {name} is gone: {reason}")
            }
            Self::GracePeriodStarted { proxy, grace } => {
                write!(
                    f,
                    "proxy {proxy} has no channel left; its streams wait up to {} for it",
                    seconds(*grace)
                )
            }
            Self::ProxyResumed { proxy, after } => {
                write!(f, "proxy {proxy} is back after {after:.1?}; its streams go on")
            }
            Self::ChannelConnected { channel, addr } => write!(f, "channel {channel} is up, from {addr}"),
            Self::ChannelDisconnected { channel, reason } => write!(f, "channel {channel} is gone: {reason}"),
            Self::UserJoined { user, addr, service } => {
                write!(f, "user {user} came to {service} from {addr}")
            }
            Self::UserLeft { user } => write!(f, "user {user} left"),
            Self::StreamOpened { key, addr, service } => write!(f, "stream {key} from {addr} to {service}"),
            Self::StreamAssigned { key, proxy } => write!(f, "stream {key} goes to proxy {proxy}"),
            // Paths are for the screen: a log is kept, and read by others.
            Self::StreamEnded { key, reason, down, up, content: _ } => {
                write!(f, "stream {key} ended: {reason} (down {down}, up {up} bytes)")
            }
            Self::UserRejected { addr, service, reason } => {
                write!(f, "{addr} was refused on {service}: {reason}")
            }
            Self::HandshakeFailed { addr, reason } => write!(f, "handshake with {addr} failed: {reason}"),
            Self::UnknownStream { channel, key } => {
                write!(f, "no session for stream {key} on channel {channel}")
            }
            Self::AcceptFailed { listener, reason } => write!(f, "cannot accept on {listener}: {reason}"),
            Self::OperatorActed { what } => write!(f, "operator: {what}"),
            Self::DrainStarted { open_streams } => write!(f, "draining, streams still open: {open_streams}"),
            Self::DrainDeadlineSet { open_streams, within } => {
                write!(
                    f,
                    "nothing new comes any more; streams that have {} left: {open_streams}",
                    seconds(*within)
                )
            }
            Self::TaskPanicked { task } => write!(f, "task {task} panicked"),
        }
    }
}

/// A time that an operator has set: in seconds, to the tenth.
pub fn seconds(time: Duration) -> String {
    let tenths = (time.as_secs_f64() * 10.0).round() / 10.0;
    format!("{tenths} s")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_is_left_is_told_as_it_was_set() {
        for (millis, text) in [(29_999, "30 s"), (999, "1 s"), (500, "0.5 s"), (2_500, "2.5 s"), (0, "0 s")] {
            assert_eq!(seconds(Duration::from_millis(millis)), text);
        }
    }
}
