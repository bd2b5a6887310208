//! Unit tests of the table of pending connections.

use std::net::{IpAddr, Ipv4Addr};

use super::*;

/// A pending connection of a test: its slot, and whether it was displaced.
struct Connection {
    slot: PendingSlot<u8>,
    displaced: CancellationToken,
}

/// Adds a connection of `owner` from the address 192.0.x.y, where `host` is x·256 + y.
fn connect(table: &Arc<PendingTable<u8>>, owner: u8, host: u16) -> Connection {
    let displaced = CancellationToken::new();
    let [x, y] = host.to_be_bytes();
    let block = IpAddr::V4(Ipv4Addr::new(192, 0, x, y)).into();
    Connection { slot: table.insert(owner, block, displaced.clone()), displaced }
}

fn remaining(connections: &[Connection]) -> usize {
    connections.iter().filter(|connection| !connection.displaced.is_cancelled()).count()
}

fn len(table: &PendingTable<u8>) -> usize {
    table.connections.lock().total
}

#[test]
fn a_full_table_displaces_connections_of_the_block_that_has_most() {
    let table = PendingTable::new(100);
    let others: Vec<_> = (0..20).map(|host| connect(&table, 0, host)).collect();
    let flood: Vec<_> = (0..5000).map(|_| connect(&table, 0, 999)).collect();
    let late: Vec<_> = (20..40).map(|host| connect(&table, 0, host)).collect();
    assert_eq!((remaining(&others), remaining(&flood), remaining(&late)), (20, 60, 20));
    assert_eq!(len(&table), 100);
}

/// With more blocks than slots no block has more than others: each connection lasts as long as the table allows on
/// average, and the newest always has a slot.
#[test]
fn a_flood_from_more_blocks_than_slots_displaces_at_random() {
    let table = PendingTable::new(100);
    let old: Vec<_> = (0..100).map(|host| connect(&table, 0, host)).collect();
    let flood: Vec<_> = (0..100).map(|host| connect(&table, 0, 1000 + host)).collect();
    // Of 100 old ones, 100/e = 37 are expected to remain; the standard deviation is below 4.
    let left = remaining(&old);
    assert!((15..60).contains(&left), "{left} remain");
    assert_eq!(left + remaining(&flood), 100);
    assert!(!flood.last().unwrap().displaced.is_cancelled());
}

/// An attacker who knows the id of a link, and connects from many addresses, takes slots of that link only.
#[test]
fn an_owner_with_many_blocks_displaces_its_own_connections() {
    let table = PendingTable::new(100);
    let others: Vec<_> = (1..=20).map(|owner| connect(&table, owner, 7)).collect();
    let flood: Vec<_> = (0..5000).map(|host| connect(&table, 0, host)).collect();
    let late: Vec<_> = (1..=20).map(|owner| connect(&table, owner, 8)).collect();
    assert_eq!((remaining(&others), remaining(&flood), remaining(&late)), (20, 60, 20));
}

#[test]
fn a_block_with_many_connections_does_not_displace_another_block_of_its_owner() {
    let table = PendingTable::new(10);
    let own = connect(&table, 1, 1);
    let flood: Vec<_> = (0..1000).map(|_| connect(&table, 1, 2)).collect();
    assert!(!own.displaced.is_cancelled());
    assert_eq!(remaining(&flood), 9);
}

#[test]
fn a_slot_is_freed_once() {
    let table = PendingTable::new(2);
    let connections: Vec<_> = (0..5).map(|_| connect(&table, 0, 1)).collect();
    assert_eq!(len(&table), 2);
    for connection in connections {
        drop(connection.slot);
    }
    assert_eq!(len(&table), 0);
    let connections = table.connections.lock();
    assert!(connections.by_owner.is_empty());
}
