//! Tests of the round robin of one user's streams.

use super::*;

const QUANTUM: i64 = 16_384;

/// Regression test: a ping beside downloads of the same user waited for a chunk of each of them.
#[test]
fn returning_stream_goes_first_within_its_quantum() {
    let mut ring = StreamRing::default();
    (1..=8).for_each(|stream| ring.enqueue(stream, QUANTUM));
    for _ in 0..500 {
        ring.enqueue(9, QUANTUM);
        assert_eq!(ring.next(QUANTUM), Some(9));
        ring.charge(9, 64, false);
        let bulk = ring.next(QUANTUM).unwrap();
        assert_ne!(bulk, 9);
        ring.charge(bulk, QUANTUM, true);
    }
    // A stream that leaves and returns with as much data as the others gets as much as they do.
    let mut sent = [0; 10];
    ring.enqueue(9, QUANTUM);
    for _ in 0..9000 {
        let stream = ring.next(QUANTUM).unwrap();
        sent[stream as usize] += 1;
        ring.charge(stream, 4096, stream != 9);
        if stream == 9 {
            ring.enqueue(9, QUANTUM);
        }
    }
    assert!((900..=1100).contains(&sent[9]) && (900..=1100).contains(&sent[1]), "{sent:?}");
}

#[test]
fn streams_beyond_the_searched_ones_get_equal_turns() {
    let mut ring = StreamRing::default();
    let all = 10 * MAX_SEARCHED as u32;
    (0..all).for_each(|stream| ring.enqueue(stream, QUANTUM));
    let mut sent = vec![0; all as usize];
    for _ in 0..100 * all {
        let stream = ring.next(QUANTUM).unwrap();
        sent[stream as usize] += 1;
        ring.charge(stream, QUANTUM, stream % 2 == 0);
        if stream % 2 == 1 {
            ring.enqueue(stream, QUANTUM);
        }
    }
    assert!(sent.iter().all(|sent| (90..=110).contains(sent)), "{sent:?}");
    assert_eq!(ring.streams().count(), all as usize);
}
