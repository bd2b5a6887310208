//! Tests of the reassembly buffer and its credit.

use super::*;
use crate::mux::COPY_THRESHOLD;

fn read_text(recv: &mut RecvBuffer) -> (String, bool) {
    let mut out = VecDeque::new();
    let end = recv.read(&mut out) == Some(DataEnd::Fin);
    (out.iter().map(|segment| String::from_utf8_lossy(segment).into_owned()).collect(), end)
}

/// Regression test: with small initial windows a stream stalled for ever. Its sender had used half of a window that
/// had shrunk meanwhile, and waited for the acknowledgement; the receiver waited until it could raise the limit
/// again.
#[test]
fn consumed_data_is_acknowledged_even_if_the_limit_does_not_rise() {
    let (initial, budget) = (16 << 10, MemoryBudget::new(1 << 30, 10));
    let mut recv = RecvBuffer::new(initial, initial, true);
    recv.set_reader_proven();
    recv.set_wanted_window(32 << 10);
    recv.adapt_window(initial, &budget);
    assert_eq!(recv.advertise(), (0, 32 << 10));
    recv.insert(0, vec![0; 16 << 10].into(), false).unwrap();
    recv.set_wanted_window(initial);
    recv.adapt_window(initial, &budget);
    assert!(!recv.is_update_due());
    read_text(&mut recv);
    recv.consume(16 << 10);
    assert!(recv.is_update_due(), "the sender may wait for it");
    assert_eq!(recv.advertise(), (16 << 10, 16 << 10));
    assert!(!recv.is_update_due());
}

/// A stream has its minimum however short memory is. Its window rises when memory is free, and falls again, but not
/// below what the peer may still send.
#[test]
fn memory_budget_limits_the_window() {
    let (wanted, budget) = (256 << 10, MemoryBudget::new(64 << 20, 10));
    let min = u32::try_from(budget.min_window()).unwrap();
    let mut others = Reservation::new(BufferSide::Receiving);
    others.resize(budget.total(), &budget);
    let in_use = budget.used();
    let mut recv = RecvBuffer::new(min, wanted, true);
    recv.adapt_window(wanted, &budget);
    assert_eq!((recv.advertise(), budget.used()), ((0, min), in_use));
    assert!(recv.flow().is_budget_limited && recv.must_adapt(&budget));
    // A quarter is kept from readers that have taken nothing.
    others.resize(budget.total() * 45 / 128, &budget);
    recv.adapt_window(wanted, &budget);
    assert_eq!(recv.window, min);
    recv.set_read_bytes(10_000);
    recv.adapt_window(wanted, &budget);
    assert_eq!(recv.window, min + 40_000);
    recv.set_reader_proven();
    recv.adapt_window(wanted, &budget);
    assert_eq!(recv.window, wanted);
    others.resize(0, &budget);
    recv.adapt_window(wanted, &budget);
    assert_eq!((recv.advertise(), recv.must_adapt(&budget)), ((0, wanted), false));
    assert_eq!(budget.used(), u64::from(wanted - min));
    others.resize(budget.total(), &budget);
    recv.insert(0, vec![0; 100_000].into(), false).unwrap();
    recv.consume(100_000);
    recv.adapt_window(wanted, &budget);
    assert_eq!(recv.advertise(), (100_000, min));
    assert_eq!(
        budget.used(),
        budget.total() + u64::from(wanted - min) - 100_000,
        "the peer may still send it"
    );
    recv.release(&budget);
    others.resize(0, &budget);
    assert_eq!(budget.used(), 0);
}

/// A peer without flow control sends what it likes; that is counted when it arrives.
#[test]
fn received_data_without_flow_control_is_counted() {
    let (wanted, budget) = (256 << 10, MemoryBudget::new(64 << 20, 10));
    let mut recv = RecvBuffer::new(wanted, wanted, false);
    recv.adapt_window(wanted, &budget);
    assert_eq!((recv.advertise(), budget.used()), ((0, wanted), 0));
    recv.insert(0, vec![0; 1 << 20].into(), false).unwrap();
    recv.reserve_received(&budget);
    assert!(budget.used() >= (1 << 20) - budget.min_window(), "{}", budget.used());
    recv.consume(1 << 20);
    assert!(recv.must_adapt(&budget));
    recv.adapt_window(wanted, &budget);
    assert_eq!(budget.used(), 0);
}

#[test]
fn segments_are_reassembled_in_order() {
    let mut recv = RecvBuffer::new(100, 100, true);
    assert_eq!(recv.insert(4, Bytes::from_static(b"ef"), true), Ok(false));
    assert_eq!(recv.insert(2, Bytes::from_static(b"cde"), false), Ok(false));
    assert_eq!(recv.insert(0, Bytes::from_static(b"abc"), false), Ok(true));
    assert_eq!(read_text(&mut recv), ("abcdef".into(), true));
    assert_eq!(recv.insert(1, Bytes::from_static(b"bcd"), false), Ok(false));
}

/// Regression test: each of four thousand segments of 100 KiB that began a byte after the one before was kept.
#[test]
fn overlapping_out_of_order_data_is_kept_once() {
    let mut recv = RecvBuffer::new(1000, 1000, true);
    let mut insert = |offset: u64, len: u64| {
        let payload = (offset..offset + len).map(|at| at as u8).collect::<Vec<_>>();
        recv.insert(offset, payload.into(), false).unwrap();
        let buffered: u64 = recv.out_of_order.values().map(|segment| segment.len() as u64).sum();
        assert_eq!(recv.out_of_order_bytes, buffered);
        buffered
    };
    assert_eq!((1..500).map(|offset| insert(offset, 400)).max(), Some(898));
    // Between two segments, over a whole segment, into the next one, and nothing new.
    assert_eq!(insert(910, 10), 908);
    assert_eq!(insert(940, 10), 918);
    assert_eq!(insert(905, 40), 943);
    assert_eq!(insert(930, 5), 943);
    assert_eq!(insert(899, 101), 999);
    recv.insert(0, Bytes::from_static(&[0]), false).unwrap();
    let mut out = VecDeque::new();
    recv.read(&mut out);
    assert!(out.iter().flatten().copied().eq((0..1000u64).map(|at| at as u8)));
}

#[test]
fn protocol_violations_are_refused() {
    let some = || Bytes::from_static(b"abcd");
    let mut recv = RecvBuffer::new(10, 10, true);
    assert_eq!(recv.insert(7, some(), false), Err(ProtocolError::FlowControl));
    assert_eq!(recv.insert(u64::MAX - 1, some(), false), Err(ProtocolError::OffsetOverflow));
    assert_eq!(recv.insert(4, some(), false), Ok(false));
    assert_eq!(recv.insert(0, Bytes::from_static(b"ab"), true), Err(ProtocolError::FinalSize));
    assert_eq!(recv.insert(0, some(), false), Ok(true));
    assert_eq!(recv.insert(8, Bytes::new(), true), Ok(true));
    assert_eq!(recv.insert(9, Bytes::new(), true), Err(ProtocolError::FinalSize));
    assert_eq!(recv.insert(8, Bytes::from_static(b"x"), false), Err(ProtocolError::FinalSize));
    let mut recv = RecvBuffer::new(1 << 20, 1 << 20, true);
    let flood = (0..).map(|n| recv.insert(1 + 2 * n, Bytes::from_static(b"x"), false));
    assert_eq!(flood.take_while(Result::is_ok).count(), MAX_OUT_OF_ORDER_SEGMENTS + 2);
}

/// Each slice of a slow stream would keep a pooled buffer of 260 KiB alive.
#[test]
fn buffered_data_does_not_pin_pooled_buffers() {
    let mut recv = RecvBuffer::new(1 << 20, 1 << 20, true);
    let insert = |recv: &mut RecvBuffer, offset, len| {
        let mut buffer = BytesMut::zeroed(64 << 10);
        recv.insert(offset, buffer.split_to(len).freeze(), false).unwrap();
        buffer.clear();
        buffer
    };
    let is_free = |mut buffer: BytesMut| buffer.try_reclaim(64 << 10);
    assert!(is_free(insert(&mut recv, 8, 4)), "it is kept until the gap before it is closed");
    let unread = insert(&mut recv, 0, 4);
    assert!(!is_free(insert(&mut recv, 4, 4)), "the reader may write it at once");
    recv.set_reader_blocked(COPY_THRESHOLD);
    assert!(is_free(unread) && is_free(insert(&mut recv, 12, 4)));
    assert!(!is_free(insert(&mut recv, 16, COPY_THRESHOLD)), "it is not much shorter than the buffer");
    read_text(&mut recv);
    assert!(!is_free(insert(&mut recv, 16 + COPY_THRESHOLD as u64, 4)), "the reader reads again");
}

#[test]
fn flow_reports_buffered_bytes_and_credit() {
    let mut recv = RecvBuffer::new(100, 100, true);
    recv.insert(0, Bytes::from_static(b"abcd"), false).unwrap();
    recv.insert(10, Bytes::from_static(b"xy"), false).unwrap();
    recv.consume(1);
    let flow = recv.flow();
    assert_eq!((flow.window, flow.buffered, flow.credit, flow.is_end_received), (100, 5, 94, false));
}

#[test]
fn consumed_end_counts_as_one_byte() {
    let mut recv = RecvBuffer::new(10, 10, true);
    recv.insert(0, Bytes::from_static(b"ab"), true).unwrap();
    assert!(!recv.consume_end());
    recv.consume(2);
    assert_eq!(recv.advertise(), (2, 10));
    assert!(recv.consume_end() && !recv.consume_end());
    assert_eq!(recv.advertise(), (3, 10));
}

/// A peer that sends single bytes to a slow reader: each segment would take a hundred bytes of memory.
#[test]
fn segments_that_wait_for_a_slow_reader_are_coalesced() {
    const BYTES: usize = 5 * MAX_READY_SEGMENTS;
    let mut recv = RecvBuffer::new(u32::try_from(BYTES).unwrap(), u32::try_from(BYTES).unwrap(), true);
    for offset in 0..BYTES {
        let byte = Bytes::copy_from_slice(&[offset as u8]);
        assert_eq!(recv.insert(offset as u64, byte, false), Ok(true));
        assert!(recv.ready.len() <= MAX_READY_SEGMENTS + 5, "{} after {offset}", recv.ready.len());
    }
    let mut out = VecDeque::new();
    recv.read(&mut out);
    let expected: Vec<u8> = (0..BYTES).map(|offset| offset as u8).collect();
    assert_eq!(out.iter().flatten().copied().collect::<Vec<_>>(), expected);
}
