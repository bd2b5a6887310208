//! Model of a NAT before the far namespace, as far as its idle timeout goes: packets of a connection whose mapping has
//! expired are dropped in both directions. It rewrites no addresses.

use std::{collections::HashMap, time::Duration};

/// Protocol, and address and port at both ends, the far end first.
type Flow = [u8; 13];

/// Protocol number of TCP.
const TCP: u8 = 6;

/// Flags of a segment that opens a TCP connection: SYN without ACK.
const SYN: u8 = 0x02;
/// Mask of the flags SYN and ACK.
const SYN_ACK: u8 = 0x12;

/// The mappings of a NAT.
#[derive(Debug)]
pub(crate) struct Nat {
    /// Time without a packet after which a mapping is dropped.
    idle_timeout: Duration,
    /// When a packet of each mapping was last seen. Bounded by the connections of one idle timeout.
    last_seen: HashMap<Flow, Duration>,
}

impl Nat {
    /// Returns a NAT without mappings.
    pub(crate) fn new(idle_timeout: Duration) -> Self {
        Self { idle_timeout, last_seen: HashMap::new() }
    }

    /// Returns whether a packet passes at `now`. A connection from the far side creates its mapping; packets of IPv4
    /// TCP pass only with a mapping, and others always.
    pub(crate) fn passes(&mut self, now: Duration, is_from_far: bool, packet: &[u8]) -> bool {
        let Some((flow, flags)) = parse(packet, is_from_far) else { return true };
        let timeout = self.idle_timeout;
        self.last_seen.retain(|_, last_seen| now.saturating_sub(*last_seen) < timeout);
        let is_opening = is_from_far && flags & SYN_ACK == SYN;
        let passes = is_opening || self.last_seen.contains_key(&flow);
        if passes {
            self.last_seen.insert(flow, now);
        }
        passes
    }
}

/// Returns flow and flags of a TCP segment in an IPv4 packet without options; `None` for other packets.
fn parse(packet: &[u8], is_from_far: bool) -> Option<(Flow, u8)> {
    if packet.first() != Some(&0x45) || packet.get(9) != Some(&TCP) {
        return None;
    }
    let (source, destination) = (packet.get(12..16)?, packet.get(16..20)?);
    let (source_port, destination_port) = (packet.get(20..22)?, packet.get(22..24)?);
    let (source, destination) = ([source, source_port].concat(), [destination, destination_port].concat());
    let ends = if is_from_far { [source, destination] } else { [destination, source] };
    let flow = [&[TCP], ends.concat().as_slice()].concat().try_into().ok()?;
    Some((flow, *packet.get(33)?))
}
