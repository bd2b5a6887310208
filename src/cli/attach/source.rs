//! A server in another process as a source of the cockpit.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::{earlier::Earlier, outgoing::Outgoing};
use crate::{
    control::{Capabilities, Command, CommandError, CommandReply},
    feed::{DecodeError, Decoded, Decoder, Interest, Line},
    telemetry::{Event, LogLevel, LogRecord, epoch_ms},
    tui::{CommandId, PollRequest, Source, SourceState, SourceUpdate},
};

/// The largest number of items that wait for the cockpit. It is more than the credit, so that the queue fills only with
/// log records that a frozen display does not take.
const MAX_QUEUED: usize = 8192;

/// What the connection has received and the cockpit has not taken.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    /// The state of the server.
    decoder: Decoder,
    /// Whether the state has changed since the cockpit took it.
    has_new_state: bool,
    /// Everything else, in the order of arrival.
    queue: VecDeque<Incoming>,
    /// What the log has got of the time before.
    earlier: Earlier,
    /// Replies to commands.
    replies: Vec<(CommandId, CommandReply)>,
    /// Which commands the server executes for this operator.
    capabilities: Option<Capabilities>,
    /// How many lines have been received for which no credit was granted again.
    uncredited_lines: u64,
    /// Whether the operator was told that rows are left out.
    has_said_unknown: bool,
}

/// An item other than a state.
#[derive(Debug)]
enum Incoming {
    /// A lifecycle event.
    Event(Event),
    /// A log record.
    Log(LogRecord),
    /// Events were dropped.
    Missed(u64),
    /// Another server process.
    Reset,
    /// The connection was lost, or is reestablished.
    State(SourceState),
}

impl Inbox {
    /// Takes a line of the server.
    ///
    /// # Errors
    /// It does not continue what came before.
    pub(super) fn take_line(&mut self, mut line: Line) -> Result<(), DecodeError> {
        self.uncredited_lines += 1;
        if let Some(recent) = line.recent.take() {
            let records = self.earlier.take(*recent, epoch_ms());
            records.into_iter().for_each(|record| self.push(Incoming::Log(record)));
        }
        let unknown_before = self.decoder.unknown_rows();
        let decoded = self.decoder.apply(line)?;
        let unknown = self.decoder.unknown_rows();
        if unknown > unknown_before && !std::mem::replace(&mut self.has_said_unknown, true) {
            self.push(Incoming::Log(LogRecord {
                epoch_ms: epoch_ms(),
                level: LogLevel::Warn,
                target: "underpass::attach".into(),
                text: "the other process is of a newer version: some of its rows have values that this one does not know, and are \
                       left out; update underpass here"
                    .to_owned(),
            }));
        }
        match decoded {
            Decoded::Snapshot => self.has_new_state = true,
            Decoded::Event(event) => self.push(Incoming::Event(event)),
            Decoded::Log(record) if self.earlier.has(&record) => {}
            Decoded::Log(record) => self.push(Incoming::Log(record)),
            Decoded::Missed(missed) if missed.events > 0 => self.push(Incoming::Missed(missed.events)),
            // The log screen does not say what it lacks, as on the server itself.
            Decoded::Missed(_) | Decoded::Unknown => {}
        }
        Ok(())
    }

    /// Begins a connection: to another process of the server if `is_other`.
    pub(super) fn begin(&mut self, is_other: bool, capabilities: Capabilities) {
        self.decoder = Decoder::default();
        self.has_new_state = false;
        self.uncredited_lines = 0;
        if is_other {
            self.queue.clear();
            self.earlier.reset();
            self.push(Incoming::Reset);
        }
        self.capabilities = Some(capabilities);
        self.push(Incoming::State(SourceState::Live));
    }

    /// Records that the connection is lost, for this reason.
    pub(super) fn lose(&mut self, why: String) {
        self.push(Incoming::State(SourceState::Reconnecting(why)));
    }

    /// Records the reply to a command.
    pub(super) fn reply(&mut self, id: CommandId, reply: CommandReply) {
        self.replies.push((id, reply));
    }

    /// Appends an item. A full queue drops its oldest one: a log record, which stays there while the display is frozen.
    fn push(&mut self, item: Incoming) {
        if self.queue.len() >= MAX_QUEUED {
            self.queue.pop_front();
        }
        self.queue.push_back(item);
    }
}

/// The cockpit's end of a connection to a server. All I/O is done by a thread of its own.
#[derive(Debug)]
pub(super) struct AttachedSource {
    /// What has been received.
    inbox: Arc<Mutex<Inbox>>,
    /// Requests to the server. Bounded: it may take none for a while.
    requests: mpsc::Sender<Outgoing>,
    /// What the server was told that the screen shows.
    interest: Interest,
    /// The commands that the server executes, as of the first connection.
    capabilities: Capabilities,
}

impl AttachedSource {
    /// Creates the source of a connection that has been established.
    pub(super) fn new(
        inbox: Arc<Mutex<Inbox>>,
        requests: mpsc::Sender<Outgoing>,
        capabilities: Capabilities,
    ) -> Self {
        Self { inbox, requests, interest: Interest::default(), capabilities }
    }

    /// Tells the server what the screen shows, if that has changed.
    fn tell_interest(&mut self, selected: &[u64], visible: &[u64]) {
        let interest =
            Interest { selected: selected.to_vec(), streams: visible.to_vec(), users: Vec::new() }.bounded();
        if interest != self.interest && self.requests.try_send(Outgoing::Interest(interest.clone())).is_ok() {
            self.interest = interest;
        }
    }
}

impl Source for AttachedSource {
    /// Returns the commands that the server executes for this operator.
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn try_send(&mut self, id: CommandId, command: Command) -> Result<(), CommandError> {
        self.requests.try_send(Outgoing::Command(id, command)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => CommandError::QueueFull,
            mpsc::error::TrySendError::Closed(_) => CommandError::ServerStopped,
        })
    }

    fn poll(&mut self, request: PollRequest<'_>, deliver: &mut dyn FnMut(SourceUpdate<'_>)) {
        if let PollRequest::Sample { selected, visible, .. } = request {
            self.tell_interest(selected, visible);
        }
        let mut inbox = self.inbox.lock();
        let inbox = &mut *inbox;
        for (id, reply) in inbox.replies.drain(..) {
            deliver(SourceUpdate::Reply(id, reply));
        }
        let PollRequest::Sample { with_log, .. } = request else { return };
        if let Some(capabilities) = inbox.capabilities.take() {
            deliver(SourceUpdate::Capabilities(capabilities));
        }
        let mut kept = VecDeque::new();
        for item in inbox.queue.drain(..) {
            match item {
                Incoming::Event(event) => deliver(SourceUpdate::Event(event)),
                Incoming::Missed(missed) => deliver(SourceUpdate::MissedEvents(missed)),
                Incoming::Reset => deliver(SourceUpdate::Reset),
                Incoming::State(state) => deliver(SourceUpdate::State(state)),
                Incoming::Log(record) if with_log => deliver(SourceUpdate::Log(record)),
                // For a later poll.
                Incoming::Log(_) => kept.push_back(item),
            }
        }
        inbox.queue = kept;
        if std::mem::take(&mut inbox.has_new_state) {
            deliver(SourceUpdate::Snapshot(inbox.decoder.snapshot()));
        }
        let add = inbox.uncredited_lines;
        if add > 0 && self.requests.try_send(Outgoing::Credit(add)).is_ok() {
            inbox.uncredited_lines = 0;
        }
    }
}

#[cfg(test)]
mod tests;
