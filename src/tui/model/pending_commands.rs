use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::stream_row::RowId;
use crate::{control::Command, tui::msg::CommandId};

/// When an answer is late enough to say so.
const LATE: Duration = Duration::from_secs(5);

/// So many orders are on their way at most: fewer than the queue of the control room holds, so that one mass act leaves
/// room for whoever else gives orders.
const ON_THE_WAY: usize = 48;
/// So many single orders may wait behind a mass act that is still being sent; another mass act may not.
const BEHIND: usize = 64;

/// An order whose answer is still to come.
#[derive(Debug, Clone)]
struct PendingCommand {
    id: CommandId,
    batch: u64,
    /// The row that shows that its stream is about to end.
    row: Option<RowId>,
    /// When it was sent; until then, when it was given.
    since: Instant,
    command: Command,
    /// The operator was told that it takes long.
    late: bool,
}

/// What was ordered with one answer to one question.
#[derive(Debug, Clone)]
struct CommandBatch {
    id: u64,
    name: String,
    /// What was done when it is done: `killed`.
    verb: &'static str,
    total: usize,
    /// How many answers are still to come.
    left: usize,
    done: usize,
    streams: usize,
    refused: Option<String>,
}

/// What became of a batch, once it is all answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BatchOutcome {
    pub(crate) good: bool,
    pub(crate) text: String,
}

/// Orders that wait to be sent, and those that wait for their answers.
#[derive(Debug, Clone, Default)]
pub(crate) struct PendingCommands {
    /// In the order in which they were given.
    unsent: VecDeque<PendingCommand>,
    waiting: Vec<PendingCommand>,
    batches: Vec<CommandBatch>,
    last: u64,
    last_batch: u64,
}

impl PendingCommands {
    /// Begins a batch; `name` is what the operator calls it: a key, a user, a proxy; `verb` is what
    /// will have been done to it.
    pub(crate) fn begin(&mut self, name: String, verb: &'static str) -> u64 {
        self.last_batch += 1;
        let (id, streams) = (self.last_batch, 0);
        self.batches.push(CommandBatch {
            id,
            name,
            verb,
            total: 0,
            left: 0,
            done: 0,
            streams,
            refused: None,
        });
        id
    }

    /// How many orders are still to be sent, where `more` must not join them: there has to be a bound.
    pub(crate) fn crowd(&self, more: usize) -> Option<usize> {
        let unsent = self.unsent.len();
        (unsent > 0 && (more > 1 || self.batches.len() >= BEHIND)).then_some(unsent)
    }

    /// Notes an order of the batch. It is sent when its turn comes.
    pub(crate) fn add(&mut self, batch: u64, command: Command, row: Option<RowId>, now: Instant) {
        self.last += 1;
        if let Some(batch) = self.batches.iter_mut().find(|known| known.id == batch) {
            (batch.total, batch.left) = (batch.total + 1, batch.left + 1);
        }
        self.unsent.push_back(PendingCommand {
            id: CommandId(self.last),
            batch,
            row,
            since: now,
            command,
            late: false,
        });
    }

    /// The next order to send, if one may be: from now on it waits for its answer.
    pub(crate) fn send(&mut self, now: Instant) -> Option<(CommandId, Command, Option<RowId>)> {
        if self.waiting.len() >= ON_THE_WAY {
            return None;
        }
        let mut order = self.unsent.pop_front()?;
        order.since = now;
        let sent = (order.id, order.command.clone(), order.row);
        self.waiting.push(order);
        Some(sent)
    }

    /// There was no room for it: it is sent again, in its turn.
    pub(crate) fn put_back(&mut self, id: CommandId) {
        if let Some(at) = self.waiting.iter().position(|order| order.id == id) {
            let order = self.waiting.swap_remove(at);
            let at = self.unsent.partition_point(|unsent| unsent.id < id);
            self.unsent.insert(at, order);
        }
    }

    /// An answer came; the row to set free if it was a refusal, and the outcome if it was the last of its batch.
    pub(crate) fn answered(
        &mut self,
        id: CommandId,
        reply: Result<usize, String>,
    ) -> (Option<RowId>, Option<BatchOutcome>) {
        let Some(at) = self.waiting.iter().position(|order| order.id == id) else { return (None, None) };
        let order = self.waiting.swap_remove(at);
        let free = if reply.is_err() { order.row } else { None };
        let Some(at) = self.batches.iter().position(|batch| batch.id == order.batch) else {
            return (free, None);
        };
        let batch = &mut self.batches[at];
        batch.left -= 1;
        match reply {
            Ok(streams) => (batch.done, batch.streams) = (batch.done + 1, batch.streams + streams),
            Err(why) => batch.refused = Some(why),
        }
        let outcome = (batch.left == 0).then(|| self.batches.swap_remove(at).outcome(&order.command));
        (free, outcome)
    }

    /// Orders whose answer is late, each told once.
    pub(crate) fn late(&mut self, now: Instant) -> Option<String> {
        let order = self.waiting.iter_mut().find(|order| !order.late && now - order.since >= LATE)?;
        order.late = true;
        Some(format!("no answer yet: {}", order.command))
    }
}

impl CommandBatch {
    fn outcome(self, command: &Command) -> BatchOutcome {
        let Self { name, verb, total, done, streams, refused, .. } = self;
        match refused {
            None if total > 1 => BatchOutcome { good: true, text: format!("{verb} {done} streams") },
            None => match command {
                Command::KillStream(_) | Command::PauseStream(_) | Command::ResumeStream(_) => {
                    BatchOutcome { good: true, text: format!("{verb} {name}") }
                }
                Command::SetPriority(_, priority) => {
                    BatchOutcome { good: true, text: format!("{name} has priority {priority}") }
                }
                Command::SetLimit(_, direction, Some(rate)) => BatchOutcome {
                    good: true,
                    text: format!("{name} is limited to {rate} bytes/s {direction}"),
                },
                Command::SetLimit(_, direction, None) => {
                    BatchOutcome { good: true, text: format!("{name} has no {direction} limit any more") }
                }
                Command::DrainProxy(_) => {
                    BatchOutcome { good: true, text: format!("{name} drains: it gets no new streams") }
                }
                Command::UndrainProxy(_) => {
                    BatchOutcome { good: true, text: format!("{name} gets new streams again") }
                }
                Command::SetWeight(_, weight) => {
                    BatchOutcome { good: true, text: format!("{name} has weight {weight}") }
                }
                Command::SetPolicy(_, policy) => {
                    BatchOutcome { good: true, text: format!("{name} goes by {policy}") }
                }
                Command::KillUser(_) | Command::KickProxy(_) => {
                    let plural = if streams == 1 { "" } else { "s" };
                    BatchOutcome { good: true, text: format!("{verb} {name}, {streams} stream{plural}") }
                }
            },
            Some(why) if total > 1 => BatchOutcome {
                good: false,
                text: format!("{verb} {done} of {total} streams; of the others: {why}"),
            },
            Some(why) => BatchOutcome { good: false, text: format!("{name} was not {verb}: {why}") },
        }
    }
}
