//! Peers and users that try to make a mux buffer without bound.

use std::time::{Duration, Instant};

use bytes::Bytes;
use underpass::{
    ids::{Priority, StreamKey, UserChannelId},
    mux::{MemoryBudget, Mux, MuxConfig, MuxEvent, OpenError, ProtocolError, Role},
    wire::{Frame, Open, ResetCode},
};

use super::exchange;

/// Ten thousand short streams a second, each reset by its user while the response is in flight: frames for closed
/// streams are glitches, and still no flood.
#[test]
fn frames_for_reset_streams_are_no_flood() {
    let mut now = Instant::now();
    let mut muxes = [Role::Server, Role::Proxy].map(|role| Mux::new(role, MuxConfig::default()));
    let [server, proxy] = &mut muxes;
    server.add_channel(1, now);
    proxy.add_channel(1, now);
    for n in 1..=100_000 {
        now += Duration::from_micros(100);
        let stream = server.open(StreamKey::new(UserChannelId::new(1), n), 80, None, |_| false).unwrap();
        server.write(stream, Bytes::from_static(b"GET / HTTP/1.1"));
        exchange(server, proxy, now);
        proxy.accept(stream);
        let mut answer = Vec::new();
        for _ in 0..20 {
            proxy.write(stream, Bytes::from_static(&[7; 1000]));
            answer.extend(std::iter::from_fn(|| proxy.poll_transmit(1, now)));
        }
        assert!(answer.len() > 20);
        server.reset(stream, ResetCode::UserIoError);
        answer.into_iter().for_each(|frame| server.handle_frame(1, frame, now).unwrap());
        exchange(server, proxy, now);
        while server.poll_event().is_some() || proxy.poll_event().is_some() {}
    }
}

/// Regression test: a RESET was kept for every user that connected and disconnected while the proxy read nothing, or
/// little: without bound.
#[test]
fn opening_streams_fails_while_the_peer_reads_nothing() {
    let now = Instant::now();
    let mut server = Mux::new(Role::Server, MuxConfig::default());
    server.add_channel(1, now);
    let key = StreamKey::new(UserChannelId::new(1), 1);
    let open_and_reset = |server: &mut Mux| {
        let opened = server.open(key, 80, None, |_| false);
        opened.map(|stream| server.reset(stream, ResetCode::UserIoError))
    };
    let opened_count = (0..1_000_000).take_while(|_| open_and_reset(&mut server).is_ok()).count();
    assert_eq!(opened_count, 65_536);
    assert_eq!(open_and_reset(&mut server), Err(OpenError::Stalled));
    // A second channel that accepts frames helps, and so does accepting them on the first one.
    server.add_channel(2, now);
    assert_eq!(open_and_reset(&mut server), Ok(()));
    server.remove_channel(2);
    while server.poll_transmit(1, now).is_some() {}
    assert_eq!(open_and_reset(&mut server), Ok(()));
}

/// The same on the other side: a server that opens streams and reads no replies.
#[test]
fn opens_are_refused_while_the_server_reads_no_replies() {
    let now = Instant::now();
    let mut proxy = Mux::new(Role::Proxy, MuxConfig::default());
    proxy.add_channel(1, now);
    let mut open_and_reset = |stream: u32| {
        let key = StreamKey::new(UserChannelId::new(1), stream);
        let open = Open { stream, key, port: 80, priority: Priority::default(), window: 1, user: None };
        proxy
            .handle_frame(1, Frame::Open(open), now)
            .inspect(|()| proxy.reset(stream, ResetCode::TargetRefused))
    };
    let opened = (1..1_000_000).take_while(|&stream| open_and_reset(stream).is_ok()).count();
    assert_eq!(opened, 65_536);
    assert_eq!(open_and_reset(65_537), Err(ProtocolError::TooManyUnreadReplies));
}

/// A stream id is never used twice: an OPEN with a used id opens nothing, whether the first stream is still open or
/// not.
#[test]
fn reused_stream_id_opens_no_stream() {
    let now = Instant::now();
    let mut proxy = Mux::new(Role::Proxy, MuxConfig::default());
    proxy.add_channel(1, now);
    let open = |proxy: &mut Mux, user: u32| {
        let key = StreamKey::new(UserChannelId::new(user), 1);
        let open = Open { stream: 1, key, port: 80, priority: Priority::default(), window: 1, user: None };
        proxy.handle_frame(1, Frame::Open(open), now).unwrap();
        (proxy.poll_event(), proxy.stream_count())
    };
    assert!(matches!(open(&mut proxy, 1), (Some(MuxEvent::Opened(_)), 1)));
    assert!(matches!(open(&mut proxy, 2), (None, 1)));
    proxy.reset(1, ResetCode::TargetRefused);
    while proxy.poll_transmit(1, now).is_some() {}
    assert!(matches!(open(&mut proxy, 3), (None, 0)));
}

/// Regression test: a peer that granted endless credit on many streams and acknowledged nothing made us buffer 16 MiB
/// for each.
#[test]
fn buffered_data_is_bounded_for_all_links_together() {
    let now = Instant::now();
    let budget = MemoryBudget::new(100 << 20, 1000);
    let config = MuxConfig { budget: budget.clone(), ..MuxConfig::default() };
    let mut links = [0, 1].map(|_| Mux::new(Role::Server, config.clone()));
    let mut kept = [0, 0];
    for (link, kept) in links.iter_mut().zip(&mut kept) {
        link.add_channel(1, now);
        for number in 1..=450 {
            let key = StreamKey::new(UserChannelId::new(1), number);
            let stream = link.open(key, 80, None, |_| false).unwrap();
            receive_all(link, now);
            link.handle_frame(1, Frame::OpenOk { stream, window: u32::MAX }, now).unwrap();
            let mut of_stream = 0;
            while let writable @ 1.. = link.writable(stream) {
                link.write(stream, Bytes::from(vec![7; writable]));
                of_stream += writable;
                receive_all(link, now);
                assert!(budget.used() <= budget.total(), "{} after {number} streams", budget.used());
            }
            assert!(of_stream >= 8 << 10, "{of_stream}: every stream has its minimum");
            *kept += of_stream;
        }
    }
    assert!(kept[0] > 25 << 20 && kept.iter().sum::<usize>() < 90 << 20, "{kept:?}");
    // Closed streams and a dropped link return their share to the budget.
    let before = budget.used();
    links[0].reset(1, ResetCode::Killed);
    assert!(budget.used() < before - (100 << 10));
    drop(links);
    assert_eq!(budget.used(), 0);
}

/// A proxy cannot refuse what a server sends before OPEN_OK. Uploads do not wait for it while they are few; on all
/// streams that wait for it together, no more is sent than a proxy sets apart. Then the credit of OPEN_OK counts.
#[test]
fn early_data_of_all_streams_together_is_bounded() {
    const EARLY: usize = 4 << 20;
    const MINIMUM: usize = 8 << 10;
    let now = Instant::now();
    let mut server = Mux::new(Role::Server, MuxConfig::default());
    server.add_channel(1, now);
    let write_all = |server: &mut Mux, stream| {
        let mut written = 0;
        while let len @ 1.. = server.writable(stream) {
            assert_eq!(server.write(stream, vec![7; len].into()), None);
            written += len;
            receive_all(server, now);
        }
        written
    };
    let open = |server: &mut Mux, number| {
        server.open(StreamKey::new(UserChannelId::new(1), number), 80, None, |_| false).unwrap()
    };
    let sizes: Vec<_> = (1..=100)
        .map(|number| {
            let stream = open(&mut server, number);
            write_all(&mut server, stream)
        })
        .collect();
    assert_eq!((sizes[0], sizes[99]), (256 << 10, MINIMUM));
    assert_eq!(sizes.iter().sum::<usize>(), EARLY + 100 * MINIMUM);
    // Acceptance with little credit, a refusal, and one with much credit.
    server.handle_frame(1, Frame::OpenOk { stream: 1, window: 8 << 10 }, now).unwrap();
    assert_eq!(write_all(&mut server, 1), 0);
    server.handle_frame(1, Frame::Window { stream: 1, consumed: 256 << 10, window: 8 << 10 }, now).unwrap();
    assert_eq!(write_all(&mut server, 1), MINIMUM);
    let refusal = Frame::Reset { stream: 2, code: ResetCode::TargetRefused, final_size: 0 };
    server.handle_frame(1, refusal, now).unwrap();
    while server.poll_event().is_some() {}
    server.handle_frame(1, Frame::OpenOk { stream: 100, window: 256 << 10 }, now).unwrap();
    let accepted: Vec<_> = std::iter::from_fn(|| server.poll_event()).collect();
    assert_eq!(accepted, [MuxEvent::Accepted { stream: 100 }, MuxEvent::Writable { stream: 100 }]);
    assert_eq!(write_all(&mut server, 100), (256 << 10) - MINIMUM);
    let stream = open(&mut server, 101);
    assert_eq!(write_all(&mut server, stream), 256 << 10, "what was accepted or refused counts no more");
}

/// A server that sends early data without bound, or an older one, cannot make a proxy exceed its budget: streams for
/// whose data no memory is left are reset.
#[test]
fn early_data_beyond_the_budget_resets_its_stream() {
    let now = Instant::now();
    let budget = MemoryBudget::new(64 << 20, 1000);
    let mut proxy = Mux::new(Role::Proxy, MuxConfig { budget: budget.clone(), ..MuxConfig::default() });
    proxy.add_channel(1, now);
    let mut resets = 0;
    for stream in 1..=400 {
        let key = StreamKey::new(UserChannelId::new(1), stream);
        let open = Open { stream, key, port: 80, priority: Priority::default(), window: 1 << 20, user: None };
        proxy.handle_frame(1, Frame::Open(open), now).unwrap();
        let payload = Bytes::from(vec![7; 256 << 10]);
        proxy.handle_frame(1, Frame::Data { stream, offset: 0, fin: false, payload }, now).unwrap();
        while let Some(event) = proxy.poll_event() {
            resets += u32::from(event == MuxEvent::Reset { stream, code: ResetCode::LimitExceeded });
        }
        assert!(budget.used() <= budget.total(), "{} of {} bytes", budget.used(), budget.total());
    }
    assert!((100..300).contains(&resets), "{resets}");
    drop(proxy);
    assert_eq!(budget.used(), 0);
}

/// Until the proxy accepts a stream, all of its data is kept for another proxy. Credit that comes before does not let
/// it exceed the first window; consumed data is acceptance.
#[test]
fn credit_before_acceptance_is_ignored_and_consumption_is_acceptance() {
    let now = Instant::now();
    let config = MuxConfig { initial_window: 1000, ..MuxConfig::default() };
    let mut server = Mux::new(Role::Server, config);
    server.add_channel(1, now);
    let key = StreamKey::new(UserChannelId::new(1), 1);
    let stream = server.open(key, 80, None, |_| false).unwrap();
    let write_all = |server: &mut Mux| {
        let mut written = 0;
        while let len @ 1.. = server.writable(stream) {
            assert_eq!(server.write(stream, vec![7; len].into()), None);
            written += len;
            receive_all(server, now);
        }
        written
    };
    assert_eq!(write_all(&mut server), 1000);
    for window in [1000, 100_000, u32::MAX] {
        server.handle_frame(1, Frame::Window { stream, consumed: 0, window }, now).unwrap();
        assert_eq!(write_all(&mut server), 0, "credit of {window} bytes before OPEN_OK");
    }
    assert_eq!(server.poll_event(), None);
    // A WINDOW that has overtaken its OPEN_OK on another channel.
    server.handle_frame(1, Frame::Window { stream, consumed: 600, window: 1000 }, now).unwrap();
    assert_eq!(server.poll_event(), Some(MuxEvent::Accepted { stream }));
    assert_eq!(write_all(&mut server), 600);
    server.handle_frame(1, Frame::OpenOk { stream, window: 1000 }, now).unwrap();
    server
        .handle_frame(1, Frame::Reset { stream, code: ResetCode::TargetRefused, final_size: 0 }, now)
        .unwrap();
    let events: Vec<_> = std::iter::from_fn(|| server.poll_event()).collect();
    assert!(events.contains(&MuxEvent::Reset { stream, code: ResetCode::TargetRefused }), "{events:?}");
    // The stream has ended: what its reader has read meanwhile is handed back.
    assert_eq!(server.write(stream, Bytes::from_static(b"late")), Some(Bytes::from_static(b"late")));
}

/// Receives all frames of a mux and answers its pings.
fn receive_all(mux: &mut Mux, now: Instant) {
    while let Some(frame) = mux.poll_transmit(1, now) {
        if let Frame::Ping { token } = frame {
            mux.handle_frame(1, Frame::Pong { token }, now).unwrap();
        }
    }
}

/// Only a proxy closes channels, and only a server asks for them. A proxy may retire all of its channels: the streams
/// stay on the last one.
#[test]
fn retirement_by_the_wrong_side_or_of_all_channels_loses_nothing() {
    let now = Instant::now();
    let mut proxy = Mux::new(Role::Proxy, MuxConfig::default());
    proxy.add_channel(1, now);
    assert_eq!(proxy.handle_frame(1, Frame::Retire, now), Err(ProtocolError::UnexpectedFrame("RETIRE")));
    assert_eq!(proxy.retire_channel(), None, "it is the only one");

    let mut server = Mux::new(Role::Server, MuxConfig::default());
    server.add_channel(1, now);
    server.add_channel(2, now);
    let stream = server.open(StreamKey::new(UserChannelId::new(1), 1), 80, None, |_| false).unwrap();
    for _ in 0..3 {
        for channel in [1, 2] {
            server.handle_frame(channel, Frame::Retire, now).unwrap();
            server.handle_frame(channel, Frame::Channels { serial: 9, count: u16::MAX }, now).unwrap();
        }
    }
    assert_eq!(server.used_channel_count(), 0);
    let channel = server.primary_channel(stream).expect("the link still has channels");
    server.write(stream, Bytes::from_static(b"hello"));
    let frames: Vec<_> = std::iter::from_fn(|| server.poll_transmit(channel, now)).collect();
    assert!(frames.iter().any(|frame| matches!(frame, Frame::Data { .. })), "{frames:?}");
    let open_at = frames.iter().position(|frame| matches!(frame, Frame::Open(_)));
    let data_at = frames.iter().position(|frame| matches!(frame, Frame::Data { .. }));
    assert!(open_at < data_at, "{frames:?}");
    let answers = frames.iter().filter(|frame| **frame == Frame::Retire).count();
    assert_eq!(answers, 1, "repeated RETIRE frames are not answered");
}
