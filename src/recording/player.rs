//! Plays a recording: from any time on, in the order of time.

use super::{
    Recording,
    reader::{SegmentReader, time_of},
};
use crate::{
    feed::{Decoded, Decoder, Line, Missed},
    telemetry::{Event, LogRecord, Snapshot},
};

/// How much earlier than the time that was asked for playing begins, in milliseconds: charts and the streams that ended
/// shortly before are then there.
const LEAD_MS: u64 = 35_000;

/// What happened in the recording.
#[derive(Debug)]
pub enum Played<'a> {
    /// What follows has nothing to do with what came before: another time, or the server was restarted.
    Reset,
    /// A state of the server.
    Snapshot(&'a Snapshot),
    /// An event.
    Event(Event),
    /// A log record.
    Log(LogRecord),
    /// Items that the recorder had to drop.
    Missed(Missed),
}

/// Plays a recording. Memory is bounded by one line and one state of the server.
#[derive(Debug)]
pub struct Player {
    /// What is played.
    recording: Recording,
    /// The index of the segment that is read.
    segment: usize,
    /// Its lines; `None` before the first one is read.
    lines: Option<SegmentReader>,
    /// A line that was read and lies in the future.
    ahead: Option<(u64, Line)>,
    /// Rebuilds the states.
    decoder: Decoder,
    /// The random number of the server whose state was played last.
    boot: String,
    /// From when on items are delivered. What lies before, from the begin of the segment, is only decoded.
    deliver_from: u64,
    /// Whether a [`Played::Reset`] is due.
    is_reset_due: bool,
    /// The time of the line that was played last.
    position: u64,
}

impl Player {
    /// Returns a player at the begin of the recording.
    pub fn new(recording: Recording) -> Self {
        let position = recording.range().0;
        Self {
            recording,
            segment: 0,
            lines: None,
            ahead: None,
            decoder: Decoder::default(),
            boot: String::new(),
            deliver_from: 0,
            is_reset_due: true,
            position,
        }
    }

    /// Returns the recording.
    pub fn recording(&self) -> &Recording {
        &self.recording
    }

    /// Returns the address of the tunnel port of the server whose state is played.
    pub fn listen(&self) -> &str {
        self.recording.header(self.segment).map_or("", |header| &header.listen)
    }

    /// Returns the time of the line that was played last, in milliseconds since the Unix epoch.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Moves to half a minute before `time`. What follows until then has to be played.
    pub fn seek(&mut self, time: u64) {
        let from = time.saturating_sub(LEAD_MS);
        self.segment = self.recording.segment_at(from);
        self.deliver_from = from;
        (self.lines, self.ahead) = (None, None);
        self.decoder = Decoder::default();
        self.is_reset_due = true;
        self.position = self.recording.segments.get(self.segment).map_or(0, |segment| segment.begins);
    }

    /// Plays what lies between the position and `until`, as long as `may_continue`. Each item comes with its time.
    /// Returns whether all of it was played.
    pub fn play(
        &mut self,
        until: u64,
        mut may_continue: impl FnMut() -> bool,
        deliver: &mut dyn FnMut(u64, Played<'_>),
    ) -> bool {
        while self.peek().is_some_and(|(at, _)| at <= until) {
            if !may_continue() {
                return false;
            }
            let Some((at, line)) = self.ahead.take() else { break };
            self.position = at;
            if at < self.deliver_from {
                _ = self.decoder.apply(line);
                continue;
            }
            if std::mem::take(&mut self.is_reset_due) {
                deliver(at, Played::Reset);
                if let Some(snapshot) = self.decoder.known_snapshot() {
                    deliver(at, Played::Snapshot(snapshot));
                }
            }
            // After a line that does not fit, states are played again from the next segment on.
            match self.decoder.apply(line) {
                Ok(Decoded::Snapshot) => deliver(at, Played::Snapshot(self.decoder.snapshot())),
                Ok(Decoded::Event(event)) => deliver(at, Played::Event(event)),
                Ok(Decoded::Log(record)) => deliver(at, Played::Log(record)),
                Ok(Decoded::Missed(missed)) => deliver(at, Played::Missed(missed)),
                Ok(Decoded::Unknown) | Err(_) => {}
            }
        }
        true
    }

    /// Reads the next line, of the next segment where this one is over. Returns it with its time; `None` at the end of
    /// the recording.
    fn peek(&mut self) -> Option<(u64, &Line)> {
        while self.ahead.is_none() {
            if self.lines.is_none() {
                let boot = &self.recording.header(self.segment)?.boot;
                if *boot != self.boot {
                    self.boot.clone_from(boot);
                    self.decoder = Decoder::default();
                    self.is_reset_due = true;
                }
                // A file that has been deleted meanwhile is passed over.
                self.lines = self.recording.lines(self.segment).ok();
            }
            match self.lines.as_mut().and_then(Iterator::next) {
                Some(line) => {
                    // The wall clock may have been set back, and damaged data can have any time.
                    let latest = self.recording.segments.get(self.segment).map_or(0, |segment| segment.ends);
                    let at = time_of(&line).unwrap_or_default().min(latest).max(self.position);
                    self.ahead = Some((at, line));
                }
                None => {
                    self.lines = None;
                    self.segment += 1;
                }
            }
        }
        self.ahead.as_ref().map(|(at, line)| (*at, line))
    }
}
