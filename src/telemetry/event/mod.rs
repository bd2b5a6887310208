//! Lifecycle events: the begin and the end of services, proxies, channels, users and streams, and other rare incidents.
//!
//! Nothing that happens once for each chunk of data may become an event. The text of each event, which the log shows,
//! is made in `text`.

mod name;
mod notable;
mod reason;
#[cfg(test)]
mod tests;
mod text;

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{Content, LogLevel, Shortfall, micros};
use crate::ids::{AddressBlock, ChannelId, Operator, ProxyId, ServiceKey, StreamKey, UserChannelId};

pub use notable::Notable;
pub use reason::{DisconnectReason, EndReason, EndedBy};
pub use text::seconds;

/// A lifecycle event with the time it was emitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When the event was emitted: wall-clock milliseconds since the Unix epoch, for display only.
    pub epoch_ms: u64,
    /// What happened, to which object.
    pub kind: EventKind,
}

/// What came of a command of an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandOutcome {
    /// It was executed, and affected so many streams.
    Done(usize),
    /// It was refused or has failed, and changed nothing.
    Failed(String),
}

impl<E: fmt::Display> From<Result<usize, E>> for CommandOutcome {
    fn from(result: Result<usize, E>) -> Self {
        match result {
            Ok(streams) => Self::Done(streams),
            Err(why) => Self::Failed(why.to_string()),
        }
    }
}

/// What happened, to which object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// The server listens for proxies on the tunnel port.
    Listening {
        /// The local address of the listener.
        addr: SocketAddr,
    },
    /// The server opened a public port.
    ServiceOpened {
        /// The public port and its group.
        service: ServiceKey,
    },
    /// The server closed a public port.
    ServiceClosed {
        /// The public port and its group.
        service: ServiceKey,
    },
    /// A proxy authenticated its first channel.
    ProxyConnected {
        /// The id that the server gave it.
        proxy: ProxyId,
        /// The name it announced, without control characters.
        name: String,
        /// The remote address of the channel.
        addr: SocketAddr,
    },
    /// A proxy was registered for a service and gets streams of it from now on.
    ProxyRegistered {
        /// The proxy.
        proxy: ProxyId,
        /// The name it announced, without control characters.
        name: String,
        /// The remote address of its first channel.
        addr: SocketAddr,
        /// The service.
        service: ServiceKey,
    },
    /// A proxy has withdrawn its registration for a service and gets no new streams of it. Its open streams continue.
    ProxyDeregistered {
        /// The proxy.
        proxy: ProxyId,
        /// The name it announced, without control characters.
        name: String,
        /// The service.
        service: ServiceKey,
    },
    /// The server refused to register a proxy for the service it asked for.
    RegistrationRefused {
        /// The proxy.
        proxy: ProxyId,
        /// The name it announced, without control characters.
        name: Arc<str>,
        /// Why, in the words of the refusal that the proxy received.
        reason: String,
    },
    /// A proxy has no channel any more and its link is closed.
    ProxyDisconnected {
        /// The proxy.
        proxy: ProxyId,
        /// The name it had announced, without control characters.
        name: String,
        /// Why its link was closed.
        reason: DisconnectReason,
    },
    /// A proxy lost its last channel. The server keeps its streams until it reconnects or the grace period ends.
    GracePeriodStarted {
        /// The proxy.
        proxy: ProxyId,
        /// The length of the grace period.
        #[serde(rename = "grace_us", with = "micros")]
        grace: Duration,
    },
    /// A proxy reconnected within the grace period and its streams resumed.
    ProxyResumed {
        /// The proxy.
        proxy: ProxyId,
        /// The time without a channel.
        #[serde(rename = "after_us", with = "micros")]
        after: Duration,
    },
    /// A proxy authenticated one more channel.
    ChannelConnected {
        /// The channel.
        channel: ChannelId,
        /// Its remote address.
        addr: SocketAddr,
    },
    /// A channel was closed.
    ChannelDisconnected {
        /// The channel.
        channel: ChannelId,
        /// Why it was closed.
        reason: DisconnectReason,
    },
    /// A proxy has established a link to a server. Events of this and the next two kinds are those of a proxy.
    ServerConnected {
        /// The link, numbered since the proxy started.
        link: ProxyId,
        /// The configured address of the server.
        server: String,
        /// The address to which the first channel is connected.
        addr: SocketAddr,
    },
    /// A link to a server has ended.
    ServerDisconnected {
        /// The link.
        link: ProxyId,
        /// The configured address of the server.
        server: String,
        /// Why the link has ended.
        reason: DisconnectReason,
    },
    /// A proxy has established one more channel to a server.
    ChannelOpened {
        /// The channel.
        channel: ChannelId,
        /// The address to which it is connected.
        addr: SocketAddr,
    },
    /// The server has asked a proxy for another number of channels.
    ChannelsPlanned {
        /// The proxy.
        proxy: ProxyId,
        /// The number before and from now on, and why, such as `2 → 4 channels: loss 1.0 %`.
        plan: String,
    },
    /// The first connection of a user was accepted.
    UserJoined {
        /// The short id that the server gave the user.
        user: UserChannelId,
        /// The user's address.
        addr: IpAddr,
        /// The service it connected to.
        service: ServiceKey,
    },
    /// The last connection of a user ended, and no new one followed within the time for which its id was retained.
    UserLeft {
        /// The user.
        user: UserChannelId,
    },
    /// A user connection was accepted and became a stream. It has no proxy yet.
    StreamOpened {
        /// The stream.
        key: StreamKey,
        /// The user's address and port.
        addr: SocketAddr,
        /// The service the user connected to.
        service: ServiceKey,
    },
    /// The load balancer assigned a stream to a proxy; emitted again where the stream is retried with another one.
    StreamAssigned {
        /// The stream.
        key: StreamKey,
        /// The proxy.
        proxy: ProxyId,
        /// The name that the proxy announced, without control characters.
        name: Arc<str>,
    },
    /// A stream ended.
    StreamEnded {
        /// The stream.
        key: StreamKey,
        /// Why it ended.
        reason: EndReason,
        /// How far the transfer had come that the stream cut short; `None` if it cut none short, or none is known.
        shortfall: Option<Shortfall>,
        /// Bytes written to the user's socket.
        down: u64,
        /// Bytes read from the user's socket.
        up: u64,
        /// The user's address and port.
        addr: SocketAddr,
        /// The service the user connected to.
        service: ServiceKey,
        /// The proxy that the stream was assigned to last; `None` if it got none.
        proxy: Option<ProxyId>,
        /// The name that this proxy announced, without control characters.
        proxy_name: Option<Arc<str>>,
        /// The time from the acceptance of the user's connection to its end.
        #[serde(rename = "lasted_us", with = "micros")]
        lasted: Duration,
        /// The time until the target's first byte was written to the user; `None` if none was.
        #[serde(rename = "time_to_first_byte_us", with = "micros::option", default)]
        time_to_first_byte: Option<Duration>,
        /// The detected protocol and request. A sampler has never seen a stream that lived between two samples.
        content: Option<Arc<Content>>,
    },
    /// The server closed a user connection unserved: a limit refused it before it became a stream, or no proxy was
    /// available within the wait time.
    UserRejected {
        /// The user's address and port.
        addr: SocketAddr,
        /// The service the user connected to.
        service: ServiceKey,
        /// Which limit, or how long it had waited.
        reason: String,
    },
    /// A connection on the tunnel port failed the handshake and was closed.
    HandshakeFailed {
        /// Its remote address.
        addr: SocketAddr,
        /// Why the handshake failed.
        reason: String,
        /// Whether the server refused the peer; otherwise the peer, or the network, ended the handshake.
        is_refusal: bool,
    },
    /// An address has sent so many wrong tokens that new proxies from it are refused for a while.
    AddressBlocked {
        /// The IPv4 address, or the /64 of IPv6.
        address: AddressBlock,
        /// The number of wrong tokens.
        wrong_tokens: u32,
        /// How long the address is blocked.
        #[serde(rename = "time_us", with = "micros")]
        time: Duration,
    },
    /// A channel delivered a frame for a stream that does not exist; the frame was discarded.
    UnknownStream {
        /// The channel.
        channel: ChannelId,
        /// The stream that the frame names.
        key: StreamKey,
    },
    /// `accept` failed on a listener. The server retries after a pause.
    AcceptFailed {
        /// The local address of the listener.
        listener: SocketAddr,
        /// The I/O error.
        reason: String,
    },
    /// An operator gave a command: the audit trail. A command of the cockpit is reported only if it was executed,
    /// because the cockpit shows its operator why one was not.
    OperatorActed {
        /// The command in words, with the keys of its targets.
        what: String,
        /// Who gave it.
        by: Operator,
        /// What came of it.
        outcome: CommandOutcome,
    },
    /// The entries of named proxies were read again, and others apply.
    TokensChanged {
        /// The names of new entries.
        added: Vec<String>,
        /// The names of those with the same token and other rights.
        changed: Vec<String>,
        /// The names of those that are gone, or have another token.
        revoked: Vec<String>,
    },
    /// The entries of named proxies could not be read again; those that were read before still apply.
    TokensInvalid {
        /// What is wrong, with the file and the place.
        reason: String,
    },
    /// A token was revoked or has expired while proxies were connected with it.
    TokenEnded {
        /// The name of its entry.
        entry: String,
        /// Whether it has expired.
        has_expired: bool,
        /// How many proxies were connected with it.
        proxies: usize,
        /// How long their open streams may continue.
        #[serde(rename = "within_us", with = "micros")]
        within: Duration,
    },
    /// The server presents the certificate of another key from now on: proxies that pin the previous one are refused.
    TlsKeyChanged {
        /// The file of the new key.
        file: String,
        /// The fingerprint of the previous key, as `--fingerprint` takes it.
        previous: String,
        /// The fingerprint of the new key.
        fingerprint: String,
    },
    /// The recording cannot be written. The server continues without it, and the recorder tries a new file every ten
    /// seconds.
    RecordingFailed {
        /// The directory of the recording.
        dir: String,
        /// The I/O error.
        reason: String,
    },
    /// The recording continues after it had failed, in a new file.
    RecordingContinued {
        /// The directory of the recording.
        dir: String,
        /// How many events of the time between are missing in it.
        missed_events: u64,
    },
    /// The server drains: it accepts no new users and lets open streams finish.
    DrainStarted {
        /// The number of open streams.
        open_streams: u64,
    },
    /// The server set the deadline of its drain, at which it resets the streams that are still open.
    DrainDeadlineSet {
        /// The number of open streams.
        open_streams: u64,
        /// The time until the deadline.
        #[serde(rename = "within_us", with = "micros")]
        within: Duration,
    },
    /// A task panicked. Its guards have released what it held; the rest of the server continues.
    TaskPanicked {
        /// The name of the task.
        task: String,
    },
}

impl EventKind {
    /// Returns the level at which the event is logged.
    pub fn log_level(&self) -> LogLevel {
        if self.is_warning() {
            LogLevel::Warn
        } else if self.is_detail() {
            LogLevel::Debug
        } else {
            LogLevel::Info
        }
    }

    /// Returns whether the event is logged as a warning: a failure that the operator did not ask for.
    pub fn is_warning(&self) -> bool {
        match self {
            Self::UserRejected { .. }
            | Self::HandshakeFailed { .. }
            | Self::AddressBlocked { .. }
            | Self::RegistrationRefused { .. }
            | Self::UnknownStream { .. }
            | Self::AcceptFailed { .. }
            | Self::GracePeriodStarted { .. }
            | Self::TokensInvalid { .. }
            | Self::TokenEnded { .. }
            | Self::TlsKeyChanged { .. }
            | Self::RecordingFailed { .. }
            | Self::TaskPanicked { .. } => true,
            Self::StreamEnded { reason, .. } => reason.is_failure(),
            Self::ProxyDisconnected { reason, .. }
            | Self::ServerDisconnected { reason, .. }
            | Self::ChannelDisconnected { reason, .. } => !matches!(
                reason,
                DisconnectReason::GoAway
                    | DisconnectReason::Retired
                    | DisconnectReason::Kicked
                    | DisconnectReason::TokenEnded
                    | DisconnectReason::Shutdown
            ),
            _ => false,
        }
    }

    /// Returns whether the event is about a stream that ended, as its user or the operator wanted, before a byte had
    /// passed in either direction: the health check of a load balancer, or a port scan.
    pub fn is_empty_stream(&self) -> bool {
        matches!(self, Self::StreamEnded { down: 0, up: 0, .. }) && !self.is_warning()
    }

    /// Returns whether the event is logged at the level debug: a step in the life of an object whose begin or end is
    /// logged at the level info. An operator reads one line for each stream, and two for each proxy.
    pub fn is_detail(&self) -> bool {
        let is_step = matches!(
            self,
            Self::ServiceOpened { .. }
                | Self::ProxyConnected { .. }
                | Self::ChannelConnected { .. }
                | Self::ChannelOpened { .. }
                | Self::ChannelDisconnected { .. }
                | Self::UserJoined { .. }
                | Self::UserLeft { .. }
                | Self::StreamOpened { .. }
                | Self::StreamAssigned { .. }
        );
        !self.is_warning() && (is_step || self.is_empty_stream())
    }

    /// Returns whether the event is about a service, a link, a channel, a user or a stream. A proxy logs those in its
    /// own words.
    pub(super) fn is_about_traffic(&self) -> bool {
        matches!(
            self,
            Self::ServiceOpened { .. }
                | Self::ServiceClosed { .. }
                | Self::ServerConnected { .. }
                | Self::ServerDisconnected { .. }
                | Self::ChannelOpened { .. }
                | Self::ChannelDisconnected { .. }
                | Self::UserJoined { .. }
                | Self::UserLeft { .. }
                | Self::StreamOpened { .. }
                | Self::StreamEnded { .. }
        )
    }

    /// Returns the key of the stream that the event is about, if it is about one.
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
