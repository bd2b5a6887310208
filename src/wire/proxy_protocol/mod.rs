//! The PROXY protocol, versions 1 and 2: a header at the beginning of a TCP connection that names the ends of the
//! connection that it continues (<https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt>).
//!
//! Underpass sends it to targets, and accepts it from the load balancers that its operator trusts. It is a codec of our
//! own because the header comes from the network: it accepts what the specification allows on a TCP connection and
//! nothing else, is bounded ([`MAX_HEADER`]), allocates nothing while it decodes, and verifies the CRC-32C of version
//! 2. The crates for it accept ports with a sign and datagram protocols, and verify no checksum. The tests compare it
//! with one of them (`ppp`).
//!
//! | version | a user | no user (health check), or an unknown one |
//! | --- | --- | --- |
//! | 1 | `PROXY TCP4 192.0.2.7 203.0.113.1 50000 443\r\n`, `PROXY TCP6 …` | `PROXY UNKNOWN\r\n` |
//! | 2 | signature, `21`, family `11` or `21`, length, addresses, ports, TLVs | signature, `20`, `00`, length 0 |

mod decode;
mod encode;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::UserAddresses;

pub use decode::{MAX_HEADER, ProxyHeaderError, decode};
pub use encode::encode;

/// The first bytes of version 2. They are no text, and end an HTTP request or a TLS record in error.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Length of the fixed part of version 2: signature, version and command, family and protocol, length of the rest.
const V2_FIXED: usize = 16;

/// What a header says about the connection that it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyHeader {
    /// The sender relays a user's connection with these ends, of one address family.
    Relayed {
        /// The user's address.
        client: SocketAddr,
        /// The address that the user connected to.
        public: SocketAddr,
    },
    /// The sender relays a connection whose addresses it does not know, or that is not of TCP over IP.
    Unknown,
    /// The sender has opened the connection for itself, as a health check does (command LOCAL of version 2).
    Local,
}

impl ProxyHeader {
    /// Returns the header for a connection to the public port `port`; LOCAL if it is not of a `user`. An unknown public
    /// address becomes the unspecified one, `0.0.0.0`, because the user's address is worth more than a header of the
    /// kind UNKNOWN.
    pub fn new(user: Option<UserAddresses>, port: u16) -> Self {
        let Some(UserAddresses { client, public }) = user else { return Self::Local };
        let unspecified = || match client {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
        };
        Self::Relayed { client, public: public.unwrap_or_else(unspecified) }
    }
}

/// Returns two addresses in one family, which a header requires: as IPv4 if both are IPv4 or IPv4-mapped, else as IPv6.
fn in_one_family(client: SocketAddr, public: SocketAddr) -> (SocketAddr, SocketAddr) {
    let canonical = [client, public].map(|addr| SocketAddr::new(addr.ip().to_canonical(), addr.port()));
    let mapped = |addr: SocketAddr| match addr.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), addr.port()),
        IpAddr::V6(ip) => SocketAddr::new(ip.into(), addr.port()),
    };
    match canonical {
        [client, public] if client.is_ipv4() == public.is_ipv4() => (client, public),
        [client, public] => (mapped(client), mapped(public)),
    }
}
