//! Networks of IP addresses (CIDR), and which users a service admits by them.

use std::{fmt, net::IpAddr, str::FromStr, sync::Arc};

use ipnet::{IpNet, Ipv4Net};

#[cfg(test)]
mod tests;

/// A network of addresses, such as `10.0.0.0/8`, or a single address. An IPv4-mapped one (`::ffff:10.0.0.0/104`) is the
/// IPv4 network that it stands for; so are the addresses that it is compared with.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Network(IpNet);

/// Why a text is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// Neither `ADDRESS/BITS` nor `ADDRESS`.
    #[error("expected a network such as 10.0.0.0/8 or 2001:db8::/32, or a single address")]
    Invalid,
    /// Bits of the address behind the prefix are set: one of the two numbers is a mistake.
    #[error("the address has bits beyond its prefix: the network is {0}")]
    HostBits(Network),
    /// More networks than [`UserNetworks::MAX`].
    #[error("more than {} networks", UserNetworks::MAX)]
    TooMany,
}

impl Network {
    /// Returns whether the address belongs to the network.
    pub fn contains(self, addr: IpAddr) -> bool {
        self.0.contains(&addr.to_canonical())
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let parsed: IpNet = match text.parse::<IpAddr>() {
            Ok(addr) => addr.into(),
            Err(_) => text.parse().map_err(|_| NetworkError::Invalid)?,
        };
        if parsed != parsed.trunc() {
            return Err(NetworkError::HostBits(Self(parsed.trunc()).canonical()));
        }
        Ok(Self(parsed).canonical())
    }
}

impl Network {
    /// Returns an IPv4-mapped network as IPv4.
    fn canonical(self) -> Self {
        let bits = self.0.prefix_len().checked_sub(96);
        match (self.0.network().to_canonical(), bits) {
            (IpAddr::V4(addr), Some(bits)) if matches!(self.0, IpNet::V6(_)) => {
                Ipv4Net::new(addr, bits).map_or(self, |network| Self(network.into()))
            }
            _ => self,
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() { self.0.addr().fmt(f) } else { self.0.fmt(f) }
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A set of networks, in which an address is found by binary search: it is asked for each user of each proxy.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NetworkSet(Arc<[Network]>);

impl NetworkSet {
    /// Creates the set. Networks within others are left out, and neighbours are joined.
    pub fn new(networks: impl IntoIterator<Item = Network>) -> Self {
        let all = networks.into_iter().map(|network| network.0).collect();
        // Disjoint from now on, so that only one network can contain an address.
        let mut networks: Vec<_> = IpNet::aggregate(&all).into_iter().map(Network).collect();
        networks.sort_unstable();
        Self(networks.into())
    }

    /// Returns whether the set has no network.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the network that contains the address; `None` if none does.
    pub fn find(&self, addr: IpAddr) -> Option<Network> {
        let addr = addr.to_canonical();
        let behind = self.0.partition_point(|network| network.0.network() <= addr);
        self.0[..behind].last().filter(|network| network.contains(addr)).copied()
    }
}

/// Which users are admitted: those in an allowed network, where any is named, or else all; but none in a denied
/// network.
///
/// A denied network wins over an allowed one, whichever is longer and in whatever order they are given: what is denied
/// once stays denied, also where two lists narrow each other, as those of server and proxy do.
///
/// On the wire, and as text, it is a list of words: `allow=10.0.0.0/8 deny=10.9.0.0/16`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UserNetworks {
    /// The allowed networks. If there is none, all that is not denied is allowed.
    allow: NetworkSet,
    /// The denied networks.
    deny: NetworkSet,
}

/// Why a user is not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NetworkRefusal {
    /// The address is in this denied network.
    #[error("{0} is in the denied network {1}")]
    Denied(IpAddr, Network),
    /// Networks are allowed, and the address is in none of them.
    #[error("{0} is in no allowed network")]
    NotAllowed(IpAddr),
}

impl UserNetworks {
    /// The most networks that server or proxy accept for one list, allowed and denied ones together: longer lists, of
    /// whole countries for example, belong into a packet filter.
    pub const MAX: usize = 1000;

    /// Creates a list of allowed and denied networks.
    ///
    /// # Errors
    /// [`NetworkError::TooMany`]
    pub fn new(allow: &[Network], deny: &[Network]) -> Result<Self, NetworkError> {
        if allow.len() + deny.len() > Self::MAX {
            return Err(NetworkError::TooMany);
        }
        let set = |networks: &[Network]| NetworkSet::new(networks.iter().copied());
        Ok(Self { allow: set(allow), deny: set(deny) })
    }

    /// Returns whether every user is admitted because no network is named.
    pub fn is_empty(&self) -> bool {
        self.allow.is_empty() && self.deny.is_empty()
    }

    /// Decides whether a user with this address is admitted.
    ///
    /// # Errors
    /// [`NetworkRefusal`] says why not.
    pub fn check(&self, addr: IpAddr) -> Result<(), NetworkRefusal> {
        if let Some(network) = self.deny.find(addr) {
            return Err(NetworkRefusal::Denied(addr, network));
        }
        if self.allow.is_empty() || self.allow.find(addr).is_some() {
            return Ok(());
        }
        Err(NetworkRefusal::NotAllowed(addr))
    }
}

impl fmt::Display for UserNetworks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = self.allow.0.iter().map(|network| ("allow", network));
        let words = words.chain(self.deny.0.iter().map(|network| ("deny", network)));
        for (index, (verb, network)) in words.enumerate() {
            let separator = if index == 0 { "" } else { " " };
            write!(f, "{separator}{verb}={network}")?;
        }
        Ok(())
    }
}

impl FromStr for UserNetworks {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (mut allow, mut deny) = (Vec::new(), Vec::new());
        for word in text.split_ascii_whitespace() {
            let (verb, network) = word.split_once('=').ok_or(NetworkError::Invalid)?;
            match verb {
                "allow" => allow.push(network.parse()?),
                "deny" => deny.push(network.parse()?),
                _ => return Err(NetworkError::Invalid),
            }
            if allow.len() + deny.len() > Self::MAX {
                return Err(NetworkError::TooMany);
            }
        }
        Self::new(&allow, &deny)
    }
}
