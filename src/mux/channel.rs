use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::{
    error::ProtocolError,
    glitch::Glitches,
    limits::{MAX_LAST_WORDS, MAX_MESSAGES, MAX_WAITING, MuxConfig},
    meter::Meter,
    scheduler::Scheduler,
};
use crate::wire::Frame;

/// After this long without an answer a channel gets nothing of other channels' streams, and what it has of them goes out
/// again. Four round trips where that is more.
const SUSPECT: Duration = Duration::from_millis(500);

/// What the mux knows of one channel: what waits to go out on it, and whether it is alive.
#[derive(Debug)]
pub(super) struct Channel {
    /// Frames that belong to no open stream: messages, the last words of streams that are over.
    pub(super) frames: VecDeque<Frame>,
    /// Streams with something to say beside data. Coalesced: a stream stands here once, whatever it has to say.
    pub(super) control: VecDeque<u32>,
    /// Streams with data, in their turn.
    pub(super) data: Scheduler,
    pub(super) streams: usize,
    pub(super) meter: Meter,
    /// What ended streams said last, until a ping that went out later comes back. If the channel dies before, they
    /// are said again elsewhere: a RESET that is lost would leave the peer with half a stream for ever.
    last_words: VecDeque<(u64, Frame)>,
    messages: usize,
    pub(super) glitches: Glitches,
    suspect: bool,
    /// One that has only a little may be at its turn.
    pub(super) little: bool,
    /// Its socket takes no more for now.
    pub(super) blocked: bool,
    ping: Ping,
}

#[derive(Debug)]
struct Ping {
    next: Instant,
    /// It is time for one.
    due: bool,
    heard: Instant,
    /// The peer's ping that is not answered yet. Only the latest: a flood of pings costs no memory.
    answer: Option<u64>,
}

impl Channel {
    pub(super) fn new(config: &MuxConfig, now: Instant) -> Self {
        Self {
            frames: VecDeque::new(),
            control: VecDeque::new(),
            data: Scheduler::default(),
            streams: 0,
            meter: Meter::new(config, now),
            last_words: VecDeque::new(),
            messages: 0,
            glitches: Glitches::new(now),
            suspect: false,
            little: false,
            blocked: false,
            // The first ping goes out at once: it measures the round trip.
            ping: Ping { next: now, due: false, heard: now, answer: None },
        }
    }

    pub(super) fn has_output(&self) -> bool {
        self.ping.answer.is_some()
            || self.ping.due
            || !(self.frames.is_empty() && self.control.is_empty())
            || (!self.data.is_empty() && (self.meter.has_output() || (self.little && self.meter.spares())))
            || self.meter.owes_marker()
    }

    /// Whether nothing of its own waits, and it answers.
    pub(super) fn is_idle(&self) -> bool {
        self.data.is_empty() && !self.suspect
    }

    /// Whether data waits though as much is on the way as helps, or as its socket takes. Not where it is the machine that
    /// is too slow for it: other channels make that no faster.
    pub(super) fn is_overfull(&self) -> bool {
        let full = match self.meter.is_fast() {
            Some(fast) => !fast && (self.blocked || self.meter.is_full()),
            None => self.meter.is_full(),
        };
        full && !self.data.is_empty()
    }

    /// Whether it has not answered for longer than is usual.
    pub(super) fn is_suspect(&self) -> bool {
        self.suspect
    }

    /// Whether so much waits for the peer to take it that nothing new should be begun.
    pub(super) fn is_clogged(&self) -> bool {
        self.frames.len() >= MAX_WAITING
    }

    /// The next frame that belongs to no open stream.
    pub(super) fn poll_frame(&mut self, now: Instant) -> Option<Frame> {
        if let Some(token) = self.ping.answer.take() {
            return Some(Frame::Pong { token });
        }
        if std::mem::take(&mut self.ping.due) {
            return Some(Frame::Ping { token: self.meter.mark(now) });
        }
        let frame = self.frames.pop_front()?;
        match &frame {
            Frame::Message(_) => self.messages -= 1,
            Frame::Window { .. } | Frame::Reset { .. } | Frame::OpenOk { .. } => {
                self.remember(frame.clone());
            }
            _ => {}
        }
        Some(frame)
    }

    /// What an ended stream said last has gone out by now, and is kept until a later ping comes back.
    pub(super) fn remember(&mut self, frame: Frame) {
        if self.last_words.len() >= MAX_LAST_WORDS {
            self.last_words.pop_front();
        }
        self.last_words.push_back((self.meter.token(), frame));
    }

    pub(super) fn push_message(&mut self, frame: Frame) -> Result<(), ProtocolError> {
        if self.messages >= MAX_MESSAGES {
            return Err(ProtocolError::TooManyUnreadReplies);
        }
        self.messages += 1;
        self.frames.push_back(frame);
        Ok(())
    }

    /// What another channel has to say again after this one died.
    pub(super) fn into_unconfirmed(self) -> impl Iterator<Item = Frame> {
        self.last_words.into_iter().map(|(_, frame)| frame).chain(self.frames)
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

    /// The round trip, if this answers a ping.
    pub(super) fn on_pong(&mut self, token: u64, now: Instant) -> Option<Duration> {
        let round_trip = self.meter.answered(token, now)?;
        while self.last_words.front().is_some_and(|(before, _)| *before < token) {
            self.last_words.pop_front();
        }
        Some(round_trip)
    }

    /// False if the channel is dead.
    pub(super) fn on_timeout(&mut self, config: &MuxConfig, now: Instant) -> bool {
        let limit = if self.streams > 0 { config.keepalive_timeout } else { config.idle_timeout };
        if now.saturating_duration_since(self.ping.heard) >= limit {
            return false;
        }
        let usual = self.meter.shortest_round_trip().map_or(SUSPECT, |usual| SUSPECT.max(usual * 4));
        self.suspect = self.meter.unanswered_for(now).is_some_and(|time| time >= usual);
        if now >= self.ping.next {
            self.ping.next = now + config.ping_interval;
            // One that has not even gone out is not followed by a second. One that has is: it is a sign of life as
            // well as a question, and its answer may be held up behind the peer's data for longer than the peer waits
            // for such a sign.
            self.ping.due = true;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A peer whose bulk data filled a slow wire held its answer up, got no other ping, and took us for dead.
    #[test]
    fn pings_go_on_while_an_answer_is_held_up() {
        let (config, begin) =
            (MuxConfig { ping_interval: 3 * SECOND, ..MuxConfig::default() }, Instant::now());
        let mut channel = Channel::new(&config, begin);
        let mut sent = Vec::new();
        for second in 0..=30 {
            let now = begin + second * SECOND;
            // Its data comes all the time.
            channel.heard(now);
            assert!(channel.on_timeout(&config, now));
            while let Some(frame) = channel.poll_frame(now) {
                sent.push((second, frame));
            }
        }
        let expected: Vec<_> = (0..=10).map(|n| (n * 3, Frame::Ping { token: u64::from(n) + 1 })).collect();
        assert_eq!(sent, expected);
        assert_eq!(channel.on_pong(4, begin + 31 * SECOND), Some(22 * SECOND));
        assert_eq!(channel.on_pong(3, begin + 31 * SECOND), None, "answered by the one behind it");
        assert_eq!(channel.on_pong(11, begin + 31 * SECOND), Some(SECOND));
    }

    #[test]
    fn pings_do_not_pile_up_where_nothing_goes_out() {
        let (config, begin) = (MuxConfig::default(), Instant::now());
        let mut channel = Channel::new(&config, begin);
        for second in 0..=300 {
            channel.heard(begin + second * SECOND);
            assert!(channel.on_timeout(&config, begin + second * SECOND));
        }
        let mut sent = std::iter::from_fn(|| channel.poll_frame(begin));
        assert_eq!((sent.next(), sent.next()), (Some(Frame::Ping { token: 1 }), None));
    }
}
