//! Tests of a channel's pings.

use super::*;
use crate::{
    mux::congestion::{SEGMENT_LEN, TransportSample},
    wire::{TunnelAction, TunnelMessage},
};

const SECOND: Duration = Duration::from_secs(1);

/// Sends every frame that the channel has, as the mux does, and returns them.
fn send_all(channel: &mut Channel, config: &MuxConfig, now: Instant) -> Vec<Frame> {
    let mut sent = Vec::new();
    while let Some(frame) = channel.poll_control(now) {
        channel.on_frame_sent(&frame, config, now);
        sent.push(frame);
    }
    sent
}

/// Regression test: a peer whose bulk data filled a slow path delayed its answer, got no other ping, and took us for
/// dead.
#[test]
fn pings_continue_while_an_answer_is_delayed() {
    let (config, begin) = (MuxConfig { ping_interval: 3 * SECOND, ..MuxConfig::default() }, Instant::now());
    let mut channel = Channel::new(&config, begin);
    let mut sent = Vec::new();
    for second in 0..=30 {
        let now = begin + second * SECOND;
        // The peer sends data all the time.
        channel.on_alive(now);
        channel.on_frame_received(now);
        channel.on_timeout(&config, Role::Proxy, now);
        assert_eq!(channel.liveness(), Liveness::Responsive);
        sent.extend(send_all(&mut channel, &config, now).into_iter().map(|frame| (second, frame)));
    }
    let expected: Vec<_> = (0..=10).map(|n| (n * 3, Frame::Ping { token: u64::from(n) + 1 })).collect();
    assert_eq!(sent, expected);
    assert_eq!(channel.on_pong(4, begin + 31 * SECOND), Some(22 * SECOND));
    assert_eq!(channel.on_pong(3, begin + 31 * SECOND), None, "the answer to a later ping answers it");
    assert_eq!(channel.on_pong(11, begin + 31 * SECOND), Some(SECOND));
}

#[test]
fn pings_are_not_queued_while_nothing_is_sent() {
    let (config, begin) = (MuxConfig::default(), Instant::now());
    let mut channel = Channel::new(&config, begin);
    for second in 0..=300 {
        channel.on_alive(begin + second * SECOND);
        channel.on_timeout(&config, Role::Proxy, begin + second * SECOND);
        assert_eq!(channel.liveness(), Liveness::Responsive);
    }
    assert_eq!(send_all(&mut channel, &config, begin), [Frame::Ping { token: 1 }]);
}

/// A path whose data is not acknowledged is noticed between two pings, and taken for working again once a ping is
/// answered.
#[test]
fn a_peer_whose_kernel_acknowledges_nothing_is_unresponsive() {
    let (config, begin) = (MuxConfig::default(), Instant::now());
    let mut channel = Channel::new(&config, begin);
    channel.set_initial_rtt(SECOND / 25);
    channel.on_timeout(&config, Role::Proxy, begin);
    send_all(&mut channel, &config, begin);
    channel.on_pong(1, begin);
    channel.on_alive(begin);
    let overdue = begin + SECOND / 2;
    channel.set_ack_due(Some(overdue));
    assert!(channel.next_timeout(&config, Role::Proxy, true, begin + SECOND / 3) <= overdue);
    channel.on_timeout(&config, Role::Proxy, overdue - SECOND / 1000);
    assert_eq!(channel.liveness(), Liveness::Responsive);
    channel.on_timeout(&config, Role::Proxy, overdue);
    assert_eq!(channel.liveness(), Liveness::Unresponsive);
    assert_eq!(
        send_all(&mut channel, &config, overdue),
        [Frame::Ping { token: 2 }],
        "its answer shows that the path works"
    );
    channel.set_ack_due(None);
    channel.on_timeout(&config, Role::Proxy, overdue + SECOND / 100);
    assert_eq!(channel.liveness(), Liveness::Unresponsive, "the ping is not answered yet");
    assert!(
        channel.on_pong(2, overdue + SECOND / 20).is_some() && channel.prove_alive(2, overdue + SECOND / 20)
    );
    assert_eq!(channel.liveness(), Liveness::Responsive);
}

/// Regression test: data that had arrived before another channel was found dead cleared the suspicion, and a download
/// moved to the next dead channel.
#[test]
fn only_what_is_received_after_the_doubt_removes_it() {
    let (config, begin) = (MuxConfig::default(), Instant::now());
    let mut channel = Channel::new(&config, begin);
    channel.doubt(begin + SECOND);
    channel.on_incomplete(begin + SECOND + SECOND / 4);
    assert!(channel.is_suspect(), "the segments may be from before");
    channel.on_alive(begin + SECOND - SECOND / 10);
    assert!(channel.is_suspect(), "an older acknowledgement");
    channel.on_alive(begin + SECOND + SECOND / 10);
    assert!(!channel.is_suspect());
    channel.doubt(begin + 2 * SECOND);
    channel.on_received(begin + 2 * SECOND);
    assert!(!channel.is_suspect());
}

/// A peer that answers no ping makes a sender keep control frames: the latest ones are retransmitted.
#[test]
fn the_oldest_of_too_many_unacknowledged_control_frames_is_forgotten() {
    let mut channel = Channel::new(&MuxConfig::default(), Instant::now());
    let frame = |stream| Frame::Window { stream, consumed: 1, window: 1 };
    let all = u32::try_from(MAX_UNACKNOWLEDGED_CONTROL).unwrap() + 2;
    (1..=all).for_each(|stream| channel.track_unacknowledged(frame(stream)));
    let kept: Vec<_> = channel.into_unacknowledged().collect();
    assert_eq!((kept.len(), &kept[0]), (MAX_UNACKNOWLEDGED_CONTROL, &frame(3)));
    assert_eq!(kept.last(), Some(&frame(all)));
}

#[test]
fn a_peer_that_reads_no_messages_gets_a_limited_number() {
    let mut channel = Channel::new(&MuxConfig::default(), Instant::now());
    let message = || Frame::Message(TunnelMessage::control(TunnelAction::Response, "8080:default"));
    for _ in 0..MAX_QUEUED_MESSAGES {
        channel.push_message(message()).unwrap();
    }
    assert_eq!(channel.push_message(message()), Err(ProtocolError::TooManyUnreadReplies));
    assert_eq!(channel.poll_control(Instant::now()), Some(message()));
    channel.push_message(message()).unwrap();
}

/// Regression test: messages waited for an RTT and a fifth of a second on the channel that was kept free for them, each
/// time that BBR drained its path.
#[test]
fn a_channel_whose_kernel_sends_no_more_is_an_obstacle_until_its_report_is_outdated() {
    let (config, begin) = (MuxConfig::default(), Instant::now());
    let mut channel = Channel::new(&config, begin);
    let rtt = SECOND / 10;
    let mut is_blocked = |segments_in_flight, at| {
        let sample = TransportSample {
            rtt,
            cwnd_used: segments_in_flight * SEGMENT_LEN,
            cwnd: 4 * SEGMENT_LEN,
            ..TransportSample::default()
        };
        channel.path.on_transport_sample(sample, begin);
        channel.placement.record_recovery(false, rtt, begin);
        channel.obstacles(begin + at).is_blocked
    };
    assert!(!is_blocked(3, Duration::ZERO));
    assert!(is_blocked(4, Duration::ZERO));
    assert!(!is_blocked(4, 2 * rtt), "what was in flight is acknowledged");
}
