//! Commands that wait to be sent to the server, or for its reply. Commands that belong together form a batch: the
//! operator is told the result of the batch, once the last reply has arrived.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::stream_row::RowId;
use crate::{control::Command, tui::CommandId};

/// The time after which a command without a reply is reported to the operator.
const REPLY_OVERDUE: Duration = Duration::from_secs(5);

/// How many commands may wait for replies at once. Fewer than the command queue of the server holds (64), so that one
/// batch does not fill it for other senders.
const MAX_AWAITING_REPLY: usize = 48;
/// How many batches may be pending while commands are still unsent. Only batches of one command are queued behind
/// others.
const MAX_QUEUED_BATCHES: usize = 64;

/// A command that is queued for the server, or sent and not yet answered.
#[derive(Debug, Clone)]
struct PendingCommand {
    /// The number by which the reply of the server names this command.
    id: CommandId,
    /// The number of the [`CommandBatch`] to which the command belongs.
    batch: u64,
    /// The row that shows the effect of the command ahead of the reply; `None` if none does.
    row: Option<RowId>,
    /// When the command was sent; while it is queued, when it was queued.
    since: Instant,
    /// The command for the server.
    command: Command,
    /// Whether the operator has been told that the reply is overdue.
    overdue_reported: bool,
}

/// The commands that one action of the operator caused. Their results are reported together.
#[derive(Debug, Clone)]
struct CommandBatch {
    /// The number of the batch, unique while the cockpit runs.
    id: u64,
    /// The object of the action as notices call it: a stream key, a user, a proxy.
    name: String,
    /// The past participle of what the action does: `killed`.
    verb: &'static str,
    /// Whether all commands of the batch are about the object `name`, else about a stream each.
    has_one_object: bool,
    /// The number of commands in the batch.
    total: usize,
    /// The number of commands of the batch that have no reply yet.
    outstanding: usize,
    /// The number of commands of the batch that the server executed.
    executed: usize,
    /// The number of streams that the executed commands affected, as the server counted.
    affected_streams: usize,
    /// Why the last failed command of the batch failed; `None` if none has failed.
    error: Option<String>,
}

/// A row that has shown the effect of a command ahead of the reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AnsweredRow {
    /// The row.
    pub(crate) row: RowId,
    /// Whether the command was to kill the stream.
    pub(crate) is_kill: bool,
}

/// The result of a batch of commands after its last reply, for a notice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BatchOutcome {
    /// Whether no command of the batch failed.
    pub(crate) is_success: bool,
    /// The notice for the operator: what was done to how many streams, or why it failed.
    pub(crate) text: String,
}

/// All commands that are queued for the server or await its reply, and the batches to which they belong.
#[derive(Debug, Clone, Default)]
pub(crate) struct PendingCommands {
    /// Commands that have not been sent to the server yet, in the order in which they were given.
    unsent: VecDeque<PendingCommand>,
    /// Commands that were sent to the server and have no reply yet, in no particular order.
    awaiting_reply: Vec<PendingCommand>,
    /// Batches with at least one command that has no reply yet.
    batches: Vec<CommandBatch>,
    /// The id of the newest command; 0 before the first.
    last_id: u64,
    /// The id of the newest command batch; 0 before the first.
    last_batch: u64,
}

impl PendingCommands {
    /// Begins a batch and returns its number. `name` is what notices call its object, `verb` the past participle of
    /// what is done to it.
    pub(crate) fn begin_batch(&mut self, name: String, verb: &'static str) -> u64 {
        self.last_batch += 1;
        self.batches.push(CommandBatch {
            id: self.last_batch,
            name,
            verb,
            has_one_object: false,
            total: 0,
            outstanding: 0,
            executed: 0,
            affected_streams: 0,
            error: None,
        });
        self.last_batch
    }

    /// Begins a batch of several commands about one object, and returns its number.
    pub(crate) fn begin_batch_about_one(&mut self, name: String, verb: &'static str) -> u64 {
        let id = self.begin_batch(name, verb);
        self.batches.iter_mut().filter(|batch| batch.id == id).for_each(|batch| batch.has_one_object = true);
        id
    }

    /// Returns the number of unsent commands if a new batch of `more` commands must be refused because of them, else
    /// `None`. While any command is unsent, a batch of several commands is refused, and a single command if
    /// [`MAX_QUEUED_BATCHES`] batches are pending.
    pub(crate) fn backlog_against(&self, more: usize) -> Option<usize> {
        let unsent = self.unsent.len();
        (unsent > 0 && (more > 1 || self.batches.len() >= MAX_QUEUED_BATCHES)).then_some(unsent)
    }

    /// Queues a command of the batch with this number, and returns its own. `row` shows its effect ahead of the reply.
    pub(crate) fn push(
        &mut self,
        batch: u64,
        command: Command,
        row: Option<RowId>,
        now: Instant,
    ) -> CommandId {
        self.last_id += 1;
        if let Some(batch) = self.batches.iter_mut().find(|known| known.id == batch) {
            (batch.total, batch.outstanding) = (batch.total + 1, batch.outstanding + 1);
        }
        let id = CommandId(self.last_id);
        self.unsent.push_back(PendingCommand {
            id,
            batch,
            row,
            since: now,
            command,
            overdue_reported: false,
        });
        id
    }

    /// Removes the next unsent command, records that it awaits its reply since `now`, and returns it with the row
    /// that shows it. Returns `None` while [`MAX_AWAITING_REPLY`] commands await replies.
    pub(crate) fn next_to_send(&mut self, now: Instant) -> Option<(CommandId, Command, Option<RowId>)> {
        if self.awaiting_reply.len() >= MAX_AWAITING_REPLY {
            return None;
        }
        let mut pending = self.unsent.pop_front()?;
        pending.since = now;
        let next = (pending.id, pending.command.clone(), pending.row);
        self.awaiting_reply.push(pending);
        Some(next)
    }

    /// Puts a command back into the unsent ones because the server's command queue was full. Unsent commands stay in
    /// the order of their ids.
    pub(crate) fn requeue(&mut self, id: CommandId) {
        if let Some(at) = self.awaiting_reply.iter().position(|pending| pending.id == id) {
            let pending = self.awaiting_reply.swap_remove(at);
            let at = self.unsent.partition_point(|unsent| unsent.id < id);
            self.unsent.insert(at, pending);
        }
    }

    /// Records a reply: how many streams were affected, or why the command failed. Returns the row that has shown the
    /// effect of the command ahead of the reply, and the outcome of the batch after its last reply.
    pub(crate) fn replied(
        &mut self,
        id: CommandId,
        reply: Result<usize, String>,
    ) -> (Option<AnsweredRow>, Option<BatchOutcome>) {
        let Some(at) = self.awaiting_reply.iter().position(|pending| pending.id == id) else {
            return (None, None);
        };
        let pending = self.awaiting_reply.swap_remove(at);
        let is_kill = matches!(pending.command, Command::KillStream(_));
        let answered = pending.row.map(|row| AnsweredRow { row, is_kill });
        let Some(at) = self.batches.iter().position(|batch| batch.id == pending.batch) else {
            return (answered, None);
        };
        let batch = &mut self.batches[at];
        batch.outstanding -= 1;
        match reply {
            Ok(streams) => {
                batch.executed += 1;
                batch.affected_streams += streams;
            }
            Err(error) => batch.error = Some(error),
        }
        let is_last = batch.outstanding == 0;
        let outcome = is_last.then(|| self.batches.swap_remove(at).into_outcome(&pending.command));
        (answered, outcome)
    }

    /// Finds a sent command without a reply for [`REPLY_OVERDUE`], records that it was reported, and returns the
    /// notice for the operator. Each command is reported once.
    pub(crate) fn overdue(&mut self, now: Instant) -> Option<String> {
        let is_overdue =
            |pending: &&mut PendingCommand| !pending.overdue_reported && now - pending.since >= REPLY_OVERDUE;
        let pending = self.awaiting_reply.iter_mut().find(is_overdue)?;
        pending.overdue_reported = true;
        Some(format!("no reply from the server after {} s: {}", REPLY_OVERDUE.as_secs(), pending.command))
    }
}

impl CommandBatch {
    /// Returns the result of the batch for the operator; `command` is the one that was answered last.
    fn into_outcome(self, command: &Command) -> BatchOutcome {
        let Self { name, verb, total, executed, .. } = &self;
        let has_many = *total > 1 && !self.has_one_object;
        let text = match &self.error {
            Some(error) if has_many => {
                format!("{verb} {executed} of {total} streams; others failed: {error}")
            }
            Some(error) => format!("{name} was not {verb}: {error}"),
            None if has_many => format!("{verb} {executed} streams"),
            None if *total > 1 => match command {
                Command::SetLimit(_, _, Some(rate)) => {
                    format!("{name} limited to {rate}B/s in each direction")
                }
                _ => format!("limits of {name} removed"),
            },
            None => self.success_text(command),
        };
        BatchOutcome { is_success: self.error.is_none(), text }
    }

    /// Returns the notice about the only command of a batch, after the server executed it.
    fn success_text(&self, command: &Command) -> String {
        let Self { name, verb, affected_streams, .. } = self;
        match command {
            Command::KillStream(_) | Command::PauseStream(_) | Command::ResumeStream(_) => {
                format!("{verb} {name}")
            }
            Command::SetPriority(_, priority) => format!("priority of {name} set to {priority}"),
            Command::SetLimit(_, direction, Some(rate)) => {
                format!("{name} limited to {rate}B/s {direction}")
            }
            Command::SetLimit(_, direction, None) => format!("{direction} limit of {name} removed"),
            Command::DrainProxy(_) => format!("{name} is draining: no new streams"),
            Command::UndrainProxy(_) => format!("{name} receives new streams again"),
            Command::SetWeight(_, weight) => format!("weight of {name} set to {weight}"),
            Command::SetPolicy(_, policy) => format!("policy of {name} set to {policy}"),
            Command::Unblock(_) => format!("{name} may connect again"),
            Command::Unban(_) => format!("users of {name} are admitted again"),
            Command::KillUser(_) | Command::KickProxy(_) | Command::Ban(_) => {
                let plural = if *affected_streams == 1 { "" } else { "s" };
                format!("{verb} {name}, {affected_streams} stream{plural}")
            }
        }
    }
}
