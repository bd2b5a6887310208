//! Tests of the range tracker, one of them against a list of single bytes.

use proptest::prelude::*;

use super::*;

#[test]
fn lost_channel_loses_exactly_what_was_in_flight_on_it() {
    let mut tracker = RangeTracker::default();
    tracker.send_on_secondary(10..20, 2);
    tracker.send_on_secondary(20..25, 2);
    tracker.send_on_secondary(40..50, 3);
    assert_eq!(tracker.ranges_on_secondaries(), 2, "adjacent ranges are coalesced");
    assert!(tracker.lose_secondary(2) && !tracker.lose_secondary(2));
    assert_eq!(tracker.first_lost(), Some(10..25));
    tracker.retransmit(5);
    tracker.send_on_secondary(10..15, 3);
    tracker.acknowledge(12);
    tracker.lose_primary(12..60);
    // 15..25 was lost before, and 25..40 is adjacent to it.
    assert!(tracker.lost.iter().eq(&[15..40, 50..60]), "{:?}", tracker.lost);
    assert!(tracker.on_secondaries.iter().eq([(&(12..15), &3), (&(40..50), &3)]));
    tracker.acknowledge(55);
    assert_eq!((tracker.lost_bytes(), tracker.ranges_on_secondaries()), (5, 0));
}

/// Regression test: such ranges stayed with the secondary channels, and were not retransmitted when the new primary
/// channel was lost, too.
#[test]
fn ranges_on_the_new_primary_channel_are_lost_with_it() {
    let mut tracker = RangeTracker::default();
    tracker.send_on_secondary(10..20, 2);
    tracker.lose_primary(0..20);
    tracker.set_primary(2);
    assert_eq!((tracker.ranges_on_secondaries(), tracker.first_lost()), (0, Some(0..10)));
    tracker.retransmit(10);
    tracker.lose_primary(0..20);
    assert_eq!((tracker.first_lost(), tracker.lost_bytes()), (Some(0..20), 20));
}

/// Where a byte of the reference list is, if not in flight on the channel with this number (0 is the primary).
const ACKNOWLEDGED: u16 = 8;
const LOST: u16 = 9;

proptest! {
    /// Compares the tracker with a list that holds the place of every single byte.
    #[test]
    fn every_byte_is_in_one_place(ops in prop::collection::vec((0..6u8, 1..30u64, 1..4u16), 1..60)) {
        let (mut bytes, mut tracker, mut acked) = (Vec::<u16>::new(), RangeTracker::default(), 0u64);
        let replace = |bytes: &mut Vec<u16>, from: u16, to: u16| {
            bytes.iter_mut().filter(|byte| **byte == from).for_each(|byte| *byte = to);
        };
        for (op, len, channel) in ops {
            match op {
                0 => bytes.extend(vec![0; len as usize]),
                1 => {
                    let from = bytes.len() as u64;
                    bytes.extend(vec![channel; len as usize]);
                    tracker.send_on_secondary(from..from + len, channel);
                }
                2 => {
                    tracker.lose_secondary(channel);
                    replace(&mut bytes, channel, LOST);
                }
                3 => {
                    tracker.lose_primary(acked..bytes.len() as u64);
                    replace(&mut bytes, 0, LOST);
                }
                // Failover: the primary channel is lost, and another becomes the primary.
                4 => {
                    tracker.lose_primary(acked..bytes.len() as u64);
                    tracker.set_primary(channel);
                    replace(&mut bytes, 0, LOST);
                    replace(&mut bytes, channel, 0);
                }
                _ if len % 2 == 0 => {
                    acked = (acked + len).min(bytes.len() as u64);
                    tracker.acknowledge(acked);
                    bytes[..acked as usize].fill(ACKNOWLEDGED);
                }
                _ => {
                    if let Some(range) = tracker.first_lost() {
                        let len = len.min(range.end - range.start);
                        tracker.retransmit(len);
                        tracker.send_on_secondary(range.start..range.start + len, channel);
                        bytes[range.start as usize..(range.start + len) as usize].fill(channel);
                    }
                }
            }
            let is_acked = |byte: &u16| *byte == ACKNOWLEDGED;
            let mut tracked: Vec<u16> =
                bytes.iter().map(|byte| if is_acked(byte) { ACKNOWLEDGED } else { 0 }).collect();
            for range in tracker.lost.iter() {
                tracked[range.start as usize..range.end as usize].fill(LOST);
            }
            for (range, channel) in tracker.on_secondaries.iter() {
                tracked[range.start as usize..range.end as usize].fill(*channel);
            }
            prop_assert_eq!(&tracked, &bytes);
        }
    }
}
