//! Identifiers of users, streams, proxies, channels, groups and services.

use std::{fmt, str::FromStr, sync::Arc};

use super::error::IdError;

/// The id of a user, which is one client address on one service: 24 bits that the server derives from both
/// ([`UserIdKey`](super::UserIdKey)), written as six hexadecimal digits (`3F9A1C`). The name is that of the text
/// format, where a "user channel" is a user; it is no channel of a proxy.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserChannelId(u32);

impl UserChannelId {
    /// Returns the id with the lower 24 bits of `bits`.
    pub fn new(bits: u32) -> Self {
        Self(bits & 0xFF_FFFF)
    }

    /// Returns the id as a number of 24 bits.
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

/// The number of a stream within its user, from 1. Lines of three fields in the text format have no stream id and mean
/// 0.
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
        // `u32::from_str` accepts a leading '+'; the protocol does not.
        if s.is_empty() || !s.bytes().all(|b| b.is_ascii_digit()) {
            return Err(IdError::Stream);
        }
        s.parse().map(Self).map_err(|_| IdError::Stream)
    }
}

/// The stream key `userChannelId:streamId`, like `3F9A1C:2`, which identifies a stream in screens, events, log lines
/// and commands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamKey {
    /// The user that opened the stream.
    pub user: UserChannelId,
    /// The stream's number within the user.
    pub stream: StreamId,
}

impl StreamKey {
    /// Returns the key of the stream with the number `stream` of `user`.
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

/// The id of a proxy, counted from 1 since the server started, written `P3`. A proxy that resumes its link keeps its
/// id.
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

/// The id of a channel: the proxy and the channel's number within it, from 1, written `P3/1`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelId {
    /// The proxy that the channel belongs to.
    pub proxy: ProxyId,
    /// The channel's number within the proxy.
    pub index: u16,
}

impl fmt::Display for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.proxy, self.index)
    }
}

impl FromStr for ChannelId {
    type Err = IdError;

    fn from_str(s: &str) -> Result<Self, IdError> {
        let (proxy, index) = s.split_once('/').ok_or(IdError::Channel)?;
        let index = index.parse().map_err(|_| IdError::Channel)?;
        Ok(Self { proxy: proxy.parse()?, index })
    }
}

/// The name of a group of proxies that share one public port; `default` if the proxy names none.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Group(Arc<str>);

impl Group {
    /// The longest group name, in characters.
    pub const MAX: usize = 64;

    /// Returns the name of the group.
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
        if is_plain_name(s) { Ok(Self(Arc::from(s))) } else { Err(IdError::Group) }
    }
}

/// Returns whether a text is a name of 1 to 64 ASCII letters, digits, `.`, `_` or `-`.
pub fn is_plain_name(text: &str) -> bool {
    (1..=Group::MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

/// The key of a service: a public port and the group of proxies that serve it, written `8080:default`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceKey {
    /// The public port. In a registration 0 requests any free port; the key of a running service has the port that was
    /// opened.
    pub port: u16,
    /// The group of proxies that serves the port.
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

/// Implements `Debug` as `Display` for identifiers.
macro_rules! debug_as_display {
    ($($name:ty),*) => {
        $(impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        })*
    };
}

// `3F9A1C:2` is easier to read in an assertion or a log than nested tuple structs.
debug_as_display!(UserChannelId, StreamId, StreamKey, ProxyId, ChannelId, Group, ServiceKey);

#[cfg(test)]
mod tests;
