//! Two muxes wired back to back over a network that a script cuts, in virtual time: whatever happens, every byte
//! arrives once and in order, or the stream ends with an error at both ends, and nothing is left behind.
#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub)]

mod lines;
mod world;

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::Bytes;
use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{FileFailurePersistence, TestRunner},
};
use underpass::{
    ids::{Priority, StreamKey, UserChannelId},
    mux::{Mux, MuxConfig, MuxEvent, OpenError, ProtocolError, Role, WindowBudget},
    wire::{Frame, Open, ResetCode, TunnelAction, TunnelMessage},
};
use world::{Cable, Op, SIDES, Seen, World};

fn op() -> impl Strategy<Value = Op> {
    let side = 0..2usize;
    let stream = 0..8usize;
    let channel = 0..4usize;
    let at = || (side.clone(), stream.clone());
    let some = || (side.clone(), channel.clone(), 1..8usize);
    prop_oneof![
        4 => Just(Op::Open),
        1 => stream.clone().prop_map(|stream| Op::Accept { stream }),
        16 => (at(), 0..6000usize).prop_map(|((side, stream), len)| Op::Write { side, stream, len }),
        4 => at().prop_map(|(side, stream)| Op::Finish { side, stream }),
        12 => (at(), 0..3000u64).prop_map(|((side, stream), len)| Op::Consume { side, stream, len }),
        2 => at().prop_map(|(side, stream)| Op::Reset { side, stream }),
        2 => (at(), any::<bool>()).prop_map(|((side, stream), held)| Op::Hold { side, stream, held }),
        1 => (stream.clone(), 0..5usize).prop_map(|(stream, priority)| Op::Priority { stream, priority }),
        16 => some().prop_map(|(side, channel, frames)| Op::Transmit { side, channel, frames }),
        16 => some().prop_map(|(side, channel, frames)| Op::Deliver { side, channel, frames }),
        2 => Just(Op::AddChannel),
        1 => Just(Op::Resume),
        3 => (channel.clone(), [0..6usize, 0..6usize]).prop_map(|(channel, arrive)| Op::Cut { channel, arrive }),
        4 => (side.clone(), channel.clone()).prop_map(|(side, channel)| Op::Notice { side, channel }),
        2 => (channel.clone(), any::<bool>()).prop_map(|(channel, stalled)| Op::Stall { channel, stalled }),
        4 => (0..4000u64).prop_map(|ms| Op::Pass { ms }),
    ]
}

/// A keep-alive connection with requests of 44 bytes stopped for ever after twelve hundred of them: each was charged
/// 256 bytes until it was acknowledged, and it was not acknowledged before a quarter of the window had come.
#[test]
fn small_messages_never_run_out_of_room() {
    let mut world = World::with(MuxConfig::default());
    world.run(Op::Open);
    for _ in 0..20_000 {
        world.run(Op::Write { side: 0, stream: 0, len: 1 });
        for side in SIDES {
            for channel in 0..2 {
                world.run(Op::Transmit { side, channel, frames: 8 });
                world.run(Op::Deliver { side: 1 - side, channel, frames: 8 });
            }
        }
        world.run(Op::Consume { side: 1, stream: 0, len: 1 });
    }
    assert_eq!(world.ends[1][&1].received, 20_000);
    world.settle();
    world.check();
}

/// Ten thousand short streams a second, each reset by its user while the answer is under way: what comes for a stream that
/// is over says nothing, and is still no flood.
#[test]
fn users_who_reset_their_streams_are_no_flood() {
    let mut now = Instant::now();
    let mut muxes = [Role::Server, Role::Proxy].map(|role| Mux::new(role, MuxConfig::default()));
    let [server, proxy] = &mut muxes;
    server.add_channel(1, now);
    proxy.add_channel(1, now);
    for n in 1..=100_000 {
        now += Duration::from_micros(100);
        let stream = server.open(StreamKey::new(UserChannelId::new(1), n), 80, None, |_| false).unwrap();
        server.write(stream, Bytes::from_static(b"GET / HTTP/1.1"));
        pass(server, proxy, now);
        proxy.accept(stream);
        let mut answer = Vec::new();
        for _ in 0..20 {
            proxy.write(stream, Bytes::from_static(&[7; 1000]));
            answer.extend(std::iter::from_fn(|| proxy.poll_transmit(1, now)));
        }
        assert!(answer.len() > 20);
        server.reset(stream, ResetCode::UserIoError);
        answer.into_iter().for_each(|frame| server.handle_frame(1, frame, now).unwrap());
        pass(server, proxy, now);
        while server.poll_event().is_some() || proxy.poll_event().is_some() {}
    }
}

fn pass(from: &mut Mux, to: &mut Mux, now: Instant) {
    while let Some(frame) = from.poll_transmit(1, now) {
        to.handle_frame(1, frame, now).unwrap();
    }
}

/// A RESET was kept for every user who came and went while the proxy took nothing, or a little now and then: without end.
#[test]
fn users_who_come_and_go_while_nothing_is_taken_are_turned_away_at_last() {
    let now = Instant::now();
    let mut server = Mux::new(Role::Server, MuxConfig::default());
    server.add_channel(1, now);
    let key = StreamKey::new(UserChannelId::new(1), 1);
    let comes_and_goes = |server: &mut Mux| {
        let opened = server.open(key, 80, None, |_| false);
        opened.map(|stream| server.reset(stream, ResetCode::UserIoError))
    };
    let came = (0..1_000_000).take_while(|_| comes_and_goes(&mut server).is_ok()).count();
    assert_eq!(came, 65_536);
    assert_eq!(comes_and_goes(&mut server), Err(OpenError::Stalled));
    // Another channel that takes what it gets is a way out, and so is taking it at last.
    server.add_channel(2, now);
    assert_eq!(comes_and_goes(&mut server), Ok(()));
    server.remove_channel(2);
    while server.poll_transmit(1, now).is_some() {}
    assert_eq!(comes_and_goes(&mut server), Ok(()));
}

#[test]
fn what_waits_for_room_on_a_channel_is_counted_whoevers_it_is() {
    let now = Instant::now();
    let mut server = Mux::new(Role::Server, MuxConfig::default());
    server.add_channel(1, now);
    for (user, bytes) in [(1, 70_000), (2, 5), (2, 1000)] {
        let stream = server.open(StreamKey::new(UserChannelId::new(user), 1), 80, None, |_| false).unwrap();
        server.write(stream, vec![7; bytes].into());
    }
    assert_eq!((server.queued_bytes(1), server.queued_bytes(2)), (71_005, 0));
    let mut waits = 71_005;
    while let Some(frame) = server.poll_transmit(1, now) {
        if let Frame::Data { payload, .. } = frame {
            waits -= payload.len() as u64;
        }
        assert_eq!(server.queued_bytes(1), waits);
    }
    assert_eq!(waits, 0);
    // All of it has to go out again on another channel.
    server.add_channel(2, now);
    server.remove_channel(1);
    assert_eq!((server.queued_bytes(1), server.queued_bytes(2)), (0, 71_005));
}

/// The same at the other side: a server that opens streams and reads no answers.
#[test]
fn a_server_that_reads_no_answers_opens_no_streams_for_ever() {
    let now = Instant::now();
    let mut proxy = Mux::new(Role::Proxy, MuxConfig::default());
    proxy.add_channel(1, now);
    let mut opens = |stream: u32| {
        let key = StreamKey::new(UserChannelId::new(1), stream);
        let open = Open { stream, key, port: 80, priority: Priority::default(), window: 1, user: None };
        proxy
            .handle_frame(1, Frame::Open(open), now)
            .inspect(|()| proxy.reset(stream, ResetCode::TargetRefused))
    };
    let opened = (1..1_000_000).take_while(|&stream| opens(stream).is_ok()).count();
    assert_eq!(opened, 65_536);
    assert_eq!(opens(65_537), Err(ProtocolError::TooManyUnreadReplies));
}

/// Whoever gives no credit still hears what is not data: pings, messages, other streams, the end.
#[test]
fn what_is_no_data_waits_for_no_credit() {
    let now = Instant::now();
    let mut server = Mux::new(Role::Server, MuxConfig { initial_window: 1000, ..MuxConfig::default() });
    server.add_channel(1, now);
    let key = |user| StreamKey::new(UserChannelId::new(user), 1);
    let stream = server.open(key(1), 80, None, |_| false).unwrap();
    let room = server.writable(stream);
    server.write(stream, vec![7; room].into());
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
        matches!(server.poll_transmit(1, now), Some(Frame::Reset { stream: gone, .. }) if gone == stream)
    );
}

/// A number is a stream's once: what is opened with it later is no stream, whether the first is still there or not.
#[test]
fn a_stream_number_that_is_used_again_opens_nothing() {
    let now = Instant::now();
    let mut proxy = Mux::new(Role::Proxy, MuxConfig::default());
    proxy.add_channel(1, now);
    let opens = |proxy: &mut Mux, user: u32| {
        let key = StreamKey::new(UserChannelId::new(user), 1);
        let open = Open { stream: 1, key, port: 80, priority: Priority::default(), window: 1, user: None };
        proxy.handle_frame(1, Frame::Open(open), now).unwrap();
        (proxy.poll_event(), proxy.stream_count())
    };
    assert!(matches!(opens(&mut proxy, 1), (Some(MuxEvent::Opened(_)), 1)));
    assert!(matches!(opens(&mut proxy, 2), (None, 1)));
    proxy.reset(1, ResetCode::TargetRefused);
    while proxy.poll_transmit(1, now).is_some() {}
    assert!(matches!(opens(&mut proxy, 3), (None, 0)));
}

/// Both ends had said that they had everything, one of them on a channel that died with it: the other waited for ever.
#[test]
fn the_last_acknowledgement_is_said_again_when_its_channel_dies() {
    let mut world = World::new();
    let (all, stream) = (8, 0);
    world.run(Op::Open);
    world.run(Op::Finish { side: 0, stream });
    world.run(Op::Transmit { side: 0, channel: 0, frames: all });
    world.run(Op::Deliver { side: 1, channel: 0, frames: all });
    world.run(Op::Finish { side: 1, stream });
    world.run(Op::Transmit { side: 1, channel: 0, frames: all });
    world.run(Op::Deliver { side: 0, channel: 0, frames: all });
    SIDES.iter().for_each(|&side| world.run(Op::Consume { side, stream, len: 0 }));
    // The acknowledgements cross; one arrives.
    world.run(Op::Transmit { side: 0, channel: 0, frames: all });
    world.run(Op::Transmit { side: 1, channel: 0, frames: all });
    world.run(Op::Deliver { side: 0, channel: 0, frames: all });
    assert_eq!((world.mux[0].stream_count(), world.mux[1].stream_count()), (0, 1));
    world.run(Op::Cut { channel: 0, arrive: [0, 0] });
    world.settle();
    world.check();
}

/// Nothing went out any more until the pings came back that stood behind the data, and those died with their cable.
#[test]
fn what_waits_for_room_on_a_cable_goes_on_over_another_when_it_dies() {
    let mut world = World::new();
    let (all, stream) = (1000, 0);
    world.run(Op::Open);
    world.run(Op::Write { side: 0, stream, len: 4000 });
    world.run(Op::Transmit { side: 0, channel: 0, frames: all });
    assert_eq!((world.mux[0].queued_bytes(0), world.mux[0].has_output(0)), (2000, false));
    assert!(world.mux[0].path_stats(0).is_some_and(|path| path.in_flight == 2000));
    world.run(Op::Pass { ms: 1000 });
    assert!(world.mux[0].is_probe_unanswered_for(0, Duration::from_secs(1), world.now));
    assert!(!world.mux[0].is_probe_unanswered_for(0, Duration::from_secs(2), world.now));
    world.run(Op::Cut { channel: 0, arrive: [0, 3] });
    world.run(Op::Notice { side: 0, channel: 0 });
    for _ in 0..3 {
        world.run(Op::Transmit { side: 0, channel: 1, frames: all });
        world.run(Op::Deliver { side: 1, channel: 1, frames: all });
        world.run(Op::Transmit { side: 1, channel: 1, frames: all });
        world.run(Op::Deliver { side: 0, channel: 1, frames: all });
    }
    world.run(Op::Consume { side: 1, stream, len: 4000 });
    assert_eq!(world.ends[1][&1].received, 4000);
    world.settle();
    world.check();
}

/// Two downloads that never run dry share a channel by their priorities, also after these were changed under way.
#[test]
fn priorities_share_a_channel_by_their_weight() {
    let mut world = World::with(MuxConfig { initial_window: 1 << 20, ..MuxConfig::default() });
    world.mux.iter_mut().for_each(|mux| mux.remove_channel(1));
    world.cables[1] = Cable { cut: true, noticed: [true; 2], ..Cable::default() };
    world.run(Op::Open);
    world.run(Op::Open);
    let mut shares = |priorities: [Priority; 2]| {
        for (stream, priority) in [1, 2].into_iter().zip(priorities) {
            world.mux[0].set_priority(stream, priority);
        }
        let before = [1, 2].map(|stream| world.ends[0].get(&stream).map_or(0, |end| end.received));
        for _ in 0..600 {
            for stream in 0..2 {
                world.run(Op::Write { side: 1, stream, len: 1 << 20 });
                world.run(Op::Consume { side: 0, stream, len: 1 << 20 });
            }
            // The channel carries one frame of data for each look, and credit the other way.
            world.run(Op::Transmit { side: 0, channel: 0, frames: 8 });
            world.run(Op::Deliver { side: 1, channel: 0, frames: 8 });
            world.run(Op::Transmit { side: 1, channel: 0, frames: 1 });
            world.run(Op::Deliver { side: 0, channel: 0, frames: 1 });
        }
        let [a, b] = [1, 2].map(|stream| world.ends[0][&stream].received - before[stream as usize - 1]);
        a as f64 / b as f64
    };
    for (priorities, wanted) in [
        ([Priority::High, Priority::Low], 4.0),
        ([Priority::Normal, Priority::Normal], 1.0),
        ([Priority::Background, Priority::Urgent], 1.0 / 16.0),
    ] {
        let ratio = shares(priorities);
        assert!((ratio / wanted - 1.0).abs() < 0.1, "{priorities:?} share {ratio:.2}, not {wanted:.2}");
    }
}

/// Takes all that there is, and says so, as often as is asked.
fn take_all(mux: &mut Mux, now: Instant) {
    while let Some(frame) = mux.poll_transmit(1, now) {
        if let Frame::Ping { token } = frame {
            mux.handle_frame(1, Frame::Pong { token }, now).unwrap();
        }
    }
}

fn cases() -> u32 {
    std::env::var("UNDERPASS_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(2000)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: cases(),
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct("proptest-regressions/mux.txt"))),
        ..ProptestConfig::default()
    })]

    /// Latency, cables that die at any frame, also all of them, that overtake each other, that stall, and bytes that
    /// come twice.
    #[test]
    fn every_byte_arrives_once_or_both_ends_see_an_error(
        ops in prop::collection::vec(op(), 1..250),
        dies in prop::bool::weighted(0.1),
    ) {
        play(ops, dies);
    }
}

fn play(ops: Vec<Op>, dies: bool) -> Seen {
    let mut world = World::new();
    for op in ops {
        world.run(op);
    }
    if dies {
        world.die();
    } else {
        world.settle();
    }
    world.check();
    world.seen
}

/// What the scripts are there for does happen in them.
#[test]
fn the_scripts_meet_what_they_are_there_for() {
    let mut runner = TestRunner::deterministic();
    let scripts = prop::collection::vec(op(), 250);
    let mut seen = Seen::default();
    for n in 0..500 {
        let once = play(scripts.new_tree(&mut runner).unwrap().current(), n % 10 == 0);
        seen.repeated += once.repeated;
        seen.overtaken += once.overtaken;
        seen.strayed += once.strayed;
        seen.moved += once.moved;
        seen.silent += once.silent;
        seen.held += once.held;
        seen.resumed += once.resumed;
        seen.dead += once.dead;
        seen.whole += once.whole;
        seen.failed += once.failed;
    }
    let Seen { repeated, overtaken, strayed, moved, silent, held, resumed, dead, whole, failed } = seen;
    let counts = [repeated, overtaken, strayed, moved, silent, held, resumed, dead, whole, failed];
    println!("{seen:?}");
    assert!(counts.iter().all(|&count| count >= 20), "{seen:?}");
}

/// The command line allows a first window beyond what windows may grow to. On a long path the tuning then asked for a
/// window between a larger and a smaller bound, and panicked.
#[test]
fn a_first_window_may_be_larger_than_the_largest() {
    let config = MuxConfig { initial_window: 64 << 20, ..MuxConfig::default() };
    assert!(config.initial_window > config.max_window);
    let (mut server, mut proxy) = (Mux::new(Role::Server, config.clone()), Mux::new(Role::Proxy, config));
    let mut now = Instant::now();
    for mux in [&mut server, &mut proxy] {
        mux.add_channel(1, now);
        mux.handle_timeout(now);
    }
    let stream = server.open(StreamKey::new(UserChannelId::new(1), 1), 80, None, |_| false).unwrap();
    // The pings take 200 ms there and back.
    pass(&mut server, &mut proxy, now);
    proxy.accept(stream);
    now += Duration::from_millis(200);
    pass(&mut proxy, &mut server, now);
    for _ in 0..4000 {
        now += Duration::from_micros(500);
        proxy.write(stream, Bytes::from_static(&[7; 64 * 1024]));
        pass(&mut proxy, &mut server, now);
        let mut out = VecDeque::new();
        server.read(stream, &mut out);
        server.consume(stream, out.iter().map(|piece| piece.len() as u64).sum(), now);
        pass(&mut server, &mut proxy, now);
    }
}

/// A peer that gives endless credit on many streams and acknowledges nothing made us keep 16 MiB for each of them.
#[test]
fn what_a_peer_can_make_us_keep_is_bounded_for_all_links_together() {
    let now = Instant::now();
    let config = MuxConfig {
        max_window_growth: 60 << 20,
        budget: WindowBudget::new(100 << 20),
        ..MuxConfig::default()
    };
    let mut links = [0, 1].map(|_| Mux::new(Role::Server, config.clone()));
    let mut kept = [0, 0];
    for (link, kept) in links.iter_mut().zip(&mut kept) {
        link.add_channel(1, now);
        for number in 1..=20 {
            let stream =
                link.open(StreamKey::new(UserChannelId::new(1), number), 80, None, |_| false).unwrap();
            take_all(link, now);
            link.handle_frame(1, Frame::OpenOk { stream, window: u32::MAX }, now).unwrap();
            loop {
                take_all(link, now);
                let room = link.writable(stream);
                if room == 0 {
                    break;
                }
                link.write(stream, Bytes::from(vec![7; room]));
                *kept += room;
            }
        }
    }
    let first_windows = 20 * (256 << 10);
    assert!(kept[0] <= (60 << 20) + first_windows && kept[0] > 59 << 20, "{kept:?}");
    assert!(kept[1] <= (40 << 20) + first_windows && kept[1] > 39 << 20, "{kept:?}");
    assert_eq!(config.budget.available(), 0);
    // What is acknowledged frees what others need, and a link that is dropped leaves nothing behind.
    links[0].reset(1, ResetCode::Killed);
    assert_eq!(config.budget.available(), (16 << 20) - (256 << 10));
    drop(links);
    assert_eq!(config.budget.available(), 100 << 20);
}
