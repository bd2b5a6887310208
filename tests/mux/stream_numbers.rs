//! Stream numbers that run out, and the request to replace the link before.

use std::time::Instant;

use underpass::{
    ids::{StreamKey, UserChannelId},
    mux::{Mux, MuxConfig, MuxEvent, OpenError, Role},
    wire::{Frame, ResetCode},
};

use super::exchange;

/// Returns the mux of a server, which may open 16 streams, and that of its proxy, with one channel.
fn pair(now: Instant) -> [Mux; 2] {
    [Role::Server, Role::Proxy].map(|role| {
        let mut mux = Mux::new(role, MuxConfig { last_stream_number: 16, ..MuxConfig::default() });
        mux.add_channel(1, now);
        mux
    })
}

fn open(server: &mut Mux, number: u32) -> Result<u32, OpenError> {
    server.open(StreamKey::new(UserChannelId::new(1), number), 80, None, |_| false)
}

/// Returns how often a mux was asked to replace its link.
fn requests(mux: &mut Mux) -> usize {
    let is_request = |event: &MuxEvent| matches!(event, MuxEvent::GoAway { code: ResetCode::LinkReplaced });
    std::iter::from_fn(|| mux.poll_event()).filter(is_request).count()
}

#[test]
fn the_proxy_is_asked_for_another_link_while_an_eighth_of_the_numbers_is_left() {
    let now = Instant::now();
    let [mut server, mut proxy] = pair(now);
    for number in 1..=13 {
        assert_eq!(open(&mut server, number), Ok(number));
    }
    exchange(&mut server, &mut proxy, now);
    assert_eq!(requests(&mut proxy), 0);
    assert_eq!(open(&mut server, 14), Ok(14));
    exchange(&mut server, &mut proxy, now);
    assert_eq!(requests(&mut proxy), 1);
    // The last numbers are still used: the proxy may take a while.
    for number in 15..=16 {
        assert_eq!(open(&mut server, number), Ok(number));
    }
    assert_eq!(open(&mut server, 17), Err(OpenError::LinkReplaced));
    exchange(&mut server, &mut proxy, now);
    assert_eq!(requests(&mut proxy), 0, "one request is enough");
    assert_eq!(proxy.stream_count(), 16);
}

/// The request may be lost together with the channel that carried it.
#[test]
fn each_further_channel_repeats_the_request() {
    let now = Instant::now();
    let [mut server, mut proxy] = pair(now);
    (1..=14).for_each(|number| _ = open(&mut server, number).unwrap());
    server.remove_channel(1);
    server.add_channel(2, now);
    proxy.add_channel(2, now);
    while let Some(frame) = server.poll_transmit(2, now) {
        proxy.handle_frame(2, frame, now).unwrap();
    }
    assert_eq!(requests(&mut proxy), 2, "with the frames of the lost channel, and by itself");
    server.set_replaced();
    server.add_channel(3, now);
    let is_request = |frame: &Frame| matches!(frame, Frame::GoAway { .. });
    assert!(!std::iter::from_fn(|| server.poll_transmit(3, now)).any(|frame| is_request(&frame)));
}

/// Regression test: the proxy answered on the channels that it had. If that was none, or they were lost, the server
/// used both links from then on.
#[test]
fn each_further_channel_repeats_the_answer() {
    let now = Instant::now();
    let [_, mut proxy] = pair(now);
    proxy.remove_channel(1);
    let answers = |proxy: &mut Mux, channel| {
        proxy.add_channel(channel, now);
        let is_answer = |frame: &Frame| matches!(frame, Frame::GoAway { code: ResetCode::LinkReplaced });
        std::iter::from_fn(|| proxy.poll_transmit(channel, now)).filter(is_answer).count()
    };
    assert_eq!(answers(&mut proxy, 2), 0, "it has not replaced the link");
    proxy.remove_channel(2);
    proxy.send_go_away(ResetCode::LinkReplaced);
    assert_eq!((answers(&mut proxy, 3), answers(&mut proxy, 4)), (1, 1));
}

#[test]
fn a_link_is_used_up_when_its_last_stream_has_ended_and_none_can_follow() {
    let now = Instant::now();
    let [mut server, _] = pair(now);
    assert!(!server.is_used_up(), "it may open streams");
    let first = open(&mut server, 1).unwrap();
    server.set_replaced();
    assert_eq!(open(&mut server, 2), Err(OpenError::LinkReplaced));
    assert!(!server.is_used_up());
    server.reset(first, ResetCode::Killed);
    assert!(server.is_used_up());
    let [mut server, proxy] = pair(now);
    (1..=16).for_each(|number| _ = open(&mut server, number).unwrap());
    (1..=15).for_each(|stream| server.reset(stream, ResetCode::Killed));
    assert!(!server.is_used_up());
    server.reset(16, ResetCode::Killed);
    assert!(server.is_used_up());
    assert!(!proxy.is_used_up(), "streams may be on their way to it");
}
