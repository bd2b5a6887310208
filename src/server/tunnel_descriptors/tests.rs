//! Unit tests of the shares of channels and ports.

use std::net::IpAddr;

use super::*;

fn address(last: u8) -> AddressBlock {
    IpAddr::from([192, 0, 2, last]).into()
}

#[test]
fn an_address_has_half_of_all_descriptors_by_default_and_returns_them() {
    let config = ServerConfig { max_channels_and_ports: 5, ..ServerConfig::default() };
    let table = TunnelDescriptors::new(&config);
    let mut one: Vec<_> = (0..3).map(|_| table.reserve(address(1)).unwrap()).collect();
    assert_eq!(table.reserve(address(1)).err(), Some(MaxChannelsAndPorts::Address(address(1), 3)));
    // The refused one has taken nothing of the total.
    let other: Vec<_> = (0..2).map(|_| table.reserve(address(2)).unwrap()).collect();
    assert_eq!(table.reserve(address(3)).err(), Some(MaxChannelsAndPorts::Total(5)));
    one.pop();
    one.push(table.reserve(address(1)).unwrap());
    drop((one, other));
    assert!(table.by_address.lock().is_empty());
    assert_eq!(table.permits.available_permits(), 5);
}
