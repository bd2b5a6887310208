//! Resets after data: what was sent before a reset is received before it, whatever happens to the channels.

use std::{collections::VecDeque, time::Instant};

use bytes::Bytes;
use underpass::{
    ids::{Priority, StreamKey, UserChannelId},
    mux::{DataEnd, Mux, MuxConfig, MuxEvent, ProtocolError, Role},
    wire::{Frame, Open, ResetCode},
};

use super::sim::{Op, SIDES, SimulatedLink};

const CODE: ResetCode = ResetCode::UserIoError;

/// Both muxes of a link with two channels, whose first stream is established with channel 0 as its primary channel.
fn established() -> SimulatedLink {
    let mut link = SimulatedLink::new();
    link.run(Op::Open);
    exchange(&mut link, 4);
    assert_eq!(link.mux[0].primary_channel(1), Some(0));
    link
}

/// Lets both sides send and receive everything on both channels, several times.
fn exchange(link: &mut SimulatedLink, rounds: usize) {
    for _ in 0..rounds {
        for side in SIDES {
            for channel in 0..2 {
                link.run(Op::Transmit { side, channel, frames: 1000 });
                link.run(Op::Deliver { side: 1 - side, channel, frames: 1000 });
            }
        }
    }
}

/// The channel that carries the data and the RESET is lost, and everything is retransmitted on the other one: in both
/// directions, with and without an END before the reset.
#[test]
fn data_before_a_reset_survives_the_loss_of_its_channel() {
    for side in SIDES {
        for has_end in [false, true] {
            for delivered in 0..6 {
                let (mut link, stream) = (established(), 0);
                link.run(Op::Write { side, stream, len: 1500 });
                if has_end {
                    link.run(Op::Finish { side, stream });
                }
                link.run(Op::ResetAfterData { side, stream });
                link.run(Op::Transmit { side, channel: 0, frames: 1000 });
                link.run(Op::Break { channel: 0, delivered: [delivered, delivered] });
                link.run(Op::Deliver { side: 1 - side, channel: 0, frames: 1000 });
                link.settle();
                link.check();
                let receiver = &link.sides[1 - side][&1];
                assert_eq!((receiver.consumed, receiver.is_end_consumed), (1500, has_end), "{delivered}");
                assert_eq!((link.seen.resets, link.seen.clean_ends), (1, 0), "{delivered}");
            }
        }
    }
}

/// The confirmation is lost with its channel: the side that waits for it gets another.
#[test]
fn the_confirmation_of_a_reset_survives_the_loss_of_its_channel() {
    let (mut link, stream) = (established(), 0);
    link.run(Op::Write { side: 1, stream, len: 100 });
    link.run(Op::ResetAfterData { side: 1, stream });
    link.run(Op::Transmit { side: 1, channel: 0, frames: 1000 });
    link.run(Op::Deliver { side: 0, channel: 0, frames: 1000 });
    link.run(Op::Consume { side: 0, stream, len: 100 });
    link.run(Op::Transmit { side: 0, channel: 0, frames: 1000 });
    assert_eq!((link.mux[0].stream_count(), link.mux[1].stream_count()), (0, 1));
    link.run(Op::Break { channel: 0, delivered: [0, 0] });
    link.settle();
    link.check();
}

/// A proxy's mux with two channels and an established stream 1.
fn proxy() -> Mux {
    let now = Instant::now();
    let mut proxy = Mux::new(Role::Proxy, MuxConfig::default());
    proxy.add_channel(1, now);
    proxy.add_channel(2, now);
    let key = StreamKey::new(UserChannelId::new(1), 1);
    let open = Open { stream: 1, key, port: 80, priority: Priority::default(), window: 1 << 20, user: None };
    proxy.handle_frame(1, Frame::Open(open), now).unwrap();
    proxy.accept(1);
    while proxy.poll_event().is_some() {}
    proxy
}

fn data(offset: u64, payload: &'static [u8], fin: bool) -> Frame {
    Frame::Data { stream: 1, offset, fin, payload: Bytes::from_static(payload) }
}

/// Reads all data in order, and what follows it.
fn read(proxy: &mut Mux) -> (Vec<u8>, Option<DataEnd>) {
    let mut out = VecDeque::new();
    let end = proxy.read(1, &mut out);
    (out.into_iter().flatten().collect(), end)
}

/// Multipath striping: the RESET arrives on one channel while data is in flight on another. Its length says what is
/// missing.
#[test]
fn a_reset_that_overtakes_its_data_waits_for_it() {
    let now = Instant::now();
    for (fin, final_size, end) in [(false, 4, DataEnd::Reset), (true, 5, DataEnd::Fin)] {
        let mut proxy = proxy();
        proxy.handle_frame(1, Frame::Reset { stream: 1, code: CODE, final_size }, now).unwrap();
        assert_eq!(proxy.poll_event(), Some(MuxEvent::ResetAfterData { stream: 1, code: CODE }));
        assert_eq!(read(&mut proxy), (vec![], None));
        proxy.handle_frame(2, data(2, b"cd", fin), now).unwrap();
        assert_eq!(read(&mut proxy), (vec![], None), "the first bytes are missing");
        proxy.handle_frame(2, data(0, b"ab", false), now).unwrap();
        assert_eq!(read(&mut proxy), (b"abcd".to_vec(), Some(end)));
        // Nothing is sent to the side that has reset the stream, and the RESET may be retransmitted.
        assert_eq!(proxy.writable(1), 0);
        proxy.handle_frame(2, Frame::Reset { stream: 1, code: CODE, final_size }, now).unwrap();
        proxy.reset(1, CODE);
        let confirmation = Frame::Reset { stream: 1, code: CODE, final_size: 0 };
        assert!(std::iter::from_fn(|| proxy.poll_transmit(1, now)).any(|frame| frame == confirmation));
        assert_eq!(proxy.stream_count(), 0);
    }
}

#[test]
fn a_reset_without_undelivered_data_ends_the_stream_at_once() {
    let now = Instant::now();
    let mut proxy = proxy();
    proxy.handle_frame(1, data(0, b"ab", false), now).unwrap();
    assert_eq!(read(&mut proxy).0, b"ab");
    proxy.consume(1, 2, now);
    while proxy.poll_event().is_some() {}
    proxy.handle_frame(1, Frame::Reset { stream: 1, code: CODE, final_size: 2 }, now).unwrap();
    assert_eq!(proxy.poll_event(), Some(MuxEvent::Reset { stream: 1, code: CODE }));
    assert_eq!(proxy.stream_count(), 0);
}

/// The operator ends a stream whose data is still being delivered.
#[test]
fn a_reset_that_discards_the_data_ends_the_stream_at_once() {
    let now = Instant::now();
    let mut proxy = proxy();
    proxy.handle_frame(1, data(0, b"ab", false), now).unwrap();
    proxy.handle_frame(1, Frame::Reset { stream: 1, code: CODE, final_size: 4 }, now).unwrap();
    let killed = Frame::Reset { stream: 1, code: ResetCode::Killed, final_size: 0 };
    proxy.handle_frame(1, killed, now).unwrap();
    let last = std::iter::from_fn(|| proxy.poll_event()).last();
    assert_eq!(last, Some(MuxEvent::Reset { stream: 1, code: ResetCode::Killed }));
    assert_eq!(proxy.stream_count(), 0);
}

#[test]
fn a_reset_whose_length_contradicts_the_data_is_refused() {
    let now = Instant::now();
    let reset = |final_size| Frame::Reset { stream: 1, code: CODE, final_size };
    for (received, then, error) in [
        (data(2, b"cd", false), reset(3), ProtocolError::FinalSize),
        (data(0, b"ab", true), reset(2), ProtocolError::FinalSize),
        (data(0, b"ab", true), reset(4), ProtocolError::FinalSize),
        (reset(3), data(2, b"cd", false), ProtocolError::FinalSize),
        (reset(3), data(3, b"", true), ProtocolError::FinalSize),
        (data(0, b"ab", false), reset(1 << 40), ProtocolError::FlowControl),
    ] {
        let mut proxy = proxy();
        proxy.handle_frame(1, received, now).unwrap();
        assert_eq!(proxy.handle_frame(1, then, now), Err(error));
        assert_eq!(proxy.stream_count(), 0);
    }
}

/// Both local sockets fail at once.
#[test]
fn resets_that_cross_confirm_each_other() {
    let (mut link, stream) = (established(), 0);
    for side in SIDES {
        link.run(Op::Write { side, stream, len: 700 });
        link.run(Op::ResetAfterData { side, stream });
    }
    exchange(&mut link, 4);
    link.settle();
    link.check();
    assert_eq!((link.seen.resets, link.seen.clean_ends), (1, 0));
}

/// Regression test: all that is left to send before the RESET is a retransmission, which the peer acknowledges before
/// it is sent. There is no last chunk then that the RESET could follow, and it stayed queued.
#[test]
fn a_reset_is_sent_although_the_lost_data_before_it_turns_out_to_have_arrived() {
    let (mut link, stream) = (established(), 0);
    link.run(Op::Write { side: 0, stream, len: 1500 });
    link.run(Op::Transmit { side: 0, channel: 0, frames: 1000 });
    link.run(Op::Deliver { side: 1, channel: 0, frames: 1000 });
    link.run(Op::Consume { side: 1, stream, len: 1500 });
    // The acknowledgement leaves on the other channel.
    link.run(Op::Break { channel: 0, delivered: [0, 0] });
    link.run(Op::ResetAfterData { side: 0, stream });
    link.run(Op::Transmit { side: 1, channel: 1, frames: 1000 });
    link.run(Op::Deliver { side: 0, channel: 1, frames: 1000 });
    link.settle();
    link.check();
    assert_eq!((link.sides[1][&1].consumed, link.seen.resets), (1500, 1));
}
