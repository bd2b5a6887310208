//! What an operator can order: commands with a reply, over a bounded queue.
//!
//! The front end never awaits: it [tries to send](CommandSender::try_send) and looks for the [`CommandReply`] later.

use std::fmt;

use tokio::sync::{mpsc, oneshot};

pub use crate::ids::MAX_WEIGHT;

use crate::ids::{Direction, Policy, Priority, ProxyId, Rate, ServiceKey, StreamKey, UserChannelId};

/// How many commands may wait. An operator types them; a program that floods them is told [`CommandError::QueueFull`].
const QUEUE: usize = 64;

/// What the operator wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// End one stream, with an error at both ends.
    KillStream(StreamKey),
    /// End all streams of one user.
    KillUser(UserChannelId),
    /// Hold one stream without closing anything: neither side gets more credit until it is resumed.
    PauseStream(StreamKey),
    /// Let a held stream go on where it stopped.
    ResumeStream(StreamKey),
    /// Give one stream another share of its channel.
    SetPriority(StreamKey, Priority),
    /// Close all channels of one proxy; its streams end with an error. It may come back.
    KickProxy(ProxyId),
    /// Let something go only so fast in one direction; no rate takes the limit away.
    SetLimit(LimitScope, Direction, Option<Rate>),
    /// Give one proxy no new streams; those that are open finish.
    DrainProxy(ProxyId),
    /// Give a drained proxy new streams again.
    UndrainProxy(ProxyId),
    /// Give one proxy another share of the new streams of its services, 1 to [`MAX_WEIGHT`].
    SetWeight(ProxyId, u32),
    /// Give a service's new streams to its proxies in another way.
    SetPolicy(ServiceKey, Policy),
}

/// What a rate limit holds for: all streams of it together.
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
            Self::SetPriority(key, priority) => write!(f, "give stream {key} priority {priority}"),
            Self::KickProxy(proxy) => write!(f, "kick proxy {proxy}"),
            Self::SetLimit(scope, direction, Some(rate)) => {
                write!(f, "limit {scope} to {rate} bytes a second {direction}")
            }
            Self::SetLimit(scope, direction, None) => write!(f, "take the {direction} limit of {scope} away"),
            Self::DrainProxy(proxy) => write!(f, "drain proxy {proxy}"),
            Self::UndrainProxy(proxy) => write!(f, "undrain proxy {proxy}"),
            Self::SetWeight(proxy, weight) => write!(f, "give proxy {proxy} weight {weight}"),
            Self::SetPolicy(service, policy) => write!(f, "give service {service} the policy {policy}"),
        }
    }
}

/// What the other end of the queue can do. A front end shows no key for what is not in here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// [`Command::KillStream`] and [`Command::KillUser`].
    pub kill: bool,
    /// [`Command::KickProxy`].
    pub kick: bool,
    /// [`Command::PauseStream`] and [`Command::ResumeStream`].
    pub pause: bool,
    /// [`Command::SetPriority`].
    pub priority: bool,
    /// [`Command::SetLimit`].
    pub limit: bool,
    /// [`Command::DrainProxy`] and [`Command::UndrainProxy`].
    pub drain: bool,
    /// [`Command::SetWeight`].
    pub weight: bool,
    /// [`Command::SetPolicy`].
    pub policy: bool,
}

impl Capabilities {
    /// All that there is.
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
        }
    }

    /// Looking only.
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
        }
    }
}

/// What became of a [`Command`].
pub type CommandReply = Result<Executed, CommandError>;

/// It was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Executed {
    /// How many streams it touched.
    pub affected_streams: usize,
}

/// It was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// What it named is not there, or not any more.
    #[error("it is not there any more")]
    NotFound,
    /// Too many commands wait already.
    #[error("too many commands are waiting")]
    QueueFull,
    /// The server is gone.
    #[error("the server has stopped")]
    ServerStopped,
    /// No proxy can have this weight.
    #[error("a weight is between 1 and {MAX_WEIGHT}")]
    WeightOutOfRange,
}

/// A [`Command`] on its way, and where the answer goes.
#[derive(Debug)]
pub struct CommandRequest {
    /// What to do.
    pub command: Command,
    /// Where to say what became of it.
    pub reply: oneshot::Sender<CommandReply>,
}

/// The sending end of the queue.
#[derive(Debug, Clone)]
pub struct CommandSender(mpsc::Sender<CommandRequest>);

/// The queue: the operator's end and the server's.
pub fn command_queue() -> (CommandSender, mpsc::Receiver<CommandRequest>) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    (CommandSender(sender), receiver)
}

impl CommandSender {
    /// What can be ordered.
    pub fn capabilities(&self) -> Capabilities {
        Capabilities::all()
    }

    /// Orders without waiting; the reply comes on the receiver.
    ///
    /// # Errors
    /// [`CommandError::QueueFull`] or [`CommandError::ServerStopped`], and nothing was ordered.
    pub fn try_send(&self, command: Command) -> Result<oneshot::Receiver<CommandReply>, CommandError> {
        let (reply, receiver) = oneshot::channel();
        self.0.try_send(CommandRequest { command, reply }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => CommandError::QueueFull,
            mpsc::error::TrySendError::Closed(_) => CommandError::ServerStopped,
        })?;
        Ok(receiver)
    }

    /// Orders and waits for what becomes of it.
    ///
    /// # Errors
    /// Why it was not done.
    pub async fn send(&self, command: Command) -> CommandReply {
        let (reply, receiver) = oneshot::channel();
        self.0.send(CommandRequest { command, reply }).await.map_err(|_| CommandError::ServerStopped)?;
        receiver.await.unwrap_or(Err(CommandError::ServerStopped))
    }
}
