//! A recording as a source of the cockpit.

use std::time::{Duration, Instant};

use crate::{
    control::{Capabilities, Command, CommandError},
    recording::{Played, Player},
    telemetry::{Event, LIFECYCLE_TARGET, LogLevel, LogRecord, Notable},
    tui::{CommandId, Playback, PlaybackCommand, PollRequest, Source, SourceState, SourceUpdate},
};

/// How long one poll may read: the cockpit's thread also waits for keys. A longer way is read in several polls, and the
/// screen says so meanwhile.
const READ_TIME: Duration = Duration::from_millis(40);

/// How far forward a seek plays what lies between, in milliseconds; beyond, it begins anew shortly before the time.
const PLAY_THROUGH_MS: u64 = 120_000;

/// The length of a day in milliseconds.
const DAY_MS: u64 = 86_400_000;

/// The lowest and the highest speed that keys set.
const SPEEDS: (f64, f64) = (0.125, 1024.0);

/// A recording that is played. It reads a local file on the thread of the cockpit, for at most [`READ_TIME`] at a time.
#[derive(Debug)]
pub(super) struct ReplaySource {
    /// Reads the recording.
    player: Player,
    /// What stands for the begin of the recording on the monotonic clock, in which the cockpit computes.
    base: Instant,
    /// What the screen shows; its position is that up to which items are delivered.
    playback: Playback,
    /// The fraction of a millisecond by which the position is behind.
    rest_ms: f64,
    /// When the position last advanced.
    advanced_at: Instant,
    /// The playback that was delivered last.
    delivered: Option<Playback>,
}

impl ReplaySource {
    /// Returns a source that plays from the begin on.
    pub(super) fn new(player: Player, speed: f64) -> Self {
        let (begins, ends) = player.recording().range();
        let playback =
            Playback { position: begins, begins, ends, speed, is_paused: false, is_seeking: false };
        let now = Instant::now();
        Self { player, base: now, playback, rest_ms: 0.0, advanced_at: now, delivered: None }
    }

    /// Advances the position by the time that has passed.
    fn advance(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.advanced_at);
        self.advanced_at = now;
        if self.playback.is_paused || self.playback.is_seeking {
            return;
        }
        let ms = passed.as_secs_f64() * 1000.0 * self.playback.speed + self.rest_ms;
        self.rest_ms = ms.fract();
        self.playback.position = self.playback.position.saturating_add(ms as u64).min(self.playback.ends);
    }

    /// Moves to a time, which is first brought into the range of the recording.
    fn seek(&mut self, time: u64) {
        // The first state was recorded shortly after the begin.
        let first = (self.playback.begins + 1000).min(self.playback.ends);
        let time = time.clamp(first, self.playback.ends);
        let played = self.player.position();
        if time < played || time - played > PLAY_THROUGH_MS {
            self.player.seek(time);
        }
        (self.playback.position, self.playback.is_seeking, self.rest_ms) = (time, true, 0.0);
    }

    /// Returns this time of a day on the day of the position, else on the first day that has it.
    fn time_of_day(&self, ms: u64) -> Option<u64> {
        let Playback { position, begins, ends, .. } = self.playback;
        let of_day = |day: u64| day * DAY_MS + ms;
        let is_recorded = |time: &u64| (begins..=ends).contains(time);
        let today = of_day(position / DAY_MS);
        Some(today).filter(is_recorded).or((begins / DAY_MS..=ends / DAY_MS).map(of_day).find(is_recorded))
    }
}

impl Source for ReplaySource {
    /// Returns none: the past cannot be changed.
    fn capabilities(&self) -> Capabilities {
        Capabilities::none()
    }

    fn try_send(&mut self, _: CommandId, _: Command) -> Result<(), CommandError> {
        Err(CommandError::ServerStopped)
    }

    fn play(&mut self, command: PlaybackCommand) -> Result<(), String> {
        self.advance(Instant::now());
        let Playback { position, speed, .. } = self.playback;
        match command {
            PlaybackCommand::TogglePause => self.playback.is_paused = !self.playback.is_paused,
            PlaybackCommand::Step => {
                self.playback.is_paused = true;
                self.seek(position.saturating_add(1000));
            }
            PlaybackCommand::SeekBy(ms) => self.seek(position.saturating_add_signed(ms)),
            PlaybackCommand::SeekTo(time) => self.seek(time),
            PlaybackCommand::SeekToTimeOfDay(ms) => match self.time_of_day(ms) {
                Some(time) => self.seek(time),
                None => return Err("the recording does not contain this time".to_owned()),
            },
            PlaybackCommand::ChangeSpeed(is_faster) => {
                let factor = if is_faster { 2.0 } else { 0.5 };
                self.playback.speed = (speed * factor).clamp(SPEEDS.0, SPEEDS.1);
            }
            PlaybackCommand::SetSpeed(speed) => self.playback.speed = speed,
            PlaybackCommand::Next(kind) => {
                let kinds = kind.map_or(Notable::ALL.to_vec(), |kind| vec![kind]);
                let Some(time) = self.player.recording().next_notable(&kinds, position) else {
                    return Err("no later event of this kind in the recording".to_owned());
                };
                // So that it can be looked at.
                self.playback.is_paused = true;
                self.seek(time);
            }
        }
        Ok(())
    }

    fn poll(&mut self, request: PollRequest<'_>, deliver: &mut dyn FnMut(SourceUpdate<'_>)) {
        let PollRequest::Sample { with_log, .. } = request else { return };
        let now = Instant::now();
        self.advance(now);
        let (base, begins, position) = (self.base, self.playback.begins, self.playback.position);
        let time_of = |at: u64| base + Duration::from_millis(at.saturating_sub(begins));
        let deadline = now + READ_TIME;
        let is_there = self.player.play(position, || Instant::now() < deadline, &mut |at, played| {
            if let Played::Reset = played {
                deliver(SourceUpdate::Reset);
            }
            deliver(SourceUpdate::Time(time_of(at)));
            match played {
                Played::Reset => {}
                Played::Snapshot(snapshot) => deliver(SourceUpdate::Snapshot(snapshot)),
                Played::Missed(missed) if missed.events > 0 => {
                    deliver(SourceUpdate::MissedEvents(missed.events));
                }
                Played::Log(record) if with_log => deliver(SourceUpdate::Log(record)),
                Played::Missed(_) | Played::Log(_) => {}
                Played::Event(event) => {
                    if let Some(record) = log_record(&event).filter(|_| with_log) {
                        deliver(SourceUpdate::Log(record));
                    }
                    deliver(SourceUpdate::Event(event));
                }
            }
        });
        if is_there {
            self.playback.is_seeking = false;
            deliver(SourceUpdate::Time(time_of(position)));
        } else if !self.playback.is_seeking {
            // Faster than it can be read: the speed is that of reading.
            self.playback.position = self.player.position();
        }
        if self.delivered != Some(self.playback) {
            self.delivered = Some(self.playback);
            deliver(SourceUpdate::State(SourceState::Playing(self.playback)));
        }
    }
}

/// Returns the log record of an event, as the server has logged it; `None` if it was logged at the level debug.
/// Recordings do not contain it twice.
fn log_record(event: &Event) -> Option<LogRecord> {
    let level = event.kind.log_level();
    if level == LogLevel::Debug {
        return None;
    }
    Some(LogRecord {
        epoch_ms: event.epoch_ms,
        level,
        target: LIFECYCLE_TARGET.into(),
        text: event.kind.to_string(),
    })
}
