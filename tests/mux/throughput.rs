//! Two muxes over paths with a rate and a delay, in virtual time: how fast one stream is over several channels, and
//! how long a message takes beside it.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::Bytes;
use underpass::{
    ids::{StreamKey, UserChannelId},
    mux::{Mux, MuxConfig, MuxEvent, Role},
    wire::Frame,
};

/// The step of virtual time.
const STEP: Duration = Duration::from_micros(100);

/// How many bytes the kernel's send buffer holds before the bottleneck.
const SEND_BUFFER: f64 = 32.0 * 1024.0;

/// Until when throughput and latency are not measured, and when the measurement ends.
const WARM_UP: Duration = Duration::from_secs(1);
const END: Duration = Duration::from_secs(6);

/// The length of a message in bytes, and the interval between two messages.
const MESSAGE_LEN: usize = 64;
const MESSAGE_INTERVAL: Duration = Duration::from_millis(5);

/// One direction of one channel.
struct OneWayPath {
    /// The rate of the bottleneck in bytes per second.
    rate: f64,
    delay: Duration,
    /// When the last byte sent so far leaves the bottleneck.
    idle_at: Instant,
    /// Frames with the time of their arrival.
    in_flight: VecDeque<(Instant, Frame)>,
}

impl OneWayPath {
    /// Returns whether the kernel's send buffer accepts another frame.
    fn is_writable(&self, now: Instant) -> bool {
        self.idle_at.saturating_duration_since(now).as_secs_f64() * self.rate < SEND_BUFFER
    }

    fn send(&mut self, frame: Frame, now: Instant) {
        let bytes = if let Frame::Data { payload, .. } = &frame { payload.len() + 24 } else { 24 };
        self.idle_at = self.idle_at.max(now) + Duration::from_secs_f64(bytes as f64 / self.rate);
        self.in_flight.push_back((self.idle_at + self.delay, frame));
    }
}

/// What was measured of two streams that share some channels.
struct Measured {
    /// The throughput of the first stream, which always has data, in Mbit/s.
    mbit: f64,
    /// The p99 latency of the messages on the second stream, which belongs to another user.
    message_p99: Duration,
}

/// Downloads over channels with these rates, in Mbit/s, and one-way delays.
fn measure(channels: &[(f64, Duration)], allow_striping: bool) -> Measured {
    let begin = Instant::now();
    let config = MuxConfig { allow_striping, ..MuxConfig::default() };
    let mut muxes = [Role::Server, Role::Proxy].map(|role| Mux::new(role, config.clone()));
    let path = |&(mbit, delay): &(f64, Duration)| OneWayPath {
        rate: mbit * 1e6 / 8.0,
        delay,
        idle_at: begin,
        in_flight: VecDeque::new(),
    };
    // To the server, and to the proxy.
    let mut paths = [0, 1].map(|_| channels.iter().map(path).collect::<Vec<_>>());
    for mux in &mut muxes {
        (1..=channels.len()).for_each(|id| mux.add_channel(id as u16, begin));
        mux.handle_timeout(begin);
    }
    let [bulk, messages] = [1, 2].map(|user| {
        muxes[0].open(StreamKey::new(UserChannelId::new(user), 1), 80, None, |id| id == 1).unwrap()
    });
    let (mut now, mut received, mut received_in_warm_up) = (begin, 0u64, 0u64);
    let (mut sent_at, mut latencies, mut unmatched) = (VecDeque::new(), Vec::new(), 0);
    while now < begin + END {
        now += STEP;
        if now <= begin + WARM_UP {
            received_in_warm_up = received;
        }
        for side in [0, 1] {
            for (id, path) in (1..).zip(&mut paths[side]) {
                while path.in_flight.front().is_some_and(|(at, _)| *at <= now) {
                    let Some((_, frame)) = path.in_flight.pop_front() else { break };
                    muxes[side].record_alive(id, now);
                    muxes[side].handle_frame(id, frame, now).unwrap();
                }
            }
            while let Some(event) = muxes[side].poll_event() {
                if let MuxEvent::Opened(open) = event {
                    muxes[side].accept(open.stream);
                }
            }
        }
        if (now - begin).as_millis().is_multiple_of(250) {
            muxes.iter_mut().for_each(|mux| mux.handle_timeout(now));
        }
        loop {
            let writable = muxes[1].writable(bulk);
            if writable == 0 {
                break;
            }
            muxes[1].write(bulk, Bytes::from(vec![7; writable.min(64 * 1024)]));
        }
        if (now - begin).as_micros().is_multiple_of(MESSAGE_INTERVAL.as_micros())
            && muxes[1].writable(messages) > 0
        {
            muxes[1].write(messages, Bytes::from(vec![7; MESSAGE_LEN]));
            sent_at.push_back(now);
        }
        let mut read = |stream| {
            let mut out = VecDeque::new();
            muxes[0].read(stream, &mut out);
            let bytes: usize = out.iter().map(Bytes::len).sum();
            muxes[0].consume(stream, bytes as u64, now);
            bytes
        };
        received += read(bulk) as u64;
        unmatched += read(messages);
        for sent_at in sent_at.drain(..std::mem::take(&mut unmatched) / MESSAGE_LEN) {
            latencies.extend((sent_at > begin + WARM_UP).then(|| now - sent_at));
        }
        for side in [0, 1] {
            for (id, path) in (1..).zip(&mut paths[1 - side]) {
                while path.is_writable(now) {
                    let Some(frame) = muxes[side].poll_transmit(id, now) else { break };
                    path.send(frame, now);
                }
                muxes[side].set_write_blocked(id, !path.is_writable(now));
            }
        }
    }
    latencies.sort();
    let mbit = (received - received_in_warm_up) as f64 * 8.0 / 1e6 / (END - WARM_UP).as_secs_f64();
    Measured { mbit, message_p99: latencies[latencies.len() * 99 / 100] }
}

#[test]
fn striped_stream_uses_the_capacity_of_all_channels() {
    let ms = Duration::from_millis;
    let mut too_slow = Vec::new();
    for (channels, min_mbit) in [
        (vec![(100.0, ms(5)), (100.0, ms(5))], 180.0),
        (vec![(100.0, ms(1)), (100.0, ms(1))], 180.0),
        (vec![(100.0, ms(20)), (100.0, ms(20)), (100.0, ms(20))], 250.0),
        // A slow channel helps as far as it can, whichever is the primary channel: alone the fast one reaches 99.3.
        (vec![(100.0, ms(5)), (10.0, ms(5))], 108.0),
        (vec![(10.0, ms(5)), (100.0, ms(5))], 108.0),
        // A channel with a long delay does not make the stream slower.
        (vec![(100.0, ms(5)), (100.0, ms(200))], 99.0),
    ] {
        let [striped, pinned] = [true, false].map(|stripe| measure(&channels, stripe).mbit);
        println!("{channels:?}: {striped:.1} Mbit/s, {pinned:.1} Mbit/s on one channel");
        too_slow.extend(
            (pinned < channels[0].0 * 0.96).then(|| format!("{channels:?}: {pinned:.1} on one channel")),
        );
        too_slow.extend((striped < min_mbit).then(|| format!("{channels:?}: {striped:.1}")));
        assert!(pinned <= channels[0].0, "{channels:?}: {pinned:.1} on one channel");
    }
    assert!(too_slow.is_empty(), "{too_slow:?}");
}

/// Regression test: each message waited for the congestion window, and behind bursts of four milliseconds.
#[test]
fn message_beside_a_download_is_hardly_delayed() {
    let ms = Duration::from_millis;
    for channels in
        [vec![(200.0, ms(10))], vec![(200.0, ms(1))], vec![(1000.0, ms(10))], vec![(20.0, ms(10))]]
    {
        let Measured { mbit, message_p99 } = measure(&channels, true);
        let (rate, delay) = channels[0];
        println!("{channels:?}: {mbit:.1} Mbit/s, message p99 {message_p99:?}");
        assert!(mbit >= 0.97 * rate, "{channels:?}: {mbit:.1} Mbit/s");
        assert!(message_p99 <= delay + ms(4), "{channels:?}: {message_p99:?}");
    }
}
