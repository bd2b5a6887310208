//! Two muxes and the cables between them. What happens, and when, is the script's to say.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use bytes::Bytes;
use underpass::{
    ids::{Priority, StreamKey, UserChannelId},
    mux::{Mux, MuxConfig, MuxEvent, Role, WindowBudget},
    wire::{Frame, ResetCode},
};

pub const SIDES: [usize; 2] = [0, 1];

/// One step of a script. Numbers that name a stream or a cable come round, so that any number names one.
#[derive(Debug, Clone)]
pub enum Op {
    Open,
    /// The acceptor takes a stream that it has left waiting.
    Accept {
        stream: usize,
    },
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
    /// The operator holds a stream at one side, or lets it go on.
    Hold {
        side: usize,
        stream: usize,
        held: bool,
    },
    Priority {
        stream: usize,
        priority: usize,
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
    /// The acceptor lost every channel, or thinks so, and comes back with a new one; the opener gives up those it had.
    Resume,
    /// The cable takes nothing more. Of what was on its way to each side so many frames still arrive, if that side does
    /// not notice first; it notices when the script says so, and may have everything again by another cable by then.
    Cut {
        channel: usize,
        arrive: [usize; 2],
    },
    Notice {
        side: usize,
        channel: usize,
    },
    /// The cable takes nothing and gives nothing, or works again. Nobody is told: silence is noticed after a while.
    Stall {
        channel: usize,
        stalled: bool,
    },
    Pass {
        ms: u64,
    },
}

/// One end's view of one stream.
#[derive(Debug)]
pub struct End {
    pub written: u64,
    pub finished: bool,
    pub unread: VecDeque<Bytes>,
    pub received: u64,
    pub saw_end: bool,
    pub told_end: bool,
    pub over: Option<Result<(), ResetCode>>,
    /// How far it may send, by what has arrived here.
    pub limit: u64,
    /// The end of the last bytes that have arrived here.
    pub arrived: u64,
}

#[derive(Debug, Default)]
pub struct Cable {
    /// What is on its way to each side.
    pub to: [VecDeque<Frame>; 2],
    pub cut: bool,
    pub stalled: bool,
    pub noticed: [bool; 2],
}

pub struct World {
    pub now: Instant,
    pub mux: [Mux; 2],
    pub config: MuxConfig,
    /// What the budget of both was to begin with.
    whole_budget: u64,
    pub cables: Vec<Cable>,
    pub streams: Vec<u32>,
    pub ends: [HashMap<u32, End>; 2],
    /// What has happened so far, for tests that ask whether it does.
    pub seen: Seen,
}

/// How often the rarer things happened.
#[derive(Debug, Default)]
pub struct Seen {
    /// Bytes came a second time.
    pub repeated: u64,
    /// A stream's OPEN came behind that of a later one.
    pub overtaken: u64,
    /// Bytes went out over another cable than their stream's own.
    pub strayed: u64,
    /// A stream went on over another cable.
    pub moved: u64,
    /// A cable was given up for its silence.
    pub silent: u64,
    /// Data waited for what was on the way to arrive.
    pub held: u64,
    /// All cables were gone, and a new one came, or none did.
    pub resumed: u64,
    pub dead: u64,
    /// Streams that ended well, and with an error.
    pub whole: u64,
    pub failed: u64,
}

/// The byte at `offset` of what `side` sends on `stream`: any loss, repetition or exchange shows.
fn byte(side: usize, stream: u32, offset: u64) -> u8 {
    let mixed =
        (offset + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (u64::from(stream) << 32) ^ (side as u64) << 63;
    (mixed.wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 56) as u8
}

impl World {
    pub fn new() -> Self {
        let (max_window_growth, budget) = (60_000, WindowBudget::new(80_000));
        // So little may be on the way, in such chunks, that more often waits.
        let (initial_cwnd, chunk_size) = (2000, Some(500));
        let config = MuxConfig {
            initial_window: 8192,
            max_window: 32_768,
            max_window_growth,
            budget,
            min_bytes_to_stripe: 1,
            ..MuxConfig::default()
        };
        Self::with(MuxConfig { initial_cwnd, chunk_size, ..config })
    }

    pub fn with(config: MuxConfig) -> Self {
        let mut world = Self {
            now: Instant::now(),
            whole_budget: config.budget.available(),
            mux: [Mux::new(Role::Server, config.clone()), Mux::new(Role::Proxy, config.clone())],
            config,
            cables: Vec::new(),
            streams: Vec::new(),
            ends: [HashMap::new(), HashMap::new()],
            seen: Seen::default(),
        };
        world.add_channel();
        world.add_channel();
        world
    }

    fn end(&self) -> End {
        End {
            written: 0,
            finished: false,
            unread: VecDeque::new(),
            received: 0,
            saw_end: false,
            told_end: false,
            over: None,
            limit: self.config.initial_window.into(),
            arrived: 0,
        }
    }

    fn add_channel(&mut self) {
        let id = self.cables.len() as u16;
        self.mux.iter_mut().for_each(|mux| mux.add_channel(id, self.now));
        self.cables.push(Cable::default());
    }

    /// What was on its way is lost, if its side has not noticed before.
    fn resume(&mut self) {
        for channel in 0..self.cables.len() {
            let cable = &mut self.cables[channel];
            cable.cut = true;
            cable.to.iter_mut().for_each(VecDeque::clear);
            SIDES.iter().for_each(|&side| self.notice(side, channel));
        }
        self.seen.resumed += 1;
        self.add_channel();
    }

    fn pick(&self, stream: usize) -> Option<u32> {
        (!self.streams.is_empty()).then(|| self.streams[stream % self.streams.len()])
    }

    /// The end of a stream that is open at this side.
    fn open(&mut self, side: usize, stream: usize) -> Option<(u32, &mut End)> {
        let stream = self.pick(stream)?;
        self.ends[side].get_mut(&stream).filter(|end| end.over.is_none()).map(|end| (stream, end))
    }

    pub fn run(&mut self, op: Op) {
        let live = |world: &Self, channel: usize| channel % world.cables.len();
        match op {
            Op::Open => {
                let key = StreamKey::new(UserChannelId::new(1), self.streams.len() as u32 + 1);
                if let Ok(stream) = self.mux[0].open(key, 80, None, |_| false) {
                    self.streams.push(stream);
                    let end = self.end();
                    self.ends[0].insert(stream, end);
                }
            }
            Op::Accept { stream } => {
                if let Some((stream, _)) = self.open(1, stream) {
                    self.mux[1].accept(stream);
                }
            }
            Op::Write { side, stream, len } => {
                let Some((stream, _)) = self.open(side, stream) else { return };
                let room = self.mux[side].writable(stream);
                let Some(end) = self.ends[side].get_mut(&stream).filter(|end| !end.finished) else { return };
                let from = end.written;
                end.written += len.min(room) as u64;
                let bytes: Vec<u8> = (from..end.written).map(|offset| byte(side, stream, offset)).collect();
                self.mux[side].write(stream, bytes.into());
            }
            Op::Finish { side, stream } => {
                if let Some((stream, end)) = self.open(side, stream) {
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
                if let Some((stream, end)) = self.open(side, stream) {
                    end.over = Some(Err(ResetCode::Killed));
                    self.mux[side].reset(stream, ResetCode::Killed);
                }
            }
            Op::Hold { side, stream, held } => {
                if let Some((stream, _)) = self.open(side, stream) {
                    self.mux[side].set_paused(stream, held);
                }
            }
            Op::Priority { stream, priority } => {
                if let Some((stream, _)) = self.open(0, stream) {
                    self.mux[0].set_priority(stream, Priority::ALL[priority % Priority::ALL.len()]);
                }
            }
            Op::Transmit { side, channel, frames } => self.transmit(side, live(self, channel), frames),
            Op::Deliver { side, channel, frames } => self.deliver(side, live(self, channel), frames),
            Op::AddChannel if self.cables.len() < 6 => self.add_channel(),
            Op::Resume if self.cables.len() < 12 => self.resume(),
            Op::AddChannel | Op::Resume => {}
            Op::Cut { channel, arrive } => {
                let cable = live(self, channel);
                let cable = &mut self.cables[cable];
                cable.cut = true;
                SIDES.iter().for_each(|&side| cable.to[side].truncate(arrive[side]));
            }
            Op::Notice { side, channel } => self.notice(side, live(self, channel)),
            Op::Stall { channel, stalled } => {
                let cable = live(self, channel);
                self.cables[cable].stalled = stalled;
            }
            Op::Pass { ms } => {
                self.now += Duration::from_millis(ms);
                for side in SIDES {
                    for (channel, cable) in self.cables.iter().enumerate() {
                        if !cable.stalled {
                            self.mux[side].reset_idle_timeout(channel as u16, self.now);
                        }
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
            self.mux[side].remove_channel(channel as u16);
        }
    }

    fn transmit(&mut self, side: usize, channel: usize, frames: usize) {
        for _ in 0..frames {
            if self.cables[channel].stalled {
                return;
            }
            let Some(frame) = self.mux[side].poll_transmit(channel as u16, self.now) else {
                self.seen.held += u64::from(self.mux[side].queued_bytes(channel as u16) > 0);
                return;
            };
            if let Frame::Data { stream, offset, payload, .. } = &frame {
                let own = self.mux[side].primary_channel(*stream);
                self.seen.strayed += u64::from(own.is_some_and(|own| own != channel as u16));
                let limit = self.ends[side][stream].limit;
                assert!(
                    offset + payload.len() as u64 <= limit,
                    "{stream} was sent beyond its credit {limit}"
                );
            }
            if !self.cables[channel].cut {
                self.cables[channel].to[1 - side].push_back(frame);
            }
        }
    }

    fn deliver(&mut self, side: usize, channel: usize, frames: usize) {
        for _ in 0..frames {
            let cable = &mut self.cables[channel];
            if cable.noticed[side] || cable.stalled {
                return;
            }
            let Some(frame) = cable.to[side].pop_front() else { return };
            self.look_at(side, &frame);
            self.mux[side]
                .handle_frame(channel as u16, frame, self.now)
                .expect("an honest peer breaks no rule");
            self.events(side);
        }
    }

    /// Keeps the books beside the mux.
    fn look_at(&mut self, side: usize, frame: &Frame) {
        match *frame {
            Frame::OpenOk { stream, window } | Frame::Window { stream, consumed: 0, window } => {
                self.granted(side, stream, window.into());
            }
            Frame::Window { stream, consumed, window } => {
                self.granted(side, stream, consumed + u64::from(window))
            }
            Frame::Data { stream, offset, ref payload, .. } => {
                if let Some(end) = self.ends[side].get_mut(&stream) {
                    self.seen.repeated += u64::from(offset < end.arrived);
                    end.arrived = end.arrived.max(offset + payload.len() as u64);
                }
            }
            _ => {}
        }
    }

    fn granted(&mut self, side: usize, stream: u32, limit: u64) {
        if let Some(end) = self.ends[side].get_mut(&stream) {
            end.limit = end.limit.max(limit);
        }
    }

    fn consume(&mut self, side: usize, stream: u32, len: u64) {
        let Some(end) = self.ends[side].get_mut(&stream).filter(|end| end.over.is_none()) else { return };
        end.saw_end |= self.mux[side].read(stream, &mut end.unread);
        let waiting: usize = end.unread.iter().map(Bytes::len).sum();
        assert!(waiting <= self.config.max_window as usize, "{waiting} bytes wait at side {side}");
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
                    let mut end = self.end();
                    let last = self.ends[side].keys().max().copied().unwrap_or_default();
                    self.seen.overtaken += u64::from(open.stream < last);
                    // Some are taken at once, some are taken later, some are not taken.
                    match open.stream % 7 {
                        5 => {}
                        6 => {
                            self.mux[side].reset(open.stream, ResetCode::TargetRefused);
                            end.over = Some(Err(ResetCode::TargetRefused));
                        }
                        _ => self.mux[side].accept(open.stream),
                    }
                    self.ends[side].insert(open.stream, end);
                }
                MuxEvent::Reset { stream, code } => {
                    let end = self.ends[side].get_mut(&stream).expect("it was opened");
                    assert_eq!(end.over, None, "stream {stream} ended twice at side {side}");
                    end.over = Some(Err(code));
                }
                MuxEvent::Closed { stream } => {
                    let end = self.ends[side].get_mut(&stream).expect("it was opened");
                    assert_eq!(end.over, None, "stream {stream} ended twice at side {side}");
                    end.over = Some(Ok(()));
                }
                MuxEvent::FailedOver { .. } => self.seen.moved += 1,
                MuxEvent::ChannelTimedOut { channel } => {
                    // Its owner closes it; what was on its way is lost.
                    let cable = &mut self.cables[usize::from(channel)];
                    cable.to.iter_mut().for_each(VecDeque::clear);
                    cable.cut = true;
                    self.seen.silent += u64::from(!cable.noticed[side]);
                    self.notice(side, channel.into());
                }
                _ => {}
            }
        }
    }

    /// Every cable dies, and none comes back in time.
    pub fn die(&mut self) {
        self.seen.dead += 1;
        self.cables.iter_mut().for_each(|cable| cable.cut = true);
        for side in SIDES {
            (0..self.cables.len()).for_each(|channel| self.notice(side, channel));
            self.mux[side].abort_streams();
            self.events(side);
            self.cables.iter_mut().for_each(|cable| cable.to[side].clear());
        }
    }

    /// Lets everything finish: all cuts are noticed, nothing stalls, everybody reads and ends. What a dead cable still
    /// carried is lost.
    pub fn settle(&mut self) {
        for channel in 0..self.cables.len() {
            self.cables[channel].stalled = false;
            SIDES.iter().for_each(|&side| self.notice(side, channel));
            if self.cables[channel].cut {
                self.cables[channel].to.iter_mut().for_each(VecDeque::clear);
            }
        }
        if self.cables.iter().all(|cable| cable.cut) {
            self.resume();
        }
        SIDES.iter().for_each(|&side| self.events(side));
        for _ in 0..200 {
            if SIDES.iter().all(|&side| self.is_idle(side)) {
                return;
            }
            for side in SIDES {
                for &stream in &self.streams.clone() {
                    self.mux[side].accept(stream);
                    self.mux[side].set_paused(stream, false);
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

    fn is_idle(&self, side: usize) -> bool {
        let talks = |cable| self.mux[side].has_output(cable as u16);
        self.mux[side].stream_count() == 0
            && self.cables.iter().all(|cable| cable.to[side].is_empty())
            && !(0..self.cables.len()).any(talks)
    }

    /// Every stream is over at both ends, each end knows how, and nothing is left.
    pub fn check(&mut self) {
        assert_eq!(self.config.budget.available(), self.whole_budget, "some of the budget is still taken");
        for side in SIDES {
            assert_eq!(self.mux[side].stream_count(), 0, "streams left at side {side}");
            assert!(self.is_idle(side), "side {side} still has something to say");
        }
        for &stream in &self.streams {
            let [opener, acceptor] = SIDES.map(|side| self.ends[side].get(&stream));
            let opener = opener.expect("it was opened");
            match (opener.over, acceptor.map(|end| end.over)) {
                (Some(Ok(())), Some(Some(Ok(())))) => {
                    let acceptor = acceptor.expect("it was opened");
                    assert_eq!(opener.written, acceptor.received);
                    assert_eq!(acceptor.written, opener.received);
                    self.seen.whole += 1;
                    continue;
                }
                // Reset before its OPEN was sent, or the OPEN was lost with the last cable.
                (Some(Err(_)), None) => {}
                (Some(Err(_)), Some(Some(Err(_)))) => {}
                // One side had every byte of both directions when the other reset it: that is no loss.
                (Some(a), Some(Some(b))) => {
                    let acceptor = acceptor.expect("it was opened");
                    let whole = if a.is_ok() { opener } else { acceptor };
                    let other = if a.is_ok() { acceptor } else { opener };
                    assert!(a.is_ok() != b.is_ok());
                    assert_eq!((whole.received, other.received), (other.written, whole.written));
                }
                (a, b) => panic!("stream {stream} never ended: {a:?} {b:?}"),
            }
            self.seen.failed += 1;
        }
    }
}
