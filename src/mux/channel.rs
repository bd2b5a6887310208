use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::{
    error::ProtocolError,
    limits::{MAX_LAST_WORDS, MAX_MESSAGES, MuxConfig},
    scheduler::Scheduler,
};
use crate::wire::Frame;

/// What the mux knows of one channel: what waits to go out on it, and whether it is alive.
#[derive(Debug)]
pub(super) struct Channel {
    /// Frames that belong to no open stream: pings, messages, the last words of streams that are over.
    pub(super) frames: VecDeque<Frame>,
    /// Streams with something to say beside data. Coalesced: a stream stands here once, whatever it has to say.
    pub(super) control: VecDeque<u32>,
    /// Streams with data, in their turn.
    pub(super) data: Scheduler,
    pub(super) streams: usize,
    /// What ended streams said last, until a ping that went out later comes back. If the channel dies before, they
    /// are said again elsewhere: a RESET that is lost would leave the peer with half a stream for ever.
    last_words: VecDeque<(u64, Frame)>,
    messages: usize,
    ping: Ping,
}

#[derive(Debug)]
struct Ping {
    next: Instant,
    token: u64,
    sent_at: Option<Instant>,
    heard: Instant,
    /// The shortest round trip so far: the longer ones waited behind data.
    shortest: Option<Duration>,
    /// The peer's ping that is not answered yet. Only the latest: a flood of pings costs no memory.
    answer: Option<u64>,
}

impl Channel {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            frames: VecDeque::new(),
            control: VecDeque::new(),
            data: Scheduler::default(),
            streams: 0,
            last_words: VecDeque::new(),
            messages: 0,
            // The first ping goes out at once: it measures the round trip.
            ping: Ping { next: now, token: 0, sent_at: None, heard: now, shortest: None, answer: None },
        }
    }

    pub(super) fn has_output(&self) -> bool {
        self.ping.answer.is_some()
            || !(self.frames.is_empty() && self.control.is_empty() && self.data.is_empty())
    }

    /// The next frame that belongs to no open stream.
    pub(super) fn poll_frame(&mut self) -> Option<Frame> {
        if let Some(token) = self.ping.answer.take() {
            return Some(Frame::Pong { token });
        }
        let frame = self.frames.pop_front()?;
        match &frame {
            Frame::Message(_) => self.messages -= 1,
            Frame::Window { .. } | Frame::Reset { .. } | Frame::OpenOk { .. } => {
                if self.last_words.len() >= MAX_LAST_WORDS {
                    self.last_words.pop_front();
                }
                self.last_words.push_back((self.ping.token, frame.clone()));
            }
            _ => {}
        }
        Some(frame)
    }

    pub(super) fn push_message(&mut self, frame: Frame) -> Result<(), ProtocolError> {
        if self.messages >= MAX_MESSAGES {
            return Err(ProtocolError::Backlog);
        }
        self.messages += 1;
        self.frames.push_back(frame);
        Ok(())
    }

    /// What another channel has to say again after this one died.
    pub(super) fn into_unconfirmed(self) -> impl Iterator<Item = Frame> {
        let waiting = self.frames.into_iter().filter(|frame| !matches!(frame, Frame::Ping { .. }));
        self.last_words.into_iter().map(|(_, frame)| frame).chain(waiting)
    }

    pub(super) fn inherit(&mut self, frame: Frame) {
        self.messages += usize::from(matches!(frame, Frame::Message(_)));
        self.frames.push_back(frame);
    }

    /// Something was heard, or the silence is our own doing because we do not read.
    pub(super) fn heard(&mut self, now: Instant) {
        self.ping.heard = now;
    }

    pub(super) fn on_ping(&mut self, token: u64) {
        self.ping.answer = Some(token);
    }

    /// The round trip, if this answers the last ping.
    pub(super) fn on_pong(&mut self, token: u64, now: Instant) -> Option<Duration> {
        if token != self.ping.token {
            return None;
        }
        let sent_at = self.ping.sent_at.take()?;
        while self.last_words.front().is_some_and(|(before, _)| *before < token) {
            self.last_words.pop_front();
        }
        let round_trip = now.saturating_duration_since(sent_at);
        self.ping.shortest = Some(self.ping.shortest.map_or(round_trip, |shortest| shortest.min(round_trip)));
        Some(round_trip)
    }

    pub(super) fn shortest_round_trip(&self) -> Option<Duration> {
        self.ping.shortest
    }

    /// False if the channel is dead.
    pub(super) fn on_timeout(&mut self, config: &MuxConfig, now: Instant) -> bool {
        if now.saturating_duration_since(self.ping.heard) >= config.dead_after {
            return false;
        }
        if now >= self.ping.next {
            self.ping.next = now + config.ping_every;
            // A ping still on its way is not followed by a second: behind much data they would pile up.
            if self.ping.sent_at.is_none() {
                self.ping.token += 1;
                self.ping.sent_at = Some(now);
                self.frames.push_back(Frame::Ping { token: self.ping.token });
            }
        }
        true
    }

    pub(super) fn next_timeout(&self, config: &MuxConfig) -> Instant {
        self.ping.next.min(self.ping.heard + config.dead_after)
    }
}
