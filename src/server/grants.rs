//! What the proxies of each token may do, and how much of it they use.

#[cfg(test)]
mod tests;

use std::{
    fmt,
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Instant,
};

use arc_swap::ArcSwapOption;

use crate::{
    config::{PortRange, ProxyEntries, ProxyEntry},
    ids::{Direction, Group, Rate, ServiceKey},
    link::{RateLimit, RateLimitCount},
    wire::handshake::{Token, TokenKey},
};

/// The grants of all tokens.
#[derive(Debug)]
pub(super) struct Grants {
    /// That of the token without an entry, which limits nothing.
    unlimited: Arc<Grant>,
    /// Those of the entries.
    entries: Vec<Arc<Grant>>,
    /// The keys of all tokens, for the handshake.
    keys: Arc<[TokenKey]>,
}

/// What the proxies of one token may do, and how much of it they use. It remains the same object while the token does,
/// so that what is in use stays counted when other limits apply.
#[derive(Debug)]
pub(super) struct Grant {
    /// The key of the token; `None` for a server that has entries only.
    key: Option<TokenKey>,
    /// The entry; `None` for the token that may do everything.
    entry: ArcSwapOption<ProxyEntry>,
    /// How much is in use, by [`Resource`].
    in_use: [AtomicUsize; 3],
    /// The rate limit of all streams of the token's proxies together.
    pub(super) limit: Arc<RateLimit>,
    /// Whether the token is not valid any more.
    has_ended: AtomicBool,
}

/// What a grant limits the number of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resource {
    /// Connected proxies: links.
    Proxies,
    /// The channels of all of its proxies.
    Channels,
    /// The open streams of all of its proxies.
    Streams,
}

impl Resource {
    /// Returns the key of the entry that limits it.
    fn key(self) -> &'static str {
        match self {
            Self::Proxies => "proxies",
            Self::Channels => "channels",
            Self::Streams => "streams",
        }
    }
}

/// Counts one proxy, channel or stream until it is dropped.
#[derive(Debug)]
pub(super) struct GrantUse {
    /// Where it is counted.
    grant: Arc<Grant>,
    /// As what it is counted.
    resource: Resource,
}

/// Why a grant does not permit something. The text names the entry and its key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum GrantRefusal {
    /// The token is not valid any more.
    #[error("the token of «{0}» has expired (key `expires` of its entry in the file of --tokens)")]
    Expired(String),
    /// The maximum is in use.
    #[error("«{entry}» has its maximum of {max} {key} (key `{key}` of its entry in the file of --tokens)")]
    Maximum {
        /// The name of the entry.
        entry: String,
        /// What there is a maximum of, and its key.
        key: &'static str,
        /// The maximum.
        max: NonZeroUsize,
    },
    /// Another public port.
    #[error(
        "port {port} is not allowed: «{entry}» may use {allowed} (key `ports` of its entry in the file of --tokens)"
    )]
    Port {
        /// The name of the entry.
        entry: String,
        /// The requested port.
        port: u16,
        /// The permitted ones.
        allowed: String,
    },
    /// Another group.
    #[error(
        "group «{group}» is not allowed: «{entry}» may join {allowed} (key `groups` of its entry in the file of --tokens)"
    )]
    Group {
        /// The name of the entry.
        entry: String,
        /// The requested group.
        group: Group,
        /// The permitted ones.
        allowed: String,
    },
}

/// What has changed between two sets of entries.
#[derive(Debug, Default)]
pub(super) struct GrantChanges {
    /// The names of new entries.
    pub(super) added: Vec<String>,
    /// The entries with the same token and other rights.
    pub(super) changed: Vec<Arc<Grant>>,
    /// The entries that are gone, or have another token. They permit nothing any more.
    pub(super) revoked: Vec<Arc<Grant>>,
}

impl Grants {
    /// Creates the grants of `token`, which may do everything, and of `entries`.
    pub(super) fn new(token: Option<&Token>, entries: &ProxyEntries, limit_count: &RateLimitCount) -> Self {
        let unlimited = Grant::new(token.map(Token::key), None, limit_count);
        let none = Self { unlimited, entries: Vec::new(), keys: [].into() };
        none.replaced_by(entries, limit_count).0
    }

    /// Returns the grants with other entries, and what has changed. An entry that has the name and the token of an
    /// earlier one keeps its grant.
    pub(super) fn replaced_by(
        &self,
        entries: &ProxyEntries,
        limit_count: &RateLimitCount,
    ) -> (Self, GrantChanges) {
        let mut changes = GrantChanges::default();
        let mut earlier = self.entries.clone();
        let entries: Vec<_> = entries
            .iter()
            .map(|entry| {
                let same = |grant: &Arc<Grant>| {
                    grant.key.as_ref() == Some(entry.key()) && grant.name() == entry.name()
                };
                let Some(index) = earlier.iter().position(same) else {
                    changes.added.push(entry.name().to_owned());
                    return Grant::new(Some(entry.key().clone()), Some(entry.clone()), limit_count);
                };
                let kept = earlier.swap_remove(index);
                if kept.entry.load().as_deref() != Some(entry) {
                    kept.entry.store(Some(Arc::new(entry.clone())));
                    // What has expired may be valid again.
                    kept.has_ended.store(false, SeqCst);
                    changes.changed.push(kept.clone());
                }
                kept
            })
            .collect();
        earlier.iter().for_each(|grant| grant.has_ended.store(true, SeqCst));
        changes.revoked = earlier;
        let mut grants = Self { unlimited: self.unlimited.clone(), entries, keys: [].into() };
        grants.keys = grants.iter().filter_map(|grant| grant.key.clone()).collect();
        (grants, changes)
    }

    /// Returns the keys of all tokens.
    pub(super) fn keys(&self) -> Arc<[TokenKey]> {
        self.keys.clone()
    }

    /// Returns the grant of the token with this key.
    pub(super) fn find(&self, key: &TokenKey) -> Option<Arc<Grant>> {
        self.iter().find(|grant| grant.key.as_ref() == Some(key)).cloned()
    }

    /// Returns the grant of the token with this text. Compares with all of them, in constant time.
    pub(super) fn find_token(&self, text: &[u8]) -> Option<Arc<Grant>> {
        let candidate = TokenKey::of(text);
        let matches = |grant: &&Arc<Grant>| grant.key.as_ref().is_some_and(|key| key.matches(&candidate));
        self.iter().filter(matches).fold(None, |_, grant| Some(grant.clone()))
    }

    /// Returns the grant that limits nothing.
    pub(super) fn unlimited(&self) -> &Arc<Grant> {
        &self.unlimited
    }

    /// Ends the grants whose tokens have expired by a time in milliseconds since the Unix epoch, and returns them.
    pub(super) fn end_expired(&self, now_epoch_ms: u64) -> Vec<Arc<Grant>> {
        let has_just_expired = |grant: &&Arc<Grant>| {
            let entry = grant.entry.load();
            entry.as_ref().is_some_and(|entry| entry.has_expired(now_epoch_ms))
                && !grant.has_ended.swap(true, SeqCst)
        };
        self.entries.iter().filter(has_just_expired).cloned().collect()
    }

    /// Iterates over the grants of the entries.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Arc<Grant>> {
        self.entries.iter()
    }

    /// Iterates over all grants.
    fn iter(&self) -> impl Iterator<Item = &Arc<Grant>> {
        [&self.unlimited].into_iter().chain(&self.entries)
    }
}

impl Grant {
    /// Creates a grant of which nothing is in use.
    fn new(key: Option<TokenKey>, entry: Option<ProxyEntry>, limit_count: &RateLimitCount) -> Arc<Self> {
        Arc::new(Self {
            key,
            entry: ArcSwapOption::new(entry.map(Arc::new)),
            in_use: Default::default(),
            limit: RateLimit::new(limit_count),
            has_ended: AtomicBool::new(false),
        })
    }

    /// Sets the rate limit of one direction. Returns whether it was another one.
    pub(super) fn set_rate(&self, direction: Direction, rate: Option<Rate>, now: Instant) -> bool {
        let is_other = self.limit.rate(direction) != rate;
        if is_other {
            // Setting the same rate again would void what streams have reserved.
            self.limit.set(direction, rate, now);
        }
        is_other
    }

    /// Returns the key of the token.
    pub(super) fn key(&self) -> Option<&TokenKey> {
        self.key.as_ref()
    }

    /// Returns the entry; `None` for the token that may do everything.
    pub(super) fn entry(&self) -> Option<Arc<ProxyEntry>> {
        self.entry.load_full()
    }

    /// Returns the name of the entry; empty for the token that may do everything.
    pub(super) fn name(&self) -> String {
        self.entry.load().as_ref().map_or_else(String::new, |entry| entry.name().to_owned())
    }

    /// Returns whether the token was revoked or has expired.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended.load(SeqCst)
    }

    /// Checks that the token is valid at a time in milliseconds since the Unix epoch.
    pub(super) fn check_valid(&self, now_epoch_ms: u64) -> Result<(), GrantRefusal> {
        match &*self.entry.load() {
            Some(entry) if entry.has_expired(now_epoch_ms) => {
                Err(GrantRefusal::Expired(entry.name().to_owned()))
            }
            _ => Ok(()),
        }
    }

    /// Checks that a proxy may register for `service`, or with port 0 for any port of the group.
    pub(super) fn check_service(&self, service: &ServiceKey) -> Result<(), GrantRefusal> {
        let entry = self.entry.load();
        let Some(entry) = &*entry else { return Ok(()) };
        let name = || entry.name().to_owned();
        if let Some(ranges) = entry.ports()
            && service.port > 0
            && !ranges.iter().any(|range| range.contains(service.port))
        {
            return Err(GrantRefusal::Port { entry: name(), port: service.port, allowed: listed(ranges) });
        }
        if let Some(groups) = entry.groups()
            && !groups.contains(&service.group)
        {
            let group = service.group.clone();
            return Err(GrantRefusal::Group { entry: name(), group, allowed: listed(groups) });
        }
        Ok(())
    }

    /// Returns the ports to try if any free one is requested, of those that the server allows. They are not collected:
    /// a proxy may ask a thousand times, and of thousands of ports the first one is usually free.
    pub(super) fn candidates(&self, allowed: PortRange, start: u16) -> impl Iterator<Item = u16> + use<> {
        let entry = self.entry.load();
        let ranges =
            entry.as_ref().and_then(|entry| entry.ports()).map_or_else(|| vec![allowed], <[_]>::to_vec);
        let ports = ranges.into_iter().flat_map(move |range| range.candidates(start));
        ports.filter(move |&port| allowed.contains(port))
    }

    /// Counts one more of `resource`. `exempt` of those that are in use do not count, because they are about to be
    /// replaced.
    ///
    /// # Errors
    /// The maximum is in use.
    pub(super) fn admit(
        self: &Arc<Self>,
        resource: Resource,
        exempt: usize,
    ) -> Result<GrantUse, GrantRefusal> {
        let counted = GrantUse { grant: self.clone(), resource };
        let before = self.in_use[resource as usize].fetch_add(1, SeqCst);
        let entry = self.entry.load();
        let Some(entry) = &*entry else { return Ok(counted) };
        let max = match resource {
            Resource::Proxies => entry.max_proxies(),
            Resource::Channels => entry.max_channels(),
            Resource::Streams => entry.max_streams(),
        };
        match max {
            // Dropping it takes the count back.
            Some(max) if before >= max.get() + exempt => {
                Err(GrantRefusal::Maximum { entry: entry.name().to_owned(), key: resource.key(), max })
            }
            _ => Ok(counted),
        }
    }
}

impl GrantUse {
    /// Returns the grant that it is counted in.
    pub(super) fn grant(&self) -> &Arc<Grant> {
        &self.grant
    }
}

impl Drop for GrantUse {
    fn drop(&mut self) {
        self.grant.in_use[self.resource as usize].fetch_sub(1, SeqCst);
    }
}

/// Returns the items of a list for a message.
fn listed<T: fmt::Display>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}
