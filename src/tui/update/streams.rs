//! Acts on streams and their users: kill, pause, priority, marks.

use super::{batch, dialog, navigation, selection};
use crate::{
    control::Command,
    ids::UserChannelId,
    tui::{
        intent::{KillScope, PauseChange, PriorityChange},
        model::{Confirmation, CursorStep, KillTarget, Model, NoticeLevel},
        msg::Effect,
    },
};

/// Opens the dialog that confirms a kill. The streams are fixed now: one that opens later is not killed.
pub(super) fn ask_to_kill(model: &mut Model, scope: KillScope) {
    match scope {
        KillScope::Selection => ask_to_kill_selection(model),
        KillScope::Listed => {
            let targets = selection::kill_targets(model, model.rows());
            if targets.is_empty() {
                return model.notify(NoticeLevel::Info, "no open stream is listed");
            }
            dialog::open(model, Confirmation::Kill(targets));
        }
        KillScope::User => ask_to_kill_user(model),
    }
}

/// Opens the dialog that confirms killing the marked streams, or else the selected stream. Notifies the operator if
/// the selected stream has ended or is being killed already.
fn ask_to_kill_selection(model: &mut Model) {
    model.streams_screen.cursor.choose();
    if selection::uses_marks(model) {
        let targets = selection::kill_targets(model, &model.streams_screen.marks);
        return dialog::open(model, Confirmation::Kill(targets));
    }
    let Some((id, row)) = model.selected() else {
        return model.notify(NoticeLevel::Info, "no stream selected");
    };
    let key = row.key;
    // A frozen display may show a stream that has ended since.
    let now = model.live.streams.get(id);
    let (live, kill_pending) = now.map_or((false, false), |row| (row.is_live(), row.kill_pending));
    if !live {
        selection::say_ended(model, key);
    } else if kill_pending {
        model.notify(NoticeLevel::Info, format!("{key} is already being killed"));
    } else {
        dialog::open(model, Confirmation::Kill(vec![KillTarget { row: id, key }]));
    }
}

/// Opens the dialog that confirms killing all streams of the selected user. If a single stream of an unfolded user is
/// selected, the dialog is about that stream.
fn ask_to_kill_user(model: &mut Model) {
    model.streams_screen.cursor.choose();
    if selection::is_stream_of_user(model) {
        return ask_to_kill_selection(model);
    }
    let Some(user) = selection::user(model) else {
        return model.notify(NoticeLevel::Info, "no user selected");
    };
    let streams = model.live.streams_of(user);
    if streams == 0 {
        return model.notify(NoticeLevel::Info, format!("user {user} has no open stream"));
    }
    dialog::open(model, Confirmation::KillUser { user, streams });
}

/// Kills the streams that the dialog named, except those that ended while it was open: their keys may belong to other
/// streams by now.
pub(super) fn kill(model: &mut Model, targets: &[KillTarget]) -> Vec<Effect> {
    if batch::refuses_more(model, targets.len()) {
        return Vec::new();
    }
    let mut remaining = Vec::new();
    for target in targets {
        match model.live.streams.get_mut(target.row) {
            Some(row) if row.is_live() && row.key == target.key => {
                row.kill_pending = true;
                remaining.push(*target);
            }
            _ => {}
        }
    }
    let Some(first) = remaining.first() else {
        let name = match targets {
            [only] => format!("{} has already ended", only.key),
            _ => "all selected streams have already ended".to_owned(),
        };
        model.notify(NoticeLevel::Info, format!("{name}; nothing was killed"));
        return Vec::new();
    };
    let batch = model.pending_commands.begin_batch(first.key.to_string(), "killed");
    let streams = &model.live.streams;
    model.streams_screen.marks.retain(|mark| streams.get(*mark).is_some_and(|row| !row.kill_pending));
    for target in remaining {
        let command = Command::KillStream(target.key);
        model.pending_commands.push(batch, command, Some(target.row), model.now);
    }
    batch::send_queued(model)
}

/// Returns the effects that kill all streams of the user.
pub(super) fn kill_user(model: &mut Model, user: UserChannelId) -> Vec<Effect> {
    batch::send_one(model, format!("user {user}"), "killed", Command::KillUser(user))
}

/// Pauses or resumes the marked streams, or the selected one, without confirmation: no data is lost by it.
pub(super) fn pause(model: &mut Model, change: PauseChange) -> Vec<Effect> {
    let rows = selection::streams(model);
    let pause = match change {
        PauseChange::Pause => true,
        PauseChange::Resume => false,
        PauseChange::Toggle => {
            !rows.iter().all(|id| model.live.streams.get(*id).is_some_and(|row| row.paused))
        }
    };
    let (verb, unchanged) =
        if pause { ("paused", "is already paused") } else { ("resumed", "is not paused") };
    batch::send_for_each(model, &rows, verb, unchanged, |row| {
        let changed = row.paused != pause;
        row.paused = pause;
        let command = if pause { Command::PauseStream(row.key) } else { Command::ResumeStream(row.key) };
        changed.then_some(command)
    })
}

/// Changes the priority of the marked streams, or of the selected one, each starting from its own.
pub(super) fn set_priority(model: &mut Model, change: PriorityChange) -> Vec<Effect> {
    let rows = selection::streams(model);
    let verb = match change {
        PriorityChange::Raise => "raised",
        PriorityChange::Lower => "lowered",
        PriorityChange::Set(_) => "changed",
    };
    batch::send_for_each(model, &rows, verb, "already has this priority", |row| {
        let before = row.priority;
        row.priority = change.apply(before);
        (row.priority != before).then_some(Command::SetPriority(row.key, row.priority))
    })
}

/// Marks the selected stream if it is open, or unmarks it, and selects the next row.
pub(super) fn toggle_mark(model: &mut Model) {
    if let Some((id, row)) = model.selected() {
        let is_live = row.is_live();
        let marks = &mut model.streams_screen.marks;
        if let Some(at) = marks.iter().position(|mark| *mark == id) {
            marks.remove(at);
        } else if is_live {
            marks.push(id);
        }
    }
    navigation::move_in_streams(model, CursorStep::By(1));
}

/// Marks every open stream that the table lists, and unmarks all others.
pub(super) fn mark_listed(model: &mut Model) {
    let streams = &model.live.streams;
    let is_open = |id: &_| streams.get(*id).is_some_and(|row| row.is_live());
    model.streams_screen.marks = model.rows().iter().copied().filter(is_open).collect();
}
