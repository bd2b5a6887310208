//! Property tests of the PROXY protocol: round trips, headers in pieces, noise, and agreement with the crate `ppp`.

use std::net::SocketAddr;

use ppp::{HeaderResult, v1, v2};
use proptest::{
    arbitrary::any, collection::vec, prop_assert, prop_assert_eq, prop_oneof, proptest, strategy::Just,
    strategy::Strategy,
};

use super::*;
use crate::ids::ProxyProtocolVersion;

fn any_version() -> impl Strategy<Value = ProxyProtocolVersion> {
    prop_oneof![Just(ProxyProtocolVersion::V1), Just(ProxyProtocolVersion::V2)]
}

/// A header with two IPv4 or two IPv6 addresses.
fn any_relayed() -> impl Strategy<Value = ProxyHeader> {
    let ipv4 = any::<([u8; 4], u16)>().prop_map(SocketAddr::from);
    let ipv6 = any::<([u8; 16], u16)>().prop_map(SocketAddr::from);
    let header = |(client, public)| ProxyHeader::Relayed { client, public };
    prop_oneof![(ipv4.clone(), ipv4).prop_map(header), (ipv6.clone(), ipv6).prop_map(header)]
}

/// Bytes that resemble a header: one that was changed in places, or the beginning of one with noise.
fn any_noise() -> impl Strategy<Value = Vec<u8>> {
    let changed =
        (any_version(), any_relayed(), vec((any::<usize>(), any::<u8>()), 0..4), vec(any::<u8>(), 0..40));
    let changed = changed.prop_map(|(version, header, changes, rest)| {
        let mut bytes = encode(version, header);
        bytes.extend(rest);
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        bytes
    });
    let line = "PROXY (TCP4|TCP6|UNKNOWN|TCP)?[ 0-9.:a-f\r\n]{0,100}".prop_map(String::into_bytes);
    let binary = (any::<[u8; 4]>(), vec(any::<u8>(), 0..300))
        .prop_map(|(fixed, body)| [&SIGNATURE[..], &fixed, &body].concat());
    prop_oneof![changed, line, binary, vec(any::<u8>(), 0..300)]
}

/// Returns the addresses that the crate `ppp` reads, with the length of the header.
fn read_by_ppp(bytes: &[u8]) -> Option<(ProxyHeader, usize)> {
    let relayed = |from: IpAddr, from_port, to: IpAddr, to_port| {
        let (client, public) = (SocketAddr::new(from, from_port), SocketAddr::new(to, to_port));
        let (client, public) = in_one_family(client, public);
        ProxyHeader::Relayed { client, public }
    };
    match HeaderResult::parse(bytes) {
        HeaderResult::V1(Ok(header)) => {
            let read = match header.addresses {
                v1::Addresses::Tcp4(ip) => relayed(
                    ip.source_address.into(),
                    ip.source_port,
                    ip.destination_address.into(),
                    ip.destination_port,
                ),
                v1::Addresses::Tcp6(ip) => relayed(
                    ip.source_address.into(),
                    ip.source_port,
                    ip.destination_address.into(),
                    ip.destination_port,
                ),
                v1::Addresses::Unknown => ProxyHeader::Unknown,
            };
            Some((read, header.header.len()))
        }
        HeaderResult::V2(Ok(header)) => {
            let read = match header.addresses {
                _ if header.command == v2::Command::Local => ProxyHeader::Local,
                v2::Addresses::IPv4(ip) => relayed(
                    ip.source_address.into(),
                    ip.source_port,
                    ip.destination_address.into(),
                    ip.destination_port,
                ),
                v2::Addresses::IPv6(ip) => relayed(
                    ip.source_address.into(),
                    ip.source_port,
                    ip.destination_address.into(),
                    ip.destination_port,
                ),
                v2::Addresses::Unix(_) | v2::Addresses::Unspecified => ProxyHeader::Unknown,
            };
            Some((read, header.len()))
        }
        _ => None,
    }
}

proptest! {
    #[test]
    fn a_header_survives_encoding_and_decoding(version in any_version(), header in any_relayed()) {
        let ProxyHeader::Relayed { client, public } = header else { unreachable!() };
        let (client, public) = in_one_family(client, public);
        let bytes = encode(version, header);
        prop_assert_eq!(decode(&bytes), Ok(Some((ProxyHeader::Relayed { client, public }, bytes.len()))));
        prop_assert_eq!(read_by_ppp(&bytes), decode(&bytes).unwrap(), "another implementation reads the same");
    }

    #[test]
    fn a_header_in_pieces_is_incomplete_until_its_last_byte(version in any_version(), header in any_relayed()) {
        let bytes = encode(version, header);
        for len in 0..bytes.len() {
            prop_assert_eq!(decode(&bytes[..len]), Ok(None), "{} of {} bytes", len, bytes.len());
        }
    }

    /// Nothing panics, a length is within the bytes, more bytes change no verdict, and what is accepted means the same
    /// to another implementation.
    #[test]
    fn noise_is_decided_once_and_as_elsewhere(bytes in any_noise()) {
        let verdict = decode(&bytes);
        let decided = (0..=bytes.len()).find_map(|len| decode(&bytes[..len]).transpose());
        prop_assert_eq!(decided.transpose(), verdict);
        if let Some(Ok((_, len))) = decided {
            prop_assert!(len <= bytes.len().min(MAX_HEADER));
            // Everything up to CRLF is to be ignored behind UNKNOWN; ppp refuses a carriage return in it.
            let has_stray_cr = bytes.starts_with(b"PROXY") && bytes[..len - 2].contains(&b'\r');
            prop_assert!(has_stray_cr || read_by_ppp(&bytes) == decided.transpose().unwrap());
        }
    }
}
