//! The commands of an operator, their results, and which of them a server supports.

use std::fmt;

use crate::ids::{
    AddressBlock, Direction, MAX_WEIGHT, Network, Policy, Priority, ProxyId, Rate, ServiceKey, StreamKey,
    UserChannelId, UserNetworks,
};

/// A command of the operator. Its `Display` text is the description in the event log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Resets one stream: both ends see an error.
    KillStream(StreamKey),
    /// Resets all streams of one user.
    KillUser(UserChannelId),
    /// Pauses one stream without closing anything: neither side receives flow-control credit until it is resumed.
    PauseStream(StreamKey),
    /// Resumes a paused stream where it stopped.
    ResumeStream(StreamKey),
    /// Sets the scheduling priority of one stream on its channel.
    SetPriority(StreamKey, Priority),
    /// Closes all channels of one proxy and resets its streams. The proxy may connect again as a new one.
    KickProxy(ProxyId),
    /// Sets the rate limit of an object in one direction; `None` removes the limit.
    SetLimit(LimitScope, Direction, Option<Rate>),
    /// Drains one proxy: it receives no new streams, and its open streams continue.
    DrainProxy(ProxyId),
    /// Ends the drain of a proxy: it receives new streams again.
    UndrainProxy(ProxyId),
    /// Sets a proxy's share of the new streams of its services, relative to other proxies: 1 to [`MAX_WEIGHT`].
    SetWeight(ProxyId, u32),
    /// Sets the load-balancing policy of a service. Open streams keep their proxy.
    SetPolicy(ServiceKey, Policy),
    /// Lets proxies connect again from an address that was blocked because of wrong tokens.
    Unblock(AddressBlock),
    /// Refuses the users of a network from now on, until the server ends, and resets their streams.
    Ban(Network),
    /// Admits the users of a network again that was banned.
    Unban(Network),
}

/// The object that a rate limit applies to: all of its streams together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LimitScope {
    /// One stream.
    Stream(StreamKey),
    /// All streams of one user.
    User(UserChannelId),
    /// All streams of one proxy.
    Proxy(ProxyId),
    /// All streams of one service.
    Service(ServiceKey),
}

impl fmt::Display for LimitScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stream(key) => write!(f, "stream {key}"),
            Self::User(user) => write!(f, "user {user}"),
            Self::Proxy(proxy) => write!(f, "proxy {proxy}"),
            Self::Service(service) => write!(f, "service {service}"),
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KillStream(key) => write!(f, "kill stream {key}"),
            Self::KillUser(user) => write!(f, "kill user {user}"),
            Self::PauseStream(key) => write!(f, "pause stream {key}"),
            Self::ResumeStream(key) => write!(f, "resume stream {key}"),
            Self::SetPriority(key, priority) => write!(f, "set priority of stream {key} to {priority}"),
            Self::KickProxy(proxy) => write!(f, "kick proxy {proxy}"),
            Self::SetLimit(scope, direction, Some(rate)) => {
                write!(f, "limit {direction} rate of {scope} to {rate}B/s")
            }
            Self::SetLimit(scope, direction, None) => write!(f, "remove {direction} limit of {scope}"),
            Self::DrainProxy(proxy) => write!(f, "drain proxy {proxy}"),
            Self::UndrainProxy(proxy) => write!(f, "undrain proxy {proxy}"),
            Self::SetWeight(proxy, weight) => write!(f, "set weight of proxy {proxy} to {weight}"),
            Self::SetPolicy(service, policy) => write!(f, "set policy of service {service} to {policy}"),
            Self::Unblock(address) => write!(f, "unblock {address}"),
            Self::Ban(network) => write!(f, "ban {network}"),
            Self::Unban(network) => write!(f, "unban {network}"),
        }
    }
}

impl Command {
    /// Returns whether a proxy can execute the command. The others need what only the server has: users that wait, the
    /// balancing, the rates of all streams of an object.
    pub fn is_for_proxy(&self) -> bool {
        matches!(self, Self::KillStream(_) | Self::KillUser(_) | Self::PauseStream(_) | Self::ResumeStream(_))
    }

    /// Returns the object that the command is about, as `stream 3F9A1C:1`.
    pub fn object(&self) -> String {
        match self {
            Self::KillStream(key)
            | Self::PauseStream(key)
            | Self::ResumeStream(key)
            | Self::SetPriority(key, _) => LimitScope::Stream(*key).to_string(),
            Self::KillUser(user) => LimitScope::User(*user).to_string(),
            Self::KickProxy(proxy)
            | Self::DrainProxy(proxy)
            | Self::UndrainProxy(proxy)
            | Self::SetWeight(proxy, _) => LimitScope::Proxy(*proxy).to_string(),
            Self::SetPolicy(service, _) => LimitScope::Service(service.clone()).to_string(),
            Self::SetLimit(scope, ..) => scope.to_string(),
            Self::Unblock(address) => format!("blocked address {address}"),
            Self::Ban(network) => format!("network {network}"),
            Self::Unban(network) => format!("banned network {network}"),
        }
    }
}

/// The commands that the receiving end of the queue supports. A front end offers no key for the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Whether streams and users can be killed: [`Command::KillStream`] and [`Command::KillUser`].
    pub kill: bool,
    /// Whether proxies can be disconnected: [`Command::KickProxy`].
    pub kick: bool,
    /// Whether streams can be paused: [`Command::PauseStream`] and [`Command::ResumeStream`].
    pub pause: bool,
    /// Whether the priority of streams can be set: [`Command::SetPriority`].
    pub priority: bool,
    /// Whether rate limits can be set: [`Command::SetLimit`].
    pub limit: bool,
    /// Whether proxies can be drained: [`Command::DrainProxy`] and [`Command::UndrainProxy`].
    pub drain: bool,
    /// Whether the load-balancing weight of proxies can be set: [`Command::SetWeight`].
    pub weight: bool,
    /// Whether the load-balancing policy of services can be set: [`Command::SetPolicy`].
    pub policy: bool,
    /// Whether blocked addresses can be unblocked: [`Command::Unblock`].
    pub unblock: bool,
    /// Whether the users of a network can be banned: [`Command::Ban`] and [`Command::Unban`].
    pub ban: bool,
}

impl Capabilities {
    /// Returns the capabilities of a receiver that supports every command.
    pub fn all() -> Self {
        Self {
            kill: true,
            kick: true,
            pause: true,
            priority: true,
            limit: true,
            drain: true,
            weight: true,
            policy: true,
            unblock: true,
            ban: true,
        }
    }

    /// Returns the capabilities of a proxy, see [`Command::is_for_proxy`].
    pub fn of_proxy() -> Self {
        Self { kill: true, pause: true, ..Self::none() }
    }

    /// Returns the capabilities of a receiver that supports no command: the front end only displays.
    pub fn none() -> Self {
        Self {
            kill: false,
            kick: false,
            pause: false,
            priority: false,
            limit: false,
            drain: false,
            weight: false,
            policy: false,
            unblock: false,
            ban: false,
        }
    }
}

/// The result of a [`Command`].
pub type CommandReply = Result<Executed, CommandError>;

/// Result of a command that was executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Executed {
    /// How many streams the command affected.
    pub affected_streams: usize,
}

/// Why a command was not executed; it had no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The object that the command names does not exist, or does not exist any more.
    #[error("the object of the command no longer exists")]
    NotFound,
    /// The queue is full: earlier commands have not been executed yet.
    #[error("too many commands are queued; try again")]
    QueueFull,
    /// The server has stopped.
    #[error("the server has stopped")]
    ServerStopped,
    /// The command was given to a proxy, and only its server can execute it.
    #[error("a proxy cannot do that: give the command to its server")]
    ServerOnly,
    /// The operator may only look.
    #[error("you may not do that on this server")]
    Forbidden,
    /// The weight is not in the allowed range.
    #[error("the weight must be between 1 and {MAX_WEIGHT}")]
    WeightOutOfRange,
    /// As many networks are banned as can be.
    #[error(
        "{} networks are banned, which is the maximum: unban some, or use the packet filter",
        UserNetworks::MAX
    )]
    TooManyBans,
}
