//! Credit, small messages and windows between two muxes.

use std::{
    collections::{HashSet, VecDeque},
    time::{Duration, Instant},
};

use bytes::Bytes;
use underpass::{
    ids::{StreamKey, UserChannelId},
    mux::{Mux, MuxConfig, Role, TransportSample},
    wire::{Frame, ResetCode, TunnelAction, TunnelMessage},
};

use super::{
    exchange,
    sim::{Op, SIDES, SimulatedLink},
};

/// Regression test: a keep-alive connection with requests of 44 bytes stalled after twelve hundred of them. Each was
/// charged 256 bytes until it was acknowledged, and it was not acknowledged before a quarter of the window had been
/// received.
#[test]
fn small_messages_never_block_the_stream() {
    let mut link = SimulatedLink::with(MuxConfig::default());
    link.run(Op::Open);
    for _ in 0..20_000 {
        link.run(Op::Write { side: 0, stream: 0, len: 1 });
        for side in SIDES {
            for channel in 0..2 {
                link.run(Op::Transmit { side, channel, frames: 8 });
                link.run(Op::Deliver { side: 1 - side, channel, frames: 8 });
            }
        }
        link.run(Op::Consume { side: 1, stream: 0, len: 1 });
    }
    assert_eq!(link.sides[1][&1].consumed, 20_000);
    link.settle();
    link.check();
}

/// A peer that grants no credit still receives pings, messages, the OPEN of other streams, and RESET.
#[test]
fn control_frames_need_no_credit() {
    let now = Instant::now();
    let mut server = Mux::new(Role::Server, MuxConfig { initial_window: 1000, ..MuxConfig::default() });
    server.add_channel(1, now);
    let key = |user| StreamKey::new(UserChannelId::new(user), 1);
    let stream = server.open(key(1), 80, None, |_| false).unwrap();
    let writable = server.writable(stream);
    server.write(stream, vec![7; writable].into());
    assert_eq!(server.writable(stream), 0);
    while server.poll_transmit(1, now).is_some() {}
    server.send_message(1, TunnelMessage::control(TunnelAction::Exit, "")).unwrap();
    assert!(matches!(server.poll_transmit(1, now), Some(Frame::Message(_))));
    let other = server.open(key(2), 80, None, |_| false).unwrap();
    assert!(matches!(server.poll_transmit(1, now), Some(Frame::Open(open)) if open.stream == other));
    server.handle_frame(1, Frame::Ping { token: 1 }, now).unwrap();
    assert_eq!(server.poll_transmit(1, now), Some(Frame::Pong { token: 1 }));
    server.reset(stream, ResetCode::UserIoError);
    assert!(
        matches!(server.poll_transmit(1, now), Some(Frame::Reset { stream: closed, .. }) if closed == stream)
    );
}

/// Regression test: the command line allows an initial window beyond the maximum. On a long path, auto-tuning then
/// asked for a window between a larger and a smaller bound, and panicked.
#[test]
fn initial_window_may_exceed_the_maximum() {
    let config = MuxConfig { initial_window: 64 << 20, ..MuxConfig::default() };
    assert!(config.initial_window > config.max_window);
    let (mut server, mut proxy) = (Mux::new(Role::Server, config.clone()), Mux::new(Role::Proxy, config));
    let mut now = Instant::now();
    for mux in [&mut server, &mut proxy] {
        mux.add_channel(1, now);
        mux.handle_timeout(now);
    }
    let stream = server.open(StreamKey::new(UserChannelId::new(1), 1), 80, None, |_| false).unwrap();
    // The RTT of the first ping is 200 ms.
    exchange(&mut server, &mut proxy, now);
    proxy.accept(stream);
    now += Duration::from_millis(200);
    exchange(&mut proxy, &mut server, now);
    for _ in 0..4000 {
        now += Duration::from_micros(500);
        proxy.write(stream, Bytes::from_static(&[7; 64 * 1024]));
        exchange(&mut proxy, &mut server, now);
        let mut out = VecDeque::new();
        server.read(stream, &mut out);
        server.consume(stream, out.iter().map(|data| data.len() as u64).sum(), now);
        exchange(&mut server, &mut proxy, now);
    }
}

/// Regression test: BBR drains the path of each connection every ten seconds. The acknowledgements of four downloads,
/// hundreds a second, then avoided the channel that was drained, and filled the kernel's windows of the others, where
/// messages waited for 300 ms.
#[test]
fn acknowledgements_stay_on_a_channel_that_the_kernel_drains() {
    let now = Instant::now();
    let mut server = Mux::new(Role::Server, MuxConfig::default());
    let rtt = Duration::from_millis(200);
    let report = |cwnd_used, cwnd| TransportSample {
        rtt,
        cwnd_used,
        cwnd,
        delivered: 100_000,
        ..TransportSample::default()
    };
    for channel in [1, 2] {
        server.add_channel(channel, now);
        server.report_transport(channel, report(0, 100_000), now);
    }
    let open = |server: &mut Mux, user| {
        let stream = server.open(StreamKey::new(UserChannelId::new(user), 1), 80, None, |_| false).unwrap();
        for channel in [1, 2] {
            while server.poll_transmit(channel, now).is_some() {}
        }
        let channel = server.primary_channel(stream).unwrap();
        server.handle_frame(channel, Frame::OpenOk { stream, window: 1 << 20 }, now).unwrap();
        (stream, channel)
    };
    let (download, drained) = open(&mut server, 1);
    server.handle_timeout(now);
    let receive = |server: &mut Mux, offset: u64, len: usize| {
        let data = Frame::Data { stream: download, offset, fin: false, payload: vec![7; len].into() };
        server.handle_frame(drained, data, now).unwrap();
        let mut read = VecDeque::new();
        server.read(download, &mut read);
        server.consume(download, len as u64, now);
    };
    server.report_transport(drained, report(6000, 5792), now);
    receive(&mut server, 0, 8 * 1024);
    assert_eq!(server.primary_channel(download), Some(drained));
    let sent: Vec<_> = std::iter::from_fn(|| server.poll_transmit(drained, now)).collect();
    assert!(sent.iter().any(|frame| matches!(frame, Frame::Window { .. })), "{sent:?}");

    // A message avoids that channel.
    server.write(download, Bytes::from_static(b"message"));
    assert_eq!(server.primary_channel(download), Some(3 - drained));
}

/// Regression test: the acknowledgements of four downloads had BBR drain all four channels of a path with an RTT of
/// 200 ms at the same time, and pings waited for 400 ms. On one channel, they leave the others to messages. Where
/// segments are lost, all of them would wait for each loss there.
#[test]
fn acknowledgements_of_downloads_share_a_channel_while_nothing_is_lost() {
    const CHANNELS: u16 = 4;
    let mut now = Instant::now();
    let mut server = Mux::new(Role::Server, MuxConfig::default());
    let mut sample =
        TransportSample { rtt: Duration::from_millis(200), cwnd: 200_000, ..TransportSample::default() };
    for channel in 1..=CHANNELS {
        server.add_channel(channel, now);
        server.report_transport(channel, sample, now);
    }
    server.handle_timeout(now);
    let downloads: Vec<_> = (1..=u32::from(CHANNELS))
        .map(|user| {
            let key = StreamKey::new(UserChannelId::new(user), 1);
            let stream = server.open(key, 80, None, |_| false).unwrap();
            let channel = server.primary_channel(stream).unwrap();
            while server.poll_transmit(channel, now).is_some() {}
            server.handle_frame(channel, Frame::OpenOk { stream, window: 1 << 20 }, now).unwrap();
            stream
        })
        .collect();
    let mut offset = 0;
    // Returns on how many channels the downloads are after so many seconds of 200 frames of 8 KiB each.
    let mut channels_after = |seconds: u64, segments_per_loss: Option<u64>| {
        for _ in 0..200 * seconds {
            now += Duration::from_millis(5);
            for &stream in &downloads {
                let data = Frame::Data { stream, offset, fin: false, payload: vec![7; 8 * 1024].into() };
                server.handle_frame(1, data, now).unwrap();
                server.read(stream, &mut VecDeque::new());
                server.consume(stream, 8 * 1024, now);
            }
            offset += 8 * 1024;
            sample.sent_segments += 4;
            sample.retransmitted_segments += segments_per_loss.map_or(0, |n| 4 / n);
            for channel in 1..=CHANNELS {
                while server.poll_transmit(channel, now).is_some() {}
                server.report_transport(channel, sample, now);
            }
        }
        downloads.iter().map(|&stream| server.primary_channel(stream)).collect::<HashSet<_>>().len()
    };
    assert_eq!(channels_after(2, None), 1);
    assert_eq!(channels_after(2, Some(4)), usize::from(CHANNELS));
    assert_eq!(channels_after(60, None), 1, "the losses were long ago");
}
