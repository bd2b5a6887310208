//! Loss of a channel, and streams that fail over to another.

use std::time::{Duration, Instant};

use underpass::{
    ids::{Priority, StreamKey, UserChannelId},
    mux::{Mux, MuxConfig, MuxEvent, Role},
    wire::{Frame, Open, ResetCode},
};

use super::sim::{Op, SIDES, SimulatedLink};

/// The queued bytes of a channel are those of all its streams, and move with them to another channel.
#[test]
fn queued_bytes_count_all_streams_and_follow_a_failover() {
    let now = Instant::now();
    let mut server = Mux::new(Role::Server, MuxConfig::default());
    server.add_channel(1, now);
    for (user, bytes) in [(1, 70_000), (2, 5), (2, 1000)] {
        let stream = server.open(StreamKey::new(UserChannelId::new(user), 1), 80, None, |_| false).unwrap();
        server.write(stream, vec![7; bytes].into());
    }
    assert_eq!((server.queued_bytes(1), server.queued_bytes(2)), (71_005, 0));
    let mut queued = 71_005;
    while let Some(frame) = server.poll_transmit(1, now) {
        if let Frame::Data { payload, .. } = frame {
            queued -= payload.len() as u64;
        }
        assert_eq!(server.queued_bytes(1), queued);
    }
    assert_eq!(queued, 0);
    // All of it has to be retransmitted on another channel.
    server.add_channel(2, now);
    server.remove_channel(1);
    assert_eq!((server.queued_bytes(1), server.queued_bytes(2)), (0, 71_005));
}

/// The acknowledgement that this side makes up for a peer without flow control says nothing about the target.
#[test]
fn only_a_peer_with_flow_control_accepts_a_stream_by_consuming_its_data() {
    let now = Instant::now();
    for peer_has_flow_control in [true, false] {
        let mut server = Mux::new(Role::Server, MuxConfig { peer_has_flow_control, ..MuxConfig::default() });
        server.add_channel(1, now);
        let stream = server.open(StreamKey::new(UserChannelId::new(1), 1), 80, None, |_| false).unwrap();
        server.write(stream, vec![7; 100].into());
        while server.poll_transmit(1, now).is_some() {}
        server.handle_frame(1, Frame::Window { stream, consumed: 100, window: 1 << 20 }, now).unwrap();
        let is_accepted = |event: &MuxEvent| matches!(event, MuxEvent::Accepted { .. });
        let accepted =
            |server: &mut Mux| std::iter::from_fn(|| server.poll_event()).any(|one| is_accepted(&one));
        assert_eq!(accepted(&mut server), peer_has_flow_control);
        server.handle_frame(1, Frame::OpenOk { stream, window: 1 << 20 }, now).unwrap();
        assert_eq!(accepted(&mut server), !peer_has_flow_control);
    }
}

/// Regression test: both sides had acknowledged everything, one of them on a channel that died with that
/// acknowledgement. The other side waited for ever.
#[test]
fn last_acknowledgement_is_retransmitted_after_a_channel_loss() {
    let mut link = SimulatedLink::new();
    let (all, stream) = (8, 0);
    link.run(Op::Open);
    link.run(Op::Finish { side: 0, stream });
    link.run(Op::Transmit { side: 0, channel: 0, frames: all });
    link.run(Op::Deliver { side: 1, channel: 0, frames: all });
    link.run(Op::Finish { side: 1, stream });
    link.run(Op::Transmit { side: 1, channel: 0, frames: all });
    link.run(Op::Deliver { side: 0, channel: 0, frames: all });
    SIDES.iter().for_each(|&side| link.run(Op::Consume { side, stream, len: 0 }));
    // The acknowledgements cross; one arrives.
    link.run(Op::Transmit { side: 0, channel: 0, frames: all });
    link.run(Op::Transmit { side: 1, channel: 0, frames: all });
    link.run(Op::Deliver { side: 0, channel: 0, frames: all });
    assert_eq!((link.mux[0].stream_count(), link.mux[1].stream_count()), (0, 1));
    link.run(Op::Break { channel: 0, delivered: [0, 0] });
    link.settle();
    link.check();
}

/// Regression test: no data was sent any more before the probes behind it were answered, and those were lost with
/// their channel.
#[test]
fn cwnd_limited_data_continues_on_another_channel() {
    let mut link = SimulatedLink::new();
    let (all, stream) = (1000, 0);
    link.run(Op::Open);
    link.run(Op::Write { side: 0, stream, len: 4000 });
    link.run(Op::Transmit { side: 0, channel: 0, frames: all });
    assert_eq!((link.mux[0].queued_bytes(0), link.mux[0].has_output(0)), (2000, false));
    assert!(link.mux[0].path_stats(0).is_some_and(|path| path.in_flight == 2000));
    link.run(Op::AdvanceTime { ms: 1000 });
    assert!(link.mux[0].is_probe_unanswered_for(0, Duration::from_secs(1), link.now));
    assert!(!link.mux[0].is_probe_unanswered_for(0, Duration::from_secs(2), link.now));
    link.run(Op::Break { channel: 0, delivered: [0, 3] });
    link.run(Op::DetectLoss { side: 0, channel: 0 });
    for _ in 0..3 {
        link.run(Op::Transmit { side: 0, channel: 1, frames: all });
        link.run(Op::Deliver { side: 1, channel: 1, frames: all });
        link.run(Op::Transmit { side: 1, channel: 1, frames: all });
        link.run(Op::Deliver { side: 0, channel: 1, frames: all });
    }
    link.run(Op::Consume { side: 1, stream, len: 4000 });
    assert_eq!(link.sides[1][&1].consumed, 4000);
    link.settle();
    link.check();
}

/// A channel that is retired is closed without any loss: nothing is retransmitted, also not the data that was in flight
/// on it, and the stream continues on the other channel.
#[test]
fn a_retired_channel_disturbs_no_stream() {
    let mut link = SimulatedLink::new();
    let (all, stream) = (1000, 0);
    link.run(Op::Open);
    let id = link.streams[0];
    assert_eq!(link.mux[0].primary_channel(id), Some(0));
    for index in [0, 1] {
        link.run(Op::Transmit { side: 0, channel: index, frames: all });
        link.run(Op::Deliver { side: 1, channel: index, frames: all });
        link.run(Op::Transmit { side: 1, channel: index, frames: all });
        link.run(Op::Deliver { side: 0, channel: index, frames: all });
    }
    // The proxy retires the channel without streams first, and only then the one of the stream.
    link.run(Op::AddChannel);
    link.run(Op::Retire);
    link.run(Op::Retire);
    assert_eq!(link.mux[1].used_channel_count(), 1);
    link.run(Op::Retire);
    assert_eq!(link.mux[1].used_channel_count(), 1, "the last channel stays");
    // Data in flight in both directions, that neither side consumes before the channels are closed.
    for side in SIDES {
        link.run(Op::Write { side, stream, len: 3000 });
        (0..3).for_each(|channel| link.run(Op::Transmit { side, channel, frames: all }));
    }
    for _ in 0..4 {
        for side in SIDES {
            (0..3).for_each(|channel| link.run(Op::Deliver { side, channel, frames: all }));
            (0..3).for_each(|channel| link.run(Op::Transmit { side, channel, frames: all }));
        }
    }
    assert_eq!(link.seen.retired, 2);
    (0..3).for_each(|channel| link.run(Op::DetectLoss { side: 0, channel }));
    link.settle();
    link.check();
    assert_eq!((link.seen.failovers, link.seen.duplicate_data), (0, 0), "{:?}", link.seen);
    assert_eq!(link.seen.clean_ends, 1);
}

/// Regression test: all channels of a path are dead after a change of address, and an idle one has not been missed yet.
/// Streams continued on it instead of on the channel that was connected to replace the first, for most of a second.
#[test]
fn streams_continue_on_the_channel_that_replaces_a_dead_one() {
    let now = Instant::now();
    for role in [Role::Proxy, Role::Server] {
        let mut mux = Mux::new(role, MuxConfig::default());
        (1..=2).for_each(|id| mux.add_channel(id, now));
        let key = StreamKey::new(UserChannelId::new(1), 1);
        if role == Role::Server {
            mux.open(key, 80, None, |_| false).unwrap();
        } else {
            let open =
                Open { stream: 1, key, port: 80, priority: Priority::default(), window: 1 << 20, user: None };
            mux.handle_frame(1, Frame::Open(open), now).unwrap();
        }
        assert_eq!(mux.primary_channel(1), Some(1));
        let later = now + Duration::from_secs(10);
        if role == Role::Proxy {
            // It finds the first channel dead, and connects another.
            mux.set_ack_due(1, Some(later));
            mux.handle_channel_timeout(1, later);
            assert!(!mux.is_responsive(1));
        }
        mux.add_channel(3, later);
        if role == Role::Server {
            mux.handle_frame(3, Frame::Lost { channel: 1 }, later).unwrap();
        }
        mux.remove_channel(1);
        assert_eq!(mux.primary_channel(1), Some(3), "{role:?}");
    }
}

/// Of two channels, the one on which the server does not answer may be the one with more streams. If the other were
/// closed, the link would be left without a channel that works.
#[test]
fn a_silent_channel_is_retired_before_one_that_works() {
    let begin = Instant::now();
    let mut proxy = Mux::new(Role::Proxy, MuxConfig::default());
    let (silent, working) = (1, 2);
    for channel in [silent, working] {
        proxy.add_channel(channel, begin);
    }
    let key = StreamKey::new(UserChannelId::new(1), 1);
    let open = Open { stream: 1, key, port: 80, priority: Priority::default(), window: 1000, user: None };
    proxy.handle_frame(silent, Frame::Open(open), begin).unwrap();
    proxy.handle_timeout(begin);
    // The server answers on one of the channels.
    for ms in (0..5000).step_by(50) {
        let now = begin + Duration::from_millis(ms);
        proxy.handle_timeout(now);
        while proxy.poll_transmit(silent, now).is_some() {}
        while let Some(frame) = proxy.poll_transmit(working, now) {
            if let Frame::Ping { token } = frame {
                proxy.record_alive(working, now);
                proxy.handle_frame(working, Frame::Pong { token }, now).unwrap();
            }
        }
    }
    assert!(!proxy.is_responsive(silent) && proxy.is_responsive(working));
    assert_eq!((proxy.primary_channel(1), proxy.retire_channel()), (Some(silent), Some(silent)));
    assert_eq!(proxy.primary_channel(1), Some(working));
    assert_eq!(proxy.retire_channel(), None, "it is the only one that is left");
}

/// A channel whose peer reads nothing gets no LOST frames beyond its limit of queued control frames.
#[test]
fn no_lost_frame_is_queued_behind_a_control_backlog() {
    let now = Instant::now();
    let mut server = Mux::new(Role::Server, MuxConfig::default());
    (1..=3).for_each(|channel| server.add_channel(channel, now));
    server.report_lost(1);
    let lost = |server: &mut Mux, channel| {
        let is_lost = |frame: &Frame| matches!(frame, Frame::Lost { channel: 1 });
        std::iter::from_fn(|| server.poll_transmit(channel, now)).filter(is_lost).count()
    };
    assert_eq!((lost(&mut server, 2), lost(&mut server, 3)), (1, 1));
    // The peer reads channel 3 only.
    (0..65_536).for_each(|_| server.send_go_away(ResetCode::Shutdown));
    while server.poll_transmit(3, now).is_some() {}
    server.report_lost(1);
    assert_eq!((lost(&mut server, 2), lost(&mut server, 3)), (0, 1));
}
