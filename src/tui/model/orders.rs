use std::time::{Duration, Instant};

use super::row::RowId;
use crate::{control::Command, tui::msg::OrderId};

/// When an answer is late enough to say so.
const LATE: Duration = Duration::from_secs(5);

/// An order whose answer is still to come.
#[derive(Debug, Clone)]
struct Order {
    id: OrderId,
    batch: u64,
    /// The row that shows that its stream is about to end.
    row: Option<RowId>,
    since: Instant,
    command: Command,
    /// The operator was told that it takes long.
    late: bool,
}

/// What was ordered with one answer to one question.
#[derive(Debug, Clone)]
struct Batch {
    id: u64,
    name: String,
    /// What was done when it is done: `killed`.
    verb: &'static str,
    total: usize,
    done: usize,
    streams: usize,
    refused: Option<String>,
}

/// What became of a batch, once it is all answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) good: bool,
    pub(crate) text: String,
}

/// Orders that wait for their answers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Orders {
    waiting: Vec<Order>,
    batches: Vec<Batch>,
    last: u64,
    last_batch: u64,
}

impl Orders {
    /// Begins a batch; `name` is what the operator calls it: a key, a user, a proxy; `verb` is what
    /// will have been done to it.
    pub(crate) fn begin(&mut self, name: String, verb: &'static str) -> u64 {
        self.last_batch += 1;
        let batch = Batch { id: self.last_batch, name, verb, total: 0, done: 0, streams: 0, refused: None };
        self.batches.push(batch);
        self.last_batch
    }

    /// Notes an order of the batch, and names it.
    pub(crate) fn add(&mut self, batch: u64, command: Command, row: Option<RowId>, now: Instant) -> OrderId {
        self.last += 1;
        let id = OrderId(self.last);
        if let Some(batch) = self.batches.iter_mut().find(|known| known.id == batch) {
            batch.total += 1;
        }
        self.waiting.push(Order { id, batch, row, since: now, command, late: false });
        id
    }

    /// An answer came; the row to set free if it was a refusal, and the outcome if it was the last of its batch.
    pub(crate) fn answered(
        &mut self,
        id: OrderId,
        reply: Result<usize, String>,
    ) -> (Option<RowId>, Option<Outcome>) {
        let Some(at) = self.waiting.iter().position(|order| order.id == id) else { return (None, None) };
        let order = self.waiting.swap_remove(at);
        let Some(at) = self.batches.iter().position(|batch| batch.id == order.batch) else {
            return (None, None);
        };
        let batch = &mut self.batches[at];
        let free = if reply.is_err() { order.row } else { None };
        match reply {
            Ok(streams) => (batch.done, batch.streams) = (batch.done + 1, batch.streams + streams),
            Err(why) => batch.refused = Some(why),
        }
        if self.waiting.iter().any(|waiting| waiting.batch == order.batch) {
            return (free, None);
        }
        let batch = self.batches.swap_remove(at);
        (free, Some(batch.outcome(&order.command)))
    }

    /// Orders whose answer is late, each told once.
    pub(crate) fn late(&mut self, now: Instant) -> Option<String> {
        let order = self.waiting.iter_mut().find(|order| !order.late && now - order.since >= LATE)?;
        order.late = true;
        Some(format!("no answer yet: {}", order.command))
    }
}

impl Batch {
    fn outcome(self, command: &Command) -> Outcome {
        let Self { name, verb, total, done, streams, refused, .. } = self;
        match refused {
            None if total > 1 => Outcome { good: true, text: format!("{verb} {done} streams") },
            None => match command {
                Command::KillStream(_) | Command::PauseStream(_) | Command::ResumeStream(_) => {
                    Outcome { good: true, text: format!("{verb} {name}") }
                }
                Command::SetPriority(_, priority) => {
                    Outcome { good: true, text: format!("{name} has priority {priority}") }
                }
                Command::SetLimit(_, direction, Some(rate)) => {
                    Outcome { good: true, text: format!("{name} is limited to {rate} bytes/s {direction}") }
                }
                Command::SetLimit(_, direction, None) => {
                    Outcome { good: true, text: format!("{name} has no {direction} limit any more") }
                }
                Command::DrainProxy(_) => {
                    Outcome { good: true, text: format!("{name} drains: it gets no new streams") }
                }
                Command::UndrainProxy(_) => {
                    Outcome { good: true, text: format!("{name} gets new streams again") }
                }
                Command::SetWeight(_, weight) => {
                    Outcome { good: true, text: format!("{name} has weight {weight}") }
                }
                Command::SetPolicy(_, policy) => {
                    Outcome { good: true, text: format!("{name} goes by {policy}") }
                }
                Command::KillUser(_) | Command::KickProxy(_) => {
                    let plural = if streams == 1 { "" } else { "s" };
                    Outcome { good: true, text: format!("{verb} {name}, {streams} stream{plural}") }
                }
            },
            Some(why) if total > 1 => Outcome {
                good: false,
                text: format!("{verb} {done} of {total} streams; of the others: {why}"),
            },
            Some(why) => Outcome { good: false, text: format!("{name} was not {verb}: {why}") },
        }
    }
}
