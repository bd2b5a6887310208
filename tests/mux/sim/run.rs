//! Executes scripts, and keeps the expected state of each stream.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use underpass::{
    ids::{Priority, StreamKey, UserChannelId},
    mux::{DataEnd, MuxEvent, TransportSample},
    wire::{Frame, ResetCode},
};

use super::{Op, SIDES, SimulatedChannel, SimulatedLink, StreamSide, byte};

/// The codes with which the sides reset a stream whose local socket failed.
const SOCKET_FAILED: [ResetCode; 2] = [ResetCode::UserIoError, ResetCode::TargetIoError];

impl SimulatedLink {
    /// The expected state of a stream that was just opened.
    fn new_side(limit: u64) -> StreamSide {
        StreamSide {
            written: 0,
            is_finished: false,
            unread: VecDeque::new(),
            consumed: 0,
            is_end_read: false,
            is_end_consumed: false,
            is_reset_read: false,
            resets_after_data: false,
            peer_reset: None,
            outcome: None,
            limit,
            received_to: 0,
        }
    }

    /// Adds a channel at both sides.
    pub(super) fn add_channel(&mut self) {
        let id = self.channels.len() as u16;
        self.mux.iter_mut().for_each(|mux| mux.add_channel(id, self.now));
        self.channels.push(SimulatedChannel::default());
    }

    /// Breaks all channels and adds a new one. The frames in flight are lost, as both sides detect the loss now.
    pub(super) fn resume(&mut self) {
        for index in 0..self.channels.len() {
            let channel = &mut self.channels[index];
            channel.is_broken = true;
            channel.in_flight_to.iter_mut().for_each(VecDeque::clear);
            SIDES.iter().for_each(|&side| self.detect_loss(side, index));
        }
        self.seen.resumed += 1;
        self.add_channel();
    }

    /// The id of the stream that a script means by this number.
    fn pick(&self, stream: usize) -> Option<u32> {
        (!self.streams.is_empty()).then(|| self.streams[stream % self.streams.len()])
    }

    /// One side of the stream that a script means by this number, if it is open there.
    fn open(&mut self, side: usize, stream: usize) -> Option<(u32, &mut StreamSide)> {
        let stream = self.pick(stream)?;
        self.sides[side].get_mut(&stream).filter(|state| state.outcome.is_none()).map(|state| (stream, state))
    }

    /// Executes one step, and handles the events that follow from it.
    pub fn run(&mut self, op: Op) {
        let wrap = |link: &Self, channel: usize| channel % link.channels.len();
        match op {
            Op::Open => {
                let key = StreamKey::new(UserChannelId::new(1), self.streams.len() as u32 + 1);
                if let Ok(stream) = self.mux[0].open(key, 80, None, |_| false) {
                    self.streams.push(stream);
                    // Until the proxy answers, the server may use the first window.
                    let state = Self::new_side(self.config.initial_window.into());
                    self.sides[0].insert(stream, state);
                }
            }
            Op::Accept { stream } => {
                if let Some((stream, _)) = self.open(1, stream) {
                    self.mux[1].accept(stream);
                }
            }
            Op::Write { side, stream, len } => {
                let Some((stream, _)) = self.open(side, stream) else { return };
                let writable = self.mux[side].writable(stream);
                let Some(state) = self.sides[side].get_mut(&stream).filter(|state| !state.is_finished) else {
                    return;
                };
                let from = state.written;
                state.written += len.min(writable) as u64;
                let bytes: Vec<u8> = (from..state.written).map(|offset| byte(side, stream, offset)).collect();
                self.mux[side].write(stream, bytes.into());
            }
            Op::Finish { side, stream } => {
                if let Some((stream, state)) = self.open(side, stream) {
                    state.is_finished = true;
                    self.mux[side].finish(stream);
                }
            }
            Op::Consume { side, stream, len } => {
                if let Some(stream) = self.pick(stream) {
                    self.consume(side, stream, len);
                }
            }
            Op::Reset { side, stream } => {
                if let Some((stream, state)) = self.open(side, stream) {
                    state.outcome = Some(Err(ResetCode::Killed));
                    self.mux[side].reset(stream, ResetCode::Killed);
                }
            }
            Op::ResetAfterData { side, stream } => {
                if let Some((stream, state)) = self.open(side, stream)
                    && state.peer_reset.is_none()
                {
                    (state.resets_after_data, state.is_finished) = (true, true);
                    self.mux[side].reset_after_data(stream, SOCKET_FAILED[side]);
                }
            }
            Op::SetPaused { side, stream, paused } => {
                if let Some((stream, _)) = self.open(side, stream) {
                    self.mux[side].set_paused(stream, paused);
                }
            }
            Op::SetPriority { stream, priority } => {
                if let Some((stream, _)) = self.open(0, stream) {
                    self.mux[0].set_priority(stream, Priority::ALL[priority % Priority::ALL.len()]);
                }
            }
            Op::Transmit { side, channel, frames } => self.transmit(side, wrap(self, channel), frames),
            Op::Deliver { side, channel, frames } => self.deliver(side, wrap(self, channel), frames),
            Op::AddChannel if self.channels.len() < 6 => self.add_channel(),
            Op::Retire => _ = self.mux[1].retire_channel(),
            Op::Resume if self.channels.len() < 12 => self.resume(),
            Op::AddChannel | Op::Resume => {}
            Op::Break { channel, delivered } => {
                let index = wrap(self, channel);
                let channel = &mut self.channels[index];
                channel.is_broken = true;
                SIDES.iter().for_each(|&side| channel.in_flight_to[side].truncate(delivered[side]));
            }
            Op::DetectLoss { side, channel } => self.detect_loss(side, wrap(self, channel)),
            Op::Stall { channel, stalled } => {
                let index = wrap(self, channel);
                self.channels[index].is_stalled = stalled;
            }
            Op::ReportTransport { side, channel, is_recovering, loss_percent } => {
                let index = wrap(self, channel);
                self.reported_segments += 1000;
                let sample = TransportSample {
                    rtt: Duration::from_millis(20),
                    cwnd: 1 << 20,
                    sent_segments: self.reported_segments,
                    retransmitted_segments: self.reported_segments * loss_percent / 100,
                    is_recovering,
                    ..TransportSample::default()
                };
                self.mux[side].report_transport(index as u16, sample, self.now);
            }
            Op::AdvanceTime { ms } => {
                self.now += Duration::from_millis(ms);
                for side in SIDES {
                    for (index, channel) in self.channels.iter().enumerate() {
                        if !channel.is_stalled {
                            self.mux[side].record_alive(index as u16, self.now);
                        }
                    }
                    self.mux[side].handle_timeout(self.now);
                }
            }
        }
        SIDES.iter().for_each(|&side| self.events(side));
        self.check_budget();
    }

    /// Has one side remove a broken channel.
    pub(super) fn detect_loss(&mut self, side: usize, index: usize) {
        let channel = &mut self.channels[index];
        if channel.is_broken && !channel.is_loss_detected[side] {
            channel.is_loss_detected[side] = true;
            self.mux[side].remove_channel(index as u16);
        }
    }

    /// Has the proxy close a retired channel. What it has sent on it still arrives if the server reads it before it
    /// detects the end.
    fn close_retired(&mut self, index: usize) {
        self.seen.retired += 1;
        self.transmit(1, index, usize::MAX);
        let channel = &mut self.channels[index];
        channel.is_broken = true;
        channel.in_flight_to[1].clear();
        self.detect_loss(1, index);
    }

    /// Sends up to `frames` frames on a channel, and checks that none exceeds its credit.
    pub(super) fn transmit(&mut self, side: usize, index: usize, frames: usize) {
        for _ in 0..frames {
            if self.channels[index].is_stalled {
                return;
            }
            let Some(frame) = self.mux[side].poll_transmit(index as u16, self.now) else {
                self.seen.cwnd_limited += u64::from(self.mux[side].queued_bytes(index as u16) > 0);
                return;
            };
            if let Frame::Data { stream, offset, payload, .. } = &frame {
                let primary = self.mux[side].primary_channel(*stream);
                self.seen.striped_frames += u64::from(primary.is_some_and(|primary| primary != index as u16));
                let limit = self.sides[side][stream].limit;
                assert!(
                    offset + payload.len() as u64 <= limit,
                    "data of stream {stream} exceeds its credit {limit}"
                );
            }
            if !self.channels[index].is_broken {
                self.channels[index].in_flight_to[1 - side].push_back(frame);
            }
        }
    }

    /// Receives up to `frames` frames of a channel.
    pub(super) fn deliver(&mut self, side: usize, index: usize, frames: usize) {
        for _ in 0..frames {
            let channel = &mut self.channels[index];
            if channel.is_loss_detected[side] || channel.is_stalled {
                return;
            }
            let Some(frame) = channel.in_flight_to[side].pop_front() else { return };
            self.track(side, &frame);
            self.mux[side]
                .handle_frame(index as u16, frame, self.now)
                .expect("an honest peer violates no rule");
            self.events(side);
        }
    }

    /// Updates the expected credit of a stream, and counts duplicate data.
    fn track(&mut self, side: usize, frame: &Frame) {
        match *frame {
            Frame::OpenOk { stream, window } | Frame::Window { stream, consumed: 0, window } => {
                self.grant(side, stream, window.into());
            }
            Frame::Window { stream, consumed, window } => {
                self.grant(side, stream, consumed + u64::from(window))
            }
            Frame::Data { stream, offset, ref payload, .. } => {
                if let Some(state) = self.sides[side].get_mut(&stream) {
                    self.seen.duplicate_data += u64::from(offset < state.received_to);
                    state.received_to = state.received_to.max(offset + payload.len() as u64);
                }
            }
            _ => {}
        }
    }

    /// Raises the expected credit of a stream.
    fn grant(&mut self, side: usize, stream: u32, limit: u64) {
        if let Some(state) = self.sides[side].get_mut(&stream) {
            state.limit = state.limit.max(limit);
        }
    }

    /// Consumes up to `len` bytes and compares them with those that the other side has written.
    pub(super) fn consume(&mut self, side: usize, stream: u32, len: u64) {
        let is_open = |state: &&mut StreamSide| state.outcome.is_none() && !state.resets_after_data;
        let Some(state) = self.sides[side].get_mut(&stream).filter(is_open) else { return };
        let end = self.mux[side].read(stream, &mut state.unread);
        state.is_end_read |= end == Some(DataEnd::Fin);
        state.is_reset_read |= end == Some(DataEnd::Reset);
        let unread: usize = state.unread.iter().map(Bytes::len).sum();
        assert!(unread <= self.config.max_window as usize, "{unread} unread bytes at side {side}");
        let mut left = len;
        while let Some(mut slice) = state.unread.pop_front() {
            let consumed = slice.split_to(slice.len().min(left as usize));
            for &got in &consumed {
                assert_eq!(
                    got,
                    byte(1 - side, stream, state.consumed),
                    "stream {stream} at {}",
                    state.consumed
                );
                state.consumed += 1;
            }
            left -= consumed.len() as u64;
            self.mux[side].consume(stream, consumed.len() as u64, self.now);
            if state.consumed >= self.config.budget.proven_bytes() {
                self.mux[side].on_reader_proven(stream);
            }
            if !slice.is_empty() {
                state.unread.push_front(slice);
                break;
            }
        }
        if state.is_end_read && state.unread.is_empty() && !state.is_end_consumed {
            state.is_end_consumed = true;
            self.mux[side].consume_end(stream);
        }
        if let Some(code) = state.peer_reset
            && state.unread.is_empty()
            && (state.is_reset_read || state.is_end_consumed)
        {
            state.outcome = Some(Err(code));
            let consumed = state.consumed;
            self.mux[side].reset(stream, code);
            if code == SOCKET_FAILED[1 - side] {
                assert_eq!(consumed, self.sides[1 - side][&stream].written, "stream {stream}");
                self.seen.resets_after_data += 1;
            }
        }
    }

    /// Handles all events of one side.
    pub(super) fn events(&mut self, side: usize) {
        while let Some(event) = self.mux[side].poll_event() {
            match event {
                MuxEvent::Opened(open) => {
                    let mut state = Self::new_side(open.window.into());
                    let last = self.sides[side].keys().max().copied().unwrap_or_default();
                    self.seen.reordered_opens += u64::from(open.stream < last);
                    // Most streams are accepted at once, some later, some never.
                    match open.stream % 7 {
                        5 => {}
                        6 => {
                            self.mux[side].reset(open.stream, ResetCode::TargetRefused);
                            state.outcome = Some(Err(ResetCode::TargetRefused));
                        }
                        _ => self.mux[side].accept(open.stream),
                    }
                    self.sides[side].insert(open.stream, state);
                }
                MuxEvent::Reset { stream, code } => {
                    let state = self.sides[side].get_mut(&stream).expect("the stream was opened");
                    assert_eq!(state.outcome, None, "stream {stream} ended twice at side {side}");
                    state.outcome = Some(Err(code));
                }
                MuxEvent::Unaccepted { stream, code, data } => {
                    let state = self.sides[side].get_mut(&stream).expect("the stream was opened");
                    assert_eq!(state.outcome, None, "stream {stream} ended twice at side {side}");
                    state.outcome = Some(Err(code));
                    let expected = (0..state.written).map(|offset| byte(side, stream, offset));
                    assert!(data.iter().flatten().copied().eq(expected), "data of stream {stream} was lost");
                }
                MuxEvent::ResetAfterData { stream, code } => {
                    let state = self.sides[side].get_mut(&stream).expect("the stream was opened");
                    assert_eq!(state.outcome, None, "stream {stream} was reset after its end at side {side}");
                    state.peer_reset = Some(code);
                    // As its relay does. A link that has ended delivers no more than it has received.
                    self.mux[side].finish(stream);
                    (state.is_finished, state.is_reset_read) = (true, false);
                }
                MuxEvent::Closed { stream } => {
                    let state = self.sides[side].get_mut(&stream).expect("the stream was opened");
                    assert_eq!(state.outcome, None, "stream {stream} ended twice at side {side}");
                    state.outcome = Some(Ok(()));
                }
                MuxEvent::FailedOver { .. } => self.seen.failovers += 1,
                MuxEvent::Moved { .. } => self.seen.moves += 1,
                MuxEvent::ChannelRetired { channel } => self.close_retired(channel.into()),
                MuxEvent::ChannelTimedOut { channel: id } => {
                    // Its driver closes it; the frames in flight are lost.
                    let channel = &mut self.channels[usize::from(id)];
                    channel.in_flight_to.iter_mut().for_each(VecDeque::clear);
                    channel.is_broken = true;
                    self.seen.timeouts += u64::from(!channel.is_loss_detected[side]);
                    self.detect_loss(side, id.into());
                }
                _ => {}
            }
        }
    }
}
