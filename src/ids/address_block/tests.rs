//! Which addresses are one client.

use super::*;

/// Returns the block of the address with this text.
fn block(addr: &str) -> AddressBlock {
    addr.parse::<IpAddr>().unwrap().into()
}

#[test]
fn the_addresses_of_a_64_bit_network_are_one_client() {
    assert_eq!(block("2001:db8:1:2::1"), block("2001:db8:1:2:ffff:ffff:ffff:ffff"));
    assert_ne!(block("2001:db8:1:2::1"), block("2001:db8:1:3::1"));
    assert_eq!(block("2001:db8:1:2::1").to_string(), "2001:db8:1:2::/64");
}

#[test]
fn each_ipv4_address_is_a_client_also_if_it_is_mapped_to_ipv6() {
    assert_ne!(block("192.0.2.1"), block("192.0.2.2"));
    assert_eq!(block("::ffff:192.0.2.1"), block("192.0.2.1"));
    assert_ne!(block("::ffff:192.0.2.1"), block("::ffff:192.0.2.2"));
    assert_eq!(block("::ffff:192.0.2.1").to_string(), "192.0.2.1");
    // Not a mapped address: the loopback address of IPv6.
    assert_eq!(block("::1").to_string(), "::/64");
}

#[test]
fn a_block_is_parsed_as_it_is_printed_and_from_any_address_in_it() {
    for text in ["192.0.2.1", "2001:db8:1:2::/64", "2001:db8:1:2::7", "::ffff:192.0.2.1"] {
        let parsed: AddressBlock = text.parse().unwrap();
        assert_eq!(parsed.to_string().parse(), Ok(parsed), "{text}");
    }
    assert_eq!("2001:db8:1:2::7".parse(), Ok(block("2001:db8:1:2::9")));
    for text in ["", "host", "192.0.2.1/64", "2001:db8::/48", "192.0.2.1:80"] {
        assert_eq!(text.parse::<AddressBlock>(), Err(IdError::Address), "{text}");
    }
}
