//! Two muxes wired back to back over a network that a script cuts, in virtual time: whatever happens, every byte
//! arrives once and in order, or the stream ends with an error at both ends, and nothing is left behind.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use bytes::Bytes;
use proptest::prelude::*;
use underpass::{
    ids::{Priority, StreamKey, UserChannelId},
    mux::{Budget, Mux, MuxConfig, MuxEvent, Role},
    wire::{Frame, ResetCode},
};

const SIDES: [usize; 2] = [0, 1];

#[derive(Debug, Clone)]
enum Op {
    Open,
    Write {
        side: usize,
        stream: usize,
        len: usize,
    },
    Finish {
        side: usize,
        stream: usize,
    },
    Consume {
        side: usize,
        stream: usize,
        len: u64,
    },
    Reset {
        side: usize,
        stream: usize,
    },
    Transmit {
        side: usize,
        channel: usize,
        frames: usize,
    },
    Deliver {
        side: usize,
        channel: usize,
        frames: usize,
    },
    AddChannel,
    /// The channel carries nothing more. Each side notices when the script says so.
    Cut {
        channel: usize,
    },
    Notice {
        side: usize,
        channel: usize,
    },
    Pass {
        ms: u64,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let side = 0..2usize;
    let stream = 0..8usize;
    let channel = 0..4usize;
    prop_oneof![
        2 => Just(Op::Open),
        8 => (side.clone(), stream.clone(), 0..3000usize).prop_map(|(side, stream, len)| Op::Write { side, stream, len }),
        2 => (side.clone(), stream.clone()).prop_map(|(side, stream)| Op::Finish { side, stream }),
        6 => (side.clone(), stream.clone(), 0..3000u64).prop_map(|(side, stream, len)| Op::Consume { side, stream, len }),
        1 => (side.clone(), stream).prop_map(|(side, stream)| Op::Reset { side, stream }),
        8 => (side.clone(), channel.clone(), 1..8usize).prop_map(|(side, channel, frames)| Op::Transmit { side, channel, frames }),
        8 => (side.clone(), channel.clone(), 1..8usize).prop_map(|(side, channel, frames)| Op::Deliver { side, channel, frames }),
        1 => Just(Op::AddChannel),
        1 => channel.clone().prop_map(|channel| Op::Cut { channel }),
        2 => (side, channel).prop_map(|(side, channel)| Op::Notice { side, channel }),
        1 => (0..2000u64).prop_map(|ms| Op::Pass { ms }),
    ]
}

/// One end's view of one stream.
#[derive(Debug, Default)]
struct End {
    written: u64,
    finished: bool,
    unread: VecDeque<Bytes>,
    received: u64,
    saw_end: bool,
    told_end: bool,
    over: Option<Result<(), ResetCode>>,
}

#[derive(Debug, Default)]
struct Cable {
    /// What is on its way to each side.
    to: [VecDeque<Frame>; 2],
    cut: bool,
    noticed: [bool; 2],
}

struct World {
    now: Instant,
    mux: [Mux; 2],
    cables: Vec<Cable>,
    streams: Vec<u32>,
    ends: [HashMap<u32, End>; 2],
    budget: Budget,
    whole_budget: u64,
}

/// The byte at `offset` of what `side` sends on `stream`: any loss, repetition or exchange shows.
fn byte(side: usize, stream: u32, offset: u64) -> u8 {
    let mixed =
        (offset + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (u64::from(stream) << 32) ^ (side as u64) << 63;
    (mixed.wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 56) as u8
}

impl World {
    fn new() -> Self {
        let (growth, budget) = (30_000, Budget::new(40_000));
        Self::with(MuxConfig { window: 4096, max_window: 16_384, growth, budget, ..MuxConfig::default() })
    }

    fn with(config: MuxConfig) -> Self {
        let mut world = Self {
            now: Instant::now(),
            whole_budget: config.budget.left(),
            budget: config.budget.clone(),
            mux: [Mux::new(Role::Opener, config.clone()), Mux::new(Role::Acceptor, config)],
            cables: Vec::new(),
            streams: Vec::new(),
            ends: [HashMap::new(), HashMap::new()],
        };
        world.add_channel();
        world.add_channel();
        world
    }

    fn add_channel(&mut self) {
        if self.cables.len() < 6 {
            let id = self.cables.len() as u16;
            self.mux.iter_mut().for_each(|mux| mux.add_channel(id, self.now));
            self.cables.push(Cable::default());
        }
    }

    /// A link that lost every channel is over: its owner lets go of it.
    fn is_dead(&self) -> bool {
        SIDES.iter().any(|&side| self.mux[side].channels() == 0)
    }

    fn pick(&self, stream: usize) -> Option<u32> {
        (!self.streams.is_empty()).then(|| self.streams[stream % self.streams.len()])
    }

    fn run(&mut self, op: Op) {
        let live = |world: &Self, channel: usize| channel % world.cables.len();
        match op {
            Op::Open => {
                let key = StreamKey::new(UserChannelId::new(1), self.streams.len() as u32 + 1);
                if let Ok(stream) = self.mux[0].open(key, 80, None, |_| false) {
                    self.streams.push(stream);
                    self.ends[0].insert(stream, End::default());
                }
            }
            Op::Write { side, stream, len } => {
                let Some(stream) = self.pick(stream) else { return };
                let room = self.mux[side].writable(stream);
                let Some(end) =
                    self.ends[side].get_mut(&stream).filter(|end| !end.finished && end.over.is_none())
                else {
                    return;
                };
                let from = end.written;
                end.written += len.min(room) as u64;
                let bytes: Vec<u8> = (from..end.written).map(|offset| byte(side, stream, offset)).collect();
                self.mux[side].write(stream, bytes.into());
            }
            Op::Finish { side, stream } => {
                let Some(stream) = self.pick(stream) else { return };
                if let Some(end) = self.ends[side].get_mut(&stream) {
                    end.finished = true;
                    self.mux[side].finish(stream);
                }
            }
            Op::Consume { side, stream, len } => {
                if let Some(stream) = self.pick(stream) {
                    self.consume(side, stream, len);
                }
            }
            Op::Reset { side, stream } => {
                let Some(stream) = self.pick(stream) else { return };
                if let Some(end) = self.ends[side].get_mut(&stream).filter(|end| end.over.is_none()) {
                    end.over = Some(Err(ResetCode::Killed));
                    self.mux[side].reset(stream, ResetCode::Killed);
                }
            }
            Op::Transmit { side, channel, frames } => self.transmit(side, live(self, channel), frames),
            Op::Deliver { side, channel, frames } => self.deliver(side, live(self, channel), frames),
            Op::AddChannel => self.add_channel(),
            Op::Cut { channel } => {
                let channel = live(self, channel);
                self.cables[channel].cut = true;
                self.cables[channel].to.iter_mut().for_each(VecDeque::clear);
            }
            Op::Notice { side, channel } => self.notice(side, live(self, channel)),
            Op::Pass { ms } => {
                self.now += Duration::from_millis(ms);
                for side in SIDES {
                    for channel in 0..self.cables.len() as u16 {
                        self.mux[side].heard(channel, self.now);
                    }
                    self.mux[side].handle_timeout(self.now);
                }
            }
        }
        SIDES.iter().for_each(|&side| self.events(side));
    }

    fn notice(&mut self, side: usize, channel: usize) {
        let cable = &mut self.cables[channel];
        if cable.cut && !cable.noticed[side] {
            cable.noticed[side] = true;
            self.mux[side].channel_lost(channel as u16);
        }
    }

    fn transmit(&mut self, side: usize, channel: usize, frames: usize) {
        for _ in 0..frames {
            let Some(frame) = self.mux[side].poll_transmit(channel as u16) else { return };
            if !self.cables[channel].cut {
                self.cables[channel].to[1 - side].push_back(frame);
            }
        }
    }

    fn deliver(&mut self, side: usize, channel: usize, frames: usize) {
        for _ in 0..frames {
            if self.cables[channel].noticed[side] {
                return;
            }
            let Some(frame) = self.cables[channel].to[side].pop_front() else { return };
            self.mux[side]
                .handle_frame(channel as u16, frame, self.now)
                .expect("an honest peer breaks no rule");
            self.events(side);
        }
    }

    fn consume(&mut self, side: usize, stream: u32, len: u64) {
        let Some(end) = self.ends[side].get_mut(&stream).filter(|end| end.over.is_none()) else { return };
        end.saw_end |= self.mux[side].read(stream, &mut end.unread);
        let mut left = len;
        while let Some(mut piece) = end.unread.pop_front() {
            let part = piece.split_to(piece.len().min(left as usize));
            for &got in &part {
                assert_eq!(got, byte(1 - side, stream, end.received), "stream {stream} at {}", end.received);
                end.received += 1;
            }
            left -= part.len() as u64;
            self.mux[side].consume(stream, part.len() as u64, self.now);
            if !piece.is_empty() {
                end.unread.push_front(piece);
                break;
            }
        }
        if end.saw_end && end.unread.is_empty() && !end.told_end {
            end.told_end = true;
            self.mux[side].consume_end(stream);
        }
    }

    fn events(&mut self, side: usize) {
        while let Some(event) = self.mux[side].poll_event() {
            match event {
                MuxEvent::Opened(open) => {
                    self.ends[side].insert(open.stream, End::default());
                    self.mux[side].accept(open.stream);
                }
                MuxEvent::Reset { stream, code } => {
                    self.ends[side].get_mut(&stream).unwrap().over = Some(Err(code));
                }
                MuxEvent::Closed { stream } => {
                    self.ends[side].get_mut(&stream).unwrap().over.get_or_insert(Ok(()));
                }
                _ => {}
            }
        }
    }

    /// Lets everything finish: all cuts are noticed, everybody reads and ends.
    fn settle(&mut self) {
        for channel in 0..self.cables.len() {
            SIDES.iter().for_each(|&side| self.notice(side, channel));
        }
        SIDES.iter().for_each(|&side| self.events(side));
        if self.is_dead() {
            return;
        }
        for _ in 0..200 {
            for side in SIDES {
                for &stream in &self.streams.clone() {
                    self.consume(side, stream, u64::MAX);
                    if let Some(end) = self.ends[side].get_mut(&stream) {
                        end.finished = true;
                        self.mux[side].finish(stream);
                    }
                }
                for channel in 0..self.cables.len() {
                    self.transmit(side, channel, 1000);
                    self.deliver(1 - side, channel, 1000);
                }
                self.events(side);
            }
        }
    }

    fn check(&self) {
        assert_eq!(
            self.budget.left(),
            self.whole_budget,
            "no stream is left, and some of the budget is still taken"
        );
        if self.is_dead() {
            return;
        }
        for side in SIDES {
            assert_eq!(self.mux[side].streams(), 0, "streams left at side {side}");
        }
        for &stream in &self.streams {
            let [opener, acceptor] = SIDES.map(|side| self.ends[side].get(&stream));
            let Some(opener) = opener else { unreachable!() };
            match (opener.over, acceptor.map(|end| end.over)) {
                (Some(Ok(())), Some(Some(Ok(())))) => {
                    let acceptor = acceptor.unwrap();
                    assert_eq!(opener.written, acceptor.received);
                    assert_eq!(acceptor.written, opener.received);
                }
                // Reset before its OPEN was sent: the other side never heard of it.
                (Some(Err(_)), None) => {}
                (Some(Err(_)), Some(Some(Err(_)))) => {}
                // One side had every byte of both directions when the other reset it: that is no loss.
                (Some(a), Some(Some(b))) => {
                    let acceptor = acceptor.unwrap();
                    let whole = if a.is_ok() { opener } else { acceptor };
                    let other = if a.is_ok() { acceptor } else { opener };
                    assert!(a.is_ok() != b.is_ok());
                    assert_eq!(whole.received, other.written);
                }
                (a, b) => panic!("stream {stream} never ended: {a:?} {b:?}"),
            }
        }
    }
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

/// Two downloads that never run dry share a channel by their priorities, also after these were changed under way.
#[test]
fn priorities_share_a_channel_by_their_weight() {
    let mut world = World::with(MuxConfig { window: 1 << 20, ..MuxConfig::default() });
    world.mux.iter_mut().for_each(|mux| mux.channel_lost(1));
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

fn cases() -> u32 {
    std::env::var("UNDERPASS_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(2000)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn every_byte_arrives_once_or_both_ends_see_an_error(ops in prop::collection::vec(op(), 1..150)) {
        let mut world = World::new();
        for op in ops {
            world.run(op);
            if world.is_dead() {
                break;
            }
        }
        world.settle();
        world.check();
    }
}

/// The command line allows a first window beyond what windows may grow to. On a long path the tuning then asked for a
/// window between a larger and a smaller bound, and panicked.
#[test]
fn a_first_window_may_be_larger_than_the_largest() {
    let config = MuxConfig { window: 64 << 20, ..MuxConfig::default() };
    assert!(config.window > config.max_window);
    let (mut server, mut proxy) = (Mux::new(Role::Opener, config.clone()), Mux::new(Role::Acceptor, config));
    let mut now = Instant::now();
    for mux in [&mut server, &mut proxy] {
        mux.add_channel(1, now);
        mux.handle_timeout(now);
    }
    let pass = |from: &mut Mux, to: &mut Mux, now: Instant| {
        while let Some(frame) = from.poll_transmit(1) {
            to.handle_frame(1, frame, now).unwrap();
        }
    };
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
    let config = MuxConfig { growth: 60 << 20, budget: Budget::new(100 << 20), ..MuxConfig::default() };
    let mut links = [0, 1].map(|_| Mux::new(Role::Opener, config.clone()));
    let mut kept = [0, 0];
    for (link, kept) in links.iter_mut().zip(&mut kept) {
        link.add_channel(1, now);
        for number in 1..=20 {
            let stream =
                link.open(StreamKey::new(UserChannelId::new(1), number), 80, None, |_| false).unwrap();
            while link.poll_transmit(1).is_some() {}
            link.handle_frame(1, Frame::OpenOk { stream, window: u32::MAX }, now).unwrap();
            loop {
                while link.poll_transmit(1).is_some() {}
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
    assert_eq!(config.budget.left(), 0);
    // What is acknowledged frees what others need, and a link that is dropped leaves nothing behind.
    links[0].reset(1, ResetCode::Killed);
    assert_eq!(config.budget.left(), (16 << 20) - (256 << 10));
    drop(links);
    assert_eq!(config.budget.left(), 100 << 20);
}
