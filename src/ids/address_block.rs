//! The unit in which clients are counted: one IPv4 address, or one IPv6 network of 64 bits.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};

use super::error::IdError;

/// The network bits of an IPv6 address that identify a client.
const IPV6_PREFIX_BITS: u32 = 64;

/// The block of addresses that one client can use: an IPv4 address, or the /64 of an IPv6 address. Limits per client
/// count by it, because a host chooses the lower 64 bits of its IPv6 address itself (RFC 4291, section 2.5.1; RFC
/// 8981): with a count per address, one machine has 2⁶⁴ of them. An IPv4-mapped IPv6 address (`::ffff:192.0.2.1`), as
/// which a listener on
/// `::` reports IPv4 clients, is the IPv4 address; otherwise all of IPv4 would be one block.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AddressBlock(IpAddr);

impl From<IpAddr> for AddressBlock {
    fn from(addr: IpAddr) -> Self {
        Self(match addr.to_canonical() {
            v4 @ IpAddr::V4(_) => v4,
            IpAddr::V6(v6) => {
                let network = v6.to_bits() & (u128::MAX << (128 - IPV6_PREFIX_BITS));
                IpAddr::V6(Ipv6Addr::from_bits(network))
            }
        })
    }
}

impl FromStr for AddressBlock {
    type Err = IdError;

    /// Parses an address, or a network as [`Display`](fmt::Display) prints it: `2001:db8::/64`.
    fn from_str(s: &str) -> Result<Self, IdError> {
        let addr = s.strip_suffix("/64").unwrap_or(s).parse::<IpAddr>().map_err(|_| IdError::Address)?;
        // Other networks than those of 64 bits are no block.
        if addr.is_ipv4() && s.contains('/') { Err(IdError::Address) } else { Ok(addr.into()) }
    }
}

/// Prints `192.0.2.1` or `2001:db8::/64`.
impl fmt::Display for AddressBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(addr) => write!(f, "{addr}"),
            IpAddr::V6(network) => write!(f, "{network}/{IPV6_PREFIX_BITS}"),
        }
    }
}

impl fmt::Debug for AddressBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests;
