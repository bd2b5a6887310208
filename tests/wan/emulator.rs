//! The model of the emulated path, in virtual time.

use std::time::Duration;

use crate::{
    RATE, RTT, clean,
    rig::emulator::{Emulator, QueueLimit, Shape},
};

/// One millisecond.
const MS: Duration = Duration::from_millis(1);

/// Length of a packet that takes 200 µs on the link.
const LENGTH: usize = 1250;

/// Time of one packet on the link.
const SENDING: Duration = Duration::from_micros(LENGTH as u64 * 8_000_000 / RATE);

/// Returns a packet that carries its number.
fn packet(number: usize) -> Vec<u8> {
    let mut bytes = vec![0; LENGTH];
    bytes[..8].copy_from_slice(&(number as u64).to_be_bytes());
    bytes
}

/// Lets `count` packets arrive, one each `interval`. Returns when each was delivered, in this order, and its number.
fn deliveries(emulator: &mut Emulator, count: usize, interval: Duration) -> Vec<(Duration, usize)> {
    for number in 0..count {
        emulator.arrive(interval * number as u32, &packet(number));
    }
    let mut delivered = Vec::new();
    while let Some(due) = emulator.next_due() {
        assert!(emulator.pop_due(due - Duration::from_nanos(1)).is_none(), "delivered before it is due");
        let bytes = emulator.pop_due(due).unwrap();
        let number = u64::from_be_bytes(bytes[..8].try_into().unwrap()) as usize;
        assert!(bytes[8..].iter().all(|byte| *byte == 0) && bytes.len() == LENGTH);
        delivered.push((due, number));
    }
    delivered
}

#[test]
fn a_packet_is_delivered_after_its_time_on_the_link_and_the_delay() {
    let mut emulator = Emulator::new(clean(), 1);
    assert_eq!(deliveries(&mut emulator, 1, MS), [(SENDING + RTT / 2, 0)]);
}

#[test]
fn packets_that_arrive_at_once_are_delivered_at_the_rate_of_the_link() {
    let mut emulator = Emulator::new(clean(), 1);
    let times = deliveries(&mut emulator, 100, Duration::ZERO);
    let expected: Vec<_> = (0..100).map(|n| (SENDING * (n as u32 + 1) + RTT / 2, n)).collect();
    assert_eq!(times, expected);
    assert_eq!(emulator.take_statistics().max_queue_delay, SENDING * 99);
}

#[test]
fn the_queue_drops_what_would_wait_longer_than_its_limit() {
    let queue = QueueLimit::Time(SENDING * 10);
    let mut emulator = Emulator::new(Shape { queue, ..clean() }, 1);
    let numbers: Vec<_> = deliveries(&mut emulator, 20, Duration::ZERO).into_iter().map(|d| d.1).collect();
    // The first is on the link, and the last that is accepted waits for exactly the limit.
    assert_eq!(numbers, Vec::from_iter(0..=10));
    assert_eq!(emulator.take_statistics().dropped_by_queue, 9);
}

#[test]
fn the_queue_drops_what_exceeds_its_limit_in_bytes() {
    let queue = QueueLimit::Bytes(5 * LENGTH as u64);
    let mut emulator = Emulator::new(Shape { queue, ..clean() }, 1);
    assert_eq!(deliveries(&mut emulator, 20, Duration::ZERO).len(), 5);
}

#[test]
fn the_queue_accepts_packets_again_as_it_drains() {
    let queue = QueueLimit::Time(SENDING * 10);
    let mut emulator = Emulator::new(Shape { queue, ..clean() }, 1);
    // Twice the rate: about half of the packets pass.
    let delivered = deliveries(&mut emulator, 1000, SENDING / 2);
    assert!((500..=512).contains(&delivered.len()), "{}", delivered.len());
    let last = delivered.last().unwrap().0 - delivered[0].0;
    assert_eq!(last, SENDING * (delivered.len() as u32 - 1), "the link never pauses");
}

#[test]
fn the_share_of_lost_packets_is_the_configured_one() {
    let mut emulator = Emulator::new(Shape { loss: 0.01, ..clean() }, 1);
    let delivered = deliveries(&mut emulator, 100_000, SENDING).len();
    // Four standard deviations of a binomial distribution: 4 × √(100,000 × 0.01 × 0.99) = 126.
    assert!((98_874..=99_126).contains(&delivered), "{delivered}");
    assert_eq!(emulator.take_statistics().lost, 100_000 - delivered as u64);
}

#[test]
fn equal_seeds_lose_the_same_packets() {
    let lost = |seed| deliveries(&mut Emulator::new(Shape { loss: 0.1, ..clean() }, seed), 1000, SENDING);
    assert_eq!(lost(5), lost(5));
    assert_ne!(lost(5), lost(6));
}

#[test]
fn jitter_delays_packets_and_keeps_their_order() {
    let mut emulator = Emulator::new(Shape { jitter: 5 * MS, ..clean() }, 1);
    let delivered = deliveries(&mut emulator, 1000, 10 * MS);
    let delays: Vec<_> =
        delivered.iter().map(|(at, n)| *at - 10 * MS * *n as u32 - SENDING - RTT / 2).collect();
    assert!(delivered.is_sorted_by_key(|(_, number)| *number));
    assert!(*delays.iter().max().unwrap() <= 5 * MS && *delays.iter().max().unwrap() > 4 * MS);
    assert!(*delays.iter().min().unwrap() < MS);
}

#[test]
fn reordered_packets_are_overtaken_and_none_is_lost() {
    let mut emulator = Emulator::new(Shape { reorder: 0.05, ..clean() }, 1);
    let delivered = deliveries(&mut emulator, 10_000, SENDING);
    let overtaken = delivered.windows(2).filter(|two| two[0].1 > two[1].1).count();
    assert!((400..=600).contains(&overtaken), "{overtaken}");
    let mut numbers: Vec<_> = delivered.iter().map(|(_, number)| *number).collect();
    numbers.sort();
    assert_eq!(numbers, Vec::from_iter(0..10_000));
}

#[test]
fn duplicated_packets_are_delivered_twice() {
    let mut emulator = Emulator::new(Shape { duplicate: 0.01, ..clean() }, 1);
    let delivered = deliveries(&mut emulator, 10_000, SENDING).len();
    assert!((10_060..=10_140).contains(&delivered), "{delivered}");
}

#[test]
fn a_blackout_drops_what_arrives_and_what_is_on_the_link() {
    let mut emulator = Emulator::new(clean(), 1);
    emulator.arrive(Duration::ZERO, &packet(0));
    emulator.shape.blackout_until = 100 * MS;
    emulator.arrive(50 * MS, &packet(1));
    assert_eq!(emulator.pop_due(60 * MS), None);
    emulator.arrive(100 * MS, &packet(2));
    assert_eq!(emulator.pop_due(200 * MS), Some(packet(2)));
    assert_eq!(emulator.next_due(), None);
    assert_eq!(emulator.take_statistics().blacked_out, 2);
}

#[test]
fn a_change_of_the_rate_applies_to_later_packets() {
    let mut emulator = Emulator::new(clean(), 1);
    emulator.arrive(Duration::ZERO, &packet(0));
    emulator.shape.bits_per_second = RATE / 10;
    emulator.arrive(Duration::ZERO, &packet(1));
    assert_eq!(emulator.next_due(), Some(SENDING + RTT / 2));
    assert!(emulator.pop_due(100 * MS).is_some());
    assert_eq!(emulator.next_due(), Some(SENDING * 11 + RTT / 2));
}
