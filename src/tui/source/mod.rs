//! Where the cockpit's data comes from and where its commands go.
//!
//! The runtime knows only the [`Source`] trait. [`InProcessSource`] reads the server in the same process; another
//! process or a recording can be a source too, because everything that passes the trait is plain data. A source must
//! never block the thread of the cockpit, which also waits for keys.

use std::{fmt, sync::Arc, time::Instant};

use tokio::sync::{broadcast, oneshot};

use super::command_id::CommandId;
use crate::{
    control::{Capabilities, Command, CommandError, CommandReply, CommandSender},
    telemetry::{Event, LogRecord, LogRing, Notable, Sampler, Snapshot, Telemetry},
};

#[cfg(test)]
mod tests;

/// What the runtime asks a source for.
#[derive(Debug, Clone, Copy)]
pub enum PollRequest<'a> {
    /// Replies to commands that were sent before.
    Replies,
    /// Lifecycle events, log records if wanted, and then one snapshot; in a replay all snapshots of the time that has
    /// passed, with the other items in the order of time. An attached cockpit gets none if none has arrived.
    Sample {
        /// Whether log records are delivered; otherwise the source keeps them for a later poll, up to its bound.
        with_log: bool,
        /// The serial numbers of the streams whose details the snapshot must contain.
        selected: &'a [u64],
        /// The serial numbers of the streams on the screen: their counters must be as new as the snapshot, those of
        /// others may be older.
        visible: &'a [u64],
    },
}

/// One item that a source delivers.
#[derive(Debug)]
pub enum SourceUpdate<'a> {
    /// A lifecycle event.
    Event(Event),
    /// The source discarded this many lifecycle events, because they came faster than they were polled. The snapshot
    /// that follows contains their effects.
    MissedEvents(u64),
    /// A log record.
    Log(LogRecord),
    /// The state of the server now.
    Snapshot(&'a Snapshot),
    /// The reply to the command that was sent with this id.
    Reply(CommandId, CommandReply),
    /// What follows is about another server, or another time: nothing that was known applies any more.
    Reset,
    /// The time of what follows, in a replay, whose time is not that of the clock.
    Time(Instant),
    /// Which commands the server executes has changed.
    Capabilities(Capabilities),
    /// Where the data comes from has changed.
    State(SourceState),
}

/// The condition of a source.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum SourceState {
    /// The data is that of a server now.
    #[default]
    Live,
    /// The connection to the server is lost, for this reason, and the source tries to establish it again. What is shown
    /// is old.
    Reconnecting(String),
    /// The data is that of a recording.
    Playing(Playback),
}

/// What of a recording is shown. Times are milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Playback {
    /// The time that is shown.
    pub position: u64,
    /// When the recording begins.
    pub begins: u64,
    /// When it ends.
    pub ends: u64,
    /// How many seconds of the recording pass in one.
    pub speed: f64,
    /// Whether it is paused.
    pub is_paused: bool,
    /// Whether the source still reads what lies before the position.
    pub is_seeking: bool,
}

/// What can be done to a recording.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum PlaybackCommand {
    /// Pauses, or continues.
    TogglePause,
    /// Pauses, and goes on by a second: the states of the server are recorded once a second.
    Step,
    /// Goes on, or back, by this many milliseconds.
    SeekBy(i64),
    /// Goes to this time, in milliseconds since the Unix epoch.
    SeekTo(u64),
    /// Goes to this time of a day, in milliseconds since midnight (UTC): on the day of the position, if the recording
    /// has it.
    SeekToTimeOfDay(u64),
    /// Plays twice as fast (`true`), or half as fast.
    ChangeSpeed(bool),
    /// Plays this many times as fast as it was recorded.
    SetSpeed(f64),
    /// Goes to the next event of this kind, or of any kind that is notable.
    Next(Option<Notable>),
}

/// A server that the cockpit shows and controls.
pub trait Source: fmt::Debug + Send {
    /// Returns which commands the server executes. The cockpit offers no keys or names for others.
    fn capabilities(&self) -> Capabilities;

    /// Queues a command without blocking. Its reply is delivered with the same `id` by a later [`poll`](Self::poll).
    ///
    /// # Errors
    /// Why the command was not queued: [`CommandError::QueueFull`], after which the caller may try again, or
    /// [`CommandError::ServerStopped`].
    fn try_send(&mut self, id: CommandId, command: Command) -> Result<(), CommandError>;

    /// Controls the playing of a recording. Other sources ignore it.
    ///
    /// # Errors
    /// Why it has no effect, for the operator.
    fn play(&mut self, command: PlaybackCommand) -> Result<(), String> {
        _ = command;
        Ok(())
    }

    /// Passes everything of the requested kind that is available now to `deliver`, without blocking. An event may
    /// follow a snapshot that contains its effect already: one that is emitted during the poll is delivered by the
    /// next one.
    fn poll(&mut self, request: PollRequest<'_>, deliver: &mut dyn FnMut(SourceUpdate<'_>));
}

/// The server in this process.
#[derive(Debug)]
pub struct InProcessSource {
    /// The counters and lists of the server, of which snapshots are taken.
    telemetry: Arc<Telemetry>,
    /// The lifecycle events of the server since this source was created. Bounded: the oldest are dropped, and their
    /// number is delivered.
    events: broadcast::Receiver<Event>,
    /// Takes snapshots of the telemetry, and reuses their allocations.
    sampler: Sampler,
    /// The newest log records of this process.
    log: LogRing,
    /// The queue of commands to the server.
    control: CommandSender,
    /// Commands that were queued and not yet answered, each with the channel on which its reply arrives.
    awaited_replies: Vec<(CommandId, oneshot::Receiver<CommandReply>)>,
}

impl InProcessSource {
    /// Returns a source that reads `telemetry` and `log` and queues commands on `control`. Events count from now on.
    pub fn new(telemetry: Arc<Telemetry>, control: CommandSender, log: LogRing) -> Self {
        let events = telemetry.subscribe();
        Self { telemetry, events, sampler: Sampler::default(), log, control, awaited_replies: Vec::new() }
    }

    /// Passes all pending lifecycle events to `deliver`, and the number of those that were dropped.
    fn deliver_events(&mut self, deliver: &mut dyn FnMut(SourceUpdate<'_>)) {
        loop {
            match self.events.try_recv() {
                Ok(event) => deliver(SourceUpdate::Event(event)),
                Err(broadcast::error::TryRecvError::Lagged(missed)) => {
                    deliver(SourceUpdate::MissedEvents(missed));
                }
                Err(_) => return,
            }
        }
    }

    /// Passes the replies that have arrived to `deliver`. A command whose server ended without a reply is answered
    /// with [`CommandError::ServerStopped`].
    fn deliver_replies(&mut self, deliver: &mut dyn FnMut(SourceUpdate<'_>)) {
        self.awaited_replies.retain_mut(|(id, receiver)| {
            let reply = match receiver.try_recv() {
                Ok(reply) => reply,
                Err(oneshot::error::TryRecvError::Empty) => return true,
                Err(oneshot::error::TryRecvError::Closed) => Err(CommandError::ServerStopped),
            };
            deliver(SourceUpdate::Reply(*id, reply));
            false
        });
    }
}

impl Source for InProcessSource {
    /// Returns the commands that the server of this process executes.
    fn capabilities(&self) -> Capabilities {
        self.control.capabilities()
    }

    /// Puts the command into the server's queue, and remembers the channel of its reply.
    fn try_send(&mut self, id: CommandId, command: Command) -> Result<(), CommandError> {
        let receiver = self.control.try_send(command)?;
        self.awaited_replies.push((id, receiver));
        Ok(())
    }

    /// Delivers replies; or events, log records if wanted, and then a new snapshot.
    fn poll(&mut self, request: PollRequest<'_>, deliver: &mut dyn FnMut(SourceUpdate<'_>)) {
        match request {
            PollRequest::Replies => self.deliver_replies(deliver),
            PollRequest::Sample { with_log, selected, .. } => {
                self.deliver_events(deliver);
                if with_log {
                    self.log.drain().into_iter().for_each(|record| deliver(SourceUpdate::Log(record)));
                }
                deliver(SourceUpdate::Snapshot(self.sampler.sample(&self.telemetry, selected)));
            }
        }
    }
}
