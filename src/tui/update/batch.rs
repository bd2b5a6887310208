//! Sends commands to the server, one or many that belong together, and handles the replies.

use std::time::Instant;

use crate::{
    control::{Command, CommandError, CommandReply},
    tui::{
        command_id::CommandId,
        format,
        model::{AnsweredRow, Model, NoticeLevel, RowId, Steered, StreamAttributes, StreamRow},
        msg::Effect,
    },
};

/// Sends the command that `command` makes of each open stream, as one batch. `command` also changes the row ahead of
/// the server's reply, so that the next key starts from the new state; samples overwrite it once the server has
/// executed or refused the command. `verb` is the past participle for the notice; `unchanged` is what the notice says
/// where no stream needs a command.
pub(super) fn send_for_each(
    model: &mut Model,
    rows: &[RowId],
    verb: &'static str,
    unchanged: &str,
    mut command: impl FnMut(&mut StreamAttributes) -> Option<Command>,
) -> Vec<Effect> {
    if refuses_more(model, rows.len()) {
        return Vec::new();
    }
    let streams = &mut model.live.streams;
    let mut keys = Vec::new();
    let mut commands = Vec::new();
    for id in rows {
        if let Some(row) = streams.get_mut(*id).filter(|row| row.is_live()) {
            keys.push(row.key);
            commands.extend(command(row).map(|command| (row.key, *id, command)));
        }
    }
    let Some((first, ..)) = commands.first() else {
        match keys.as_slice() {
            [] => {}
            [key] => model.notify(NoticeLevel::Info, format!("{key} {unchanged}")),
            _ => model.notify(NoticeLevel::Info, format!("every selected stream {unchanged}")),
        }
        return Vec::new();
    };
    let batch = model.pending_commands.begin_batch(first.to_string(), verb);
    let now = model.now;
    for (_, row, command) in commands {
        push_ahead(model, batch, command, row, now);
    }
    send_queued(model)
}

/// Queues a command whose effect the row shows already, and keeps that until the server has it.
fn push_ahead(model: &mut Model, batch: u64, command: Command, id: RowId, now: Instant) {
    let command = model.pending_commands.push(batch, command, Some(id), now);
    if let Some(row) = model.live.streams.get_mut(id) {
        row.steered = Some(Steered::by(command, now));
    }
}

/// Sends one command. `name` is what the notice calls its object, `verb` the past participle of what is done to it.
pub(super) fn send_one(model: &mut Model, name: String, verb: &'static str, command: Command) -> Vec<Effect> {
    if refuses_more(model, 1) {
        return Vec::new();
    }
    let batch = model.pending_commands.begin_batch(name, verb);
    model.pending_commands.push(batch, command, None, model.now);
    send_queued(model)
}

/// Sends several commands about one object, whose results are reported together. `row` shows their effect ahead of the
/// replies.
pub(super) fn send_several(
    model: &mut Model,
    name: String,
    verb: &'static str,
    commands: Vec<Command>,
    row: Option<RowId>,
) -> Vec<Effect> {
    if refuses_more(model, commands.len()) {
        return Vec::new();
    }
    let batch = model.pending_commands.begin_batch_about_one(name, verb);
    let now = model.now;
    for command in commands {
        match row {
            Some(row) => push_ahead(model, batch, command, row, now),
            None => _ = model.pending_commands.push(batch, command, None, now),
        }
    }
    send_queued(model)
}

/// Returns whether `more` commands must not be queued because earlier ones are still unsent; tells the operator in a
/// notice if so.
pub(super) fn refuses_more(model: &mut Model, more: usize) -> bool {
    let backlog = model.pending_commands.backlog_against(more);
    if let Some(unsent) = backlog {
        let commands = format::counted(unsent as u64, "command");
        model.notify(NoticeLevel::Warning, format!("command not sent: {commands} before it still queued"));
    }
    backlog.is_some()
}

/// Takes unsent commands from the queue and returns the effects that send them, until the largest number of commands
/// awaits replies. A command for a stream that has ended meanwhile fails here instead.
pub(super) fn send_queued(model: &mut Model) -> Vec<Effect> {
    let mut effects = Vec::new();
    while let Some((id, command, row)) = model.pending_commands.next_to_send(model.now) {
        let is_live = row.map(|row| model.live.streams.get(row).is_some_and(StreamRow::is_live));
        if is_live == Some(false) {
            // The stream ended before its command was sent; its key may belong to another stream by now.
            record_reply(model, id, Err(CommandError::NotFound));
        } else {
            effects.push(Effect::SendCommand(id, command));
        }
    }
    effects
}

/// Handles the server's reply to a command, and returns the effects that send the next ones. A command that did not
/// fit into the server's command queue is put back into the unsent ones.
pub(super) fn handle_reply(model: &mut Model, id: CommandId, reply: CommandReply) -> Vec<Effect> {
    if reply == Err(CommandError::QueueFull) {
        // The next sample sends it: at once it would fail again and again.
        model.pending_commands.requeue(id);
        return Vec::new();
    }
    record_reply(model, id, reply);
    send_queued(model)
}

/// Records the server's reply to a command, and what its row shows of it: after a failure, what the server has. After
/// the last reply of its batch, shows the result of the batch in a notice.
fn record_reply(model: &mut Model, id: CommandId, reply: CommandReply) {
    let is_executed = reply.is_ok();
    let reply = reply.map(|executed| executed.affected_streams).map_err(|error| error.to_string());
    let (answered, outcome) = model.pending_commands.replied(id, reply);
    if let Some(AnsweredRow { row, is_kill }) = answered
        && let Some(row) = model.live.streams.get_mut(row)
    {
        row.kill_pending &= is_executed || !is_kill;
        row.steered = row.steered.and_then(|steered| steered.replied(id, is_executed, model.now));
    }
    if let Some(outcome) = outcome {
        let level = if outcome.is_success { NoticeLevel::Success } else { NoticeLevel::Warning };
        model.notify(level, format::truncate(&outcome.text, 200));
    }
}
