//! Tests of the placement decisions: bulk or message, express channels, the budget of copies.

use super::*;

const MS: Duration = Duration::from_millis(1);

#[test]
fn stream_is_bulk_while_it_sends_faster_than_a_terminal() {
    let (mut activity, mut now) = (SendActivity::default(), Instant::now());
    let mut became_bulk = 0;
    let mut send = |activity: &mut SendActivity, bytes: u64, interval: Duration, times: u32| {
        for _ in 0..times {
            now += interval;
            became_bulk += u32::from(activity.record(bytes, 64 * 1024, now));
        }
        activity.is_bulk()
    };
    // Keystrokes, requests of 2 KiB as fast as a person works, one page of 48 KiB.
    assert!(!send(&mut activity, 40, 50 * MS, 1000));
    assert!(!send(&mut activity, 2 * 1024, 50 * MS, 1000));
    assert!(!send(&mut activity, 48 * 1024, 1000 * MS, 1));
    // A download, and a call at a moderate rate after it.
    assert!(send(&mut activity, 16 * 1024, MS, 20));
    assert!(send(&mut activity, 160, 20 * MS, 50));
    assert!(!send(&mut activity, 160, 20 * MS, 150));
    assert_eq!(became_bulk, 1);
}

#[test]
fn express_channels_last_as_long_as_messages_are_sent() {
    let now = Instant::now();
    let mut placement = LinkPlacement { is_active: true, ..LinkPlacement::default() };
    assert_eq!(placement.express_channels(8, now), 0, "bulk alone uses all channels");
    placement.record_message(1, now);
    assert_eq!([2, 8].map(|channels| placement.express_channels(channels, now)), [1, 1]);
    placement.loss_rate = 0.01;
    assert_eq!([2, 3, 4, 8].map(|channels| placement.express_channels(channels, now)), [1, 1, 2, 3]);
    assert_eq!(placement.express_channels(8, now + EXPRESS_LIFETIME), 0);
    // What a stream sends before it is bulk are no messages.
    placement.forget_messages_of(2);
    assert_eq!(placement.express_channels(8, now), 3);
    placement.forget_messages_of(1);
    assert_eq!(placement.express_channels(8, now), 0);
}

#[test]
fn messages_are_copied_by_loss_rate() {
    let copies = |loss_rate, channels| {
        LinkPlacement { is_active: true, loss_rate, ..LinkPlacement::default() }.copies(channels)
    };
    assert_eq!([0.0, 0.0004, 0.0006, 0.01].map(|loss| copies(loss, 2)), [0, 0, 1, 1]);
    assert_eq!([0.0, 0.0004, 0.0006, 0.01].map(|loss| copies(loss, 8)), [0, 0, 1, 2]);
    assert_eq!(LinkPlacement { loss_rate: 0.1, ..LinkPlacement::default() }.copies(8), 0, "on loopback");
}

#[test]
fn bulk_is_spread_by_the_segments_lost_in_each_round_trip() {
    let (begin, mut placement) =
        (Instant::now(), LinkPlacement { is_active: true, ..LinkPlacement::default() });
    let mut spreads_at = |time, segments: u64, loss_rate, is_slow_start_lossy| {
        placement.now = Some(begin + time);
        placement.update_spread((segments * SEGMENT_LEN) as f64, loss_rate, is_slow_start_lossy);
        placement.spreads_bulk
    };
    let zero = Duration::ZERO;
    assert!(!spreads_at(zero, 170, 0.001, false));
    assert!(spreads_at(zero, 170, 0.005, false));
    assert!(spreads_at(zero, 170, 0.002, false), "as long as one in three round trips loses one");
    assert!(!spreads_at(zero, 170, 0.001, false));
    assert!(spreads_at(zero, 10, 0.0, true));
    assert!(spreads_at(SLOW_START_SPREAD / 2, 10, 0.0, false));
    assert!(!spreads_at(SLOW_START_SPREAD, 10, 0.0, false), "the path has been full for long");
}

/// Copies stay within a quarter of the delivery rate where data queues, and so few frames that the peer's glitch budget
/// lasts for ever.
#[test]
fn copies_are_bounded_in_bytes_and_frames() {
    let begin = Instant::now();
    let copied = |len: usize, cwnd: u64, queueing_delay: Duration| {
        let path = PathStats {
            in_flight: 0,
            cwnd,
            delivery_rate: None,
            min_rtt: Some(40 * MS),
            latest_rtt: Some(40 * MS + queueing_delay),
            queueing_delay: Some(queueing_delay),
            chunk_size: 4096,
        };
        let mut channel = ChannelPlacement::default();
        let copies = (0..40_000u32).filter(|&n| {
            let may_copy = channel.may_copy(len, &path, begin + n * MS / 4);
            if may_copy {
                channel.charge_copy(len);
            }
            may_copy
        });
        copies.count() as u64
    };
    let frames_per_second = copied(1, 20_000, MS) / 10;
    assert!((950..1010).contains(&frames_per_second), "{frames_per_second}");
    // 10 Mbit/s over 40 ms: a quarter is 312 KB/s.
    let bytes_per_second = copied(2000, 50_000, 20 * MS) * 2000 / 10;
    assert!((300_000..320_000).contains(&bytes_per_second), "{bytes_per_second}");
}
