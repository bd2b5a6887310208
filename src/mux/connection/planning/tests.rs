//! Tests of the number of channels that a peer asks for, and of when losses have channels send beside each other.

use super::*;
use crate::mux::{MuxConfig, congestion::SEGMENT_LEN};

/// The server plans for as many channels as the proxy says that it opens, within its own limit: whatever a peer asks
/// for, the server neither plans for thousands nor for none.
#[test]
fn the_number_of_channels_that_a_proxy_announces_is_clamped() {
    let mut server = Mux::new(Role::Server, MuxConfig::default());
    let mut announce = |serial, count| {
        server.on_channels(serial, count);
        server.max_auto_channels()
    };
    assert_eq!(announce(1, u16::MAX), Some(MAX_PLANNED_CHANNELS));
    assert_eq!(announce(2, 0), Some(1));
    assert_eq!(announce(3, 7), Some(7));
    // An older frame that arrives late, and one that arrives twice.
    assert_eq!([announce(2, 64), announce(3, 64)], [Some(7), Some(7)]);
}

/// A download of this length on one of two channels, at 20 Mbit/s and an RTT of 100 ms, that loses one of so many
/// segments. Returns in which share of it the other channel may send its data.
fn striped_share(time: Duration, segments_per_loss: u64) -> f64 {
    let (begin, step) = (Instant::now(), Duration::from_millis(10));
    let mut mux = Mux::new(Role::Proxy, MuxConfig::default());
    (0..2).for_each(|id| mux.add_channel(id, begin));
    let rtt = 10 * step;
    let mut sample =
        TransportSample { rtt, cwnd: 4 << 20, in_flight: 170 * SEGMENT_LEN, ..Default::default() };
    let steps = u32::try_from(time.as_millis() / step.as_millis()).unwrap();
    let striped = (0..steps).filter(|&n| {
        let now = begin + n * step;
        sample.sent_segments += 17;
        sample.delivered += 17 * SEGMENT_LEN;
        sample.retransmitted_segments = sample.sent_segments / segments_per_loss;
        mux.report_transport(0, sample, now);
        // Full windows, from which the channel gets its rate.
        let channel = mux.channels.get_mut(&0).unwrap();
        channel.placement.record_bulk(now);
        channel.path.on_data_sent(17 * SEGMENT_LEN as usize, now);
        mux.placement.stripes_bulk
    });
    striped.count() as f64 / f64::from(steps)
}

/// Regression test: the loss rate of the last 64 segments made one lost segment in six round trips look like one in
/// each. The other channel then sent beside one that filled the path, the queue overflowed, and a hundred segments were
/// lost for one: 14 to 17 of 20 Mbit/s at 100 ms and 0.1 % loss, and 250 of 300 Mbit/s at 10 ms.
#[test]
fn a_rare_loss_does_not_have_another_channel_send_beside_a_full_one() {
    let minute = Duration::from_secs(60);
    assert_eq!(striped_share(minute, 1000), 0.0);
    let often = striped_share(minute, 200);
    assert!(often >= 0.95, "{often}");
}
