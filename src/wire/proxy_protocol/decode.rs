//! Decodes headers of the PROXY protocol. The bytes come from the network and may be anything.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use crc_fast::{CrcAlgorithm::Crc32Iscsi, Digest};

use super::{ProxyHeader, SIGNATURE, V2_FIXED, in_one_family};

/// The longest header that is accepted, in bytes. Version 2 could express 64 KiB, of which senders use some
/// hundred: with the certificate's names of TLS at the load balancer. The same limit as nginx's.
pub const MAX_HEADER: usize = 4096;

/// The longest line of version 1, in bytes and with its end, by the specification.
const MAX_LINE: usize = 107;

/// How every line of version 1 begins.
const V1_PREFIX: [u8; 6] = *b"PROXY ";

/// The TLV of version 2 that contains the CRC-32C of the header.
const CRC32C_TLV: u8 = 0x03;

/// What is wrong with a header. None of these repeats bytes of the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProxyHeaderError {
    /// The connection begins with something else.
    #[error("no PROXY protocol header at the beginning of the connection")]
    Missing,
    /// The header is longer than [`MAX_HEADER`] bytes, or its line longer than 107.
    #[error("the PROXY protocol header is too long")]
    TooLong,
    /// The line of version 1 does not follow the specification.
    #[error("malformed PROXY protocol header of version 1")]
    MalformedV1,
    /// The header of version 2 does not follow the specification.
    #[error("malformed PROXY protocol header of version 2")]
    MalformedV2,
    /// The checksum of a header of version 2 does not match.
    #[error("checksum mismatch in a PROXY protocol header of version 2 (CRC-32C)")]
    Checksum,
}

/// Decodes the header at the beginning of `bytes`. Returns it with its length in bytes; `None` while it is incomplete,
/// and then all of `bytes` belong to it.
///
/// # Errors
/// [`ProxyHeaderError`], as soon as the bytes show it.
pub fn decode(bytes: &[u8]) -> Result<Option<(ProxyHeader, usize)>, ProxyHeaderError> {
    let begins_with = |start: &[u8]| bytes.iter().zip(start).all(|(a, b)| a == b);
    if begins_with(&SIGNATURE) {
        decode_v2(bytes)
    } else if begins_with(&V1_PREFIX) {
        decode_v1(bytes)
    } else {
        Err(ProxyHeaderError::Missing)
    }
}

/// Decodes a line of version 1.
fn decode_v1(bytes: &[u8]) -> Result<Option<(ProxyHeader, usize)>, ProxyHeaderError> {
    let searched = &bytes[..bytes.len().min(MAX_LINE)];
    let Some(end) = memchr::memchr(b'\n', searched) else {
        return if bytes.len() < MAX_LINE { Ok(None) } else { Err(ProxyHeaderError::TooLong) };
    };
    let fields = searched[..end].strip_suffix(b"\r").and_then(|line| line.strip_prefix(&V1_PREFIX));
    let fields = fields.and_then(|fields| str::from_utf8(fields).ok());
    let header = fields.and_then(parse_v1).ok_or(ProxyHeaderError::MalformedV1)?;
    Ok(Some((header, end + 1)))
}

/// Parses a line of version 1 after `PROXY ` and without its end.
fn parse_v1(line: &str) -> Option<ProxyHeader> {
    let mut fields = line.split(' ');
    let header = match fields.next()? {
        // The rest of the line is to be ignored.
        "UNKNOWN" => return Some(ProxyHeader::Unknown),
        "TCP4" => parse_addresses::<Ipv4Addr>(&mut fields)?,
        "TCP6" => parse_addresses::<Ipv6Addr>(&mut fields)?,
        _ => return None,
    };
    fields.next().is_none().then_some(header)
}

/// Parses the four fields of a line: both addresses, both ports.
fn parse_addresses<'a, I: FromStr + Into<IpAddr>>(
    fields: &mut impl Iterator<Item = &'a str>,
) -> Option<ProxyHeader> {
    let client = fields.next()?.parse::<I>().ok()?.into();
    let public = fields.next()?.parse::<I>().ok()?.into();
    let mut port = || {
        let text = fields.next()?;
        // `u16::from_str` accepts a sign and leading zeros; the specification does not.
        let is_canonical = text == "0" || text.starts_with(|c: char| matches!(c, '1'..='9'));
        text.parse().ok().filter(|_| is_canonical)
    };
    Some(relayed(SocketAddr::new(client, port()?), SocketAddr::new(public, port()?)))
}

/// Returns the header of a connection between these ends.
fn relayed(client: SocketAddr, public: SocketAddr) -> ProxyHeader {
    let (client, public) = in_one_family(client, public);
    ProxyHeader::Relayed { client, public }
}

/// Decodes a header of version 2.
fn decode_v2(bytes: &[u8]) -> Result<Option<(ProxyHeader, usize)>, ProxyHeaderError> {
    let Some(fixed) = bytes.first_chunk::<V2_FIXED>() else { return Ok(None) };
    let [.., command, family, high, low] = *fixed;
    let len = V2_FIXED + usize::from(u16::from_be_bytes([high, low]));
    if len > MAX_HEADER {
        return Err(ProxyHeaderError::TooLong);
    }
    let is_local = match command {
        0x20 => true,
        0x21 => false,
        _ => return Err(ProxyHeaderError::MalformedV2),
    };
    // Streams only: unspecified, TCP over IPv4, TCP over IPv6, Unix.
    let address_len = match family {
        _ if is_local => 0,
        0x00 => 0,
        0x11 => 12,
        0x21 => 36,
        0x31 => 216,
        _ => return Err(ProxyHeaderError::MalformedV2),
    };
    if len - V2_FIXED < address_len {
        return Err(ProxyHeaderError::MalformedV2);
    }
    let Some(header) = bytes.get(..len) else { return Ok(None) };
    // All that follows is to be ignored.
    if is_local {
        return Ok(Some((ProxyHeader::Local, len)));
    }
    let (addresses, tlvs) = header[V2_FIXED..].split_at(address_len);
    check_tlvs(header, tlvs)?;
    let decoded = match family {
        0x11 => addresses_v2::<4>(addresses),
        0x21 => addresses_v2::<16>(addresses),
        _ => Some(ProxyHeader::Unknown),
    };
    decoded.map(|decoded| Some((decoded, len))).ok_or(ProxyHeaderError::MalformedV2)
}

/// Reads two addresses of `N` bytes and two ports; `None` if they are incomplete.
fn addresses_v2<const N: usize>(fields: &[u8]) -> Option<ProxyHeader>
where
    IpAddr: From<[u8; N]>,
{
    let (client, rest) = fields.split_first_chunk::<N>()?;
    let (public, rest) = rest.split_first_chunk::<N>()?;
    let (client_port, rest) = rest.split_first_chunk::<2>()?;
    let (public_port, _) = rest.split_first_chunk::<2>()?;
    let addr = |ip: &[u8; N], port: &[u8; 2]| SocketAddr::new(IpAddr::from(*ip), u16::from_be_bytes(*port));
    Some(relayed(addr(client, client_port), addr(public, public_port)))
}

/// Checks the structure of the TLVs, and the CRC-32C of `header` if one contains it. They are not interpreted further.
fn check_tlvs(header: &[u8], mut tlvs: &[u8]) -> Result<(), ProxyHeaderError> {
    while !tlvs.is_empty() {
        let ([kind, high, low], rest) = tlvs.split_first_chunk::<3>().ok_or(ProxyHeaderError::MalformedV2)?;
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        let (value, rest) = rest.split_at_checked(len).ok_or(ProxyHeaderError::MalformedV2)?;
        if *kind == CRC32C_TLV {
            let expected = <[u8; 4]>::try_from(value).map_err(|_| ProxyHeaderError::MalformedV2)?;
            let at = header.len() - rest.len() - value.len();
            if crc_with_zeros(header, at) != u32::from_be_bytes(expected) {
                return Err(ProxyHeaderError::Checksum);
            }
        }
        tlvs = rest;
    }
    Ok(())
}

/// Returns the CRC-32C of `header` with zeros in place of the four bytes from `at`.
fn crc_with_zeros(header: &[u8], at: usize) -> u32 {
    let mut digest = Digest::new(Crc32Iscsi);
    digest.update(&header[..at]);
    digest.update(&[0; 4]);
    digest.update(&header[at + 4..]);
    digest.finalize() as u32
}
