//! Tests of a channel's keepalive.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

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
        channel.reset_idle_timeout(now);
        assert!(channel.on_timeout(&config, now));
        while let Some(frame) = channel.poll_control(now) {
            sent.push((second, frame));
        }
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
        channel.reset_idle_timeout(begin + second * SECOND);
        assert!(channel.on_timeout(&config, begin + second * SECOND));
    }
    let mut sent = std::iter::from_fn(|| channel.poll_control(begin));
    assert_eq!((sent.next(), sent.next()), (Some(Frame::Ping { token: 1 }), None));
}
