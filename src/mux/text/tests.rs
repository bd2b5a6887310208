//! Tests of the adapter for text peers.

use super::*;
use crate::mux::{
    budget::{BufferSide, MIN_WINDOW, Reservation},
    limits::MAX_CLOSED_KEYS,
};

const WINDOW: u32 = 256 * 1024;

fn server() -> (TextAdapter, StreamKey) {
    let mut peer =
        TextAdapter::new(Role::Server, text::FieldCount::Four, WINDOW, MemoryBudget::new(1 << 30, 100));
    let key = StreamKey::new(UserChannelId::new(0xABC123), 1);
    open(&mut peer, 1, key);
    (peer, key)
}

fn open(peer: &mut TextAdapter, stream: u32, key: StreamKey) -> Vec<TunnelMessage> {
    let mut out = Vec::new();
    let open = Open { stream, key, port: 80, priority: Priority::default(), window: WINDOW, user: None };
    peer.translate_outbound(Frame::Open(open), &mut out);
    out
}

fn inbound(peer: &mut TextAdapter, key: StreamKey, action: TunnelAction, data: &[u8]) -> Vec<TextInput> {
    let mut out = Vec::new();
    peer.translate_inbound(TunnelMessage::stream(key, action, data.to_vec()), &mut out);
    out
}

fn data(offset: u64, payload: &'static [u8]) -> TextInput {
    TextInput::Frame(Frame::Data { stream: 1, offset, fin: false, payload: Bytes::from_static(payload) })
}

#[test]
fn data_before_start_is_delivered_after_it() {
    let (mut peer, key) = server();
    assert_eq!(inbound(&mut peer, key, TunnelAction::StreamData, b"ab"), []);
    let out = inbound(&mut peer, key, TunnelAction::StreamStart, b"42");
    let ok = TextInput::Frame(Frame::OpenOk { stream: 1, window: WINDOW });
    assert_eq!(out, [TextInput::AnnouncedSize { stream: 1, size: 42 }, ok, data(0, b"ab")]);
    assert_eq!(inbound(&mut peer, key, TunnelAction::StreamData, b"c"), [data(2, b"c")]);
}

#[test]
fn too_much_data_before_start_resets_the_stream() {
    let (mut peer, key) = server();
    let mut lines = 0;
    let out = loop {
        lines += 1;
        let out = inbound(&mut peer, key, TunnelAction::StreamData, &[0; 10_000]);
        if !out.is_empty() {
            break out;
        }
    };
    assert_eq!(lines, MAX_EARLY_BYTES / 10_000 + 1);
    let reply = TunnelMessage::stream(key, TunnelAction::Error, "no session for stream ABC123:1");
    assert_eq!(out[..2], [TextInput::Reply(reply), TextInput::NoSession(key)]);
    assert!(matches!(out[2], TextInput::Frame(Frame::Reset { stream: 1, .. })));
    assert_eq!(inbound(&mut peer, key, TunnelAction::StreamData, b"more"), [], "the error is sent once");
}

/// Regression test: each of the streams of a link could hold 256 KiB, all together 16 GiB.
#[test]
fn too_much_data_before_start_on_many_streams_resets_the_last_of_them() {
    let (mut peer, first) = server();
    let line = [0; 10_000];
    let per_stream = MAX_EARLY_BYTES / line.len();
    let mut lines = 0;
    let (number, out) = 'full: {
        for number in 1..100 {
            let key = StreamKey::new(UserChannelId::new(0xABC123), number);
            if number > 1 {
                open(&mut peer, number, key);
            }
            for _ in 0..per_stream {
                lines += 1;
                let out = inbound(&mut peer, key, TunnelAction::StreamData, &line);
                if !out.is_empty() {
                    break 'full (number, out);
                }
            }
        }
        unreachable!("no limit");
    };
    assert_eq!(lines, MAX_EARLY_BYTES_PER_LINK / line.len() + 1);
    assert!(
        out.iter()
            .any(|one| matches!(one, TextInput::Frame(Frame::Reset { stream, .. }) if *stream == number))
    );
    // A stream that starts, one that this side closes and the one that was reset make room for others.
    let started = inbound(&mut peer, first, TunnelAction::StreamStart, b"");
    let data = |one: &&TextInput| matches!(one, TextInput::Frame(Frame::Data { .. }));
    assert_eq!(started.iter().filter(data).count(), per_stream);
    peer.abandon(2);
    assert_eq!(peer.early_bytes, (number as usize - 3) * per_stream * line.len());
    for number in 3..number {
        peer.abandon(number);
    }
    assert_eq!(peer.early_bytes, 0);
}

#[test]
fn the_oldest_of_many_ended_streams_is_forgotten() {
    let (mut peer, first) = server();
    let key = |number| StreamKey::new(UserChannelId::new(0xABC123), number);
    inbound(&mut peer, first, TunnelAction::StreamReset, b"");
    let others = u32::try_from(MAX_CLOSED_KEYS).unwrap();
    for number in 2..=others {
        open(&mut peer, number, key(number));
        inbound(&mut peer, key(number), TunnelAction::StreamReset, b"");
    }
    assert_eq!(inbound(&mut peer, first, TunnelAction::StreamData, b"late"), []);
    open(&mut peer, others + 1, key(others + 1));
    inbound(&mut peer, key(others + 1), TunnelAction::StreamReset, b"");
    assert_eq!(inbound(&mut peer, key(2), TunnelAction::StreamData, b"late"), []);
    let out = inbound(&mut peer, first, TunnelAction::StreamData, b"late");
    assert!(out.contains(&TextInput::NoSession(first)), "{out:?}");
}

/// Regression test: a proxy that was stopped looked like a target that had failed.
#[test]
fn reset_reason_is_parsed() {
    for (reason, code) in [
        (ResetCode::Shutdown.to_text_reason(), ResetCode::Shutdown),
        (ResetCode::TargetTimeout.to_text_reason(), ResetCode::TargetTimeout),
        // A proxy of protocol version 1.
        ("the peer is shutting down".to_owned(), ResetCode::Shutdown),
        ("ConnectionRefusedError(111)".to_owned(), ResetCode::TargetRefused),
    ] {
        let (mut peer, key) = server();
        let out = inbound(&mut peer, key, TunnelAction::StreamReset, reason.as_bytes());
        assert_eq!(out, [TextInput::Frame(Frame::Reset { stream: 1, code, final_size: 0 })]);
    }
}

/// The data of a stream that the peer has reset waits for its reader, and counts as buffered meanwhile: a peer without
/// flow control could make this side buffer without bound otherwise. The peer may use the key again at once.
#[test]
fn data_before_a_reset_stays_buffered_until_it_is_consumed() {
    let (mut peer, key) = server();
    inbound(&mut peer, key, TunnelAction::StreamStart, b"");
    inbound(&mut peer, key, TunnelAction::StreamData, b"abc");
    inbound(&mut peer, key, TunnelAction::StreamEnd, b"");
    let out = inbound(&mut peer, key, TunnelAction::StreamReset, b"");
    let code = ResetCode::TargetIoError;
    assert_eq!(out, [TextInput::Frame(Frame::Reset { stream: 1, code, final_size: 4 })]);
    assert_eq!(peer.buffered, 3);
    assert_eq!(inbound(&mut peer, key, TunnelAction::StreamData, b"late"), []);
    open(&mut peer, 2, key);
    peer.consume(1, 3);
    let mut lines = Vec::new();
    peer.translate_outbound(Frame::Reset { stream: 1, code, final_size: 0 }, &mut lines);
    assert_eq!((lines, peer.buffered, peer.streams.len()), (vec![], 0, 1));
    assert_eq!(peer.streams_by_key.get(&key), Some(&2), "the key belongs to the new stream");
    // A reset that discards the data frees it.
    inbound(&mut peer, key, TunnelAction::StreamStart, b"");
    inbound(&mut peer, key, TunnelAction::StreamData, b"abc");
    inbound(&mut peer, key, TunnelAction::StreamReset, b"KILLED");
    assert_eq!((peer.buffered, peer.streams.len()), (0, 0));
}

#[test]
fn slow_reader_pauses_its_stream_and_then_the_channel() {
    let (mut peer, key) = server();
    inbound(&mut peer, key, TunnelAction::StreamStart, b"");
    let half = vec![0; WINDOW as usize / 2];
    let out = inbound(&mut peer, key, TunnelAction::StreamData, &half);
    let pause = TunnelMessage::stream(key, TunnelAction::StreamPause, "");
    assert_eq!(out[1], TextInput::Reply(pause));
    assert!(!peer.must_stop_reading());
    inbound(
        &mut peer,
        key,
        TunnelAction::StreamData,
        &vec![0; MAX_TEXT_BUFFERED_BYTES as usize - half.len()],
    );
    assert!(peer.must_stop_reading());
    peer.consume(1, MAX_TEXT_BUFFERED_BYTES - 1);
    assert!(!peer.must_stop_reading());
    let mut out = Vec::new();
    peer.translate_outbound(
        Frame::Window { stream: 1, consumed: MAX_TEXT_BUFFERED_BYTES - 1, window: WINDOW },
        &mut out,
    );
    assert_eq!(out, [TunnelMessage::stream(key, TunnelAction::StreamResume, "")]);
}

/// One user that read nothing stopped the channel of a text peer, and so all of its streams, while half of the memory
/// was in use: the channel was no longer read from 64 KiB on, and the peer was asked to pause the stream at 128 KiB.
#[test]
fn a_stalled_stream_is_paused_before_its_channel_while_memory_is_tight() {
    let budget = MemoryBudget::new(8 << 20, 100);
    let mut peer = TextAdapter::new(Role::Server, text::FieldCount::Four, WINDOW, budget.clone());
    let key = StreamKey::new(UserChannelId::new(0xABC123), 1);
    open(&mut peer, 1, key);
    let mut reservation = Reservation::new(BufferSide::Receiving);
    reservation.resize(3 << 20, &budget);
    assert!(budget.is_tight());
    inbound(&mut peer, key, TunnelAction::StreamStart, b"");
    let data = vec![0; MIN_WINDOW as usize];
    let out = inbound(&mut peer, key, TunnelAction::StreamData, &data);
    let pause = TunnelMessage::stream(key, TunnelAction::StreamPause, "");
    assert_eq!(out[1], TextInput::Reply(pause));
    assert!(!peer.must_stop_reading());
    let in_flight = vec![0; 512 * 1024];
    inbound(&mut peer, key, TunnelAction::StreamData, &in_flight);
    assert!(!peer.must_stop_reading());
}

#[test]
fn abandoned_stream_does_not_block_the_channel() {
    let (mut peer, key) = server();
    inbound(&mut peer, key, TunnelAction::StreamStart, b"");
    let data = vec![0; MAX_TEXT_BUFFERED_BYTES as usize];
    inbound(&mut peer, key, TunnelAction::StreamData, &data);
    assert!(peer.must_stop_reading());
    peer.abandon(1);
    assert!(!peer.must_stop_reading());
    assert_eq!(inbound(&mut peer, key, TunnelAction::StreamData, &data), []);
    assert!(!peer.must_stop_reading());
}

#[test]
fn three_field_peer_sees_each_stream_as_a_user() {
    let mut peer =
        TextAdapter::new(Role::Server, text::FieldCount::Three, WINDOW, MemoryBudget::new(1 << 30, 100));
    let user = UserChannelId::new(0xABC123);
    let first = open(&mut peer, 1, StreamKey::new(user, 1))[0].key.unwrap();
    let second = open(&mut peer, 2, StreamKey::new(user, 2))[0].key.unwrap();
    assert_eq!([first.to_string(), second.to_string()], ["ABC123:0", "ABC124:0"]);
    inbound(&mut peer, first, TunnelAction::StreamReset, b"");
    let third = open(&mut peer, 3, StreamKey::new(user, 3))[0].key.unwrap();
    assert_eq!(third.to_string(), "ABC125:0", "lines for the first may still be in flight");
}

#[test]
fn finished_stream_is_forgotten() {
    let (mut peer, key) = server();
    inbound(&mut peer, key, TunnelAction::Response, b"xy");
    inbound(&mut peer, key, TunnelAction::StreamEnd, b"");
    let mut out = Vec::new();
    let end = Frame::Data { stream: 1, offset: 0, fin: true, payload: Bytes::new() };
    assert!(peer.translate_outbound(end, &mut out).is_some());
    peer.consume(1, 2);
    peer.translate_outbound(Frame::Window { stream: 1, consumed: 3, window: WINDOW }, &mut out);
    assert!(peer.streams.is_empty() && peer.streams_by_key.is_empty());
}

/// A text peer that reads nothing may leave many answers, each as long as its PING.
#[test]
fn a_ping_with_much_data_violates_the_protocol() {
    let (mut peer, key) = server();
    let longest = [b'x'; MAX_PING_DATA];
    let answer = TunnelMessage::control(TunnelAction::Pong, longest.to_vec());
    assert_eq!(inbound(&mut peer, key, TunnelAction::Ping, &longest), [TextInput::Reply(answer)]);
    let violation = TextInput::Violation(ProtocolError::LongPing);
    assert_eq!(inbound(&mut peer, key, TunnelAction::Ping, &[b'x'; MAX_PING_DATA + 1]), [violation]);
}
