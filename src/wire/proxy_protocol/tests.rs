//! Unit tests of the PROXY protocol: headers pinned as bytes, and those that are refused.

use super::*;
use crate::ids::ProxyProtocolVersion::{V1, V2};

fn relayed(client: &str, public: &str) -> ProxyHeader {
    ProxyHeader::Relayed { client: client.parse().unwrap(), public: public.parse().unwrap() }
}

/// Returns a header of version 2 with this command, this family, this length field and this body.
fn v2(command: u8, family: u8, len: usize, body: &[u8]) -> Vec<u8> {
    let len = u16::try_from(len).unwrap().to_be_bytes();
    [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[command, family], &len, body].concat()
}

const IPV4: [u8; 12] = [192, 0, 2, 7, 203, 0, 113, 1, 0xC3, 0x50, 0x01, 0xBB];

#[test]
fn headers_are_pinned() {
    let ipv4 = relayed("192.0.2.7:50000", "203.0.113.1:443");
    let ipv6 = relayed("[2001:db8::7]:50000", "[2001:db8::1]:443");
    let addresses6 = b"\x20\x01\x0D\xB8\0\0\0\0\0\0\0\0\0\0\0\x07\x20\x01\x0D\xB8\0\0\0\0\0\0\0\0\0\0\0\x01\xC3\x50\x01\xBB";
    for (version, header, bytes) in [
        (V1, ipv4, b"PROXY TCP4 192.0.2.7 203.0.113.1 50000 443\r\n".to_vec()),
        (V1, ipv6, b"PROXY TCP6 2001:db8::7 2001:db8::1 50000 443\r\n".to_vec()),
        (V1, ProxyHeader::Unknown, b"PROXY UNKNOWN\r\n".to_vec()),
        (V2, ipv4, v2(0x21, 0x11, 12, &IPV4)),
        (V2, ipv6, v2(0x21, 0x21, 36, addresses6)),
        (V2, ProxyHeader::Unknown, v2(0x21, 0x00, 0, b"")),
        (V2, ProxyHeader::Local, v2(0x20, 0x00, 0, b"")),
    ] {
        assert_eq!(encode(version, header), bytes, "{header:?}");
        assert_eq!(decode(&bytes), Ok(Some((header, bytes.len()))), "{header:?}");
    }
    assert_eq!(encode(V1, ProxyHeader::Local), b"PROXY UNKNOWN\r\n", "version 1 has no LOCAL");
}

#[test]
fn both_addresses_of_a_header_have_one_family() {
    for (client, public, sent) in [
        ("[::ffff:192.0.2.7]:1", "[::ffff:203.0.113.1]:2", "TCP4 192.0.2.7 203.0.113.1 1 2"),
        ("192.0.2.7:1", "[::ffff:203.0.113.1]:2", "TCP4 192.0.2.7 203.0.113.1 1 2"),
        ("192.0.2.7:1", "[2001:db8::1]:2", "TCP6 ::ffff:192.0.2.7 2001:db8::1 1 2"),
        ("[2001:db8::7]:1", "203.0.113.1:2", "TCP6 2001:db8::7 ::ffff:203.0.113.1 1 2"),
    ] {
        let header = relayed(client, public);
        assert_eq!(encode(V1, header), format!("PROXY {sent}\r\n").as_bytes());
        let family = if sent.starts_with("TCP4") { 0x11 } else { 0x21 };
        assert_eq!(encode(V2, header)[13], family);
    }
}

/// An older server does not send it.
#[test]
fn an_unknown_public_address_is_the_unspecified_one_with_the_public_port() {
    let header = |client: &str| {
        ProxyHeader::new(Some(UserAddresses { client: client.parse().unwrap(), public: None }), 8080)
    };
    assert_eq!(header("192.0.2.7:1"), relayed("192.0.2.7:1", "0.0.0.0:8080"));
    assert_eq!(header("[2001:db8::7]:1"), relayed("[2001:db8::7]:1", "[::]:8080"));
    assert_eq!(ProxyHeader::new(None, 8080), ProxyHeader::Local);
}

#[test]
fn what_is_to_be_ignored_is_ignored() {
    for (bytes, header) in [
        (b"PROXY UNKNOWN ffff::1 nonsense \xC3\xA4 1\r\n".to_vec(), ProxyHeader::Unknown),
        (b"PROXY UNKNOWN \r\r\n".to_vec(), ProxyHeader::Unknown),
        // Of a health check, whatever its family and its body say.
        (v2(0x20, 0x11, 12, &IPV4), ProxyHeader::Local),
        (v2(0x20, 0x47, 3, b"\xFF\xFF\xFF"), ProxyHeader::Local),
        (v2(0x21, 0x31, 216, &[b'/'; 216]), ProxyHeader::Unknown),
        // TLVs: an ALPN, and one of an unknown type.
        (
            v2(0x21, 0x11, 21, &[&IPV4[..], b"\x01\0\x02h2", b"\xEA\0\x01x"].concat()),
            relayed("192.0.2.7:50000", "203.0.113.1:443"),
        ),
    ] {
        assert_eq!(decode(&bytes), Ok(Some((header, bytes.len()))));
        let and_payload = [&bytes[..], b"GET / HTTP/1.1\r\n\r\n"].concat();
        assert_eq!(decode(&and_payload), Ok(Some((header, bytes.len()))));
    }
}

/// It covers the whole header, with zeros in its place.
#[test]
fn the_checksum_of_a_header_is_verified() {
    let header = |crc: u32| {
        let tlv = [&[0x03, 0, 4][..], &crc.to_be_bytes(), b"\x04\0\x01-"].concat();
        v2(0x21, 0x11, 12 + tlv.len(), &[&IPV4[..], &tlv].concat())
    };
    let crc = bitwise_crc32c(&header(0));
    assert!(matches!(decode(&header(crc)), Ok(Some(_))));
    assert_eq!(decode(&header(crc ^ 1)), Err(ProxyHeaderError::Checksum));
    assert_eq!(decode(&header(0)), Err(ProxyHeaderError::Checksum));
}

/// Computes the CRC-32C bit by bit, as RFC 3720 defines it.
fn bitwise_crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0x82F6_3B78 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

#[test]
fn malformed_headers_are_refused_with_the_defect() {
    use ProxyHeaderError::*;
    let line = |rest: &str| format!("PROXY {rest}\r\n").into_bytes();
    for (bytes, error) in [
        (b"GET / HTTP/1.1\r\n".to_vec(), Missing),
        (b"PROXY\tTCP4".to_vec(), Missing),
        (b"proxy TCP4".to_vec(), Missing),
        (b"\r\n\r\n\0\r\nQUIX".to_vec(), Missing),
        (b"\x16\x03\x01".to_vec(), Missing),
        (line("TCP4 192.0.2.7 203.0.113.1 50000"), MalformedV1),
        (line("TCP4 192.0.2.7 203.0.113.1 50000 443 1"), MalformedV1),
        (line("TCP4  192.0.2.7 203.0.113.1 50000 443"), MalformedV1),
        (line("TCP4 192.0.2.7 203.0.113.1 50000 443 "), MalformedV1),
        (line("TCP4 192.0.2.7 203.0.113.1 +5000 443"), MalformedV1),
        (line("TCP4 192.0.2.7 203.0.113.1 050 443"), MalformedV1),
        (line("TCP4 192.0.2.7 203.0.113.1 65536 443"), MalformedV1),
        (line("TCP4 192.0.2.07 203.0.113.1 5 443"), MalformedV1),
        (line("TCP4 192.0.2 203.0.113.1 5 443"), MalformedV1),
        (line("TCP4 2001:db8::7 2001:db8::1 5 443"), MalformedV1),
        (line("TCP6 192.0.2.7 203.0.113.1 5 443"), MalformedV1),
        (line("TCP6 fe80::1%eth0 2001:db8::1 5 443"), MalformedV1),
        (line("UDP4 192.0.2.7 203.0.113.1 5 443"), MalformedV1),
        (line(""), MalformedV1),
        (b"PROXY TCP4 192.0.2.7 203.0.113.1 5 443\n".to_vec(), MalformedV1),
        (b"PROXY TCP4 192.0.2.7\0 203.0.113.1 5 443\r\n".to_vec(), MalformedV1),
        (b"PROXY UNKNOWN \xFF\r\n".to_vec(), MalformedV1),
        ([&b"PROXY UNKNOWN "[..], &[b'x'; 92], b"\r\n"].concat(), TooLong),
        ([b'P', b'R', b'O', b'X', b'Y', b' '].into_iter().chain([b'x'; 101]).collect(), TooLong),
        (v2(0x11, 0x11, 12, &IPV4), MalformedV2),
        (v2(0x31, 0x11, 12, &IPV4), MalformedV2),
        (v2(0x22, 0x11, 12, &IPV4), MalformedV2),
        (v2(0x21, 0x12, 12, &IPV4), MalformedV2),
        (v2(0x21, 0x41, 12, &IPV4), MalformedV2),
        (v2(0x21, 0x11, 11, &IPV4[..11]), MalformedV2),
        (v2(0x21, 0x21, 35, &[0; 35]), MalformedV2),
        // Without the body: the length alone is wrong.
        (v2(0x21, 0x21, 12, b""), MalformedV2),
        (v2(0x20, 0x00, MAX_HEADER - 15, b""), TooLong),
        (v2(0x21, 0x11, 65_535, b""), TooLong),
        // A TLV without a length, one that is longer than the header, and a checksum of three bytes.
        (v2(0x21, 0x11, 13, &[&IPV4[..], b"\x01"].concat()), MalformedV2),
        (v2(0x21, 0x11, 16, &[&IPV4[..], b"\x01\0\x02x"].concat()), MalformedV2),
        (v2(0x21, 0x11, 18, &[&IPV4[..], b"\x03\0\x03xyz"].concat()), MalformedV2),
    ] {
        assert_eq!(decode(&bytes), Err(error), "{}", bytes.escape_ascii());
    }
}

#[test]
fn the_longest_header_is_accepted() {
    let body = [&IPV4[..], &[0x04], &(4065_u16).to_be_bytes(), &[0; 4065]].concat();
    let bytes = v2(0x21, 0x11, body.len(), &body);
    assert_eq!(bytes.len(), MAX_HEADER);
    assert_eq!(decode(&bytes), Ok(Some((relayed("192.0.2.7:50000", "203.0.113.1:443"), MAX_HEADER))));
}
