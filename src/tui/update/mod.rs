//! The reducer: takes a message and the model, changes the model, and returns the effects that have to be performed
//! outside. Nothing here reads a clock, a descriptor, a channel, or draws: the time comes with each message.

mod batch;
mod columns;
mod dialog;
mod dispatch;
mod events;
mod help;
mod limits;
mod mouse;
mod navigation;
mod prompt;
mod proxies;
mod selection;
mod shutdown;
mod streams;

use std::time::Instant;

use super::{
    format,
    intent::{DialogIntent, Intent},
    model::{Model, NoticeLevel, Overlay},
    msg::{Effect, Msg},
    terminal::{Key, KeyCode},
};
use crate::telemetry::Snapshot;

/// Applies a message that arrived at `now` to the model, and returns the effects that the runtime has to perform.
pub(crate) fn update(model: &mut Model, msg: Msg, now: Instant) -> Vec<Effect> {
    // Time never runs backwards, even where messages carry older times.
    model.live.now = model.live.now.max(now);
    match msg {
        Msg::Key(key) => {
            if let Some(intent) = intent_of_key(model, key) {
                return dispatch::perform(model, intent);
            }
        }
        Msg::Mouse(event) => {
            if let Some(intent) = mouse::intent_of(model, event) {
                return dispatch::perform(model, intent);
            }
        }
        Msg::Interrupted => return shutdown::interrupt(model),
        Msg::Resized(size) => {
            model.size = size;
            if !model.layout().has_table {
                // An overlay that cannot be drawn must not take keys.
                model.overlay = None;
            }
            model.refresh_rows();
            return vec![Effect::Repaint];
        }
        Msg::Event(event) => {
            events::apply(model, &event.kind);
            model.journal.push(&event);
        }
        Msg::Missed(count) => {
            model.server_status.missed_events += count;
            let events = format::counted(count, "lifecycle event");
            model.notify(
                NoticeLevel::Warning,
                format!("{events} missed; the next snapshot contains their effects"),
            );
        }
        Msg::Replied(id, reply) => return batch::handle_reply(model, id, reply),
        Msg::FileWritten(Ok(path)) => model.notify(NoticeLevel::Success, format!("written to {path}")),
        Msg::FileWritten(Err(error)) => model.notify(NoticeLevel::Warning, error),
        Msg::NoShell => model.notify(NoticeLevel::Info, "cannot suspend: no shell with job control"),
    }
    Vec::new()
}

/// Applies a snapshot of the server that was taken at `now`: updates all rows, removes an expired notice, and returns
/// the effects that send queued commands. Not a message of [`update`], because a snapshot is large and its
/// allocations are reused.
pub(crate) fn sample(model: &mut Model, snapshot: &Snapshot, now: Instant) -> Vec<Effect> {
    model.live.now = model.live.now.max(now);
    let now = model.live.now;
    model.server_status.has_sample = true;
    model.live.sample(snapshot);
    if let Some(detail) = &mut model.detail_screen.open
        && let Some(row) = model.live.streams.get(detail.row)
    {
        let number = model.live.streams.snapshot_number(detail.row);
        let selected = snapshot.selected.iter().find(|stream| Some(stream.number) == number);
        detail.record(row, selected.map(|stream| &stream.details), now);
    }
    model.refresh_rows();
    model.expire_notice();
    if let Some(text) = model.pending_commands.overdue(now) {
        model.notify(NoticeLevel::Warning, text);
    }
    batch::send_queued(model)
}

/// Returns the intent of a key in the present context: that of its binding, else the insertion of its character into
/// the open prompt or the number of the open dialog. `None` for a key without meaning here.
fn intent_of_key(model: &Model, key: Key) -> Option<Intent> {
    if let Some(Overlay::Dialog(dialog)) = &model.overlay
        && dialog.required_number().is_some()
    {
        match key.code {
            KeyCode::Char(digit @ '0'..='9') => return Some(Intent::Dialog(DialogIntent::TypeDigit(digit))),
            KeyCode::Backspace => return Some(Intent::Dialog(DialogIntent::DeleteDigit)),
            _ => {}
        }
    }
    let bound = model.keymap.intent(model.context(), key).cloned();
    bound.or_else(|| match model.overlay {
        Some(Overlay::Prompt(_)) => prompt::intent_of_char(key),
        _ => None,
    })
}
