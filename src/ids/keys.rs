use std::{fmt, str::FromStr, sync::Arc};

/// Text that should have named something, and does not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not six hexadecimal digits.
    #[error("a user channel id is six hexadecimal digits, like 3F9A1C")]
    User,
    /// Not a decimal number that fits 32 bits.
    #[error("a stream id is a decimal number")]
    Stream,
    /// Not `USER:STREAM`.
    #[error("a stream key is USER:STREAM, like 3F9A1C:2")]
    Key,
    /// Empty, longer than 64 characters, or with a character outside `[A-Za-z0-9._-]`.
    #[error("a group is 1 to 64 letters, digits, '.', '_' or '-'")]
    Group,
    /// Not `PORT` or `PORT:GROUP`.
    #[error("a service is PORT or PORT:GROUP, like 8080:default")]
    Service,
    /// Not the name of a priority.
    #[error("a priority is background, low, normal, high or urgent")]
    Priority,
    /// Not the name of a policy.
    #[error("a policy is round-robin, weighted, least-streams or peak-ewma")]
    Policy,
    /// Not a number of bytes a second, or none that can be.
    #[error("a rate is a number of bytes a second, like 10M, 1.5M, 500K or 800")]
    Rate,
    /// Not `P` and a number.
    #[error("a proxy id is P and a number, like P3")]
    Proxy,
}

/// One user (client address) of one service: 24 random bits, written as six hexadecimal digits (`3F9A1C`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserChannelId(u32);

impl UserChannelId {
    /// Keeps the lower 24 bits of `bits`.
    pub fn new(bits: u32) -> Self {
        Self(bits & 0xFF_FFFF)
    }

    /// The 24 bits.
    pub fn bits(self) -> u32 {
        self.0
    }
}

impl fmt::Display for UserChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:06X}", self.0)
    }
}

impl FromStr for UserChannelId {
    type Err = IdError;

    fn from_str(s: &str) -> Result<Self, IdError> {
        if s.len() != 6 || !s.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(IdError::User);
        }
        u32::from_str_radix(s, 16).map(Self).map_err(|_| IdError::User)
    }
}

/// One stream of one user, counted from 1 for each user. 0 is what the old three-field text format means by default.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub u32);

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for StreamId {
    type Err = IdError;

    fn from_str(s: &str) -> Result<Self, IdError> {
        // `u32::from_str` takes a leading '+', the wire does not.
        if s.is_empty() || !s.bytes().all(|b| b.is_ascii_digit()) {
            return Err(IdError::Stream);
        }
        s.parse().map(Self).map_err(|_| IdError::Stream)
    }
}

/// The name of a stream on every screen, event, log line and command: `userChannelId:streamId`, like `3F9A1C:2`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamKey {
    /// Whose stream.
    pub user: UserChannelId,
    /// Which of the user's streams.
    pub stream: StreamId,
}

impl StreamKey {
    /// The stream numbered `stream` of `user`.
    pub fn new(user: UserChannelId, stream: u32) -> Self {
        Self { user, stream: StreamId(stream) }
    }
}

impl fmt::Display for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.user, self.stream)
    }
}

impl FromStr for StreamKey {
    type Err = IdError;

    fn from_str(s: &str) -> Result<Self, IdError> {
        let (user, stream) = s.split_once(':').ok_or(IdError::Key)?;
        Ok(Self { user: user.parse()?, stream: stream.parse()? })
    }
}

/// One proxy link, counted from 1 since the server started, written `P3`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProxyId(pub u32);

impl fmt::Display for ProxyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "P{}", self.0)
    }
}

impl FromStr for ProxyId {
    type Err = IdError;

    fn from_str(s: &str) -> Result<Self, IdError> {
        s.strip_prefix('P').and_then(|n| n.parse().ok()).map(Self).ok_or(IdError::Proxy)
    }
}

/// One connection of one proxy, counted from 1 for each proxy, written `P3/1`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelId {
    /// Whose channel.
    pub proxy: ProxyId,
    /// Which of the proxy's channels.
    pub index: u16,
}

impl fmt::Display for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.proxy, self.index)
    }
}

/// The name of a group of proxies that share one public port. `default` unless the proxy says otherwise.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Group(Arc<str>);

impl Group {
    /// The longest group name, in characters.
    pub const MAX: usize = 64;

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Group {
    fn default() -> Self {
        Self(Arc::from("default"))
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Group {
    type Err = IdError;

    fn from_str(s: &str) -> Result<Self, IdError> {
        let fits = (1..=Self::MAX).contains(&s.len())
            && s.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        if fits { Ok(Self(Arc::from(s))) } else { Err(IdError::Group) }
    }
}

/// One public port and its group of proxies, written `8080:default`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceKey {
    /// The public port. 0 asks for any free one and never names a running service.
    pub port: u16,
    /// The group that serves it.
    pub group: Group,
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.port, self.group)
    }
}

impl FromStr for ServiceKey {
    type Err = IdError;

    fn from_str(s: &str) -> Result<Self, IdError> {
        let (port, group) = match s.split_once(':') {
            Some((port, group)) => (port, group.parse()?),
            None => (s, Group::default()),
        };
        Ok(Self { port: port.parse().map_err(|_| IdError::Service)?, group })
    }
}

macro_rules! debug_as_display {
    ($($name:ty),*) => {
        $(impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        })*
    };
}

// `3F9A1C:2` in an assertion or a log says more than nested tuple structs.
debug_as_display!(UserChannelId, StreamId, StreamKey, ProxyId, ChannelId, Group, ServiceKey);

#[cfg(test)]
mod tests;
