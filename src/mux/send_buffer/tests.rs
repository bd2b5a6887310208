//! Tests of the send buffer: credit, acknowledgements, retransmission, coalescing.

use super::*;
use crate::mux::limits::CHUNK_SIZE;

/// Creates a send buffer for a peer with this initial window, and its configuration. The largest window is
/// `max_window`.
fn buffer(window: u32, max_window: u32) -> (SendBuffer, MemoryBudget) {
    let config = MuxConfig { max_window, ..MuxConfig::default() };
    (SendBuffer::new(window, &config), config.budget)
}

#[test]
fn unacknowledged_data_is_retransmitted() {
    let (mut send, budget) = buffer(100, 100);
    send.write(Bytes::from_static(b"abc"), &budget);
    assert_eq!(send.next_chunk(100, None).unwrap().payload, "abc");
    send.write(Bytes::from_static(b"def"), &budget);
    send.finish();
    let last = send.next_chunk(100, None).unwrap();
    assert_eq!((last.offset, last.fin), (3, true));
    assert!(send.next_chunk(100, None).is_none());
    send.acknowledge(4, 100, &budget).unwrap();
    send.lose_primary();
    let again = send.next_chunk(100, None).unwrap();
    assert_eq!((again.offset, &again.payload[..], again.fin), (4, &b"ef"[..], true));
    assert_eq!(send.flow(None).retransmitted, 2);
    send.acknowledge(7, 100, &budget).unwrap();
    assert!(send.is_done());
}

#[test]
fn acknowledgement_of_unsent_data_is_refused() {
    let (mut send, budget) = buffer(100, 100);
    send.write(Bytes::from_static(b"abc"), &budget);
    assert_eq!(send.acknowledge(1, 100, &budget), Err(ProtocolError::AckOfUnsentData));
    send.next_chunk(100, None);
    assert_eq!(send.acknowledge(4, 100, &budget), Err(ProtocolError::AckOfUnsentData));
    assert_eq!(send.acknowledge(3, 100, &budget), Ok(()));
}

/// Frames of different channels overtake each other, and a hostile peer may send anything.
#[test]
fn credit_and_acknowledged_offset_never_fall() {
    let (mut send, budget) = buffer(100, 100);
    send.write(Bytes::from_static(b"abc"), &budget);
    send.next_chunk(100, None);
    assert_eq!(send.acknowledge(3, 100, &budget), Ok(()));
    let before = send.ack_state();
    for (consumed, window) in [(1, 100), (3, 10), (0, 0)] {
        assert_eq!(send.acknowledge(consumed, window, &budget), Ok(()));
        assert_eq!(send.ack_state(), before);
    }
}

/// No data is freed before it is acknowledged, and there is never more of it than the peer's window.
#[test]
fn unacknowledged_data_is_kept() {
    let (mut send, budget) = buffer(100, 100);
    let kept = |send: &SendBuffer| send.chunks.iter().map(|(_, chunk)| chunk.len()).sum::<usize>();
    for round in 0..50 {
        let writable = send.writable(&budget);
        send.write(vec![7; writable].into(), &budget);
        assert_eq!((send.writable(&budget), kept(&send)), (0, 100), "round {round}");
        while send.next_chunk(30, None).is_some() {}
        assert_eq!(kept(&send), 100, "data in flight may have to be retransmitted");
        assert_eq!(send.acknowledge(100 * (round + 1), 100, &budget), Ok(()));
        assert_eq!(kept(&send), 0);
    }
}

#[test]
fn queue_wait_ends_when_the_last_byte_is_sent() {
    let (mut send, budget) = buffer(1 << 20, 1 << 20);
    let written_at = Instant::now();
    send.write(vec![7; CHUNK_SIZE + 1].into(), &budget);
    send.measure_queue_wait(written_at);
    send.write(Bytes::from_static(b"later"), &budget);
    // A second measurement would hide how long the first one takes.
    send.measure_queue_wait(written_at + Duration::from_secs(1));
    let measured: Vec<_> =
        std::iter::from_fn(|| send.next_chunk(CHUNK_SIZE, None)).map(|chunk| chunk.written_at).collect();
    assert_eq!(measured, [None, Some(written_at), None]);
    send.write(Bytes::from_static(b"more"), &budget);
    send.measure_queue_wait(written_at);
    send.next_chunk(CHUNK_SIZE, None);
    send.lose_primary();
    assert!(
        std::iter::from_fn(|| send.next_chunk(CHUNK_SIZE, None)).all(|chunk| chunk.written_at.is_none()),
        "it was measured already"
    );
}

#[test]
fn flow_reports_unsent_and_in_flight_bytes() {
    let (mut send, budget) = buffer(100, 1000);
    send.write(vec![7; 60].into(), &budget);
    send.next_chunk(CHUNK_SIZE, None);
    send.write(vec![7; 30].into(), &budget);
    let flow = send.flow(None);
    assert_eq!((flow.window, flow.unsent, flow.in_flight, flow.acknowledged), (100, 30, 60, 0));
    send.acknowledge(20, 500, &budget).unwrap();
    let flow = send.flow(None);
    assert_eq!((flow.window, flow.in_flight, flow.acknowledged), (500, 40, 20));
}

/// A stream buffers its minimum however short memory is, more only while the budget allows it, and what it has reserved
/// returns when the peer acknowledges it.
#[test]
fn memory_budget_limits_what_is_buffered() {
    let budget = MemoryBudget::new(64 << 20, 10);
    let config = MuxConfig { budget: budget.clone(), ..MuxConfig::default() };
    let mut others = Reservation::new(BufferSide::Sending);
    others.resize(budget.total(), &budget);
    let in_use = budget.used();
    let mut send = SendBuffer::new(256 << 10, &config);
    let min = usize::try_from(budget.min_window()).unwrap();
    assert_eq!(send.writable(&budget), min);
    assert!(send.flow(None).is_budget_limited);
    send.write(vec![7; min].into(), &budget);
    assert_eq!((send.writable(&budget), budget.used()), (0, in_use));
    others.resize(0, &budget);
    let more = send.writable(&budget);
    assert!(more > 200 << 10, "{more}");
    send.write(vec![7; more].into(), &budget);
    assert!(budget.used() >= more as u64);
    while send.next_chunk(CHUNK_SIZE, None).is_some() {}
    send.acknowledge((min + more) as u64, 256 << 10, &budget).unwrap();
    assert_eq!(budget.used(), 0);
    send.write(vec![7; 200 << 10].into(), &budget);
    send.release(&budget);
    assert_eq!(budget.used(), 0);
}

/// Kernels acknowledge 350 KB for a target that reads nothing. Only the window that the peer gives to a reader that
/// makes progress, or more acknowledged bytes, get what is kept for such a stream.
#[test]
fn acknowledged_bytes_alone_are_no_proof_of_a_reader() {
    let budget = MemoryBudget::new(64 << 20, 10);
    let config = MuxConfig { budget: budget.clone(), ..MuxConfig::default() };
    let (min, full) = (8 << 10, 256 << 10);
    // What is left is kept for streams that make progress.
    let mut others = Reservation::new(BufferSide::Sending);
    others.resize(budget.total() * 110 / 256, &budget);
    let send_all = |send: &mut SendBuffer, until: u64, window: u32| {
        while send.written < until {
            let len = send.writable(&budget).min((until - send.written) as usize);
            send.write(vec![7; len].into(), &budget);
            while send.next_chunk(CHUNK_SIZE, None).is_some() {}
            send.acknowledge(send.written, window, &budget).unwrap();
        }
    };
    let mut send = SendBuffer::new(full, &config);
    send_all(&mut send, 350_000, full);
    assert_eq!(send.writable(&budget), min as usize, "the peer had memory, and its kernel took it");
    send_all(&mut send, 600_000, full);
    assert!(send.writable(&budget) > 50 << 10, "no kernel takes so much");
    let mut send = SendBuffer::new(min, &config);
    send_all(&mut send, 100_000, min);
    assert_eq!(send.writable(&budget), min as usize);
    send.acknowledge(send.written, full, &budget).unwrap();
    assert!(send.writable(&budget) > 50 << 10, "the reader of the peer makes progress");
}

/// A peer that grants endless credit and acknowledges nothing would otherwise make us keep all that it is sent.
#[test]
fn window_never_exceeds_its_maximum() {
    let (mut send, budget) = buffer(u32::MAX, 100);
    send.acknowledge(0, u32::MAX, &budget).unwrap();
    assert_eq!(send.writable(&budget), 100);
    send.write(Bytes::from_static(&[0; 100]), &budget);
    send.next_chunk(100, None);
    assert_eq!(send.writable(&budget), 0);
    send.acknowledge(100, u32::MAX, &budget).unwrap();
    assert_eq!(send.writable(&budget), 100);
}

/// Regression test: each message was coalesced with the unacknowledged ones before it, which copied all of them.
#[test]
fn message_that_is_sent_at_once_is_not_copied() {
    let (mut send, budget) = buffer(1 << 20, 1 << 20);
    let copied = (0..1000).filter(|_| {
        let message = Bytes::from(vec![7; 100]);
        send.write(message.clone(), &budget);
        send.next_chunk(CHUNK_SIZE, None).unwrap().payload.as_ptr() != message.as_ptr()
    });
    assert_eq!(
        copied.count(),
        1000 / MAX_SMALL_CHUNKS_PER_STREAM,
        "those with which the ones before are coalesced"
    );
    let unsent = [Bytes::from(vec![7; 100]), Bytes::from(vec![8; 100])];
    unsent.into_iter().for_each(|message| send.write(message, &budget));
    assert_eq!(
        send.next_chunk(CHUNK_SIZE, None).unwrap().payload.len(),
        200,
        "unsent messages go out together"
    );
}

#[test]
fn single_bytes_are_coalesced_after_they_were_sent() {
    let (mut send, budget) = buffer(1 << 20, 1 << 20);
    let text: Vec<u8> = (0..10_000u32).map(|n| n as u8).collect();
    for (at, byte) in text.iter().enumerate() {
        assert!(send.writable(&budget) > 0, "byte {at} is not writable, though none is unsent");
        send.write(Bytes::copy_from_slice(&[*byte]), &budget);
        let chunk = send.next_chunk(100, None).unwrap();
        assert_eq!((chunk.offset, &chunk.payload[..]), (at as u64, &[*byte][..]));
    }
    assert!(
        send.chunks.len() <= 2 * text.len() / MAX_COALESCED_LEN + MAX_SMALL_CHUNKS_PER_STREAM,
        "{}",
        send.chunks.len()
    );
    send.acknowledge(3333, 1 << 20, &budget).unwrap();
    send.lose_primary();
    let again: Vec<u8> =
        std::iter::from_fn(|| send.next_chunk(100, None)).flat_map(|chunk| chunk.payload.to_vec()).collect();
    assert_eq!(again, text[3333..]);
}

/// Each range in flight on a secondary channel costs memory, and a peer that acknowledges nothing more would have all
/// of them kept.
#[test]
fn a_stream_with_many_ranges_on_secondary_channels_is_not_striped() {
    let (mut send, budget) = buffer(1 << 20, 1 << 20);
    send.write(Bytes::from(vec![7; 100_000]), &budget);
    send.next_chunk(1, None);
    send.acknowledge(1, 1 << 20, &budget).unwrap();
    let mut striped = 0;
    while send.may_stripe(1) {
        // Two channels in turn, because adjoining ranges of one are kept as one.
        send.next_chunk(10, Some(2 + striped % 2)).unwrap();
        striped += 1;
    }
    assert_eq!(usize::from(striped), MAX_STRIPED_RANGES_PER_STREAM);
    assert!(send.next_chunk(10, None).is_some(), "the primary channel carries the rest");
}
