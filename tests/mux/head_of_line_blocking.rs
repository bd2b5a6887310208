//! Streams of other users beside bulk data on a lossy path, in virtual time: a lost segment of one does not delay the
//! messages of the others.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::{Duration, Instant},
};

use bytes::Bytes;
use underpass::{
    ids::{StreamKey, UserChannelId},
    mux::{Mux, MuxConfig, MuxEvent, Role},
    wire::Frame,
};

use super::lossy_path::LossyPath;

/// The step of virtual time.
const STEP: Duration = Duration::from_millis(1);

/// Until when nothing is measured, and when the measurement ends.
const WARM_UP: Duration = Duration::from_secs(1);
const END: Duration = Duration::from_secs(6);

/// The delay of most paths in one direction, and their rate in Mbit/s.
const DELAY: Duration = Duration::from_millis(20);
const MBIT: f64 = 50.0;

/// The length of a message, as a response of 1 KiB with its header.
const MESSAGE_LEN: usize = 1200;

/// The pause between two messages of a stream.
const PAUSE: Duration = Duration::from_millis(50);

/// What streams do on a path.
#[derive(Clone, Copy)]
struct Scenario {
    channels: usize,
    loss: f64,
    /// How many downloads run beside the messages.
    bulk_streams: u32,
    /// How many streams send messages.
    message_streams: u32,
    /// Whether streams are placed at all.
    allow_striping: bool,
    /// Whether the kernel reports losses, without which messages are sent once.
    reports_loss: bool,
    /// The delay of the path in one direction.
    delay: Duration,
    /// The first congestion window of the kernels, and by which factor it grows in each round trip; `None` if the
    /// kernels limit nothing.
    kernel_window: Option<(f64, f64)>,
}

/// What was measured of a scenario.
#[derive(Debug)]
struct Measured {
    /// The rate of all bulk streams in Mbit/s.
    bulk_mbit: f64,
    /// How many channels are primary channels of bulk streams at the end.
    bulk_channels: usize,
    /// The latencies of messages beyond the delay of the path.
    p50: Duration,
    p99: Duration,
    /// Bytes of data that were sent a second time, and all bytes of data, of the sender of the messages.
    copied: u64,
    sent: u64,
}

impl Scenario {
    fn measure(self) -> Measured {
        let begin = Instant::now();
        let config = MuxConfig { allow_striping: self.allow_striping, ..MuxConfig::default() };
        let mut muxes = [Role::Server, Role::Proxy].map(|role| Mux::new(role, config.clone()));
        let loss = self.loss;
        let mut paths = [0, 1].map(|_| LossyPath::new(self.channels, MBIT, self.delay, loss, begin));
        if let Some((bytes, factor)) = self.kernel_window {
            paths.iter_mut().for_each(|path| path.limit_kernel_window(bytes, factor));
        }
        for mux in &mut muxes {
            (0..self.channels).for_each(|id| mux.add_channel(id as u16, begin));
            mux.handle_timeout(begin);
        }
        let mut open =
            |user| muxes[0].open(StreamKey::new(UserChannelId::new(user), 1), 80, None, |_| false).unwrap();
        let bulk: Vec<_> = (0..self.bulk_streams).map(|n| open(n + 1)).collect();
        let mut messages: Vec<_> = (0..self.message_streams)
            .map(|n| {
                MessageStream::new(open(n + 1 + self.bulk_streams), begin + 4 * self.delay + PAUSE * n / 32)
            })
            .collect();
        let (mut received, mut received_in_warm_up, mut latencies) = (0u64, 0u64, Vec::<Duration>::new());
        let mut ends: HashMap<u32, u64> = HashMap::new();
        let (mut copied, mut sent) = (0, 0);
        let mut now = begin;
        while now < begin + END {
            now += STEP;
            if now <= begin + WARM_UP {
                received_in_warm_up = received;
            }
            for side in [0, 1] {
                for id in 0..self.channels {
                    for frame in paths[side].receive(id, now) {
                        muxes[side].record_alive(id as u16, now);
                        muxes[side].handle_frame(id as u16, frame, now).unwrap();
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
            for &bulk in bulk.iter().filter(|_| now > begin + 4 * self.delay) {
                while muxes[1].writable(bulk) > 0 {
                    let writable = muxes[1].writable(bulk);
                    muxes[1].write(bulk, Bytes::from(vec![7; writable.min(64 * 1024)]));
                }
                received += read(&mut muxes[0], bulk, now) as u64;
            }
            for message in &mut messages {
                if message.next_at <= now && muxes[1].writable(message.stream) > 0 {
                    muxes[1].write(message.stream, Bytes::from(vec![7; MESSAGE_LEN]));
                    message.next_at = now + PAUSE;
                    message.sent_at.push_back(now);
                }
                message.unmatched += read(&mut muxes[0], message.stream, now);
                while message.unmatched >= MESSAGE_LEN {
                    message.unmatched -= MESSAGE_LEN;
                    let sent_at = message.sent_at.pop_front().expect("no byte is delivered twice");
                    latencies.extend((sent_at > begin + WARM_UP).then(|| now - sent_at));
                }
            }
            for side in [0, 1] {
                // Twice, because frames may be queued on a channel that was polled already.
                for id in (0..self.channels).chain(0..self.channels) {
                    let path = &mut paths[1 - side];
                    muxes[side].report_transport(id as u16, path.sample(id, self.reports_loss, now), now);
                    while path.is_writable(id) {
                        let Some(frame) = muxes[side].poll_transmit(id as u16, now) else { break };
                        if let (1, Frame::Data { stream, offset, payload, .. }) = (side, &frame) {
                            let end = ends.entry(*stream).or_default();
                            sent += payload.len() as u64;
                            copied += payload.len() as u64 * u64::from(*offset < *end);
                            *end = (*end).max(offset + payload.len() as u64);
                        }
                        path.write(id, frame);
                    }
                    muxes[side].set_write_blocked(id as u16, !path.is_writable(id));
                }
                paths[1 - side].transmit(now, STEP);
            }
        }
        latencies.sort();
        let bulk_mbit = (received - received_in_warm_up) as f64 * 8e-6 / (END - WARM_UP).as_secs_f64();
        let quantile = |percent: usize| {
            latencies
                .get(latencies.len() * percent / 100)
                .map_or(Duration::ZERO, |latency| latency.saturating_sub(self.delay))
        };
        let primaries: HashSet<_> = bulk.iter().filter_map(|&bulk| muxes[1].primary_channel(bulk)).collect();
        let bulk_channels = primaries.len();
        Measured { bulk_mbit, bulk_channels, p50: quantile(50), p99: quantile(99), copied, sent }
    }
}

/// A stream that sends messages.
struct MessageStream {
    stream: u32,
    /// When its next message is sent.
    next_at: Instant,
    /// When its messages in flight were sent.
    sent_at: VecDeque<Instant>,
    /// Bytes that were received of a message that is not complete.
    unmatched: usize,
}

impl MessageStream {
    fn new(stream: u32, next_at: Instant) -> Self {
        Self { stream, next_at, sent_at: VecDeque::new(), unmatched: 0 }
    }
}

/// Reads and consumes what a stream has received. Returns how many bytes.
fn read(mux: &mut Mux, stream: u32, now: Instant) -> usize {
    let mut out = VecDeque::new();
    mux.read(stream, &mut out);
    let bytes: usize = out.iter().map(Bytes::len).sum();
    mux.consume(stream, bytes as u64, now);
    bytes
}

const MS: Duration = Duration::from_millis(1);

/// 1 % loss, with a download beside four streams of messages on eight channels.
const BESIDE_BULK: Scenario = Scenario {
    channels: 8,
    loss: 0.01,
    bulk_streams: 1,
    message_streams: 4,
    allow_striping: true,
    reports_loss: true,
    delay: DELAY,
    kernel_window: None,
};

/// A segment of the download that is lost delays no message, while the download keeps its rate.
#[test]
fn messages_do_not_wait_for_lost_bulk_segments() {
    let placed = BESIDE_BULK.measure();
    assert!(placed.p50 <= 4 * MS && placed.p99 <= 10 * MS, "{placed:?}");
    assert!(placed.bulk_mbit >= 0.85 * MBIT, "{placed:?}");
    let mixed = Scenario { allow_striping: false, ..BESIDE_BULK }.measure();
    println!("{placed:?}, on the same channels {mixed:?}");
    assert!(mixed.p99 >= 40 * MS, "the path delays nothing: {mixed:?}");
}

/// With 32 streams of messages and no bulk, as keep-alive connections, lost segments are those of messages.
#[test]
fn messages_are_sent_twice_under_loss() {
    let scenario = Scenario { bulk_streams: 0, message_streams: 32, ..BESIDE_BULK };
    let copied = scenario.measure();
    assert!(copied.p99 <= 10 * MS, "{copied:?}");
    assert!(copied.copied <= 2 * (copied.sent - copied.copied), "{copied:?}");
    let once = Scenario { reports_loss: false, ..scenario }.measure();
    println!("{copied:?}, sent once {once:?}");
    assert_eq!(once.copied, 0);
    assert!(once.p99 >= 40 * MS, "the path delays nothing: {once:?}");
}

/// Without loss nothing is sent twice, and one of two channels is enough for the bulk stream.
#[test]
fn bulk_stream_keeps_the_rate_of_a_clean_path() {
    let scenario = Scenario { channels: 2, loss: 0.0, ..BESIDE_BULK };
    let [placed, mixed] =
        [true, false].map(|allow_striping| Scenario { allow_striping, ..scenario }.measure());
    println!("{placed:?}, on the same channels {mixed:?}");
    assert!(placed.bulk_mbit >= 0.99 * mixed.bulk_mbit, "{placed:?} {mixed:?}");
    assert!(placed.p99 <= 5 * MS, "{placed:?}");
    assert_eq!(placed.copied, 0);
}

/// With several lost segments in each round trip, all that a single channel has delivered waits for one of them.
#[test]
fn downloads_are_spread_over_channels_where_each_round_trip_loses_segments() {
    let scenario = Scenario { channels: 4, loss: 0.03, bulk_streams: 4, message_streams: 0, ..BESIDE_BULK };
    let lossy = scenario.measure();
    println!("{lossy:?}");
    assert!(lossy.bulk_channels >= 3, "{lossy:?}");
    assert!(lossy.bulk_mbit >= 0.85 * MBIT, "{lossy:?}");
}

/// Where losses have ended the slow start of a kernel early, its window grows slowly, but too fast for a kernel that is
/// slower than the path. One download of a distant server had one channel then, and less than that connection alone.
#[test]
fn one_download_is_striped_where_each_round_trip_loses_segments() {
    let scenario = Scenario {
        channels: 4,
        loss: 0.03,
        message_streams: 0,
        delay: 5 * DELAY,
        kernel_window: Some((60e3, 1.1)),
        ..BESIDE_BULK
    };
    let [striped, pinned] =
        [true, false].map(|allow_striping| Scenario { allow_striping, ..scenario }.measure());
    println!("{striped:?}, on one channel {pinned:?}");
    assert!(striped.bulk_mbit >= 2.0 * pinned.bulk_mbit, "{striped:?} {pinned:?}");
}
