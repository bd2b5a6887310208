//! Two muxes over lines that have a rate and a delay, in virtual time: how much one stream carries over several.

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

const STEP: Duration = Duration::from_micros(100);

/// What the kernel takes before the line does.
const SOCKET: f64 = 32.0 * 1024.0;

/// One direction of one channel.
struct Line {
    /// In bytes a second.
    rate: f64,
    delay: Duration,
    free: Instant,
    under_way: VecDeque<(Instant, Frame)>,
}

impl Line {
    fn has_room(&self, now: Instant) -> bool {
        self.free.saturating_duration_since(now).as_secs_f64() * self.rate < SOCKET
    }

    fn send(&mut self, frame: Frame, now: Instant) {
        let bytes = if let Frame::Data { payload, .. } = &frame { payload.len() + 24 } else { 24 };
        self.free = self.free.max(now) + Duration::from_secs_f64(bytes as f64 / self.rate);
        self.under_way.push_back((self.free + self.delay, frame));
    }
}

/// How long a message is, and how often one is sent.
const MESSAGE: (usize, Duration) = (64, Duration::from_millis(5));

/// How two streams come down some channels, after a second to begin with.
struct Carried {
    /// The first one never runs dry: its rate in Mbit/s.
    mbit: f64,
    /// The second one, of another user, has a message now and then: how long nearly all of them took.
    message: Duration,
}

/// Down channels of these Mbit/s and delays.
fn carried(channels: &[(f64, Duration)], stripe: bool) -> Carried {
    let begin = Instant::now();
    let config = MuxConfig { allow_striping: stripe, ..MuxConfig::default() };
    let mut muxes = [Role::Server, Role::Proxy].map(|role| Mux::new(role, config.clone()));
    let line = |&(mbit, delay): &(f64, Duration)| Line {
        rate: mbit * 1e6 / 8.0,
        delay,
        free: begin,
        under_way: VecDeque::new(),
    };
    // To the server, and to the proxy.
    let mut lines = [0, 1].map(|_| channels.iter().map(line).collect::<Vec<_>>());
    for mux in &mut muxes {
        (1..=channels.len()).for_each(|id| mux.add_channel(id as u16, begin));
        mux.handle_timeout(begin);
    }
    let [stream, messages] = [1, 2].map(|user| {
        muxes[0].open(StreamKey::new(UserChannelId::new(user), 1), 80, None, |id| id == 1).unwrap()
    });
    let (mut now, mut received, mut before) = (begin, 0u64, 0u64);
    let (mut said, mut took, mut heard) = (VecDeque::new(), Vec::new(), 0);
    while now < begin + Duration::from_secs(6) {
        now += STEP;
        if now <= begin + Duration::from_secs(1) {
            before = received;
        }
        for side in [0, 1] {
            for (id, line) in (1..).zip(&mut lines[side]) {
                while line.under_way.front().is_some_and(|(at, _)| *at <= now) {
                    let Some((_, frame)) = line.under_way.pop_front() else { break };
                    muxes[side].reset_idle_timeout(id, now);
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
            let room = muxes[1].writable(stream);
            if room == 0 {
                break;
            }
            muxes[1].write(stream, Bytes::from(vec![7; room.min(64 * 1024)]));
        }
        if (now - begin).as_micros().is_multiple_of(MESSAGE.1.as_micros()) && muxes[1].writable(messages) > 0
        {
            muxes[1].write(messages, Bytes::from(vec![7; MESSAGE.0]));
            said.push_back(now);
        }
        let mut read = |stream| {
            let mut out = VecDeque::new();
            muxes[0].read(stream, &mut out);
            let bytes: usize = out.iter().map(Bytes::len).sum();
            muxes[0].consume(stream, bytes as u64, now);
            bytes
        };
        received += read(stream) as u64;
        heard += read(messages);
        for said in said.drain(..std::mem::take(&mut heard) / MESSAGE.0) {
            took.extend((said > begin + Duration::from_secs(1)).then(|| now - said));
        }
        for side in [0, 1] {
            for (id, line) in (1..).zip(&mut lines[1 - side]) {
                while line.has_room(now) {
                    let Some(frame) = muxes[side].poll_transmit(id, now) else { break };
                    line.send(frame, now);
                }
                muxes[side].set_write_blocked(id, !line.has_room(now));
            }
        }
    }
    took.sort();
    Carried { mbit: (received - before) as f64 * 8.0 / 1e6 / 5.0, message: took[took.len() * 99 / 100] }
}

#[test]
fn one_stream_uses_what_all_channels_carry() {
    let ms = Duration::from_millis;
    let mut low = Vec::new();
    for (channels, least) in [
        (vec![(100.0, ms(5)), (100.0, ms(5))], 180.0),
        (vec![(100.0, ms(1)), (100.0, ms(1))], 180.0),
        (vec![(100.0, ms(20)), (100.0, ms(20)), (100.0, ms(20))], 250.0),
        // A slow one helps as far as it can, whichever of the two is the stream's own: alone the fast one carries 99.3.
        (vec![(100.0, ms(5)), (10.0, ms(5))], 108.0),
        (vec![(10.0, ms(5)), (100.0, ms(5))], 108.0),
        // Nor does a far one.
        (vec![(100.0, ms(5)), (100.0, ms(200))], 99.0),
    ] {
        let [striped, pinned] = [true, false].map(|stripe| carried(&channels, stripe).mbit);
        println!("{channels:?}: {striped:.1} Mbit/s, {pinned:.1} on one");
        low.extend((pinned < channels[0].0 * 0.96).then(|| format!("{channels:?}: {pinned:.1} on one")));
        low.extend((striped < least).then(|| format!("{channels:?}: {striped:.1}")));
        assert!(pinned <= channels[0].0, "{channels:?}: {pinned:.1} on one");
    }
    assert!(low.is_empty(), "{low:?}");
}

/// Each waited until less was on the way, and behind bursts of four milliseconds.
#[test]
fn a_message_takes_little_longer_than_the_line_beside_a_download() {
    let ms = Duration::from_millis;
    for channels in
        [vec![(200.0, ms(10))], vec![(200.0, ms(1))], vec![(1000.0, ms(10))], vec![(20.0, ms(10))]]
    {
        let Carried { mbit, message } = carried(&channels, true);
        let (rate, delay) = channels[0];
        println!("{channels:?}: {mbit:.1} Mbit/s, {message:?}");
        assert!(mbit >= 0.97 * rate, "{channels:?}: {mbit:.1} Mbit/s");
        assert!(message <= delay + ms(4), "{channels:?}: {message:?}");
    }
}
