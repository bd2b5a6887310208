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
