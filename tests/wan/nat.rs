//! The model of a NAT, in virtual time.

use std::time::Duration;

use crate::rig::nat::Nat;

/// One second.
const SECOND: Duration = Duration::from_secs(1);

/// TCP flag of a segment that opens a connection.
const SYN: u8 = 0x02;
/// TCP flag of all other segments.
const ACK: u8 = 0x10;

/// Returns a TCP segment between 10.77.0.2:port in the far namespace and 10.77.0.1:7000.
fn segment(is_from_far: bool, port: u16, flags: u8) -> Vec<u8> {
    let mut packet = vec![0; 40];
    (packet[0], packet[9], packet[33]) = (0x45, 6, flags);
    let (far, near) = ([10, 77, 0, 2], [10, 77, 0, 1]);
    let (source, destination) = if is_from_far { (far, near) } else { (near, far) };
    packet[12..16].copy_from_slice(&source);
    packet[16..20].copy_from_slice(&destination);
    let ports = if is_from_far { [port, 7000] } else { [7000, port] };
    packet[20..22].copy_from_slice(&ports[0].to_be_bytes());
    packet[22..24].copy_from_slice(&ports[1].to_be_bytes());
    packet
}

#[test]
fn a_connection_passes_in_both_directions_until_it_is_idle_for_too_long() {
    let mut nat = Nat::new(60 * SECOND);
    assert!(nat.passes(SECOND, true, &segment(true, 1, SYN)));
    assert!(nat.passes(2 * SECOND, false, &segment(false, 1, SYN | ACK)));
    assert!(nat.passes(61 * SECOND, true, &segment(true, 1, ACK)), "59 s after the last packet");
    assert!(!nat.passes(121 * SECOND, false, &segment(false, 1, ACK)), "60 s after it");
    assert!(!nat.passes(122 * SECOND, true, &segment(true, 1, ACK)), "the mapping is not created again");
    assert!(nat.passes(123 * SECOND, true, &segment(true, 1, SYN)), "a new connection");
}

#[test]
fn a_connection_from_the_near_side_does_not_pass() {
    let mut nat = Nat::new(60 * SECOND);
    assert!(!nat.passes(SECOND, false, &segment(false, 1, SYN)));
    assert!(nat.passes(SECOND, true, &segment(true, 1, SYN)));
    assert!(!nat.passes(SECOND, false, &segment(false, 2, ACK)), "another port");
}

#[test]
fn other_protocols_pass() {
    let mut nat = Nat::new(SECOND);
    let mut udp = segment(false, 1, 0);
    udp[9] = 17;
    assert!(nat.passes(SECOND, false, &udp));
    assert!(nat.passes(SECOND, false, &[]));
}
