//! Encodes headers of the PROXY protocol.

use std::net::{IpAddr, SocketAddr};

use super::{ProxyHeader, SIGNATURE, in_one_family};
use crate::ids::ProxyProtocolVersion;

/// Returns the bytes of a header. Both addresses are sent in one family, see `in_one_family`. Version 1 has no LOCAL
/// and says UNKNOWN instead.
pub fn encode(version: ProxyProtocolVersion, header: ProxyHeader) -> Vec<u8> {
    let addresses = match header {
        ProxyHeader::Relayed { client, public } => Some(in_one_family(client, public)),
        ProxyHeader::Unknown | ProxyHeader::Local => None,
    };
    match (version, addresses) {
        (ProxyProtocolVersion::V1, None) => b"PROXY UNKNOWN\r\n".to_vec(),
        (ProxyProtocolVersion::V1, Some((client, public))) => {
            let family = if client.is_ipv4() { "TCP4" } else { "TCP6" };
            let (from, to) = (client.ip(), public.ip());
            format!("PROXY {family} {from} {to} {} {}\r\n", client.port(), public.port()).into_bytes()
        }
        (ProxyProtocolVersion::V2, None) => {
            let is_local = header == ProxyHeader::Local;
            v2(if is_local { 0x20 } else { 0x21 }, 0x00, &[])
        }
        (ProxyProtocolVersion::V2, Some((client, public))) => {
            let mut body = Vec::with_capacity(36);
            put_ip(client, &mut body);
            put_ip(public, &mut body);
            body.extend(client.port().to_be_bytes());
            body.extend(public.port().to_be_bytes());
            v2(0x21, if client.is_ipv4() { 0x11 } else { 0x21 }, &body)
        }
    }
}

/// Returns a header of version 2 with this version and command, this family and protocol, and a `body` of at most 36
/// bytes.
fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let len = body.len() as u8;
    [&SIGNATURE[..], &[command, family, 0, len], body].concat()
}

/// Appends an IP address to `out`.
fn put_ip(addr: SocketAddr, out: &mut Vec<u8>) {
    match addr.ip() {
        IpAddr::V4(ip) => out.extend(ip.octets()),
        IpAddr::V6(ip) => out.extend(ip.octets()),
    }
}
