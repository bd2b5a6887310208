//! One entry, with validated values.

use std::num::NonZeroUsize;

use super::{super::ports::PortRange, expiry::Expiry};
use crate::{
    ids::{Group, Rate},
    wire::handshake::TokenKey,
};

/// The most entries. A handshake tries the keys of all of them.
pub const MAX_PROXY_ENTRIES: usize = 1000;

/// One proxy that a server knows by name: the key of its token, and what it may do. What is not stated is not limited
/// beyond what the server allows all proxies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyEntry {
    /// The name of the entry, 1 to 64 letters, digits, `.`, `_` or `-`.
    pub(super) name: String,
    /// The key of the token.
    pub(super) key: TokenKey,
    /// The public ports that it may request; `None`: all that the server allows.
    pub(super) ports: Option<Vec<PortRange>>,
    /// The groups that it may join; `None`: all.
    pub(super) groups: Option<Vec<Group>>,
    /// The most proxies that may be connected with the token at the same time; `None`: any number.
    pub(super) max_proxies: Option<NonZeroUsize>,
    /// The most channels of all of its proxies together; `None`: any number.
    pub(super) max_channels: Option<NonZeroUsize>,
    /// The most open streams of all of its proxies together; `None`: any number.
    pub(super) max_streams: Option<NonZeroUsize>,
    /// The rate limit of all of its streams together, in each direction.
    pub(super) rate: Option<Rate>,
    /// When the token ceases to be valid; `None`: never.
    pub(super) expires: Option<Expiry>,
}

impl ProxyEntry {
    /// Returns the name of the entry.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the key of the token.
    pub fn key(&self) -> &TokenKey {
        &self.key
    }

    /// Returns the public ports that the entry may request; `None`: all that the server allows.
    pub fn ports(&self) -> Option<&[PortRange]> {
        self.ports.as_deref()
    }

    /// Returns the groups that the entry may join; `None`: all.
    pub fn groups(&self) -> Option<&[Group]> {
        self.groups.as_deref()
    }

    /// Returns the most proxies that may be connected with the token at the same time.
    pub fn max_proxies(&self) -> Option<NonZeroUsize> {
        self.max_proxies
    }

    /// Returns the most channels of all of its proxies together.
    pub fn max_channels(&self) -> Option<NonZeroUsize> {
        self.max_channels
    }

    /// Returns the most open streams of all of its proxies together.
    pub fn max_streams(&self) -> Option<NonZeroUsize> {
        self.max_streams
    }

    /// Returns the rate limit of all of its streams together, in each direction.
    pub fn rate(&self) -> Option<Rate> {
        self.rate
    }

    /// Returns whether the token is not valid any more at a time in milliseconds since the Unix epoch.
    pub fn has_expired(&self, now_epoch_ms: u64) -> bool {
        self.expires.is_some_and(|expires| expires.epoch_ms() <= now_epoch_ms)
    }
}
